//! `snapshot FOLDER`: an incremental checkpoint of any RocksDB folder, by one short tenure.
//!
//! The folder's MANIFEST and files are read, no lock is taken, and its program may go on writing: a
//! file that vanishes under the snapshot makes it begin anew with the next checkpoint, which finds
//! what was sent already in the registry. Tables that the newest checkpoint knows by their identity
//! are neither read nor sent.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::args::SnapshotArgs;
use super::output::Done;
use super::owner::{Claimant, claim_when_free, release, serve};
use super::place::{Job, Place};
use super::progress::Bar;
use super::text::{count, duration, size};
use crate::coordinator::{Acknowledged, Coordinator, OperatorDescription};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, OperatorId, SubtaskName};
use crate::metadata::{Backend, CheckpointKind, CheckpointMetadata, FileEntry, FileIdentity};
use crate::ownership::JobView;
use crate::restore::read_checkpoint;
use crate::rocksfolder::{ReadOptions, RocksFolder};
use crate::snapshot::{LocalSnapshot, SnapshotStats, Snapshotter, SnapshotterOptions, SubtaskHandle, Trigger, lies_in};
use crate::task::{FolderOptions, freeze_folder};

const SNAPSHOT: &str = "take a checkpoint";

#[derive(Debug, Serialize)]
struct Report {
    job: String,
    checkpoint: u64,
    folder: String,
    operator: String,
    /// How often the snapshot was begun.
    attempts: u32,
    files: u64,
    hashed_files: u64,
    uploaded_files: u64,
    uploaded_bytes: u64,
    shared_bytes: u64,
    freeze_us: u64,
    upload_us: u64,
    /// Checkpoints that `--keep-*` dropped.
    dropped: Vec<u64>,
}

pub(super) async fn run(place: &Place, args: SnapshotArgs) -> Result<Done> {
    let job = place.new_job().await?;
    let operator = OperatorId::new(&args.operator)?;
    let retention = args.keep.policy();
    if let Some(policy) = &retention {
        policy.check()?;
    }
    // Whatever is wrong with the folder is told before the job is claimed.
    let source = args.folder.clone();
    place.env.blocking(move || RocksFolder::read_with(source, quick())).await?.map_err(helped)?;
    refuse_other_job(&JobView::read(&*job.store, &job.layout).await?, &operator)?;
    let description = OperatorDescription { operator: operator.clone(), parallelism: 1, max_parallelism: 1 };
    let claimant = Claimant { operators: vec![description], retention, tolerable_failures: args.attempts };
    let coordinator = claim_when_free(place, &job, args.owner, claimant).await?;
    let before: Vec<CheckpointFolder> = coordinator.completed().iter().map(|done| done.folder).collect();
    let outcome = take(place, &job, &coordinator, &operator, &args).await;
    release(&coordinator).await;
    let (folder, stats, attempts) = outcome?;
    let kept: HashSet<CheckpointFolder> = coordinator.completed().iter().map(|done| done.folder).collect();
    let report = Report {
        job: job.layout.job().to_string(),
        checkpoint: folder.checkpoint.0,
        folder: folder.to_string(),
        operator: operator.to_string(),
        attempts,
        files: stats.files,
        hashed_files: stats.hashed_files,
        uploaded_files: stats.uploaded_files,
        uploaded_bytes: stats.uploaded_bytes,
        shared_bytes: stats.shared_bytes,
        freeze_us: stats.sync_us,
        upload_us: stats.async_us,
        dropped: before.iter().filter(|folder| !kept.contains(folder)).map(|folder| folder.checkpoint.0).collect(),
    };
    Done::new(text(&report), &report)
}

fn quick() -> ReadOptions<'static> {
    ReadOptions { is_known: Some(&|_| true), ..ReadOptions::default() }
}

fn helped(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Corrupt => error.with_advice("the database itself is damaged; nothing was stored"),
        _ => error,
    }
}

