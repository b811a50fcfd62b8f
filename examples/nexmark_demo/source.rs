//! The source: NEXMark's generator, which gives the same event at the same offset in every run.

use icecore::metadata::SourcePosition;
use icecore::{Error, Result};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;

/// Events that travel together. The watermark moves at the end of a batch, and batches begin at
/// multiples of this, so where it moves depends on neither parallelism nor time nor restarts.
pub const BATCH_EVENTS: u64 = 500;
/// The first event's time: fixed, as the generator would otherwise take the time of day.
const BASE_TIME_MS: u64 = 1_436_918_400_000;
/// So many auctions are open at a time that most outlive a checkpoint, and their timers with them.
const OPEN_AUCTIONS: usize = 2_000;

const SOURCE: &str = "nexmark";
const SPLIT: &str = "0";

/// NEXMark events from an offset on.
pub struct Source {
    generator: EventGenerator,
}

/// Some events, and the time up to which all have been seen after them.
pub struct Batch {
    pub events: Vec<Event>,
    pub watermark_ms: i64,
}

impl Source {
    /// The events from `offset` on.
    pub fn at(offset: u64) -> Self {
        let config =
            NexmarkConfig { base_time: BASE_TIME_MS, in_flight_auctions: OPEN_AUCTIONS, ..NexmarkConfig::default() };
        Self { generator: EventGenerator::new(config).with_offset(offset) }
    }

    /// How many events came before the next one.
    pub fn offset(&self) -> u64 {
        self.generator.offset()
    }

    /// The next [`BATCH_EVENTS`] events.
    pub fn next_batch(&mut self) -> Batch {
        let events: Vec<Event> = self.generator.by_ref().take(BATCH_EVENTS as usize).collect();
        let watermark_ms = events.last().map_or(i64::MIN, |event| event.timestamp() as i64);
        Batch { events, watermark_ms }
    }

    /// Where the source stands, as a checkpoint keeps it.
    pub fn position(&self) -> SourcePosition {
        let position = self.offset().to_le_bytes().to_vec();
        SourcePosition { source: SOURCE.to_owned(), split: SPLIT.to_owned(), position }
    }

    /// The source as it stood at a checkpoint.
    pub fn restore(positions: &[SourcePosition]) -> Result<Self> {
        let found = positions.iter().find(|position| position.source == SOURCE && position.split == SPLIT);
        let offset = found.and_then(|found| Some(u64::from_le_bytes(found.position.as_slice().try_into().ok()?)));
        offset.map(Self::at).ok_or_else(|| Error::corrupt("restore the source", SOURCE, "the checkpoint has no offset"))
    }
}
