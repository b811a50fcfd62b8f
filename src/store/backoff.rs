//! When failed work is tried again: waits that grow, are never quite the same, and end.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::env::Env;
use crate::error::{Error, Result};

/// No wait is shorter, so that nothing is tried in a tight loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// From waits of this length on, a person may wonder why nothing happens, and is told.
const TOLD_FROM: Duration = Duration::from_secs(1);
/// Between two such lines of one user of a policy, however much it has under way.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// When work is tried again that failed with an error which [may pass](Error::is_retryable).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first failure; each later one is twice as long. What is really waited is between
    /// half of it and all of it, at random, so that many who failed together do not come back together.
    pub first_wait: Duration,
    /// No wait is longer than this.
    pub longest_wait: Duration,
    /// No attempt begins later than this after the first failure. Zero: nothing is tried again.
    pub give_up_after: Duration,
}

impl RetryPolicy {
    /// Nothing is tried again.
    pub const NEVER: Self =
        Self { first_wait: Duration::ZERO, longest_wait: Duration::ZERO, give_up_after: Duration::ZERO };

    /// For single requests to a remote store: from 0.1 s to 10 s between two attempts, for one minute. It bridges a
    /// broken connection, a throttled moment and the restart of a server; what is down for longer is told.
    pub const REQUESTS: Self = Self {
        first_wait: Duration::from_millis(100),
        longest_wait: Duration::from_secs(10),
        give_up_after: Duration::from_secs(60),
    };

    /// For whole objects, which are sent again under another name: from 0.2 s to 20 s between two attempts, for
    /// 12 minutes. HDFS, by its defaults, declares a dead DataNode after 10.5 minutes, and until then may go on
    /// choosing it for new files.
    ///
    /// A checkpoint ends by its own timeout, if that is shorter: 10 minutes by default
    /// ([`crate::coordinator::CoordinatorOptions::timeout`]). Give it more than 12 where one checkpoint shall outlast that.
    pub const OBJECTS: Self = Self {
        first_wait: Duration::from_millis(200),
        longest_wait: Duration::from_secs(20),
        give_up_after: Duration::from_secs(12 * 60),
    };

    /// This policy, giving up after another time.
    #[must_use]
    pub fn giving_up_after(self, give_up_after: Duration) -> Self {
        Self { give_up_after, ..self }
    }

    /// The wait after the failure number `failures` (the first is 1), before chance shortens it.
    fn wait_after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first_wait.saturating_mul(1 << doublings).min(self.longest_wait)
    }
}

/// A policy in use.
#[derive(Debug)]
pub(crate) struct Retries(Arc<Shared>);

/// The policy, with the doors to time and chance, and when it last told of a wait.
#[derive(Debug)]
struct Shared {
    policy: RetryPolicy,
    env: Env,
    told_at: Mutex<Option<Duration>>,
}

impl Retries {
    pub(crate) fn new(policy: RetryPolicy, env: Env) -> Self {
        Self(Arc::new(Shared { policy, env, told_at: Mutex::new(None) }))
    }

    /// For one piece of work, at its beginning.
    pub(crate) fn begin(&self) -> Backoff {
        Backoff { shared: Arc::clone(&self.0), failures: 0, failed_first_at: None, waited: Duration::ZERO }
    }
}

impl Shared {
    /// Whether it is time for another line.
    fn may_tell(&self, now: Duration) -> bool {
        let mut told_at = self.told_at.lock();
        let due = told_at.is_none_or(|told_at| now.saturating_sub(told_at) >= TOLD_EVERY);
        if due {
            *told_at = Some(now);
        }
        due
    }
}

/// How often one piece of work has failed, and for how long.
#[derive(Debug)]
pub(crate) struct Backoff {
    shared: Arc<Shared>,
    failures: u32,
    failed_first_at: Option<Duration>,
    /// All waits together: the end comes even by a clock that stands still.
    waited: Duration,
}

impl Backoff {
    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The same one, if it will not pass or the time is up; how often was tried is told then.
    pub(crate) async fn after(&mut self, error: Error) -> Result<()> {
        if self.may_try_again(&error).await {
            return Ok(());
        }
        if self.failures < 2 || !error.is_retryable() {
            return Err(error);
        }
        let (times, seconds) = (self.failures, self.passed().as_secs_f64());
        Err(error.with_note(format_args!("tried {times} times in {seconds:.1} s")))
    }

