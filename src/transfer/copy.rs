//! From one store to another, or to another place of the same one, verified on the way.

use futures::stream::StreamExt;
use sha2::{Digest, Sha256};

use super::download::{check, reads};
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
    let mut hasher = Sha256::new();
    let copied = async {
        let mut chunks = reads(from, file);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            let (hashed, length) = (chunk.clone(), chunk.len() as u64);
            let hashing = env.blocking(move || {
                hasher.update(&hashed);
                hasher
            });
            let (hashed, written) = futures::join!(hashing, writer.write(chunk));
            hasher = hashed?;
            written?;
            progress.advance(length);
        }
        check(file, ContentHash(hasher.finalize().into()))
    };
    match copied.await {
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
