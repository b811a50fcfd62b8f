//! q6: the average price of a seller's last auctions, whenever one closes.

use std::collections::VecDeque;
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

const WINNERS: &str = "q6-winners";
const AVERAGES: &str = "q6-averages";
/// Of how many of a seller's auctions the average is.
pub const RECENT_AUCTIONS: usize = 10;

pub struct Q6;

/// The average of a seller's last closing prices, this auction's included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SellerAverage {
    pub closed_ms: i64,
    pub seller: u64,
    pub auction: u64,
    /// In whole cents, rounded down.
    pub average_price: u64,
}

impl fmt::Display for SellerAverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (closed, average) = (Clock(self.closed_ms), Money(self.average_price));
        write!(f, "{closed}  seller {}: {average} on average, with auction {}", self.seller, self.auction)
    }
}

impl Query for Q6 {
    type Output = SellerAverage;

    const NAME: &'static str = "q6";
    const ABOUT: &'static str = "the average price of a seller's last 10 auctions, whenever one closes";
    const OPERATORS: &'static [&'static str] = &[WINNERS, AVERAGES];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, SellerAverage>> {
        let won = winners(events, WINNERS, tasks, checkpoints)?;
        let mut keys = tasks.keys(AVERAGES)?;
        let averages = Averages {
            closing: keys.list_state("closing")?,
            recent: keys.value_state("recent-prices")?,
            timers: EventTimers::open(&mut keys, "closings")?,
        };
        keyed(won, AVERAGES, averages, keys, checkpoints)
    }

    fn key(output: &SellerAverage) -> u64 {
        output.seller
    }
}

struct Averages {
    /// In a closing time's namespace: auctions and prices, until event time has come to it.
    closing: ListState<(u64, u64)>,
    /// The last prices, the oldest first.
    recent: ValueState<VecDeque<u64>>,
    timers: EventTimers,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Averages {
    type Key = u64;
    type Input = Won;
    type Output = SellerAverage;

    fn key(won: &Won) -> u64 {
        won.auction.seller
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, won: Won, _output: &mut Vec<SellerAverage>) -> Result<()> {
        keys.set_namespace(&won.auction.expires_ms.to_be_bytes())?;
        self.timers.register(keys, won.auction.expires_ms)?;
        self.closing.add(keys, &(won.auction.id, won.bid.price))
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<u64, B>,
        timer: Timer<u64>,
        output: &mut Vec<SellerAverage>,
    ) -> Result<()> {
        let mut closing = self.closing.get(keys)?;
        self.closing.clear(keys)?;
        // Those of one moment came in any order.
        closing.sort_unstable();
        keys.set_namespace(&[])?;
        let mut recent = self.recent.get(keys)?.unwrap_or_default();
        for (auction, price) in closing {
            recent.push_back(price);
            if recent.len() > RECENT_AUCTIONS {
                recent.pop_front();
            }
            let average_price = recent.iter().sum::<u64>() / recent.len() as u64;
            output.push(SellerAverage { closed_ms: timer.timestamp_ms, seller: timer.key, auction, average_price });
        }
        self.recent.set(keys, &recent)
    }
}