/// A job is one thing: the state of a job that others checkpoint must not be replaced by a folder's.
fn refuse_other_job(view: &JobView, operator: &OperatorId) -> Result<()> {
    let readable = view.checkpoints.values().rev().filter_map(|checkpoint| checkpoint.content.as_deref().ok());
    let Some(newest) = readable.into_iter().find(|metadata| metadata.kind == CheckpointKind::Incremental) else {
        return Ok(());
    };
    let is_same = match newest.operators.as_slice() {
        [only] => only.operator == *operator && only.subtasks.iter().all(|part| part.backend == Backend::RocksDbFolder),
        _ => false,
    };
    if is_same {
        return Ok(());
    }
    let names: Vec<&str> = newest.operators.iter().map(|operator| operator.operator.as_str()).collect();
    let message = format!("its checkpoint {} is of something else: operator {}", newest.checkpoint, names.join(", "));
    Err(Error::invalid(SNAPSHOT, message)
        .with_object(format!("job {}", view.layout.job()))
        .with_advice("give each database a --job of its own"))
}

/// Attempt after attempt, until the folder holds still long enough.
async fn take(
    place: &Place,
    job: &Job,
    coordinator: &Coordinator,
    operator: &OperatorId,
    args: &SnapshotArgs,
) -> Result<(CheckpointFolder, SnapshotStats, u32)> {
    let subtask = SubtaskName { operator: operator.clone(), index: 0 };
    let mut attempt = 1;
    loop {
        let trigger = coordinator.trigger(CheckpointKind::Incremental)?;
        let uploaded = tokio::select! {
            biased;
            // Once all is uploaded the commit takes a moment and is not interrupted.
            uploaded = upload(place, job, coordinator, &subtask, args, &trigger) => uploaded,
            over = serve(place, coordinator) => Err(over),
            () = place.signals.received() => Err(place.signals.error(
                "no checkpoint was taken and none was lost; `icecore gc` removes what was uploaded",
            )),
        };
        let error = match uploaded {
            Ok(handle) => match commit(coordinator, handle, attempt).await {
                Err(error) if error.kind() == ErrorKind::Changed => error,
                done => return done,
            },
            Err(error) => error,
        };
        let was_in_flight = coordinator.abort(trigger.checkpoint, error.message());
        // Given up under the upload, by a request that told of damage: the next attempt stores that anew.
        let is_given_up = !was_in_flight && coordinator.over().is_none() && !place.signals.has_come();
        if error.kind() != ErrorKind::Changed && !is_given_up {
            return Err(helped(error));
        }
        if attempt >= args.attempts {
            return Err(gave_up(error, &args.folder, attempt));
        }
        place.output.note(&format!("beginning anew: {}", error.message()));
        attempt += 1;
    }
}

fn gave_up(error: Error, folder: &Path, attempts: u32) -> Error {
    let message =
        format!("something changed at each of {}: {}", count(u64::from(attempts), "attempt"), error.message());
    Error::new(ErrorKind::Changed, SNAPSHOT, message)
        .with_object(folder.display())
        .with_advice(
            "give --staging a folder on the database's file system, more --attempts, or a checkpoint made by RocksDB",
        )
        .with_source(error)
}

async fn commit(
    coordinator: &Coordinator,
    handle: SubtaskHandle,
    attempts: u32,
) -> Result<(CheckpointFolder, SnapshotStats, u32)> {
    match coordinator.acknowledge(handle).await? {
        Acknowledged::Complete(folder, stats) => Ok((folder, stats, attempts)),
        Acknowledged::Discarded(why) => Err(Error::new(ErrorKind::Changed, SNAPSHOT, why)),
        Acknowledged::Awaiting(_) => {
            Err(Error::new(ErrorKind::Internal, SNAPSHOT, "the only acknowledgement did not complete the checkpoint"))
        }
    }
}

