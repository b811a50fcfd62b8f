//! How a checkpoint in flight ends: acknowledged and committed, declined, aborted.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;

use super::assemble::{assemble, check_key_groups};
use super::chain::{CompletedCheckpoint, files_of, shared_name};
use super::core::{Acknowledged, Committing, Coordinator};
use super::pending::Pending;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId, METADATA_NAME, SubtaskName};
use crate::metadata::{self, CheckpointKind, CheckpointMetadata, FileEntry, Location};
use crate::ownership::check_locations;
use crate::snapshot::{FileSet, SnapshotStats, SubtaskHandle};
use crate::store::StorePath;

impl Coordinator {
    /// Takes a subtask's acknowledgement. The last one commits the checkpoint, which takes a few
    /// requests to the store, and then drops what retention does not keep.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if the acknowledgement cannot be part of the checkpoint, which is
    /// aborted then; [`crate::ErrorKind::OutcomeUnknown`] or [`crate::ErrorKind::Fenced`] if the commit ended the
    /// tenure: nobody may be told anything, a successor decides. For a savepoint
    /// [`crate::ErrorKind::OutcomeUnknown`] says that it may be there or not, and the tenure goes on.
    /// [`crate::ErrorKind::Changed`] if something that the checkpoint may share was found damaged since it was
    /// triggered: it is given up, and the next one stores that anew.
    /// [`crate::ErrorKind::Internal`] if the registry refuses a complete checkpoint: the tenure is over.
    pub async fn acknowledge(&self, handle: SubtaskHandle) -> Result<Acknowledged> {
        let checkpoint = handle.checkpoint;
        let pending = match self.take_in(handle) {
            Ok(Progress::Done(acknowledged)) => return Ok(acknowledged),
            Ok(Progress::Commit(pending)) => pending,
            Err(error) => {
                self.abort(checkpoint, error.message());
                return Err(error);
            }
        };
        let (folder, stats) = self.complete(pending, None).await?;
        Ok(Acknowledged::Complete(folder, stats))
    }

    /// K3-K5 for a checkpoint that is in `committing` and whose content is all there: that of its parts, or
    /// what was `imported`.
    pub(super) async fn complete(
        &self,
        pending: Box<Pending>,
        imported: Option<CheckpointMetadata>,
    ) -> Result<(CheckpointFolder, SnapshotStats)> {
        // Dropped on the way, this future leaves no checkpoint behind that never ends.
        let mut unfinished = Unfinished {
            coordinator: self,
            pending,
            reason: "its commit was cancelled".into(),
            is_blameless: false,
            may_be_there: false,
        };
        let one_at_a_time = self.commits.lock().await;
        let Unfinished { pending, may_be_there, .. } = &mut unfinished;
        let completed = match self.commit(pending, imported, may_be_there).await {
            Ok(completed) => completed,
            Err(error) => {
                error.message().clone_into(&mut unfinished.reason);
                unfinished.is_blameless = error.kind() == ErrorKind::Changed;
                return Err(error);
            }
        };
        let (folder, stats) = (completed.folder, completed.stats);
        if let Err(error) = self.completed_now(completed) {
            return Err(self.end_unregistered(folder, error).await);
        }
        drop(unfinished);
        drop(one_at_a_time);
        self.retain().await;
        Ok((folder, stats))
    }

    /// The checkpoint is complete on the store and unknown to the registry, which might free what it
    /// references (I1): this tenure must delete nothing more. A successor takes the checkpoint up.
    async fn end_unregistered(&self, folder: CheckpointFolder, error: Error) -> Error {
        tracing::error!(%folder, %error, "the registry refuses a complete checkpoint; the tenure ends");
        self.state.lock().succession.is_broken = true;
        if let Err(other) = self.tenure.end().await {
            tracing::warn!(error = %other, "the end of the tenure could not be written");
        }
        let message = format!("it is complete, but the registry refuses it ({}); the tenure is over", error.message());
        Error::new(ErrorKind::Internal, "register a checkpoint", message)
            .with_object(folder)
            .with_advice("claim the job again: the new tenure takes the checkpoint up")
            .with_source(error)
    }

