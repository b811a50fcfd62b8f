//! What a workload holds of its manager.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{mpsc, watch};

use super::broker::LinkBroker;
use crate::env::Env;
use crate::error::Result;
use crate::job::liveness::Heartbeat;
use crate::job::run::RestoredFiles;
use crate::job::wire::answers::{Acknowledgement, Decline};
use crate::job::wire::rpc::{Client, calls};
use crate::job::wire::{DataflowEpochs, Pass};
use crate::layout::{CheckpointFolder, CheckpointId, JobLayout, OperatorId};
use crate::metadata::SourcePosition;
use crate::snapshot::{SubtaskHandle, Trigger, UploadBroker};

/// What a manager asks of a workload, and what it hears of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Freeze, upload, and answer with [`WorkerHandle::acknowledge`] or [`WorkerHandle::decline`].
    Trigger {
        /// The checkpoint.
        trigger: Trigger,
        /// For a dataflow that counts epochs: the one that ends with the checkpoint.
        ends_epoch: u64,
    },
    /// For a dataflow that counts epochs: how far it has come, on all workers.
    Epochs(DataflowEpochs),
    /// Read no more input: a last checkpoint will come, then [`Order::Close`].
    Pause,
    /// The last checkpoint is complete: come to an end in good order. What was done since that is in no checkpoint.
    Close,
    /// The checkpoint is complete: what waits for that may go ahead.
    Complete(CheckpointFolder),
    /// The savepoint is complete. Nothing may go ahead by that.
    SavepointComplete(CheckpointFolder),
    /// The checkpoint was given up.
    Aborted {
        /// Which.
        checkpoint: CheckpointId,
        /// Why, for a person.
        reason: String,
    },
}

/// The orders, in the order in which the manager gave them.
#[derive(Debug)]
pub struct Orders(mpsc::Receiver<Order>);

impl Orders {
    pub(super) fn new(orders: mpsc::Receiver<Order>) -> Self {
        Self(orders)
    }

    /// Waits for the next one; `None`: there will be none, and the worker is about to be dropped.
    pub async fn next(&mut self) -> Option<Order> {
        self.0.recv().await
    }

    /// The next one, if there is one: for a loop of its own that awaits nothing.
    pub fn try_next(&mut self) -> Option<Order> {
        self.0.try_recv().ok()
    }
}

/// What a workload has to say between heartbeats. Only the newest is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    pub(super) restored: Option<RestoredFiles>,
    pub(super) has_resumed: bool,
    pub(super) epoch: u64,
    pub(super) is_drained: bool,
}

/// How a workload gets on.
#[derive(Debug)]
pub(super) struct Progress {
    steps: AtomicU64,
    has_input: AtomicBool,
    is_verified: AtomicBool,
    news: watch::Sender<News>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let (has_input, is_verified) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { steps: AtomicU64::new(0), has_input, is_verified, news: watch::Sender::new(News::default()) }
    }

    pub(super) fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// Whether the workload has still to restore: what it fails with may be about that.
    pub(super) fn is_restoring(&self) -> bool {
        !self.is_verified.load(Ordering::Relaxed)
    }

    /// Whether the workload has processed a record.
    pub(super) fn has_resumed(&self) -> bool {
        self.news.borrow().has_resumed
    }

    /// Two numbers that need not be of one moment: a step between them is in the next heartbeat.
    pub(super) fn heartbeat(&self) -> Heartbeat {
        Heartbeat { steps: self.steps.load(Ordering::Relaxed), has_input: self.has_input.load(Ordering::Relaxed) }
    }
}

/// How a workload reaches its manager. Cheap to clone; usable from every thread.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    layout: JobLayout,
    pass: Pass,
    client: Client,
    env: Env,
    progress: Arc<Progress>,
}

impl WorkerHandle {
    pub(super) fn new(layout: JobLayout, pass: Pass, client: Client, env: Env, progress: Arc<Progress>) -> Self {
        Self { layout, pass, client, env, progress }
    }

    /// The state is here, and was verified: what fails from now on says nothing of the checkpoint. Nobody is told of this.
    pub fn note_verified(&self) {
        self.progress.is_verified.store(true, Ordering::Relaxed);
    }

    /// The state is restored and the workload runs. To be called once, with what was brought here for that; nothing, if there was
    /// nothing to restore. No checkpoint is triggered before all workers have.
    pub fn note_restored(&self, files: RestoredFiles) {
        self.note_verified();
        self.progress.news.send_if_modified(|news| news.restored.replace(files).is_none());
    }

    /// The dataflow has processed its first record.
    pub fn note_resumed(&self) {
        self.progress.news.send_if_modified(|news| !std::mem::replace(&mut news.has_resumed, true));
    }

    /// The dataflow has made a step. Costs a nanosecond or two. A worker that has input and makes none for the heartbeat's
    /// timeout counts as failed.
    pub fn step(&self) {
        self.progress.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether input waits for the dataflow. At first it does not.
    pub fn set_has_input(&self, has_input: bool) {
        self.progress.has_input.store(has_input, Ordering::Relaxed);
    }

    /// For a dataflow that counts epochs: it has gone on to this one by itself. Epochs that it does not get round to saying are
    /// left out.
    pub fn note_epoch(&self, epoch: u64) {
        self.progress.news.send_if_modified(|news| {
            let is_news = epoch > news.epoch;
            news.epoch = news.epoch.max(epoch);
            is_news
        });
    }

    /// This worker has no more input, for good. Once no worker has any, a last checkpoint is taken, and
    /// [`Order::Close`] comes when it is complete.
    pub fn set_drained(&self) {
        self.progress.news.send_if_modified(|news| !std::mem::replace(&mut news.is_drained, true));
    }

    /// The broker that the worker's [`crate::snapshot::Snapshotter`]s upload through: the manager's registry.
    pub fn broker(&self) -> Arc<dyn UploadBroker> {
        Arc::new(LinkBroker::new(self.layout.clone(), self.pass, self.client.clone(), self.env.clone()))
    }

    /// Hands in a subtask's part of a checkpoint, and where the sources stand that it reads. The last part of all commits the
    /// checkpoint; what becomes of it is an [`Order`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Fenced`] if the worker is out; as [`Acknowledgement::encode`], and as
    /// [`Coordinator::acknowledge`](crate::coordinator::Coordinator::acknowledge).
    pub async fn acknowledge(&self, handle: SubtaskHandle, sources: Vec<SourcePosition>) -> Result<()> {
        let (pass, job) = (self.pass, self.layout.job().clone());
        let encode = move || Acknowledgement { pass, handle, sources }.encode(&job);
        let bytes = self.env.blocking(encode).await??;
        self.client.ask(&self.pass, calls::ACKNOWLEDGE, bytes).await.map(|_| ())
    }

    /// Says that this worker's subtask of `operator` cannot take part in a checkpoint, which is given up then.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Fenced`] if the worker is out.
    pub async fn decline(&self, checkpoint: CheckpointId, operator: OperatorId, reason: &str) -> Result<()> {
        let decline = Decline { pass: self.pass, checkpoint, operator, reason: reason.to_owned() };
        self.client.ask(&self.pass, calls::DECLINE, decline.encode()).await.map(|_| ())
    }
}
