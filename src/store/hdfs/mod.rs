//! A store in a folder of an HDFS, through the crate `hdfs-native`.
//!
//! | icecore | HDFS |
//! |---|---|
//! | `put`, `create` | a temporary file beside the target: `create` (never overwriting), write, close, which syncs |
//! | `finish` | `rename` without overwriting: one atomic step of the NameNode |
//! | `read`, `stat` | block locations and ranges from DataNodes, checksums verified; `getFileInfo` |
//! | `list` | `getListing`, folder by folder, a page at a time, put in order of whole paths |
//! | `delete` | `delete`, never recursive, [`MAX_CONCURRENT_REQUESTS`] side by side; empty folders are pruned |
//!
//! What the contract rests on, and where HDFS would break it:
//! - **Whole**: a file is visible while it is written, with any length. So nothing is written under its own name.
//! - **Durable**: each block's last packet asks its DataNodes to bring the block to their disks before they acknowledge
//!   it, and the NameNode syncs its log before it answers a rename.
//! - **Read-after-write, list-after-write**: the active NameNode answers for the whole file system. Observers, which may
//!   be late, are never asked (`options`).
//! - **Folders** are things of their own in HDFS: one that is empty is pruned, and not shown before.
//! - **Ambiguity**: a rename whose answer was lost is settled, not repeated (`draft`).
//!
//! `docs/stores.md` says how to set it up and what it guarantees.

mod client;
mod deleting;
mod draft;
mod errors;
mod names;
mod options;
mod stale;
mod walk;
mod writer;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use hdfs_native::file::FileReader;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::client::{NameNode, within};
use self::errors::{Cause, Failure};
use self::names::Root;
use self::walk::Names;
use self::writer::{HdfsUnnamed, HdfsWriter, Source, Writing};
use super::probe::probe_change;
use super::{
    Access, Child, ObjectMeta, ObjectWriter, ReadAhead, Retries, RetryPolicy, Store, StorePath, UnnamedWriter,
};
use crate::buffers::Buffers;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

pub use self::options::{HDFS_OPTIONS, HdfsOptions};

/// How many objects are written at once; [`Store::create`] waits beyond it. A task that holds this many writers and
/// asks for another one waits for itself: finish some first.
pub const MAX_OPEN_WRITERS: usize = 128;

/// How many objects without a name are written at once, beside those.
pub const MAX_OPEN_UNNAMED_WRITERS: usize = 64;

/// How many `put`s run at once, beside those; more of them wait.
pub const MAX_CONCURRENT_PUTS: usize = 64;

/// How many requests of one call (the deletes of a batch, looks into the folders of a listing) run at once.
pub const MAX_CONCURRENT_REQUESTS: usize = 16;

/// Between two attempts at one object: which DataNodes it gets is chance, so it is tried often. How long is an option.
const REWRITE_WAITS: RetryPolicy = RetryPolicy {
    first_wait: Duration::from_millis(50),
    longest_wait: Duration::from_secs(5),
    give_up_after: Duration::ZERO,
};

/// How long it is tried to delete an abandoned temporary file. What stays behind is for `remove_unfinished`.
const CLEARING_PATIENCE: Duration = Duration::from_secs(60);

/// A store in a folder of an HDFS. See the module's text.
#[derive(Clone)]
pub struct HdfsStore {
    cluster: Arc<Cluster>,
    name: String,
    writers: Arc<Semaphore>,
    unnamed_writers: Arc<Semaphore>,
    puts: Arc<Semaphore>,
}

/// What all parts of a store share.
struct Cluster {
    env: Env,
    options: HdfsOptions,
    name_node: NameNode,
    root: Root,
    /// For objects that DataNodes fail to take, and for their renames.
    rewrites: Retries,
    /// For abandoned temporary files.
    clearing: Retries,
    /// The temporary files that this process writes, by their places.
    in_use: Mutex<HashSet<String>>,
    buffers: Buffers,
}

