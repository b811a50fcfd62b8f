//! The real clock, the operating system's randomness, and tokio.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Clock, Randomness, Runtime, Task};
use crate::error::{Error, Result};

/// The operating system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_time_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The operating system's random number generator.
#[derive(Debug)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    /// # Panics
    /// If the operating system has no randomness to give. Names that are never used twice rest on
    /// it, so there is no safe way to go on.
    #[allow(clippy::expect_used)]
    fn next_u64(&self) -> u64 {
        getrandom::u64().expect("the operating system must provide randomness")
    }
}

/// A tokio runtime that the caller owns.
#[derive(Debug)]
pub struct TokioRuntime {
    handle: tokio::runtime::Handle,
}

impl TokioRuntime {
    /// The runtime this code runs in.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] outside a tokio runtime.
    pub fn current() -> Result<Self> {
        let handle = tokio::runtime::Handle::try_current().map_err(|error| {
            Error::invalid("find the tokio runtime", error.to_string())
                .with_advice("call this inside `tokio::runtime::Runtime::block_on` or an async main")
        })?;
        Ok(Self { handle })
    }
}

impl Runtime for TokioRuntime {
    fn spawn(&self, task: Task) {
        self.handle.spawn(task);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) {
        self.handle.spawn_blocking(work);
    }

    fn sleep(&self, duration: Duration) -> Task {
        Box::pin(tokio::time::sleep(duration))
    }
}
