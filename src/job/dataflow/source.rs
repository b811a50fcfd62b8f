//! A source of records that can begin again where it stood.

use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::{OperatorInfo, OutputBuilderSession, operator};

use super::stream::{DataStream, Element};
use super::watermark::{END_OF_TIME_MS, NO_WATERMARK_MS, to_all};
use super::worker::Checkpoints;
use crate::error::Result;
use crate::metadata::SourcePosition;

/// Records that one call of [`Source::poll`] gives at most, and may give always.
const BATCH_RECORDS: usize = 1_024;
/// Records that a source gives on one worker in one epoch at most; then the epoch ends, without a checkpoint.
pub const MAX_RECORDS_PER_EPOCH: usize = 8_192;
/// In how many epochs a dataflow has records at most. A source waits until the stateful operators are done with older ones.
pub const MAX_EPOCHS_IN_FLIGHT: u64 = 4;
/// When a source that had nothing to give is asked again.
const IDLE: Duration = Duration::from_millis(10);
/// When a source that has to wait for the operators looks again.
const THROTTLED: Duration = Duration::from_millis(1);
/// When a source that has no more records looks for orders that nobody woke it for.
const DRAINED: Duration = Duration::from_millis(100);

/// One worker's splits of a source.
pub trait Source: 'static {
    /// What it gives.
    type Record: Clone + 'static;

    /// Appends at most `max` records (1,024), those that are there now; it must not wait for any. Returns whether more may come,
    /// now or later: once it has said no, it is not called again.
    ///
    /// # Errors
    /// Any one: the job's tasks have failed then.
    fn poll(&mut self, max: usize, records: &mut Vec<Self::Record>) -> Result<bool>;

    /// Where each split stands: a source that begins there gives what this one has not given. No split is given by two
    /// workers.
    fn positions(&self) -> Vec<SourcePosition>;

    /// How far event time has come, in milliseconds: no record of that time or an earlier one comes from these splits any
    /// more, as far as they know. Asked after each [`Source::poll`]; behind what that one gave.
    ///
    /// It is the least that any of the splits says, so nothing ([`NO_WATERMARK_MS`]) as long as one of them has nothing to
    /// say, and [`END_OF_TIME_MS`] on a worker without splits, which must hold nobody back. A source that has no more
    /// records needs not say that itself. What a split says shall follow from its position alone, or its position shall
    /// carry it (the greatest event time that was seen, say): docs/job.md tells what depends on it.
    fn watermark_ms(&self) -> i64 {
        NO_WATERMARK_MS
    }
}

/// The records of `source`, each in the epoch that it came in, and its watermarks.
///
/// It takes part in checkpoints until the control says [`is_closing`](super::Orders::is_closing), with or without
/// records. It does not outrun the operators: see [`MAX_RECORDS_PER_EPOCH`].
pub fn source<'scope, S: Source>(
    scope: Scope<'scope, u64>,
    name: &str,
    source: S,
    checkpoints: &Checkpoints,
) -> DataStream<'scope, S::Record> {
    let (worker, workers) = (scope.index(), scope.peers());
    checkpoints.control.add_source(name, workers);
    let (checkpoints, name_of) = (checkpoints.clone(), name.to_owned());
    let (given, has_more, said_ms) = (0, true, NO_WATERMARK_MS);
    let mut giving = Giving { source, checkpoints, name: name_of, worker, given, has_more, said_ms };
    let build = move |capability, info: OperatorInfo| {
        giving.checkpoints.control.watch(scope.worker().sync_activator_for(info.address.to_vec()));
        let sleeper = giving.checkpoints.add_sleeper(scope.activator_for(info.address));
        let (mut capability, mut records) = (Some(capability), Vec::new());
        move |output: &mut OutputBuilderSession<'_, u64, ElementBuilder<S::Record>>| {
            let pause = giving.step(&mut capability, &mut records);
            if let Some(held) = &capability {
                let mut session = output.session(held);
                session.give_iterator(records.drain(..).map(Element::Record));
                if let Some(watermark_ms) = giving.next_watermark_ms() {
                    let said = to_all(watermark_ms, worker as u32, workers as u32);
                    session.give_iterator(said.map(Element::Watermark));
                }
                giving.checkpoints.sleep(sleeper, pause);
            }
        }
    };
    DataStream::of_one(operator::source(scope, name, build))
}

type ElementBuilder<T> = CapacityContainerBuilder<Vec<Element<T>>>;

/// A source at work.
struct Giving<S> {
    source: S,
    checkpoints: Checkpoints,
    name: String,
    worker: usize,
    /// Records given in the current epoch.
    given: usize,
    has_more: bool,
    /// The last watermark that was sent.
    said_ms: i64,
}

impl<S: Source> Giving<S> {
    /// Follows the orders, then takes the next records, if there may be any now. Returns when to do it again. Without a
    /// capability left the source has ended.
    fn step(&mut self, capability: &mut Option<Capability<u64>>, records: &mut Vec<S::Record>) -> Duration {
        let Checkpoints { control, probe, .. } = &self.checkpoints;
        let orders = control.orders();
        let Some(held) = capability.as_mut().filter(|_| !orders.has_failed) else {
            *capability = None;
            return Duration::ZERO;
        };
        if *held.time() < orders.epoch {
            // Before it leaves the epochs, so before any operator can acknowledge their checkpoints.
            control.note_positions(*held.time()..orders.epoch, self.source.positions());
            held.downgrade(&orders.epoch);
            self.given = 0;
        }
        if orders.is_closing {
            *capability = None;
            return Duration::ZERO;
        }
        if orders.is_pausing || !self.has_more {
            return DRAINED;
        }
        // A whole batch or none: a source may be unable to give just the few that are left.
        if self.given > MAX_RECORDS_PER_EPOCH - BATCH_RECORDS {
            control.end_epoch(*held.time());
            // Woken at once, unless the order has to come from another process.
            return THROTTLED;
        }
        let oldest = held.time().saturating_add(1).saturating_sub(MAX_EPOCHS_IN_FLIGHT);
        if probe.less_than(&oldest) {
            return THROTTLED;
        }
        self.take(records).unwrap_or_else(|error| {
            self.checkpoints.control.fail(error.with_object(&self.name));
            records.clear();
            *capability = None;
            Duration::ZERO
        })
    }

    fn take(&mut self, records: &mut Vec<S::Record>) -> Result<Duration> {
        self.has_more = self.source.poll(BATCH_RECORDS, records)?;
        self.given = self.given.saturating_add(records.len());
        if !self.has_more {
            self.checkpoints.control.note_drained(&self.name, self.worker);
        }
        Ok(if records.is_empty() { IDLE } else { Duration::ZERO })
    }

    /// The watermark behind what was given, if it has come further.
    fn next_watermark_ms(&mut self) -> Option<i64> {
        let watermark_ms = if self.has_more { self.source.watermark_ms() } else { END_OF_TIME_MS };
        let has_advanced = watermark_ms > self.said_ms;
        self.said_ms = watermark_ms.max(self.said_ms);
        has_advanced.then_some(watermark_ms)
    }
}
