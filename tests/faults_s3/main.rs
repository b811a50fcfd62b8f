//! Whole checkpoints on a real S3 server that dies, fills up, refuses, and lies behind a network that fails.

#[path = "../fault_scenarios/mod.rs"]
mod fault_scenarios;
#[path = "../s3_support/mod.rs"]
mod s3_support;
#[path = "../services/mod.rs"]
mod services;
#[path = "../state_model/mod.rs"]
mod state_model;
#[path = "../task_support/mod.rs"]
mod task_support;

mod credentials;
mod full;
mod killed;
mod network;
mod support;
