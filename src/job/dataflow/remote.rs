//! The control of a dataflow whose checkpoints a job manager triggers, in another process.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use timely::scheduling::SyncActivator;

use super::board::Board;
use super::control::{CheckpointControl, Notification, Orders};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::job::run::RestoredFiles;
use crate::job::worker::{Order, Orders as Told, WorkerHandle};
use crate::layout::{CheckpointId, SubtaskName};
use crate::metadata::SourcePosition;
use crate::snapshot::{LocalSnapshot, Snapshotter, Trigger};

/// The control of one worker's dataflow under a job manager. The manager triggers checkpoints and keeps the epochs of all
/// workers together; positions of sources go with the acknowledgements of the operators behind them.
pub struct RemoteControl {
    env: Env,
    handle: WorkerHandle,
    board: Arc<Board>,
    /// What was brought here to restore the state.
    brought: OnceLock<RestoredFiles>,
    has_turned: AtomicBool,
}

impl RemoteControl {
    /// A control that hears nothing until [`RemoteControl::hear`] runs.
    pub fn new(handle: WorkerHandle, env: Env) -> Arc<Self> {
        // No epoch may be left before the manager has said which.
        let (brought, has_turned) = (OnceLock::new(), AtomicBool::new(false));
        Arc::new(Self { env, handle, board: Arc::new(Board::new(0)), brought, has_turned })
    }

    /// The tasks are there, from these files: the dataflow is built next.
    pub(super) fn will_turn(&self, brought: RestoredFiles) {
        // Once.
        let _ = self.brought.set(brought);
    }

    /// Sources are to give nothing.
    pub(super) fn pause(&self) {
        self.board.change(|state| state.orders.is_pausing = true);
    }

    /// Follows the manager's orders, until there are no more.
    pub async fn hear(&self, mut told: Told) {
        while let Some(order) = told.next().await {
            match order {
                Order::Trigger { trigger, ends_epoch } => {
                    self.board.change(|state| state.hand_out(ends_epoch, trigger));
                }
                Order::Epochs(epochs) => self.board.change(|state| {
                    state.orders.epoch = state.orders.epoch.max(epochs.current);
                    state.last_epoch = state.last_epoch.max(epochs.last);
                }),
                Order::Complete(folder) => self.board.complete(folder.checkpoint),
                Order::SavepointComplete(folder) => self.board.savepoint_complete(folder.checkpoint),
                Order::Aborted { checkpoint, reason } => self.board.aborted(checkpoint, &reason),
                Order::Pause => self.pause(),
                Order::Close => self.board.change(|state| state.orders.is_closing = true),
            }
        }
    }

    /// Waits for the first complete checkpoint of this run.
    ///
    /// # Errors
    /// What the dataflow failed with before that.
    pub(super) async fn first_complete(&self) -> Result<CheckpointId> {
        let mut changes = self.board.changes();
        loop {
            changes.borrow_and_update();
            self.board.check()?;
            if let Some(checkpoint) = self.board.lock().newest_complete {
                return Ok(checkpoint);
            }
            // The sender lives as long as this.
            let _ = changes.changed().await;
        }
    }

    /// How the dataflow goes: fails with the first error of any operator.
    ///
    /// # Errors
    /// That one, each time.
    pub fn outcome(&self) -> Result<()> {
        self.board.check()
    }

    /// What sources have said of a checkpoint since the last time: it goes with the next acknowledgement.
    fn take_positions(&self, checkpoint: CheckpointId) -> Vec<SourcePosition> {
        let mut state = self.board.lock();
        state.unsent.remove(&checkpoint).unwrap_or_default()
    }
}

/// Uploads a part and says so to the manager, or that it came to nothing.
async fn upload_part(
    handle: &WorkerHandle,
    snapshotter: &Snapshotter,
    trigger: &Trigger,
    frozen: LocalSnapshot,
    sources: Vec<SourcePosition>,
) -> Result<()> {
    let outcome = match snapshotter.upload(trigger, frozen).await {
        Ok(part) => handle.acknowledge(part, sources).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &outcome {
        let operator = snapshotter.subtask().operator.clone();
        if let Err(further) = handle.decline(trigger.checkpoint, operator, error.message()).await {
            tracing::debug!(checkpoint = %trigger.checkpoint, error = %further, "a checkpoint could not be declined");
        }
    }
    outcome
}

impl CheckpointControl for RemoteControl {
    fn orders(&self) -> Orders {
        self.board.lock().orders
    }

    fn add_source(&self, source: &str, _workers: usize) {
        self.board.add_source(source, 1);
    }

    fn end_epoch(&self, epoch: u64) {
        if let Some(begun) = self.board.end_epoch(epoch) {
            self.handle.note_epoch(begun);
        }
    }

    fn next_trigger(&self, epochs: Range<u64>) -> Option<(u64, Trigger)> {
        self.board.next_trigger(epochs)
    }

    fn note_positions(&self, epochs: Range<u64>, positions: Vec<SourcePosition>) {
        let outcome = {
            let mut state = self.board.lock();
            let (checkpoints, outcome) = state.add_positions(epochs, &positions);
            for checkpoint in checkpoints {
                state.unsent.entry(checkpoint).or_default().extend_from_slice(&positions);
            }
            outcome
        };
        if let Err(error) = outcome {
            self.fail(error);
        }
    }

    fn note_drained(&self, source: &str, worker: usize) {
        if self.board.note_drained(source, worker) {
            self.handle.set_drained();
        }
    }

    fn note_turn(&self) {
        // From the first turn on: building a dataflow may wait for systems outside.
        if !self.has_turned.swap(true, Ordering::Relaxed) {
            self.handle.note_restored(self.brought.get().copied().unwrap_or_default());
        }
        self.handle.set_has_input(true);
        self.handle.step();
    }

    fn note_resumed(&self) {
        self.handle.note_resumed();
    }

    fn upload(&self, snapshotter: Arc<Snapshotter>, trigger: Trigger, frozen: LocalSnapshot) {
        // Now: the operator has left the epoch, so the sources before it have said where they stood.
        let sources = self.take_positions(trigger.checkpoint);
        let (handle, board) = (self.handle.clone(), self.board.clone());
        self.env.runtime.spawn(Box::pin(async move {
            let outcome = upload_part(&handle, &snapshotter, &trigger, frozen, sources).await;
            let Err(error) = outcome else { return };
            tracing::warn!(checkpoint = %trigger.checkpoint, %error, "a part of a checkpoint came to nothing");
            if error.kind() == ErrorKind::InvalidInput {
                // It would be the same with the next one.
                board.fail(error);
            }
        }));
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.env.runtime.spawn_blocking(work);
    }

    fn decline(&self, checkpoint: CheckpointId, subtask: &SubtaskName, error: &Error) {
        let (operator, reason) = (subtask.operator.clone(), error.message().to_owned());
        let handle = self.handle.clone();
        self.env.runtime.spawn(Box::pin(async move {
            if let Err(error) = handle.decline(checkpoint, operator, &reason).await {
                tracing::warn!(%checkpoint, %error, "a checkpoint could not be declined");
            }
        }));
    }

    fn fail(&self, error: Error) {
        self.board.fail(error);
    }

    fn watch(&self, waker: SyncActivator) -> u64 {
        self.board.watch(waker)
    }

    fn notifications(&self, seen: &mut u64) -> Vec<Notification> {
        self.board.notifications(seen)
    }
}

impl fmt::Debug for RemoteControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteControl").field("orders", &self.orders()).finish_non_exhaustive()
    }
}
