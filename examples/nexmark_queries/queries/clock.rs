//! Event time, for people.

use std::fmt;

const MS_PER_SECOND: i64 = 1_000;
const MS_PER_MINUTE: i64 = 60 * MS_PER_SECOND;
const MS_PER_HOUR: i64 = 60 * MS_PER_MINUTE;
const MS_PER_DAY: i64 = 24 * MS_PER_HOUR;

/// A moment, shown as the time of day.
pub struct Clock(pub i64);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.rem_euclid(MS_PER_DAY);
        let (hours, minutes) = (ms / MS_PER_HOUR, ms % MS_PER_HOUR / MS_PER_MINUTE);
        write!(f, "{hours:02}:{minutes:02}:{:02}.{:03}", ms % MS_PER_MINUTE / MS_PER_SECOND, ms % MS_PER_SECOND)
    }
}

/// Cents, shown as dollars.
pub struct Money(pub u64);

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}.{:02}", self.0 / 100, self.0 % 100)
    }
}
