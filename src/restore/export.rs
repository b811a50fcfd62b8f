//! A checkpoint as a folder that stands on its own: a savepoint made from what is stored already.
//!
//! Every file is copied beside a `_metadata` of its own, which is written last, when all the rest is
//! durable and every hash was proven: whoever finds it finds a whole checkpoint. Nothing in it names
//! the job's folder, so it restores wherever it is moved, and no retention ever touches it.
//!
//! A copy that fails with an error that may pass is made again under another name, as uploads are (K2): the first
//! one may land at any time. The index says where each file lies. Only the index itself has one name and one attempt: if its
//! write is answered with an error, the export has failed.
//!
//! **One export a folder.** Names are the same in every export of a checkpoint, and some stores write over what is there.
//! So an export first leaves a mark of its own in the folder, and goes on only if a look after that finds nothing else:
//! of two, the later look sees both marks. Both may give up; never do both go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::stream::StreamExt;

use super::checkpoint::Checkpoint;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{
    METADATA_NAME, OperatorId, SubtaskName, Uid, key_group_folder, operator_folder, place_anew, subtask_folder,
};
use crate::metadata::{self, CheckpointKind, CheckpointMetadata, Encoding, FileEntry, Location, total_bytes};
use crate::store::{Retries, RetryPolicy, StorePath, StoreRef};
use crate::transfer::{FailedCopy, Progress, TransferLimits, copy_object};

const EXPORT: &str = "export a checkpoint";
/// What the name of an export's mark begins with.
const MARK_PREFIX: &str = "exporting-";
/// For people who find it.
const MARK_TEXT: &[u8] = b"icecore exports a checkpoint into this folder, or crashed while it did.\n";

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
    refuse_folder(target, folder, None).await?;
    let StandAlone { metadata, copies } = stand_alone(checkpoint)?;
    // Before anything is copied, so that what cannot be written is told at once.
    let metadata_bytes = encode(env, metadata.clone()).await?;
    let mark = occupy(env, target, folder).await?;
    let report = ExportReport {
        files: copies.len() as u64,
        bytes: total_bytes(copies.iter().map(|copy| copy.entry.size_bytes).chain([metadata_bytes.len() as u64])),
    };
    let (mut copied, mut outcome) = copy_all(env, checkpoint, target, folder, &copies, limits, progress).await;
    if outcome.is_ok() {
        let index = match copied.moved.is_empty() {
            true => Ok(metadata_bytes),
            false => encode(env, with_places(metadata, &copied.moved)).await,
        };
        outcome = match index {
            Ok(index) => put_index(target, folder, index, &mut copied.made).await,
            Err(error) => Err(error),
        };
    }
    remove(target, if outcome.is_err() { &copied.made } else { &copied.spent }).await;
    // Last: until the rest is gone the folder is nobody else's.
    remove(target, &[mark]).await;
    outcome.map(|()| report)
}

async fn encode(env: &Env, metadata: CheckpointMetadata) -> Result<Bytes> {
    Ok(Bytes::from(env.blocking(move || metadata::encode(&metadata)).await??))
}

