//! From a local file, or memory, to a new object.

use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::buffers::Buffers;
use super::hash::{Reader, read_hashed};
use super::{CHUNK_BYTES, CHUNKS_IN_FLIGHT, Progress, READ_ONCE_BYTES};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ContentHash;
use crate::store::{Store, StorePath};

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
    let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
    let path = source.to_owned();
    let reading = env.blocking(move || read_and_send(&path, size_bytes, &sender));
    let writing = async {
        while let Some(chunk) = receiver.recv().await {
            let length = chunk.len() as u64;
            if let Err(error) = writer.write(chunk).await {
                // Ends the reader too: its next send finds the channel closed.
                receiver.close();
                return (writer, Err(error));
            }
            progress.advance(length);
        }
        (writer, Ok(()))
    };
    let (read, (writer, written)) = futures::join!(reading, writing);
    let outcome = written.and_then(|()| read?).and_then(|hash| check_unchanged(source, expected, hash));
    match outcome {
        Ok(hash) => {
            writer.finish().await?;
            progress.file_done();
            Ok(hash)
        }
        Err(error) => {
            // The first error says what happened; that of the clean-up would only hide it.
            if let Err(abort) = writer.abort().await {
                tracing::debug!(%target, %abort, "could not abort an upload");
            }
            Err(error.with_object(target))
        }
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

/// The reading half of an upload. The channel closes as it returns, before the writing half knows the hash.
fn read_and_send(path: &Path, size_bytes: u64, sender: &mpsc::Sender<Bytes>) -> Result<ContentHash> {
    let buffers = Buffers::default();
    let mut reader = Reader::open(path, size_bytes)?;
    let mut hasher = Sha256::new();
    loop {
        let mut buffer = buffers.take();
        if !reader.fill(&mut buffer, CHUNK_BYTES)? {
            return Ok(ContentHash(hasher.finalize().into()));
        }
        hasher.update(&buffer);
        sender
            .blocking_send(buffers.lend(buffer))
            .map_err(|_| Error::new(ErrorKind::Cancelled, "upload file", "the upload was given up"))?;
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
