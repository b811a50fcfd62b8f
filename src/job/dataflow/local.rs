//! The control of a dataflow that runs in the coordinator's own process.

use std::fmt;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::select;
use parking_lot::Mutex;
use timely::scheduling::SyncActivator;

use super::board::Board;
use super::control::{CheckpointControl, Notification, Orders};
use crate::coordinator::{CheckpointListener, Coordinator, TickReport};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId, SubtaskName};
use crate::metadata::{CheckpointKind, SourcePosition};
use crate::snapshot::{LocalSnapshot, Snapshotter, Trigger};

const OPERATION: &str = "checkpoint a dataflow";
/// How often [`LocalControl::checkpoint`] and [`LocalControl::finish`] let time-outs come about.
const TICK_EVERY: Duration = Duration::from_millis(100);

/// The control of a dataflow that runs in the coordinator's own process. It is one of the coordinator's listeners, and
/// does not keep it alive:
///
/// ```text
/// let control = LocalControl::new(env.clone());
/// let coordinator = Coordinator::start(store, job, operators, env, options, vec![control.clone()]).await?;
/// let coordinator = Arc::new(coordinator);
/// control.serve(&coordinator);
/// ```
pub struct LocalControl {
    env: Env,
    /// Locked before the coordinator's own state, which calls listeners without a lock.
    board: Board,
    coordinator: Mutex<Weak<Coordinator>>,
}

impl LocalControl {
    /// One that has no coordinator yet.
    pub fn new(env: Env) -> Arc<Self> {
        Arc::new(Self { env, board: Board::new(u64::MAX), coordinator: Mutex::default() })
    }

    /// From now on checkpoints are `coordinator`'s, which has this control among its listeners. To be called again after
    /// a [`Supervisor`](crate::coordinator::Supervisor) has claimed the job again.
    pub fn serve(&self, coordinator: &Arc<Coordinator>) {
        *self.coordinator.lock() = Arc::downgrade(coordinator);
    }

    /// Forgets a run of the dataflow, for the next one. All its workers must have ended, and the coordinator must know of
    /// the next run ([`Coordinator::restart_tasks`]).
    pub fn restart(&self) {
        self.board.change(|state| state.restart());
    }

    /// Ends the current epoch with a checkpoint. See [`LocalControl::checkpoint`] for one that is waited for.
    ///
    /// # Errors
    /// As [`Coordinator::trigger`]; the epoch goes on then. What the dataflow failed with; [`ErrorKind::InvalidInput`]
    /// if it is ending, or the control has no coordinator.
    pub fn trigger_checkpoint(&self, kind: CheckpointKind) -> Result<CheckpointId> {
        self.check_open()?;
        let trigger = self.coordinator()?.trigger(kind)?;
        self.hand_out(trigger)
    }

    /// What the clock asks for, as [`Coordinator::tick`]; a periodic checkpoint that is due ends the current epoch.
    ///
    /// # Errors
    /// As [`Coordinator::tick`], and what the dataflow failed with.
    pub fn tick(&self) -> Result<TickReport> {
        self.board.check()?;
        let mut report = self.coordinator()?.tick()?;
        // One that cannot be handed out was aborted.
        report.triggered = report.triggered.filter(|trigger| self.hand_out(trigger.clone()).is_ok());
        Ok(report)
    }

    /// Ends the current epoch with a checkpoint and waits for its end.
    ///
    /// # Errors
    /// As [`LocalControl::trigger_checkpoint`]; [`ErrorKind::Cancelled`] with the reason if it was given up: the dataflow
    /// goes on, take another one; the tenure's end.
    pub async fn checkpoint(&self, kind: CheckpointKind) -> Result<CheckpointId> {
        let checkpoint = self.trigger_checkpoint(kind)?;
        self.until(|| self.end_of(checkpoint)).await
    }

