//! How far event time has come, from what the senders of a stream say.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Event time of which nobody has said anything yet: before any other.
pub const NO_WATERMARK_MS: i64 = i64::MIN;
/// Event time after which nothing can come: before no other.
pub const END_OF_TIME_MS: i64 = i64::MAX;

/// What one sender says to one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watermark {
    /// No record of this event time or an earlier one comes from the sender any more, in milliseconds.
    pub timestamp_ms: i64,
    /// Which of the streams that were merged the sender is on.
    pub input: u32,
    /// The worker that sends it.
    pub sender: u32,
    /// The worker that it is for.
    pub receiver: u32,
}

/// What a sender says to all workers.
pub(super) fn to_all(timestamp_ms: i64, sender: u32, workers: u32) -> impl Iterator<Item = Watermark> {
    (0..workers).map(move |receiver| Watermark { timestamp_ms, input: 0, sender, receiver })
}

/// What the senders of a stream have said to one worker in this run.
#[derive(Debug)]
pub(super) struct Watermarks {
    /// By input, then by worker.
    said_ms: Vec<i64>,
    workers: u32,
    /// The least of them.
    common_ms: i64,
}

impl Watermarks {
    pub fn new(inputs: u32, workers: u32) -> Self {
        let senders = (inputs as usize).saturating_mul(workers as usize);
        Self { said_ms: vec![NO_WATERMARK_MS; senders], workers, common_ms: NO_WATERMARK_MS }
    }

    /// Takes in what a sender says. Returns how far event time has come, if it has come further by that.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if there is no such sender.
    pub fn take(&mut self, watermark: Watermark) -> Result<Option<i64>> {
        let Watermark { timestamp_ms, input, sender, .. } = watermark;
        let at = (input as usize).saturating_mul(self.workers as usize).saturating_add(sender as usize);
        let said_ms = self.said_ms.get_mut(at).filter(|_| sender < self.workers).ok_or_else(|| {
            let message = format!("worker {sender} of input {input} sent one, of {} workers", self.workers);
            Error::invalid("take a watermark in", message)
        })?;
        *said_ms = timestamp_ms.max(*said_ms);
        let common_ms = self.said_ms.iter().copied().min().unwrap_or(NO_WATERMARK_MS);
        let has_advanced = common_ms > self.common_ms;
        self.common_ms = common_ms;
        Ok(has_advanced.then_some(common_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(input: u32, sender: u32, timestamp_ms: i64) -> Watermark {
        Watermark { timestamp_ms, input, sender, receiver: 0 }
    }

    #[test]
    fn event_time_is_the_least_that_any_sender_says() {
        let mut watermarks = Watermarks::new(2, 2);
        for (input, sender) in [(0, 0), (1, 1), (0, 1)] {
            assert_eq!(watermarks.take(from(input, sender, 7)).unwrap(), None, "one has said nothing");
        }
        assert_eq!(watermarks.take(from(1, 0, 5)).unwrap(), Some(5));
        assert_eq!(watermarks.take(from(0, 0, 9)).unwrap(), None);
        assert_eq!(watermarks.take(from(1, 0, END_OF_TIME_MS)).unwrap(), Some(7));
    }

    #[test]
    fn event_time_never_goes_back() {
        let mut watermarks = Watermarks::new(1, 1);
        assert_eq!(watermarks.take(from(0, 0, 5)).unwrap(), Some(5));
        assert_eq!(watermarks.take(from(0, 0, 3)).unwrap(), None);
        assert_eq!(watermarks.take(from(0, 0, 5)).unwrap(), None);
        assert_eq!(watermarks.take(from(0, 0, 6)).unwrap(), Some(6));
    }

    #[test]
    fn a_sender_that_there_is_not_is_an_error() {
        let mut watermarks = Watermarks::new(1, 2);
        assert!(watermarks.take(from(0, 2, 5)).is_err());
        assert!(watermarks.take(from(1, 0, 5)).is_err());
    }
}
