//! What keeps a job running: which workers have failed ([`liveness`]), whether and when they are started again
//! ([`restart`]), and both together over the generations of a job's workers ([`run`]). With the feature `timely`:
//! checkpoints for dataflows of that crate (`dataflow`), and with `kafka` a source and a sink for them (`kafka`).
//!
//! The first three are values that are told of moments and answer. With the feature `job` there are those who tell them: a `Manager`,
//! which owns a job's coordinator and its workers, and the worker's side, which an engine's `Workload` runs in; `wire` is what they say
//! to each other over gRPC (`docs/job-protocol.md`).
//! Which key groups a restarted task owns is [`crate::keygroup`]'s, what it restores [`crate::restore`]'s.

#[cfg(feature = "timely")]
pub mod dataflow;
#[cfg(feature = "job")]
pub mod http;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "job")]
pub mod launch;
pub mod liveness;
#[cfg(feature = "job")]
pub mod manager;
#[cfg(feature = "job")]
mod port;
#[cfg(feature = "job")]
mod processes;
pub mod report;
pub mod restart;
pub mod run;
#[cfg(any(feature = "job", feature = "timely"))]
mod splits;
#[cfg(feature = "job")]
pub mod wire;
#[cfg(feature = "job")]
pub mod worker;

#[cfg(feature = "job")]
pub use launch::{Ended, LaunchOrder, Launcher, ORDER_VARIABLE};
pub use liveness::{FailureDetector, Heartbeat, HeartbeatOptions, WorkerFailure};
#[cfg(feature = "job")]
pub use processes::ProcessLauncher;
pub use restart::{RestartStrategy, Restarts};
pub use run::{Action, Ending, JobRun, Phase, Recovery, RecoverySteps, RestoredFiles, RunOptions};
