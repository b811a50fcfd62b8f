//! The doors to a world whose time is tokio's, for `#[tokio::test(start_paused = true)]`: it passes only while
//! everybody waits, and then at once.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icecore::env::{Clock, Env, Randomness, TokioRuntime};
use tokio::time::Instant;

#[derive(Debug)]
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn unix_time_ms(&self) -> u64 {
        1_700_000_000_000 + self.0.elapsed().as_millis() as u64
    }
}

#[derive(Debug)]
struct Numbers(AtomicU64);

impl Randomness for Numbers {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

pub fn env() -> Env {
    Env {
        runtime: Arc::new(TokioRuntime::current().unwrap()),
        clock: Arc::new(PausedClock(Instant::now())),
        randomness: Arc::new(Numbers(AtomicU64::new(1))),
    }
}
