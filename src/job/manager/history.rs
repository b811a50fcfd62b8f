//! What became of a job's checkpoints and workers, for people. Nothing is decided by it.
//!
//! The newest of it is kept in memory, and written to the store by and by (`chronicle`), so that it survives the manager.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::env::Env;
use crate::job::report::{CheckpointRecord, EventRecord, GrowthPoint, InFlightReport};
use crate::layout::{CheckpointFolder, CheckpointId, Epoch};
use crate::metadata::CheckpointKind;
use crate::registry::Stats;
use crate::snapshot::{SnapshotStats, Trigger};

/// How many checkpoints that have ended are remembered.
pub const MAX_REMEMBERED_CHECKPOINTS: usize = 500;
/// How many other events are remembered.
pub const MAX_REMEMBERED_EVENTS: usize = 500;

/// How many of the newest checkpoints may lack the size that the shared files had after them.
const MAX_UNSIZED: usize = 64;
/// The longest text of an entry, in bytes: all entries together fit into one chunk, however JSON writes them.
const MAX_TEXT_BYTES: usize = 512;

/// Something that is remembered. A line of a chunk on the store is one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "most are checkpoints")]
pub(super) enum Entry {
    Checkpoint(CheckpointRecord),
    Event(EventRecord),
}

pub(super) struct History {
    env: Env,
    state: Mutex<State>,
    /// There is something that the store does not have.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    in_flight: BTreeMap<CheckpointId, InFlight>,
    /// Oldest first.
    checkpoints: VecDeque<CheckpointRecord>,
    events: VecDeque<EventRecord>,
    unsaved: Vec<Entry>,
    completed: u64,
    aborted: u64,
}

struct InFlight {
    kind: CheckpointKind,
    epoch: Epoch,
    generation: u64,
    /// Where a savepoint shall lie.
    path: Option<String>,
    triggered_at_unix_ms: u64,
    triggered_at: Duration,
    stats: SnapshotStats,
}

impl History {
    pub(super) fn new(env: Env) -> Self {
        Self { env, state: Mutex::default(), changed: Notify::new() }
    }

    /// Takes in what earlier managers have left, oldest first, before anything happens here.
    pub(super) fn recall(&self, earlier: impl IntoIterator<Item = Entry>) {
        let mut state = self.state.lock();
        for entry in earlier.into_iter().map(Entry::clipped) {
            // It may lie in two chunks, if one that was replaced could not be deleted.
            let is_known = match &entry {
                Entry::Checkpoint(record) => state.checkpoints.iter().any(|known| known.folder == record.folder),
                Entry::Event(record) => state.events.contains(record),
            };
            if !is_known {
                state.remember(entry);
            }
        }
    }

    pub(super) fn event(&self, kind: &str, generation: u64, text: &str) {
        let at_unix_ms = self.env.clock.unix_time_ms();
        self.add(Entry::Event(EventRecord { at_unix_ms, kind: kind.to_owned(), generation, text: clipped(text) }));
    }

    /// `generation`: that of the workers. The trigger's own counts the coordinator's, which has one more.
    pub(super) fn triggered(&self, trigger: &Trigger, generation: u64) {
        let in_flight = InFlight {
            kind: trigger.kind,
            epoch: trigger.epoch,
            generation,
            path: (trigger.kind == CheckpointKind::Savepoint).then(|| trigger.folder.to_string()),
            triggered_at_unix_ms: trigger.triggered_at_unix_ms,
            triggered_at: self.env.clock.monotonic(),
            stats: SnapshotStats::default(),
        };
        self.state.lock().in_flight.insert(trigger.checkpoint, in_flight);
    }

    pub(super) fn acknowledged(&self, checkpoint: CheckpointId, stats: SnapshotStats) {
        if let Some(in_flight) = self.state.lock().in_flight.get_mut(&checkpoint) {
            in_flight.stats += stats;
        }
    }

    pub(super) fn completed(&self, folder: CheckpointFolder) {
        self.ended(folder.checkpoint, |in_flight, record| {
            let stats = in_flight.stats;
            CheckpointRecord {
                status: "complete".to_owned(),
                sync_ms: Some(stats.sync_us / 1_000),
                async_ms: Some(stats.async_us / 1_000),
                files: Some(stats.files),
                uploaded_files: Some(stats.uploaded_files),
                uploaded_bytes: Some(stats.uploaded_bytes),
                shared_bytes: Some(stats.shared_bytes),
                ..record
            }
        });
    }

    pub(super) fn aborted(&self, checkpoint: CheckpointId, reason: &str) {
        self.ended(checkpoint, |_, record| CheckpointRecord {
            status: "aborted".to_owned(),
            reason: Some(clipped(reason)),
            ..record
        });
    }

