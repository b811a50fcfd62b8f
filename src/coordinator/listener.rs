//! Who hears of the fate of checkpoints.

use std::fmt;

use crate::layout::{CheckpointFolder, CheckpointId};

/// Told what became of each checkpoint.
///
/// Checkpoints complete in the order of their numbers, and one is subsumed only after newer ones have
/// completed. To keep that order, `complete` is called while the coordinator commits: until it returns,
/// no other checkpoint completes. Of several tasks that use the coordinator each may call listeners, so
/// two calls may come at once. They may call what is not `async` of the
/// coordinator (`trigger`, `abort`, `completed`), but must not block, and above all not until
/// something `async` of it has ended, which may wait for them for ever.
pub trait CheckpointListener: fmt::Debug + Send + Sync + 'static {
    /// The checkpoint is complete: it will be restored after a failure until retention drops it
    /// (I2). What waits for that (a sink's transaction) may go ahead.
    fn complete(&self, checkpoint: CheckpointFolder) {
        let _ = checkpoint;
    }

    /// The savepoint is complete. Nothing that waits for a checkpoint may go ahead by that: a recovery does not go back to
    /// savepoints.
    fn savepoint_complete(&self, savepoint: CheckpointFolder) {
        let _ = savepoint;
    }

    /// The checkpoint was given up. Nothing of it will be restored. Not called if the outcome is
    /// unknown: the acknowledgement's error says so then.
    fn aborted(&self, checkpoint: CheckpointId, reason: &str) {
        let _ = (checkpoint, reason);
    }

    /// The complete checkpoint was dropped, by retention, as newer ones take its place, or by a person's
    /// word: a list that names it is on the store, and this coordinator owned the job still. Its files are
    /// deleted by and by.
    fn subsumed(&self, checkpoint: CheckpointFolder) {
        let _ = checkpoint;
    }
}
