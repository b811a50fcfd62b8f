//! One worker's dataflow under a job manager, from its tasks to its end.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use parking_lot::Mutex;
use timely::WorkerConfig;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::{AllocatorBuilder, Config, Hooks};
use timely::dataflow::Scope;
use tokio::sync::oneshot;

use super::folders::RunFolder;
use super::remote::RemoteControl;
use super::worker::{Checkpoints, run_worker};
use super::{mesh, tasks};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::job::launch::LaunchOrder;
use crate::job::run::RestoredFiles;
use crate::job::wire::{Deployment, Pass};
use crate::job::worker::{self, Assignment, Leaving, Orders, WorkerHandle, WorkerOptions, Workload};
use crate::layout::{CheckpointId, OperatorId};
use crate::metadata::SourcePosition;
use crate::restore::Checkpoint;
use crate::snapshot::SnapshotterOptions;
#[cfg(feature = "rocksdb")]
use crate::state::rocksdb::RocksDbOptions;
use crate::store::StoreRef;
use crate::task::CheckpointedTask;
use crate::transfer::TransferLimits;

const OPERATION: &str = "run a dataflow";

/// Where the state of a worker's operators is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateBackend {
    /// In memory.
    Heap,
    /// In RocksDB, a database for each operator.
    #[cfg(feature = "rocksdb")]
    RocksDb(RocksDbOptions),
}

/// How a worker runs its dataflow.
#[derive(Clone, Debug)]
pub struct DataflowOptions {
    /// What the worker calls itself in the manager's logs.
    pub name: String,
    /// Where state is.
    pub backend: StateBackend,
    /// A folder on this machine for databases. Each run of the job has a folder of its own below it. What earlier runs left there is
    /// used again where it is the same, and removed after the first checkpoint of the new run.
    pub local_folder: PathBuf,
    /// How checkpoints are uploaded.
    pub snapshotter: SnapshotterOptions,
    /// How many files are restored at once, for each operator.
    pub restore_limits: TransferLimits,
    /// How long the workers of a generation may take to connect to each other.
    pub connect_timeout: Duration,
    /// How it leaves when it is not needed any more.
    pub leaving: Leaving,
}

impl DataflowOptions {
    /// State in memory; connections within 30 s; the process exits when the worker must leave, as one that is stuck in an operator
    /// could not leave in another way.
    pub fn new(local_folder: PathBuf) -> Self {
        Self {
            name: format!("process {}", std::process::id()),
            backend: StateBackend::Heap,
            local_folder,
            snapshotter: SnapshotterOptions::default(),
            restore_limits: TransferLimits::default(),
            connect_timeout: Duration::from_secs(30),
            leaving: Leaving::ExitProcess,
        }
    }
}

/// A task of either backend.
pub type AnyTask = Box<dyn CheckpointedTask>;

/// What a worker's dataflow begins with.
pub struct Start {
    deployment: Deployment,
    checkpoint: Option<Checkpoint>,
    tasks: BTreeMap<OperatorId, AnyTask>,
}

impl Start {
    /// Which worker this is, from 0.
    pub fn worker(&self) -> u32 {
        self.deployment.worker
    }

    /// How many there are.
    pub fn workers(&self) -> u32 {
        self.deployment.workers()
    }

    /// Takes the task of one of the job's operators, with the state that was restored: once.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an operator that the manager does not know, or whose task was taken.
    pub fn task(&mut self, operator: &str) -> Result<AnyTask> {
        let id = OperatorId::new(operator)?;
        self.tasks.remove(&id).ok_or_else(|| {
            Error::invalid(OPERATION, "the job has no such operator, or its task was taken before")
                .with_object(operator)
                .with_advice(
                    "name each stateful operator once to the manager (`ManagerOptions::operators`) and once here",
                )
        })
    }

    /// Where the splits of a source stood at the checkpoint, whichever worker had read them. `None`: the run begins with nothing.
    pub fn positions(&self, source: &str) -> Option<Vec<SourcePosition>> {
        let sources = &self.checkpoint.as_ref()?.metadata.sources;
        Some(sources.iter().filter(|position| position.source == source).cloned().collect())
    }

    /// The newest checkpoint that was complete before this run, whether or not it is the one that was restored: what
    /// [`sink`](super::sink) names its transactions after.
    pub fn newest(&self) -> Option<CheckpointId> {
        let restored = self.checkpoint.as_ref().map(|checkpoint| checkpoint.metadata.checkpoint);
        restored.max(Some(self.deployment.newest).filter(|newest| newest.0 > 0))
    }
}

