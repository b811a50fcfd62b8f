//! q11: how many bids somebody makes in each session: a session ends when there is no bid for a while.

use std::fmt;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, DataStream, EventTimers, KeyedOperator, keyed};
use icecore::state::typed::{KeyContext, MapState, Timer};
use icecore::task::CheckpointedTask;
use nexmark::event::Event;
use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::records::{Bid, bid_of};
use super::{Query, Tasks};

const SESSIONS: &str = "q11-sessions";
/// Bids of a session are not further apart than this.
pub const SESSION_GAP_MS: i64 = 10_000;

pub struct Q11;

/// A session that is over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session {
    /// When its first bid was made.
    pub first_ms: i64,
    /// When its last one was.
    pub last_ms: i64,
    pub bidder: u64,
    pub bids: u64,
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first_ms, last_ms, bidder, bids } = self;
        write!(f, "{} - {}  bidder {bidder}: {bids} bids", Clock(*first_ms), Clock(*last_ms))
    }
}

impl Query for Q11 {
    type Output = Session;

    const NAME: &'static str = "q11";
    const ABOUT: &'static str = "how many bids somebody makes before they pause for 10 seconds";
    const OPERATORS: &'static [&'static str] = &[SESSIONS];

    fn build<'scope, B: CheckpointedTask + 'static>(
        events: DataStream<'scope, Event>,
        tasks: &mut Tasks<B>,
        checkpoints: &Checkpoints,
    ) -> Result<DataStream<'scope, Session>> {
        let mut keys = tasks.keys(SESSIONS)?;
        let sessions = Sessions { open: keys.map_state("open")?, timers: EventTimers::open(&mut keys, "ends")? };
        keyed(events.flat_map(bid_of), SESSIONS, sessions, keys, checkpoints)
    }

    fn key(output: &Session) -> u64 {
        output.bidder
    }
}

struct Sessions {
    /// By the time of the first bid: that of the last one, and how many there were. Several, as bids of different workers
    /// do not come in their order.
    open: MapState<i64, (i64, u64)>,
    timers: EventTimers,
}

impl<B: CheckpointedTask> KeyedOperator<B> for Sessions {
    type Key = u64;
    type Input = Bid;
    type Output = Session;

    fn key(bid: &Bid) -> u64 {
        bid.bidder
    }

    fn record(&mut self, keys: &mut KeyContext<u64, B>, bid: Bid, _output: &mut Vec<Session>) -> Result<()> {
        if self.timers.has_passed(bid.at_ms + SESSION_GAP_MS) {
            return Ok(());
        }
        let (mut first_ms, mut last_ms, mut bids) = (bid.at_ms, bid.at_ms, 1);
        // One that it belongs to grows by it. Two of them become one.
        for (open_first_ms, (open_last_ms, open_bids)) in self.open.entries(keys)? {
            if (open_first_ms - SESSION_GAP_MS..=open_last_ms + SESSION_GAP_MS).contains(&bid.at_ms) {
                self.open.remove(keys, &open_first_ms)?;
                (first_ms, last_ms) = (first_ms.min(open_first_ms), last_ms.max(open_last_ms));
                bids += open_bids;
            }
        }
        self.open.put(keys, &first_ms, &(last_ms, bids))?;
        self.timers.register(keys, last_ms + SESSION_GAP_MS)
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(&mut self, keys: &mut KeyContext<u64, B>, timer: Timer<u64>, output: &mut Vec<Session>) -> Result<()> {
        // None may be over: it has grown since the timer was registered.
        for (first_ms, (last_ms, bids)) in self.open.entries(keys)? {
            if last_ms + SESSION_GAP_MS <= timer.timestamp_ms {
                self.open.remove(keys, &first_ms)?;
                output.push(Session { first_ms, last_ms, bidder: timer.key, bids });
            }
        }
        Ok(())
    }
}
