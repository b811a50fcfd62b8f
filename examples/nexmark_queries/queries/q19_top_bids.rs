//! q19: the ten highest bids on each auction: what changes in them, in the order of event time.

use std::cmp::Reverse;
use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, EventTimers, KeyedOperator, keyed};
use icecore::state::typed::{KeyContext, ListState, Timer, ValueState};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::clock::{Clock, Money};
use super::records::{Bid, bid_of};
use super::{Query, Tasks};

const TOP: &str = "q19-top";
/// How many bids of an auction are ranked.
pub const RANKS: usize = 10;

pub struct Q19;

/// A bid that was among the highest of its auction when it was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopBid {
    pub bid: Bid,
    /// How many were higher, or as high and earlier.
    pub above: u64,
}

impl fmt::Display for TopBid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bid { auction, bidder, price, at_ms } = self.bid;
        write!(f, "{}  auction {auction}: {} by {bidder} is number {}", Clock(at_ms), Money(price), self.above + 1)
    }
}

impl Query for Q19 {
    type Output = TopBid;

    const NAME: &'static str = "q19";
    const ABOUT: &'static str = "which bids come among the ten highest of their auction";
    const OPERATORS: &'static [&'static str] = &[TOP];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, TopBid>> {
        let mut keys = tasks.keys(TOP)?;
        let top = Top {
            made: keys.list_state("made")?,
            highest: keys.value_state("highest")?,
            timers: EventTimers::open(&mut keys, "moments")?,
        };
        keyed(events.flat_map(bid_of), TOP, top, keys, checkpoints)
    }

    fn key(output: &TopBid) -> u64 {
        output.bid.auction
    }
}

struct Top {
    /// In a moment's namespace: the bids of it, until event time has come to it.
    made: ListState<Bid>,
    /// The highest first.
    highest: ValueState<Vec<Bid>>,
    timers: EventTimers,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Top {
    type Key = u64;
    type Input = Bid;
    type Output = TopBid;

    fn key(bid: &Bid) -> u64 {
        bid.auction
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, bid: Bid, _output: &mut Vec<TopBid>) -> Result<()> {
        if self.timers.has_passed(bid.at_ms) {
            return Ok(());
        }
        keys.set_namespace(&bid.at_ms.to_be_bytes())?;
        self.timers.register(keys, bid.at_ms)?;
        self.made.add(keys, &bid)
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(&mut self, keys: &mut KeyContext<u64, B>, _timer: Timer<u64>, output: &mut Vec<TopBid>) -> Result<()> {
        let rank = |bid: &Bid| (Reverse(bid.price), bid.at_ms, bid.bidder);
        let mut made = self.made.get(keys)?;
        self.made.clear(keys)?;
        made.sort_unstable_by_key(rank);
        keys.set_namespace(&[])?;
        let mut highest = self.highest.get(keys)?.unwrap_or_default();
        for bid in made {
            let above = highest.partition_point(|other| rank(other) <= rank(&bid));
            if above < RANKS {
                highest.insert(above, bid);
                highest.truncate(RANKS);
                output.push(TopBid { bid, above: above as u64 });
            }
        }
        self.highest.set(keys, &highest)
    }
}
