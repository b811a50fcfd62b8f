//! The winning bid of each auction, when it closes: what q4, q6 and q9 begin with.
//!
//! A bid counts if it came while the auction was open. It wins if it is the highest; of equal ones the earliest; of
//! those the one of the least bidder, so that it is always the same.

use std::cmp::Reverse;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, EventTimers, KeyedOperator, keyed};
use icecore::state::typed::{KeyContext, ListState, Timer, ValueState};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::Tasks;
use super::records::{Bid, bid_of};

/// What of an auction matters for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Auction {
    pub id: u64,
    pub category: u64,
    pub seller: u64,
    pub opened_ms: i64,
    pub expires_ms: i64,
}

/// An auction that has closed with a bid.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Won {
    pub auction: Auction,
    pub bid: Bid,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Side {
    Auction(Auction),
    Bid(Bid),
}

fn side_of(event: Event) -> Option<Side> {
    match event {
        Event::Person(_) => None,
        Event::Auction(auction) => Some(Side::Auction(Auction {
            id: auction.id as u64,
            category: auction.category as u64,
            seller: auction.seller as u64,
            opened_ms: auction.date_time as i64,
            expires_ms: auction.expires as i64,
        })),
        Event::Bid(_) => bid_of(event).map(Side::Bid),
    }
}

/// The winning bids, each when event time has come to the end of its auction.
pub fn winners<'scope, B: CheckpointedTask + 'static>(
    events: DataStream<'scope, Event>,
    operator: &str,
    tasks: &mut Tasks<B>,
    checkpoints: &Checkpoints,
) -> Result<DataStream<'scope, Won>> {
    let mut keys = tasks.keys(operator)?;
    let winners = Winners {
        auction: keys.value_state("auction")?,
        best: keys.value_state("best-bid")?,
        early: keys.list_state("early-bids")?,
        timers: EventTimers::open(&mut keys, "ends")?,
    };
    keyed(events.flat_map(side_of), operator, winners, keys, checkpoints)
}

struct Winners {
    auction: ValueState<Auction>,
    best: ValueState<Bid>,
    /// Bids that came before their auction did, from another worker: until event time has come to theirs.
    early: ListState<Bid>,
    timers: EventTimers,
}

impl Winners {
    fn compare<B: CheckpointedTask>(&self, keys: &mut KeyContext<u64, B>, auction: Auction, bid: Bid) -> Result<()> {
        let rank = |bid: &Bid| (bid.price, Reverse(bid.at_ms), Reverse(bid.bidder));
        let is_open = (auction.opened_ms..=auction.expires_ms).contains(&bid.at_ms);
        if is_open && self.best.get(keys)?.is_none_or(|best| rank(&best) < rank(&bid)) {
            self.best.set(keys, &bid)?;
        }
        Ok(())
    }
}

impl<B: CheckpointedTask> KeyedOperator<B> for Winners {
    type Key = u64;
    type Input = Side;
    type Output = Won;

    fn key(side: &Side) -> u64 {
        match side {
            Side::Auction(auction) => auction.id,
            Side::Bid(bid) => bid.auction,
        }
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, side: Side, _output: &mut Vec<Won>) -> Result<()> {
        match side {
            Side::Auction(auction) => {
                self.auction.set(keys, &auction)?;
                self.timers.register(keys, auction.expires_ms)?;
                let early = self.early.get(keys)?;
                self.early.clear(keys)?;
                early.into_iter().try_for_each(|bid| self.compare(keys, auction, bid))
            }
            Side::Bid(bid) => match self.auction.get(keys)? {
                Some(auction) => self.compare(keys, auction, bid),
                // Unless it comes before event time has come to the bid, the auction opened later, or is closed.
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

    fn on_timer(&mut self, keys: &mut KeyContext<u64, B>, timer: Timer<u64>, output: &mut Vec<Won>) -> Result<()> {
        match self.auction.get(keys)? {
            Some(auction) if auction.expires_ms <= timer.timestamp_ms => {
                output.extend(self.best.get(keys)?.map(|bid| Won { auction, bid }));
                self.best.clear(keys)?;
                self.auction.clear(keys)
            }
            // The timer of a bid that came early.
            Some(_) => Ok(()),
            None => {
                let early = self.early.get(keys)?;
                self.early.set(keys, early.iter().filter(|bid| bid.at_ms > timer.timestamp_ms))
            }
        }
    }
}
