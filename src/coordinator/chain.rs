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
    /// What it took; zero for one that an earlier tenure wrote, or that was taken elsewhere.
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
    /// The tenancies themselves, for [`Chain::advance`].
    pub(super) tenants: Tenants,
}

/// Whose tenancies begin and end.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    begin: Vec<Tenant>,
    end: Vec<Tenant>,
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

    /// The newest registered checkpoint's files.
    pub(super) fn head(&self) -> &BTreeMap<SubtaskName, FileSet> {
        &self.head
    }

    /// The step from the head to `next`. The head stays: the registry may refuse the step.
    pub(super) fn step_to(&self, layout: &JobLayout, next: &BTreeMap<SubtaskName, FileSet>) -> Step {
        let mut step = Step::default();
        let empty = FileSet::default();
        for (subtask, files) in self.head.iter().filter(|(subtask, _)| !next.contains_key(*subtask)) {
            self.change(layout, subtask, files, &empty, &mut step);
        }
        for (subtask, files) in next {
            self.change(layout, subtask, self.head.get(subtask).unwrap_or(&empty), files, &mut step);
        }
        step
    }

    /// Moves the head to `next`, the files of checkpoint `id`, to which [`Chain::step_to`] led.
    pub(super) fn advance(&mut self, id: CheckpointId, next: &BTreeMap<SubtaskName, FileSet>, tenants: Tenants) {
        // The ends first: a name whose object changes ends one tenancy and begins another.
        for tenant in &tenants.end {
            self.since.remove(tenant);
        }
        self.since.extend(tenants.begin.into_iter().map(|tenant| (tenant, id)));
        self.head.clone_from(next);
    }

    fn change(&self, layout: &JobLayout, subtask: &SubtaskName, old: &FileSet, new: &FileSet, step: &mut Step) {
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
                let tenant = (subtask.clone(), entry.local_name.clone());
                step.removed.push((name, self.since.get(&tenant).copied().unwrap_or_default()));
                step.tenants.end.push(tenant);
            }
        }
        for entry in change.added {
            if let Some(name) = shared_name(layout, &entry)
                && !stays(old, &entry, name)
            {
                step.added.push((name, entry.stored_size_bytes));
                step.tenants.begin.push((subtask.clone(), entry.local_name.clone()));
            }
        }
    }
}

/// The job's own shared object that a file lies in. Objects of other jobs are theirs to count.
pub(crate) fn shared_name(layout: &JobLayout, entry: &FileEntry) -> Option<SharedName> {
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