impl HdfsStore {
    /// A store in the folder `prefix` of the HDFS at `authority`: `host:port` of the NameNode, or the name of a
    /// nameservice that the site files know. The folder may be missing: the first write makes it. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] outside a tokio runtime, for options that cannot work, and for an `authority` that
    /// is neither.
    pub fn open(authority: &str, prefix: &str, options: HdfsOptions, env: Env) -> Result<Self> {
        let operation = "open an HDFS store";
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        if authority.is_empty() || !authority.bytes().all(allowed) {
            return Err(Error::invalid(operation, "its address names no NameNode and no nameservice")
                .with_object(authority.escape_debug())
                .with_advice("write hdfs://host:port/folder, or hdfs://nameservice/folder"));
        }
        options.check()?;
        let root = Root::new(prefix)?;
        let name = format!("hdfs://{authority}{}", root.folder());
        let name_node = NameNode::new(authority, &options, env.clone())?;
        let cluster = Cluster {
            rewrites: Retries::new(REWRITE_WAITS.giving_up_after(options.write_patience), env.clone()),
            clearing: Retries::new(REWRITE_WAITS.giving_up_after(CLEARING_PATIENCE), env.clone()),
            env,
            options,
            name_node,
            root,
            in_use: Mutex::default(),
            buffers: Buffers::default(),
        };
        Ok(Self {
            cluster: Arc::new(cluster),
            name,
            writers: Arc::new(Semaphore::new(MAX_OPEN_WRITERS)),
            unnamed_writers: Arc::new(Semaphore::new(MAX_OPEN_UNNAMED_WRITERS)),
            puts: Arc::new(Semaphore::new(MAX_CONCURRENT_PUTS)),
        })
    }

    /// Begins the object `path` when its turn has come.
    async fn begin(&self, turns: &Arc<Semaphore>, path: &StorePath, source: Source) -> Result<(Writing, String)> {
        let operation = "create an object";
        let target = self.cluster.root.place(path, operation)?;
        let permit = turn(turns).await?;
        let folder = self.cluster.root.parent(&target).unwrap_or(self.cluster.root.folder()).to_owned();
        let writing = Writing::begin(Arc::clone(&self.cluster), folder, path.clone(), source, permit).await?;
        Ok((writing, target))
    }
}

async fn turn(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let permit = Arc::clone(turns).acquire_owned().await;
    permit.map_err(|_| Error::new(ErrorKind::Internal, "wait for a turn", "the semaphore is closed"))
}

impl fmt::Debug for HdfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HdfsStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Looks whether the store's folder, if it is there, is one that may be listed.
    async fn look_at_root(self: &Arc<Self>) -> Result<()> {
        let operation = "look at the store's folder";
        let folder = self.root.folder();
        let a_file = || {
            let message = "a file lies where it, or a folder above it, should be";
            Error::invalid(operation, message).with_object(folder).with_advice("give another folder")
        };
        let place = folder.to_owned();
        match self.name_node.call(|client| async move { client.get_file_info(&place).await }).await {
            Ok(status) if status.isdir => {}
            Ok(_) => return Err(a_file()),
            Err(failure) => {
                return match failure.cause() {
                    // The first write makes it.
                    Cause::Missing => Ok(()),
                    Cause::NotAFolder => Err(a_file()),
                    _ => Err(failure.into_error(operation, folder)),
                };
            }
        }
        let first = Names::of(self, folder.to_owned()).next().await;
        first.map(drop).map_err(|failure| failure.into_error(operation, folder))
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        let operation = "look at an object";
        let place = self.root.place(path, operation)?;
        match self.name_node.call(|client| async move { client.get_file_info(&place).await }).await {
            Ok(status) if !status.isdir => Ok(ObjectMeta { path: path.clone(), size_bytes: status.length as u64 }),
            Ok(_) => Err(missing(operation, path)),
            Err(failure) => Err(not_found_or(failure, operation, path)),
        }
    }

    /// Exactly the bytes `range` of an object.
    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        let operation = "read an object";
        let Some(length) = range.end.checked_sub(range.start) else {
            let message = format!("the range {}..{} is backwards", range.start, range.end);
            return Err(Error::invalid(operation, message).with_object(path));
        };
        let shorter = |size_bytes: u64| {
            let message = format!("bytes {}..{} were asked for, but it has {size_bytes}", range.start, range.end);
            Error::corrupt(operation, path, message)
        };
        if length == 0 {
            let size_bytes = self.stat(path).await?.size_bytes;
            return if range.end <= size_bytes { Ok(Bytes::new()) } else { Err(shorter(size_bytes)) };
        }
        let place = self.root.place(path, operation)?;
        let file = match self.name_node.call(|client| async move { client.read(&place).await }).await {
            Ok(file) => file,
            Err(failure) => return Err(not_found_or(failure, operation, path)),
        };
        // Before anything is allocated: the range may come from a hostile length field (I8).
        let size_bytes = file.file_length() as u64;
        match (usize::try_from(range.start), usize::try_from(length)) {
            (Ok(start), Ok(length)) if range.end <= size_bytes => self.fetch(&file, start, length, path).await,
            _ => Err(shorter(size_bytes)),
        }
    }

    /// `length` bytes from `start` on, which the file has. Their checksums are verified by the client.
    async fn fetch(&self, file: &FileReader, start: usize, length: usize, path: &StorePath) -> Result<Bytes> {
        let operation = "read an object";
        let mut bytes = self.buffers.take_for(length as u64);
        bytes
            .try_reserve_exact(length)
            .map_err(|error| Error::new(ErrorKind::LimitExceeded, operation, error.to_string()).with_object(path))?;
        let mut chunks = pin!(file.read_range_stream(start, length));
        loop {
            match within(&self.env, self.options.io_timeout, chunks.next()).await {
                Some(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
                Some(Some(Err(error))) => return Err(Failure::Answer(error).into_transfer_error(operation, path)),
                Some(None) => break,
                None => return Err(Failure::Silence(self.options.io_timeout).into_transfer_error(operation, path)),
            }
        }
        if bytes.len() != length {
            let message = format!("{} bytes of {length} came from DataNodes", bytes.len());
            return Err(Error::new(ErrorKind::Temporary, operation, message).with_object(path));
        }
        Ok(self.buffers.hand_over(bytes))
    }
}

