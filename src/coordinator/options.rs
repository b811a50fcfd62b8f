//! How a coordinator works, and what job it coordinates.

use std::time::Duration;

use super::retention::RetentionPolicy;
use crate::error::{Error, Result};
use crate::keygroup::MaxParallelism;
use crate::layout::OperatorId;

/// The most checkpoints that may be in flight at once, savepoints included.
pub const MAX_CONCURRENT_CHECKPOINTS: usize = 64;

/// How a coordinator works. The defaults are Flink's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorOptions {
    /// Between two triggers of periodic checkpoints; `None`: they are triggered by hand only.
    pub interval: Option<Duration>,
    /// Between the end of one checkpoint and the trigger of the next.
    pub min_pause: Duration,
    /// How long a checkpoint may take before it is aborted, uploads that are tried again included
    /// ([`crate::snapshot::SnapshotterOptions::retry`]).
    pub timeout: Duration,
    /// How many checkpoints may be in flight at once; savepoints do not count.
    pub max_concurrent: usize,
    /// How many checkpoints in a row may fail before no more are triggered: the job counts as failed then,
    /// and its tasks have to be restarted. [`super::TickReport::too_many_failures`] tells.
    pub tolerable_failures: u32,
    /// Which complete checkpoints are kept.
    pub retention: RetentionPolicy,
    /// Whether a [`super::Supervisor`] claims the job again when the tenure is over and nobody else runs the
    /// job: a command took it over and has ended, or the outcome of a commit is unknown.
    pub claims_again: bool,
    /// What the coordinator calls itself in its claim: a host name and process id, say.
    pub holder: String,
}

impl Default for CoordinatorOptions {
    fn default() -> Self {
        Self {
            interval: None,
            min_pause: Duration::ZERO,
            timeout: Duration::from_secs(600),
            max_concurrent: 1,
            tolerable_failures: 0,
            retention: RetentionPolicy::default(),
            claims_again: true,
            holder: format!("process {}", std::process::id()),
        }
    }
}

impl CoordinatorOptions {
    /// Refuses options that cannot work.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] with the option's name.
    pub fn check(&self) -> Result<()> {
        self.retention.check()?;
        let refuse = |what: &str| Err(Error::invalid("check the coordinator's options", what));
        if self.max_concurrent == 0 || self.max_concurrent > MAX_CONCURRENT_CHECKPOINTS {
            return refuse("max_concurrent must be between 1 and 64");
        }
        if self.timeout.is_zero() {
            return refuse("timeout must be longer than 0");
        }
        if self.interval.is_some_and(|interval| interval.is_zero()) {
            return refuse("interval must be longer than 0");
        }
        Ok(())
    }
}

/// A stateful operator of the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorDescription {
    /// Its id, the same for the whole life of the job.
    pub operator: OperatorId,
    /// How many subtasks it has.
    pub parallelism: u32,
    /// Into how many key groups its keys are hashed: the same for the whole life of the job.
    pub max_parallelism: u32,
}

impl OperatorDescription {
    /// Refuses another max parallelism than the operator had before: keys would be looked for in key
    /// groups that do not hold them.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] naming the operator.
    pub(crate) fn check_unchanged(&self, operator: &OperatorId, max_parallelism: u32) -> Result<()> {
        if self.operator != *operator || self.max_parallelism == max_parallelism {
            return Ok(());
        }
        let message =
            format!("its max parallelism was {max_parallelism}, now it is said to be {}", self.max_parallelism);
        Err(Error::invalid("start a job's operator", message)
            .with_object(operator)
            .with_advice("the max parallelism is fixed for the life of an operator's state"))
    }

    /// Refuses a parallelism that does not fit.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] naming the operator.
    pub fn check(&self) -> Result<()> {
        MaxParallelism::new(self.max_parallelism)
            .and_then(|groups| groups.range_of_subtask(0, self.parallelism))
            .map(|_| ())
            .map_err(|error| error.with_object(&self.operator))
    }
}
