//! From one store to another, or to another place of the same one, verified on the way.

use sha2::{Digest, Sha256};

use super::download::{check, read_through};
use super::{Progress, StoredFile};
use crate::env::Env;
use crate::error::{Error, ErrorKind};
use crate::layout::ContentHash;
use crate::store::{Store, StorePath};

/// Why a copy failed, and what it may have left.
#[derive(Debug)]
pub struct FailedCopy {
    /// What went wrong.
    pub error: Error,
    /// Whether this copy may have made the target all the same. `false`: what is there, if anything
    /// is, is somebody else's.
    pub may_exist: bool,
}

impl From<Error> for FailedCopy {
    fn from(error: Error) -> Self {
        Self { error, may_exist: false }
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
    let mut writer = to.create(target).await?;
    let writing = &mut writer;
    let (read, written) = read_through(from, file, progress, |mut pieces| async move {
        let mut hasher = Sha256::new();
        while let Some(piece) = pieces.recv().await {
            let hashed = piece.clone();
            let hashing = env.blocking(move || {
                hasher.update(&hashed);
                hasher
            });
            let (hashed, written) = futures::join!(hashing, writing.write(piece));
            hasher = hashed?;
            written?;
        }
        Ok(ContentHash(hasher.finalize().into()))
    })
    .await;
    match read.and(written).and_then(|hash| check(file, hash)) {
        Ok(()) => {
            writer
                .finish()
                .await
                .map_err(|error| FailedCopy { may_exist: error.kind() != ErrorKind::AlreadyExists, error })?;
            progress.file_done();
            Ok(())
        }
        Err(error) => {
            // The first error says what happened; that of the clean-up would only hide it.
            if let Err(abort) = writer.abort().await {
                tracing::debug!(%target, %abort, "could not abort a copy");
            }
            Err(FailedCopy::from(error))
        }
    }
}
