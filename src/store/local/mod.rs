//! A store in a folder of a local (or mounted) file system.
//!
//! The contract's *whole* and *durable* are made of four steps, in this order: write a `.tmp-` file in
//! the target folder, sync it, rename it to its unused name, sync the folder and every folder above
//! it whose entry may be new. A sync that fails is never tried again: the kernel may have dropped the
//! bytes and would answer the second try with success. A failed sync of a file fails that object; a
//! failed sync of a folder ends all writing through this `LocalStore` (see `folders`).
//!
//! The root is made by the first write. A folder exists for as long as an object lies below it: the
//! delete that empties it prunes it, and a writer that finds its folder pruned makes it again.
//!
//! Assumed of the file system: a rename is atomic, and a synced file or folder stays. Blocking calls
//! run on the runtime's blocking threads, at most [`MAX_CONCURRENT_OPERATIONS`] at once, and at most
//! [`MAX_OPEN_WRITERS`] objects are written at once, so the number of open files is bounded.

mod delete;
mod disk;
mod folders;
mod resolve;
mod stale;
mod walk;
mod writer;

#[cfg(test)]
mod disk_tests;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::disk::{Disk, RealDisk};
use self::folders::Folders;
use self::resolve::{Found, resolve};
use self::walk::Walk;
use self::writer::{LocalUnnamed, LocalWriter, Unfinished};
use super::temporary::temporary_name;
use super::{Child, ObjectMeta, ObjectWriter, Store, StorePath, UnnamedWriter};
use crate::buffers::Buffers;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// How many objects are written at once; [`Store::create`] waits beyond it. A task that holds this
/// many writers and asks for another one waits for itself: finish some first.
pub const MAX_OPEN_WRITERS: usize = 128;

/// How many objects without a name are written at once, beside those.
pub const MAX_OPEN_UNNAMED_WRITERS: usize = 64;

/// How many other calls work on files at once; more of them wait.
pub const MAX_CONCURRENT_OPERATIONS: usize = 64;

/// How many objects a listing fetches in one go.
const LIST_BATCH_OBJECTS: usize = 1000;

/// How often a file is created anew because its folder was pruned meanwhile.
const MAX_CREATE_ATTEMPTS: usize = 1000;

/// A store in a local folder. See the module's text.
#[derive(Clone, Debug)]
pub struct LocalStore {
    env: Env,
    folders: Arc<Folders>,
    writers: Arc<Semaphore>,
    unnamed_writers: Arc<Semaphore>,
    operations: Arc<Semaphore>,
    buffers: Buffers,
}

impl LocalStore {
    /// A store in the folder `root`, which may be missing: the first write makes it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if `root` is something else than a folder;
    /// [`ErrorKind::PermissionDenied`] if it may not be looked at.
    pub fn open(root: &Path, env: Env) -> Result<Self> {
        Self::open_on(root, env, Arc::new(RealDisk))
    }

    fn open_on(root: &Path, env: Env, disk: Arc<dyn Disk>) -> Result<Self> {
        let operation = "open a local store";
        let root = std::path::absolute(root).map_err(|error| Error::io(operation, root.display(), error))?;
        match std::fs::metadata(&root) {
            Ok(metadata) if !metadata.is_dir() => {
                return Err(Error::invalid(operation, "it is not a folder").with_object(root.display()));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io(operation, root.display(), error));
            }
            Ok(_) | Err(_) => {}
        }
        Ok(Self {
            env,
            folders: Arc::new(Folders::new(root, disk)),
            writers: Arc::new(Semaphore::new(MAX_OPEN_WRITERS)),
            unnamed_writers: Arc::new(Semaphore::new(MAX_OPEN_UNNAMED_WRITERS)),
            operations: Arc::new(Semaphore::new(MAX_CONCURRENT_OPERATIONS)),
            buffers: Buffers::default(),
        })
    }

    /// The store's folder, as an absolute path.
    pub fn root(&self) -> &Path {
        &self.folders.root
    }

    /// Runs `work` on a blocking thread when its turn has come. It runs to its end even if the caller
    /// goes away, and keeps its turn until then.
    async fn run<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        work: impl FnOnce(Arc<Folders>, OwnedSemaphorePermit) -> T + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(turns)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(ErrorKind::Internal, "wait for a turn", "the semaphore is closed"))?;
        let folders = Arc::clone(&self.folders);
        self.env.blocking(move || work(folders, permit)).await
    }

    async fn begin(
        &self,
        turns: &Arc<Semaphore>,
        path: &StorePath,
        first: Option<Bytes>,
    ) -> Result<Option<Unfinished>> {
        let (path, name) = (path.clone(), temporary_name(&*self.env.randomness));
        self.run(turns, move |folders, permit| {
            let target = unused_place(&folders.root, &path, "create an object")?;
            let mut unfinished = Unfinished::create(folders, target, path, &name, permit)?;
            let Some(bytes) = first else { return Ok(Some(unfinished)) };
            unfinished.write(&[bytes])?;
            unfinished.publish()?;
            Ok(None)
        })
        .await?
    }
}

