//! Restart strategies: whether, and after which pause, the tasks of a failed job are started again.
//!
//! Flink's four strategies, with its parameters and its defaults
//! (`org.apache.flink.runtime.executiongraph.failover.RestartBackoffTimeStrategy`).
//! A strategy is a value; [`Restarts`] is one in use, fed with the moments of failures. Time and chance are handed in,
//! so that a life can be played again.

mod text;

use std::collections::VecDeque;
use std::time::Duration;

use crate::env::Randomness;
use crate::error::{Error, Result};

const OPERATION: &str = "set up a restart strategy";
/// The most failures that [`RestartStrategy::FailureRate`] can allow in an interval; each is remembered.
pub const MAX_FAILURES_PER_INTERVAL: u32 = 65_536;

/// What happens when a job's tasks fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RestartStrategy {
    /// The job fails with the first failure.
    None,
    /// A number of restarts, all after the same pause.
    FixedDelay {
        /// How many restarts there are in the job's life. Flink's default: 1.
        attempts: u32,
        /// The pause before each. Flink's default: 1 s.
        delay: Duration,
    },
    /// Restarts while failures are no more frequent than this.
    FailureRate {
        /// How many failures one interval may have. Flink's default: 1.
        max_failures_per_interval: u32,
        /// How long that is. Flink's default: 1 min.
        interval: Duration,
        /// The pause before each restart. Flink's default: 1 s.
        delay: Duration,
    },
    /// Pauses that grow with each failure, and begin anew after a while without one.
    ExponentialDelay {
        /// The first pause. Flink's default: 1 s.
        initial_backoff: Duration,
        /// No pause is longer, chance apart. Flink's default: 1 min.
        max_backoff: Duration,
        /// How much longer each pause is than the one before. Flink's default: 1.5.
        backoff_multiplier: f64,
        /// After so long without a failure, the restart's pause not counted, pauses begin anew. Flink's default: 1 h.
        reset_backoff_threshold: Duration,
        /// Each pause is longer or shorter by up to this part of it, at random. Flink's default: 0.1.
        jitter_factor: f64,
        /// How many restarts there may be before pauses begin anew; `None`: any number, Flink's default.
        attempts_before_reset: Option<u32>,
    },
}

impl RestartStrategy {
    /// `fixed-delay` with Flink's defaults.
    pub const FIXED_DELAY: Self = Self::FixedDelay { attempts: 1, delay: Duration::from_secs(1) };
    /// `failure-rate` with Flink's defaults.
    pub const FAILURE_RATE: Self = Self::FailureRate {
        max_failures_per_interval: 1,
        interval: Duration::from_secs(60),
        delay: Duration::from_secs(1),
    };
    /// `exponential-delay` with Flink's defaults, which is Flink's default for jobs that take checkpoints.
    pub const EXPONENTIAL_DELAY: Self = Self::ExponentialDelay {
        initial_backoff: Duration::from_secs(1),
        max_backoff: Duration::from_secs(60),
        backoff_multiplier: 1.5,
        reset_backoff_threshold: Duration::from_secs(3600),
        jitter_factor: 0.1,
        attempts_before_reset: None,
    };

    /// Refuses parameters that make no sense.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] that names the parameter.
    pub fn check(&self) -> Result<()> {
        let refuse = |why: &str| Err(Error::invalid(OPERATION, why.to_owned()));
        match *self {
            Self::None | Self::FixedDelay { .. } => Ok(()),
            Self::FailureRate { max_failures_per_interval, interval, .. } => {
                if !(1..=MAX_FAILURES_PER_INTERVAL).contains(&max_failures_per_interval) {
                    return refuse("failure-rate: the failures allowed per interval must be 1 to 65,536");
                }
                if interval.is_zero() { refuse("failure-rate: the interval must not be 0") } else { Ok(()) }
            }
            Self::ExponentialDelay { initial_backoff, max_backoff, backoff_multiplier, jitter_factor, .. } => {
                if initial_backoff.is_zero() {
                    return refuse("exponential-delay: the initial back-off must not be 0");
                }
                if max_backoff < initial_backoff {
                    return refuse("exponential-delay: the maximum back-off is below the initial one");
                }
                if !backoff_multiplier.is_finite() || backoff_multiplier < 1.0 {
                    return refuse("exponential-delay: the multiplier must be a number from 1 up");
                }
                if (0.0..=1.0).contains(&jitter_factor) {
                    Ok(())
                } else {
                    refuse("exponential-delay: the jitter factor must be 0 to 1")
                }
            }
        }
    }
}

