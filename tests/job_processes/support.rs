//! A job with its manager, and workers as tasks of this process or as processes.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use icecore::coordinator::{Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::job::manager::{ManagedOperator, Manager, ManagerOptions, OnDamage, StartFrom};
use icecore::job::worker::{self, Leaving, WorkerOptions, Workload};
use icecore::job::{
    Ended, HeartbeatOptions, LaunchOrder, Launcher, Phase, ProcessLauncher, RestartStrategy, RunOptions,
};
use icecore::keygroup::KeyGroup;
use icecore::layout::JobId;
use icecore::restore::Checkpoint;
use icecore::store::LocalStore;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::AbortHandle;

use crate::workload::{Counting, GROUPS, counts, expected, offsets, operator};

/// Far longer than anything here takes on a busy machine: what is noticed sooner was not noticed by it.
pub const NEVER: Duration = Duration::from_secs(300);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Heartbeats often, time-outs never; a checkpoint every 100 ms; restarts at once, many of them.
pub fn options(workers: u32) -> ManagerOptions {
    ManagerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        workers,
        operators: vec![ManagedOperator { operator: operator(), max_parallelism: crate::workload::groups() }],
        run: RunOptions {
            heartbeat: HeartbeatOptions { interval: ms(50), timeout: NEVER },
            restart: RestartStrategy::FixedDelay { attempts: 10, delay: ms(20) },
            startup_timeout: NEVER,
        },
        coordinator: CoordinatorOptions {
            interval: Some(ms(100)),
            tolerable_failures: 1_000,
            ..CoordinatorOptions::default()
        },
        start_from: StartFrom::Newest,
        on_damage: OnDamage::Fail,
        allow_non_restored_state: false,
    }
}

pub fn counting(root: &Path, total: u64) -> Counting {
    let env = Env::system().unwrap();
    let store = Arc::new(LocalStore::open(&root.join("store"), env.clone()).unwrap());
    Counting { store, env, total, batch: 20, pause: ms(5), returns: false }
}

pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < PATIENCE, "it never came: {what}");
        tokio::time::sleep(ms(20)).await;
    }
}

/// A job that counts.
pub struct Job {
    pub manager: Arc<Manager>,
    pub counting: Counting,
    _folder: TempDir,
}

impl Job {
    pub async fn start(
        folder: TempDir,
        counting: Counting,
        launcher: Arc<dyn Launcher>,
        options: ManagerOptions,
    ) -> Self {
        let (store, env) = (counting.store.clone(), counting.env.clone());
        let job = JobId::new("count").unwrap();
        let manager = Manager::start(store, job, launcher, env, options, Vec::new()).await.unwrap();
        Self { manager, counting, _folder: folder }
    }

    pub async fn runs(&self, generation: u64) {
        eventually(&format!("generation {generation} runs"), || async {
            let status = self.manager.status();
            assert!(!matches!(status.phase, Phase::Over(_)), "{status:?}");
            status.generation >= generation && status.phase == Phase::Running
        })
        .await;
        assert_eq!(self.manager.status().generation, generation, "{:?}", self.manager.status());
    }

    async fn latest(&self) -> Option<Checkpoint> {
        self.manager.coordinator().latest().await.unwrap()
    }

    /// The offset of every split at the newest checkpoint.
    pub async fn offsets(&self) -> BTreeMap<KeyGroup, u64> {
        self.latest().await.map(|checkpoint| offsets(&checkpoint.metadata.sources)).unwrap_or_default()
    }

    /// Waits until something, and not everything, is in a complete checkpoint.
    pub async fn is_half_way(&self) {
        eventually("a checkpoint on the way", || async {
            let offsets = self.offsets().await;
            assert!(offsets.values().any(|offset| *offset < self.counting.total) || offsets.is_empty(), "too fast");
            offsets.len() == GROUPS as usize && offsets.values().all(|offset| *offset > self.counting.total / 10)
        })
        .await;
    }

    /// Waits until everything is in a complete checkpoint of `parallelism` workers.
    pub async fn is_done(&self) {
        eventually("a checkpoint with everything", || async {
            let offsets = self.offsets().await;
            offsets.len() == GROUPS as usize && offsets.values().all(|offset| *offset == self.counting.total)
        })
        .await;
    }

