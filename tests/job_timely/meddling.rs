//! A control that meddles with what passes between a worker's operators and the real one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use icecore::job::dataflow::{CheckpointControl, LocalControl, Notification, Orders};
use icecore::layout::{CheckpointId, SubtaskName};
use icecore::metadata::SourcePosition;
use icecore::snapshot::{LocalSnapshot, Snapshotter, Trigger};
use icecore::{Error, ErrorKind};
use parking_lot::Mutex;
use timely::scheduling::SyncActivator;

/// What it does. By default nothing.
#[derive(Debug)]
pub struct Meddling {
    /// Sources hear of no later epoch.
    pub last_epoch: AtomicU64,
    /// The next part of a checkpoint cannot be taken.
    pub declines_once: AtomicBool,
    /// Nobody hears what became of checkpoints.
    pub is_silent: AtomicBool,
    /// What is to be frozen on other threads waits until it is let go.
    pub holds_freezes: AtomicBool,
    pub held: Held,
    /// The checkpoints that parts were uploaded of.
    pub uploaded: Mutex<Vec<CheckpointId>>,
}

impl Meddling {
    pub fn let_freezes_go(&self) {
        self.holds_freezes.store(false, Ordering::SeqCst);
        self.held.let_go();
    }
}

/// Freezes that wait.
#[derive(Default)]
pub struct Held(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

impl Held {
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    pub fn let_go(&self) {
        self.0.lock().drain(..).for_each(|freeze| freeze());
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({})", self.count())
    }
}

impl Default for Meddling {
    fn default() -> Self {
        Self {
            last_epoch: u64::MAX.into(),
            declines_once: false.into(),
            is_silent: false.into(),
            holds_freezes: false.into(),
            held: Held::default(),
            uploaded: Mutex::default(),
        }
    }
}

#[derive(Debug)]
pub struct MeddlingControl {
    pub inner: Arc<LocalControl>,
    pub with: Arc<Meddling>,
}

impl CheckpointControl for MeddlingControl {
    fn orders(&self) -> Orders {
        let orders = self.inner.orders();
        Orders { epoch: orders.epoch.min(self.with.last_epoch.load(Ordering::SeqCst)), ..orders }
    }

    fn add_source(&self, source: &str, workers: usize) {
        self.inner.add_source(source, workers);
    }

    fn end_epoch(&self, epoch: u64) {
        self.inner.end_epoch(epoch);
    }

    fn next_trigger(&self, epochs: Range<u64>) -> Option<(u64, Trigger)> {
        self.inner.next_trigger(epochs)
    }

    fn note_positions(&self, epochs: Range<u64>, positions: Vec<SourcePosition>) {
        self.inner.note_positions(epochs, positions);
    }

    fn note_drained(&self, source: &str, worker: usize) {
        self.inner.note_drained(source, worker);
    }

    fn upload(&self, snapshotter: Arc<Snapshotter>, trigger: Trigger, frozen: LocalSnapshot) {
        if self.with.declines_once.swap(false, Ordering::SeqCst) {
            let error = Error::new(ErrorKind::StorageFull, "freeze", "the disk is full");
            return self.inner.decline(trigger.checkpoint, snapshotter.subtask(), &error);
        }
        self.with.uploaded.lock().push(trigger.checkpoint);
        self.inner.upload(snapshotter, trigger, frozen);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        match self.with.holds_freezes.load(Ordering::SeqCst) {
            true => self.with.held.0.lock().push(work),
            false => self.inner.spawn_blocking(work),
        }
    }

    fn decline(&self, checkpoint: CheckpointId, subtask: &SubtaskName, error: &Error) {
        self.inner.decline(checkpoint, subtask, error);
    }

    fn fail(&self, error: Error) {
        self.inner.fail(error);
    }

    fn watch(&self, waker: SyncActivator) -> u64 {
        self.inner.watch(waker)
    }

    fn notifications(&self, seen: &mut u64) -> Vec<Notification> {
        if self.with.is_silent.load(Ordering::SeqCst) { Vec::new() } else { self.inner.notifications(seen) }
    }
}
