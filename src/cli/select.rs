//! Which checkpoint is meant: a number, a folder's name, `latest`, or an exported one by its path.

use std::path::Path;
use std::sync::Arc;

use super::place::{Job, Place, folder_address, options};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId};
use crate::metadata::{CheckpointKind, CheckpointMetadata};
use crate::ownership::{CheckpointView, JobView, NotCounting, Unreadable};
use crate::restore::{Checkpoint, read_checkpoint};

/// The checkpoint that `text` names, if it counts.
///
/// # Errors
/// [`ErrorKind::NotFound`] if it does not, with the reason; [`ErrorKind::InvalidInput`] if the text
/// is no name of one.
pub(super) fn find<'a>(view: &'a JobView, text: &str) -> Result<&'a CheckpointView> {
    let found = match parse(text)? {
        Named::Latest => view.newest(),
        Named::Number(number) => view.checkpoint(number),
        Named::Folder(folder) => view.checkpoints.get(&folder),
    };
    match found {
        Some(found) => Ok(found),
        None => {
            refuse_unknown(view)?;
            Err(not_found(view, text))
        }
    }
}

/// Refuses to take for an empty job one of which nobody can tell what counts.
///
/// # Errors
/// [`ErrorKind::Blocked`] if the newest start cannot be read, naming it.
pub(super) fn refuse_unknown(view: &JobView) -> Result<()> {
    match (&view.start, view.blocks_everything()) {
        (None, Some(blocker)) => {
            let message = format!("it says which do, and cannot be read: {}", blocker.reason);
            Err(Error::new(ErrorKind::Blocked, "tell which checkpoints count", message)
                .with_object(&blocker.object)
                .with_advice(
                    "put back a sound copy of it; `icecore list --all` names the folders, \
                    of which `restore` and `export` take one by its full name",
                ))
        }
        _ => Ok(()),
    }
}

/// A checkpoint of which nobody can tell whether it counts, named in full: a person may know. `None`
/// for any other.
///
/// # Errors
/// As [`read_checkpoint`]; [`ErrorKind::Corrupt`] if it says that it is another.
pub(super) async fn open_unknown(place: &Place, job: &Job, view: &JobView, text: &str) -> Result<Option<Checkpoint>> {
    let Named::Folder(folder) = parse(text)? else { return Ok(None) };
    if view.uncounted.get(&folder).is_none_or(|uncounted| uncounted.why != NotCounting::Unknown) {
        return Ok(None);
    }
    let checkpoint = read_checkpoint(job.store.clone(), Some(job.layout.checkpoint(folder)?)).await?;
    if checkpoint.metadata.folder() != folder || checkpoint.metadata.job != *job.layout.job() {
        let message = format!("it says that it is {}", checkpoint.describe());
        return Err(Error::corrupt("read a checkpoint", job.layout.metadata(folder)?, message));
    }
    place.output.note(&format!("warning: nobody can tell whether {folder} counts: {}", why_not(NotCounting::Unknown)));
    Ok(Some(checkpoint))
}

/// The folder that `text` names, which counts.
///
/// # Errors
/// As [`find`].
pub(super) fn find_folder(view: &JobView, text: &str) -> Result<CheckpointFolder> {
    find(view, text).map(|checkpoint| checkpoint.folder)
}

/// A checkpoint of the job, ready to be read.
///
/// # Errors
/// The reason why its `_metadata` cannot be read.
pub(super) fn open(job: &Job, checkpoint: &CheckpointView) -> Result<Checkpoint> {
    let metadata = content(job, checkpoint)?;
    let folder = Some(job.layout.checkpoint(checkpoint.folder)?);
    Ok(Checkpoint { store: job.store.clone(), folder, metadata })
}

/// What a checkpoint's `_metadata` says.
///
/// # Errors
/// The reason why it cannot be read.
pub(super) fn content(job: &Job, checkpoint: &CheckpointView) -> Result<Arc<CheckpointMetadata>> {
    match &checkpoint.content {
        Ok(metadata) => Ok(metadata.clone()),
        Err(Unreadable { kind, reason }) => Err(Error::new(*kind, "read a checkpoint", reason.clone())
            .with_object(job.layout.metadata(checkpoint.folder)?)
            .with_advice("take another checkpoint; `icecore list` shows them")),
    }
}

/// The exported checkpoint in a folder of this machine, or on a remote store, with the options of that.
///
/// # Errors
/// As [`Place::open`] and [`read_checkpoint`].
pub(super) async fn open_exported(place: &Place, folder: &Path, from_option: &[String]) -> Result<Checkpoint> {
    let store = place.open(&folder_address(folder)?, &options(None, from_option)?).await?;
    read_checkpoint(store, None).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "open an exported checkpoint", "it has no `_metadata`")
            .with_object(folder.display())
            .with_advice("name the folder that `icecore export` made"),
        _ => error,
    })
}

/// A kind's name, in tables and JSON.
pub(super) fn kind_name(kind: CheckpointKind) -> &'static str {
    match kind {
        CheckpointKind::Full => "full",
        CheckpointKind::Incremental => "incremental",
        CheckpointKind::Savepoint => "savepoint",
    }
}

/// Why a checkpoint does not count, in words.
pub(super) fn why_not(why: NotCounting) -> &'static str {
    match why {
        NotCounting::NoMetadata => "it has no `_metadata`: unfinished, aborted, or partly deleted",
        NotCounting::Condemned => "it is being deleted",
        NotCounting::NotAdopted => "the job's owner did not adopt it",
        NotCounting::NewerEpoch => "a newer owner wrote it that has not started yet",
        NotCounting::Unknown => "what the job's owner adopted cannot be read",
    }
}

enum Named {
    Latest,
    Number(CheckpointId),
    Folder(CheckpointFolder),
}

fn parse(text: &str) -> Result<Named> {
    if text == "latest" {
        return Ok(Named::Latest);
    }
    if let Ok(number) = text.strip_prefix("cp-").unwrap_or(text).parse() {
        return Ok(Named::Number(CheckpointId(number)));
    }
    text.parse().map(Named::Folder).map_err(|_| {
        Error::invalid("choose a checkpoint", "it names no checkpoint")
            .with_object(text.escape_debug())
            .with_advice("give a number, a folder's name such as cp-7.1-0123456789abcdef, or `latest`")
    })
}

fn not_found(view: &JobView, text: &str) -> Error {
    let names_it = |folder: &&CheckpointFolder| match parse(text) {
        Ok(Named::Number(number)) => folder.checkpoint == number,
        Ok(Named::Folder(named)) => **folder == named,
        _ => false,
    };
    let why = view.uncounted.iter().rev().find(|(folder, _)| names_it(folder)).map(|(_, gone)| why_not(gone.why));
    let message = match why {
        Some(why) => format!("it does not count: {why}"),
        None if view.checkpoints.is_empty() => "the job has no checkpoint that counts".to_owned(),
        None => "the job has no such checkpoint".to_owned(),
    };
    Error::new(ErrorKind::NotFound, "choose a checkpoint", message)
        .with_object(format!("{text} of job {}", view.layout.job()))
        .with_advice("`icecore list --all` shows what there is")
}
