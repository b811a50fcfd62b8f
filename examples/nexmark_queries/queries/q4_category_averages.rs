//! q4: the average closing price of a category, whenever auctions of it close.

use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, EventTimers, KeyedOperator, keyed};
use icecore::state::typed::{KeyContext, ListState, Timer, ValueState};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::clock::{Clock, Money};
use super::winners::{Won, winners};
use super::{Query, Tasks};

const WINNERS: &str = "q4-winners";
const AVERAGES: &str = "q4-averages";

pub struct Q4;

/// The average of all closing prices of a category up to a moment at which some auctions closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CategoryAverage {
    pub closed_ms: i64,
    pub category: u64,
    /// How many auctions have closed.
    pub auctions: u64,
    /// In whole cents, rounded down.
    pub average_price: u64,
}

impl fmt::Display for CategoryAverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (closed, average) = (Clock(self.closed_ms), Money(self.average_price));
        write!(f, "{closed}  category {}: {average} on average of {} auctions", self.category, self.auctions)
    }
}

impl Query for Q4 {
    type Output = CategoryAverage;

    const NAME: &'static str = "q4";
    const ABOUT: &'static str = "the average closing price of each category, whenever auctions close";
    const OPERATORS: &'static [&'static str] = &[WINNERS, AVERAGES];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, CategoryAverage>> {
        let won = winners(events, WINNERS, tasks, checkpoints)?;
        let mut keys = tasks.keys(AVERAGES)?;
        let averages = Averages {
            prices: keys.list_state("prices")?,
            total: keys.value_state("total")?,
            timers: EventTimers::open(&mut keys, "closings")?,
        };
        keyed(won, AVERAGES, averages, keys, checkpoints)
    }

    fn key(output: &CategoryAverage) -> u64 {
        output.category
    }
}

struct Averages {
    /// In a closing time's namespace: until event time has come to it, as auctions that closed earlier may come from other
    /// workers.
    prices: ListState<u64>,
    /// Number and sum of the prices.
    total: ValueState<(u64, u64)>,
    timers: EventTimers,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Averages {
    type Key = u64;
    type Input = Won;
    type Output = CategoryAverage;

    fn key(won: &Won) -> u64 {
        won.auction.category
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, won: Won, _output: &mut Vec<CategoryAverage>) -> Result<()> {
        keys.set_namespace(&won.auction.expires_ms.to_be_bytes())?;
        self.timers.register(keys, won.auction.expires_ms)?;
        self.prices.add(keys, &won.bid.price)
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<u64, B>,
        timer: Timer<u64>,
        output: &mut Vec<CategoryAverage>,
    ) -> Result<()> {
        let prices = self.prices.get(keys)?;
        self.prices.clear(keys)?;
        keys.set_namespace(&[])?;
        let (mut auctions, mut sum) = self.total.get(keys)?.unwrap_or_default();
        auctions += prices.len() as u64;
        sum += prices.iter().sum::<u64>();
        self.total.set(keys, &(auctions, sum))?;
        let average_price = sum.checked_div(auctions).unwrap_or(0);
        output.push(CategoryAverage { closed_ms: timer.timestamp_ms, category: timer.key, auctions, average_price });
        Ok(())
    }
}