    fn ended(&self, checkpoint: CheckpointId, record: impl FnOnce(&InFlight, CheckpointRecord) -> CheckpointRecord) {
        let Some(in_flight) = self.state.lock().in_flight.remove(&checkpoint) else { return };
        let duration = self.env.clock.monotonic().saturating_sub(in_flight.triggered_at);
        let known = CheckpointRecord {
            checkpoint: checkpoint.0,
            folder: CheckpointFolder { checkpoint, epoch: in_flight.epoch }.to_string(),
            epoch: in_flight.epoch.to_string(),
            generation: in_flight.generation,
            kind: kind_name(in_flight.kind).to_owned(),
            path: in_flight.path.clone(),
            triggered_at_unix_ms: in_flight.triggered_at_unix_ms,
            duration_ms: Some(whole_ms(duration)),
            ..CheckpointRecord::default()
        };
        let record = record(&in_flight, known);
        {
            let mut state = self.state.lock();
            match record.status == "complete" {
                true => state.completed += 1,
                false => state.aborted += 1,
            }
        }
        self.add(Entry::Checkpoint(record));
    }

    /// How many became complete and were aborted here.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.completed, state.aborted)
    }

    fn add(&self, entry: Entry) {
        let mut state = self.state.lock();
        state.unsaved.push(entry.clone());
        let surplus = state.unsaved.len().saturating_sub(MAX_REMEMBERED_CHECKPOINTS + MAX_REMEMBERED_EVENTS);
        // The store is not there for long: what is oldest is forgotten.
        state.unsaved.drain(..surplus);
        state.remember(entry);
        drop(state);
        self.changed.notify_one();
    }

    /// Notes the size of the shared files beside the checkpoints that have just become complete.
    pub(super) fn note_stored(&self, stats: &Stats) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let is_new = |record: &&mut CheckpointRecord| record.status == "complete" && record.stored_bytes.is_none();
        let known = state.checkpoints.iter_mut().rev().take(MAX_UNSIZED).filter(is_new);
        let unsaved = state.unsaved.iter_mut().filter_map(|entry| match entry {
            Entry::Checkpoint(record) => Some(record).filter(|record| is_new(record)),
            Entry::Event(_) => None,
        });
        for record in known.chain(unsaved) {
            record.stored_bytes = Some(stats.stored_bytes);
            record.stored_objects = Some(stats.entries.saturating_sub(stats.condemned));
        }
    }

    /// What the store does not have yet, oldest first. It is to be given back if it does not get there.
    pub(super) fn take_unsaved(&self) -> Vec<Entry> {
        std::mem::take(&mut self.state.lock().unsaved)
    }

    pub(super) fn give_back(&self, mut unsaved: Vec<Entry>) {
        let mut state = self.state.lock();
        unsaved.append(&mut state.unsaved);
        state.unsaved = unsaved;
    }

    pub(super) fn unsaved(&self) -> usize {
        self.state.lock().unsaved.len()
    }

    /// All that is remembered, oldest first.
    pub(super) fn all(&self) -> Vec<Entry> {
        let state = self.state.lock();
        let checkpoints = state.checkpoints.iter().cloned().map(Entry::Checkpoint);
        checkpoints.chain(state.events.iter().cloned().map(Entry::Event)).collect()
    }

    pub(super) fn in_flight(&self) -> Vec<InFlightReport> {
        let state = self.state.lock();
        let report = |(id, in_flight): (&CheckpointId, &InFlight)| InFlightReport {
            checkpoint: id.0,
            kind: kind_name(in_flight.kind).to_owned(),
            triggered_at_unix_ms: in_flight.triggered_at_unix_ms,
        };
        state.in_flight.iter().map(report).collect()
    }

    /// The newest checkpoints and events, newest first.
    pub(super) fn newest(&self, checkpoints: usize, events: usize) -> (Vec<CheckpointRecord>, Vec<EventRecord>) {
        let state = self.state.lock();
        let checkpoints = state.checkpoints.iter().rev().take(checkpoints).cloned().collect();
        (checkpoints, state.events.iter().rev().take(events).cloned().collect())
    }

    pub(super) fn growth(&self) -> Vec<GrowthPoint> {
        let state = self.state.lock();
        let point = |record: &CheckpointRecord| {
            Some(GrowthPoint {
                at_unix_ms: record.triggered_at_unix_ms.saturating_add(record.duration_ms?),
                stored_bytes: record.stored_bytes?,
                stored_objects: record.stored_objects?,
            })
        };
        state.checkpoints.iter().filter_map(point).collect()
    }
}