fn missing(operation: &'static str, path: &StorePath) -> Error {
    Error::new(ErrorKind::NotFound, operation, "there is no such object").with_object(path)
}

/// Below a file there is nothing, as far as reading goes.
fn not_found_or(failure: Failure, operation: &'static str, path: &StorePath) -> Error {
    match failure.cause() {
        Cause::Missing | Cause::NotAFolder => missing(operation, path),
        _ => failure.into_error(operation, path),
    }
}

#[async_trait]
impl Store for HdfsStore {
    fn describe(&self) -> String {
        self.name.clone()
    }

    /// Each read asks the NameNode where the blocks are, so large ones spare it. DataNodes answer at once, so two are
    /// enough to keep one object coming.
    fn read_ahead(&self) -> ReadAhead {
        ReadAhead { request_bytes: 8 << 20, requests: 2 }
    }

    /// Read-only: two questions to the NameNode, which tell whether it is there, and whether the folder may be
    /// listed. A folder that is missing is an empty store: no name or key of HDFS could make one look so.
    async fn probe(&self, access: Access) -> Result<()> {
        let outcome = match (self.cluster.look_at_root().await, access) {
            (Ok(()), Access::Change) => probe_change(self, &self.cluster.env).await,
            (outcome, _) => outcome,
        };
        outcome.map_err(|error| error.with_object(&self.name))
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        let (mut writing, target) = self.begin(&self.puts, path, Source::Whole).await?;
        writing.write(bytes).await?;
        writing.finish(&target, path).await
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        let (writing, target) = self.begin(&self.writers, path, Source::Stream).await?;
        Ok(Box::new(HdfsWriter::new(writing, path.clone(), target)))
    }

    async fn create_unnamed(&self, folder: &StorePath) -> Result<Option<Box<dyn UnnamedWriter>>> {
        // Stands for the name in messages, and nothing ever lies there.
        let place = folder.join(&format!("unnamed-{:016x}", self.cluster.env.randomness.next_u64()))?;
        let (writing, target) = self.begin(&self.unnamed_writers, &place, Source::Stream).await?;
        let writer = HdfsWriter::new(writing, place, target);
        Ok(Some(Box::new(HdfsUnnamed { writer, folder: folder.clone() })))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        self.cluster.read(path, range).await
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        self.cluster.stat(path).await
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        walk::list(Arc::clone(&self.cluster), prefix.cloned())
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        walk::children(&self.cluster, prefix).await
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        deleting::delete(&self.cluster, paths).await
    }

    /// Removes temporary files that nobody writes. The module `stale` says why that is safe.
    async fn remove_unfinished(&self, prefix: Option<&StorePath>, older_than: Duration) -> Result<u64> {
        stale::remove_stale(&self.cluster, prefix, older_than).await
    }
}
