//! What became of the newest checkpoints and savepoints, for those who wait for one.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId};

/// How many are remembered.
const MAX_REMEMBERED: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Complete(CheckpointFolder),
    Aborted(String),
    /// A write was answered with an error, and may have landed.
    Unknown(String),
}

pub(super) struct Outcomes {
    known: Mutex<BTreeMap<CheckpointId, Outcome>>,
    changes: watch::Sender<u64>,
}

impl Outcomes {
    pub(super) fn new() -> Self {
        Self { known: Mutex::default(), changes: watch::Sender::new(0) }
    }

    pub(super) fn note(&self, checkpoint: CheckpointId, outcome: Outcome) {
        let mut known = self.known.lock();
        known.insert(checkpoint, outcome);
        while known.len() > MAX_REMEMBERED {
            known.pop_first();
        }
        drop(known);
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn of(&self, checkpoint: CheckpointId) -> Option<Outcome> {
        self.known.lock().get(&checkpoint).cloned()
    }

    /// Waits for a checkpoint's end.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if it was given up; [`ErrorKind::OutcomeUnknown`] for a savepoint that may be there.
    pub(super) async fn wait(&self, checkpoint: CheckpointId) -> Result<CheckpointFolder> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            match self.of(checkpoint) {
                Some(Outcome::Complete(folder)) => return Ok(folder),
                Some(Outcome::Aborted(reason)) => {
                    let error = Error::new(ErrorKind::Cancelled, "take a checkpoint", reason);
                    return Err(error.with_object(checkpoint));
                }
                Some(Outcome::Unknown(reason)) => {
                    let error = Error::new(ErrorKind::OutcomeUnknown, "take a checkpoint", reason);
                    return Err(error.with_object(checkpoint).with_advice("look at its folder before you use it"));
                }
                None => {}
            }
            // The sender lives as long as this.
            let _ = changes.changed().await;
        }
    }
}
