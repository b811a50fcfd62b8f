//! Which workers are alive and get on with their work, by their heartbeats.
//!
//! A worker that dies is noticed by its connection; this module is for those whose connection stands. A worker has
//! failed if it says nothing for the timeout (it hangs: SIGSTOP, swapping, a partition), or if it goes on talking but
//! its step counter stands still for as long *while input waits for it* (a dead-locked operator). One that is merely slow
//! counts on, and one that has nothing to do need not.
//!
//! Flink's names and defaults: `heartbeat.interval` 10 s, `heartbeat.timeout` 50 s
//! (`org.apache.flink.runtime.heartbeat.HeartbeatManagerImpl`); it has nothing like the step counter.
//! Moments are handed in, on a clock that never goes backwards.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};

/// How often heartbeats come, and after how long without one a worker has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatOptions {
    /// How often each worker sends one. Flink's default: 10 s.
    pub interval: Duration,
    /// After so long without one, or without a step while input waits, the worker has failed. Flink's default: 50 s.
    pub timeout: Duration,
}

impl Default for HeartbeatOptions {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), timeout: Duration::from_secs(50) }
    }
}

impl HeartbeatOptions {
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for an interval of 0, or a timeout that is not longer than it.
    pub fn check(&self) -> Result<()> {
        if self.interval.is_zero() || self.timeout <= self.interval {
            let message = "the heartbeat's timeout must be longer than its interval, and that longer than 0";
            return Err(Error::invalid("set up heartbeats", message)
                .with_advice("a timeout of five intervals lets some of them be late"));
        }
        Ok(())
    }
}

/// What a worker says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// How many steps its dataflow has made since it started; it need only grow.
    pub steps: u64,
    /// Whether input waits for it.
    pub has_input: bool,
}

/// Why a worker counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerFailure {
    /// It said nothing for so long.
    Silent(Duration),
    /// It made no step for so long, while input waited for it.
    StandsStill(Duration),
}

impl fmt::Display for WorkerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(time) => write!(f, "no heartbeat for {:.1} s", time.as_secs_f64()),
            Self::StandsStill(time) => write!(f, "no step for {:.1} s while input waited", time.as_secs_f64()),
        }
    }
}

/// What is known of one worker.
#[derive(Clone, Copy, Debug)]
struct Seen {
    heard_at: Duration,
    steps: u64,
    /// Since when input waits and no step was made.
    stands_still_since: Option<Duration>,
}

/// Watches the workers of one run.
#[derive(Debug)]
pub struct FailureDetector<W> {
    timeout: Duration,
    workers: BTreeMap<W, Seen>,
}

impl<W: Ord + Clone> FailureDetector<W> {
    /// # Errors
    /// As [`HeartbeatOptions::check`].
    pub fn new(options: HeartbeatOptions) -> Result<Self> {
        options.check()?;
        Ok(Self { timeout: options.timeout, workers: BTreeMap::new() })
    }

    /// Watches a worker from `now` on, as if it had just been heard.
    pub fn watch(&mut self, worker: W, now: Duration) {
        self.workers.insert(worker, Seen { heard_at: now, steps: 0, stands_still_since: None });
    }

    /// Watches it no more. Returns whether it was watched.
    pub fn forget(&mut self, worker: &W) -> bool {
        self.workers.remove(worker).is_some()
    }

    /// How long a worker that is watched has said nothing.
    pub fn silence(&self, worker: &W, now: Duration) -> Option<Duration> {
        self.workers.get(worker).map(|seen| now.saturating_sub(seen.heard_at))
    }

    /// Takes a heartbeat in. Returns whether the worker is watched: a stranger's, or a late one of a worker that was
    /// forgotten, changes nothing.
    pub fn heard(&mut self, worker: &W, heartbeat: Heartbeat, now: Duration) -> bool {
        let Some(seen) = self.workers.get_mut(worker) else { return false };
        seen.heard_at = now;
        let stands_still = heartbeat.steps == seen.steps && heartbeat.has_input;
        seen.stands_still_since = stands_still.then(|| seen.stands_still_since.unwrap_or(now));
        seen.steps = heartbeat.steps;
        true
    }

