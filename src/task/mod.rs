//! One subtask's keyed state, tied to its checkpoints: what an engine's author holds.
//!
//! A task freezes its state at the engine's word (the synchronous part), hands the frozen state to its
//! [`crate::snapshot::Snapshotter`] (the asynchronous part), and is restored from a
//! [`crate::restore::RestorePlan`]. There is one for each way to keep state: [`HeapTask`],
//! `RocksDbTask` (feature `rocksdb`), and, for a database whose keys icecore knows nothing of,
//! [`freeze_folder`].
//!
//! A full checkpoint has a folder for each key group, `keygroup-<k>`, which either backend reads:
//! `0.sst` and `MANIFEST`, a real table and a real MANIFEST, where RocksDB is compiled in, and
//! `0.state`, the group's heap chunks one after another, where it is not.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::layout::CheckpointId;
use crate::snapshot::{LocalSnapshot, Snapshotter, Trigger};
use crate::state::KeyedBackend;

mod chunk_files;
mod folder;
mod full;
mod heap;
#[cfg(feature = "rocksdb")]
mod rocksdb;

pub use folder::{FolderOptions, freeze_folder, freeze_restored_states};
pub use full::{FULL_MANIFEST_NAME, FULL_STATE_NAME, FULL_TABLE_NAME};
pub use heap::HeapTask;
#[cfg(feature = "rocksdb")]
pub use rocksdb::{Cut, RocksDbTask, freeze_database};

/// How the synchronous part of a checkpoint goes.
pub enum Freeze {
    /// It is over.
    Done(LocalSnapshot),
    /// The rest of it blocks, and is to be done on another thread, at once: until it is over, or dropped, whoever writes to the task may
    /// be held up. None may be begun of another checkpoint before.
    Elsewhere {
        /// The rest.
        rest: Box<dyn FnOnce() -> Result<LocalSnapshot> + Send>,
        /// Whether what is written to the task from now on is not in the checkpoint. If false nothing may be written before the rest
        /// is over.
        is_cut: bool,
    },
}

impl fmt::Debug for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(frozen) => f.debug_tuple("Done").field(frozen).finish(),
            Self::Elsewhere { is_cut, .. } => {
                f.debug_struct("Elsewhere").field("is_cut", is_cut).finish_non_exhaustive()
            }
        }
    }
}

/// A keyed task, whichever backend it has: what an engine's operator needs of it. An engine may choose at run time, by
/// `Box<dyn CheckpointedTask>`.
pub trait CheckpointedTask: KeyedBackend {
    /// The uploader.
    fn snapshotter(&self) -> &Arc<Snapshotter>;

    /// The synchronous part of a checkpoint.
    ///
    /// # Errors
    /// As that of the task.
    fn freeze(&mut self, trigger: &Trigger) -> Result<LocalSnapshot>;

    /// Begins the synchronous part. An engine goes on while the state is frozen elsewhere: with all its operators, or at least with the
    /// others.
    ///
    /// # Errors
    /// As that of the task.
    fn begin_freeze(&mut self, trigger: &Trigger) -> Result<Freeze> {
        self.freeze(trigger).map(Freeze::Done)
    }

    /// Hears that a checkpoint is complete.
    fn notify_complete(&mut self, checkpoint: CheckpointId);

    /// Hears that a checkpoint was given up.
    fn notify_aborted(&mut self, checkpoint: CheckpointId);
}

/// A task's own methods as a [`CheckpointedTask`], and what it does otherwise than by default.
macro_rules! checkpointed_task {
    ($task:ty { $($otherwise:tt)* }) => {
        impl $crate::task::CheckpointedTask for $task {
            fn snapshotter(&self) -> &Arc<Snapshotter> {
                Self::snapshotter(self)
            }

            fn freeze(&mut self, trigger: &Trigger) -> Result<LocalSnapshot> {
                Self::freeze(self, trigger)
            }

            $($otherwise)*

            fn notify_complete(&mut self, checkpoint: CheckpointId) {
                Self::notify_complete(self, checkpoint);
            }

            fn notify_aborted(&mut self, checkpoint: CheckpointId) {
                Self::notify_aborted(self, checkpoint);
            }
        }
    };
}
use checkpointed_task;

impl<T: CheckpointedTask + ?Sized> CheckpointedTask for Box<T> {
    fn snapshotter(&self) -> &Arc<Snapshotter> {
        (**self).snapshotter()
    }

    fn freeze(&mut self, trigger: &Trigger) -> Result<LocalSnapshot> {
        (**self).freeze(trigger)
    }

    fn begin_freeze(&mut self, trigger: &Trigger) -> Result<Freeze> {
        (**self).begin_freeze(trigger)
    }

    fn notify_complete(&mut self, checkpoint: CheckpointId) {
        (**self).notify_complete(checkpoint);
    }

    fn notify_aborted(&mut self, checkpoint: CheckpointId) {
        (**self).notify_aborted(checkpoint);
    }
}
