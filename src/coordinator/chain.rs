//! The complete checkpoints of a job, and the objects each step from one to the next touches.
//!
//! The registry counts *tenancies*: that a local file of a subtask lies in an object, from one
//! checkpoint on. This module turns two successive file lists into the tenancies that begin and end
//! between them; as the lists share what did not change, that costs what changed.

use std::collections::{BTreeMap, HashMap};

use crate::layout::{CheckpointFolder, CheckpointId, JobLayout, SharedName, SubtaskName};
use crate::metadata::{CheckpointKind, CheckpointMetadata, FileEntry, Location};
use crate::snapshot::{FileSet, SnapshotStats};
use crate::store::StorePath;

/// A complete checkpoint.
#[derive(Clone, Debug)]
pub struct CompletedCheckpoint {
    /// Its folder in the job's.
    pub folder: CheckpointFolder,
    /// How it was written.
    pub kind: CheckpointKind,
    /// When it was triggered.
    pub triggered_at_unix_ms: u64,
    /// What it took; zero for one that an earlier tenure wrote.
    pub stats: SnapshotStats,
    pub(super) files: BTreeMap<SubtaskName, FileSet>,
}

/// Tenancies that begin and end with a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Objects that got a tenant, with their sizes.
    pub(super) added: Vec<(SharedName, u64)>,
    /// Objects that lost one, with the checkpoint that tenancy began at.
    pub(super) removed: Vec<(SharedName, CheckpointId)>,
}

/// Tells the files of one checkpoint apart.
pub(super) type Tenant = (SubtaskName, StorePath);

/// The newest registered checkpoint's files, and since when each has been where it is.
#[derive(Debug, Default)]
pub(super) struct Chain {
    head: BTreeMap<SubtaskName, FileSet>,
    since: HashMap<Tenant, CheckpointId>,
}

impl Chain {
    /// The chain of a rebuilt registry.
    pub(super) fn new(head: BTreeMap<SubtaskName, FileSet>, since: HashMap<Tenant, CheckpointId>) -> Self {
        Self { head, since }
    }

    /// Moves the head to `next`, the files of checkpoint `id`.
    pub(super) fn advance(
        &mut self,
        layout: &JobLayout,
        id: CheckpointId,
        next: &BTreeMap<SubtaskName, FileSet>,
    ) -> Step {
        let mut step = Step::default();
        let empty = FileSet::default();
        let gone: Vec<SubtaskName> = self.head.keys().filter(|subtask| !next.contains_key(*subtask)).cloned().collect();
        for subtask in gone {
            if let Some(files) = self.head.remove(&subtask) {
                self.change(layout, id, &subtask, &files, &empty, &mut step);
            }
        }
        for (subtask, files) in next {
            let old = self.head.insert(subtask.clone(), files.clone()).unwrap_or_default();
            self.change(layout, id, subtask, &old, files, &mut step);
        }
        step
    }

    fn change(
        &mut self,
        layout: &JobLayout,
        id: CheckpointId,
        subtask: &SubtaskName,
        old: &FileSet,
        new: &FileSet,
        step: &mut Step,
    ) {
        let change = new.since(old);
        // An entry may change and its object stay (RocksDB moved the table to another level): then
        // the tenancy goes on, as it does in a registry that is rebuilt.
        let stays = |files: &FileSet, entry: &FileEntry, name| {
            files.get(&entry.local_name).and_then(|other| shared_name(layout, other)) == Some(name)
        };
        for entry in change.removed {
            if let Some(name) = shared_name(layout, &entry)
                && !stays(new, &entry, name)
            {
                let key = (subtask.clone(), entry.local_name.clone());
                step.removed.push((name, self.since.remove(&key).unwrap_or_default()));
            }
        }
        for entry in change.added {
            if let Some(name) = shared_name(layout, &entry)
                && !stays(old, &entry, name)
            {
                self.since.insert((subtask.clone(), entry.local_name.clone()), id);
                step.added.push((name, entry.stored_size_bytes));
            }
        }
    }
}

/// The job's own shared object that a file lies in. Objects of other jobs are theirs to count.
pub(super) fn shared_name(layout: &JobLayout, entry: &FileEntry) -> Option<SharedName> {
    let Location::InRoot(path) = &entry.location else { return None };
    let shared = layout.shared().ok()?;
    path.below(&shared)?.parse().ok()
}

/// The file lists of a `_metadata`, made from those of the checkpoint before it so that the two
/// share what did not change.
pub(super) fn files_of(
    metadata: &CheckpointMetadata,
    before: &BTreeMap<SubtaskName, FileSet>,
) -> BTreeMap<SubtaskName, FileSet> {
    let mut all = BTreeMap::new();
    for operator in &metadata.operators {
        for part in &operator.subtasks {
            let subtask = SubtaskName { operator: operator.operator.clone(), index: part.index };
            let mut files = before.get(&subtask).cloned().unwrap_or_default();
            let names: std::collections::HashSet<&StorePath> = part.files.iter().map(|file| &file.local_name).collect();
            let gone: Vec<StorePath> = files
                .entries()
                .filter(|entry| !names.contains(&entry.local_name))
                .map(|entry| entry.local_name.clone())
                .collect();
            for name in &gone {
                files.remove(name);
            }
            for file in &part.files {
                if files.get(&file.local_name).is_none_or(|old| **old != *file) {
                    files.insert(std::sync::Arc::new(file.clone()));
                }
            }
            all.insert(subtask, files);
        }
    }
    all
}