    /// Every record is counted once in the newest checkpoint, and every key group had one owner.
    pub async fn is_exact(&self, parallelism: usize) {
        let checkpoint = self.latest().await.unwrap();
        let subtasks = &checkpoint.metadata.operators[0].subtasks;
        assert_eq!(subtasks.len(), parallelism);
        let owned: Vec<KeyGroup> = subtasks.iter().flat_map(|part| part.key_groups.unwrap().iter()).collect();
        assert_eq!(owned.len(), GROUPS as usize, "{owned:?}");
        assert_eq!(owned.iter().collect::<BTreeSet<_>>().len(), GROUPS as usize, "{owned:?}");

        let broker = self.manager.coordinator().broker();
        let mut keys = self.counting.restore(&checkpoint, 0, 1, broker).await.unwrap();
        let state = counts(&mut keys).unwrap();
        for (key, expected) in expected(self.counting.total) {
            keys.set_current_key(&key).unwrap();
            assert_eq!(state.get(&keys).unwrap(), Some(expected), "{key}");
        }
    }

    /// Waits for the first complete checkpoint.
    pub async fn has_begun(&self) {
        eventually("a checkpoint", || async { self.latest().await.is_some() }).await;
    }

    /// Claims the job as somebody else would.
    pub async fn another_coordinator(&self) -> Coordinator {
        let (store, env) = (self.counting.store.clone(), self.counting.env.clone());
        let description = OperatorDescription { operator: operator(), parallelism: 1, max_parallelism: GROUPS };
        let job = JobId::new("count").unwrap();
        Coordinator::start(store, job, vec![description], env, CoordinatorOptions::default(), Vec::new()).await.unwrap()
    }

    pub async fn end(self) {
        self.manager.cancel();
        self.manager.ended().await;
    }
}

type Make = dyn Fn(&LaunchOrder) -> Box<dyn Workload> + Send + Sync;

/// Of which generation, and how it ended.
pub type EndedWorker = (u64, icecore::Result<()>);

/// Workers as tasks of this process.
pub struct Tasks {
    counting: Counting,
    make: Box<Make>,
    pub orders: Mutex<Vec<LaunchOrder>>,
    running: Mutex<Vec<(u64, u32, AbortHandle)>>,
    /// How workers ended that ended by themselves.
    pub results: Arc<Mutex<Vec<EndedWorker>>>,
    /// Whether workers are ended by force, or only told to leave.
    pub is_forceful: bool,
}

impl Tasks {
    pub fn new(counting: &Counting, make: impl Fn(&LaunchOrder) -> Box<dyn Workload> + Send + Sync + 'static) -> Self {
        Self {
            counting: counting.clone(),
            make: Box::new(make),
            orders: Mutex::default(),
            running: Mutex::default(),
            results: Arc::default(),
            is_forceful: true,
        }
    }

    pub fn counting(counting: &Counting) -> Self {
        let own = counting.clone();
        Self::new(counting, move |_| Box::new(own.clone()))
    }

    pub fn kill(&self, generation: u64, worker: u32) {
        let running = self.running.lock();
        let (.., task) = running.iter().find(|task| (task.0, task.1) == (generation, worker)).unwrap();
        task.abort();
    }

    /// Runs a worker with this order.
    pub async fn worker(&self, order: LaunchOrder) -> icecore::Result<()> {
        let (store, env) = (self.counting.store.clone(), self.counting.env.clone());
        let workload = (self.make)(&order);
        worker::run(order, WorkerOptions::default(), store, env, workload).await
    }
}

impl std::fmt::Debug for Tasks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tasks")
    }
}

#[async_trait]
impl Launcher for Tasks {
    async fn start(&self, order: &LaunchOrder) -> icecore::Result<()> {
        self.orders.lock().push(order.clone());
        let (store, env) = (self.counting.store.clone(), self.counting.env.clone());
        let (workload, results, generation) = ((self.make)(order), self.results.clone(), order.pass.generation);
        let order_again = order.clone();
        let task = tokio::spawn(async move {
            let result = worker::run(order_again, WorkerOptions::default(), store, env, workload).await;
            results.lock().push((generation, result));
        });
        self.running.lock().push((order.pass.generation, order.pass.worker, task.abort_handle()));
        Ok(())
    }

