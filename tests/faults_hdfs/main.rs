//! Whole checkpoints on a real HDFS whose DataNodes die, whose NameNode restarts, that is full, and that lies behind a
//! network that fails.

#[path = "../fault_scenarios/mod.rs"]
mod fault_scenarios;
#[path = "../services/mod.rs"]
mod services;
#[path = "../state_model/mod.rs"]
mod state_model;
#[path = "../task_support/mod.rs"]
mod task_support;

mod datanodes;
mod name_node;
mod network;
mod refused;
mod support;
