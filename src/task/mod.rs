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
