//! A checkpoint in flight: who has acknowledged it, who is still awaited.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::SubtaskName;
use crate::metadata::{Backend, CheckpointKind, SourcePosition};
use crate::snapshot::{FileSet, SnapshotStats, SubtaskHandle, Trigger, lies_in};

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
    /// Its content comes from elsewhere: no subtask takes part, and its failure is none of the job's.
    pub(super) is_import: bool,
    awaited: usize,
    /// How often damage had been found when it was triggered.
    pub(super) distrust_changes: u64,
    /// The base's files, held for as long as this checkpoint is in flight.
    base_files: BTreeMap<SubtaskName, FileSet>,
}

impl Pending {
    pub(super) fn new(
        trigger: Trigger,
        operators: Vec<OperatorDescription>,
        deadline: Duration,
        base_files: BTreeMap<SubtaskName, FileSet>,
        distrust_changes: u64,
    ) -> Self {
        let awaited = operators.iter().map(|operator| operator.parallelism as usize).sum();
        let (parts, sources) = (BTreeMap::new(), Vec::new());
        Self { trigger, operators, deadline, parts, sources, is_import: false, awaited, distrust_changes, base_files }
    }

    /// One whose content comes from elsewhere.
    pub(super) fn import(trigger: Trigger, deadline: Duration, distrust_changes: u64) -> Self {
        Self { is_import: true, ..Self::new(trigger, Vec::new(), deadline, BTreeMap::new(), distrust_changes) }
    }

    /// Whether `subtask` takes part and has not acknowledged yet.
    pub(super) fn awaits(&self, subtask: &SubtaskName) -> bool {
        let operator = self.operators.iter().find(|operator| operator.operator == subtask.operator);
        operator.is_some_and(|operator| subtask.index < operator.parallelism) && !self.parts.contains_key(subtask)
    }

    /// Takes in the acknowledgement of a subtask that is awaited.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it builds on another base, or does not fit what it builds on:
    /// the checkpoint cannot become complete then.
    pub(super) fn acknowledge(&mut self, handle: SubtaskHandle) -> Result<()> {
        let refuse = |message: &str| {
            Err(Error::new(ErrorKind::InvalidInput, "acknowledge a checkpoint", message).with_object(&handle.subtask))
        };
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
        // The difference is believed only as far as its sum is right: a subtask that remembers other
        // files than these would leave some in that it does not have.
        if files.len() as u64 != handle.stats.files {
            return refuse("the files it builds on are not those of the checkpoint that it names");
        }
        let damaged = &*self.trigger.distrusted;
        if !damaged.is_empty() && files.entries().any(|entry| lies_in(entry, damaged)) {
            return refuse("it shares an object that the trigger says is damaged");
        }
        self.parts.insert(handle.subtask.clone(), Part { handle, files });
        Ok(())
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
