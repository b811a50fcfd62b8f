//! What goes to a subtask and comes back from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::keygroup::KeyGroupRange;
use crate::layout::{CheckpointFolder, CheckpointId, Epoch, SharedName, SubtaskName};
use crate::metadata::{Backend, CheckpointKind, FileEntry, StateSchema};
use crate::store::StorePath;

/// The coordinator's order to take part in one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// The checkpoint's number.
    pub checkpoint: CheckpointId,
    /// The coordinator's tenure.
    pub epoch: Epoch,
    /// The run of the job within the tenure.
    pub generation: u64,
    /// How the checkpoint is written.
    pub kind: CheckpointKind,
    /// The complete checkpoint that an incremental one may build on. Its folder, and not its number
    /// alone: other jobs and other tenures have checkpoints of the same numbers, and a subtask may be
    /// restored from one or outlive the other.
    pub base: Option<CheckpointFolder>,
    /// Objects that the base shares and that are damaged on the store (X1): what lies in them is not carried
    /// over but placed anew. Empty, but for the first checkpoint after damage was found.
    pub distrusted: Arc<BTreeSet<SharedName>>,
    /// The folder of this checkpoint, relative to the store's root.
    pub folder: StorePath,
    /// When it was triggered, in milliseconds since 1970 UTC.
    pub triggered_at_unix_ms: u64,
}

impl Trigger {
    /// Name of the checkpoint's folder within its job.
    pub fn checkpoint_folder(&self) -> CheckpointFolder {
        CheckpointFolder { checkpoint: self.checkpoint, epoch: self.epoch }
    }
}

/// A subtask's acknowledgement: its part of a checkpoint, as the difference to the base.
///
/// Its size grows with what changed, not with what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubtaskHandle {
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// The coordinator's tenure that triggered it.
    pub epoch: Epoch,
    /// The run of the job within the tenure.
    pub generation: u64,
    /// Whose state this is.
    pub subtask: SubtaskName,
    /// The key groups it owns; `None` for a RocksDB folder of unknown keys.
    pub key_groups: Option<KeyGroupRange>,
    /// Where it keeps its state.
    pub backend: Backend,
    /// Its named states, sorted by name.
    pub states: Vec<StateSchema>,
    /// The checkpoint to whose files of this subtask the lists below apply; `None`: to none.
    pub base: Option<CheckpointFolder>,
    /// Files that are new or different.
    pub added: Vec<FileEntry>,
    /// Local names of files that are no longer there.
    pub removed: Vec<StorePath>,
    /// What it took.
    pub stats: SnapshotStats,
}

/// What one subtask's part of a checkpoint took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStats {
    /// How long the subtask was held up, in microseconds.
    pub sync_us: u64,
    /// How long the rest took, in microseconds: what freezing takes beside the subtask's work, hashing and moving.
    pub async_us: u64,
    /// Files in the subtask's state.
    pub files: u64,
    /// Files that were read and hashed.
    pub hashed_files: u64,
    /// Files that were sent, those of the checkpoint's own folder included.
    pub uploaded_files: u64,
    /// Bytes that were sent.
    pub uploaded_bytes: u64,
    /// Bytes that were not sent because the store holds them already.
    pub shared_bytes: u64,
}

impl std::ops::AddAssign for SnapshotStats {
    /// Sums counts and bytes; of two durations the longer one stays, as subtasks work side by side.
    fn add_assign(&mut self, other: Self) {
        self.sync_us = self.sync_us.max(other.sync_us);
        self.async_us = self.async_us.max(other.async_us);
        self.files = self.files.saturating_add(other.files);
        self.hashed_files = self.hashed_files.saturating_add(other.hashed_files);
        self.uploaded_files = self.uploaded_files.saturating_add(other.uploaded_files);
        self.uploaded_bytes = self.uploaded_bytes.saturating_add(other.uploaded_bytes);
        self.shared_bytes = self.shared_bytes.saturating_add(other.shared_bytes);
    }
}