#[async_trait]
impl Store for LocalStore {
    fn describe(&self) -> String {
        format!("file://{}", self.folders.root.display())
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        self.begin(&self.operations, path, Some(bytes)).await.map(drop)
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        match self.begin(&self.writers, path, None).await? {
            Some(unfinished) => Ok(Box::new(LocalWriter::new(self.env.clone(), path.clone(), unfinished))),
            None => Err(Error::new(ErrorKind::Internal, "create an object", "it was finished at once")),
        }
    }

    async fn create_unnamed(&self, folder: &StorePath) -> Result<Option<Box<dyn UnnamedWriter>>> {
        // Stands for the name in messages, and nothing ever lies there.
        let place = folder.join(&format!("unnamed-{:016x}", self.env.randomness.next_u64()))?;
        let begun = self.begin(&self.unnamed_writers, &place, None).await?;
        Ok(begun.map(|unfinished| -> Box<dyn UnnamedWriter> {
            Box::new(LocalUnnamed::new(LocalWriter::new(self.env.clone(), place, unfinished), folder.clone()))
        }))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        let (path, buffers) = (path.clone(), self.buffers.clone());
        self.run(&self.operations, move |folders, _permit| read(&folders.root, &path, range, &buffers)).await?
    }

    async fn open_file(&self, path: &StorePath) -> Result<Option<File>> {
        let path = path.clone();
        let open = move |folders: Arc<Folders>, _permit| open_object(&folders.root, &path, "read an object").map(Some);
        self.run(&self.operations, open).await?
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        let path = path.clone();
        self.run(&self.operations, move |folders, _permit| {
            match resolve(&folders.root, &path, "look at an object")?.1 {
                Found::Object(metadata) => Ok(ObjectMeta { path, size_bytes: metadata.len() }),
                Found::Nothing | Found::Folder => Err(missing("look at an object", &path)),
            }
        })
        .await?
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        let begin = Listing::NotBegun(prefix.cloned());
        stream::unfold(begin, move |listing| async move {
            let next = match listing {
                Listing::Ended => return None,
                listing => self.run(&self.operations, move |folders, _permit| next_batch(&folders, listing)).await,
            };
            match next.and_then(|batch| batch) {
                Ok((batch, _)) if batch.is_empty() => None,
                Ok((batch, walk)) => Some((stream::iter(batch), Listing::Going(walk))),
                Err(error) => Some((stream::iter(vec![Err(error)]), Listing::Ended)),
            }
        })
        .flatten()
        .boxed()
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        let prefix = prefix.cloned();
        self.run(&self.operations, move |folders, _permit| {
            let folder = folder_of(&folders, prefix.as_ref())?;
            walk::children(&folder, prefix.as_ref())
        })
        .await?
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        let (count, paths) = (paths.len(), paths.to_vec());
        match self.run(&self.operations, move |folders, _permit| delete::delete(&folders, &paths)).await {
            Ok(answers) => answers,
            Err(error) => {
                (0..count).map(|_| Err(Error::new(error.kind(), "delete an object", error.to_string()))).collect()
            }
        }
    }

