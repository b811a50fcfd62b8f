//! What became of the newest checkpoints and savepoints, for those who wait for one.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId};

/// How many are remembered: the last that ended, whatever their numbers. A savepoint may take longer than many checkpoints.
const MAX_REMEMBERED: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Complete(CheckpointFolder),
    Aborted(String),
    /// A write was answered with an error, and may have landed.
    Unknown(String),
}

pub(super) struct Outcomes {
    /// In the order in which they ended.
    known: Mutex<VecDeque<(CheckpointId, Outcome)>>,
    changes: watch::Sender<u64>,
}

impl Outcomes {
    pub(super) fn new() -> Self {
        Self { known: Mutex::default(), changes: watch::Sender::new(0) }
    }

    pub(super) fn note(&self, checkpoint: CheckpointId, outcome: Outcome) {
        let mut known = self.known.lock();
        known.push_back((checkpoint, outcome));
        if known.len() > MAX_REMEMBERED {
            known.pop_front();
        }
        drop(known);
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn of(&self, checkpoint: CheckpointId) -> Option<Outcome> {
        self.known.lock().iter().rev().find(|(ended, _)| *ended == checkpoint).map(|(_, outcome)| outcome.clone())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_became_of_a_savepoint_that_took_longer_than_many_checkpoints_is_told() {
        let (outcomes, savepoint) = (Outcomes::new(), CheckpointId(5));
        let later = MAX_REMEMBERED as u64 + 10;
        for checkpoint in 6..6 + later {
            outcomes.note(CheckpointId(checkpoint), Outcome::Aborted(String::new()));
        }
        outcomes.note(savepoint, Outcome::Aborted("why".to_owned()));
        assert!(outcomes.of(savepoint).is_some(), "whoever waits for it would wait for ever");
        assert_eq!(outcomes.wait(savepoint).await.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(outcomes.of(CheckpointId(6)), None, "the first to end is forgotten");
        assert_eq!(outcomes.known.lock().len(), MAX_REMEMBERED);
    }
}
