//! What the controls share: orders, triggers, positions and notifications, and who is woken when they change.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use timely::scheduling::SyncActivator;
use tokio::sync::watch;

use super::control::{MAX_REMEMBERED_NOTIFICATIONS, Notification, Orders};
use crate::coordinator::MAX_CONCURRENT_CHECKPOINTS;
use crate::error::{Error, Result};
use crate::job::splits;
use crate::layout::CheckpointId;
use crate::metadata::{CheckpointKind, SourcePosition};
use crate::snapshot::Trigger;

/// Epochs whose trigger is remembered: twice as many as there can be checkpoints in flight.
const MAX_TRIGGERS: usize = 2 * MAX_CONCURRENT_CHECKPOINTS;

pub(super) struct Board {
    state: Mutex<State>,
    /// Counts changes, for those who wait for one.
    changes: watch::Sender<u64>,
}

pub(super) struct State {
    pub(super) orders: Orders,
    /// The epoch that must not be left by this process's own choice.
    pub(super) last_epoch: u64,
    /// By the epoch that ends with it. Numbers ascend as epochs do.
    pub(super) triggers: BTreeMap<u64, Trigger>,
    /// What sources said of checkpoints in flight.
    pub(super) positions: BTreeMap<CheckpointId, Vec<SourcePosition>>,
    /// What of it is still to be sent, by a control that sends it.
    #[cfg(feature = "job")]
    pub(super) unsent: BTreeMap<CheckpointId, Vec<SourcePosition>>,
    sources: BTreeMap<String, Drained>,
    failure: Option<Arc<Error>>,
    wakers: Vec<SyncActivator>,
    pub(super) newest_complete: Option<CheckpointId>,
    pub(super) notifications: VecDeque<Notification>,
    /// How many are not remembered any more.
    forgotten: u64,
}

/// On which workers a source has no more records.
#[derive(Default)]
struct Drained {
    done: BTreeSet<usize>,
    workers: usize,
}

impl Board {
    /// `last_epoch`: the epoch that must not be left without a word from elsewhere.
    pub(super) fn new(last_epoch: u64) -> Self {
        Self { state: Mutex::new(State::new(last_epoch)), changes: watch::Sender::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Changes the state and wakes everybody who may wait for that.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let changed = change(&mut state);
        // One that cannot be woken belongs to a worker that has ended.
        state.wakers.retain(|waker| waker.activate().is_ok());
        drop(state);
        self.changes.send_modify(|count| *count += 1);
        changed
    }

    /// Counts the changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Ends an epoch, if it is the current one and may be left. Returns the epoch that begins by that.
    pub(super) fn end_epoch(&self, epoch: u64) -> Option<u64> {
        let may_leave = |state: &State| state.orders.epoch == epoch && epoch < state.last_epoch;
        if !may_leave(&self.lock()) {
            return None;
        }
        self.change(|state| {
            let leaves = may_leave(state);
            state.orders.epoch += u64::from(leaves);
            leaves.then_some(state.orders.epoch)
        })
    }

    pub(super) fn next_trigger(&self, epochs: Range<u64>) -> Option<(u64, Trigger)> {
        self.lock().triggers.range(epochs).next().map(|(epoch, trigger)| (*epoch, trigger.clone()))
    }

    pub(super) fn add_source(&self, source: &str, workers: usize) {
        self.lock().sources.entry(source.to_owned()).or_default().workers = workers;
    }

    /// Whether no source has more records, by this one.
    pub(super) fn note_drained(&self, source: &str, worker: usize) -> bool {
        self.change(|state| {
            state.sources.entry(source.to_owned()).or_default().done.insert(worker);
            state.is_drained()
        })
    }

    pub(super) fn complete(&self, checkpoint: CheckpointId) {
        self.change(|state| {
            // Older ones are over: a newer one is complete. Savepoints are not.
            let is_over =
                |trigger: &Trigger| trigger.checkpoint <= checkpoint && trigger.kind != CheckpointKind::Savepoint;
            state.triggers.retain(|_, trigger| !is_over(trigger));
            state.forget_positions();
            state.newest_complete = state.newest_complete.max(Some(checkpoint));
            state.note(Notification::Complete(checkpoint));
        });
    }

    pub(super) fn savepoint_complete(&self, savepoint: CheckpointId) {
        self.change(|state| state.forget(savepoint));
    }

    pub(super) fn aborted(&self, checkpoint: CheckpointId, reason: &str) {
        self.change(|state| {
            state.forget(checkpoint);
            state.note(Notification::Aborted { checkpoint, reason: reason.into() });
        });
    }

    pub(super) fn fail(&self, error: Error) {
        tracing::error!(%error, "a dataflow failed");
        self.change(|state| {
            state.failure.get_or_insert(Arc::new(error));
            state.orders.has_failed = true;
        });
    }

    pub(super) fn check(&self) -> Result<()> {
        self.lock().failure.as_ref().map_or(Ok(()), |failure| Err(copy(failure)))
    }

    pub(super) fn watch(&self, waker: SyncActivator) -> u64 {
        let mut state = self.lock();
        state.wakers.push(waker);
        state.forgotten + state.notifications.len() as u64
    }

    pub(super) fn notifications(&self, seen: &mut u64) -> Vec<Notification> {
        let state = self.lock();
        let known = usize::try_from(seen.saturating_sub(state.forgotten)).unwrap_or(usize::MAX);
        *seen = state.forgotten + state.notifications.len() as u64;
        state.notifications.iter().skip(known).cloned().collect()
    }
}

impl State {
    fn new(last_epoch: u64) -> Self {
        Self {
            orders: Orders::default(),
            last_epoch,
            triggers: BTreeMap::new(),
            positions: BTreeMap::new(),
            #[cfg(feature = "job")]
            unsent: BTreeMap::new(),
            sources: BTreeMap::new(),
            failure: None,
            wakers: Vec::new(),
            newest_complete: None,
            notifications: VecDeque::new(),
            forgotten: 0,
        }
    }

