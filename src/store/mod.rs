//! The one door to storage.
//!
//! [`Store`] is what icecore needs of a place that keeps objects, and no more. The protocol
//! (`docs/protocol.md`) assumes exactly this of every implementation:
//!
//! - **Whole.** An object appears at its name at once and complete, or not at all. A reader never
//!   sees a part of one. (Object stores do this; file systems need temp file, sync, rename, folder
//!   sync.)
//! - **Durable.** When `put` or `finish` returns `Ok`, the object survives what the store promises
//!   to survive.
//! - **Read-after-write, list-after-write.** After that `Ok`, every `stat`, `read` and `list` that
//!   starts later, from anywhere, sees the object; after a delete's `Ok`, none does.
//! - **Folders** are not things of their own: one is there exactly as long as an object lies below it.
//! - **Ambiguity.** After an error or a dropped future the object may be there, may not, or may
//!   appear later. Nobody concludes anything from an absence then (design 4.7).
//!
//! icecore never writes a name twice, so nothing here says what overwriting does.
//! The conformance suite (feature `test-support`) checks an implementation against this contract.

mod address;
mod backoff;
#[cfg(feature = "hdfs")]
pub mod hdfs;
mod limit;
pub mod local;
mod open;
#[cfg(any(feature = "memory", feature = "s3"))]
pub mod opendal;
mod options;
mod path;
#[cfg(any(feature = "hdfs", feature = "s3"))]
mod probe;
mod retry;
mod size;
mod temporary;
#[cfg(feature = "test-support")]
pub mod testing;

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::Result;

pub use address::{MAX_PREFIX_BYTES, StoreAddress};
pub use backoff::RetryPolicy;
pub(crate) use backoff::{Backoff, Retries};
#[cfg(feature = "hdfs")]
pub use hdfs::HdfsStore;
pub use limit::{RateLimitedStore, RateLimiter, RateLimits};
pub use local::LocalStore;
pub use open::{REMOTE_OPTIONS, open, open_limited};
#[cfg(any(feature = "memory", feature = "s3"))]
pub use opendal::OpendalStore;
#[cfg(feature = "s3")]
pub use opendal::s3::S3Store;
pub use options::{OptionSpec, StoreOptions, parse_duration};
pub use path::{MAX_COMPONENT_BYTES, MAX_PATH_BYTES, StorePath};
pub use retry::{PROBE_PATIENCE, RetryingStore};
pub use size::parse_size;

/// A shared handle to a store.
pub type StoreRef = Arc<dyn Store>;

/// What a store knows of one object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Where it lies, relative to the store's root.
    pub path: StorePath,
    /// Its length in bytes.
    pub size_bytes: u64,
}

/// How an object is best read that is larger than one request: what a request asks for, and how many requests for
/// one object are under way at once.
///
/// A reader holds about `request_bytes` times `requests` of an object in memory, and bounds both itself
/// ([`crate::transfer::MAX_READ_BYTES`], [`crate::transfer::MAX_READS_AHEAD`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadAhead {
    /// What one request asks for, in bytes.
    pub request_bytes: u64,
    /// How many requests for one object are under way at once.
    pub requests: usize,
}

impl ReadAhead {
    /// Answers come at once, as from a local disk: little enough to be hashed and written while it is still in a
    /// processor's cache.
    pub const NEAR: Self = Self { request_bytes: 1 << 20, requests: 2 };
    /// An answer begins after 30 to 100 ms, as from an object store: enough under way that one object comes at
    /// more than 100 MB/s all the same, in requests large enough to cost little each.
    pub const FAR: Self = Self { request_bytes: 4 << 20, requests: 4 };
}

/// What somebody means to do with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// List and read.
    Read,
    /// Write and delete, too.
    Change,
}

