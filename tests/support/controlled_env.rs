//! An `Env` in which nothing happens by itself: time passes when a test says so or while somebody
//! sleeps, numbers come in one order, and blocking work is done on the spot.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icecore::env::{Clock, Env, Randomness, Runtime, Task};

/// When a test begins, by the clock on the wall, in milliseconds since 1970.
const BEGIN_UNIX_MS: u64 = 1_700_000_000_000;

/// The environment, and its time.
pub fn controlled_env() -> (Env, Arc<Time>) {
    let time = Arc::new(Time::default());
    let env = Env {
        runtime: Arc::new(Inline(Arc::clone(&time))),
        clock: Arc::clone(&time) as Arc<dyn Clock>,
        randomness: Arc::new(Numbers(AtomicU64::new(1))),
    };
    (env, time)
}

/// Numbers that never repeat, in an order that has nothing to do with time.
#[derive(Debug)]
struct Numbers(AtomicU64);

impl Randomness for Numbers {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Time in milliseconds that passes when a test says so, or while somebody sleeps.
#[derive(Debug, Default)]
pub struct Time(AtomicU64);

impl Time {
    pub fn pass(&self, duration: Duration) {
        self.0.fetch_add(duration.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for Time {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn unix_time_ms(&self) -> u64 {
        BEGIN_UNIX_MS + self.0.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
struct Inline(Arc<Time>);

impl Runtime for Inline {
    fn spawn(&self, task: Task) {
        tokio::spawn(task);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send + 'static>) {
        work();
    }

    fn sleep(&self, duration: Duration) -> Task {
        let time = Arc::clone(&self.0);
        Box::pin(async move {
            tokio::task::yield_now().await;
            time.pass(duration);
        })
    }
}
