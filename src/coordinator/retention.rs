//! Which checkpoints are kept. A pure function of what there is, so that it can be printed, tested
//! and dry-run.
//!
//! The rules are those operators know from backup tools: the last N, and the newest of each of the
//! last H hours, D days and W weeks in which there was one. Hours, days and weeks are UTC; weeks
//! begin on Monday. Pinned checkpoints, checkpoints that another job holds, and savepoints are kept
//! whatever the policy says, and so is the newest complete checkpoint: without it a job could not
//! recover (Flink: "the latest non-savepoint is always kept").

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::error::{Error, Result};
use crate::layout::CheckpointFolder;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// 1970-01-01 was a Thursday, three days into its week.
const DAYS_FROM_MONDAY: u64 = 3;

/// How many checkpoints are kept, by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Serialize))]
pub struct RetentionPolicy {
    /// The newest this many.
    pub last: u32,
    /// The newest of each of this many hours.
    pub hourly: u32,
    /// The newest of each of this many days.
    pub daily: u32,
    /// The newest of each of this many weeks.
    pub weekly: u32,
}

impl Default for RetentionPolicy {
    /// The newest one, as Flink's default.
    fn default() -> Self {
        Self { last: 1, hourly: 0, daily: 0, weekly: 0 }
    }
}

impl RetentionPolicy {
    /// Refuses a policy that would keep nothing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if all numbers are 0.
    pub fn check(&self) -> Result<()> {
        if *self == (Self { last: 0, hourly: 0, daily: 0, weekly: 0 }) {
            return Err(Error::invalid("check the retention policy", "it keeps no checkpoint")
                .with_advice("keep at least one, for example --keep-last 1"));
        }
        Ok(())
    }
}

impl fmt::Display for RetentionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the newest {}", self.last)?;
        for (number, unit) in [(self.hourly, "hourly"), (self.daily, "daily"), (self.weekly, "weekly")] {
            if number > 0 {
                write!(f, ", {number} {unit}")?;
            }
        }
        Ok(())
    }
}

/// A checkpoint as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its folder.
    pub folder: CheckpointFolder,
    /// When it was triggered.
    pub triggered_at_unix_ms: u64,
    /// Whether someone holds it: a pin, a fork, a checkpoint in flight or the next incremental one
    /// that builds on it.
    pub held: bool,
}

/// Why a checkpoint is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "cli", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum KeptBecause {
    /// It is the newest complete one.
    Newest,
    /// It is one of the last N.
    Last,
    /// It is the newest of its hour.
    Hourly,
    /// It is the newest of its day.
    Daily,
    /// It is the newest of its week.
    Weekly,
    /// Someone holds it.
    Held,
}

impl fmt::Display for KeptBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Newest => "newest",
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Held => "held",
        })
    }
}

/// What a policy keeps and drops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionPlan {
    /// What is kept, and why.
    pub keep: BTreeMap<CheckpointFolder, BTreeSet<KeptBecause>>,
    /// What is dropped, oldest first.
    pub drop: Vec<CheckpointFolder>,
}

impl RetentionPlan {
    /// Applies `policy` to `candidates`, which may come in any order.
    pub fn new(policy: RetentionPolicy, candidates: &[Candidate]) -> Self {
        let mut newest_first = candidates.to_vec();
        newest_first.sort_by_key(|candidate| std::cmp::Reverse(candidate.folder));
        let mut plan = Self::default();
        let week = |ms: u64| (ms / DAY_MS + DAYS_FROM_MONDAY) / 7;
        let mut buckets = [
            Buckets::new(KeptBecause::Hourly, policy.hourly),
            Buckets::new(KeptBecause::Daily, policy.daily),
            Buckets::new(KeptBecause::Weekly, policy.weekly),
        ];
        for (index, candidate) in newest_first.iter().enumerate() {
            let ms = candidate.triggered_at_unix_ms;
            let mut reasons = BTreeSet::new();
            if index == 0 {
                reasons.insert(KeptBecause::Newest);
            }
            if index < policy.last as usize {
                reasons.insert(KeptBecause::Last);
            }
            if candidate.held {
                reasons.insert(KeptBecause::Held);
            }
            let numbers = [ms / HOUR_MS, ms / DAY_MS, week(ms)];
            for (bucket, number) in buckets.iter_mut().zip(numbers) {
                reasons.extend(bucket.takes(number));
            }
            if reasons.is_empty() {
                plan.drop.push(candidate.folder);
            } else {
                plan.keep.insert(candidate.folder, reasons);
            }
        }
        plan.drop.sort();
        plan
    }
}

/// Hours, days or weeks that were seen, newest first.
struct Buckets {
    reason: KeptBecause,
    left: u32,
    seen: BTreeSet<u64>,
}

impl Buckets {
    fn new(reason: KeptBecause, left: u32) -> Self {
        Self { reason, left, seen: BTreeSet::new() }
    }

    fn takes(&mut self, number: u64) -> Option<KeptBecause> {
        if self.left == 0 || !self.seen.insert(number) {
            return None;
        }
        self.left -= 1;
        Some(self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{CheckpointId, Epoch, Uid};

    fn at(id: u64, ms: u64) -> Candidate {
        let epoch = Epoch { counter: 1, uid: Uid(1) };
        let folder = CheckpointFolder { checkpoint: CheckpointId(id), epoch };
        Candidate { folder, triggered_at_unix_ms: ms, held: false }
    }

    fn kept(plan: &RetentionPlan) -> Vec<u64> {
        plan.keep.keys().map(|folder| folder.checkpoint.0).collect()
    }

    #[test]
    fn the_last_n_are_kept_and_the_newest_always() {
        let all: Vec<_> = (1..=5).map(|id| at(id, id)).collect();
        assert_eq!(kept(&RetentionPlan::new(RetentionPolicy { last: 2, ..Default::default() }, &all)), [4, 5]);
        let none = RetentionPolicy { last: 0, hourly: 0, daily: 0, weekly: 0 };
        assert_eq!(kept(&RetentionPlan::new(none, &all)), [5]);
        assert!(none.check().is_err());
    }

    #[test]
    fn a_held_checkpoint_is_kept() {
        let mut all: Vec<_> = (1..=3).map(|id| at(id, id)).collect();
        all[0].held = true;
        let plan = RetentionPlan::new(RetentionPolicy::default(), &all);
        assert_eq!(kept(&plan), [1, 3]);
        assert_eq!(plan.drop.len(), 1);
    }

    #[test]
    fn of_each_hour_day_and_week_the_newest_is_kept() {
        // Three a day for twenty days, at 0:10, 0:50 and 13:00.
        let times = [10 * 60_000, 50 * 60_000, 13 * HOUR_MS];
        let all: Vec<_> = (0..60).map(|n| at(n + 1, (n / 3) * DAY_MS + times[(n % 3) as usize])).collect();
        let only = |hourly, daily, weekly| {
            let mut plan = RetentionPlan::new(RetentionPolicy { last: 0, hourly, daily, weekly }, &all);
            plan.keep.retain(|_, reasons| reasons.iter().any(|r| *r != KeptBecause::Newest));
            kept(&plan)
        };
        assert_eq!(only(2, 0, 0), [59, 60]);
        assert_eq!(only(0, 3, 0), [54, 57, 60]);
        // Day 19 after Thursday 1970-01-01 is a Tuesday; the weeks before ended on days 17 and 10.
        assert_eq!(only(0, 0, 3), [33, 54, 60]);
    }
}