/// A place that keeps objects under paths. See the module's text for the contract.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// A URL-like name for messages, such as `file:///var/checkpoints`. Contains no secrets.
    fn describe(&self) -> String;

    /// Makes sure that the store is there and lets us in, before anyone takes a missing answer for emptiness: with
    /// a wrong key or name, some services answer as an empty store would. Called once where a job is claimed or
    /// opened. `Ok`, the default, says that a missing answer is proof enough; a store that wraps another hands the
    /// call on.
    ///
    /// With [`Access::Read`] nothing is written, so that read-only credentials suffice. With [`Access::Change`] an
    /// object of a fresh name is written, read, listed and deleted, outside of any job's folder.
    ///
    /// # Errors
    /// What is wrong, with what to do about it: [`crate::ErrorKind::PermissionDenied`] for credentials,
    /// [`crate::ErrorKind::InvalidInput`] for a wrong name or option, [`crate::ErrorKind::Unreachable`].
    async fn probe(&self, access: Access) -> Result<()> {
        let _ = access;
        Ok(())
    }

    /// Writes a small object in one step.
    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()>;

    /// Begins a large object. It appears when [`ObjectWriter::finish`] succeeds.
    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>>;

    /// Begins a large object in the folder `folder` whose name is said last, as a content hash is known
    /// only when all bytes have been read. `None`, the default: the store needs the name first. The caller then
    /// reads twice: it loses time and nothing else, so a store that wraps another may leave this out.
    ///
    /// Whoever holds such a writer may wait for another writer's object, so its places, if they are
    /// limited, are counted apart from those of [`Self::create`].
    async fn create_unnamed(&self, folder: &StorePath) -> Result<Option<Box<dyn UnnamedWriter>>> {
        let _ = folder;
        Ok(None)
    }

    /// Reads bytes `range` of an object. Returns exactly `range.end - range.start` bytes, or an
    /// error ([`crate::ErrorKind::Corrupt`] if the object is shorter). Callers bound the range.
    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes>;

    /// The object as a file of this machine, open for reading, if that is what it is. `None`, the default: [`Self::read`]
    /// is the way to it. Whoever reads the file checks length and hash all the same; it saves a copy of every
    /// byte between threads, and nothing else, so a store that wraps another may leave this out.
    async fn open_file(&self, path: &StorePath) -> Result<Option<File>> {
        let _ = path;
        Ok(None)
    }

    /// How large objects are best read. A store that wraps another hands the question on.
    fn read_ahead(&self) -> ReadAhead {
        ReadAhead::NEAR
    }

    /// Length of an object, or [`crate::ErrorKind::NotFound`].
    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta>;

    /// Every object whose path starts with the folder `prefix` (all of them with `None`), in
    /// order of their paths, folders themselves not included. A missing folder is empty.
    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>>;

    /// The names directly below the folder `prefix`: sub-folders and objects, each once, sorted.
    /// A missing folder is empty.
    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>>;

    /// Deletes objects. One result each, in order; deleting what is not there is `Ok`.
    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>>;

    /// Frees what writers that crashed left below the folder `prefix` (everywhere with `None`):
    /// temporary files, open multipart uploads. Answers how many it removed. Never an object.
    ///
    /// An implementation must leave alone what it knows to be in use, and a writer whose unfinished
    /// object is removed all the same must fail to finish it: `older_than` is politeness, and no
    /// safety rests on it. A store that leaves nothing behind has nothing to do here.
    async fn remove_unfinished(&self, prefix: Option<&StorePath>, older_than: Duration) -> Result<u64> {
        let _ = (prefix, older_than);
        Ok(0)
    }
}

/// One name directly below a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Child {
    /// The last component of the path.
    pub name: String,
    /// `Some` for an object: its length in bytes. `None` for a folder.
    pub size_bytes: Option<u64>,
}

/// Writes one object piece by piece. Dropping it without `finish` leaves no object.
#[async_trait]
pub trait ObjectWriter: Send {
    /// Appends `bytes`. After an error the writer is of no more use.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the object durable and lets it appear.
    async fn finish(self: Box<Self>) -> Result<()>;

    /// Gives the object up and frees what the store holds for it.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// Writes an object that has no name yet. [`ObjectWriter::finish`] is an error on it.
#[async_trait]
pub trait UnnamedWriter: ObjectWriter {
    /// As [`ObjectWriter::finish`]: the object appears as `path`, directly in the folder it was begun in.
    async fn finish_as(self: Box<Self>, path: &StorePath) -> Result<()>;
}
