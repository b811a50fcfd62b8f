//! q9: the winning bid of each auction.

use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::clock::{Clock, Money};
use super::records::Bid;
use super::winners::winners;
use super::{Query, Tasks};

const WINNERS: &str = "q9-winners";

pub struct Q9;

/// A bid that won, and when its auction closed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WinningBid {
    pub closed_ms: i64,
    pub seller: u64,
    pub bid: Bid,
}

impl fmt::Display for WinningBid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bid { auction, bidder, price, at_ms } = self.bid;
        let (closed, at) = (Clock(self.closed_ms), Clock(at_ms));
        write!(f, "{closed}  auction {auction} goes to {bidder} for {}, bid at {at}", Money(price))
    }
}

impl Query for Q9 {
    type Output = WinningBid;

    const NAME: &'static str = "q9";
    const ABOUT: &'static str = "the winning bid of each auction";
    const OPERATORS: &'static [&'static str] = &[WINNERS];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, WinningBid>> {
        let won = winners(events, WINNERS, tasks, checkpoints)?;
        Ok(won.map(|won| WinningBid { closed_ms: won.auction.expires_ms, seller: won.auction.seller, bid: won.bid }))
    }

    fn key(output: &WinningBid) -> u64 {
        output.bid.auction
    }
}
