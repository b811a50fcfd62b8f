//! `restore`: one subtask's folder, verified, whole or not at all.
//!
//! A damaged checkpoint is refused with the names of the damaged files and the newest sound older
//! checkpoint, which takes a look at every byte of the candidates; `--fall-back` restores that one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::args::RestoreArgs;
use super::output::Done;
use super::place::{Job, Place};
use super::progress::Bar;
use super::select::{find, open, open_exported, open_unknown};
use super::text::{count, size};
use super::verify::is_damage;
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{OperatorState, SubtaskState};
use crate::ownership::{CheckpointView, JobView};
use crate::restore::{Checkpoint, FetchOptions, FetchReport, refuse_content, restore_folder, verify_checkpoint};
use crate::transfer::{NoProgress, TransferLimits};

#[derive(Debug, Serialize)]
struct Report {
    job: String,
    checkpoint: u64,
    folder: String,
    operator: String,
    subtask: u32,
    target: String,
    fetched_files: u64,
    fetched_bytes: u64,
    linked_files: u64,
    /// The damaged checkpoint that was asked for, if an older one was taken.
    fell_back_from: Option<u64>,
    /// What was wrong with that.
    damage: Option<String>,
}

pub(super) async fn run(place: &Place, args: RestoreArgs) -> Result<Done> {
    let (checkpoint, target) = split(&args)?;
    // Before any byte is fetched. The restore itself looks again.
    refuse_content(target)?;
    match (&args.from, checkpoint) {
        (Some(folder), None) => {
            let checkpoint = open_exported(place, folder, &args.from_option).await?;
            let done = restore(place, &args, &checkpoint, target).await?;
            report(&args, &checkpoint, target, done, None)
        }
        (None, Some(text)) => {
            let (job, view) = place.view().await?;
            if let Some(checkpoint) = open_unknown(place, &job, &view, text).await? {
                let done = restore(place, &args, &checkpoint, target).await?;
                return report(&args, &checkpoint, target, done, None);
            }
            let wanted = find(&view, text)?;
            let outcome = match open(&job, wanted) {
                Ok(checkpoint) => restore(place, &args, &checkpoint, target).await.map(|done| (checkpoint, done)),
                Err(error) => Err(error),
            };
            match outcome {
                Ok((checkpoint, done)) => report(&args, &checkpoint, target, done, None),
                Err(error) if tells_of_damage(&error) && args.fall_back => {
                    fall_back(place, &args, (&job, &view, wanted), target, error).await
                }
                Err(error) if tells_of_damage(&error) => {
                    Err(with_newest_sound(place, &job, &view, wanted, error).await)
                }
                Err(error) => Err(error),
            }
        }
        (Some(_), Some(_)) => Err(usage("with --from only TARGET is given")),
        (None, None) => Err(usage("CHECKPOINT and TARGET are needed")),
    }
}

fn usage(message: &str) -> Error {
    Error::invalid("restore", message)
        .with_advice("icecore restore CHECKPOINT TARGET, or icecore restore --from FOLDER TARGET")
}

fn split(args: &RestoreArgs) -> Result<(Option<&str>, &Path)> {
    match args.what.as_slice() {
        [target] => Ok((None, target)),
        [checkpoint, target] => {
            let text = checkpoint.to_str().ok_or_else(|| usage("CHECKPOINT is not UTF-8"))?;
            Ok((Some(text), target))
        }
        _ => Err(usage("CHECKPOINT and TARGET are needed")),
    }
}

/// An error about what is stored, not about the arguments or the target.
fn tells_of_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::LimitExceeded)
}

async fn restore(place: &Place, args: &RestoreArgs, checkpoint: &Checkpoint, target: &Path) -> Result<FetchReport> {
    let (_, part) = choose(checkpoint, args)?;
    let bar = Arc::new(Bar::new(place.output, "restore"));
    let options =
        FetchOptions { progress: bar.clone(), local_folders: args.link_from.clone(), ..FetchOptions::default() };
    let done = restore_folder(&place.env, checkpoint, &part.files, target, &options).await;
    bar.finish();
    done
}

/// The operator and the subtask that are meant.
fn choose<'a>(checkpoint: &'a Checkpoint, args: &RestoreArgs) -> Result<(&'a OperatorState, &'a SubtaskState)> {
    let operators = &checkpoint.metadata.operators;
    let names = || operators.iter().map(|operator| operator.operator.as_str()).collect::<Vec<_>>().join(", ");
    let operator = match (&args.operator, operators.as_slice()) {
        (Some(id), _) => operators.iter().find(|operator| operator.operator.as_str() == id).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "restore", "the checkpoint has no such operator")
                .with_object(id.escape_debug())
                .with_advice(format!("it has: {}", names()))
        })?,
        (None, [only]) => only,
        (None, several) => {
            let message = format!("the checkpoint has {}", count(several.len() as u64, "operator"));
            return Err(Error::invalid("restore", message).with_advice(format!("give --operator: {}", names())));
        }
    };
    let part = match (args.subtask, operator.subtasks.as_slice()) {
        (Some(index), parts) => parts.iter().find(|part| part.index == index).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "restore", format!("operator {} has no such subtask", operator.operator))
                .with_object(index)
                .with_advice(format!("it has {}, counted from 0", count(parts.len() as u64, "subtask")))
        })?,
        (None, [only]) => only,
        (None, parts) => {
            let message = format!("operator {} has {}", operator.operator, count(parts.len() as u64, "subtask"));
            return Err(Error::invalid("restore", message).with_advice("give --subtask INDEX"));
        }
    };
    Ok((operator, part))
}

