//! icecore takes **incremental snapshots of keyed state** and restores any of them, verified.
//!
//! It is what Apache Flink's checkpoints are to Flink, as a library for every engine: a shared-file
//! registry knows which files each checkpoint references, only new files are uploaded, each stored
//! once by content hash; what nothing references is collected; and any retained checkpoint is
//! restored, every byte hashed, onto any number of tasks.
//!
//! # The tour
//!
//! A [`coordinator::Coordinator`] owns a job on a [`store::Store`]. Each subtask keeps its keyed state
//! in a [`task::HeapTask`], or in a `RocksDbTask` with the feature `rocksdb`. A checkpoint is a
//! trigger, a short freeze of each subtask, an upload in the background, and an acknowledgement:
//!
//! ```
//! use std::sync::Arc;
//! use icecore::coordinator::{Acknowledged, Coordinator, CoordinatorOptions, OperatorDescription};
//! use icecore::env::Env;
//! use icecore::keygroup::MaxParallelism;
//! use icecore::layout::{JobId, OperatorId, SubtaskName};
//! use icecore::metadata::CheckpointKind;
//! use icecore::restore::{FetchOptions, RestorePlan};
//! use icecore::snapshot::{Snapshotter, SnapshotterOptions};
//! use icecore::state::typed::KeyContext;
//! use icecore::store::{LocalStore, StoreRef};
//! use icecore::task::HeapTask;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> icecore::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("checkpoints");
//! let env = Env::system()?;
//! let store: StoreRef = Arc::new(LocalStore::open(&path, env.clone())?);
//! let words = OperatorId::new("words")?;
//! let operator = OperatorDescription { operator: words.clone(), parallelism: 1, max_parallelism: 128 };
//! let coordinator = Coordinator::start(
//!     store.clone(), JobId::new("count")?, vec![operator], env.clone(), CoordinatorOptions::default(), vec![],
//! ).await?;
//! let subtask = SubtaskName { operator: words.clone(), index: 0 };
//! let snapshotter = || Arc::new(Snapshotter::new(
//!     subtask.clone(), store.clone(), env.clone(), coordinator.broker(), SnapshotterOptions::default(),
//! ));
//!
//! // An engine's subtask counts words.
//! let groups = MaxParallelism::new(128)?;
//! let task = HeapTask::new(groups, groups.all_groups(), snapshotter(), env.clone())?;
//! let mut keys = KeyContext::<String, _>::new(task);
//! let count = keys.value_state::<u64>("count")?;
//! for word in ["to", "be", "or", "not", "to", "be"] {
//!     keys.set_current_key(&word.to_owned())?;
//!     let so_far = count.get(&keys)?.unwrap_or(0);
//!     count.set(&mut keys, &(so_far + 1))?;
//! }
//!
//! // A checkpoint: freeze, upload, acknowledge.
//! let trigger = coordinator.trigger(CheckpointKind::Incremental)?;
//! let frozen = keys.backend_mut().freeze(&trigger)?;
//! let handle = keys.backend().snapshotter().upload(&trigger, frozen).await?;
//! assert!(matches!(coordinator.acknowledge(handle).await?, Acknowledged::Complete(..)));
//!
//! // After a failure: the newest complete checkpoint, verified, here onto one subtask again.
//! let checkpoint = coordinator.latest().await?.expect("one is complete");
//! let plan = RestorePlan::new(&checkpoint.metadata, &words, 0, 1)?;
//! let task = HeapTask::restore(&plan, &checkpoint, snapshotter(), env, &FetchOptions::default()).await?;
//! let mut keys = KeyContext::<String, _>::new(task);
//! let count = keys.value_state::<u64>("count")?;
//! keys.set_current_key(&"be".to_owned())?;
//! assert_eq!(count.get(&keys)?, Some(2));
//! # Ok(())
//! # }
//! ```
//!
//! # What is public
//!
//! | module | what for |
//! |---|---|
//! | [`coordinator`] | trigger, acknowledge, complete, abort, retain, drop, collect: one job's owner |
//! | [`task`] | one subtask's state tied to its checkpoints: heap, RocksDB, any RocksDB folder |
//! | [`state`] | keyed state: value, list, map, reducing, aggregating, timers, over two backends |
//! | [`snapshot`] | a subtask's uploader: what is new, hash, send, acknowledge |
//! | [`restore`] | plans, verified fetching, verification |
//! | [`mod@copy`] | checkpoints and savepoints from one store to another |
//! | [`job`] | workers: which have failed, whether and when they are started again; their manager, as processes; dataflows of the crate `timely` |
//! | [`store`] | the one door to storage: addresses, local folders, S3, and the suite your own store can run |
//! | [`ownership`], [`gc`] | claims and fencing; plans of deletion: for tools |
//! | [`registry`], [`metadata`], [`layout`], [`keygroup`], [`rocksfolder`], [`transfer`] | the parts below |
//! | [`mod@env`] | spawning, time and randomness come in here |
//!
//! `docs/architecture.md` is the map, `docs/semantics.md` the promises, `docs/protocol.md` why they
//! hold, `docs/format.md` the bytes.
//!
//! # Features
//!
//! None is on by default, so that the default builds quickly. `rocksdb`: the RocksDB backend and full
//! checkpoints as tables. `memory`: an in-memory store through OpenDAL. `s3`: stores on S3 and what speaks its
//! protocol. `hdfs`: stores in HDFS. `job`: a job manager and its workers as processes. `timely`: checkpoints for dataflows of
//! the crate `timely`. `kafka`: a Kafka source and sink for those. `cli`: the `icecore` command.
//! `test-support`: stores that fail on purpose, and the conformance suite for stores.

#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod buffers;
#[cfg(feature = "cli")]
pub mod cli;
pub mod coordinator;
pub mod copy;
pub mod env;
mod error;
pub mod gc;
pub mod job;
pub mod keygroup;
pub mod layout;
pub mod metadata;
pub mod ownership;
pub mod registry;
pub mod restore;
pub mod rocksfolder;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod task;
pub mod transfer;

pub use error::{Error, ErrorKind, Result};
