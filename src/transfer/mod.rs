//! Moves bytes between local files and the store, hashing every one of them on the way.
//!
//! What this module assumes: a source file does not change while it is read (an SST is immutable; a
//! log is read up to a fixed length). It does not trust that: an upload hashes what it sends and
//! fails if that is not what was announced, so a wrong hash can never be committed (I1). A download
//! hashes what it receives before anyone may use it (I8).
//!
//! **A shared object's name holds its hash, so the hash comes first.** There are three ways, and in each
//! the recorded hash is that of exactly the bytes that were sent:
//! - up to [`READ_ONCE_BYTES`]: read into memory once, hashed and sent from there;
//! - larger, and the store can name an object last ([`crate::store::Store::create_unnamed`], as a folder
//!   can): read once, hashed on the way ([`stage_file`]);
//! - otherwise: hashed, then read again to be sent, and hashed again on the way ([`hash_file`], [`upload_file`]).
//!   The second hash is not saved: a cheaper checksum would only make a wrong record improbable.
//!
//! Memory per running upload is at most twice [`CHUNK_BYTES`] times [`CHUNKS_IN_FLIGHT`] (some are written while
//! the next are read) and what the store's writer gathers, or one small file. Memory per running download is what
//! the store's [`crate::store::ReadAhead`] says, within [`MAX_READ_BYTES`] and [`MAX_READS_AHEAD`], and as many chunks
//! between the two ends (at least one piece). Callers bound how many run at once ([`TransferLimits`]).
//!
//! Threads that may block are borrowed for one piece of work and never held while something else has to
//! go on first, so any number of transfers gets along with any number of threads.

mod copy;
mod direct;
mod download;
mod hash;
mod progress;
mod schedule;
mod upload;

pub use copy::{CopyEnd, FailedCopy, copy_object};
pub use download::{MAX_READ_BYTES, MAX_READS_AHEAD, download, download_to_memory, verify_object};
pub(crate) use download::{Unsynced, download_unsynced, is_unreadable};
pub use hash::{hash_file, read_hashed};
pub use progress::{NoProgress, Progress};
pub use schedule::{SMALL_FILE_BYTES, TransferLimits};
pub use upload::{StagedUpload, stage_file, upload_bytes, upload_file};

/// How much is read, hashed and written at a time.
pub const CHUNK_BYTES: usize = 1 << 20;
/// How many chunks of a file are read at a time, while as many are written.
pub const CHUNKS_IN_FLIGHT: usize = 4;
/// Files up to this size are read into memory once, hashed there and sent from there.
pub const READ_ONCE_BYTES: u64 = 8 << 20;
/// Objects up to this size may be held in memory whole.
pub const MAX_IN_MEMORY_BYTES: u64 = 64 << 20;

/// A stored object, or a part of one, and what its plain bytes must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
