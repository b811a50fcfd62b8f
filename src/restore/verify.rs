//! Whether a checkpoint restores, found out without restoring it.

use futures::stream::{self, StreamExt};

use super::checkpoint::Checkpoint;
use crate::env::Env;
use crate::error::{ErrorKind, Result};
use crate::store::StorePath;
use crate::transfer::{Progress, StoredFile, TransferLimits, verify_object};

/// What verifying one checkpoint found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files that were looked at.
    pub files: u64,
    /// Bytes that were read; 0 if only presence and length were checked.
    pub read_bytes: u64,
    /// What is wrong, sorted by object.
    pub damaged: Vec<Damage>,
}

/// One damaged object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// The object.
    pub object: StorePath,
    /// What is wrong with it.
    pub reason: String,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// Checks every file of a checkpoint: with `deep` its bytes, otherwise only presence and length.
///
/// # Errors
/// Failures that say nothing about the checkpoint (no permission, no connection) are errors;
/// damage is not, it is in the report.
pub async fn verify_checkpoint(
    env: &Env,
    checkpoint: &Checkpoint,
    deep: bool,
    limits: TransferLimits,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    let mut files = Vec::new();
    for entry in checkpoint.metadata.files() {
        files.push(checkpoint.stored_file(entry)?);
    }
    files.sort_by(|a, b| (&a.object, a.offset_bytes).cmp(&(&b.object, b.offset_bytes)));
    files.dedup();
    progress.expect(files.len() as u64, if deep { files.iter().map(|file| file.size_bytes).sum() } else { 0 });
    let mut report = VerifyReport { files: files.len() as u64, ..VerifyReport::default() };
    let mut outcomes = stream::iter(&files)
        .map(|file| async move { (file, check(env, checkpoint, file, deep, progress).await) })
        .buffer_unordered(limits.parallelism.max(1));
    while let Some((file, outcome)) = outcomes.next().await {
        match outcome {
            Ok(()) if deep => report.read_bytes += file.size_bytes,
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                report.damaged.push(Damage { object: file.object.clone(), reason: error.message().to_owned() });
            }
            Err(error) => return Err(error),
        }
    }
    report.damaged.sort();
    Ok(report)
}

async fn check(
    env: &Env,
    checkpoint: &Checkpoint,
    file: &StoredFile,
    deep: bool,
    progress: &dyn Progress,
) -> Result<()> {
    if deep {
        return verify_object(&*checkpoint.store, env, file, progress).await;
    }
    let found = checkpoint.store.stat(&file.object).await?.size_bytes;
    let needed = file.offset_bytes.saturating_add(file.size_bytes);
    if found < needed {
        return Err(crate::Error::corrupt(
            "check object",
            &file.object,
            format!("it has {found} bytes, {needed} are needed"),
        ));
    }
    progress.file_done();
    Ok(())
}
