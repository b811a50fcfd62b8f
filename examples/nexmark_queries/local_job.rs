//! A job whose workers are threads of this process, over all its lives: each begins at the newest complete checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use icecore::coordinator::{CheckpointListener, Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::job::dataflow::{Checkpoints, LocalControl, run_worker};
use icecore::keygroup::MaxParallelism;
use icecore::layout::{CheckpointId, JobId, OperatorId, SubtaskName};
use icecore::metadata::{CheckpointKind, SourcePosition};
use icecore::restore::{Checkpoint, FetchOptions, RestorePlan};
use icecore::snapshot::{Snapshotter, SnapshotterOptions};
#[cfg(feature = "rocksdb")]
use icecore::state::rocksdb::RocksDbOptions;
use icecore::store::{LocalStore, StoreRef};
#[cfg(feature = "rocksdb")]
use icecore::task::RocksDbTask;
use icecore::task::{CheckpointedTask, HeapTask};
use icecore::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use timely::communication::WorkerGuards;
use timely::dataflow::Scope;

const KEY_GROUPS: u32 = 32;
/// Failed checkpoints in a row that are no reason to stop: here checkpoints fail on purpose.
const TOLERABLE_FAILURES: u32 = 100;

/// A task of either backend.
pub type AnyTask = Box<dyn CheckpointedTask>;

/// Where operators keep their state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Heap,
    #[cfg(feature = "rocksdb")]
    RocksDb,
}

/// What the workers of a job run.
pub trait Dataflow: Send + Sync + 'static {
    /// The ids of its stateful operators.
    fn operators(&self) -> Vec<&'static str>;

    /// Builds it on one worker.
    fn build(&self, scope: Scope<'_, u64>, start: Start, checkpoints: &Checkpoints) -> Result<()>;
}

/// What a worker begins with.
pub struct Start {
    pub worker: u32,
    pub workers: u32,
    /// By operator.
    pub tasks: BTreeMap<&'static str, AnyTask>,
    /// Where all splits stand; none: at their beginning.
    pub positions: Vec<SourcePosition>,
    /// The checkpoint that the tasks and positions are of.
    pub restored: Option<CheckpointId>,
}

/// A job, over all its lives.
pub struct LocalJob<D> {
    folder: PathBuf,
    backend: Backend,
    dataflow: Arc<D>,
    /// How many databases there were.
    databases: AtomicU32,
}

/// One life of a job, from its start to its end or crash.
pub struct Life {
    pub control: Arc<LocalControl>,
    /// The control does not keep it alive.
    _coordinator: Arc<Coordinator>,
    workers: Mutex<Option<WorkerGuards<()>>>,
}

impl Life {
    /// Takes a checkpoint and waits for it.
    pub async fn checkpoint(&self) -> Result<CheckpointId> {
        self.control.checkpoint(CheckpointKind::Incremental).await
    }

    /// To the end of all splits. Returns the last checkpoint.
    pub async fn finish(&self) -> Result<CheckpointId> {
        let last = self.control.finish().await?;
        self.join()?;
        self.control.outcome()?;
        Ok(last)
    }

    fn join(&self) -> Result<()> {
        let ended = self.workers.lock().take().map(WorkerGuards::join).unwrap_or_default();
        let panicked = |message| Error::new(ErrorKind::Internal, "run a worker", message);
        ended.into_iter().try_for_each(|worker| worker.map_err(panicked))
    }
}

/// Ends all workers where they stand, a script that panics, too: they would be waited for, and never end.
impl Drop for Life {
    fn drop(&mut self) {
        self.control.cancel("this is the crash");
        self.join().ok();
    }
}

impl<D: Dataflow> LocalJob<D> {
    /// A job that keeps all it has in `folder`.
    pub fn new(folder: &Path, backend: Backend, dataflow: D) -> Self {
        let (folder, dataflow) = (folder.to_owned(), Arc::new(dataflow));
        Self { folder, backend, dataflow, databases: AtomicU32::new(0) }
    }

    pub fn dataflow(&self) -> &D {
        &self.dataflow
    }

