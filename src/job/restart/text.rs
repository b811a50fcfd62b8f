//! Restart strategies as people write them: a name, and what differs from Flink's defaults.
//!
//! `none`, `fixed-delay,attempts=3,delay=10s`, `failure-rate,max-failures=5,interval=5m,delay=1s`,
//! `exponential-delay,initial=500ms,max=1m,multiplier=2,reset=1h,jitter=0.1,attempts=10`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::RestartStrategy;
use crate::error::{Error, Result};
use crate::store::parse_duration;

const NAMES: &str = "none, fixed-delay, failure-rate, exponential-delay";

impl FromStr for RestartStrategy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let mut strategy = match name {
            "none" => Self::None,
            "fixed-delay" => Self::FIXED_DELAY,
            "failure-rate" => Self::FAILURE_RATE,
            "exponential-delay" => Self::EXPONENTIAL_DELAY,
            unknown => {
                let message = format!("there is no `{}`", unknown.escape_debug());
                return Err(refuse(message).with_advice(format!("there are: {NAMES}")));
            }
        };
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            strategy.set(key, value).map_err(|error| error.with_object(format!("{name}: {}", part.escape_debug())))?;
        }
        strategy.check()?;
        Ok(strategy)
    }
}

impl RestartStrategy {
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match self {
            Self::None => return Err(unknown(key, "it has no parameters")),
            Self::FixedDelay { attempts, delay } => match key {
                "attempts" => *attempts = number(value)?,
                "delay" => *delay = parse_duration(value)?,
                _ => return Err(unknown(key, "attempts, delay")),
            },
            Self::FailureRate { max_failures_per_interval, interval, delay } => match key {
                "max-failures" => *max_failures_per_interval = number(value)?,
                "interval" => *interval = parse_duration(value)?,
                "delay" => *delay = parse_duration(value)?,
                _ => return Err(unknown(key, "max-failures, interval, delay")),
            },
            Self::ExponentialDelay {
                initial_backoff,
                max_backoff,
                backoff_multiplier,
                reset_backoff_threshold,
                jitter_factor,
                attempts_before_reset,
            } => match key {
                "initial" => *initial_backoff = parse_duration(value)?,
                "max" => *max_backoff = parse_duration(value)?,
                "multiplier" => *backoff_multiplier = number(value)?,
                "reset" => *reset_backoff_threshold = parse_duration(value)?,
                "jitter" => *jitter_factor = number(value)?,
                "attempts" => *attempts_before_reset = Some(number(value)?),
                _ => return Err(unknown(key, "initial, max, multiplier, reset, jitter, attempts")),
            },
        }
        Ok(())
    }
}

impl fmt::Display for RestartStrategy {
    /// The form that is read back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("none"),
            Self::FixedDelay { attempts, delay } => write!(f, "fixed-delay,attempts={attempts},delay={}", Text(delay)),
            Self::FailureRate { max_failures_per_interval, interval, delay } => {
                let (interval, delay) = (Text(interval), Text(delay));
                write!(f, "failure-rate,max-failures={max_failures_per_interval},interval={interval},delay={delay}")
            }
            Self::ExponentialDelay {
                initial_backoff,
                max_backoff,
                backoff_multiplier,
                reset_backoff_threshold,
                jitter_factor,
                attempts_before_reset,
            } => {
                let (initial, max, reset) = (Text(initial_backoff), Text(max_backoff), Text(reset_backoff_threshold));
                write!(f, "exponential-delay,initial={initial},max={max},multiplier={backoff_multiplier}")?;
                write!(f, ",reset={reset},jitter={jitter_factor}")?;
                attempts_before_reset.map_or(Ok(()), |attempts| write!(f, ",attempts={attempts}"))
            }
        }
    }
}

/// A duration as [`parse_duration`] reads it, in whole milliseconds.
struct Text(Duration);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            ms if ms % 1_000 == 0 => write!(f, "{}s", ms / 1_000),
            ms => write!(f, "{ms}ms"),
        }
    }
}

fn number<N: FromStr>(value: &str) -> Result<N> {
    value.parse().map_err(|_| refuse("it is no such number".to_owned()))
}

fn unknown(key: &str, known: &str) -> Error {
    refuse(format!("there is no parameter `{}`", key.escape_debug())).with_advice(format!("there are: {known}"))
}

fn refuse(message: String) -> Error {
    Error::invalid("read a restart strategy", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        let written = "exponential-delay,initial=500ms,max=90s,multiplier=2,reset=3600s,jitter=0.25,attempts=10";
        let read: RestartStrategy = written.parse().unwrap();
        assert_eq!(read.to_string(), written);
        let all = [RestartStrategy::None, RestartStrategy::FIXED_DELAY, RestartStrategy::FAILURE_RATE, read];
        for strategy in all.into_iter().chain([RestartStrategy::EXPONENTIAL_DELAY]) {
            assert_eq!(strategy.to_string().parse::<RestartStrategy>().unwrap(), strategy);
        }
    }

    #[test]
    fn a_name_alone_has_the_defaults() {
        assert_eq!("fixed-delay".parse::<RestartStrategy>().unwrap(), RestartStrategy::FIXED_DELAY);
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_with_what_there_is() {
        for (text, said) in [
            ("sometimes", "there are: none, fixed-delay, failure-rate, exponential-delay"),
            ("fixed-delay,tries=3", "there are: attempts, delay"),
            ("fixed-delay,delay=3", "500ms"),
            ("fixed-delay,attempts=-1", "no such number"),
            ("failure-rate,max-failures=0", "must be 1 to 65,536"),
            ("none,delay=1s", "no parameter"),
        ] {
            let error = text.parse::<RestartStrategy>().unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
