//! How a checkpoint in flight ends: acknowledged and committed, declined, aborted.

use std::sync::Arc;

use bytes::Bytes;

use super::assemble::assemble;
use super::chain::CompletedCheckpoint;
use super::core::{Acknowledged, Coordinator};
use super::pending::Pending;
use crate::error::Result;
use crate::layout::{CheckpointId, METADATA_NAME, SubtaskName};
use crate::metadata::{self, CheckpointKind};
use crate::ownership::JobView;
use crate::snapshot::SubtaskHandle;

impl Coordinator {
    /// Takes a subtask's acknowledgement. The last one commits the checkpoint, which takes a few
    /// requests to the store, and then drops what retention does not keep.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if the acknowledgement cannot be part of the checkpoint, which is
    /// aborted then; [`crate::ErrorKind::OutcomeUnknown`] or [`crate::ErrorKind::Fenced`] if the commit ended the
    /// tenure: nobody may be told anything, a successor decides.
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
        let mut view = self.view.lock().await;
        let outcome = self.commit(&pending, &mut view).await;
        self.state.lock().committing.remove(&checkpoint);
        let completed = match outcome {
            Ok(completed) => completed,
            Err(error) => {
                if self.tenure.over().is_none() {
                    // Nothing was published: only this checkpoint is lost.
                    self.given_up(checkpoint, &pending, error.message());
                }
                return Err(error);
            }
        };
        let (folder, stats) = (completed.folder, completed.stats);
        self.completed_now(completed);
        self.retain(&mut view).await;
        Ok(Acknowledged::Complete(folder, stats))
    }

    /// A subtask cannot take part: the checkpoint is aborted.
    pub fn decline(&self, checkpoint: CheckpointId, subtask: &SubtaskName, reason: &str) -> bool {
        self.abort(checkpoint, &format!("{subtask} declined: {reason}"))
    }

    /// Gives a checkpoint in flight up. Returns whether it was in flight. What it alone created is
    /// deleted by the next collection (I9).
    pub fn abort(&self, checkpoint: CheckpointId, reason: &str) -> bool {
        let pending = self.state.lock().pending.remove(&checkpoint);
        match pending {
            None => false,
            Some(pending) => {
                self.given_up(checkpoint, &pending, reason);
                true
            }
        }
    }

    fn given_up(&self, checkpoint: CheckpointId, pending: &Pending, reason: &str) {
        let unreferenced = self.registry.abort(checkpoint);
        {
            let mut state = self.state.lock();
            let folder =
                (pending.trigger.kind != CheckpointKind::Savepoint).then(|| pending.trigger.checkpoint_folder());
            state.leftovers.add(folder, unreferenced);
            state.last_end = Some(self.env.clock.monotonic());
            if pending.trigger.kind != CheckpointKind::Savepoint {
                state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
            }
        }
        tracing::info!(job = %self.layout.job(), %checkpoint, reason, "checkpoint aborted");
        for listener in &self.listeners {
            listener.aborted(checkpoint, reason);
        }
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
        if !pending.acknowledge(handle)? {
            return discarded("this subtask had acknowledged already");
        }
        if !pending.is_fully_acknowledged() {
            return Ok(Progress::Done(Acknowledged::Awaiting(pending.awaited())));
        }
        Ok(match state.pending.remove(&checkpoint) {
            Some(pending) => {
                state.committing.insert(checkpoint, pending.trigger.base);
                Progress::Commit(Box::new(pending))
            }
            None => Progress::Done(Acknowledged::Discarded("no such checkpoint is in flight")),
        })
    }

    async fn commit(&self, pending: &Pending, view: &mut JobView) -> Result<CompletedCheckpoint> {
        let metadata = Arc::new(assemble(self.layout.job(), pending)?);
        let encoding = metadata.clone();
        let bytes = Bytes::from(self.env.blocking(move || metadata::encode(&encoding)).await??);
        let (folder, size_bytes) = (metadata.folder(), bytes.len() as u64);
        if pending.trigger.kind == CheckpointKind::Savepoint {
            // It is the user's, so nothing of it may be shared; publish, then look all the same.
            self.store.put(&pending.trigger.folder.join(METADATA_NAME)?, bytes).await?;
            self.tenure.look().await?;
        } else {
            self.tenure.commit(folder, bytes).await?;
            view.note_committed(metadata.clone(), size_bytes);
        }
        Ok(CompletedCheckpoint {
            folder,
            kind: metadata.kind,
            triggered_at_unix_ms: metadata.triggered_at_unix_ms,
            stats: pending.stats(),
            files: pending.parts.iter().map(|(subtask, part)| (subtask.clone(), part.files.clone())).collect(),
        })
    }

    fn completed_now(&self, completed: CompletedCheckpoint) {
        let id = completed.folder.checkpoint;
        let folder = completed.folder;
        let mut superseded = Vec::new();
        {
            let mut state = self.state.lock();
            if completed.kind == CheckpointKind::Incremental {
                let step = state.chain.advance(&self.layout, id, &completed.files);
                if let Err(error) = self.registry.register(id, step.added, step.removed) {
                    // Registered twice or out of order: the state's own bookkeeping is wrong.
                    debug_assert!(false, "{error}");
                    tracing::error!(%error, "registry");
                }
                superseded.extend(state.pending.range(..id).map(|(older, _)| *older));
            }
            let unreferenced = self.registry.finish_pending(id);
            state.leftovers.add(None, unreferenced);
            if completed.kind != CheckpointKind::Savepoint {
                state.completed.insert(folder, completed);
            }
            state.failures_in_a_row = 0;
            state.last_end = Some(self.env.clock.monotonic());
        }
        for older in superseded {
            // A newer one is complete: the older one can only be late (Flink does the same).
            if self.abort(older, "a newer checkpoint is complete") {
                self.state.lock().failures_in_a_row = 0;
            }
        }
        tracing::info!(job = %self.layout.job(), checkpoint = %id, "checkpoint complete");
        for listener in &self.listeners {
            listener.complete(folder);
        }
    }
}

enum Progress {
    Done(Acknowledged),
    Commit(Box<Pending>),
}
