//! icecore takes **incremental snapshots of keyed state** and restores any of them, verified.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

#[cfg(feature = "cli")]
pub mod cli;
pub mod coordinator;
pub mod env;
mod error;
pub mod gc;
pub mod keygroup;
pub mod layout;
pub mod metadata;
pub mod ownership;
pub mod registry;
pub mod restore;
pub mod rocksfolder;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod task;
pub mod transfer;

pub use error::{Error, ErrorKind, Result};
