//! q8: who registered and opened an auction in the same tumbling window: a join of two streams, window by window.

use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, EventTimers, KeyedOperator, keyed};
use icecore::state::typed::{KeyContext, Timer, ValueState};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::window::Window;
use super::{Query, Tasks};

const JOIN: &str = "q8-join";

pub struct Q8;

/// A person who registered in the window, and opened an auction in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NewSeller {
    pub window_end_ms: i64,
    pub person: u64,
    pub name: String,
}

impl fmt::Display for NewSeller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "until {}  {} ({})", Clock(self.window_end_ms), self.name, self.person)
    }
}

/// What is joined.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Side {
    Registered { person: u64, name: String, at_ms: i64 },
    Opened { seller: u64, at_ms: i64 },
}

impl Query for Q8 {
    type Output = NewSeller;

    const NAME: &'static str = "q8";
    const ABOUT: &'static str = "who registered and opened an auction within the same 10 seconds";
    const OPERATORS: &'static [&'static str] = &[JOIN];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, NewSeller>> {
        let mut keys = tasks.keys(JOIN)?;
        let join = Join {
            name: keys.value_state("name")?,
            has_opened: keys.value_state("has-opened")?,
            timers: EventTimers::open(&mut keys, "window-ends")?,
        };
        let people = events.clone().flat_map(|event| match event {
            Event::Person(person) => {
                let (name, at_ms) = (person.name, person.date_time as i64);
                Some(Side::Registered { person: person.id as u64, name, at_ms })
            }
            Event::Auction(_) | Event::Bid(_) => None,
        });
        let auctions = events.flat_map(|event| match event {
            Event::Auction(auction) => {
                Some(Side::Opened { seller: auction.seller as u64, at_ms: auction.date_time as i64 })
            }
            Event::Person(_) | Event::Bid(_) => None,
        });
        keyed(people.union(auctions), JOIN, join, keys, checkpoints)
    }

    fn key(output: &NewSeller) -> u64 {
        output.person
    }
}

struct Join {
    /// In a window's namespace: of whoever registered in it.
    name: ValueState<String>,
    /// In a window's namespace: set if the person opened an auction in it.
    has_opened: ValueState<bool>,
    timers: EventTimers,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Join {
    type Key = u64;
    type Input = Side;
    type Output = NewSeller;

    fn key(side: &Side) -> u64 {
        match side {
            Side::Registered { person, .. } => *person,
            Side::Opened { seller, .. } => *seller,
        }
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, side: Side, _output: &mut Vec<NewSeller>) -> Result<()> {
        let (Side::Registered { at_ms, .. } | Side::Opened { at_ms, .. }) = &side;
        let window = Window::tumbling(*at_ms);
        if self.timers.has_passed(window.last_ms()) {
            return Ok(());
        }
        keys.set_namespace(&window.namespace())?;
        self.timers.register(keys, window.last_ms())?;
        match side {
            Side::Registered { name, .. } => self.name.set(keys, &name),
            Side::Opened { .. } => self.has_opened.set(keys, &true),
        }
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<u64, B>,
        timer: Timer<u64>,
        output: &mut Vec<NewSeller>,
    ) -> Result<()> {
        let (name, has_opened) = (self.name.get(keys)?, self.has_opened.get(keys)?);
        self.name.clear(keys)?;
        self.has_opened.clear(keys)?;
        let window_end_ms = Window::of_last_ms(timer.timestamp_ms).end_ms;
        let both = name.filter(|_| has_opened == Some(true));
        output.extend(both.map(|name| NewSeller { window_end_ms, person: timer.key, name }));
        Ok(())
    }
}
