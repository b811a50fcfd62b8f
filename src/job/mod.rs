//! What keeps a job running: which workers have failed ([`liveness`]), whether and when they are started again
//! ([`restart`]), and both together over the generations of a job's workers ([`run`]). With the feature `timely`:
//! checkpoints for dataflows of that crate (`dataflow`).
//!
//! The first three are values that are told of moments and answer; who sends heartbeats and starts processes is elsewhere.
//! Which key groups a restarted task owns is [`crate::keygroup`]'s, what it restores [`crate::restore`]'s.

#[cfg(feature = "timely")]
pub mod dataflow;
pub mod liveness;
pub mod restart;
pub mod run;

pub use liveness::{FailureDetector, Heartbeat, HeartbeatOptions, WorkerFailure};
pub use restart::{RestartStrategy, Restarts};
pub use run::{Action, Ending, JobRun, Phase, RunOptions};
