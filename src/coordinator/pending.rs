//! A checkpoint in flight: who has acknowledged it, who is still awaited.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::SubtaskName;
use crate::metadata::{Backend, CheckpointKind, SourcePosition};
use crate::snapshot::{FileSet, SnapshotStats, SubtaskHandle, Trigger};

use super::options::OperatorDescription;

/// One subtask's acknowledged part.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) handle: SubtaskHandle,
    /// All its files: the base's with the acknowledged difference applied.
    pub(super) files: FileSet,
}

/// A checkpoint in flight.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) trigger: Trigger,
    pub(super) operators: Vec<OperatorDescription>,
    /// When it times out, on the monotonic clock.
    pub(super) deadline: Duration,
    pub(super) parts: BTreeMap<SubtaskName, Part>,
    pub(super) sources: Vec<SourcePosition>,
    awaited: usize,
    /// The base's files, held for as long as this checkpoint is in flight.
    base_files: BTreeMap<SubtaskName, FileSet>,
}

impl Pending {
    pub(super) fn new(
        trigger: Trigger,
        operators: Vec<OperatorDescription>,
        deadline: Duration,
        base_files: BTreeMap<SubtaskName, FileSet>,
    ) -> Self {
        let awaited = operators.iter().map(|operator| operator.parallelism as usize).sum();
        Self { trigger, operators, deadline, parts: BTreeMap::new(), sources: Vec::new(), awaited, base_files }
    }

    /// Takes an acknowledgement in. `Ok(false)` if this subtask had acknowledged before.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the subtask is none of the job's, or builds on another base:
    /// the checkpoint cannot become complete then.
    pub(super) fn acknowledge(&mut self, handle: SubtaskHandle) -> Result<bool> {
        if self.parts.contains_key(&handle.subtask) {
            return Ok(false);
        }
        let refuse = |message: &str| {
            Err(Error::new(ErrorKind::InvalidInput, "acknowledge a checkpoint", message).with_object(&handle.subtask))
        };
        let operator = self.operators.iter().find(|operator| operator.operator == handle.subtask.operator);
        if operator.is_none_or(|operator| handle.subtask.index >= operator.parallelism) {
            return refuse("the job has no such subtask");
        }
        if (handle.backend == Backend::RocksDbFolder) != handle.key_groups.is_none() {
            return refuse("a keyed backend must name its key groups, a folder of unknown keys must not");
        }
        let mut files = match handle.base {
            None => FileSet::default(),
            Some(base) if Some(base) == self.trigger.base && self.trigger.kind == CheckpointKind::Incremental => {
                self.base_files.get(&handle.subtask).cloned().unwrap_or_default()
            }
            Some(_) => return refuse("it builds on a checkpoint that the trigger did not name"),
        };
        files.apply(&handle.added, &handle.removed).map_err(|error| error.with_object(&handle.subtask))?;
        self.parts.insert(handle.subtask.clone(), Part { handle, files });
        Ok(true)
    }

    /// Whether every subtask has acknowledged.
    pub(super) fn is_fully_acknowledged(&self) -> bool {
        self.parts.len() == self.awaited
    }

    /// How many subtasks are still awaited.
    pub(super) fn awaited(&self) -> usize {
        self.awaited.saturating_sub(self.parts.len())
    }

    /// What the acknowledged parts took, together.
    pub(super) fn stats(&self) -> SnapshotStats {
        let mut sum = SnapshotStats::default();
        for part in self.parts.values() {
            sum += part.handle.stats;
        }
        sum
    }
}
