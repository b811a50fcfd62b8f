//! A job whose workers are processes of this program, and its manager: in the test, or in a process of its own.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore::coordinator::{CoordinatorOptions, RetentionPolicy};
use icecore::env::Env;
use icecore::job::dataflow::{DataflowOptions, StateBackend, run_job_worker};
use icecore::job::manager::{ManagedOperator, Manager, ManagerOptions, OnDamage, StartFrom};
use icecore::job::{Ending, HeartbeatOptions, LaunchOrder, Phase, ProcessLauncher, RestartStrategy, RunOptions};
use icecore::keygroup::MaxParallelism;
use icecore::layout::{CheckpointFolder, JobId};
use icecore::store::LocalStore;
use icecore::store::testing::CountingStore;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::dataflow::{self, KEY_GROUPS, Rate};
use crate::job_process::{ManagerProcess, runtime, taken_wish};

/// Far longer than anything here takes on a busy machine.
pub const NEVER: Duration = Duration::from_secs(600);
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(300);
/// Each job is several processes, and a machine may have two cores.
static TURNS: Semaphore = Semaphore::const_new(2);
const CHILD_VARIABLE: &str = "ICECORE_TEST_DATAFLOW";

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A folder, when it is the test's turn.
pub struct Turn {
    folder: TempDir,
    _turn: SemaphorePermit<'static>,
}

