//! A worker: what an engine's dataflow runs in, under a job manager.
//!
//! [`run`] reports to the manager, waits for its deployment, reads the checkpoint that is to be restored and runs the engine's
//! [`Workload`]. The connection has a thread and a runtime of its own: a workload that burns its thread for minutes is
//! still heard, and the heartbeats carry its step counter, which tells whether it gets on.
//!
//! A worker leaves when it is told to, when the manager's connection breaks, and when the manager says nothing for the heartbeat's timeout. Then
//! [`run`] drops the workload; one that never awaits anything cannot be dropped, which is what [`Leaving::ExitProcess`] is for.

mod broker;
mod handle;
mod link;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot, watch};

use self::handle::Progress;
use self::link::{Link, Over};
use super::launch::LaunchOrder;
use super::wire::{Damage, Deployment, Say};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::JobLayout;
use crate::metadata::SourcePosition;
use crate::restore::{Checkpoint, read_checkpoint};
use crate::store::StoreRef;

pub use handle::{Order, Orders, WorkerHandle};

/// How many orders may wait for a workload: one that takes none has failed.
pub const MAX_WAITING_ORDERS: usize = 256;
/// Reports of a workload that may wait for the connection's thread.
const MAX_WAITING_REPORTS: usize = 4;
/// The exit code of a worker's process that had to leave, with [`Leaving::ExitProcess`].
pub const LEFT_EXIT_CODE: i32 = 75;

/// An engine's dataflow on one worker.
#[async_trait]
pub trait Workload: Send + 'static {
    /// Restores, says so ([`WorkerHandle::note_restored`]), runs, and takes part in checkpoints until its input is over. What it
    /// did since the last complete checkpoint is done again if any worker fails before all have returned; one that promises more
    /// waits for a last checkpoint before it returns: [`WorkerHandle::set_drained`].
    ///
    /// # Errors
    /// It cannot go on: all workers are ended, and started again if the restart strategy allows it. But until the workload has
    /// called [`WorkerHandle::note_verified`], [`ErrorKind::Corrupt`] and [`ErrorKind::NotFound`] say that what was to be restored is
    /// damaged; and until it has called [`WorkerHandle::note_resumed`], [`ErrorKind::InvalidInput`], [`ErrorKind::Unsupported`] and
    /// [`ErrorKind::SchemaMismatch`] are the end of the job, as the program or its options are wrong.
    async fn run(self: Box<Self>, assignment: Assignment, orders: Orders, handle: WorkerHandle) -> Result<()>;
}

/// What a worker begins with.
#[derive(Debug)]
pub struct Assignment {
    /// Which worker of how many it is, and its key groups.
    pub deployment: Deployment,
    /// What it restores; `None`: it begins with nothing.
    pub checkpoint: Option<Checkpoint>,
}

impl Assignment {
    /// Where the sources stood at the checkpoint; all sources of the job, whichever worker read them.
    pub fn sources(&self) -> &[SourcePosition] {
        self.checkpoint.as_ref().map_or(&[], |checkpoint| &checkpoint.metadata.sources)
    }
}

/// How a worker leaves that is not needed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// [`run`] returns, and the workload is dropped where it awaits something.
    Return,
    /// The process exits at once, whatever the workload does: with [`LEFT_EXIT_CODE`], or 0 if the job came to its end.
    ExitProcess,
}

/// How a worker works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerOptions {
    /// What it calls itself in the manager's logs.
    pub name: String,
    /// Where its peers reach it; empty, if they need not.
    pub data_address: String,
    /// How it leaves.
    pub leaving: Leaving,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        let name = format!("process {}", std::process::id());
        Self { name, data_address: String::new(), leaving: Leaving::Return }
    }
}

/// Runs one worker until the job is over, or until it must leave.
///
/// # Errors
/// [`ErrorKind::Fenced`] if the worker was told to leave, or belongs to no generation that runs; [`ErrorKind::Unreachable`] or
/// [`ErrorKind::Temporary`] if the manager is gone; what reading the checkpoint fails with; the workload's own error.
pub async fn run(
    order: LaunchOrder,
    options: WorkerOptions,
    store: StoreRef,
    env: Env,
    workload: Box<dyn Workload>,
) -> Result<()> {
    let (orders, orders_in) = mpsc::channel(MAX_WAITING_ORDERS);
    let (reports, reports_in) = mpsc::channel(MAX_WAITING_REPORTS);
    let (deploy, deployed) = oneshot::channel();
    let (over, mut over_in) = watch::channel(None);
    let progress = Arc::new(Progress::new());
    let link = Link {
        order,
        options,
        env: env.clone(),
        progress: progress.clone(),
        orders,
        deploy: Some(deploy),
        reports: reports_in,
        over,
    };
    env.runtime.spawn_blocking(Box::new(move || link.run()));

    let work = async {
        let Ok((deployment, client)) = deployed.await else {
            // The link is over: the other branch says why.
            return std::future::pending().await;
        };
        let layout = JobLayout::new(deployment.job.clone())?;
        let checkpoint = match &deployment.restore {
            Some(folder) => Some(read_checkpoint(store, Some(folder.clone())).await?),
            None => None,
        };
        let handle = WorkerHandle::new(layout, client.pass, client.client, env.clone(), progress.clone());
        workload.run(Assignment { deployment, checkpoint }, Orders::new(orders_in), handle).await
    };
    let done = tokio::select! {
        biased;
        over = wait(&mut over_in) => return over.into_result(),
        done = work => done,
    };
    let report = match &done {
        Ok(()) => Say::Finished,
        Err(error) => {
            let damage = damage_of(error).filter(|_| progress.is_restoring());
            let is_final = is_the_programs(error.kind()) && !progress.has_resumed();
            Say::Failed { why: error.to_string(), damage, is_final }
        }
    };
    // If the link is over already, it says so below.
    let _ = reports.send(report).await;
    let over = wait(&mut over_in).await;
    done.and_then(|()| over.into_result())
}

/// What the failure of a restore says of the checkpoint.
fn damage_of(error: &Error) -> Option<Damage> {
    let first = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Error>());
    match (error.kind(), first.map(Error::kind)) {
        (ErrorKind::NotFound, _) | (ErrorKind::Corrupt, Some(ErrorKind::NotFound)) => Some(Damage::Missing),
        (ErrorKind::Corrupt, _) => Some(Damage::Wrong),
        _ => None,
    }
}

/// Whether a failure lies in the program or its options: as long as it has processed nothing, each start will find the same.
fn is_the_programs(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::SchemaMismatch)
}

async fn wait(over: &mut watch::Receiver<Option<Over>>) -> Over {
    match over.wait_for(Option::is_some).await.map(|over| over.clone()) {
        Ok(Some(over)) => over,
        _ => Over::left(ErrorKind::Internal, "the connection's thread is gone"),
    }
}

impl fmt::Debug for dyn Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Workload")
    }
}

impl Over {
    fn into_result(self) -> Result<()> {
        match self.kind {
            None => Ok(()),
            Some(kind) => Err(Error::new(kind, "run a worker", self.why)),
        }
    }
}
