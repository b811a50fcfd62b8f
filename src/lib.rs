//! icecore takes **incremental snapshots of keyed state** and restores any of them, verified.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod env;
mod error;
pub mod gc;
pub mod keygroup;
pub mod layout;
pub mod metadata;
pub mod ownership;
pub mod registry;
pub mod store;

pub use error::{Error, ErrorKind, Result};