impl Default for RestartStrategy {
    fn default() -> Self {
        Self::EXPONENTIAL_DELAY
    }
}

/// A strategy in use.
#[derive(Clone, Debug)]
pub struct Restarts {
    strategy: RestartStrategy,
    /// How many failures were met; since pauses began anew, for [`RestartStrategy::ExponentialDelay`].
    failures: u32,
    /// The moments of recent ones, oldest first; [`RestartStrategy::FailureRate`] alone keeps them.
    recent: VecDeque<Duration>,
    /// When the tasks were to run again after the last failure.
    restarted_at: Option<Duration>,
    /// The next pause, before chance changes it.
    backoff: Duration,
}

impl Restarts {
    /// # Errors
    /// As [`RestartStrategy::check`].
    pub fn new(strategy: RestartStrategy) -> Result<Self> {
        strategy.check()?;
        let backoff = match strategy {
            RestartStrategy::ExponentialDelay { initial_backoff, .. } => initial_backoff,
            _ => Duration::ZERO,
        };
        Ok(Self { strategy, failures: 0, recent: VecDeque::new(), restarted_at: None, backoff })
    }

    /// The tasks failed at `now` (on a clock that never goes backwards): the pause before they are started again,
    /// or `None` if the job has failed for good.
    pub fn after_failure(&mut self, now: Duration, randomness: &dyn Randomness) -> Option<Duration> {
        let pause = match self.strategy {
            RestartStrategy::None => None,
            RestartStrategy::FixedDelay { attempts, delay } => (self.failures < attempts).then_some(delay),
            RestartStrategy::FailureRate { max_failures_per_interval, interval, delay } => {
                self.recent.push_back(now);
                while self.recent.front().is_some_and(|first| now.saturating_sub(*first) > interval) {
                    self.recent.pop_front();
                }
                (self.recent.len() <= max_failures_per_interval as usize).then_some(delay)
            }
            RestartStrategy::ExponentialDelay {
                initial_backoff,
                max_backoff,
                backoff_multiplier,
                reset_backoff_threshold,
                jitter_factor,
                attempts_before_reset,
            } => {
                if self.restarted_at.is_some_and(|at| now.saturating_sub(at) >= reset_backoff_threshold) {
                    (self.failures, self.backoff) = (0, initial_backoff);
                }
                let is_allowed = attempts_before_reset.is_none_or(|attempts| self.failures < attempts);
                let pause = jittered(self.backoff, jitter_factor, randomness);
                self.backoff = longer(self.backoff, backoff_multiplier, max_backoff);
                is_allowed.then_some(pause)
            }
        };
        self.failures = self.failures.saturating_add(1);
        self.restarted_at = pause.map(|pause| now.saturating_add(pause));
        pause
    }