impl State {
    fn remember(&mut self, entry: Entry) {
        match entry {
            Entry::Checkpoint(record) => push(&mut self.checkpoints, record, MAX_REMEMBERED_CHECKPOINTS),
            Entry::Event(record) => push(&mut self.events, record, MAX_REMEMBERED_EVENTS),
        }
    }
}

fn push<T>(all: &mut VecDeque<T>, one: T, max: usize) {
    all.push_back(one);
    while all.len() > max {
        all.pop_front();
    }
}

impl Entry {
    /// The event, with no text longer than those that are written here.
    pub(super) fn clipped_event(self) -> Option<EventRecord> {
        match self.clipped() {
            Self::Event(event) => Some(event),
            Self::Checkpoint(_) => None,
        }
    }

    /// With no text longer than those that are written here.
    fn clipped(self) -> Self {
        match self {
            Self::Checkpoint(record) => Self::Checkpoint(CheckpointRecord {
                folder: clipped(&record.folder),
                path: record.path.as_deref().map(clipped),
                epoch: clipped(&record.epoch),
                kind: clipped(&record.kind),
                status: clipped(&record.status),
                reason: record.reason.as_deref().map(clipped),
                ..record
            }),
            Self::Event(event) => {
                Self::Event(EventRecord { kind: clipped(&event.kind), text: clipped(&event.text), ..event })
            }
        }
    }
}

fn clipped(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default().to_owned()
}

/// A duration in whole milliseconds.
pub(super) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn kind_name(kind: CheckpointKind) -> &'static str {
    match kind {
        CheckpointKind::Full => "full",
        CheckpointKind::Incremental => "incremental",
        CheckpointKind::Savepoint => "savepoint",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, status: &str) -> CheckpointRecord {
        let folder = format!("cp-{number}.1-0000000000000001");
        CheckpointRecord { checkpoint: number, folder, status: status.to_owned(), ..CheckpointRecord::default() }
    }

    #[tokio::test]
    async fn what_earlier_managers_left_is_taken_in_once_and_with_texts_no_longer_than_ours() {
        let history = History::new(Env::system().unwrap());
        let event = EventRecord { text: "ä".repeat(1 << 20), kind: "failed".to_owned(), ..EventRecord::default() };
        let entries = [Entry::Checkpoint(record(1, "complete")), Entry::Event(event)];
        history.recall(entries.clone());
        history.recall(entries);
        let (checkpoints, events) = history.newest(9, 9);
        assert_eq!((checkpoints.len(), events.len()), (1, 1));
        assert_eq!(events[0].text, "ä".repeat(MAX_TEXT_BYTES / 2));
        assert_eq!(history.unsaved(), 0);
    }

    #[tokio::test]
    async fn only_so_much_is_remembered_and_the_oldest_goes() {
        let history = History::new(Env::system().unwrap());
        history.recall((0..700).map(|number| Entry::Checkpoint(record(number, "complete"))));
        let (checkpoints, _) = history.newest(usize::MAX, 0);
        assert_eq!((checkpoints.len(), checkpoints[0].checkpoint), (MAX_REMEMBERED_CHECKPOINTS, 699));
    }

    #[tokio::test]
    async fn the_size_is_noted_beside_a_complete_checkpoint_under_an_aborted_one() {
        let history = History::new(Env::system().unwrap());
        history.add(Entry::Checkpoint(record(1, "complete")));
        history.add(Entry::Checkpoint(record(2, "aborted")));
        history.note_stored(&Stats { stored_bytes: 7, entries: 3, condemned: 1, ..Stats::default() });
        let (checkpoints, _) = history.newest(9, 0);
        assert_eq!((checkpoints[1].stored_bytes, checkpoints[1].stored_objects), (Some(7), Some(2)));
        assert_eq!(checkpoints[0].stored_bytes, None);
        let unsaved = history.take_unsaved();
        let Entry::Checkpoint(first) = &unsaved[0] else { panic!("{unsaved:?}") };
        assert_eq!(first.stored_bytes, Some(7));
    }

    #[tokio::test]
    async fn all_that_is_remembered_fits_into_one_chunk() {
        let history = History::new(Env::system().unwrap());
        for number in 0..MAX_REMEMBERED_CHECKPOINTS as u64 {
            // Six bytes each in JSON.
            let reason = Some("\u{1}".repeat(4_096));
            let entry = Entry::Checkpoint(CheckpointRecord { reason, ..record(number, "aborted") });
            history.recall([entry]);
        }
        for _ in 0..MAX_REMEMBERED_EVENTS {
            history.event("failed", 1, &"\u{1}".repeat(4_096));
        }
        let bytes: usize = history.all().iter().map(|entry| serde_json::to_vec(entry).unwrap().len() + 1).sum();
        assert!(bytes < 4 << 20, "{bytes}");
    }
}