async fn upload(
    place: &Place,
    job: &Job,
    coordinator: &Coordinator,
    subtask: &SubtaskName,
    args: &SnapshotArgs,
    trigger: &Trigger,
) -> Result<SubtaskHandle> {
    let bar = Arc::new(Bar::new(place.output, "upload"));
    let options = SnapshotterOptions { progress: bar.clone(), ..SnapshotterOptions::default() };
    let env = place.env.clone();
    let snapshotter = Snapshotter::new(subtask.clone(), job.store.clone(), env, coordinator.broker(), options);
    let known = match base_files(job, coordinator, trigger).await {
        Ok(files) => remember(&snapshotter, trigger, subtask, files),
        Err(error) => {
            // It costs time only: all is read, and what is stored is not sent again.
            tracing::warn!(%error, "the newest checkpoint cannot be built on");
            HashSet::new()
        }
    };
    let (folder, staging) = (args.folder.clone(), args.staging.clone().unwrap_or_else(std::env::temp_dir));
    let started = place.env.clock.monotonic();
    let mut frozen = place.env.blocking(move || freeze(&folder, &staging, &known)).await??;
    let elapsed = place.env.clock.monotonic().saturating_sub(started);
    frozen.sync_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let handle = snapshotter.upload(trigger, frozen).await;
    bar.finish();
    handle
}

fn freeze(folder: &Path, staging: &Path, known: &HashSet<FileIdentity>) -> Result<LocalSnapshot> {
    let is_known = |identity: &FileIdentity| known.contains(identity);
    let options = FolderOptions { staging: Some(staging), is_known: Some(&is_known), logs_are_in_folder: false };
    freeze_folder(folder, options)
}

/// The `_metadata` of the checkpoint that the trigger builds on.
async fn base_files(
    job: &Job,
    coordinator: &Coordinator,
    trigger: &Trigger,
) -> Result<Option<Arc<CheckpointMetadata>>> {
    let completed = coordinator.completed();
    let Some(base) = completed.iter().rev().find(|done| Some(done.folder) == trigger.base) else {
        return Ok(None);
    };
    let folder = job.layout.checkpoint(base.folder)?;
    Ok(Some(read_checkpoint(job.store.clone(), Some(folder)).await?.metadata))
}

/// Lets the snapshotter build on the base, and tells which tables that knows: not those that are damaged on
/// the store, which are read again.
fn remember(
    snapshotter: &Snapshotter,
    trigger: &Trigger,
    subtask: &SubtaskName,
    base: Option<Arc<CheckpointMetadata>>,
) -> HashSet<FileIdentity> {
    let Some(base) = base else { return HashSet::new() };
    let operator = base.operators.iter().filter(|operator| operator.operator == subtask.operator);
    let part = operator.flat_map(|operator| &operator.subtasks).find(|part| part.index == subtask.index);
    let files: Vec<FileEntry> = part.map(|part| part.files.clone()).unwrap_or_default();
    let sound = files.iter().filter(|file| !lies_in(file, &trigger.distrusted));
    let known = sound.filter_map(|file| file.identity).collect();
    if trigger.base == Some(base.folder()) {
        snapshotter.remember(base.folder(), files);
    }
    known
}

fn text(report: &Report) -> String {
    let Report { job, checkpoint, .. } = report;
    let (files, sent) = (count(report.files, "file"), count(report.uploaded_files, "file"));
    let (uploaded, shared) = (size(report.uploaded_bytes), size(report.shared_bytes));
    let took = duration(report.freeze_us.saturating_add(report.upload_us));
    let mut text =
        format!("checkpoint {checkpoint} of job {job}: {files}; uploaded {sent}, {uploaded}; shared {shared}; {took}");
    if report.attempts > 1 {
        text += &format!("; {}", count(u64::from(report.attempts), "attempt"));
    }
    if !report.dropped.is_empty() {
        let dropped: Vec<String> = report.dropped.iter().map(ToString::to_string).collect();
        text += &format!("\ndropped checkpoints {}", dropped.join(", "));
    }
    text
}
