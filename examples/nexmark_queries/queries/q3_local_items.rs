//! q3: who in some states sells in a category: a join without windows, so its state is kept for ever.

use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, KeyedOperator, keyed};
use icecore::state::typed::{KeyContext, ListState, ValueState};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::{Query, Tasks};

const JOIN: &str = "q3-join";
const CATEGORY: usize = 10;
const STATES: [&str; 3] = ["or", "id", "ca"];

pub struct Q3;

/// An auction, and who sells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LocalItem {
    pub name: String,
    pub city: String,
    pub state: String,
    pub auction: u64,
}

impl fmt::Display for LocalItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "auction {} by {} in {} ({})", self.auction, self.name, self.city, self.state)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seller {
    id: u64,
    name: String,
    city: String,
    state: String,
}

/// What is joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Side {
    Seller(Seller),
    Auction { id: u64, seller: u64 },
}

fn side_of(event: Event) -> Option<Side> {
    match event {
        Event::Person(person) if STATES.contains(&person.state.as_str()) => {
            let (id, name, city, state) = (person.id as u64, person.name, person.city, person.state);
            Some(Side::Seller(Seller { id, name, city, state }))
        }
        Event::Auction(auction) if auction.category == CATEGORY => {
            Some(Side::Auction { id: auction.id as u64, seller: auction.seller as u64 })
        }
        _ => None,
    }
}

impl Query for Q3 {
    type Output = LocalItem;

    const NAME: &'static str = "q3";
    const ABOUT: &'static str = "who sells in category 10, in Oregon, Idaho or California";
    const OPERATORS: &'static [&'static str] = &[JOIN];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, LocalItem>> {
        let mut keys = tasks.keys(JOIN)?;
        let join = Join { seller: keys.value_state("seller")?, waiting: keys.list_state("waiting-auctions")? };
        keyed(events.flat_map(side_of), JOIN, join, keys, checkpoints)
    }

    fn key(output: &LocalItem) -> u64 {
        output.auction
    }
}

struct Join {
    seller: ValueState<Seller>,
    /// Auctions whose seller is not known yet.
    waiting: ListState<u64>,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Join {
    type Key = u64;
    type Input = Side;
    type Output = LocalItem;

    fn key(side: &Side) -> u64 {
        match side {
            Side::Seller(seller) => seller.id,
            Side::Auction { seller, .. } => *seller,
        }
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, side: Side, output: &mut Vec<LocalItem>) -> Result<()> {
        match side {
            Side::Seller(seller) => {
                let waiting = self.waiting.get(keys)?;
                self.waiting.clear(keys)?;
                output.extend(waiting.into_iter().map(|auction| item(seller.clone(), auction)));
                self.seller.set(keys, &seller)
            }
            Side::Auction { id, .. } => match self.seller.get(keys)? {
                Some(seller) => {
                    output.push(item(seller, id));
                    Ok(())
                }
                None => self.waiting.add(keys, &id),
            },
        }
    }
}

fn item(Seller { name, city, state, .. }: Seller, auction: u64) -> LocalItem {
    LocalItem { name, city, state, auction }
}