    /// Those that have failed by `now`, and why. They are watched until they are forgotten.
    pub fn failed(&self, now: Duration) -> Vec<(W, WorkerFailure)> {
        let verdict = |seen: &Seen| {
            let silence = now.saturating_sub(seen.heard_at);
            if silence >= self.timeout {
                return Some(WorkerFailure::Silent(silence));
            }
            // Measured to the last heartbeat: between two of them nobody knows.
            let stood_still = seen.heard_at.saturating_sub(seen.stands_still_since?);
            (stood_still >= self.timeout).then_some(WorkerFailure::StandsStill(stood_still))
        };
        let failed = self.workers.iter().filter_map(|(worker, seen)| Some((worker.clone(), verdict(seen)?)));
        failed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const OPTIONS: HeartbeatOptions =
        HeartbeatOptions { interval: Duration::from_millis(200), timeout: Duration::from_secs(2) };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// The verdict on a worker that sends these at 0, 200, 400, ... ms, at the moment of the last one.
    fn after(heartbeats: impl IntoIterator<Item = (u64, bool)>) -> Option<WorkerFailure> {
        let mut detector = FailureDetector::new(OPTIONS).unwrap();
        detector.watch("w", ms(0));
        let mut now = ms(0);
        for (number, (steps, has_input)) in (0..).zip(heartbeats) {
            now = OPTIONS.interval * number;
            assert!(detector.failed(now).is_empty(), "failed before {now:?}");
            assert!(detector.heard(&"w", Heartbeat { steps, has_input }, now));
        }
        detector.failed(now).into_iter().next().map(|(_, why)| why)
    }

    #[test]
    fn a_worker_that_says_nothing_has_failed_at_the_timeout_and_not_before() {
        let mut detector = FailureDetector::new(OPTIONS).unwrap();
        detector.watch(1, ms(0));
        detector.watch(2, ms(0));
        detector.heard(&2, Heartbeat::default(), ms(500));
        assert!(detector.failed(ms(1999)).is_empty());
        assert_eq!(detector.failed(ms(2000)), [(1, WorkerFailure::Silent(ms(2000)))]);
        assert_eq!(detector.failed(ms(2600)).len(), 2);
        assert!(detector.forget(&1) && !detector.forget(&1));
        assert_eq!(detector.failed(ms(2600)), [(2, WorkerFailure::Silent(ms(2100)))]);
    }

    #[test]
    fn a_worker_that_makes_no_step_while_input_waits_has_failed_at_the_timeout() {
        // Step 7 is news at 0 ms; from 200 ms on it stands still.
        assert_eq!(after([(7, true); 11]), None, "1800 ms");
        assert_eq!(after([(7, true); 12]), Some(WorkerFailure::StandsStill(ms(2000))));
    }

    #[test]
    fn one_that_is_slow_or_idle_has_not_failed() {
        let slow = (0..100).map(|number| (number / 9, true));
        assert_eq!(after(slow), None, "a step now and then");
        assert_eq!(after([(7, false); 100]), None, "nothing waits for it");
        // Input comes and goes, and is taken by a step each time.
        assert_eq!(after((0..100).map(|number| (7, number % 10 != 0))), None);
    }

    #[test]
    fn strangers_change_nothing_and_a_new_start_is_a_new_life() {
        let mut detector = FailureDetector::new(OPTIONS).unwrap();
        assert!(!detector.heard(&"w", Heartbeat::default(), ms(0)));
        assert!(detector.failed(ms(10_000)).is_empty());
        detector.watch("w", ms(0));
        detector.watch("w", ms(5000));
        assert!(detector.failed(ms(6000)).is_empty());
    }

    #[test]
    fn a_timeout_within_the_interval_is_refused() {
        let check = |interval, timeout| HeartbeatOptions { interval, timeout }.check();
        assert_eq!(check(ms(0), ms(10)).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(check(ms(10), ms(10)).unwrap_err().kind(), ErrorKind::InvalidInput);
        check(ms(10), ms(11)).unwrap();
        HeartbeatOptions::default().check().unwrap();
    }
}