    /// How many failures were met; since pauses began anew, for [`RestartStrategy::ExponentialDelay`].
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

/// `pause`, longer or shorter by up to `factor` of it.
fn jittered(pause: Duration, factor: f64, randomness: &dyn Randomness) -> Duration {
    // 53 bits: every value of the fraction is one that a double has.
    let fraction = (randomness.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    scaled(pause, 1.0 + factor * (2.0 * fraction - 1.0)).unwrap_or(pause)
}

fn longer(pause: Duration, factor: f64, longest: Duration) -> Duration {
    scaled(pause, factor).map_or(longest, |longer| longer.min(longest))
}

/// `None` beyond what a duration can say.
fn scaled(pause: Duration, factor: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(pause.as_secs_f64() * factor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    const SECOND: Duration = Duration::from_secs(1);

    /// Draws the same number for ever.
    #[derive(Debug)]
    struct Always(u64);

    impl Randomness for Always {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    const MIDDLE: Always = Always(1 << 63);

    fn seconds(numbers: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        numbers.into_iter().map(Duration::from_secs).collect()
    }

    /// The pauses after failures at these moments, each in milliseconds.
    fn pauses(strategy: RestartStrategy, failures: &[Duration]) -> Vec<Option<u128>> {
        let mut restarts = Restarts::new(strategy).unwrap();
        failures.iter().map(|at| restarts.after_failure(*at, &MIDDLE).map(|pause| pause.as_millis())).collect()
    }

    fn exponential() -> RestartStrategy {
        RestartStrategy::ExponentialDelay {
            initial_backoff: SECOND,
            max_backoff: 5 * SECOND,
            backoff_multiplier: 2.0,
            reset_backoff_threshold: 100 * SECOND,
            jitter_factor: 0.0,
            attempts_before_reset: Some(5),
        }
    }

    #[test]
    fn none_never_restarts() {
        assert_eq!(pauses(RestartStrategy::None, &seconds([1])), [None]);
    }

    #[test]
    fn fixed_delay_restarts_as_often_as_it_says() {
        let strategy = RestartStrategy::FixedDelay { attempts: 2, delay: 3 * SECOND };
        assert_eq!(pauses(strategy, &seconds([1, 1000, 2000])), [Some(3000), Some(3000), None]);
        assert_eq!(pauses(RestartStrategy::FIXED_DELAY, &seconds([1, 2])), [Some(1000), None]);
    }

    #[test]
    fn failure_rate_counts_the_failures_of_the_last_interval() {
        let strategy =
            RestartStrategy::FailureRate { max_failures_per_interval: 2, interval: 10 * SECOND, delay: SECOND };
        let all = [Some(1000); 2];
        assert_eq!(pauses(strategy, &seconds([0, 1, 2])), [all[0], all[1], None]);
        // The first is out of the interval when the third comes.
        assert_eq!(pauses(strategy, &seconds([0, 5, 11, 14])), [all[0], all[0], all[0], None]);
        let many: Vec<Duration> = (0..1000).map(|at| 6 * SECOND * at).collect();
        assert!(pauses(strategy, &many).iter().all(Option::is_some));
    }

    #[test]
    fn exponential_delay_grows_to_its_maximum_and_ends_after_its_attempts() {
        let got = pauses(exponential(), &seconds([0, 10, 20, 30, 40, 50]));
        assert_eq!(got, [Some(1000), Some(2000), Some(4000), Some(5000), Some(5000), None]);
    }

    #[test]
    fn exponential_delay_begins_anew_after_a_while_without_failures() {
        // The tasks run again at 1 and at 12, so 101 would be early enough and 112 is.
        assert_eq!(pauses(exponential(), &seconds([0, 10, 111])), [Some(1000), Some(2000), Some(4000)]);
        assert_eq!(pauses(exponential(), &seconds([0, 10, 112])), [Some(1000), Some(2000), Some(1000)]);
    }

    #[test]
    fn jitter_stays_within_its_factor() {
        let pause = |number| jittered(10 * SECOND, 0.1, &Always(number)).as_millis();
        assert_eq!(pause(0), 9000);
        assert_eq!(pause(1 << 63), 10_000);
        assert!((10_999..=11_000).contains(&pause(u64::MAX)));
    }

    #[test]
    fn the_default_goes_on_for_ever_with_pauses_of_at_most_a_minute_and_a_tenth() {
        let mut restarts = Restarts::new(RestartStrategy::default()).unwrap();
        let mut now = Duration::ZERO;
        for _ in 0..2000 {
            let pause = restarts.after_failure(now, &Always(u64::MAX)).unwrap();
            assert!(pause <= Duration::from_secs(66), "{pause:?}");
            now += pause;
        }
    }

    #[test]
    fn parameters_that_make_no_sense_are_refused() {
        let exponential_with = |change: fn(&mut RestartStrategy)| {
            let mut strategy = exponential();
            change(&mut strategy);
            strategy
        };
        macro_rules! set {
            ($name:ident, $value:expr) => {
                exponential_with(|strategy| {
                    if let RestartStrategy::ExponentialDelay { $name, .. } = strategy {
                        *$name = $value;
                    }
                })
            };
        }
        let rate = |max_failures_per_interval, interval| RestartStrategy::FailureRate {
            max_failures_per_interval,
            interval,
            delay: SECOND,
        };
        for strategy in [
            rate(0, SECOND),
            rate(MAX_FAILURES_PER_INTERVAL + 1, SECOND),
            rate(1, Duration::ZERO),
            set!(initial_backoff, Duration::ZERO),
            set!(max_backoff, Duration::from_millis(1)),
            set!(backoff_multiplier, 0.9),
            set!(backoff_multiplier, f64::NAN),
            set!(jitter_factor, 1.1),
            set!(jitter_factor, f64::NAN),
        ] {
            assert_eq!(Restarts::new(strategy).unwrap_err().kind(), ErrorKind::InvalidInput, "{strategy:?}");
        }
        // Growth beyond all bounds ends at the maximum.
        let huge = set!(backoff_multiplier, f64::MAX);
        assert_eq!(pauses(huge, &seconds([0, 1, 2])), [Some(1000), Some(5000), Some(5000)]);
    }
}
