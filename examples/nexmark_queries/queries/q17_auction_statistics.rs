//! q17: statistics of the bids on each auction, day by day.
//!
//! `bids -> statistics (by auction; a day a namespace)`

use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, EventTimers, KeyedOperator, keyed};
use icecore::state::typed::{AggregateFunction, AggregatingState, KeyContext, Timer};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::clock::Money;
use super::records::{Bid, bid_of};
use super::{Query, Tasks};

const STATISTICS: &str = "q17-statistics";
/// What a day is here, as the events are of minutes.
pub const DAY_MS: i64 = 20_000;
/// Prices, in cents, from which on bids are of the middle and of the high rank.
pub const RANKS_FROM: [u64; 2] = [10_000, 1_000_000];

pub struct Q17;

/// What there is to say of an auction's bids of one day.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AuctionDay {
    pub day_end_ms: i64,
    pub auction: u64,
    /// Bids of low, middle and high rank.
    pub ranks: [u64; 3],
    /// In cents.
    pub least: u64,
    pub greatest: u64,
    pub sum: u64,
}

impl AuctionDay {
    pub fn bids(&self) -> u64 {
        self.ranks.iter().sum()
    }
}

impl fmt::Display for AuctionDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { auction, ranks: [low, middle, high], least, greatest, sum, .. } = self;
        let day = self.day_end_ms / DAY_MS - 1;
        let average = Money(sum.checked_div(self.bids()).unwrap_or(0));
        write!(f, "day {day}  auction {auction}: {low} low, {middle} middle, {high} high bids, ")?;
        write!(f, "{} to {}, on average {average}", Money(*least), Money(*greatest))
    }
}

impl Query for Q17 {
    type Output = AuctionDay;

    const NAME: &'static str = "q17";
    const ABOUT: &'static str = "number and prices of the bids on each auction, day by day";
    const OPERATORS: &'static [&'static str] = &[STATISTICS];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, AuctionDay>> {
        let mut keys = tasks.keys(STATISTICS)?;
        let statistics =
            Statistics { day: keys.aggregating_state("day", Day)?, timers: EventTimers::open(&mut keys, "day-ends")? };
        keyed(events.flat_map(bid_of), STATISTICS, statistics, keys, checkpoints)
    }

    fn key(output: &AuctionDay) -> u64 {
        output.auction
    }
}

struct Day;

impl AggregateFunction for Day {
    type Input = Bid;
    type Accumulator = AuctionDay;
    type Output = AuctionDay;

    fn create_accumulator(&self) -> AuctionDay {
        AuctionDay { least: u64::MAX, ..AuctionDay::default() }
    }

    fn add(&self, mut day: AuctionDay, bid: Bid) -> AuctionDay {
        let [middle_from, high_from] = RANKS_FROM;
        let [low, middle, high] = &mut day.ranks;
        match bid.price {
            price if price >= high_from => *high += 1,
            price if price >= middle_from => *middle += 1,
            _ => *low += 1,
        }
        day.least = day.least.min(bid.price);
        day.greatest = day.greatest.max(bid.price);
        day.sum += bid.price;
        day
    }

    fn result(&self, day: &AuctionDay) -> AuctionDay {
        day.clone()
    }
}

struct Statistics {
    day: AggregatingState<Day>,
    timers: EventTimers,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Statistics {
    type Key = u64;
    type Input = Bid;
    type Output = AuctionDay;

    fn key(bid: &Bid) -> u64 {
        bid.auction
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, bid: Bid, _output: &mut Vec<AuctionDay>) -> Result<()> {
        let day_end_ms = bid.at_ms.div_euclid(DAY_MS) * DAY_MS + DAY_MS;
        if self.timers.has_passed(day_end_ms - 1) {
            return Ok(());
        }
        keys.set_namespace(&day_end_ms.to_be_bytes())?;
        self.timers.register(keys, day_end_ms - 1)?;
        self.day.add(keys, bid)
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<u64, B>,
        timer: Timer<u64>,
        output: &mut Vec<AuctionDay>,
    ) -> Result<()> {
        let day = self.day.get(keys)?;
        self.day.clear(keys)?;
        let (day_end_ms, auction) = (timer.timestamp_ms + 1, timer.key);
        output.extend(day.map(|day| AuctionDay { day_end_ms, auction, ..day }));
        Ok(())
    }
}