    /// Whether to try again, after a wait: not if the error will not pass, nor when the time is up.
    pub(crate) async fn may_try_again(&mut self, error: &Error) -> bool {
        if !error.is_retryable() {
            return false;
        }
        let Shared { policy, env, .. } = &*self.shared;
        self.failures = self.failures.saturating_add(1);
        let now = env.clock.monotonic();
        self.failed_first_at.get_or_insert(now);
        let left = policy.give_up_after.saturating_sub(self.passed());
        if left.is_zero() {
            return false;
        }
        let wait = self.jittered(policy.wait_after(self.failures)).min(left).max(SHORTEST_WAIT);
        let (failures, wait_ms) = (self.failures, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        if wait >= TOLD_FROM && self.shared.may_tell(now) {
            tracing::warn!(%error, failures, wait_ms, "the store fails; trying again");
        } else {
            tracing::debug!(%error, failures, wait_ms, "trying again");
        }
        self.waited = self.waited.saturating_add(wait);
        env.runtime.sleep(wait).await;
        true
    }

    /// Since the first failure.
    fn passed(&self) -> Duration {
        let Some(first) = self.failed_first_at else { return Duration::ZERO };
        self.shared.env.clock.monotonic().saturating_sub(first).max(self.waited)
    }

    /// Some of the work is done: the next failure is a first one.
    pub(crate) fn got_on(&mut self) {
        (self.failures, self.failed_first_at, self.waited) = (0, None, Duration::ZERO);
    }

    fn jittered(&self, wait: Duration) -> Duration {
        let half = wait / 2;
        let span = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.shared.env.randomness.next_u64() % span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Clock, Randomness, Runtime, Task};
    use crate::error::ErrorKind;

    /// Time that passes while somebody sleeps, and is written down.
    #[derive(Debug, Default)]
    struct World {
        now: Mutex<Duration>,
        waits: Mutex<Vec<Duration>>,
        stands_still: bool,
    }

    impl Clock for World {
        fn monotonic(&self) -> Duration {
            if self.stands_still { Duration::ZERO } else { *self.now.lock() }
        }

        fn unix_time_ms(&self) -> u64 {
            0
        }
    }

    #[derive(Debug)]
    struct Sleeps(Arc<World>);

    impl Runtime for Sleeps {
        fn spawn(&self, _task: Task) {}

        fn spawn_blocking(&self, _work: Box<dyn FnOnce() + Send + 'static>) {}

        fn sleep(&self, duration: Duration) -> Task {
            *self.0.now.lock() += duration;
            self.0.waits.lock().push(duration);
            Box::pin(std::future::ready(()))
        }
    }

    #[derive(Debug, Default)]
    struct Chance(Mutex<u64>);

    impl Randomness for Chance {
        fn next_u64(&self) -> u64 {
            let mut state = self.0.lock();
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            (*state ^ (*state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        }
    }

    fn retries(policy: RetryPolicy, world: &Arc<World>) -> Retries {
        let env = Env {
            runtime: Arc::new(Sleeps(world.clone())),
            clock: world.clone(),
            randomness: Arc::new(Chance::default()),
        };
        Retries::new(policy, env)
    }

    fn passing() -> Error {
        Error::new(ErrorKind::Temporary, "call the store", "it broke")
    }

    /// Fails until it is given up; the last error.
    async fn fail(backoff: &mut Backoff) -> Error {
        loop {
            if let Err(error) = backoff.after(passing()).await {
                return error;
            }
        }
    }

    #[tokio::test]
    async fn waits_grow_to_the_longest_and_no_two_are_the_same() {
        let world = Arc::new(World::default());
        let retries = retries(RetryPolicy::REQUESTS, &world);
        let error = fail(&mut retries.begin()).await;
        let waits = world.waits.lock().clone();
        for (failures, wait) in (1..).zip(&waits).take(waits.len() - 1) {
            let most = RetryPolicy::REQUESTS.wait_after(failures);
            assert!(*wait >= most / 2 && *wait <= most, "{failures}: {wait:?} of {most:?}");
        }
        let longest: Vec<_> = waits.iter().filter(|wait| **wait >= Duration::from_secs(5)).collect();
        assert!(longest.len() > 3, "{waits:?}");
        assert!(longest.windows(2).any(|pair| pair[0] != pair[1]), "chance has no part in {waits:?}");
        assert_eq!(world.monotonic(), RetryPolicy::REQUESTS.give_up_after, "the last attempt is made at the end");
        let told = format!("it broke (tried {} times in 60.0 s)", waits.len() + 1);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Temporary, &*told));
    }

    #[tokio::test]
    async fn what_will_not_pass_is_not_waited_for_and_nothing_is_said_of_attempts() {
        let world = Arc::new(World::default());
        let retries = retries(RetryPolicy::REQUESTS, &world);
        let mut backoff = retries.begin();
        let refused = || Error::new(ErrorKind::PermissionDenied, "call the store", "no");
        assert_eq!(backoff.after(refused()).await.unwrap_err().message(), "no");
        backoff.after(passing()).await.unwrap();
        assert_eq!(backoff.after(refused()).await.unwrap_err().message(), "no");
        assert_eq!(world.waits.lock().len(), 1);
    }

    #[tokio::test]
    async fn never_is_never() {
        let world = Arc::new(World::default());
        let retries = retries(RetryPolicy::NEVER, &world);
        assert_eq!(fail(&mut retries.begin()).await.message(), "it broke");
        assert!(world.waits.lock().is_empty());
    }

    #[tokio::test]
    async fn whoever_gets_on_has_all_the_time_again() {
        let world = Arc::new(World::default());
        let retries = retries(RetryPolicy::REQUESTS, &world);
        let mut backoff = retries.begin();
        fail(&mut backoff).await;
        backoff.got_on();
        backoff.after(passing()).await.unwrap();
        let waits = world.waits.lock();
        assert!(waits.last() <= Some(&RetryPolicy::REQUESTS.first_wait), "{waits:?}");
    }

    #[tokio::test]
    async fn it_ends_even_by_a_clock_that_stands_still_and_without_waits() {
        let world = Arc::new(World { stands_still: true, ..World::default() });
        fail(&mut retries(RetryPolicy::OBJECTS, &world).begin()).await;
        assert_eq!(world.waits.lock().iter().sum::<Duration>(), RetryPolicy::OBJECTS.give_up_after);
        world.waits.lock().clear();
        let hasty = RetryPolicy::NEVER.giving_up_after(Duration::from_millis(50));
        fail(&mut retries(hasty, &world).begin()).await;
        assert_eq!(world.waits.lock().len(), 50);
    }

    #[tokio::test]
    async fn however_much_fails_at_once_few_lines_are_written() {
        let world = Arc::new(World::default());
        let retries = retries(RetryPolicy::OBJECTS, &world);
        let told = (0..100).filter(|_| retries.0.may_tell(world.monotonic())).count();
        *world.now.lock() += TOLD_EVERY;
        assert_eq!((told, retries.0.may_tell(world.monotonic())), (1, true));
    }
}
