//! q7: the highest bids of each tumbling window.
//!
//! `bids -> the highest on each auction -> the highest of all`: the first step spares the second one most of the work,
//! which a single worker does for a whole window.

use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, keyed};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::clock::{Clock, Money};
use super::highest::{Candidate, Highest};
use super::records::{Bid, bid_of};
use super::window::Window;
use super::{Query, Tasks};

const BY_AUCTION: &str = "q7-by-auction";
const OF_ALL: &str = "q7-of-all";
/// All auctions of a window are compared with each other.
const ONE_GROUP: u64 = 0;

pub struct Q7;

/// A bid of which no other was higher in the window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HighestBid {
    pub window_end_ms: i64,
    pub bid: Bid,
}

impl fmt::Display for HighestBid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bid { auction, bidder, price, at_ms } = self.bid;
        let (until, at) = (Clock(self.window_end_ms), Clock(at_ms));
        write!(f, "until {until}  {} by {bidder} on auction {auction} at {at}", Money(price))
    }
}

impl Query for Q7 {
    type Output = HighestBid;

    const NAME: &'static str = "q7";
    const ABOUT: &'static str = "the highest bids of each 10 seconds";
    const OPERATORS: &'static [&'static str] = &[BY_AUCTION, OF_ALL];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, HighestBid>> {
        let (mut by_auction, mut of_all) = (tasks.keys(BY_AUCTION)?, tasks.keys(OF_ALL)?);
        let (first, second) = (Highest::open(&mut by_auction)?, Highest::open(&mut of_all)?);
        let bids = events.flat_map(bid_of).map(|bid| Candidate {
            group: bid.auction,
            window_end_ms: Window::tumbling(bid.at_ms).end_ms,
            measure: bid.price,
            item: bid,
        });
        let best = keyed(bids, BY_AUCTION, first, by_auction, checkpoints)?;
        let best = best.map(|candidate| Candidate { group: ONE_GROUP, ..candidate });
        let best = keyed(best, OF_ALL, second, of_all, checkpoints)?;
        Ok(best.map(|Candidate { window_end_ms, item: bid, .. }| HighestBid { window_end_ms, bid }))
    }

    fn key(output: &HighestBid) -> u64 {
        output.bid.auction
    }
}