    /// Removes `.tmp-` files that nobody writes. The module `stale` says why that is safe.
    async fn remove_unfinished(&self, prefix: Option<&StorePath>, older_than: Duration) -> Result<u64> {
        let (prefix, now_ms) = (prefix.cloned(), self.env.clock.unix_time_ms());
        self.run(&self.operations, move |folders, _permit| {
            let folder = folder_of(&folders, prefix.as_ref())?;
            stale::remove_stale(&folders, &folder, older_than, now_ms)
        })
        .await?
    }
}

enum Listing {
    NotBegun(Option<StorePath>),
    Going(Walk),
    Ended,
}

type Batch = Vec<Result<ObjectMeta>>;

fn next_batch(folders: &Folders, listing: Listing) -> Result<(Batch, Walk)> {
    let mut walk = match listing {
        Listing::Going(walk) => walk,
        Listing::NotBegun(prefix) => Walk::new(folder_of(folders, prefix.as_ref())?, prefix)?,
        Listing::Ended => return Err(Error::new(ErrorKind::Internal, "list a folder", "the listing has ended")),
    };
    Ok((walk.next_batch(LIST_BATCH_OBJECTS), walk))
}

fn folder_of(folders: &Folders, prefix: Option<&StorePath>) -> Result<PathBuf> {
    match prefix {
        Some(prefix) => Ok(resolve(&folders.root, prefix, "list a folder")?.0),
        None => Ok(folders.root.clone()),
    }
}

fn missing(operation: &'static str, path: &StorePath) -> Error {
    Error::new(ErrorKind::NotFound, operation, "there is no such object").with_object(path)
}

/// Where a new object goes, if nothing lies there.
fn unused_place(root: &Path, path: &StorePath, operation: &'static str) -> Result<PathBuf> {
    match resolve(root, path, operation)? {
        (place, Found::Nothing) => Ok(place),
        _ => Err(Error::new(ErrorKind::AlreadyExists, operation, "something lies at this name")
            .with_object(path)
            .with_advice("no name is ever written twice; another writer used this one")),
    }
}

fn open_object(root: &Path, path: &StorePath, operation: &'static str) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    let (place, found) = resolve(root, path, operation)?;
    let Found::Object(_) = found else { return Err(missing(operation, path)) };
    // No link is followed and no pipe waited for, even if one took the object's place just now.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let open = rustix::fs::open(&place, flags, Mode::empty());
    open.map(File::from).map_err(|error| Error::io(operation, path, error.into()))
}

/// Exactly the bytes `range` of an object.
fn read(root: &Path, path: &StorePath, range: Range<u64>, buffers: &Buffers) -> Result<Bytes> {
    let operation = "read an object";
    let length = range.end.checked_sub(range.start).ok_or_else(|| {
        Error::invalid(operation, format!("the range {}..{} is backwards", range.start, range.end)).with_object(path)
    })?;
    let mut file = open_object(root, path, operation)?;
    let failed = |error: io::Error| Error::io(operation, path, error);
    let size_bytes = file.metadata().map_err(failed)?.len();
    let shorter = || {
        Error::corrupt(
            operation,
            path,
            format!("bytes {}..{} were asked for, but it has {size_bytes}", range.start, range.end),
        )
    };
    // Before anything is allocated: the range may come from a hostile length field (I8).
    if range.end > size_bytes {
        return Err(shorter());
    }
    let capacity = usize::try_from(length)
        .map_err(|_| Error::new(ErrorKind::LimitExceeded, operation, "the range does not fit into memory"))?;
    let mut bytes = buffers.take_for(length);
    bytes
        .try_reserve_exact(capacity)
        .map_err(|error| Error::new(ErrorKind::LimitExceeded, operation, error.to_string()).with_object(path))?;
    file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() != capacity {
        return Err(shorter());
    }
    Ok(buffers.hand_over(bytes))
}