impl Turn {
    pub async fn come() -> Self {
        Self { _turn: TURNS.acquire().await.unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// What a child process has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Where everything lies.
    pub root: PathBuf,
    /// Of each split.
    pub end: u64,
    /// Of each split, a second.
    pub per_second: u64,
    pub is_rocksdb: bool,
    /// Between two checkpoints; 0: 100 ms, or 300.
    pub interval_ms: u64,
    pub workers: u32,
    pub heartbeat_timeout_ms: u64,
    /// A folder of the store; empty: the newest checkpoint.
    pub start_from: String,
    pub falls_back: bool,
}

impl Settings {
    pub fn new(root: &Path, end: u64, per_second: u64) -> Self {
        std::fs::create_dir_all(root.join("outputs")).unwrap();
        Self {
            root: root.to_owned(),
            end,
            per_second,
            is_rocksdb: false,
            interval_ms: 0,
            workers: 2,
            heartbeat_timeout_ms: NEVER.as_millis() as u64,
            start_from: String::new(),
            falls_back: false,
        }
    }

    pub fn outputs(&self) -> PathBuf {
        self.root.join("outputs")
    }

    /// The objects that the newest worker of this number has read for its restore, one a line.
    pub fn fetched(&self, worker: u32) -> PathBuf {
        self.root.join(format!("fetched-{worker}"))
    }

    fn go(&self) -> PathBuf {
        self.root.join("go")
    }

    /// From now on the sources give all that they have.
    pub fn let_go(&self) {
        std::fs::write(self.go(), "").unwrap();
    }

    pub fn store(&self) -> Arc<LocalStore> {
        Arc::new(LocalStore::open(&self.root.join("store"), Env::system().unwrap()).unwrap())
    }

    /// Checkpoints every 100 ms, or 300; restarts at once, as often as it takes.
    pub fn options(&self) -> ManagerOptions {
        let operator =
            |operator| ManagedOperator { operator, max_parallelism: MaxParallelism::new(KEY_GROUPS).unwrap() };
        let (interval, timeout) = (ms(100), ms(self.heartbeat_timeout_ms));
        ManagerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            workers: self.workers,
            operators: dataflow::operators().into_iter().map(operator).collect(),
            run: RunOptions {
                heartbeat: HeartbeatOptions { interval, timeout },
                restart: RestartStrategy::FixedDelay { attempts: 1_000, delay: ms(20) },
                startup_timeout: NEVER,
            },
            coordinator: CoordinatorOptions {
                interval: Some(ms(match self.interval_ms {
                    0 if self.is_rocksdb => 300,
                    0 => 100,
                    interval_ms => interval_ms,
                })),
                tolerable_failures: 1_000,
                retention: RetentionPolicy { last: 10, ..RetentionPolicy::default() },
                ..CoordinatorOptions::default()
            },
            start_from: match self.start_from.is_empty() {
                true => StartFrom::Newest,
                false => StartFrom::Folder(icecore::store::StorePath::new(&self.start_from).unwrap()),
            },
            on_damage: if self.falls_back { OnDamage::FallBack } else { OnDamage::Fail },
            allow_non_restored_state: false,
        }
    }

    /// What a worker is started by.
    #[allow(dead_code, reason = "the tests of the command start workers by it")]
    pub fn worker(&self) -> Command {
        self.child("child_that_is_a_worker")
    }

    /// A process of this program that runs one of its ignored tests.
    fn child(&self, role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", role, "--ignored", "--nocapture"]);
        command.env(CHILD_VARIABLE, serde_json::to_string(self).unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        // What dying workers say of their connections is theirs; a test that fails says what it has seen.
        if std::env::var_os("ICECORE_TEST_SHOW_CHILDREN").is_none() {
            command.stderr(Stdio::null());
        }
        command
    }

    fn of_this_process() -> Option<Self> {
        std::env::var(CHILD_VARIABLE).ok().map(|text| serde_json::from_str(&text).unwrap())
    }
}

/// The job, with its manager in this process.
pub struct Job {
    pub manager: Arc<Manager>,
    pub launcher: Arc<ProcessLauncher>,
    settings: Settings,
}

impl Job {
    pub async fn start(settings: &Settings) -> Self {
        let of_worker = settings.clone();
        let launcher = Arc::new(ProcessLauncher::new(move |_| of_worker.child("child_that_is_a_worker")));
        let (job, env) = (JobId::new("count").unwrap(), Env::system().unwrap());
        let (store, options) = (settings.store(), settings.options());
        let manager = Manager::start(store, job, launcher.clone(), env, options, Vec::new()).await.unwrap();
        Self { manager, launcher, settings: settings.clone() }
    }

    pub fn generation(&self) -> u64 {
        self.manager.status().generation
    }

    pub fn newest(&self) -> Option<CheckpointFolder> {
        self.manager.coordinator().completed().last().map(|done| done.folder)
    }

    /// Waits until the generation that runs has completed a checkpoint.
    pub async fn moves_on(&self) {
        let before = self.newest();
        eventually("a checkpoint of all that run", || async {
            let status = self.manager.status();
            assert!(!matches!(status.phase, Phase::Over(_)), "{status:?}");
            status.phase == Phase::Running && self.newest() > before
        })
        .await;
    }

    /// Lets it come to its end, and waits for that.
    pub async fn ends(&self) -> Ending {
        self.settings.let_go();
        self.ended().await
    }

    /// Waits for its end, which is not far.
    pub async fn ended(&self) -> Ending {
        tokio::time::timeout(PATIENCE, self.manager.ended()).await.expect("the job does not end")
    }

    pub fn process(&self, worker: u32) -> u32 {
        let ids = self.launcher.process_ids(self.generation());
        ids.iter().find(|(number, _)| *number == worker).unwrap().1
    }
}

pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let begin = Instant::now();
    while !condition().await {
        assert!(begin.elapsed() < PATIENCE, "it never came: {what}");
        tokio::time::sleep(ms(20)).await;
    }
}

/// What a worker's process does.
pub fn be_a_worker() {
    let Some(settings) = Settings::of_this_process() else { return };
    let Some(order) = LaunchOrder::of_this_process().unwrap() else { return };
    runtime().block_on(async {
        let mut options = DataflowOptions::new(settings.root.join("local"));
        if settings.is_rocksdb {
            options.backend = StateBackend::RocksDb(Default::default());
        }
        let rate = Rate { end: settings.end, per_second: settings.per_second, go: settings.go() };
        let outputs = settings.outputs();
        let (store, env) = (CountingStore::new(settings.store()), Env::system().unwrap());
        let (asked, fetched) = (store.clone(), settings.fetched(order.pass.worker));
        let ran = run_job_worker(order, store, env, options, move |scope, start, checkpoints| {
            // All that it has read before its first record.
            let names: Vec<String> = asked.objects_read().iter().map(ToString::to_string).collect();
            std::fs::write(fetched, names.join("\n")).unwrap();
            dataflow::build(scope, start, rate, outputs, checkpoints)
        });
        ran.await.unwrap();
    });
}

/// What a manager's process does: it looks for a wish for another number of workers, too.
pub fn be_a_manager() {
    let Some(settings) = Settings::of_this_process() else { return };
    runtime().block_on(async {
        let job = Job::start(&settings).await;
        let manager = job.manager.clone();
        let rescaling = async {
            loop {
                tokio::time::sleep(ms(20)).await;
                if let Some(workers) = taken_wish(&settings.root, "workers") {
                    manager.rescale(workers.parse().unwrap()).unwrap();
                }
            }
        };
        let ending = tokio::select! {
            ending = job.manager.ended() => ending,
            () = rescaling => unreachable!(),
        };
        assert_eq!(ending, Ending::Finished);
    });
}

pub fn start_manager(settings: &Settings) -> ManagerProcess {
    ManagerProcess::start(settings.child("child_that_is_a_manager"))
}
