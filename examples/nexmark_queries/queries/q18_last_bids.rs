//! q18: the last bid of each bidder on each auction: each one that takes an earlier one's place, in the order of event
//! time.

use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, EventTimers, KeyedOperator, keyed};
use icecore::state::typed::{KeyContext, Timer, ValueState};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::clock::{Clock, Money};
use super::records::{Bid, bid_of};
use super::{Query, Tasks};

const LAST: &str = "q18-last";

pub struct Q18;

/// A bid that was the last of its bidder on its auction when it was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LastBid {
    pub bid: Bid,
    /// When the one was made whose place it takes.
    pub instead_of_ms: Option<i64>,
}

impl fmt::Display for LastBid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bid { auction, bidder, price, at_ms } = self.bid;
        write!(f, "{}  {} by {bidder} on auction {auction}", Clock(at_ms), Money(price))?;
        match self.instead_of_ms {
            Some(instead_of_ms) => write!(f, ", instead of that at {}", Clock(instead_of_ms)),
            None => write!(f, ", the first"),
        }
    }
}

impl Query for Q18 {
    type Output = LastBid;

    const NAME: &'static str = "q18";
    const ABOUT: &'static str = "the last bid of each bidder on each auction";
    const OPERATORS: &'static [&'static str] = &[LAST];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, LastBid>> {
        let mut keys = tasks.keys(LAST)?;
        let last = Last {
            made: keys.value_state("made")?,
            last_ms: keys.value_state("last-ms")?,
            timers: EventTimers::open(&mut keys, "moments")?,
        };
        keyed(events.flat_map(bid_of), LAST, last, keys, checkpoints)
    }

    fn key(output: &LastBid) -> u64 {
        output.bid.auction
    }
}

struct Last {
    /// In a moment's namespace: the bid of it, the highest if there are several, until event time has come to it.
    made: ValueState<Bid>,
    last_ms: ValueState<i64>,
    timers: EventTimers,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Last {
    /// Bidder and auction.
    type Key = (u64, u64);
    type Input = Bid;
    type Output = LastBid;

    fn key(bid: &Bid) -> (u64, u64) {
        (bid.bidder, bid.auction)
    }

    fn record(&mut self, keys: &mut KeyContext<(u64, u64), B>, bid: Bid, _output: &mut Vec<LastBid>) -> Result<()> {
        if self.timers.has_passed(bid.at_ms) {
            return Ok(());
        }
        keys.set_namespace(&bid.at_ms.to_be_bytes())?;
        self.timers.register(keys, bid.at_ms)?;
        if self.made.get(keys)?.is_none_or(|made| made.price < bid.price) {
            self.made.set(keys, &bid)?;
        }
        Ok(())
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<(u64, u64), B>,
        timer: Timer<(u64, u64)>,
        output: &mut Vec<LastBid>,
    ) -> Result<()> {
        let made = self.made.get(keys)?;
        self.made.clear(keys)?;
        keys.set_namespace(&[])?;
        let instead_of_ms = self.last_ms.get(keys)?;
        self.last_ms.set(keys, &timer.timestamp_ms)?;
        output.extend(made.map(|bid| LastBid { bid, instead_of_ms }));
        Ok(())
    }
}
