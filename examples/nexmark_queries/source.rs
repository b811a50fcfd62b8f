//! NEXMark's events in some splits, as partitions of a topic are: the same at the same position in every run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use icecore::job::dataflow::{END_OF_TIME_MS, Source};
use icecore::metadata::SourcePosition;
use icecore::{Error, Result};
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::Event;

/// Event `n` is in split `n % SPLITS`.
pub const SPLITS: u64 = 4;
pub const SOURCE: &str = "nexmark";
/// Midnight, UTC: fixed, as the generator would otherwise take the time of day.
const BASE_TIME_MS: u64 = 1_436_918_400_000;
/// In event time: 2,000 events in 10 seconds.
const EVENTS_PER_SECOND: usize = 200;
/// Events that one split gives at once, at most.
const BATCH: u64 = 100;

/// All events, from `offset` on, each `step`th.
pub fn events(offset: u64, step: u64) -> EventGenerator {
    let config = NexmarkConfig {
        base_time: BASE_TIME_MS,
        first_rate: EVENTS_PER_SECOND,
        next_rate: EVENTS_PER_SECOND,
        ..NexmarkConfig::default()
    };
    EventGenerator::new(config).with_offset(offset).with_step(step)
}

/// What all workers' sources share, beyond any life.
#[derive(Clone, Debug)]
pub struct Events {
    /// How many there are, over all splits.
    pub end: u64,
    /// How many are there yet: for who wants to stop a source somewhere.
    pub limit: Arc<AtomicU64>,
    /// By split: where it stood after the last events that were given.
    next: Arc<[AtomicU64; SPLITS as usize]>,
}

impl Events {
    pub fn new(end: u64) -> Self {
        Self { end, limit: Arc::new(AtomicU64::new(u64::MAX)), next: Arc::default() }
    }

    /// Whether all events up to `limit` were given, in any life.
    pub fn are_given(&self, limit: u64) -> bool {
        self.next.iter().all(|next| next.load(Ordering::SeqCst) >= limit.min(self.end))
    }

    /// How many were given, in all lives together, those that were given again but once.
    pub fn given(&self) -> u64 {
        let next = self.next.iter().map(|next| next.load(Ordering::SeqCst));
        next.min().unwrap_or(0).min(self.end)
    }

    /// The splits of one worker, from where they stood.
    pub fn splits(&self, worker: u32, workers: u32, positions: &[SourcePosition]) -> Result<NexmarkSplits> {
        let mine = (0..SPLITS).filter(|split| split % u64::from(workers) == u64::from(worker));
        let splits = mine.map(|split| {
            let name = split.to_string();
            let stood = positions.iter().find(|position| position.source == SOURCE && position.split == name);
            let offset =
                match stood {
                    None => split,
                    Some(stood) => u64::from_be_bytes(stood.position.as_slice().try_into().map_err(|_| {
                        Error::corrupt("restore a source", SOURCE, "the position of a split is no offset")
                    })?),
                };
            Ok(Split { number: split, generator: events(offset, SPLITS) })
        });
        Ok(NexmarkSplits { splits: splits.collect::<Result<_>>()?, events: self.clone() })
    }
}

struct Split {
    number: u64,
    generator: EventGenerator,
}

/// Some splits, on one worker.
pub struct NexmarkSplits {
    splits: Vec<Split>,
    events: Events,
}

impl Source for NexmarkSplits {
    type Record = Event;

    fn poll(&mut self, max: usize, records: &mut Vec<Event>) -> Result<bool> {
        let end = self.events.end.min(self.events.limit.load(Ordering::SeqCst));
        let share = BATCH.min(max as u64 / SPLITS);
        for split in &mut self.splits {
            let left = end.saturating_sub(split.generator.offset()).div_ceil(SPLITS).min(share);
            records.extend(split.generator.by_ref().take(left as usize));
            if let Some(next) = self.events.next.get(split.number as usize) {
                next.fetch_max(split.generator.offset(), Ordering::SeqCst);
            }
        }
        Ok(self.splits.iter().any(|split| split.generator.offset() < self.events.end))
    }

    fn positions(&self) -> Vec<SourcePosition> {
        let position = |split: &Split| SourcePosition {
            source: SOURCE.to_owned(),
            split: split.number.to_string(),
            position: split.generator.offset().to_be_bytes().to_vec(),
        };
        self.splits.iter().map(position).collect()
    }

    /// Within a split events are in the order of their times, so it follows from the position: all before the next one.
    fn watermark_ms(&self) -> i64 {
        let open = self.splits.iter().filter(|split| split.generator.offset() < self.events.end);
        open.map(|split| split.generator.timestamp() as i64 - 1).min().unwrap_or(END_OF_TIME_MS)
    }
}
