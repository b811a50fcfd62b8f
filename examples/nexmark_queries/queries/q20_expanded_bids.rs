//! q20: the bids on auctions of a category, each with its auction: a join whose state ends with the auction.

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

const JOIN: &str = "q20-join";
const CATEGORY: usize = 10;

pub struct Q20;

/// A bid, and what of its auction it needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExpandedBid {
    pub bid: Bid,
    pub item: String,
    pub seller: u64,
}

impl fmt::Display for ExpandedBid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bid, item, seller } = self;
        let (at, price) = (Clock(bid.at_ms), Money(bid.price));
        write!(f, "{at}  {price} by {} on {item} (auction {} of {seller})", bid.bidder, bid.auction)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Side {
    Auction { id: u64, item: String, seller: u64, opened_ms: i64, expires_ms: i64 },
    Bid(Bid),
}

fn side_of(event: Event) -> Option<Side> {
    match event {
        Event::Auction(auction) if auction.category == CATEGORY => Some(Side::Auction {
            id: auction.id as u64,
            item: auction.item_name,
            seller: auction.seller as u64,
            opened_ms: auction.date_time as i64,
            expires_ms: auction.expires as i64,
        }),
        Event::Bid(_) => bid_of(event).map(Side::Bid),
        Event::Auction(_) | Event::Person(_) => None,
    }
}

impl Query for Q20 {
    type Output = ExpandedBid;

    const NAME: &'static str = "q20";
    const ABOUT: &'static str = "the bids on open auctions of category 10, each with its auction";
    const OPERATORS: &'static [&'static str] = &[JOIN];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, ExpandedBid>> {
        let mut keys = tasks.keys(JOIN)?;
        let join = Join {
            auction: keys.value_state("auction")?,
            early: keys.list_state("early-bids")?,
            timers: EventTimers::open(&mut keys, "ends")?,
        };
        keyed(events.flat_map(side_of), JOIN, join, keys, checkpoints)
    }

    fn key(output: &ExpandedBid) -> u64 {
        output.bid.auction
    }
}

#[derive(Serialize, Deserialize)]
struct Details {
    item: String,
    seller: u64,
    opened_ms: i64,
    expires_ms: i64,
}

impl Details {
    fn expand(&self, bid: Bid) -> Option<ExpandedBid> {
        let is_open = (self.opened_ms..=self.expires_ms).contains(&bid.at_ms);
        is_open.then(|| ExpandedBid { bid, item: self.item.clone(), seller: self.seller })
    }
}

struct Join {
    /// Until it closes.
    auction: ValueState<Details>,
    /// Bids that came before their auction did, from another worker: until event time has come to theirs.
    early: ListState<Bid>,
    timers: EventTimers,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Join {
    type Key = u64;
    type Input = Side;
    type Output = ExpandedBid;

    fn key(side: &Side) -> u64 {
        match side {
            Side::Auction { id, .. } => *id,
            Side::Bid(bid) => bid.auction,
        }
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, side: Side, output: &mut Vec<ExpandedBid>) -> Result<()> {
        match side {
            Side::Auction { item, seller, opened_ms, expires_ms, .. } => {
                let details = Details { item, seller, opened_ms, expires_ms };
                let early = self.early.get(keys)?;
                self.early.clear(keys)?;
                output.extend(early.into_iter().filter_map(|bid| details.expand(bid)));
                self.timers.register(keys, expires_ms)?;
                self.auction.set(keys, &details)
            }
            Side::Bid(bid) => match self.auction.get(keys)? {
                Some(details) => {
                    output.extend(details.expand(bid));
                    Ok(())
                }
                None => {
                    self.timers.register(keys, bid.at_ms)?;
                    self.early.add(keys, &bid)
                }
            },
        }
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<u64, B>,
        timer: Timer<u64>,
        _output: &mut Vec<ExpandedBid>,
    ) -> Result<()> {
        match self.auction.get(keys)? {
            Some(details) if details.expires_ms <= timer.timestamp_ms => self.auction.clear(keys),
            Some(_) => Ok(()),
            None => {
                let early = self.early.get(keys)?;
                self.early.set(keys, early.iter().filter(|bid| bid.at_ms > timer.timestamp_ms))
            }
        }
    }
}
