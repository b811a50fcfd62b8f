//! The life of a job's workers: started together, watched, ended together, started again.
//!
//! A dataflow has a fixed set of workers, so one that fails ends them all. Each start is a *generation*; whatever comes
//! from a worker of an earlier one (it was stopped and goes on, its message was late) changes nothing here, and
//! the coordinator discards its acknowledgements for the same reason
//! ([`Coordinator::restart_tasks`](crate::coordinator::Coordinator::restart_tasks)).
//!
//! [`JobRun`] is told of events and moments and answers with what is to be done; it starts no process and sends nothing, so
//! any life can be played from a seed. Call [`JobRun::tick`] often: time-outs come about there.

mod recovery;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::liveness::{FailureDetector, Heartbeat, HeartbeatOptions};
use super::restart::{RestartStrategy, Restarts};
use crate::env::Randomness;
use crate::error::{Error, Result};

pub use recovery::{Recovery, RecoverySteps, RestoredFiles};

const OPERATION: &str = "run a job";
/// The most workers of one job: a worker has at least one key group.
pub const MAX_WORKERS: u32 = 32_768;

/// How a job's workers are watched and restarted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunOptions {
    /// When a worker that says nothing, or stands still, has failed.
    pub heartbeat: HeartbeatOptions,
    /// What happens then.
    pub restart: RestartStrategy,
    /// How long all workers of a generation may take to report. Default: 5 min, as Flink's `slot.request.timeout`.
    pub startup_timeout: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            heartbeat: HeartbeatOptions::default(),
            restart: RestartStrategy::default(),
            startup_timeout: Duration::from_secs(300),
        }
    }
}

/// What is to be done. Actions are carried out in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// End every worker of this generation, with force; do not wait for those that cannot be reached.
    EndWorkers {
        /// The generation that is over.
        generation: u64,
        /// Why, for a person.
        why: String,
    },
    /// Start workers 0 to `workers`, each of which restores its part of the newest complete checkpoint.
    StartWorkers {
        /// Greater than any before.
        generation: u64,
        /// How many.
        workers: u32,
    },
    /// The job is over.
    Over(Ending),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every worker came to its end.
    Finished,
    /// Someone said so.
    Cancelled,
    /// The restart strategy allows no further start, after this failure.
    Failed(String),
}

impl Ending {
    /// `finished`, `cancelled` or `failed`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed(_) => "failed",
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Finished | Self::Cancelled => Ok(()),
            Self::Failed(why) => write!(f, ": {why}"),
        }
    }
}

/// Where a job is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Workers were started, and not all have reported.
    Starting {
        /// Those that have not.
        missing: BTreeSet<u32>,
        /// When that has taken too long.
        until: Duration,
    },
    /// All workers have reported, and not all have restored their state.
    Restoring {
        /// Those that have not.
        missing: BTreeSet<u32>,
    },
    /// All workers have restored their state: checkpoints can be taken.
    Running,
    /// The workers were ended, and the next generation starts later.
    Restarting {
        /// When.
        at: Duration,
    },
    /// There will be no further worker.
    Over(Ending),
}

/// One job's workers, over all generations.
#[derive(Debug)]
pub struct JobRun {
    options: RunOptions,
    restarts: Restarts,
    detector: FailureDetector<u32>,
    generation: u64,
    workers: u32,
    finished: BTreeSet<u32>,
    phase: Phase,
    last_failure: Option<String>,
    failures: u64,
    /// When workers were ended that the next generation takes the place of.
    ended: Option<Duration>,
    recovery: Recovery,
    /// Some worker of the generation has processed a record.
    has_record: bool,
}

impl JobRun {
    /// Begins with `workers` workers at once; the first answer is what to do for that.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for options that make no sense, or for a number of workers that is 0 or above
    /// [`MAX_WORKERS`].
    pub fn start(options: RunOptions, workers: u32, now: Duration) -> Result<(Self, Vec<Action>)> {
        check_workers(workers)?;
        if options.startup_timeout.is_zero() {
            return Err(Error::invalid(OPERATION, "the time for starting workers must not be 0"));
        }
        let mut run = Self {
            options,
            restarts: Restarts::new(options.restart)?,
            detector: FailureDetector::new(options.heartbeat)?,
            generation: 0,
            workers,
            finished: BTreeSet::new(),
            phase: Phase::Restarting { at: now },
            last_failure: None,
            failures: 0,
            ended: None,
            recovery: Recovery::default(),
            has_record: false,
        };
        let actions = run.begin_generation(now);
        Ok((run, actions))
    }

    /// The generation that runs, or ran last.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many workers it has, or the next one will have.
    pub fn workers(&self) -> u32 {
        self.workers
    }

    /// Where the job is.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Why workers were ended last, if they were.
    pub fn last_failure(&self) -> Option<&str> {
        self.last_failure.as_deref()
    }

