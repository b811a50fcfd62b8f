//! A subtask's side of a checkpoint: which of its files are new, hash them, move them, hand back a
//! [`SubtaskHandle`] that says only what changed.
//!
//! A snapshot has two parts. The synchronous one is the state backend's: it freezes the state
//! (RocksDB: flush and hard links; heap: one pointer a table) and describes the frozen files as a
//! [`LocalSnapshot`]. The asynchronous one is here, and reads nothing that the subtask goes on
//! writing.
//!
//! **What is never read again.** A file whose [`Known`] says that it is the same as in the base
//! checkpoint is carried over without opening it. Sameness rests on RocksDB's unique id, length and
//! sequence numbers out of the MANIFEST, never on a name and a size alone (I6). What is unknown is
//! hashed; only content that the registry does not hold is sent.
//!
//! **A name is written once.** A file whose upload fails with an error that may pass is sent again whole, read
//! from its source again, under a fresh name (K2). The failed name may land at any time; it is an orphan that
//! the coordinator's abort or sweep removes.
//!
//! **What is not shared any more.** An object that was found damaged on the store is named by the next
//! [`Trigger`] and by no answer of the broker: its content is sent again, from the subtask's own file,
//! and nothing else is.
//!
//! **What is assumed.** The base named by a [`Trigger`] is complete and its files are held by the
//! coordinator until the checkpoint ends, so that carrying a file over is safe (I1).

mod broker;
mod file_set;
mod handle;
mod local;
mod plan;
mod send;
mod snapshotter;

pub use broker::{Placement, PlacementRequest, RegistryBroker, UploadBroker, UploadTicket};
pub use file_set::{FileSet, FileSetChange};
pub use handle::{SnapshotStats, SubtaskHandle, Trigger};
pub use local::{FileSource, Hold, Known, LocalFile, LocalSnapshot, Placing, Prepare};
pub use plan::UploadPlan;
pub(crate) use plan::lies_in;
pub use snapshotter::{MAX_REMEMBERED_CHECKPOINTS, Snapshotter, SnapshotterOptions};
