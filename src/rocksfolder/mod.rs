//! placeholder
mod coding;
pub mod edit;
pub mod log;
