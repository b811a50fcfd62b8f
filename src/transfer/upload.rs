//! From a local file, or memory, to a new object.

use std::path::Path;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::hash::read_chunks;
use super::{CHUNKS_IN_FLIGHT, Progress};
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
    let mut writer = store.create(target).await?;
    let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS_IN_FLIGHT);
    let path = source.to_owned();
    let reading = env.blocking(move || {
        let mut hasher = Sha256::new();
        let done = read_chunks(&path, size_bytes, |chunk| {
            hasher.update(&chunk);
            sender
                .blocking_send(Bytes::from(chunk))
                .map_err(|_| Error::new(ErrorKind::Cancelled, "upload file", "the upload was given up"))
        });
        // The channel closes here, before the hash is known to the writer's side.
        drop(sender);
        done.map(|()| ContentHash(hasher.finalize().into()))
    });
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
    let outcome = written.and_then(|()| read?).and_then(|hash| match expected {
        Some(expected) if expected != hash => Err(changed(source)),
        _ => Ok(hash),
    });
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

fn changed(source: &Path) -> Error {
    Error::new(ErrorKind::Changed, "upload file", "its bytes changed between hashing and sending")
        .with_object(source.display())
        .with_advice("let nothing write to the folder while it is snapshotted, and try again")
}
