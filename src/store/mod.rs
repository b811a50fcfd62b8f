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
//! - **Ambiguity.** After an error or a dropped future the object may be there, may not, or may
//!   appear later. Nobody concludes anything from an absence then (design 4.7).
//!
//! icecore never writes a name twice, so nothing here says what overwriting does.
//! The conformance suite (feature `test-support`) checks an implementation against this contract.

mod path;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::Result;

pub use path::StorePath;

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

/// A place that keeps objects under paths. See the module's text for the contract.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// A URL-like name for messages, such as `file:///var/checkpoints`. Contains no secrets.
    fn describe(&self) -> String;

    /// Writes a small object in one step.
    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()>;

    /// Begins a large object. It appears when [`ObjectWriter::finish`] succeeds.
    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>>;

    /// Reads bytes `range` of an object. Returns exactly `range.end - range.start` bytes, or an
    /// error ([`crate::ErrorKind::Corrupt`] if the object is shorter). Callers bound the range.
    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes>;

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
