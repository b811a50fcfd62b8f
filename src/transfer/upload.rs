//! From a local file, or memory, to a new object.

use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::hash::{Reader, read_hashed};
use super::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, Progress, READ_ONCE_BYTES};
use crate::buffers::Buffers;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ContentHash;
use crate::store::{ObjectWriter, Store, StorePath, UnnamedWriter};

/// Uploads the first `size_bytes` bytes of `source` to the new object `target`, and returns their
/// SHA-256. With `expected`, nothing appears unless the bytes sent have that hash.
///
/// # Errors
/// [`ErrorKind::Changed`] if the file is shorter or has other bytes than announced; what the store
/// or the operating system says otherwise. The object may exist after an error of the store.
pub async fn upload_file(
    store: &dyn Store,
    env: &Env,
    source: &Path,
    size_bytes: u64,
    expected: Option<ContentHash>,
    target: &StorePath,
    progress: &dyn Progress,
) -> Result<ContentHash> {
    if size_bytes <= READ_ONCE_BYTES {
        let (bytes, hash) = read_hashed(env, source, size_bytes).await?;
        check_unchanged(source, expected, hash).map_err(|error| error.with_object(target))?;
        upload_bytes(store, bytes, target, progress).await?;
        return Ok(hash);
    }
    let mut writer = store.create(target).await?;
    let outcome = pump(&mut *writer, env, source, size_bytes, progress).await;
    match outcome.and_then(|hash| check_unchanged(source, expected, hash)) {
        Ok(hash) => {
            writer.finish().await?;
            progress.file_done();
            Ok(hash)
        }
        Err(error) => {
            give_up(writer.abort().await, target);
            Err(error.with_object(target))
        }
    }
}

/// A file whose bytes the store has, and that has no name there yet. Dropped, it leaves nothing.
pub struct StagedUpload {
    writer: Box<dyn UnnamedWriter>,
    hash: ContentHash,
}

impl StagedUpload {
    /// SHA-256 of exactly the bytes that were sent.
    pub fn hash(&self) -> ContentHash {
        self.hash
    }

    /// Makes it durable under the name `target`.
    ///
    /// # Errors
    /// Whatever the store says; the object may exist then.
    pub async fn finish_as(self, target: &StorePath, progress: &dyn Progress) -> Result<()> {
        self.writer.finish_as(target).await?;
        progress.file_done();
        Ok(())
    }

    /// Gives it up, because the store has its content already.
    pub async fn abort(self, progress: &dyn Progress) {
        give_up(self.writer.abort().await, "staged file");
        progress.file_done();
    }
}

/// Reads the first `size_bytes` bytes of `source` once, hashing and sending them to `folder`, where
/// they wait for a name that holds their hash. `None` if the store needs names first: hash the file, then
/// [`upload_file`] it.
///
/// # Errors
/// As [`upload_file`].
pub async fn stage_file(
    store: &dyn Store,
    env: &Env,
    source: &Path,
    size_bytes: u64,
    folder: &StorePath,
    progress: &dyn Progress,
) -> Result<Option<StagedUpload>> {
    let Some(mut writer) = store.create_unnamed(folder).await? else { return Ok(None) };
    match pump(&mut *writer, env, source, size_bytes, progress).await {
        Ok(hash) => Ok(Some(StagedUpload { writer, hash })),
        Err(error) => {
            give_up(writer.abort().await, folder);
            Err(error.with_object(source.display()))
        }
    }
}

/// Moves the bytes of a file into `writer`, and returns their SHA-256. While some are being written the next
/// are read and hashed.
///
/// A thread is borrowed for one reading and given back: were one held while the writer, which needs
/// threads as well, has to go on first, many transfers would bring each other to a standstill.
async fn pump(
    writer: &mut dyn ObjectWriter,
    env: &Env,
    source: &Path,
    size_bytes: u64,
    progress: &dyn Progress,
) -> Result<ContentHash> {
    let path = source.to_owned();
    let mut reading = env.blocking(move || Reading::begin(&path, size_bytes)?.go_on()).await??;
    loop {
        let (next, chunks) = match reading {
            Read::All(hash) => return Ok(hash),
            Read::Some(reading, chunks) => (env.blocking(move || reading.go_on()), chunks),
        };
        let writing = async {
            for chunk in chunks {
                let length = chunk.len() as u64;
                writer.write(chunk).await?;
                progress.advance(length);
            }
            Ok(())
        };
        let (read, written) = futures::join!(next, writing);
        written?;
        reading = read??;
    }
}

/// The first error says what happened; that of the clean-up would only hide it.
fn give_up(aborted: Result<()>, object: impl std::fmt::Display) {
    if let Err(error) = aborted {
        tracing::debug!(%object, %error, "could not abort an upload");
    }
}

/// Writes `bytes` to the new object `target`.
///
/// # Errors
/// Whatever the store says; the object may exist then.
pub async fn upload_bytes(store: &dyn Store, bytes: Bytes, target: &StorePath, progress: &dyn Progress) -> Result<()> {
    let length = bytes.len() as u64;
    store.put(target, bytes).await?;
    progress.advance(length);
    progress.file_done();
    Ok(())
}

/// The reading half of an upload.
struct Reading {
    reader: Reader,
    hasher: Sha256,
    buffers: Buffers,
}

/// What one reading gave.
enum Read {
    /// The next bytes; there may be more.
    Some(Reading, Vec<Bytes>),
    /// Nothing more. The hash of all bytes.
    All(ContentHash),
}

impl Reading {
    fn begin(path: &Path, size_bytes: u64) -> Result<Self> {
        Ok(Self { reader: Reader::open(path, size_bytes)?, hasher: Sha256::new(), buffers: Buffers::default() })
    }

    /// Reads and hashes up to [`CHUNKS_IN_FLIGHT`] chunks. Blocks.
    fn go_on(mut self) -> Result<Read> {
        let mut chunks = Vec::with_capacity(CHUNKS_IN_FLIGHT);
        while chunks.len() < CHUNKS_IN_FLIGHT {
            let mut buffer = self.buffers.take();
            if !self.reader.fill(&mut buffer, CHUNK_BYTES)? {
                break;
            }
            self.hasher.update(&buffer);
            chunks.push(self.buffers.lend(buffer));
        }
        Ok(match chunks.is_empty() {
            true => Read::All(ContentHash(self.hasher.finalize().into())),
            false => Read::Some(self, chunks),
        })
    }
}

fn check_unchanged(source: &Path, expected: Option<ContentHash>, found: ContentHash) -> Result<ContentHash> {
    match expected {
        Some(expected) if expected != found => {
            Err(Error::new(ErrorKind::Changed, "upload file", "its bytes changed between hashing and sending")
                .with_object(source.display())
                .with_advice("let nothing write to the folder while it is snapshotted, and try again"))
        }
        _ => Ok(found),
    }
}