    /// Says more of why workers were ended last.
    pub fn explain_failure(&mut self, why: &str) {
        if self.last_failure.is_some() {
            self.last_failure = Some(why.to_owned());
        }
    }

    /// How many failures there were.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// How the generation came to run, as far as it has come.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// How long a worker that is watched has said nothing.
    pub fn silence(&self, worker: u32, now: Duration) -> Option<Duration> {
        self.detector.silence(&worker, now)
    }

    /// A worker reports that it has started. Returns whether it belongs to this run: a stranger, a stale one, and a
    /// second one of the same number must leave.
    pub fn registered(&mut self, worker: u32, generation: u64, now: Duration) -> bool {
        let is_current = generation == self.generation;
        let Phase::Starting { missing, .. } = &mut self.phase else { return false };
        if !is_current || !missing.remove(&worker) {
            return false;
        }
        if missing.is_empty() {
            self.phase = Phase::Restoring { missing: (0..self.workers).collect() };
            self.recovery.registered = Some(now);
        }
        self.detector.watch(worker, now);
        true
    }

    /// A worker has restored and verified its state, and has brought these files here for it. Returns whether that is news.
    pub fn restored(&mut self, worker: u32, generation: u64, files: RestoredFiles, now: Duration) -> bool {
        let is_current = generation == self.generation;
        let Phase::Restoring { missing } = &mut self.phase else { return false };
        if !is_current || !missing.remove(&worker) {
            return false;
        }
        self.recovery.files += files;
        if missing.is_empty() {
            self.phase = Phase::Running;
            self.recovery.restored = Some(now);
            self.recovery.resumed = self.has_record.then_some(now);
        }
        true
    }

    /// A worker has processed a record. Returns whether it is the generation's first one.
    pub fn resumed(&mut self, worker: u32, generation: u64, now: Duration) -> bool {
        let is_current = generation == self.generation && self.is_alive() && worker < self.workers;
        if !is_current || self.has_record {
            return false;
        }
        self.has_record = true;
        // While others restore still, it counts as soon as they have.
        self.recovery.resumed = self.recovery.restored.map(|_| now);
        true
    }

