//! The epochs of a generation's dataflow, as its manager counts them.

use crate::error::{Error, Result};
use crate::job::wire::DataflowEpochs;

/// How many epochs workers may end before they hear from the manager again. A worker is done with one in milliseconds at the
/// least, and hears of the next ones when half of them are left.
const EPOCHS_AHEAD: u64 = 1_024;

/// Workers end epochs by themselves, all but the last one that they know of: that ends with the next checkpoint, or turns into one
/// like the others when the manager names a later one. So a checkpoint ends an epoch that no worker has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epochs(DataflowEpochs);

impl Epochs {
    pub(super) fn new() -> Self {
        Self(DataflowEpochs { current: 0, last: EPOCHS_AHEAD })
    }

    /// What workers are told.
    pub(super) fn now(self) -> DataflowEpochs {
        self.0
    }

    /// A worker has gone on to `epoch`. Returns whether the others are to be told.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if it has left the last one.
    pub(super) fn reached(&mut self, epoch: u64) -> Result<bool> {
        if epoch > self.0.last {
            let message = format!("it is in epoch {epoch}, the last one that it may be in is {}", self.0.last);
            return Err(Error::invalid("hear a worker", message));
        }
        if epoch <= self.0.current {
            return Ok(false);
        }
        self.0.current = epoch;
        if self.0.last - epoch < EPOCHS_AHEAD / 2 {
            self.0.last = epoch + EPOCHS_AHEAD;
        }
        Ok(true)
    }

    /// The last epoch ends with a checkpoint. Returns it.
    pub(super) fn end_last(&mut self) -> u64 {
        let ended = self.0.last;
        let current = ended.saturating_add(1);
        self.0 = DataflowEpochs { current, last: current.saturating_add(EPOCHS_AHEAD) };
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_ends_an_epoch_that_nobody_has_left() {
        let mut epochs = Epochs::new();
        let mut at = 0;
        for round in 0..5_000 {
            let last = epochs.now().last;
            at = (at + 7).min(last);
            epochs.reached(at).unwrap();
            if round % 1_000 == 999 {
                let ended = epochs.end_last();
                assert!(ended >= at, "a worker in {at} has left {ended}");
                assert_eq!(epochs.now().current, ended + 1);
                at = ended + 1;
            }
            assert!(epochs.now().last > at, "a worker in {at} has to wait");
        }
    }

    #[test]
    fn a_worker_that_has_left_the_last_epoch_is_not_believed() {
        let mut epochs = Epochs::new();
        let before = epochs;
        assert!(epochs.reached(before.now().last + 1).is_err());
        assert_eq!(epochs, before);
        assert!(epochs.reached(before.now().last).unwrap());
    }
}
