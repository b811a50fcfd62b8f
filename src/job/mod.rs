//! What keeps a job running: which workers have failed ([`liveness`]), and whether and when the tasks are started again
//! ([`restart`]).
//!
//! Both are values that are told of moments and answer; who sends heartbeats and starts processes is elsewhere.
//! Which key groups a restarted task owns is [`crate::keygroup`]'s, what it restores [`crate::restore`]'s.

pub mod liveness;
pub mod restart;

pub use liveness::{FailureDetector, Heartbeat, HeartbeatOptions, WorkerFailure};
pub use restart::{RestartStrategy, Restarts};
