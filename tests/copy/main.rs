//! Copies of a job's checkpoints from one store to another, by the library.

mod content;
mod cut_store;
mod damage;
mod interrupted;
mod numbers;
mod pair;
mod savepoints;
#[path = "../coordinator/support.rs"]
mod support;