/// Builds the dataflow of one worker.
type Build = Box<dyn FnOnce(Scope<'_, u64>, Start, &Checkpoints) -> Result<()> + Send>;

/// Runs a worker of a job whose workers run timely dataflows: reports to the manager, restores its tasks, connects to its peers, and
/// runs the dataflow that `build` builds, in one timely thread. To be called by the process of each worker:
///
/// ```text
/// if let Some(order) = LaunchOrder::of_this_process()? {
///     return run_job_worker(order, store, env, DataflowOptions::new(folder), |scope, mut start, checkpoints| {
///         let counts = KeyContext::new(start.task("count")?);
///         ...
///     }).await;
/// }
/// ```
///
/// # Errors
/// As [`worker::run`]; what the dataflow failed with.
pub async fn run_job_worker(
    order: LaunchOrder,
    store: StoreRef,
    env: Env,
    options: DataflowOptions,
    build: impl FnOnce(Scope<'_, u64>, Start, &Checkpoints) -> Result<()> + Send + 'static,
) -> Result<()> {
    let (listener, data_address) = mesh::listen(&order.manager)?;
    let (name, leaving) = (options.name.clone(), options.leaving);
    let workload = Dataflow {
        pass: order.pass,
        listener,
        store: store.clone(),
        env: env.clone(),
        options,
        build: Box::new(build),
    };
    worker::run(order, WorkerOptions { name, data_address, leaving }, store, env, Box::new(workload)).await
}

struct Dataflow {
    pass: Pass,
    listener: TcpListener,
    store: StoreRef,
    env: Env,
    options: DataflowOptions,
    build: Build,
}

#[async_trait]
impl Workload for Dataflow {
    async fn run(self: Box<Self>, assignment: Assignment, orders: Orders, handle: WorkerHandle) -> Result<()> {
        let Self { pass, listener, store, env, options, build } = *self;
        let control = RemoteControl::new(handle.clone(), env.clone());
        if assignment.deployment.is_pausing {
            control.pause();
        }
        let hearing = control.clone();
        env.runtime.spawn(Box::pin(async move { hearing.hear(orders).await }));
        let Assignment { deployment, checkpoint } = assignment;
        let folder = RunFolder::new(&options.local_folder, &deployment);
        let opened = {
            let opening = tasks::Opening {
                deployment: &deployment,
                checkpoint: checkpoint.as_ref(),
                store,
                broker: handle.broker(),
                env: env.clone(),
                options: &options,
                folder: &folder,
            };
            let opened = deployment.operators.iter().map(|operator| opening.task(operator));
            try_join_all(opened).await?
        };
        let (mut tasks, mut brought) = (BTreeMap::new(), RestoredFiles::default());
        for (operator, task, files) in opened {
            tasks.insert(operator, task);
            brought += files;
        }
        handle.note_verified();
        control.will_turn(brought);
        let (peers, timeout) = (deployment.peers.clone(), options.connect_timeout);
        let connected = env.blocking(move || mesh::connect(listener, &peers, pass, timeout)).await??;
        let start = Start { deployment, checkpoint, tasks };
        let removing = folder.remove_older(control.clone(), env.clone());
        let running = run_connected(connected, start, control, &env, build);
        tokio::pin!(running);
        tokio::select! {
            outcome = &mut running => outcome,
            () = removing => running.await,
        }
    }
}

/// Runs the dataflow in a thread of timely's.
async fn run_connected(
    connected: Vec<Option<TcpStream>>,
    start: Start,
    control: Arc<RemoteControl>,
    env: &Env,
    build: Build,
) -> Result<()> {
    let fail = |message: String| Error::new(ErrorKind::Io, OPERATION, message);
    let (own, hooks) = (start.worker() as usize, Hooks::default());
    let sockets: Vec<TcpStream> = connected.iter().flatten().filter_map(|socket| socket.try_clone().ok()).collect();
    let (builders, guards): (Vec<AllocatorBuilder>, Box<dyn std::any::Any + Send>) = if connected.len() == 1 {
        Config::Process(1).try_build().map_err(fail)?
    } else {
        let process = ProcessBuilder::new_typed_vector(1, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guards) = initialize_networking_from_sockets(process, connected, own, 1, hooks)
            .map_err(|error| Error::io(OPERATION, "the connections to its peers", error))?;
        (builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guards))
    };
    let (done, is_done) = oneshot::channel();
    let mine = Mutex::new(Some((build, start, done)));
    let operators = control.clone();
    let guards = timely::execute::execute_from(builders, guards, WorkerConfig::default(), move |worker| {
        // One thread, one call.
        let Some((build, start, done)) = mine.lock().take() else { return };
        run_worker(worker, operators.clone(), |scope, checkpoints| build(scope, start, checkpoints));
        // Nobody waits for a worker that was dropped.
        let _ = done.send(());
    })
    .map_err(fail)?;
    // An error: the thread panicked, which the control knows.
    let _ = is_done.await;
    match control.outcome() {
        Ok(()) => {
            // Peers may need until now what this one has still to send. If one of them dies first, the thread of its connection panics:
            // this worker's dataflow is over all the same.
            let _ = env.blocking(move || guards.join()).await;
            Ok(())
        }
        Err(error) => {
            // The threads of the connections would wait for peers that are stuck, and take the waiting one with them.
            sockets.iter().for_each(|socket| {
                let _ = socket.shutdown(Shutdown::Both);
            });
            std::mem::forget(guards);
            Err(error)
        }
    }
}
