//! Checkpoints for dataflows of the crate `timely`.
//!
//! Timely tracks progress: it says when no record of a timestamp can come any more. So a consistent cut needs no
//! barriers. Timestamps are *epochs*, counted from 0 in each run:
//!
//! 1. Somebody triggers a checkpoint: the current epoch shall end with it ([`CheckpointControl`]).
//! 2. Every [`source`] notices, notes its positions, and goes on in the next epoch.
//! 3. A stateful operator ([`keyed`], [`sink`]) whose frontier has left the epoch has met every record of it and none of
//!    a later one (what came early waits): it freezes its state, and uploads it beside its further work. What takes its time to
//!    freeze does so on another thread, and the operator alone waits for it.
//!
//! The same epochs bound what is under way, as timely has no flow control: a source gives at most
//! [`MAX_RECORDS_PER_EPOCH`] records in one, and is at most [`MAX_EPOCHS_IN_FLIGHT`] ahead of the slowest stateful
//! operator. So most epochs end without a checkpoint, because one source has given what it may.
//!
//! A worker without records takes part as all others do: operators hold a capability of their own.
//! The set of workers is fixed while a dataflow runs. After a failure, or to rescale, all workers start again from the
//! newest complete checkpoint, as many as you like. [`run_worker`] ends each worker soon after any of them has failed.
//!
//! Event time travels between the records of a [`DataStream`]: what a source says of it reaches every worker behind an
//! exchange, behind all records that it speaks of. An operator with [`EventTimers`] is called when it has come to one of them.
//!
//! What the author of a dataflow has to see to:
//! - Every worker builds the same dataflow, with the same sources: one that has no splits on a worker gives nothing there.
//! - Each source feeds a stateful operator. Only that makes its positions part of the checkpoint before it is complete.
//! - Operators between keep no state and hold back no record beyond its epoch.

mod board;
mod commits;
mod control;
mod event_time;
#[cfg(feature = "job")]
mod folders;
mod keyed;
mod local;
#[cfg(feature = "job")]
mod mesh;
#[cfg(feature = "job")]
mod remote;
#[cfg(feature = "job")]
mod run;
mod sink;
mod source;
mod stage;
mod stream;
#[cfg(feature = "job")]
mod tasks;
mod watermark;
mod worker;

pub use control::{CheckpointControl, MAX_REMEMBERED_NOTIFICATIONS, Notification, Orders};
pub use event_time::EventTimers;
pub use keyed::{KeyedOperator, keyed};
pub use local::LocalControl;
#[cfg(feature = "job")]
pub use remote::RemoteControl;
#[cfg(feature = "job")]
pub use run::{AnyTask, DataflowOptions, Start, StateBackend, run_job_worker};
pub use sink::{Committer, MAX_CHECKPOINTS_UNCOMMITTED, MAX_OUTPUTS_PER_COMMIT, Transaction, sink};
pub use source::{MAX_EPOCHS_IN_FLIGHT, MAX_RECORDS_PER_EPOCH, Source, source};
pub use stream::DataStream;
pub use watermark::{END_OF_TIME_MS, NO_WATERMARK_MS};
pub use worker::{Checkpoints, run_worker};
