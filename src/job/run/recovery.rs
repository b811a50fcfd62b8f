//! How a generation of workers came to run: which step took how long.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

/// What a worker has brought here to restore its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoredFiles {
    /// Files that came from the store.
    pub fetched_files: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Files that an earlier run has left on the worker's machine, linked after they were hashed.
    pub linked_files: u64,
    /// Their bytes.
    pub linked_bytes: u64,
}

impl AddAssign for RestoredFiles {
    fn add_assign(&mut self, other: Self) {
        self.fetched_files = self.fetched_files.saturating_add(other.fetched_files);
        self.fetched_bytes = self.fetched_bytes.saturating_add(other.fetched_bytes);
        self.linked_files = self.linked_files.saturating_add(other.linked_files);
        self.linked_bytes = self.linked_bytes.saturating_add(other.linked_bytes);
    }
}

impl fmt::Display for RestoredFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, "{} files fetched ({:.1} MiB)", self.fetched_files, mib(self.fetched_bytes))?;
        if self.linked_files > 0 {
            write!(f, ", {} linked ({:.1} MiB)", self.linked_files, mib(self.linked_bytes))?;
        }
        Ok(())
    }
}

/// When a generation has passed each step, on the clock of its [`JobRun`](super::JobRun). Flink has the like in the span `JobInitialization`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The workers before it were ended, because one had failed, say; `None`: there were none.
    pub ended: Option<Duration>,
    /// Its workers were to be started: the restart strategy's pause is over.
    pub started: Duration,
    /// The last of them has registered.
    pub registered: Option<Duration>,
    /// The last of them has restored and verified its state.
    pub restored: Option<Duration>,
    /// The first of them has processed a record.
    pub resumed: Option<Duration>,
    /// What all of them have fetched.
    pub files: RestoredFiles,
}

/// How long each step has taken, as far as it is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoverySteps {
    /// From the end of the workers before to the start of these.
    pub pause: Option<Duration>,
    /// Until all have registered.
    pub start: Option<Duration>,
    /// Until all have restored.
    pub restore: Option<Duration>,
    /// Until a record was processed.
    pub resume: Option<Duration>,
    /// All of that.
    pub total: Option<Duration>,
}

impl Recovery {
    /// The steps.
    pub fn steps(&self) -> RecoverySteps {
        let between = |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
        let started = Some(self.started);
        RecoverySteps {
            pause: between(self.ended, started),
            start: between(started, self.registered),
            restore: between(self.registered, self.restored),
            resume: between(self.restored, self.resumed),
            total: between(self.ended.or(started), self.resumed),
        }
    }
}