    /// Waits until no source has more records, takes a last checkpoint, another one if it comes to nothing, and lets the
    /// dataflow end. Sources that never end: [`LocalControl::checkpoint`], then [`LocalControl::close`].
    ///
    /// # Errors
    /// What the dataflow failed with; as [`LocalControl::checkpoint`] when the coordinator takes no further checkpoint.
    pub async fn finish(&self) -> Result<CheckpointId> {
        self.until(|| Ok(self.is_drained().then_some(()))).await?;
        loop {
            match self.checkpoint(CheckpointKind::Incremental).await {
                Ok(checkpoint) => {
                    self.close();
                    return Ok(checkpoint);
                }
                // How often depends on how many failures the coordinator tolerates in a row.
                Err(error) if error.kind() == ErrorKind::Cancelled => self.board.check()?,
                // Another one is in flight.
                Err(error) if error.kind() == ErrorKind::LimitExceeded && self.is_in_flight() => {
                    self.until(|| Ok((!self.is_in_flight()).then_some(()))).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets the sources end, whatever they have left. What came after the last complete checkpoint is not in any: the next
    /// run does it again, and sinks commit nothing of it now.
    pub fn close(&self) {
        self.board.change(|state| state.orders.is_closing = true);
    }

    /// Ends the dataflow as a failure does, at once: [`LocalControl::outcome`] is [`ErrorKind::Cancelled`] then.
    pub fn cancel(&self, reason: &str) {
        self.fail(Error::new(ErrorKind::Cancelled, "run a dataflow", reason));
    }

    /// Whether no source has more records, on any worker.
    pub fn is_drained(&self) -> bool {
        self.board.lock().is_drained()
    }

    /// The newest checkpoint that was completed since this control was made, savepoints aside. All operators can know of it.
    pub fn newest_complete(&self) -> Option<CheckpointId> {
        self.board.lock().newest_complete
    }

    /// How the dataflow goes: fails with the first error of any operator. To be asked after the workers have ended.
    ///
    /// # Errors
    /// That one, each time.
    pub fn outcome(&self) -> Result<()> {
        self.board.check()
    }

    fn coordinator(&self) -> Result<Arc<Coordinator>> {
        self.coordinator.lock().upgrade().ok_or_else(|| {
            Error::invalid(OPERATION, "the control has no coordinator")
                .with_advice("call `serve`, and keep the coordinator for as long as the dataflow runs")
        })
    }

    fn check_open(&self) -> Result<()> {
        self.board.check()?;
        if self.board.lock().orders.is_closing {
            return Err(Error::invalid(OPERATION, "the dataflow is ending"));
        }
        Ok(())
    }

    fn is_in_flight(&self) -> bool {
        !self.board.lock().triggers.is_empty()
    }

    /// Ends the current epoch with the checkpoint.
    fn hand_out(&self, trigger: Trigger) -> Result<CheckpointId> {
        let checkpoint = trigger.checkpoint;
        let refused = self.board.change(|state| {
            if state.orders.is_closing {
                return Some("the dataflow is ending");
            }
            // Two threads may trigger at once. Were the order of numbers not that of epochs, a recovery from the newest
            // complete checkpoint would go back behind what sinks have committed.
            if state.triggers.last_key_value().is_some_and(|(_, newest)| newest.checkpoint > checkpoint)
                || state.newest_complete.is_some_and(|newest| newest > checkpoint)
            {
                return Some("a newer one was handed out first");
            }
            state.hand_out(state.orders.epoch, trigger);
            None
        });
        let Some(why) = refused else { return Ok(checkpoint) };
        self.coordinator()?.withdraw(checkpoint, why);
        Err(Error::new(ErrorKind::Cancelled, OPERATION, why).with_object(checkpoint))
    }

    /// What became of a checkpoint, if that is known.
    fn end_of(&self, checkpoint: CheckpointId) -> Result<Option<CheckpointId>> {
        let state = self.board.lock();
        for notification in state.notifications.iter().rev() {
            match notification {
                Notification::Complete(done) if *done == checkpoint => return Ok(Some(checkpoint)),
                Notification::Aborted { checkpoint: aborted, reason } if *aborted == checkpoint => {
                    let error = Error::new(ErrorKind::Cancelled, OPERATION, reason.to_string());
                    return Err(error.with_object(checkpoint));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Looks at every change, and every [`TICK_EVERY`], until there is something.
    async fn until<T>(&self, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
        let mut changes = self.board.changes();
        loop {
            changes.borrow_and_update();
            if let Some(found) = look()? {
                return Ok(found);
            }
            self.tick()?;
            select(pin!(changes.changed()), self.env.runtime.sleep(TICK_EVERY)).await;
        }
    }
}

impl CheckpointListener for LocalControl {
    fn complete(&self, checkpoint: CheckpointFolder) {
        self.board.complete(checkpoint.checkpoint);
    }

    fn savepoint_complete(&self, savepoint: CheckpointFolder) {
        self.board.savepoint_complete(savepoint.checkpoint);
    }

    fn aborted(&self, checkpoint: CheckpointId, reason: &str) {
        self.board.aborted(checkpoint, reason);
    }
}

impl CheckpointControl for LocalControl {
    fn orders(&self) -> Orders {
        self.board.lock().orders
    }

    fn add_source(&self, source: &str, workers: usize) {
        self.board.add_source(source, workers);
    }

    fn end_epoch(&self, epoch: u64) {
        self.board.end_epoch(epoch);
    }

    fn next_trigger(&self, epochs: Range<u64>) -> Option<(u64, Trigger)> {
        self.board.next_trigger(epochs)
    }

    fn note_positions(&self, epochs: Range<u64>, positions: Vec<SourcePosition>) {
        let Ok(coordinator) = self.coordinator() else { return };
        let mut state = self.board.lock();
        let (checkpoints, outcome) = state.add_positions(epochs, &positions);
        for checkpoint in checkpoints {
            let all = state.positions.get(&checkpoint).cloned().unwrap_or_default();
            // Under the lock: another source's call would set what it knew before.
            coordinator.set_source_positions(checkpoint, all);
        }
        drop(state);
        if let Err(error) = outcome {
            self.fail(error);
        }
    }

    fn note_drained(&self, source: &str, worker: usize) {
        self.board.note_drained(source, worker);
    }

    fn upload(&self, snapshotter: Arc<Snapshotter>, trigger: Trigger, frozen: LocalSnapshot) {
        let Ok(coordinator) = self.coordinator() else { return };
        self.env.runtime.spawn(Box::pin(async move {
            let outcome = match snapshotter.upload(&trigger, frozen).await {
                Ok(handle) => coordinator.acknowledge(handle).await.map(drop),
                Err(error) => {
                    coordinator.decline(trigger.checkpoint, snapshotter.subtask(), error.message());
                    Err(error)
                }
            };
            // Whoever waits for the checkpoint hears of it by the listener, or finds the tenure over.
            if let Err(error) = outcome {
                tracing::warn!(checkpoint = %trigger.checkpoint, %error, "a part of a checkpoint came to nothing");
            }
        }));
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.env.runtime.spawn_blocking(work);
    }

    fn decline(&self, checkpoint: CheckpointId, subtask: &SubtaskName, error: &Error) {
        if let Ok(coordinator) = self.coordinator() {
            coordinator.decline(checkpoint, subtask, error.message());
        }
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

impl fmt::Debug for LocalControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalControl").field("orders", &self.orders()).finish_non_exhaustive()
    }
}
