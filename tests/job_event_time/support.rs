//! A dataflow whose readings are counted in windows of event time, key by key:
//!
//! `readings of all sources, merged -> tallies (by key; a window a namespace) -> windows (by window) -> outlet`
//!
//! The second step sees what the first one's timers put out, and must not be told before them that it is late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use icecore::Result;
use icecore::job::dataflow::{
    Checkpoints, Committer, DataStream, END_OF_TIME_MS, EventTimers, KeyedOperator, NO_WATERMARK_MS, Source,
    Transaction, keyed, sink, source,
};
use icecore::metadata::SourcePosition;
use icecore::state::typed::{KeyContext, ListState, Timer, ValueState};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use timely::dataflow::Scope;

use crate::local_job::{AnyTask, Dataflow, Life, LocalJob, Start};

pub const WINDOW_MS: i64 = 1_000;
/// Readings of a split come so far apart.
const STEP_MS: i64 = 10;
const KEYS: u64 = 13;
/// Readings that a split gives at once, at most.
const BATCH: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reading {
    key: u64,
    at_ms: i64,
    value: u64,
}

/// What a window has of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tally {
    pub window_end_ms: i64,
    pub key: u64,
    pub count: u64,
    pub sum: u64,
}

/// A source, over all lives.
pub struct Readings {
    name: &'static str,
    /// The event time of each reading of a split.
    at_ms: fn(split: u64, position: u64) -> i64,
    /// How much earlier than one before it a reading may be, unless it is late.
    disorder_ms: i64,
    /// By split: how many readings there are, how many are there yet, and how many were given.
    pub splits: Vec<Split>,
}

pub struct Split {
    pub end: AtomicU64,
    pub limit: AtomicU64,
    pub given: AtomicU64,
}

impl Readings {
    pub fn new(name: &'static str, splits: u64, end: u64, disorder_ms: i64, at_ms: fn(u64, u64) -> i64) -> Self {
        let split = |_| Split { end: end.into(), limit: u64::MAX.into(), given: 0.into() };
        Self { name, at_ms, disorder_ms, splits: (0..splits).map(split).collect() }
    }

    pub fn limit(&self, limit: u64) {
        self.splits.iter().for_each(|split| split.limit.store(limit, Ordering::SeqCst));
    }

    fn reading(&self, split: u64, position: u64) -> Reading {
        Reading { key: (position * 7 + split) % KEYS, at_ms: (self.at_ms)(split, position), value: position }
    }

    /// What is sure behind a reading of that time.
    fn watermark_ms(&self, greatest_ms: i64) -> i64 {
        greatest_ms.saturating_sub(self.disorder_ms + 1)
    }

    /// The end of the last window that is complete when a split has given so many readings.
    pub fn last_complete_end_ms(&self, split: u64, given: u64) -> i64 {
        let greatest_ms = (0..given).map(|position| (self.at_ms)(split, position)).max().unwrap();
        (self.watermark_ms(greatest_ms) + 1) / WINDOW_MS * WINDOW_MS
    }

    /// All readings that are not late.
    fn in_time(&self) -> impl Iterator<Item = Reading> {
        (0..self.splits.len() as u64).flat_map(move |split| {
            let mut greatest_ms = NO_WATERMARK_MS;
            let end = self.splits[split as usize].end.load(Ordering::SeqCst);
            let all = (0..end).map(move |position| self.reading(split, position));
            all.filter(move |reading| {
                greatest_ms = greatest_ms.max(reading.at_ms);
                reading.at_ms >= greatest_ms.saturating_sub(self.disorder_ms)
            })
        })
    }
}

/// In order.
pub fn ascending(_split: u64, position: u64) -> i64 {
    position as i64 * STEP_MS
}

/// Out of order, by less than half a second.
pub fn disordered(split: u64, position: u64) -> i64 {
    ascending(split, position) + ((position * 37 + split * 11) % 50) as i64 * STEP_MS
}

/// Positions at which [`sometimes_late`] has a late reading.
pub const LATE_EVERY: u64 = 500;

/// In order, but now and then one is late by three windows.
pub fn sometimes_late(split: u64, position: u64) -> i64 {
    let is_late = position > 0 && position.is_multiple_of(LATE_EVERY);
    ascending(split, position) - if is_late { 3 * WINDOW_MS } else { 0 }
}

/// Splits of a source, on one worker.
struct Reader {
    of: Arc<Vec<Readings>>,
    source: usize,
    /// By split: the next position, and the greatest event time before it.
    splits: BTreeMap<u64, (u64, i64)>,
}

