//! What the HDFS store does beyond the contract, against real clusters: what is left behind and who removes it, error
//! kinds, and every fault that a NameNode, its DataNodes and the connections to them can have.

#[path = "../services/mod.rs"]
mod services;
mod support;

mod datanodes;
mod durability;
mod errors;
mod leftovers;
mod lost_answers;
mod name_node;
mod settings;
