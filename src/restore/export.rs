//! A checkpoint as a folder that stands on its own: a savepoint made from what is stored already.
//!
//! Every file is copied beside a `_metadata` of its own, which is written last, when all the rest is
//! durable and every hash was proven: whoever finds it finds a whole checkpoint. Nothing in it names
//! the job's folder, so it restores wherever it is moved, and no retention ever touches it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::checkpoint::Checkpoint;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{METADATA_NAME, OperatorId, SubtaskName, key_group_folder, operator_folder, subtask_folder};
use crate::metadata::{self, CheckpointKind, CheckpointMetadata, Encoding, FileEntry, Location, total_bytes};
use crate::store::{StorePath, StoreRef};
use crate::transfer::{FailedCopy, Progress, TransferLimits, copy_object};

const EXPORT: &str = "export a checkpoint";

/// What an export wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Files, `_metadata` not counted.
    pub files: u64,
    /// Bytes, `_metadata` included.
    pub bytes: u64,
}

/// Copies `checkpoint` into the folder `folder` of `target` (`None`: its root), which must be empty.
/// After an error what this call copied is removed again, as far as the store lets it; what another
/// export put there meanwhile stays.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] if something lies there; [`ErrorKind::InvalidInput`] for a folder
/// inside a job's; [`ErrorKind::Corrupt`] or [`ErrorKind::NotFound`] if the checkpoint is damaged; what
/// either store says.
pub async fn export_checkpoint(
    env: &Env,
    checkpoint: &Checkpoint,
    target: &StoreRef,
    folder: Option<&StorePath>,
    limits: TransferLimits,
    progress: &dyn Progress,
) -> Result<ExportReport> {
    refuse_folder(target, folder).await?;
    let StandAlone { metadata, copies } = stand_alone(checkpoint)?;
    let encoding = env.blocking(move || metadata::encode(&metadata)).await??;
    let metadata_bytes = Bytes::from(encoding);
    let report = ExportReport {
        files: copies.len() as u64,
        bytes: total_bytes(copies.iter().map(|copy| copy.entry.size_bytes).chain([metadata_bytes.len() as u64])),
    };
    let (mut made, mut outcome) = copy_all(env, checkpoint, target, folder, &copies, limits, progress).await;
    if outcome.is_ok() {
        outcome = put_index(target, folder, metadata_bytes, &mut made).await;
    }
    if outcome.is_err() {
        remove(target, &made).await;
    }
    outcome.map(|()| report)
}

/// One file, and where its copy goes below the folder.
pub(crate) struct Copy<'a> {
    pub(crate) entry: &'a FileEntry,
    pub(crate) below: StorePath,
}

/// A checkpoint as a folder of its own: what the folder's `_metadata` says, and what is copied for it.
pub(crate) struct StandAlone<'a> {
    pub(crate) metadata: CheckpointMetadata,
    pub(crate) copies: Vec<Copy<'a>>,
}

/// Refuses a place in a job's folder, where a checkpoint that stands on its own would be taken for an orphan.
pub(crate) fn refuse_job_folder(folder: &StorePath) -> Result<()> {
    if folder.as_str().starts_with("job-") {
        return Err(Error::invalid(EXPORT, "the folder lies in a job's, where retention rules")
            .with_object(folder)
            .with_advice("name a folder that does not begin with `job-`"));
    }
    Ok(())
}

async fn refuse_folder(target: &StoreRef, folder: Option<&StorePath>) -> Result<()> {
    if let Some(folder) = folder {
        refuse_job_folder(folder)?;
    }
    if target.list_children(folder).await?.is_empty() {
        return Ok(());
    }
    let object = folder.map_or_else(|| target.describe(), ToString::to_string);
    Err(Error::new(ErrorKind::AlreadyExists, EXPORT, "the target folder is not empty")
        .with_object(object)
        .with_advice("name a folder that does not exist yet; nothing was changed"))
}

