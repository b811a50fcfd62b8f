//! Who hears of the fate of checkpoints.

use std::fmt;

use crate::layout::{CheckpointFolder, CheckpointId};

/// Told what became of each checkpoint, in the order in which it became so.
///
/// To keep that order, listeners are called while the coordinator commits or deletes: until they
/// return, no other checkpoint completes and nothing is dropped. They may call what is not `async` of the
/// coordinator (`trigger`, `abort`, `completed`), but must not block, and above all not until
/// something `async` of it has ended, which would wait for them for ever.
pub trait CheckpointListener: fmt::Debug + Send + Sync + 'static {
    /// The checkpoint is complete: it will be restored after a failure until retention drops it
    /// (I2). What waits for that (a sink's transaction) may go ahead.
    fn complete(&self, checkpoint: CheckpointFolder) {
        let _ = checkpoint;
    }

    /// The checkpoint was given up. Nothing of it will be restored. Not called if the outcome is
    /// unknown: the acknowledgement's error says so then.
    fn aborted(&self, checkpoint: CheckpointId, reason: &str) {
        let _ = (checkpoint, reason);
    }

    /// The complete checkpoint was dropped by retention, as newer ones take its place.
    fn subsumed(&self, checkpoint: CheckpointFolder) {
        let _ = checkpoint;
    }
}
