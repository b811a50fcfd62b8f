//! What of an event the queries need.

use nexmark::event::Event;
use serde::{Deserialize, Serialize};

/// A bid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Bid {
    pub auction: u64,
    pub bidder: u64,
    /// In cents.
    pub price: u64,
    pub at_ms: i64,
}

/// The bid, if the event is one.
pub fn bid_of(event: Event) -> Option<Bid> {
    match event {
        Event::Bid(bid) => Some(Bid {
            auction: bid.auction as u64,
            bidder: bid.bidder as u64,
            price: bid.price as u64,
            at_ms: bid.date_time as i64,
        }),
        Event::Person(_) | Event::Auction(_) => None,
    }
}