    /// A subtask cannot take part: the checkpoint is aborted.
    pub fn decline(&self, checkpoint: CheckpointId, subtask: &SubtaskName, reason: &str) -> bool {
        self.abort(checkpoint, &format!("{subtask} declined: {reason}"))
    }

    /// Gives a checkpoint in flight up. Returns whether it was in flight. What it alone created is
    /// deleted by the next collection (I9).
    pub fn abort(&self, checkpoint: CheckpointId, reason: &str) -> bool {
        self.end_early(checkpoint, reason, true)
    }

    /// The same for one that no subtask was told of: it has not failed, and counts as none of the failures that are tolerated.
    pub fn withdraw(&self, checkpoint: CheckpointId, reason: &str) -> bool {
        self.end_early(checkpoint, reason, false)
    }

    fn end_early(&self, checkpoint: CheckpointId, reason: &str, is_failure: bool) -> bool {
        let pending = self.state.lock().pending.remove(&checkpoint);
        pending.inspect(|pending| self.given_up(checkpoint, pending, reason, is_failure)).is_some()
    }

    /// `is_failure`: whether it counts as one of those that are tolerated.
    pub(super) fn given_up(&self, checkpoint: CheckpointId, pending: &Pending, reason: &str, is_failure: bool) {
        self.let_go(checkpoint, pending, is_failure);
        tracing::info!(job = %self.layout.job(), %checkpoint, reason, "checkpoint aborted");
        for listener in &self.listeners {
            listener.aborted(checkpoint, reason);
        }
    }

    /// Frees what a checkpoint that ended held, without a word to anybody.
    fn let_go(&self, checkpoint: CheckpointId, pending: &Pending, is_failure: bool) {
        let unreferenced = self.registry.abort(checkpoint);
        let mut state = self.state.lock();
        let is_savepoint = pending.trigger.kind == CheckpointKind::Savepoint;
        state.leftovers.add((!is_savepoint).then(|| pending.trigger.checkpoint_folder()), unreferenced);
        state.last_end = Some(self.env.clock.monotonic());
        if is_failure && !is_savepoint && !pending.is_import {
            state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
        }
    }

    /// Whether a newer checkpoint is complete: an older one is no failure then, only late.
    fn is_overtaken(&self, checkpoint: CheckpointId) -> bool {
        self.state.lock().completed.keys().next_back().is_some_and(|newest| newest.checkpoint > checkpoint)
    }

    fn take_in(&self, handle: SubtaskHandle) -> Result<Progress> {
        self.tenure.check()?;
        let discarded = |why| Ok(Progress::Done(Acknowledged::Discarded(why)));
        let checkpoint = handle.checkpoint;
        let mut state = self.state.lock();
        if handle.epoch != self.tenure.epoch() || handle.generation != state.generation {
            return discarded("it belongs to another run of the job");
        }
        let Some(pending) = state.pending.get_mut(&checkpoint) else {
            return discarded("no such checkpoint is in flight");
        };
        if !pending.awaits(&handle.subtask) {
            return discarded("this subtask is not awaited");
        }
        pending.acknowledge(handle)?;
        if !pending.is_fully_acknowledged() {
            return Ok(Progress::Done(Acknowledged::Awaiting(pending.awaited())));
        }
        Ok(match state.pending.remove(&checkpoint) {
            Some(pending) => {
                let is_savepoint = pending.trigger.kind == CheckpointKind::Savepoint;
                let folder = (!is_savepoint).then(|| pending.trigger.checkpoint_folder());
                state.committing.insert(checkpoint, Committing { base: pending.trigger.base, folder });
                Progress::Commit(Box::new(pending))
            }
            None => Progress::Done(Acknowledged::Discarded("no such checkpoint is in flight")),
        })
    }