/// # Errors
/// [`ErrorKind::Corrupt`] if two files of the checkpoint would lie at one place.
pub(crate) fn stand_alone(checkpoint: &Checkpoint) -> Result<StandAlone<'_>> {
    let mut metadata = (*checkpoint.metadata).clone();
    metadata.kind = CheckpointKind::Savepoint;
    let mut copies = Vec::new();
    let mut places = BTreeSet::new();
    for (operator, original) in metadata.operators.iter_mut().zip(&checkpoint.metadata.operators) {
        for (part, original) in operator.subtasks.iter_mut().zip(&original.subtasks) {
            for (file, entry) in part.files.iter_mut().zip(&original.files) {
                let below = own_place(&operator.operator, part.index, file)?;
                if !places.insert(below.clone()) {
                    return Err(Error::corrupt(EXPORT, &below, "two files would lie there"));
                }
                file.location = Location::InCheckpoint(below.clone());
                file.offset_bytes = 0;
                file.stored_size_bytes = file.size_bytes;
                file.encoding = Encoding::Plain;
                copies.push(Copy { entry, below });
            }
        }
    }
    Ok(StandAlone { metadata, copies })
}

/// Where a checkpoint's own file lies below its folder, in a job's as in one that stands alone: key groups of
/// full checkpoints have folders of their own below the operator's, whichever subtask wrote them; all else
/// lies below the subtask's.
pub(crate) fn own_place(operator: &OperatorId, index: u32, file: &FileEntry) -> Result<StorePath> {
    if file.key_groups.is_some() && is_in_key_group_folder(&file.local_name) {
        return StorePath::new(format!("{}/{}", operator_folder(operator), file.local_name));
    }
    let subtask = SubtaskName { operator: operator.clone(), index };
    StorePath::new(format!("{}/{}", subtask_folder(&subtask), file.local_name))
}

/// Whether a name begins with a folder as [`key_group_folder`] names it: no other would be known in a job's folder.
fn is_in_key_group_folder(name: &StorePath) -> bool {
    let folder = name.as_str().split_once('/').map(|(folder, _)| folder);
    let group = folder.and_then(|folder| folder.strip_prefix("keygroup-")).and_then(|number| number.parse().ok());
    group.is_some_and(|group| Some(key_group_folder(group).as_str()) == folder)
}

fn at(folder: Option<&StorePath>, below: &str) -> Result<StorePath> {
    match folder {
        None => StorePath::new(below),
        Some(folder) => folder.join(below),
    }
}

/// Also tells what this call put into the folder, or may have: nothing else is its to remove.
async fn copy_all(
    env: &Env,
    checkpoint: &Checkpoint,
    target: &StoreRef,
    folder: Option<&StorePath>,
    copies: &[Copy<'_>],
    limits: TransferLimits,
    progress: &dyn Progress,
) -> (Vec<StorePath>, Result<()>) {
    progress.expect(copies.len() as u64, total_bytes(copies.iter().map(|copy| copy.entry.size_bytes)));
    let failed = AtomicBool::new(false);
    let failed = &failed;
    let mut outcomes = stream::iter(copies)
        .map(|copy| async move {
            if failed.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let (file, place) = (checkpoint.stored_file(copy.entry)?, at(folder, copy.below.as_str())?);
            match copy_object(&*checkpoint.store, env, &file, &**target, &place, progress).await {
                Ok(()) => Ok(Some((place, None))),
                Err(FailedCopy { error, may_exist: true, .. }) => Ok(Some((place, Some(error)))),
                Err(FailedCopy { error, may_exist: false, .. }) => Err(error),
            }
        })
        .buffer_unordered(limits.parallelism.max(1));
    // What has begun is waited for even after an error: a copy that is merely dropped may still
    // appear, after all others were removed.
    let (mut made, mut first_error) = (Vec::new(), None);
    while let Some(outcome) = outcomes.next().await {
        let error = match outcome {
            Ok(None) => None,
            Ok(Some((place, error))) => {
                made.push(place);
                error
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            failed.store(true, Ordering::Relaxed);
            first_error.get_or_insert(error);
        }
    }
    (made, first_error.map_or(Ok(()), Err))
}

async fn put_index(
    target: &StoreRef,
    folder: Option<&StorePath>,
    metadata: Bytes,
    made: &mut Vec<StorePath>,
) -> Result<()> {
    let index = at(folder, METADATA_NAME)?;
    let written = target.put(&index, metadata).await;
    if written.as_ref().is_err_and(|error| error.kind() != ErrorKind::AlreadyExists) {
        // It may have landed all the same, and goes first.
        made.insert(0, index);
    }
    written
}

async fn remove(target: &StoreRef, made: &[StorePath]) {
    let failed = target.delete(made).await.into_iter().filter_map(Result::err).next();
    if let Some(error) = failed {
        tracing::warn!(%error, "could not remove all of an unfinished export");
    }
}
