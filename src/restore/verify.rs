//! Whether a checkpoint restores, found out without restoring it.

use std::collections::{HashMap, HashSet};

use futures::stream::StreamExt;

use super::checkpoint::Checkpoint;
use crate::env::Env;
use crate::error::{ErrorKind, Result};
use crate::metadata::total_bytes;
use crate::store::StorePath;
use crate::transfer::{Progress, StoredFile, TransferLimits, is_unreadable, verify_object};

/// How many objects may be there and not be readable, none between them being readable, until it is the store that is
/// in trouble and not they.
pub const MAX_UNREADABLE_IN_A_ROW: usize = 16;

/// What verifying one checkpoint found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Files that were looked at.
    pub files: u64,
    /// Bytes that were read and are sound; 0 if only presence and length were checked. Of several
    /// checkpoints that share a file, each counts it.
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
/// As [`verify_checkpoints`].
pub async fn verify_checkpoint(
    env: &Env,
    checkpoint: &Checkpoint,
    deep: bool,
    limits: TransferLimits,
    progress: &dyn Progress,
) -> Result<VerifyReport> {
    let mut reports = verify_checkpoints(env, std::slice::from_ref(checkpoint), deep, limits, progress).await?;
    Ok(reports.pop().unwrap_or_default())
}

/// Checks every file of several checkpoints of one store, each object once however many share it.
/// One report for each, in order.
///
/// # Errors
/// Failures that say nothing about the checkpoints (no permission, no connection) are errors;
/// damage is not, it is in the reports. So is an object that is there and whose bytes cannot be had, after all attempts
/// of the store: a disk or every replica may have lost them. But if [`MAX_UNREADABLE_IN_A_ROW`] are like that, one after
/// the other, the way to the bytes is broken, and that is an error.
pub async fn verify_checkpoints(
    env: &Env,
    checkpoints: &[Checkpoint],
    deep: bool,
    limits: TransferLimits,
    progress: &dyn Progress,
) -> Result<Vec<VerifyReport>> {
    verify_objects(env, checkpoints, &|_| true, deep, limits, progress).await
}

/// As [`verify_checkpoints`], but only the files that lie in objects for which `is_wanted`.
///
/// # Errors
/// As [`verify_checkpoints`].
pub async fn verify_objects(
    env: &Env,
    checkpoints: &[Checkpoint],
    is_wanted: &(dyn Fn(&StorePath) -> bool + Sync),
    deep: bool,
    limits: TransferLimits,
    progress: &dyn Progress,
) -> Result<Vec<VerifyReport>> {
    let Some(first) = checkpoints.first() else { return Ok(Vec::new()) };
    let mut needed = Vec::with_capacity(checkpoints.len());
    for checkpoint in checkpoints {
        let files = checkpoint.metadata.files().map(|entry| checkpoint.stored_file(entry));
        let wanted = files.filter(|file| file.as_ref().map_or(true, |file| is_wanted(&file.object)));
        needed.push(wanted.collect::<Result<HashSet<StoredFile>>>()?);
    }
    let mut files: Vec<&StoredFile> = needed.iter().flatten().collect::<HashSet<_>>().into_iter().collect();
    files.sort_by(|a, b| (&a.object, a.offset_bytes).cmp(&(&b.object, b.offset_bytes)));
    progress.expect(files.len() as u64, if deep { total_bytes(files.iter().map(|file| file.size_bytes)) } else { 0 });
    let mut damage: HashMap<&StoredFile, String> = HashMap::new();
    // Without their bytes all are small: what a look costs is waiting.
    let size_bytes = |file: &&StoredFile| Some(if deep { file.size_bytes } else { 0 });
    let check = |file| async move { (file, check(env, first, file, deep, progress).await) };
    let mut outcomes = limits.run(files, size_bytes, check);
    let mut unreadable_in_a_row = 0;
    while let Some((file, outcome)) = outcomes.next().await {
        match outcome {
            Ok(()) => unreadable_in_a_row = 0,
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                damage.insert(file, error.message().to_owned());
            }
            Err(error) => {
                unreadable_in_a_row += 1;
                let is_lost = unreadable_in_a_row <= MAX_UNREADABLE_IN_A_ROW
                    && is_unreadable(&*first.store, &file.object, &error).await;
                if !is_lost {
                    return Err(error);
                }
                damage.insert(file, format!("it is there, but cannot be read: {}", error.message()));
            }
        }
    }
    Ok(needed.iter().map(|files| report_of(files, &damage, deep)).collect())
}

fn report_of(files: &HashSet<StoredFile>, damage: &HashMap<&StoredFile, String>, deep: bool) -> VerifyReport {
    let sound = files.iter().filter(|file| !damage.contains_key(file));
    let damaged =
        files.iter().filter_map(|file| Some(Damage { object: file.object.clone(), reason: damage.get(file)?.clone() }));
    let mut report = VerifyReport {
        files: files.len() as u64,
        read_bytes: if deep { total_bytes(sound.map(|file| file.size_bytes)) } else { 0 },
        damaged: damaged.collect(),
    };
    report.damaged.sort();
    report
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