    /// Refuses files that lie where nobody keeps them: the checkpoint could not be restored (I1). From
    /// here until the registration each of them is held, so that no collection condemns it meanwhile.
    fn hold_objects<'a>(
        &self,
        checkpoint: CheckpointId,
        kind: CheckpointKind,
        subtask: impl Display,
        files: impl IntoIterator<Item = &'a FileEntry>,
    ) -> Result<()> {
        for entry in files {
            let Location::InRoot(path) = &entry.location else { continue };
            let refuse = |message: &str| {
                let error = Error::new(ErrorKind::InvalidInput, "acknowledge a checkpoint", message);
                Err(error.with_object(format!("{} of {subtask}", entry.local_name)))
            };
            if kind != CheckpointKind::Incremental {
                return refuse("it lies outside of a checkpoint that stands on its own");
            }
            let Some(name) = shared_name(&self.layout, entry) else {
                if path.below(self.layout.root()).is_some() {
                    return refuse("it lies in the job's folder and is no shared file");
                }
                continue;
            };
            if self.registry.is_distrusted(&name)? {
                return refuse("the object that it lies in is known to be damaged");
            }
            match self.registry.hold(checkpoint, &name)? {
                None => return refuse("nothing holds the object that it lies in"),
                Some(size_bytes) if size_bytes != entry.stored_size_bytes => {
                    return refuse("the object that it lies in has another length");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// What the checkpoint says, and all its files.
    fn content(&self, pending: &Pending, imported: Option<CheckpointMetadata>) -> Result<Content> {
        if let Some(metadata) = imported {
            check_key_groups(&metadata)?;
            for operator in &metadata.operators {
                self.hold_objects(metadata.checkpoint, metadata.kind, &operator.operator, operator.files())?;
            }
            let files = files_of(&metadata, self.state.lock().chain.head());
            return Ok((metadata, files));
        }
        for part in pending.parts.values() {
            let SubtaskHandle { subtask, added, .. } = &part.handle;
            self.hold_objects(pending.trigger.checkpoint, pending.trigger.kind, subtask, added)?;
        }
        let files = pending.parts.iter().map(|(subtask, part)| (subtask.clone(), part.files.clone()));
        Ok((assemble(self.layout.job(), pending)?, files.collect()))
    }

    /// `may_be_there` is set as soon as a savepoint's index may have landed.
    async fn commit(
        &self,
        pending: &Pending,
        imported: Option<CheckpointMetadata>,
        may_be_there: &mut bool,
    ) -> Result<CompletedCheckpoint> {
        if pending.trigger.kind == CheckpointKind::Incremental {
            self.state.lock().check_distrust(pending.distrust_changes)?;
        }
        let (metadata, files) = self.content(pending, imported)?;
        let metadata = Arc::new(metadata);
        let (layout, encoding) = (self.layout.clone(), metadata.clone());
        let encode = move || check_locations(&layout, &encoding).and_then(|()| metadata::encode(&encoding));
        let bytes = Bytes::from(self.env.blocking(encode).await??);
        let (folder, size_bytes) = (metadata.folder(), bytes.len() as u64);
        if pending.trigger.kind == CheckpointKind::Savepoint {
            // It is the user's, so nothing of it may be shared; publish, then look all the same.
            let path = pending.trigger.folder.join(METADATA_NAME)?;
            *may_be_there = true;
            self.store.put(&path, bytes).await.map_err(|error| unknown_savepoint(&path, error))?;
            self.tenure.look().await.map_err(|error| unknown_savepoint(&path, error))?;
        } else {
            self.tenure.commit(folder, bytes).await?;
            // While it is still among those in flight: a sweep that finds it finished finds it here (S2).
            self.counting.note(|view| view.note_committed(metadata.clone(), size_bytes));
        }
        Ok(CompletedCheckpoint {
            folder,
            kind: metadata.kind,
            triggered_at_unix_ms: metadata.triggered_at_unix_ms,
            stats: pending.stats(),
            files,
        })
    }

    /// # Errors
    /// The registry refuses the checkpoint: what this tenure knows of the job is wrong. Nothing is
    /// changed then.
    fn completed_now(&self, completed: CompletedCheckpoint) -> Result<()> {
        let id = completed.folder.checkpoint;
        let (folder, kind) = (completed.folder, completed.kind);
        let mut superseded = Vec::new();
        {
            let mut state = self.state.lock();
            // A savepoint ends nobody, and nobody ends a savepoint.
            if completed.kind != CheckpointKind::Savepoint {
                let older = state.pending.range(..id);
                let older = older.filter(|(_, pending)| pending.trigger.kind != CheckpointKind::Savepoint);
                superseded.extend(older.map(|(older, _)| *older));
            }
            if completed.kind == CheckpointKind::Incremental {
                let step = state.chain.step_to(&self.layout, &completed.files);
                self.registry.register(id, step.added, step.removed)?;
                state.chain.advance(id, &completed.files, step.tenants);
                // It shares nothing that its trigger named, nor what was found since (X1).
                state.distrust.in_base = Arc::default();
            }
            state.committing.remove(&id);
            let unreferenced = self.registry.finish_pending(id);
            state.leftovers.add(None, unreferenced);
            if completed.kind != CheckpointKind::Savepoint {
                state.completed.insert(folder, completed);
            }
            state.failures_in_a_row = 0;
            state.last_end = Some(self.env.clock.monotonic());
        }
        tracing::info!(job = %self.layout.job(), checkpoint = %id, "checkpoint complete");
        for listener in &self.listeners {
            match kind {
                // A recovery does not go back to a savepoint, so nobody may commit up to one.
                CheckpointKind::Savepoint => listener.savepoint_complete(folder),
                _ => listener.complete(folder),
            }
        }
        for older in superseded {
            // A newer one is complete: the older one can only be late (Flink does the same).
            let pending = self.state.lock().pending.remove(&older);
            if let Some(pending) = pending {
                self.given_up(older, &pending, "a newer checkpoint is complete", false);
            }
        }
        Ok(())
    }
}

/// The index of a savepoint may be there, now or later (A1), whatever failed.
fn unknown_savepoint(path: &StorePath, error: Error) -> Error {
    if error.kind() == ErrorKind::Fenced {
        return error.with_object(path);
    }
    let message = format!("it may be there or not ({}); outcome unknown", error.message());
    Error::new(ErrorKind::OutcomeUnknown, "commit a savepoint", message)
        .with_object(path)
        .with_advice("look whether it can be restored, or take another one at another path; the job goes on")
        .with_source(error)
}

/// A checkpoint that every subtask has acknowledged and that is not complete yet. Dropped before it
/// is, it is given up, unless the tenure is over: then a successor decides (K3, K4).
struct Unfinished<'a> {
    coordinator: &'a Coordinator,
    pending: Box<Pending>,
    reason: String,
    /// It failed by no fault of its own.
    is_blameless: bool,
    /// A savepoint whose outcome is unknown: listeners cannot be told that nothing of it will be restored.
    may_be_there: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Self { coordinator, pending, reason, is_blameless, may_be_there } = self;
        let checkpoint = pending.trigger.checkpoint;
        let Some(committing) = coordinator.state.lock().committing.remove(&checkpoint) else { return };
        match committing.folder {
            // A successor decides (K3, K4); the process that claims again tells what it decided.
            Some(folder) if coordinator.tenure.over().is_some() => {
                coordinator.state.lock().undecided.insert(folder);
            }
            None if *may_be_there => {
                coordinator.let_go(checkpoint, pending, false);
                tracing::warn!(job = %coordinator.layout.job(), %checkpoint, reason, "savepoint of unknown outcome");
            }
            _ => {
                let is_failure = !*is_blameless && !coordinator.is_overtaken(checkpoint);
                coordinator.given_up(checkpoint, pending, reason, is_failure);
            }
        }
    }
}

type Content = (CheckpointMetadata, BTreeMap<SubtaskName, FileSet>);

enum Progress {
    Done(Acknowledged),
    Commit(Box<Pending>),
}
