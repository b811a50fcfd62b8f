//! q5: the auctions with the most bids in each sliding window.
//!
//! `bids -> counts (by auction; a window a namespace) -> hottest (by window)`

use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, EventTimers, KeyedOperator, keyed};
use icecore::state::typed::{KeyContext, Timer, ValueState};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::highest::{Candidate, Highest};
use super::records::{Bid, bid_of};
use super::window::Window;
use super::{Query, Tasks};

const COUNTS: &str = "q5-counts";
const HOTTEST: &str = "q5-hottest";
/// All auctions of a window are compared with each other.
const ONE_GROUP: u64 = 0;

pub struct Q5;

/// An auction of which no other had more bids in the window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HotItem {
    pub window_end_ms: i64,
    pub auction: u64,
    pub bids: u64,
}

impl fmt::Display for HotItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window_end_ms, auction, bids } = self;
        write!(f, "until {}  auction {auction:<8} {bids:>6} bids", Clock(*window_end_ms))
    }
}

impl Query for Q5 {
    type Output = HotItem;

    const NAME: &'static str = "q5";
    const ABOUT: &'static str = "which auctions had the most bids in the last 10 seconds, every 2 seconds";
    const OPERATORS: &'static [&'static str] = &[COUNTS, HOTTEST];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, HotItem>> {
        let (mut counts, mut hottest) = (tasks.keys(COUNTS)?, tasks.keys(HOTTEST)?);
        let count =
            Counts { count: counts.value_state("count")?, timers: EventTimers::open(&mut counts, "window-ends")? };
        let highest = Highest::open(&mut hottest)?;
        let counted = keyed(events.flat_map(bid_of), COUNTS, count, counts, checkpoints)?;
        let found = keyed(counted, HOTTEST, highest, hottest, checkpoints)?;
        Ok(found.map(|Candidate { window_end_ms, measure: bids, item: auction, .. }| HotItem {
            window_end_ms,
            auction,
            bids,
        }))
    }

    fn key(output: &HotItem) -> u64 {
        output.auction
    }
}

struct Counts {
    count: ValueState<u64>,
    timers: EventTimers,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Counts {
    type Key = u64;
    type Input = Bid;
    type Output = Candidate<u64>;

    fn key(bid: &Bid) -> u64 {
        bid.auction
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, bid: Bid, _output: &mut Vec<Candidate<u64>>) -> Result<()> {
        for window in Window::sliding(bid.at_ms) {
            if self.timers.has_passed(window.last_ms()) {
                continue;
            }
            keys.set_namespace(&window.namespace())?;
            let count = self.count.get(keys)?.unwrap_or(0);
            if count == 0 {
                self.timers.register(keys, window.last_ms())?;
            }
            self.count.set(keys, &(count + 1))?;
        }
        Ok(())
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<u64, B>,
        timer: Timer<u64>,
        output: &mut Vec<Candidate<u64>>,
    ) -> Result<()> {
        let window_end_ms = Window::of_last_ms(timer.timestamp_ms).end_ms;
        let measure = self.count.get(keys)?.unwrap_or(0);
        self.count.clear(keys)?;
        output.push(Candidate { group: ONE_GROUP, window_end_ms, measure, item: timer.key });
        Ok(())
    }
}