    /// Whether there are workers, as far as is known.
    fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Restoring { .. } | Phase::Running)
    }

    /// A worker's heartbeat. Returns whether it belongs to this run; otherwise it must leave.
    pub fn heard(&mut self, worker: u32, generation: u64, heartbeat: Heartbeat, now: Duration) -> bool {
        generation == self.generation && self.detector.heard(&worker, heartbeat, now)
    }

    /// A worker came to its end in good order: its input is over, and all that it did is in a complete checkpoint or
    /// needs none.
    pub fn finished(&mut self, worker: u32, generation: u64, now: Duration) -> Vec<Action> {
        if matches!(self.phase, Phase::Starting { .. }) {
            // It was told of nothing to do yet.
            return Vec::new();
        }
        // It may have had nothing to restore.
        self.restored(worker, generation, RestoredFiles::default(), now);
        if generation != self.generation || !self.detector.forget(&worker) {
            return Vec::new();
        }
        self.finished.insert(worker);
        if self.finished.len() < self.workers as usize {
            return Vec::new();
        }
        self.end(Ending::Finished)
    }

    /// A worker died, or said that it cannot go on.
    pub fn failed(
        &mut self,
        worker: u32,
        generation: u64,
        why: &str,
        now: Duration,
        randomness: &dyn Randomness,
    ) -> Vec<Action> {
        match self.can_fail(worker, generation) {
            true => self.fail(format!("worker {worker}: {why}"), now, randomness),
            false => Vec::new(),
        }
    }

    /// Whether it counts that a worker failed. The end of one that finished is no failure.
    fn can_fail(&self, worker: u32, generation: u64) -> bool {
        let is_current = generation == self.generation && self.is_alive() && worker < self.workers;
        is_current && !self.finished.contains(&worker)
    }

    /// A worker said that it cannot go on, and that no further start could: the job is over, whatever the restart strategy says.
    ///
    /// But one that others of its generation have disproved, by processing records, is a failure like others.
    pub fn failed_for_good(
        &mut self,
        worker: u32,
        generation: u64,
        why: &str,
        now: Duration,
        randomness: &dyn Randomness,
    ) -> Vec<Action> {
        if !self.can_fail(worker, generation) {
            return Vec::new();
        }
        if self.recovery.resumed.is_some() {
            return self.failed(worker, generation, why, now, randomness);
        }
        self.failures += 1;
        self.give_up(format!("worker {worker}: {why}"))
    }

    /// Something that is no single worker's fault ends the generation: no checkpoint completes, say.
    pub fn interrupted(
        &mut self,
        generation: u64,
        why: &str,
        now: Duration,
        randomness: &dyn Randomness,
    ) -> Vec<Action> {
        if generation != self.generation || !self.is_alive() {
            return Vec::new();
        }
        self.fail(why.to_owned(), now, randomness)
    }

    /// Whether some worker of the generation came to its end: from then on no checkpoint can become complete.
    pub fn has_finished_workers(&self) -> bool {
        !self.finished.is_empty()
    }

    /// What time asks for: workers that fell silent or stand still, a start that takes too long, the next generation.
    pub fn tick(&mut self, now: Duration, randomness: &dyn Randomness) -> Vec<Action> {
        let silent = self.detector.failed(now);
        match &self.phase {
            Phase::Over(_) => Vec::new(),
            Phase::Restarting { at } if *at <= now => self.begin_generation(now),
            Phase::Restarting { .. } => Vec::new(),
            Phase::Starting { missing, until } if *until <= now => {
                let why = format!("{} did not start within {:?}", named(missing), self.options.startup_timeout);
                self.fail(why, now, randomness)
            }
            Phase::Starting { .. } | Phase::Restoring { .. } | Phase::Running => match silent.first() {
                Some((worker, why)) => self.fail(format!("worker {worker}: {why}"), now, randomness),
                None => Vec::new(),
            },
        }
    }

    /// Goes on with another number of workers, at once: this is no failure. Take a savepoint or a checkpoint first, or what
    /// was done since the last one is done again.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for a number of workers that cannot be, or if the job is over.
    pub fn rescale(&mut self, workers: u32, now: Duration) -> Result<Vec<Action>> {
        check_workers(workers)?;
        if let Phase::Over(ending) = &self.phase {
            return Err(Error::invalid(OPERATION, format!("the job is over: it {ending}")));
        }
        self.ended.get_or_insert(now);
        let mut actions = self.end_workers(format!("rescaled from {} to {workers} workers", self.workers));
        self.workers = workers;
        actions.extend(self.begin_generation(now));
        Ok(actions)
    }

    /// Starts all workers again, at once, through no failure.
    pub fn begin_anew(&mut self, why: &str, now: Duration) -> Vec<Action> {
        if matches!(self.phase, Phase::Over(_)) {
            return Vec::new();
        }
        self.ended.get_or_insert(now);
        let mut actions = self.end_workers(why.to_owned());
        actions.extend(self.begin_generation(now));
        actions
    }

    /// Ends the job.
    pub fn cancel(&mut self) -> Vec<Action> {
        if matches!(self.phase, Phase::Over(_)) {
            return Vec::new();
        }
        let mut actions = self.end_workers("cancelled".to_owned());
        actions.extend(self.end(Ending::Cancelled));
        actions
    }

    /// Ends the job: a further start would fail in the same way.
    pub fn give_up(&mut self, why: String) -> Vec<Action> {
        if matches!(self.phase, Phase::Over(_)) {
            return Vec::new();
        }
        let mut actions = self.end_workers(why.clone());
        actions.extend(self.end(Ending::Failed(why)));
        actions
    }

    fn begin_generation(&mut self, now: Duration) -> Vec<Action> {
        self.generation += 1;
        self.finished.clear();
        self.has_record = false;
        self.recovery = Recovery { ended: self.ended.take(), started: now, ..Recovery::default() };
        let until = now.saturating_add(self.options.startup_timeout);
        self.phase = Phase::Starting { missing: (0..self.workers).collect(), until };
        vec![Action::StartWorkers { generation: self.generation, workers: self.workers }]
    }

    fn fail(&mut self, why: String, now: Duration, randomness: &dyn Randomness) -> Vec<Action> {
        self.failures += 1;
        self.ended.get_or_insert(now);
        let mut actions = self.end_workers(why.clone());
        match self.restarts.after_failure(now, randomness) {
            Some(pause) => self.phase = Phase::Restarting { at: now.saturating_add(pause) },
            None => actions.extend(self.end(Ending::Failed(why))),
        }
        actions
    }

    /// Ends the workers, if there are any.
    fn end_workers(&mut self, why: String) -> Vec<Action> {
        (0..self.workers).for_each(|worker| {
            self.detector.forget(&worker);
        });
        self.last_failure = Some(why.clone());
        match self.is_alive() {
            true => vec![Action::EndWorkers { generation: self.generation, why }],
            false => Vec::new(),
        }
    }

    fn end(&mut self, ending: Ending) -> Vec<Action> {
        self.phase = Phase::Over(ending.clone());
        vec![Action::Over(ending)]
    }
}

/// `worker 3`, or `workers 0, 1 and 7 more`.
fn named(workers: &BTreeSet<u32>) -> String {
    const MAX_NAMED: usize = 8;
    let some: Vec<String> = workers.iter().take(MAX_NAMED).map(u32::to_string).collect();
    let more = match workers.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("worker{} {}{more}", if workers.len() == 1 { "" } else { "s" }, some.join(", "))
}

pub(super) fn check_workers(workers: u32) -> Result<()> {
    if (1..=MAX_WORKERS).contains(&workers) {
        return Ok(());
    }
    Err(Error::invalid(OPERATION, format!("{workers} workers; there must be 1 to {MAX_WORKERS}")))
}

#[cfg(test)]
mod tests;