    /// Forgets a run of the dataflow, but not what became of checkpoints.
    pub(super) fn restart(&mut self) {
        let new = Self::new(self.last_epoch);
        let old = std::mem::replace(self, new);
        self.newest_complete = old.newest_complete;
        self.notifications = old.notifications;
        self.forgotten = old.forgotten;
    }

    /// Ends `epoch` with a checkpoint.
    pub(super) fn hand_out(&mut self, epoch: u64, trigger: Trigger) {
        self.triggers.insert(epoch, trigger);
        while self.triggers.len() > MAX_TRIGGERS {
            self.triggers.pop_first();
        }
        self.orders.epoch = self.orders.epoch.max(epoch.saturating_add(1));
    }

    pub(super) fn is_drained(&self) -> bool {
        !self.sources.is_empty() && self.sources.values().all(|source| source.done.len() >= source.workers)
    }

    fn forget(&mut self, checkpoint: CheckpointId) {
        self.triggers.retain(|_, trigger| trigger.checkpoint != checkpoint);
        self.forget_positions();
    }

    /// Those of checkpoints that are not in flight any more.
    fn forget_positions(&mut self) {
        let in_flight: BTreeSet<CheckpointId> = self.triggers.values().map(|trigger| trigger.checkpoint).collect();
        self.positions.retain(|checkpoint, _| in_flight.contains(checkpoint));
        #[cfg(feature = "job")]
        self.unsent.retain(|checkpoint, _| in_flight.contains(checkpoint));
    }

    fn note(&mut self, notification: Notification) {
        self.notifications.push_back(notification);
        while self.notifications.len() > MAX_REMEMBERED_NOTIFICATIONS {
            self.notifications.pop_front();
            self.forgotten += 1;
        }
    }

    /// Adds what a source says of the checkpoints that end `epochs`. Returns those.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if another source has said where one of the splits stands.
    pub(super) fn add_positions(
        &mut self,
        epochs: Range<u64>,
        positions: &[SourcePosition],
    ) -> (Vec<CheckpointId>, Result<()>) {
        let checkpoints: Vec<CheckpointId> =
            self.triggers.range(epochs).map(|(_, trigger)| trigger.checkpoint).collect();
        let mut outcome = Ok(());
        for checkpoint in &checkpoints {
            let all = self.positions.entry(*checkpoint).or_default();
            let added = splits::check_new(all.iter(), positions, |_| checkpoint.to_string());
            outcome = added.and(outcome);
            all.extend_from_slice(positions);
        }
        (checkpoints, outcome)
    }
}

/// An error of its own that says the same.
fn copy(error: &Arc<Error>) -> Error {
    let mut copy = Error::new(error.kind(), error.operation(), error.message());
    if let Some(object) = error.object() {
        copy = copy.with_object(object);
    }
    if let Some(advice) = error.advice() {
        copy = copy.with_advice(advice);
    }
    copy.with_source(error.clone())
}
