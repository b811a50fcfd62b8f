//! From an object to a local file, or memory, verified.
//!
//! A large object is read in pieces, each a request of its own, several under way at once, as the store says is best
//! ([`Store::read_ahead`]). So a connection that breaks costs a piece and not the object: over a
//! [`crate::store::RetryingStore`] the piece is asked for again, and all that came before it stays.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::direct::copy_hashed;
use super::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, MAX_IN_MEMORY_BYTES, Progress, READ_ONCE_BYTES, StoredFile};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ContentHash;
use crate::store::{ReadAhead, Store, StorePath};

/// The most that one request for a part of an object asks for, whatever the store prefers.
pub const MAX_READ_BYTES: u64 = 16 << 20;
/// The most requests for one object that are under way at once, whatever the store prefers.
pub const MAX_READS_AHEAD: usize = 16;

/// How much is hashed and then written while it is still in a processor's own cache.
const HOT_BYTES: usize = 128 << 10;

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
    download_unsynced(store, env, file, target, progress).await?.sync(env).await?;
    progress.file_done();
    Ok(())
}

/// The same, but for the sync of a large file, which waits for the disk while others can be fetched. Whoever calls it
/// tells the progress when the file is done.
pub(crate) async fn download_unsynced(
    store: &dyn Store,
    env: &Env,
    file: &StoredFile,
    target: &Path,
    progress: &dyn Progress,
) -> Result<Unsynced> {
    if file.size_bytes <= read_ahead(store).request_bytes {
        download_small(store, env, file, target, progress).await?;
        return Ok(Unsynced::default());
    }
    let path = target.to_owned();
    let (sha256, unsynced) = match store.open_file(&file.object).await? {
        Some(source) => copy_hashed(env, source, file, move || Target::create(path), progress).await?,
        None => {
            let (read, written) = read_through(store, file, progress, |pieces| async move {
                take_in(env, env.blocking(move || Target::create(path)).await??, pieces).await
            })
            .await;
            read?;
            written?
        }
    };
    check(file, sha256)?;
    Ok(unsynced)
}

/// A local file with proven content, which a power cut may still take away.
#[must_use]
#[derive(Default)]
pub(crate) struct Unsynced(Option<(File, PathBuf)>);

impl Unsynced {
    pub(crate) async fn sync(self, env: &Env) -> Result<()> {
        let Some((file, path)) = self.0 else { return Ok(()) };
        let sync = move || file.sync_all().map_err(|error| Error::local_io("write file", path.display(), error));
        env.blocking(sync).await?
    }
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
        let fail = |error| Error::local_io("write file", path.display(), error);
        let mut target = OpenOptions::new().write(true).create_new(true).open(&path).map_err(fail)?;
        target.write_all(&bytes).map_err(fail)?;
        target.sync_all().map_err(fail)
    })
    .await??;
    progress.advance(file.size_bytes);
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
    let bytes = if file.size_bytes <= READ_ONCE_BYTES {
        store.read(&file.object, file.offset_bytes..end).await?
    } else {
        let (mut bytes, mut pieces) = (BytesMut::new(), reads(store, file));
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece?);
        }
        bytes.freeze()
    };
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
        check(file, copy_hashed(env, source, file, || Ok(Target::nowhere()), progress).await?.0)?;
        progress.file_done();
        return Ok(());
    }
    let (read, hashed) = read_through(store, file, progress, |pieces| take_in(env, Target::nowhere(), pieces)).await;
    read?;
    check(file, hashed?.0)?;
    progress.file_done();
    Ok(())
}

/// Whether an object that could not be read, with `error` after all attempts, is there all the same: then it is the object
/// that is in trouble (lost replicas, a bad sector), and not the way to the store.
pub(crate) async fn is_unreadable(store: &dyn Store, object: &StorePath, error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Temporary | ErrorKind::Io) && store.stat(object).await.is_ok()
}

/// Reads `file` piece by piece while `consume` is busy with the pieces that came before. How reading went, which
/// decides where it failed: the consumer then saw an early end. And what the consumer made of it.
pub(super) async fn read_through<T, F>(
    store: &dyn Store,
    file: &StoredFile,
    progress: &dyn Progress,
    consume: impl FnOnce(mpsc::Receiver<Bytes>) -> F,
) -> (Result<()>, T)
where
    F: Future<Output = T>,
{
    let waiting = CHUNKS_IN_FLIGHT as u64 * CHUNK_BYTES as u64 / read_ahead(store).request_bytes;
    let (sender, receiver) = mpsc::channel(usize::try_from(waiting).unwrap_or(1).clamp(1, CHUNKS_IN_FLIGHT));
    let reading = async move {
        let mut pieces = reads(store, file);
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let length = piece.len() as u64;
            if sender.send(piece).await.is_err() {
                // The consumer failed; its error is the one to report.
                return Ok(());
            }
            progress.advance(length);
        }
        Ok(())
    };
    futures::join!(reading, consume(receiver))
}

/// A thread is borrowed for one piece and given back: were one held while the store, which may need
/// threads as well, has to answer first, many transfers would bring each other to a standstill.
async fn take_in(env: &Env, mut target: Target, mut pieces: mpsc::Receiver<Bytes>) -> Result<(ContentHash, Unsynced)> {
    while let Some(piece) = pieces.recv().await {
        target = env.blocking(move || target.write(&piece)).await??;
    }
    Ok(target.finish())
}

/// What the store prefers, within our bounds.
pub(super) fn read_ahead(store: &dyn Store) -> ReadAhead {
    let ReadAhead { request_bytes, requests } = store.read_ahead();
    ReadAhead { request_bytes: request_bytes.clamp(1, MAX_READ_BYTES), requests: requests.clamp(1, MAX_READS_AHEAD) }
}

/// The pieces of a file, in order.
fn reads<'a>(store: &'a dyn Store, file: &'a StoredFile) -> impl Stream<Item = Result<Bytes>> + Unpin + 'a {
    let ReadAhead { request_bytes, requests } = read_ahead(store);
    let end = file.offset_bytes.saturating_add(file.size_bytes);
    let starts = std::iter::successors(Some(file.offset_bytes), move |start| start.checked_add(request_bytes));
    let ranges = starts
        .take_while(move |start| *start < end)
        .map(move |start| start..end.min(start.saturating_add(request_bytes)));
    stream::iter(ranges).map(move |range| store.read(&file.object, range)).buffered(requests)
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
        let file = file.map_err(|error| Error::local_io("write file", path.display(), error))?;
        Ok(Self { file: Some((file, path)), hasher: Sha256::new() })
    }

    /// Keeps nothing but the hash.
    pub(super) fn nowhere() -> Self {
        Self { file: None, hasher: Sha256::new() }
    }

    pub(super) fn write(mut self, chunk: &[u8]) -> Result<Self> {
        for part in chunk.chunks(HOT_BYTES) {
            self.hasher.update(part);
            if let Some((file, path)) = &mut self.file {
                file.write_all(part).map_err(|error| Error::local_io("write file", path.display(), error))?;
            }
        }
        Ok(self)
    }

    /// SHA-256 of what was written, and the file.
    pub(super) fn finish(self) -> (ContentHash, Unsynced) {
        (ContentHash(self.hasher.finalize().into()), Unsynced(self.file))
    }
}

pub(super) fn check(file: &StoredFile, found: ContentHash) -> Result<()> {
    if found == file.sha256 {
        return Ok(());
    }
    Err(Error::corrupt("verify object", &file.object, format!("its SHA-256 is {found}, recorded was {}", file.sha256))
        .with_advice("restore another checkpoint; `icecore verify` lists which ones are sound"))
}