impl Reader {
    fn new(of: &Arc<Vec<Readings>>, source: usize, start: &Start) -> Self {
        let readings = &of[source];
        let mine = (0..readings.splits.len() as u64)
            .filter(|split| split % u64::from(start.workers) == u64::from(start.worker));
        let splits = mine.map(|split| {
            let stood = |stood: &&SourcePosition| stood.source == readings.name && stood.split == split.to_string();
            let at = start.positions.iter().find(stood).map_or((0, NO_WATERMARK_MS), |stood| {
                let (next, greatest_ms) = stood.position.split_at(8);
                let (next, greatest_ms) = (next.try_into().unwrap(), greatest_ms.try_into().unwrap());
                (u64::from_be_bytes(next), i64::from_be_bytes(greatest_ms))
            });
            (split, at)
        });
        Self { of: of.clone(), source, splits: splits.collect() }
    }

    fn readings(&self) -> &Readings {
        &self.of[self.source]
    }
}

impl Source for Reader {
    type Record = Reading;

    fn poll(&mut self, _max: usize, records: &mut Vec<Reading>) -> Result<bool> {
        let readings = &self.of[self.source];
        let mut has_more = false;
        for (number, (next, greatest_ms)) in &mut self.splits {
            let split = &readings.splits[*number as usize];
            let end = split.end.load(Ordering::SeqCst);
            // Batches end where they do in every run.
            let batch = (*next / BATCH + 1) * BATCH;
            for position in *next..batch.min(end).min(split.limit.load(Ordering::SeqCst)) {
                let reading = readings.reading(*number, position);
                *greatest_ms = reading.at_ms.max(*greatest_ms);
                records.push(reading);
                *next = position + 1;
            }
            split.given.store(*next, Ordering::SeqCst);
            has_more |= *next < end;
        }
        Ok(has_more)
    }

    fn positions(&self) -> Vec<SourcePosition> {
        let position = |(split, (next, greatest_ms)): (&u64, &(u64, i64))| SourcePosition {
            source: self.readings().name.to_owned(),
            split: split.to_string(),
            position: [next.to_be_bytes(), greatest_ms.to_be_bytes()].concat(),
        };
        self.splits.iter().map(position).collect()
    }

    fn watermark_ms(&self) -> i64 {
        let is_open = |(split, (next, _)): &(&u64, &(u64, i64))| {
            *next < self.readings().splits[**split as usize].end.load(Ordering::SeqCst)
        };
        let open = self.splits.iter().filter(is_open);
        open.map(|(_, (_, greatest_ms))| self.readings().watermark_ms(*greatest_ms)).min().unwrap_or(END_OF_TIME_MS)
    }
}

/// What operators saw, for the tests.
#[derive(Default)]
pub struct Seen {
    /// Readings that came after their window.
    pub late: AtomicU64,
    /// Tallies that came after the second step was told that their window is over.
    pub told_too_early: AtomicU64,
    /// The end of the last window that the second step put out, in this life.
    pub last_window_end_ms: AtomicI64,
}

struct Tallies {
    tally: ValueState<Tally>,
    timers: EventTimers,
    seen: Arc<Seen>,
}

impl KeyedOperator<AnyTask> for Tallies {
    type Key = u64;
    type Input = Reading;
    type Output = Tally;

    fn key(reading: &Reading) -> u64 {
        reading.key
    }

    fn record(
        &mut self,
        keys: &mut KeyContext<u64, AnyTask>,
        reading: Reading,
        _output: &mut Vec<Tally>,
    ) -> Result<()> {
        let window_end_ms = (reading.at_ms / WINDOW_MS + 1) * WINDOW_MS;
        if self.timers.has_passed(window_end_ms - 1) {
            self.seen.late.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        keys.set_namespace(&window_end_ms.to_be_bytes())?;
        self.timers.register(keys, window_end_ms - 1)?;
        let mut tally = self.tally.get(keys)?.unwrap_or(Tally { window_end_ms, key: reading.key, count: 0, sum: 0 });
        tally.count += 1;
        tally.sum += reading.value;
        self.tally.set(keys, &tally)
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<u64, AnyTask>,
        timer: Timer<u64>,
        output: &mut Vec<Tally>,
    ) -> Result<()> {
        let tally = self.tally.get(keys)?.unwrap();
        assert_eq!((tally.key, tally.window_end_ms), (timer.key, timer.timestamp_ms + 1));
        self.tally.clear(keys)?;
        output.push(tally);
        Ok(())
    }
}

struct Windows {
    tallies: ListState<Tally>,
    timers: EventTimers,
    seen: Arc<Seen>,
}

impl KeyedOperator<AnyTask> for Windows {
    type Key = i64;
    type Input = Tally;
    type Output = Tally;

    fn key(tally: &Tally) -> i64 {
        tally.window_end_ms
    }

