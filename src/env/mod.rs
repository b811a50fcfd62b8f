//! The doors through which the outside world comes in, storage apart: spawning, time, randomness.
//!
//! Nothing else in the crate reads a clock, draws a random number or starts a thread (but for dataflows of the crate
//! `timely`, whose workers are threads and know no runtime), so a test can hand in its own [`Env`] and run a whole cluster
//! from a seed. Storage has its own door,
//! [`crate::store::Store`].
//!
//! Safety never rests on the clock (design, section 4): times here are for people, for time-outs
//! and for retention by age.

mod system;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};

pub use system::{SystemClock, SystemRandomness, TokioRuntime};

/// A boxed future that another task can run.
pub type Task<T = ()> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Starts work beside the caller. The one way in which icecore gets concurrency.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Runs `task` to its end in the background.
    fn spawn(&self, task: Task);

    /// Runs `work`, which may block on files or burn a core, where it holds up no other task.
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>);

    /// A future that is ready after `duration`.
    fn sleep(&self, duration: Duration) -> Task;
}

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Time since some fixed moment; never goes backwards.
    fn monotonic(&self) -> Duration;

    /// Milliseconds since 1970-01-01 UTC, as the machine believes.
    fn unix_time_ms(&self) -> u64;
}

/// Draws random numbers.
pub trait Randomness: fmt::Debug + Send + Sync + 'static {
    /// 64 random bits.
    fn next_u64(&self) -> u64;
}

/// Runtime, clock and randomness together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Env {
    /// Starts work beside the caller.
    pub runtime: Arc<dyn Runtime>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws random numbers.
    pub randomness: Arc<dyn Randomness>,
}

impl Env {
    /// The real world. Must be called, and used, inside a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] outside a tokio runtime.
    pub fn system() -> Result<Self> {
        Ok(Self {
            runtime: Arc::new(TokioRuntime::current()?),
            clock: Arc::new(SystemClock::new()),
            randomness: Arc::new(SystemRandomness),
        })
    }

    /// Runs blocking `work` in the background and waits for what it returns.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the work panicked or the runtime was shut down under it.
    pub async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.runtime.spawn_blocking(Box::new(move || {
            // The receiver is gone only if the waiting task was dropped: then nobody wants the value.
            let _ = sender.send(work());
        }));
        receiver.await.map_err(|_| {
            Error::new(ErrorKind::Internal, "run blocking work", "the work panicked or the runtime was shut down")
        })
    }
}
