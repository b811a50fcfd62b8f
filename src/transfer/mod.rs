//! Moves bytes between local files and the store, hashing every one of them on the way.
//!
//! What this module assumes: a source file does not change while it is read (an SST is immutable; a
//! log is read up to a fixed length). It does not trust that: an upload hashes what it sends and
//! fails if that is not what was announced, so a wrong hash can never be committed (I1). A download
//! hashes what it receives before anyone may use it (I8).
//!
//! Memory per running transfer is at most [`CHUNK_BYTES`] times [`CHUNKS_IN_FLIGHT`] and one chunk at
//! either end; callers bound how many run at once ([`TransferLimits::parallelism`]).

mod buffers;
mod download;
mod hash;
mod progress;
mod schedule;
mod upload;

pub use download::{download, download_to_memory, verify_object};
pub use hash::{hash_file, read_hashed};
pub use progress::{NoProgress, Progress};
pub use schedule::{SMALL_FILE_BYTES, TransferLimits};
pub use upload::{upload_bytes, upload_file};

/// How much is read, hashed and written at a time.
pub const CHUNK_BYTES: usize = 1 << 20;
/// How many chunks wait between the two ends of one transfer.
pub const CHUNKS_IN_FLIGHT: usize = 4;
/// Files up to this size are read into memory once, hashed there and sent from there.
pub const READ_ONCE_BYTES: u64 = 8 << 20;
/// Objects up to this size may be held in memory whole.
pub const MAX_IN_MEMORY_BYTES: u64 = 64 << 20;

/// A stored object, or a part of one, and what its plain bytes must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFile {
    /// The object, relative to the store's root.
    pub object: crate::store::StorePath,
    /// Where in it the bytes begin.
    pub offset_bytes: u64,
    /// How many there are.
    pub size_bytes: u64,
    /// Their SHA-256.
    pub sha256: crate::layout::ContentHash,
}

#[cfg(test)]
mod tests;