/// The index of files that do not all lie where they were planned to.
fn with_places(mut metadata: CheckpointMetadata, moved: &BTreeMap<StorePath, StorePath>) -> CheckpointMetadata {
    let parts = metadata.operators.iter_mut().flat_map(|operator| &mut operator.subtasks);
    for file in parts.flat_map(|part| &mut part.files) {
        if let Location::InCheckpoint(place) = &mut file.location
            && let Some(moved) = moved.get(place)
        {
            place.clone_from(moved);
        }
    }
    metadata
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

/// Leaves a mark in the folder, and makes sure that nobody else did or does.
async fn occupy(env: &Env, target: &StoreRef, folder: Option<&StorePath>) -> Result<StorePath> {
    let name = format!("{MARK_PREFIX}{}", Uid::random(&*env.randomness));
    let mark = at(folder, &name)?;
    let occupied = match target.put(&mark, Bytes::from_static(MARK_TEXT)).await {
        Ok(()) => refuse_folder(target, folder, Some(&name)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = occupied {
        remove(target, &[mark]).await;
        return Err(error);
    }
    Ok(mark)
}

/// Refuses a folder with anything in it but `own`.
async fn refuse_folder(target: &StoreRef, folder: Option<&StorePath>, own: Option<&str>) -> Result<()> {
    if let Some(folder) = folder {
        refuse_job_folder(folder)?;
    }
    let children = target.list_children(folder).await?;
    let others: Vec<&str> = children.iter().map(|child| &*child.name).filter(|name| Some(*name) != own).collect();
    if others.is_empty() {
        return Ok(());
    }
    let object = folder.map_or_else(|| target.describe(), ToString::to_string);
    if others.iter().all(|name| name.starts_with(MARK_PREFIX)) {
        return Err(Error::new(ErrorKind::AlreadyExists, EXPORT, "another export into the target folder is under way")
            .with_object(object)
            .with_advice("name another folder; if an export crashed there, remove what it left"));
    }
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

/// What was copied, and where to.
#[derive(Default)]
struct Copied {
    /// What this call put into the folder, or may have: nothing else is its to remove.
    made: Vec<StorePath>,
    /// Those of them that failed, and may be there all the same.
    spent: Vec<StorePath>,
    /// Where files lie below the folder that do not lie where they were planned to.
    moved: BTreeMap<StorePath, StorePath>,
}

async fn copy_all(
    env: &Env,
    checkpoint: &Checkpoint,
    target: &StoreRef,
    folder: Option<&StorePath>,
    copies: &[Copy<'_>],
    limits: TransferLimits,
    progress: &dyn Progress,
) -> (Copied, Result<()>) {
    progress.expect(copies.len() as u64, total_bytes(copies.iter().map(|copy| copy.entry.size_bytes)));
    let exporter = Exporter {
        env,
        checkpoint,
        target,
        folder,
        progress,
        retries: Retries::new(RetryPolicy::OBJECTS, env.clone()),
        has_failed: AtomicBool::new(false),
    };
    let exporter = &exporter;
    let copy_one = |copy| async move { (copy, exporter.copy_one(copy).await) };
    let mut outcomes = limits.run(copies, |copy| Some(copy.entry.size_bytes), copy_one);
    // What has begun is waited for even after an error: a copy that is merely dropped may still
    // appear, after all others were removed.
    let (mut copied, mut first_error) = (Copied::default(), None);
    while let Some((copy, (spent, outcome))) = outcomes.next().await {
        copied.made.extend(spent.iter().cloned());
        copied.spent.extend(spent);
        match outcome {
            Ok(None) => {}
            Ok(Some((place, below))) => {
                copied.made.push(place);
                if below != copy.below {
                    copied.moved.insert(copy.below.clone(), below);
                }
            }
            Err(error) => {
                exporter.has_failed.store(true, Ordering::Relaxed);
                first_error.get_or_insert(error);
            }
        }
    }
    drop(outcomes);
    (copied, first_error.map_or(Ok(()), Err))
}

struct Exporter<'a> {
    env: &'a Env,
    checkpoint: &'a Checkpoint,
    target: &'a StoreRef,
    folder: Option<&'a StorePath>,
    progress: &'a dyn Progress,
    retries: Retries,
    /// Nothing is begun any more.
    has_failed: AtomicBool,
}

impl Exporter<'_> {
    /// Attempt after attempt: those that failed and may have landed, and where the last one lies, in the store and
    /// below the folder. `None` if it was not begun.
    async fn copy_one(&self, copy: &Copy<'_>) -> (Vec<StorePath>, Result<Option<(StorePath, StorePath)>>) {
        let mut spent = Vec::new();
        let outcome = self.try_to_copy(copy, &mut spent).await;
        (spent, outcome)
    }

    async fn try_to_copy(&self, copy: &Copy<'_>, spent: &mut Vec<StorePath>) -> Result<Option<(StorePath, StorePath)>> {
        let file = self.checkpoint.stored_file(copy.entry)?;
        let (from, to) = (&*self.checkpoint.store, &**self.target);
        let mut below = copy.below.clone();
        let mut backoff = self.retries.begin();
        while !self.has_failed.load(Ordering::Relaxed) {
            let place = at(self.folder, below.as_str())?;
            let FailedCopy { error, may_exist, .. } =
                match copy_object(from, self.env, &file, to, &place, self.progress).await {
                    Ok(()) => return Ok(Some((place, below))),
                    Err(failed) => failed,
                };
            if may_exist {
                spent.push(place);
            }
            backoff.after(error).await?;
            below = place_anew(&copy.below, Uid::random(&*self.env.randomness))?;
        }
        Ok(None)
    }
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
    if made.is_empty() {
        return;
    }
    let failed = target.delete(made).await.into_iter().filter_map(Result::err).next();
    if let Some(error) = failed {
        tracing::warn!(%error, "could not remove all that failed copies may have left");
    }
}
