//! The coordinator of one job, in process: triggers checkpoints, collects acknowledgements, commits,
//! retains and drops.
//!
//! It owns the job's folder (`crate::ownership`): everything that changes the store goes through its
//! tenure, and once that is over every call says so. A checkpoint is complete when its `_metadata`
//! is durable and a later look finds no greater claim (K3-K5); only then are listeners told.
//!
//! What it assumes of subtasks: nothing. An acknowledgement that is late, doubled, of another run or
//! of an unknown subtask changes nothing; one that builds on the wrong base ends its checkpoint.
//!
//! Concurrency: the state and what counts are locked for moments and for no store call. Commits come
//! one after another, and so do plans of what is dropped or pinned; neither waits for the other, nor for
//! the deletes that such plans lead to, which the collector carries out list by list. What keeps a
//! delete from hitting what a commit uses is the registry: what is in use is not condemned, and what is
//! condemned is not handed out (D1, "Two threads" in `docs/protocol.md`).

mod again;
mod assemble;
mod chain;
mod collect;
mod core;
mod counting;
mod distrust;
mod import;
mod lifecycle;
mod listener;
mod options;
mod pending;
mod recover;
mod requests;
mod retention;
mod supervisor;

pub use self::core::{Acknowledged, Coordinator, TickReport};
pub use again::ClaimedAgain;
pub(crate) use assemble::check_key_groups;
pub use chain::CompletedCheckpoint;
#[cfg(feature = "job")]
pub(crate) use chain::shared_name;
pub use distrust::{Distrusted, MAX_DISTRUST_RECORDS};
pub use import::Import;
pub use listener::CheckpointListener;
pub use options::{CoordinatorOptions, MAX_CONCURRENT_CHECKPOINTS, OperatorDescription};
pub use requests::{MAX_DONE_REQUESTS, MAX_REQUESTED_CHECKPOINTS, MAX_REQUESTED_OBJECTS, Wish};
pub use retention::{Candidate, KeptBecause, RetentionPlan, RetentionPolicy};
pub use supervisor::{KeptUp, Supervisor};
