//! From one store to another, or to another place of the same one, verified on the way.

use sha2::{Digest, Sha256};

use super::download::{check, end_of, read_ahead, read_through};
use super::{Progress, StoredFile};
use crate::env::Env;
use crate::error::{Error, ErrorKind};
use crate::layout::ContentHash;
use crate::store::{ObjectWriter, Store, StorePath};

/// The two ends of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyEnd {
    /// Where the bytes come from.
    Source,
    /// Where they go.
    Target,
}

/// Why a copy failed, and what it may have left.
#[derive(Debug)]
pub struct FailedCopy {
    /// What went wrong.
    pub error: Error,
    /// At which end.
    pub end: CopyEnd,
    /// Whether this copy may have made the target all the same. `false`: what is there, if anything
    /// is, is somebody else's.
    pub may_exist: bool,
}

impl FailedCopy {
    fn at(end: CopyEnd) -> impl Fn(Error) -> Self {
        move |error| Self { error, end, may_exist: false }
    }

    /// Of the step with which the object appears.
    fn at_the_end(error: Error) -> Self {
        Self { may_exist: error.kind() != ErrorKind::AlreadyExists, error, end: CopyEnd::Target }
    }
}

/// Copies `file` to the new object `target` of `to`. The object appears only if its bytes have the
/// recorded hash.
///
/// # Errors
/// [`crate::ErrorKind::Corrupt`] if length or hash differ; [`crate::ErrorKind::NotFound`] if the
/// source is gone; what either store says otherwise.
pub async fn copy_object(
    from: &dyn Store,
    env: &Env,
    file: &StoredFile,
    to: &dyn Store,
    target: &StorePath,
    progress: &dyn Progress,
) -> Result<(), FailedCopy> {
    if file.size_bytes <= read_ahead(from).request_bytes {
        return copy_small(from, env, file, to, target, progress).await;
    }
    let mut writer = to.create(target).await.map_err(FailedCopy::at(CopyEnd::Target))?;
    match pump(from, env, file, &mut *writer, progress).await {
        Ok(()) => {
            writer.finish().await.map_err(FailedCopy::at_the_end)?;
            progress.file_done();
            Ok(())
        }
        Err(failed) => {
            // The first error says what happened; that of the clean-up would only hide it.
            if let Err(abort) = writer.abort().await {
                tracing::debug!(%target, %abort, "could not abort a copy");
            }
            Err(failed)
        }
    }
}

/// A file of one read: one request at either end, and nothing is written before it is proven.
async fn copy_small(
    from: &dyn Store,
    env: &Env,
    file: &StoredFile,
    to: &dyn Store,
    target: &StorePath,
    progress: &dyn Progress,
) -> Result<(), FailedCopy> {
    let read = async {
        let bytes = from.read(&file.object, file.offset_bytes..end_of(file)?).await?;
        let (hashed, expected) = (bytes.clone(), file.clone());
        env.blocking(move || check(&expected, ContentHash::of(&hashed))).await??;
        Ok(bytes)
    };
    let bytes = read.await.map_err(FailedCopy::at(CopyEnd::Source))?;
    to.put(target, bytes).await.map_err(FailedCopy::at_the_end)?;
    progress.advance(file.size_bytes);
    progress.file_done();
    Ok(())
}

/// Moves the bytes of `file` into `writer`, hashing each piece while it is written.
async fn pump(
    from: &dyn Store,
    env: &Env,
    file: &StoredFile,
    writer: &mut dyn ObjectWriter,
    progress: &dyn Progress,
) -> Result<(), FailedCopy> {
    let (read, moved) = read_through(from, file, progress, |mut pieces| async move {
        let mut hasher = Sha256::new();
        while let Some(piece) = pieces.recv().await {
            let hashed = piece.clone();
            let hashing = env.blocking(move || {
                hasher.update(&hashed);
                hasher
            });
            let (hashed, written) = futures::join!(hashing, writer.write(piece));
            hasher = hashed.map_err(FailedCopy::at(CopyEnd::Source))?;
            written.map_err(FailedCopy::at(CopyEnd::Target))?;
        }
        Ok::<_, FailedCopy>(ContentHash(hasher.finalize().into()))
    })
    .await;
    read.map_err(FailedCopy::at(CopyEnd::Source))?;
    check(file, moved?).map_err(FailedCopy::at(CopyEnd::Source))
}
