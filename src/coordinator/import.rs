//! Checkpoints whose content comes from elsewhere: the target's side of a copy.
//!
//! An imported checkpoint is written by this tenure as any other: an id of its own, files that the registry
//! places, `_metadata`, the look (K1-K5). Only its content is handed in whole, not gathered from subtasks.

use std::fmt;
use std::sync::Arc;

use super::assemble::WRITER;
use super::core::{Committing, Coordinator, check_room};
use super::pending::Pending;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId};
use crate::metadata::{CheckpointKind, CheckpointMetadata};
use crate::snapshot::Trigger;

const IMPORT: &str = "import a checkpoint";

/// A checkpoint in flight whose content comes from elsewhere. Dropped without [`Import::commit`], it is
/// given up, and what was uploaded for it goes with the next collection (I9).
#[must_use = "an import that is dropped is given up"]
pub struct Import<'a> {
    coordinator: &'a Coordinator,
    trigger: Trigger,
    is_over: bool,
}

impl Coordinator {
    /// The smallest number that an import may have now: above every checkpoint that counts (C9), and
    /// above every one that this tenure has begun (R2).
    pub fn least_import(&self) -> CheckpointId {
        CheckpointId(self.state.lock().least_id)
    }

    /// Begins a checkpoint whose content comes from elsewhere, under the number `checkpoint`. Its files lie
    /// where [`Coordinator::broker`] places them, or below the trigger's folder.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a number below [`Coordinator::least_import`], one that no other can
    /// follow, or a savepoint, which does not lie in a job's folder; [`ErrorKind::LimitExceeded`] if too
    /// many checkpoints are in flight; the tenure's end.
    pub fn begin_import(&self, checkpoint: CheckpointId, kind: CheckpointKind) -> Result<Import<'_>> {
        self.tenure.check()?;
        let refuse = |message: String| Err(Error::invalid(IMPORT, message).with_object(checkpoint));
        if kind == CheckpointKind::Savepoint {
            return refuse("a savepoint does not lie in the job's folder".to_owned());
        }
        let mut state = self.state.lock();
        check_room(&state)?;
        if checkpoint.0 < state.least_id {
            return refuse(format!("ids grow, and those below {} are taken", state.least_id))
                .map_err(|error: Error| error.with_advice("one that was given up is free again for the next tenure"));
        }
        if checkpoint.0 == u64::MAX {
            return refuse("no checkpoint could follow it".to_owned());
        }
        let epoch = self.tenure.epoch();
        let trigger = Trigger {
            checkpoint,
            epoch,
            generation: state.generation,
            kind,
            base: None,
            distrusted: Arc::default(),
            folder: self.layout.checkpoint(CheckpointFolder { checkpoint, epoch })?,
            triggered_at_unix_ms: self.env.clock.unix_time_ms(),
        };
        let changes = state.distrust.changes;
        self.admit(&mut state, &trigger, |deadline| Pending::import(trigger.clone(), deadline, changes))?;
        drop(state);
        Ok(Import { coordinator: self, trigger, is_over: false })
    }
}

impl Import<'_> {
    /// What the tags of its uploads say, and where its own files lie.
    pub fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// Commits it (K3-K5) and then drops what retention does not keep. Every file that `metadata` names must be
    /// durable. Job, number, epoch and writer are set here; the rest is taken as it is.
    ///
    /// # Errors
    /// As [`Coordinator::acknowledge`]; [`ErrorKind::Cancelled`] if it was given up meanwhile, as a newer
    /// checkpoint is complete.
    pub async fn commit(mut self, mut metadata: CheckpointMetadata) -> Result<CheckpointFolder> {
        let checkpoint = self.trigger.checkpoint;
        if metadata.kind != self.trigger.kind {
            return Err(Error::invalid(IMPORT, "it is of another kind than it was begun as").with_object(checkpoint));
        }
        metadata.job = self.coordinator.layout.job().clone();
        metadata.checkpoint = checkpoint;
        metadata.epoch = self.trigger.epoch;
        WRITER.clone_into(&mut metadata.writer);
        let pending = {
            let mut state = self.coordinator.state.lock();
            let pending = state.pending.remove(&checkpoint).ok_or_else(|| {
                Error::new(ErrorKind::Cancelled, IMPORT, "it was given up meanwhile").with_object(checkpoint)
            })?;
            let folder = Some(self.trigger.checkpoint_folder());
            state.committing.insert(checkpoint, Committing { base: None, folder });
            pending
        };
        self.is_over = true;
        let (folder, _) = self.coordinator.complete(Box::new(pending), Some(metadata)).await?;
        Ok(folder)
    }
}

impl Drop for Import<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.coordinator.abort(self.trigger.checkpoint, "its import was given up");
        }
    }
}

impl fmt::Debug for Import<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Import({})", self.trigger.folder)
    }
}
