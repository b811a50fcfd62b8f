//! What a workload holds of its manager.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::broker::LinkBroker;
use crate::env::Env;
use crate::error::Result;
use crate::job::liveness::Heartbeat;
use crate::job::wire::Pass;
use crate::job::wire::answers::{Acknowledgement, Decline};
use crate::job::wire::rpc::{Client, calls};
use crate::layout::{CheckpointFolder, CheckpointId, JobLayout, OperatorId};
use crate::metadata::SourcePosition;
use crate::snapshot::{SubtaskHandle, Trigger, UploadBroker};

/// What a manager asks of a workload, and what it hears of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Freeze, upload, and answer with [`WorkerHandle::acknowledge`] or [`WorkerHandle::decline`].
    Trigger(Trigger),
    /// The checkpoint is complete: what waits for that may go ahead.
    Complete(CheckpointFolder),
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

/// How a workload gets on, as its heartbeats tell.
#[derive(Debug, Default)]
pub(super) struct Progress {
    steps: AtomicU64,
    has_input: AtomicBool,
}

impl Progress {
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

    /// The dataflow has made a step. Costs a nanosecond or two. A worker that has input and makes none for the heartbeat's
    /// timeout counts as failed.
    pub fn step(&self) {
        self.progress.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether input waits for the dataflow. At first it does not.
    pub fn set_has_input(&self, has_input: bool) {
        self.progress.has_input.store(has_input, Ordering::Relaxed);
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
        self.client.ask(calls::ACKNOWLEDGE, bytes).await.map(|_| ())
    }

    /// Says that this worker's subtask of `operator` cannot take part in a checkpoint, which is given up then.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Fenced`] if the worker is out.
    pub async fn decline(&self, checkpoint: CheckpointId, operator: OperatorId, reason: &str) -> Result<()> {
        let decline = Decline { pass: self.pass, checkpoint, operator, reason: reason.to_owned() };
        self.client.ask(calls::DECLINE, decline.encode()).await.map(|_| ())
    }
}