    fn record(&mut self, keys: &mut KeyContext<i64, AnyTask>, tally: Tally, _output: &mut Vec<Tally>) -> Result<()> {
        if self.timers.has_passed(tally.window_end_ms - 1) {
            self.seen.told_too_early.fetch_add(1, Ordering::SeqCst);
        }
        self.timers.register(keys, tally.window_end_ms - 1)?;
        self.tallies.add(keys, &tally)
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<i64, AnyTask>,
        timer: Timer<i64>,
        output: &mut Vec<Tally>,
    ) -> Result<()> {
        output.extend(self.tallies.get(keys)?);
        self.tallies.clear(keys)?;
        self.seen.last_window_end_ms.fetch_max(timer.key, Ordering::SeqCst);
        Ok(())
    }
}

/// The whole of it, over all lives.
pub struct Windowed {
    pub sources: Arc<Vec<Readings>>,
    pub seen: Arc<Seen>,
    committed: Arc<Mutex<BTreeMap<Transaction, Vec<Tally>>>>,
}

pub type Job = LocalJob<Windowed>;

impl Windowed {
    pub fn new(sources: Vec<Readings>) -> Self {
        Self { sources: Arc::new(sources), seen: Arc::default(), committed: Arc::default() }
    }

    /// What was committed, in order.
    pub fn outputs(&self) -> Vec<Tally> {
        let mut all: Vec<Tally> = self.committed.lock().values().flatten().copied().collect();
        all.sort_unstable();
        all
    }

    /// What a run without any trouble puts out of the readings that are not late.
    pub fn expected(&self) -> Vec<Tally> {
        let mut all: BTreeMap<(i64, u64), Tally> = BTreeMap::new();
        for reading in self.sources.iter().flat_map(Readings::in_time) {
            let (window_end_ms, key) = ((reading.at_ms / WINDOW_MS + 1) * WINDOW_MS, reading.key);
            let tally = all.entry((window_end_ms, key)).or_insert(Tally { window_end_ms, key, count: 0, sum: 0 });
            tally.count += 1;
            tally.sum += reading.value;
        }
        all.into_values().collect()
    }

    pub fn limit(&self, limit: u64) {
        self.sources.iter().for_each(|readings| readings.limit(limit));
    }

    /// Whether all that is there was given.
    pub fn are_given(&self) -> bool {
        let mut splits = self.sources.iter().flat_map(|readings| &readings.splits);
        splits.all(|split| {
            let there = split.end.load(Ordering::SeqCst).min(split.limit.load(Ordering::SeqCst));
            split.given.load(Ordering::SeqCst) >= there
        })
    }
}

impl Dataflow for Windowed {
    fn operators(&self) -> Vec<&'static str> {
        vec!["tallies", "windows", "outlet"]
    }

    fn build(&self, scope: Scope<'_, u64>, mut start: Start, checkpoints: &Checkpoints) -> Result<()> {
        let mut keys = KeyContext::new(start.tasks.remove("tallies").unwrap());
        let timers = EventTimers::open(&mut keys, "window-ends")?;
        let tallies = Tallies { tally: keys.value_state("tally")?, timers, seen: self.seen.clone() };
        let mut window_keys = KeyContext::new(start.tasks.remove("windows").unwrap());
        let timers = EventTimers::open(&mut window_keys, "window-ends")?;
        let windows = Windows { tallies: window_keys.list_state("tallies")?, timers, seen: self.seen.clone() };

        let mut merged: Option<DataStream<'_, Reading>> = None;
        for (number, readings) in self.sources.iter().enumerate() {
            let stream = source(scope, readings.name, Reader::new(&self.sources, number, &start), checkpoints);
            let stream = stream.inspect(|_| ()).filter(|reading| reading.at_ms >= 0).map(|reading| reading);
            merged = Some(match merged {
                None => stream,
                Some(others) => others.union(stream).map(|reading| reading),
            });
        }
        let counted = keyed(merged.unwrap(), "tallies", tallies, keys, checkpoints)?;
        let counted = keyed(counted, "windows", windows, window_keys, checkpoints)?;
        let (outlet, task) = (Outlet(self.committed.clone()), start.tasks.remove("outlet").unwrap());
        sink(counted, "outlet", outlet, task, start.restored, checkpoints)
    }
}

struct Outlet(Arc<Mutex<BTreeMap<Transaction, Vec<Tally>>>>);

impl Committer for Outlet {
    type Output = Tally;
    type Key = u64;

    fn key(tally: &Tally) -> u64 {
        tally.key
    }

    fn commit(&mut self, transaction: Transaction, outputs: Vec<Tally>) -> Result<()> {
        self.0.lock().insert(transaction, outputs);
        Ok(())
    }
}

pub async fn until(life: &Life, holds: impl Fn() -> bool) -> Result<()> {
    let started = Instant::now();
    while !holds() {
        life.control.outcome()?;
        assert!(started.elapsed() < PATIENCE, "it does not come about");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