/// Checkpoints older than `than`, newest first.
fn older<'a>(view: &'a JobView, than: &CheckpointView) -> impl Iterator<Item = &'a CheckpointView> {
    let than = than.folder;
    view.checkpoints.range(..than).rev().map(|(_, checkpoint)| checkpoint)
}

async fn fall_back(
    place: &Place,
    args: &RestoreArgs,
    (job, view, wanted): (&Job, &JobView, &CheckpointView),
    target: &Path,
    error: Error,
) -> Result<Done> {
    place.output.note(&format!("checkpoint {} is damaged: {error}", wanted.folder.checkpoint));
    for candidate in older(view, wanted) {
        let number = candidate.folder.checkpoint;
        let outcome = match open(job, candidate) {
            Ok(checkpoint) => restore(place, args, &checkpoint, target).await.map(|done| (checkpoint, done)),
            Err(error) => Err(error),
        };
        match outcome {
            Ok((checkpoint, done)) => {
                place.output.note(&format!("restored the older checkpoint {number} instead"));
                return report(args, &checkpoint, target, done, Some((wanted, &error)));
            }
            Err(error) if tells_of_damage(&error) => {
                place.output.note(&format!("checkpoint {number} is damaged, too: {error}"));
            }
            Err(error) => return Err(error),
        }
    }
    Err(error.with_advice("no older checkpoint is sound, either"))
}

/// The error, with the checkpoint to take instead.
async fn with_newest_sound(place: &Place, job: &Job, view: &JobView, wanted: &CheckpointView, error: Error) -> Error {
    let advice = match newest_sound(place, job, view, wanted).await {
        Ok(Some(sound)) => {
            format!("the newest sound older checkpoint is {sound}: restore that, or give --fall-back")
        }
        Ok(None) => "no older checkpoint is sound".to_owned(),
        Err(search) => format!("looking for a sound one failed, too: {search}"),
    };
    // Not the innermost advice but this one: it knows which checkpoint is sound.
    let kind = error.kind();
    let mut told = Error::new(kind, error.operation(), error.message()).with_advice(advice);
    if let Some(object) = error.object() {
        told = told.with_object(object);
    }
    told.with_source(error)
}

async fn newest_sound(
    place: &Place,
    job: &Job,
    view: &JobView,
    wanted: &CheckpointView,
) -> Result<Option<crate::layout::CheckpointId>> {
    for candidate in older(view, wanted) {
        let checkpoint = match open(job, candidate) {
            Ok(checkpoint) => checkpoint,
            Err(error) if is_damage(&error) => continue,
            Err(error) => return Err(error),
        };
        let report = verify_checkpoint(&place.env, &checkpoint, true, TransferLimits::default(), &NoProgress).await?;
        if report.is_sound() {
            return Ok(Some(candidate.folder.checkpoint));
        }
    }
    Ok(None)
}

fn report(
    args: &RestoreArgs,
    checkpoint: &Checkpoint,
    target: &Path,
    done: FetchReport,
    fell_back: Option<(&CheckpointView, &Error)>,
) -> Result<Done> {
    let (operator, part) = choose(checkpoint, args)?;
    let report = Report {
        job: checkpoint.metadata.job.to_string(),
        checkpoint: checkpoint.metadata.checkpoint.0,
        folder: checkpoint.metadata.folder().to_string(),
        operator: operator.operator.to_string(),
        subtask: part.index,
        target: PathBuf::from(target).display().to_string(),
        fetched_files: done.fetched_files,
        fetched_bytes: done.fetched_bytes,
        linked_files: done.linked_files,
        fell_back_from: fell_back.map(|(wanted, _)| wanted.folder.checkpoint.0),
        damage: fell_back.map(|(_, error)| error.to_string()),
    };
    let (files, bytes) = (count(done.fetched_files, "file"), size(done.fetched_bytes));
    let linked =
        if done.linked_files > 0 { format!(", {} linked", count(done.linked_files, "file")) } else { String::new() };
    let Report { checkpoint, operator, subtask, target, .. } = &report;
    let mut text =
        format!("restored {operator}/{subtask} of checkpoint {checkpoint} to {target}: {files}, {bytes}{linked}");
    if let Some(wanted) = report.fell_back_from {
        text += &format!(" (checkpoint {wanted} is damaged)");
    }
    Done::new(text, &report)
}
