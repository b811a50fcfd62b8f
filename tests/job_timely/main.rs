//! Dataflows of the crate timely with checkpoints, really run: several workers in this process, a store in a folder,
//! crashes at any point.

#[path = "../support/gate.rs"]
mod gate;

mod commits;
mod crashes;
mod cut;
mod failures;
mod meddling;
mod outside;
mod sinks;
mod support;
mod throttle;
