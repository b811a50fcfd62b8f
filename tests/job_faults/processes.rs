//! The processes of a job: a manager, and its workers.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use icecore::coordinator::{CoordinatorOptions, RetentionPolicy};
use icecore::env::Env;
use icecore::job::dataflow::{DataflowOptions, StateBackend, run_job_worker};
use icecore::job::manager::{ManagedOperator, Manager, ManagerOptions, OnDamage, StartFrom};
use icecore::job::{Ending, HeartbeatOptions, LaunchOrder, ProcessLauncher, RestartStrategy, RunOptions};
use icecore::keygroup::MaxParallelism;
use icecore::layout::JobId;
use icecore::store::{StoreAddress, StoreOptions, StoreRef};
use serde::{Deserialize, Serialize};

use crate::job_process::{ManagerProcess, runtime, taken_wish};
use crate::pipeline::{Question, Topics};

const CHILD_VARIABLE: &str = "ICECORE_TEST_FAULTS";
const KEY_GROUPS: u32 = 12;
pub const JOB: &str = "nexmark";

/// What a child process has to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub root: PathBuf,
    pub store: String,
    pub store_options: Vec<(String, String)>,
    pub is_rocksdb: bool,
    pub question: String,
    pub bootstrap: String,
    pub events: String,
    pub results: String,
    pub workers: u32,
}

impl Settings {
    pub fn question(&self) -> Question {
        Question::named(&self.question).unwrap()
    }

    pub fn open_store(&self) -> StoreRef {
        let address = StoreAddress::parse(&self.store).unwrap();
        let options = self.store_options.iter();
        let options = options.fold(StoreOptions::new(), |options, (key, value)| options.with(key, value.clone()));
        icecore::store::open(&address, &options, Env::system().unwrap()).unwrap()
    }

    fn options(&self) -> ManagerOptions {
        let max_parallelism = MaxParallelism::new(KEY_GROUPS).unwrap();
        let operators = self.question().operators().into_iter();
        ManagerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            workers: self.workers,
            operators: operators.map(|operator| ManagedOperator { operator, max_parallelism }).collect(),
            run: RunOptions {
                heartbeat: HeartbeatOptions { interval: Duration::from_millis(200), timeout: Duration::from_secs(2) },
                restart: RestartStrategy::FixedDelay { attempts: 100_000, delay: Duration::from_millis(50) },
                startup_timeout: Duration::from_secs(60),
            },
            coordinator: CoordinatorOptions {
                interval: Some(Duration::from_millis(200)),
                tolerable_failures: 100_000,
                retention: RetentionPolicy { last: 3, ..RetentionPolicy::default() },
                ..CoordinatorOptions::default()
            },
            start_from: StartFrom::Newest,
            on_damage: OnDamage::Fail,
            allow_non_restored_state: false,
        }
    }

    /// A process of this program that runs one of its ignored tests.
    pub fn child(&self, role: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", role, "--ignored", "--nocapture"]);
        command.env(CHILD_VARIABLE, serde_json::to_string(self).unwrap());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        command.stderr(log);
        command
    }

    /// What all processes said.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    fn of_this_process() -> Option<Self> {
        std::env::var(CHILD_VARIABLE).ok().map(|text| serde_json::from_str(&text).unwrap())
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
        let (store, env, question) = (settings.open_store(), Env::system().unwrap(), settings.question());
        let ran = run_job_worker(order, store, env, options, move |scope, start, checkpoints| {
            let Settings { bootstrap, events, results, .. } = settings;
            question.build(scope, start, &Topics { bootstrap, events, results }, checkpoints)
        });
        ran.await.unwrap();
    });
}

/// What a manager's process does. It looks for wishes that lie in its folder.
pub fn be_a_manager() {
    let Some(settings) = Settings::of_this_process() else { return };
    runtime().block_on(async {
        let of_worker = settings.clone();
        let launcher = Arc::new(ProcessLauncher::new(move |_| of_worker.child("child_that_is_a_worker")));
        let (store, job, env) = (settings.open_store(), JobId::new(JOB).unwrap(), Env::system().unwrap());
        let manager = Manager::start(store, job, launcher, env, settings.options(), Vec::new()).await.unwrap();
        let wishes = async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                if let Some(workers) = taken_wish(&settings.root, "workers") {
                    manager.rescale(workers.parse().unwrap()).unwrap();
                }
                if taken_wish(&settings.root, "stop").is_some() {
                    manager.stop(None).await.unwrap();
                }
            }
        };
        let ending = tokio::select! {
            ending = manager.ended() => ending,
            () = wishes => unreachable!(),
        };
        assert_eq!(ending, Ending::Finished);
    });
}

pub fn start_manager(settings: &Settings) -> ManagerProcess {
    ManagerProcess::start(settings.child("child_that_is_a_manager"))
}
