//! Dataflows that read from a real Kafka and write to it exactly once, whatever crashes.

#[path = "../support/gate.rs"]
mod gate;
#[path = "../services/mod.rs"]
mod services;

mod broker;
mod committer;
mod crashes;
mod job;
mod kafka;
mod logging;
mod source;