    async fn end(&self, generation: u64) {
        if self.is_forceful {
            self.running.lock().iter().filter(|task| task.0 == generation).for_each(|task| task.2.abort());
        }
    }
}

/// How a worker's process knows what to count.
const CHILD_VARIABLE: &str = "ICECORE_TEST_JOB";

/// Workers as processes of this very program.
pub fn processes(root: &Path, counting: &Counting) -> ProcessLauncher {
    let Counting { total, batch, pause, .. } = counting;
    let settings = format!("{total} {batch} {} {}", pause.as_millis(), root.display());
    ProcessLauncher::new(move |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child_that_is_a_worker", "--ignored", "--nocapture"]);
        command.env(CHILD_VARIABLE, &settings).stdin(Stdio::null()).stdout(Stdio::null());
        command
    })
}

/// What a worker's process does.
pub fn be_a_worker() {
    let Ok(settings) = std::env::var(CHILD_VARIABLE) else { return };
    let Some(order) = LaunchOrder::of_this_process().unwrap() else { return };
    let parts: Vec<&str> = settings.splitn(4, ' ').collect();
    let number = |at: usize| parts[at].parse::<u64>().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut counting = counting(Path::new(parts[3]), number(0));
        (counting.batch, counting.pause) = (number(1), ms(number(2)));
        let (store, env) = (counting.store.clone(), counting.env.clone());
        let options = WorkerOptions { leaving: Leaving::ExitProcess, ..WorkerOptions::default() };
        worker::run(order, options, store, env, Box::new(counting)).await.unwrap();
    });
}

/// A worker whose manager cannot be reached, and that opens databases on threads of its own meanwhile.
#[cfg(feature = "rocksdb")]
pub fn leave_while_databases_open() {
    use icecore::state::rocksdb::{RocksDbBackend, RocksDbOptions};
    let Some(order) = LaunchOrder::of_this_process().unwrap() else { return };
    let folder = std::path::PathBuf::from(std::env::var_os(CHILD_VARIABLE).unwrap());
    for thread in 0..4 {
        let folder = folder.clone();
        std::thread::spawn(move || {
            for number in 0_u64.. {
                let path = folder.join(format!("{}-{thread}-{number}", std::process::id()));
                let groups = crate::workload::groups();
                drop(RocksDbBackend::create(&path, groups, groups.all_groups(), RocksDbOptions::default()));
                std::fs::remove_dir_all(&path).ok();
            }
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let counting = counting(&folder, 1);
        let (store, env) = (counting.store.clone(), counting.env.clone());
        let options = WorkerOptions { leaving: Leaving::ExitProcess, ..WorkerOptions::default() };
        worker::run(order, options, store, env, Box::new(counting)).await.unwrap();
    });
}

/// How such a worker's process ends.
#[cfg(feature = "rocksdb")]
pub fn end_of_one_that_leaves_while_databases_open(folder: &Path) -> std::process::ExitStatus {
    // Nothing listens there; it leaves after 500 ms.
    let order = "127.0.0.1:1 1 0 00112233445566778899aabbccddeeff 100 500";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_that_leaves_while_databases_open", "--ignored", "--nocapture"]);
    command.env(CHILD_VARIABLE, folder).env(icecore::job::ORDER_VARIABLE, order);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
}

pub fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap().success());
}

/// A launcher whose force does not reach the workers, as on another machine behind a broken network.
#[derive(Debug)]
pub struct Unreaching {
    pub processes: ProcessLauncher,
    pub ended: Mutex<Vec<Ended>>,
}

#[async_trait]
impl Launcher for Unreaching {
    async fn start(&self, order: &LaunchOrder) -> icecore::Result<()> {
        self.processes.start(order).await
    }

    async fn end(&self, _generation: u64) {}

    fn ended(&self) -> Vec<Ended> {
        let ended = self.processes.ended();
        self.ended.lock().extend(ended.clone());
        ended
    }
}