    /// Starts the job on so many workers and plays `script`. What still runs of it then is left to itself, as by a crash.
    pub fn live<R>(&self, workers: u32, script: impl AsyncFnOnce(&Life) -> Result<R>) -> Result<R> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(|error| Error::io("start a life", "threads", error))?;
        let result = runtime.block_on(async {
            let life = self.start(workers).await?;
            script(&life).await
        });
        runtime.shutdown_background();
        result
    }

    async fn start(&self, workers: u32) -> Result<Life> {
        let env = Env::system()?;
        let store: StoreRef = Arc::new(LocalStore::open(&self.folder.join("checkpoints"), env.clone())?);
        let control = LocalControl::new(env.clone());
        let options = CoordinatorOptions { tolerable_failures: TOLERABLE_FAILURES, ..CoordinatorOptions::default() };
        let described = |operator: &&'static str| {
            let operator = OperatorId::new(operator)?;
            Ok(OperatorDescription { operator, parallelism: workers, max_parallelism: KEY_GROUPS })
        };
        let operators = self.dataflow.operators();
        let described = operators.iter().map(described).collect::<Result<Vec<_>>>()?;
        let listeners: Vec<Arc<dyn CheckpointListener>> = vec![control.clone()];
        let job = JobId::new("local")?;
        let coordinator = Coordinator::start(store, job, described, env.clone(), options, listeners).await?;
        let coordinator = Arc::new(coordinator);
        control.serve(&coordinator);

        let restored = coordinator.latest().await?;
        let mut starts = Vec::new();
        for worker in 0..workers {
            let mut tasks = BTreeMap::new();
            for operator in &operators {
                let task = self.task(operator, worker, workers, restored.as_ref(), &coordinator, &env).await?;
                tasks.insert(*operator, task);
            }
            let metadata = restored.as_ref().map(|checkpoint| &checkpoint.metadata);
            let positions = metadata.map(|metadata| metadata.sources.clone()).unwrap_or_default();
            let checkpoint = metadata.map(|metadata| metadata.checkpoint);
            starts.push(Some(Start { worker, workers, tasks, positions, restored: checkpoint }));
        }
        let workers = Mutex::new(Some(self.run(starts, &control)?));
        Ok(Life { control, _coordinator: coordinator, workers })
    }

    fn run(&self, starts: Vec<Option<Start>>, control: &Arc<LocalControl>) -> Result<WorkerGuards<()>> {
        let (config, starts) = (timely::Config::process(starts.len()), Mutex::new(starts));
        let (control, dataflow) = (control.clone(), self.dataflow.clone());
        let guards = timely::execute(config, move |worker| {
            let start = starts.lock().get_mut(worker.index()).and_then(Option::take);
            run_worker(worker, control.clone(), |scope, checkpoints| {
                let start = start.ok_or_else(|| Error::invalid("start a worker", "it has no tasks"))?;
                dataflow.build(scope, start, checkpoints)
            });
        });
        guards.map_err(|message| Error::new(ErrorKind::Internal, "start the workers", message))
    }

    /// The task of one worker for one operator: empty, or what the checkpoint says.
    async fn task(
        &self,
        operator: &str,
        worker: u32,
        workers: u32,
        restored: Option<&Checkpoint>,
        coordinator: &Coordinator,
        env: &Env,
    ) -> Result<AnyTask> {
        let (operator, groups, env) = (OperatorId::new(operator)?, MaxParallelism::new(KEY_GROUPS)?, env.clone());
        let subtask = SubtaskName { operator: operator.clone(), index: worker };
        let (store, broker) = (coordinator.store().clone(), coordinator.broker());
        let snapshotter = Snapshotter::new(subtask, store, env.clone(), broker, SnapshotterOptions::default());
        let (snapshotter, range) = (Arc::new(snapshotter), groups.range_of_subtask(worker, workers)?);
        let plan = restored.map(|from| RestorePlan::new(&from.metadata, &operator, worker, workers)).transpose()?;
        let fetch = FetchOptions::default();
        Ok(match (self.backend, plan.zip(restored)) {
            (Backend::Heap, None) => Box::new(HeapTask::new(groups, range, snapshotter, env)?),
            (Backend::Heap, Some((plan, from))) => {
                Box::new(HeapTask::restore(&plan, from, snapshotter, env, &fetch).await?)
            }
            #[cfg(feature = "rocksdb")]
            (Backend::RocksDb, None) => {
                let options = RocksDbOptions::default();
                Box::new(RocksDbTask::new(&self.database()?, groups, range, options, snapshotter, env)?)
            }
            #[cfg(feature = "rocksdb")]
            (Backend::RocksDb, Some((plan, from))) => {
                let (folder, options) = (self.database()?, RocksDbOptions::default());
                Box::new(RocksDbTask::restore(&plan, from, &folder, options, snapshotter, env, &fetch).await?)
            }
        })
    }

    /// A folder of its own for each database, as a machine that takes over has.
    #[cfg_attr(not(feature = "rocksdb"), expect(dead_code, reason = "state is on the heap"))]
    fn database(&self) -> Result<PathBuf> {
        let folder = self.folder.join("databases");
        std::fs::create_dir_all(&folder).map_err(|error| Error::io("make a folder", folder.display(), error))?;
        Ok(folder.join(self.databases.fetch_add(1, Ordering::Relaxed).to_string()))
    }
}
