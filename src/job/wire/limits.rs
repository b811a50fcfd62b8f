//! Every bound on what a manager and a worker believe of each other.

use crate::metadata::limits::MAX_MAX_PARALLELISM;

pub use crate::coordinator::MAX_DISTRUST_RECORDS as MAX_DISTRUSTED;
pub use crate::metadata::limits::{MAX_FILES, MAX_OPERATORS};

/// The workers of one job, and so the addresses in one deployment.
pub const MAX_PEERS: usize = MAX_MAX_PARALLELISM as usize;
/// A reason or a name, in bytes.
pub const MAX_TEXT_BYTES: usize = 4_096;
/// The address at which a worker's peers reach it, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 256;
/// More fields than a message without lists has, later versions included.
pub const MAX_SMALL_FIELDS: usize = 64;
/// The longest message on a worker's stream to its manager, and the longest small call or answer, in bytes.
pub const MAX_SMALL_BYTES: usize = 64 << 10;
/// The longest message on the stream to a worker, in bytes: a deployment with all peers and all operators.
pub const MAX_TELL_BYTES: usize = 16 << 20;
/// The longest acknowledgement, in bytes: about 380,000 files that are new since the base.
pub const MAX_ACKNOWLEDGEMENT_BYTES: usize = 64 << 20;
