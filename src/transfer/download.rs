//! From an object to a local file, or memory, verified.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use sha2::{Digest, Sha256};

use super::direct::copy_hashed;
use super::{MAX_IN_MEMORY_BYTES, Progress, StoredFile};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ContentHash;
use crate::store::Store;

/// How much one read asks of the store: little enough to be hashed and written while it is still in a
/// processor's cache.
pub(super) const READ_BYTES: u64 = 1 << 20;
/// How many reads of one object are under way at once.
const READS_AHEAD: usize = 2;

/// Fetches `file` into the new local file `target`, syncs it, and proves its hash. On an error the
/// target may exist with unverified bytes: callers write into a folder that nobody uses yet (I7).
///
/// # Errors
/// [`ErrorKind::Corrupt`] if length or hash differ; [`ErrorKind::NotFound`] if the object is gone.
pub async fn download(
    store: &dyn Store,
    env: &Env,
    file: &StoredFile,
    target: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    if file.size_bytes <= READ_BYTES {
        return download_small(store, env, file, target, progress).await;
    }
    let path = target.to_owned();
    if let Some(source) = store.open_file(&file.object).await? {
        check(file, copy_hashed(env, source, file, move || Target::create(path), progress).await?)?;
        progress.file_done();
        return Ok(());
    }
    // A thread is borrowed for one chunk and given back: were one held while the store, which may need
    // threads as well, has to answer first, many transfers would bring each other to a standstill.
    let mut target = env.blocking(move || Target::create(path)).await??;
    let mut chunks = reads(store, file);
    let mut next = chunks.next().await;
    while let Some(chunk) = next {
        let chunk = chunk?;
        let length = chunk.len() as u64;
        let (written, following) = futures::join!(env.blocking(move || target.write(&chunk)), chunks.next());
        (target, next) = (written??, following);
        progress.advance(length);
    }
    check(file, env.blocking(move || target.finish()).await??)?;
    progress.file_done();
    Ok(())
}

/// A file of one read: nothing is written before it is proven.
async fn download_small(
    store: &dyn Store,
    env: &Env,
    file: &StoredFile,
    target: &Path,
    progress: &dyn Progress,
) -> Result<()> {
    let bytes = store.read(&file.object, file.offset_bytes..end_of(file)?).await?;
    let (path, file_to_check) = (target.to_owned(), file.clone());
    env.blocking(move || {
        check(&file_to_check, ContentHash::of(&bytes))?;
        let fail = |error| Error::io("write file", path.display(), error);
        let mut target = OpenOptions::new().write(true).create_new(true).open(&path).map_err(fail)?;
        target.write_all(&bytes).map_err(fail)?;
        target.sync_all().map_err(fail)
    })
    .await??;
    progress.advance(file.size_bytes);
    progress.file_done();
    Ok(())
}

/// Fetches a small object into memory and proves its hash.
///
/// # Errors
/// As [`download`]; [`ErrorKind::LimitExceeded`] above [`MAX_IN_MEMORY_BYTES`].
pub async fn download_to_memory(store: &dyn Store, file: &StoredFile, progress: &dyn Progress) -> Result<Bytes> {
    if file.size_bytes > MAX_IN_MEMORY_BYTES {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            "read object",
            format!("{} bytes do not fit the limit of {MAX_IN_MEMORY_BYTES} bytes held in memory", file.size_bytes),
        )
        .with_object(&file.object));
    }
    let end = end_of(file)?;
    let bytes = store.read(&file.object, file.offset_bytes..end).await?;
    check(file, ContentHash::of(&bytes))?;
    progress.advance(file.size_bytes);
    progress.file_done();
    Ok(bytes)
}

/// Reads a stored file from beginning to end and proves its hash, keeping nothing.
///
/// # Errors
/// As [`download`].
pub async fn verify_object(store: &dyn Store, env: &Env, file: &StoredFile, progress: &dyn Progress) -> Result<()> {
    if let Some(source) = store.open_file(&file.object).await? {
        check(file, copy_hashed(env, source, file, || Ok(Target::nowhere()), progress).await?)?;
        progress.file_done();
        return Ok(());
    }
    let mut hasher = Sha256::new();
    let mut chunks = reads(store, file);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        progress.advance(chunk.len() as u64);
        hasher = env
            .blocking(move || {
                hasher.update(&chunk);
                hasher
            })
            .await?;
    }
    check(file, ContentHash(hasher.finalize().into()))?;
    progress.file_done();
    Ok(())
}

pub(super) fn reads<'a>(store: &'a dyn Store, file: &'a StoredFile) -> impl Stream<Item = Result<Bytes>> + Unpin + 'a {
    let end = file.offset_bytes.saturating_add(file.size_bytes);
    let starts = std::iter::successors(Some(file.offset_bytes), |start| start.checked_add(READ_BYTES));
    let ranges =
        starts.take_while(move |start| *start < end).map(move |start| start..end.min(start.saturating_add(READ_BYTES)));
    stream::iter(ranges).map(move |range| store.read(&file.object, range)).buffered(READS_AHEAD)
}

pub(super) fn end_of(file: &StoredFile) -> Result<u64> {
    file.offset_bytes
        .checked_add(file.size_bytes)
        .ok_or_else(|| Error::corrupt("read object", &file.object, "offset and length overflow"))
}

/// Where the bytes of an object go while they are hashed: a new local file, or nowhere.
pub(super) struct Target {
    file: Option<(File, PathBuf)>,
    hasher: Sha256,
}

impl Target {
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|error| Error::io("write file", path.display(), error))?;
        Ok(Self { file: Some((file, path)), hasher: Sha256::new() })
    }

    /// Keeps nothing but the hash.
    pub(super) fn nowhere() -> Self {
        Self { file: None, hasher: Sha256::new() }
    }

    pub(super) fn write(mut self, chunk: &[u8]) -> Result<Self> {
        self.hasher.update(chunk);
        if let Some((file, path)) = &mut self.file {
            file.write_all(chunk).map_err(|error| Error::io("write file", path.display(), error))?;
        }
        Ok(self)
    }

    /// Syncs the file. SHA-256 of what was written.
    pub(super) fn finish(self) -> Result<ContentHash> {
        if let Some((file, path)) = self.file {
            file.sync_all().map_err(|error| Error::io("write file", path.display(), error))?;
        }
        Ok(ContentHash(self.hasher.finalize().into()))
    }
}

pub(super) fn check(file: &StoredFile, found: ContentHash) -> Result<()> {
    if found == file.sha256 {
        return Ok(());
    }
    Err(Error::corrupt("verify object", &file.object, format!("its SHA-256 is {found}, recorded was {}", file.sha256))
        .with_advice("restore another checkpoint; `icecore verify` lists which ones are sound"))
}
