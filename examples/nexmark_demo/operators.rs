//! The two stateful operators, written once for every backend.

use icecore::Result;
use icecore::state::KeyedBackend;
use icecore::state::typed::{
    AggregateFunction, AggregatingState, KeyContext, ListState, MapState, ReducingState, TimerService, ValueState,
};
use nexmark::event::{Auction, Bid, Person};
use serde::{Deserialize, Serialize};

/// A step of the job whose state is kept by key.
pub trait Operator: Sized {
    type Event: Send + 'static;
    /// Its id in checkpoints.
    const NAME: &'static str;

    fn open<B: KeyedBackend>(context: &mut KeyContext<u64, B>) -> Result<Self>;
    fn key(event: &Self::Event) -> u64;
    /// Takes in an event of the current key.
    fn process<B: KeyedBackend>(&mut self, context: &mut KeyContext<u64, B>, event: Self::Event) -> Result<()>;
    /// Hears that all events up to `watermark_ms` have been seen.
    fn advance<B: KeyedBackend>(&mut self, context: &mut KeyContext<u64, B>, watermark_ms: i64) -> Result<()>;
}

/// Keyed by auction: what is on offer, the bids on it, and the sale when its time is up.
pub struct Auctions {
    details: ValueState<Details>,
    bids: AggregatingState<Bids>,
    sales: ValueState<Sale>,
    late_bids: ReducingState<u64, fn(u64, u64) -> u64>,
    closing: TimerService,
}

pub enum AuctionEvent {
    Opened(Box<Auction>),
    Bid(Bid),
}

#[derive(Serialize, Deserialize)]
struct Details {
    item: String,
    description: String,
    extra: String,
    seller: u64,
    category: u64,
    reserve: u64,
    expires_ms: u64,
}

/// Count, sum and the highest of an auction's bids.
struct Bids;

#[derive(Clone, Default, Serialize, Deserialize)]
struct BidTotals {
    count: u64,
    sum: u64,
    highest: u64,
    highest_bidder: u64,
}

#[derive(Serialize, Deserialize)]
struct Sale {
    bids: BidTotals,
    is_sold: bool,
    closed_ms: i64,
}

impl AggregateFunction for Bids {
    type Input = Bid;
    type Accumulator = BidTotals;
    type Output = BidTotals;

    fn create_accumulator(&self) -> BidTotals {
        BidTotals::default()
    }

    fn add(&self, mut totals: BidTotals, bid: Bid) -> BidTotals {
        let price = bid.price as u64;
        totals.count += 1;
        totals.sum += price;
        if price > totals.highest {
            (totals.highest, totals.highest_bidder) = (price, bid.bidder as u64);
        }
        totals
    }

    fn result(&self, totals: &BidTotals) -> BidTotals {
        totals.clone()
    }
}

impl Operator for Auctions {
    type Event = AuctionEvent;
    const NAME: &'static str = "auctions";

    fn open<B: KeyedBackend>(context: &mut KeyContext<u64, B>) -> Result<Self> {
        Ok(Self {
            details: context.value_state("details")?,
            bids: context.aggregating_state("bids", Bids)?,
            sales: context.value_state("sales")?,
            late_bids: context.reducing_state("late-bids", sum as fn(u64, u64) -> u64)?,
            closing: context.timer_service("closing")?,
        })
    }

    fn key(event: &AuctionEvent) -> u64 {
        match event {
            AuctionEvent::Opened(auction) => auction.id as u64,
            AuctionEvent::Bid(bid) => bid.auction as u64,
        }
    }

    fn process<B: KeyedBackend>(&mut self, context: &mut KeyContext<u64, B>, event: AuctionEvent) -> Result<()> {
        match event {
            AuctionEvent::Opened(auction) => {
                self.closing.register(context, auction.expires as i64)?;
                let details = Details {
                    item: auction.item_name,
                    description: auction.description,
                    extra: auction.extra,
                    seller: auction.seller as u64,
                    category: auction.category as u64,
                    reserve: auction.reserve as u64,
                    expires_ms: auction.expires,
                };
                self.details.set(context, &details)
            }
            AuctionEvent::Bid(_) if self.sales.get(context)?.is_some() => self.late_bids.add(context, 1),
            AuctionEvent::Bid(bid) => self.bids.add(context, bid),
        }
    }

    fn advance<B: KeyedBackend>(&mut self, context: &mut KeyContext<u64, B>, watermark_ms: i64) -> Result<()> {
        let Self { details, bids, sales, closing, .. } = self;
        closing.advance(context, watermark_ms, |_, context, timer| {
            let reserve = details.get(context)?.map_or(0, |details| details.reserve);
            let totals = bids.get(context)?.unwrap_or_default();
            let is_sold = totals.count > 0 && totals.highest >= reserve;
            sales.set(context, &Sale { bids: totals, is_sold, closed_ms: timer.timestamp_ms })?;
            bids.clear(context)
        })
    }
}

/// Keyed by person: who it is, what they sell, where and how much they bid.
pub struct People {
    profile: ValueState<Profile>,
    auctions: ListState<u64>,
    categories: MapState<u64, u64>,
    channels: MapState<String, (u64, u64)>,
}

pub enum PersonEvent {
    Registered(Box<Person>),
    Opened { seller: u64, auction: u64, category: u64 },
    Bid { bidder: u64, channel: String, price: u64 },
}

#[derive(Serialize, Deserialize)]
struct Profile {
    name: String,
    email: String,
    city: String,
    state: String,
    since_ms: u64,
}

impl Operator for People {
    type Event = PersonEvent;
    const NAME: &'static str = "people";

    fn open<B: KeyedBackend>(context: &mut KeyContext<u64, B>) -> Result<Self> {
        Ok(Self {
            profile: context.value_state("profile")?,
            auctions: context.list_state("auctions")?,
            categories: context.map_state("categories")?,
            channels: context.map_state("channels")?,
        })
    }

    fn key(event: &PersonEvent) -> u64 {
        match event {
            PersonEvent::Registered(person) => person.id as u64,
            PersonEvent::Opened { seller, .. } => *seller,
            PersonEvent::Bid { bidder, .. } => *bidder,
        }
    }

    fn process<B: KeyedBackend>(&mut self, context: &mut KeyContext<u64, B>, event: PersonEvent) -> Result<()> {
        match event {
            PersonEvent::Registered(person) => {
                let Person { name, email_address: email, city, state, date_time: since_ms, .. } = *person;
                self.profile.set(context, &Profile { name, email, city, state, since_ms })
            }
            PersonEvent::Opened { auction, category, .. } => {
                self.auctions.add(context, &auction)?;
                let before = self.categories.get(context, &category)?.unwrap_or(0);
                self.categories.put(context, &category, &(before + 1))
            }
            PersonEvent::Bid { channel, price, .. } => {
                let (count, total) = self.channels.get(context, &channel)?.unwrap_or_default();
                self.channels.put(context, &channel, &(count + 1, total + price))
            }
        }
    }

    fn advance<B: KeyedBackend>(&mut self, _context: &mut KeyContext<u64, B>, _watermark_ms: i64) -> Result<()> {
        Ok(())
    }
}

fn sum(present: u64, added: u64) -> u64 {
    present + added
}
