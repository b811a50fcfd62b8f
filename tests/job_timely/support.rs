//! A job of two keyed operators in a row and a sink, beside the world outside that sees its outputs:
//!
//! `numbers -> counts (by split and word) -> sums (by another key) -> outlet`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use icecore::Result;
use icecore::coordinator::{Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::job::dataflow::{
    CheckpointControl, Checkpoints, KeyedOperator, LocalControl, Source, keyed, run_worker, sink, source,
};
use icecore::keygroup::MaxParallelism;
use icecore::layout::{CheckpointId, JobId, OperatorId, SubtaskName};
use icecore::metadata::SourcePosition;
use icecore::restore::{Checkpoint, FetchOptions, RestorePlan};
use icecore::snapshot::{Snapshotter, SnapshotterOptions};
#[cfg(feature = "rocksdb")]
use icecore::state::rocksdb::RocksDbOptions;
use icecore::state::typed::{KeyContext, ValueState};
use icecore::store::{LocalStore, StoreRef};
#[cfg(feature = "rocksdb")]
use icecore::task::RocksDbTask;
use icecore::task::{CheckpointedTask, HeapTask};
use parking_lot::Mutex;
use timely::communication::WorkerGuards;
use timely::dataflow::Scope;

use crate::outside::{Outlet, Outside};

pub const SPLITS: u32 = 3;
const WORDS: u64 = 20;
const SUMS: u64 = 7;
const KEY_GROUPS: u32 = 8;
/// Records that a source gives at once at most: little, so that a test is slow enough to be disturbed.
const BATCH: usize = 40;
const OPERATORS: [&str; 3] = ["counts", "sums", "outlet"];
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for what should not happen to happen.
pub const A_WHILE: Duration = Duration::from_millis(200);

pub type AnyTask = Box<dyn CheckpointedTask>;
/// Split and position.
pub type Number = (u32, u64);
/// Split, position, word, and how often the word came in the split, this time included.
pub type Counted = (u32, u64, u64, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Heap,
    #[cfg(feature = "rocksdb")]
    RocksDb,
    /// RocksDB with its write-ahead log.
    #[cfg(feature = "rocksdb")]
    RocksDbLogging,
}

pub fn word(split: u32, position: u64) -> u64 {
    (position * position + 3 * position + u64::from(split)) % WORDS
}

/// What a run without any trouble puts out, of splits that stand at these positions.
pub fn expected(positions: &BTreeMap<u32, u64>) -> Vec<Counted> {
    let mut all = Vec::new();
    for (split, end) in positions {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for position in 0..*end {
            let word = word(*split, position);
            let count = counts.entry(word).or_default();
            *count += 1;
            all.push((*split, position, word, *count));
        }
    }
    all.sort_unstable();
    all
}

/// Some splits of the numbers.
struct Numbers {
    splits: BTreeMap<u32, u64>,
    end: u64,
    limit: Arc<AtomicU64>,
    given: Arc<Vec<AtomicU64>>,
    fails_at: u64,
    polls: Arc<AtomicU64>,
}

impl Source for Numbers {
    type Record = Number;

    fn poll(&mut self, max: usize, records: &mut Vec<Number>) -> Result<bool> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        let end = self.end.min(self.limit.load(Ordering::SeqCst));
        for (split, next) in &mut self.splits {
            let share = max.min(BATCH) as u64 / u64::from(SPLITS);
            for position in *next..end.min(*next + share) {
                if position >= self.fails_at {
                    return Err(icecore::Error::new(icecore::ErrorKind::Temporary, "read numbers", "they are gone"));
                }
                records.push((*split, position));
                *next += 1;
            }
            self.given[*split as usize].store(*next, Ordering::SeqCst);
        }
        Ok(self.splits.values().any(|next| *next < self.end))
    }

    fn positions(&self) -> Vec<SourcePosition> {
        let position = |(split, next): (&u32, &u64)| SourcePosition {
            source: "numbers".to_owned(),
            split: split.to_string(),
            position: next.to_be_bytes().to_vec(),
        };
        self.splits.iter().map(position).collect()
    }
}

/// Called with each number before it is counted.
pub type Hook = Arc<dyn Fn(Number) -> Result<()> + Send + Sync>;

struct Counts {
    count: ValueState<u64>,
    hook: Hook,
}

impl KeyedOperator<AnyTask> for Counts {
    type Key = u64;
    type Input = Number;
    type Output = Counted;

    fn key((split, position): &Number) -> u64 {
        u64::from(*split) * WORDS + word(*split, *position)
    }

    fn record(
        &mut self,
        keys: &mut KeyContext<u64, AnyTask>,
        (split, position): Number,
        output: &mut Vec<Counted>,
    ) -> Result<()> {
        (self.hook)((split, position))?;
        let count = self.count.get(keys)?.unwrap_or(0) + 1;
        self.count.set(keys, &count)?;
        output.push((split, position, word(split, position), count));
        Ok(())
    }
}

struct Sums {
    sum: ValueState<u64>,
}

impl KeyedOperator<AnyTask> for Sums {
    type Key = u64;
    type Input = Counted;
    type Output = Counted;

    fn key((_, _, word, _): &Counted) -> u64 {
        word % SUMS
    }

    fn record(
        &mut self,
        keys: &mut KeyContext<u64, AnyTask>,
        counted: Counted,
        output: &mut Vec<Counted>,
    ) -> Result<()> {
        let (_, position, _, count) = counted;
        let sum = self.sum.get(keys)?.unwrap_or(0) + position + count;
        self.sum.set(keys, &sum)?;
        output.push(counted);
        Ok(())
    }
}

type ControlOf = Arc<dyn Fn(usize, Arc<LocalControl>) -> Arc<dyn CheckpointControl> + Send + Sync>;

/// A job, over all its lives.
pub struct Job {
    folder: tempfile::TempDir,
    kind: Kind,
    /// How many numbers each split has.
    pub end: u64,
    /// How many of them are there yet.
    pub limit: Arc<AtomicU64>,
    /// How often sources were asked for records.
    pub polls: Arc<AtomicU64>,
    pub outside: Arc<Outside>,
    pub hook: Hook,
    /// The control that a worker's operators get.
    pub control_of: ControlOf,
    pub source_fails_at: u64,
    /// What the sink is told of the checkpoint that its task was restored from.
    pub says_restored: fn(Option<CheckpointId>) -> Option<CheckpointId>,
}

/// One life of a job: from its start to its end or crash.
pub struct Life {
    pub control: Arc<LocalControl>,
    pub coordinator: Arc<Coordinator>,
    /// How far each split was given.
    pub given: Arc<Vec<AtomicU64>>,
    workers: Mutex<Option<WorkerGuards<()>>>,
    began_at: u64,
}

impl Life {
    pub fn given(&self) -> u64 {
        self.given.iter().map(|given| given.load(Ordering::SeqCst)).sum()
    }

    pub fn has_ended(&self) -> bool {
        self.workers.lock().as_ref().is_none_or(|workers| workers.guards().iter().all(|worker| worker.is_finished()))
    }

    /// Waits until this life has given so many numbers, or all.
    pub async fn until_given(&self, count: u64) {
        until(|| self.given() - self.began_at >= count || self.control.is_drained()).await;
    }

    /// Ends all workers where they stand.
    pub fn crash(&self) {
        self.control.cancel("the test lets it crash");
        self.join();
    }

    /// Waits for all workers. Returns what they ended with: timely says so if one panicked.
    pub fn join(&self) -> Vec<std::result::Result<(), String>> {
        self.workers.lock().take().map(WorkerGuards::join).unwrap_or_default()
    }

    /// To the end of all splits.
    pub async fn finish(&self) -> CheckpointId {
        let last = self.control.finish().await.unwrap();
        assert!(self.join().iter().all(std::result::Result::is_ok));
        self.control.outcome().unwrap();
        last
    }
}

impl Drop for Life {
    /// A test that fails must not wait for workers that nobody tells to end.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.control.cancel("the test has failed");
            std::mem::forget(self.workers.lock().take());
        }
    }
}

pub async fn until(holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "it does not come about");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// What a worker begins with.
struct Start {
    tasks: Vec<AnyTask>,
    splits: BTreeMap<u32, u64>,
}

impl Job {
    pub fn new(kind: Kind, end: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            kind,
            end,
            limit: Arc::new(u64::MAX.into()),
            polls: Arc::default(),
            outside: Arc::default(),
            hook: Arc::new(|_| Ok(())),
            control_of: Arc::new(|_, control| control),
            source_fails_at: u64::MAX,
            says_restored: |restored| restored,
        }
    }

    /// What a run without any trouble puts out.
    pub fn expected(&self) -> Vec<Counted> {
        expected(&(0..SPLITS).map(|split| (split, self.end)).collect())
    }

    /// Starts the job from its newest complete checkpoint, which is checked, and plays `script`. When that is over
    /// whatever of this life still runs is left to itself, as by a crash.
    pub fn live<R>(&self, workers: u32, script: impl AsyncFnOnce(&Life) -> R) -> R {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let result = runtime.block_on(async {
            let life = self.start(workers).await;
            let result = script(&life).await;
            life.crash();
            result
        });
        runtime.shutdown_background();
        result
    }

    async fn start(&self, workers: u32) -> Life {
        let env = Env::system().unwrap();
        let store: StoreRef = Arc::new(LocalStore::open(&self.folder.path().join("store"), env.clone()).unwrap());
        let control = LocalControl::new(env.clone());
        let options = CoordinatorOptions { tolerable_failures: 100, ..CoordinatorOptions::default() };
        let job = JobId::new("numbers").unwrap();
        let listeners: Vec<Arc<dyn icecore::coordinator::CheckpointListener>> = vec![control.clone()];
        let coordinator =
            Coordinator::start(store, job, described(workers), env.clone(), options, listeners).await.unwrap();
        let coordinator = Arc::new(coordinator);
        control.serve(&coordinator);
        self.start_workers(workers, control, coordinator, &env).await
    }

    /// A further life under the same coordinator.
    pub async fn restart(&self, life: &Life, workers: u32) -> Life {
        life.join();
        let env = Env::system().unwrap();
        life.coordinator.restart_tasks(described(workers)).unwrap();
        life.control.restart();
        self.start_workers(workers, life.control.clone(), life.coordinator.clone(), &env).await
    }

    async fn start_workers(
        &self,
        workers: u32,
        control: Arc<LocalControl>,
        coordinator: Arc<Coordinator>,
        env: &Env,
    ) -> Life {
        let latest = coordinator.latest().await.unwrap();
        let positions = match &latest {
            Some(checkpoint) => self.check_cut(checkpoint, &coordinator, env).await,
            None => (0..SPLITS).map(|split| (split, 0)).collect(),
        };
        let given: Arc<Vec<AtomicU64>> = Arc::new(positions.values().map(|given| AtomicU64::new(*given)).collect());
        let mut starts = Vec::new();
        for index in 0..workers {
            let mut tasks = Vec::new();
            for operator in OPERATORS {
                tasks.push(self.task(operator, index, workers, latest.as_ref(), &coordinator, env).await);
            }
            let splits = positions.clone().into_iter().filter(|(split, _)| split % workers == index).collect();
            starts.push(Some(Start { tasks, splits }));
        }
        let restored = (self.says_restored)(latest.map(|checkpoint| checkpoint.metadata.checkpoint));
        let guards = self.run_workers(starts, &control, &given, restored);
        let began_at = positions.values().sum();
        Life { control, coordinator, given, workers: Mutex::new(Some(guards)), began_at }
    }

    fn run_workers(
        &self,
        starts: Vec<Option<Start>>,
        control: &Arc<LocalControl>,
        given: &Arc<Vec<AtomicU64>>,
        restored: Option<CheckpointId>,
    ) -> WorkerGuards<()> {
        let (config, starts) = (timely::Config::process(starts.len()), Mutex::new(starts));
        let (control, control_of) = (control.clone(), self.control_of.clone());
        let (given, outside, hook) = (given.clone(), self.outside.clone(), self.hook.clone());
        let (end, limit, fails_at) = (self.end, self.limit.clone(), self.source_fails_at);
        let polls = self.polls.clone();
        timely::execute(config, move |worker| {
            let Start { tasks, splits } = starts.lock()[worker.index()].take().unwrap();
            let numbers =
                Numbers { splits, end, limit: limit.clone(), given: given.clone(), fails_at, polls: polls.clone() };
            let (outlet, hook) = (Outlet(outside.clone()), hook.clone());
            run_worker(worker, control_of(worker.index(), control.clone()), |scope, checkpoints| {
                build(scope, checkpoints, numbers, tasks, hook, outlet, restored)
            });
        })
        .unwrap()
    }

    async fn task(
        &self,
        operator: &str,
        index: u32,
        workers: u32,
        latest: Option<&Checkpoint>,
        coordinator: &Coordinator,
        env: &Env,
    ) -> AnyTask {
        let operator = OperatorId::new(operator).unwrap();
        let subtask = SubtaskName { operator: operator.clone(), index };
        let (store, broker) = (coordinator.store().clone(), coordinator.broker());
        let snapshotter =
            Arc::new(Snapshotter::new(subtask, store, env.clone(), broker, SnapshotterOptions::default()));
        let groups = MaxParallelism::new(KEY_GROUPS).unwrap();
        let range = groups.range_of_subtask(index, workers).unwrap();
        let plan = latest.map(|latest| RestorePlan::new(&latest.metadata, &operator, index, workers).unwrap());
        let options = FetchOptions::default();
        match (self.kind, plan.zip(latest)) {
            (Kind::Heap, None) => Box::new(HeapTask::new(groups, range, snapshotter, env.clone()).unwrap()),
            (Kind::Heap, Some((plan, latest))) => {
                Box::new(HeapTask::restore(&plan, latest, snapshotter, env.clone(), &options).await.unwrap())
            }
            #[cfg(feature = "rocksdb")]
            (kind, plan) => {
                let folder = tempfile::Builder::new().prefix("task").tempdir_in(self.folder.path()).unwrap().keep();
                let write_ahead_log = kind == Kind::RocksDbLogging;
                database(&folder.join("db"), write_ahead_log, (groups, range), plan, snapshotter, env).await
            }
        }
    }

    /// Compares the state in a checkpoint, key by key, with what the splits had given up to the positions in it. Returns
    /// those.
    async fn check_cut(&self, checkpoint: &Checkpoint, coordinator: &Coordinator, env: &Env) -> BTreeMap<u32, u64> {
        let positions = positions_of(checkpoint);
        let mut counts: BTreeMap<u64, u64> = (0..u64::from(SPLITS) * WORDS).map(|key| (key, 0)).collect();
        let mut sums: BTreeMap<u64, u64> = (0..SUMS).map(|key| (key, 0)).collect();
        for (split, position, word, count) in expected(&positions) {
            *counts.get_mut(&Counts::key(&(split, position))).unwrap() += 1;
            *sums.get_mut(&(word % SUMS)).unwrap() += position + count;
        }
        for (operator, state, expected) in [("counts", "count", counts), ("sums", "sum", sums)] {
            let mut keys = KeyContext::new(self.task(operator, 0, 1, Some(checkpoint), coordinator, env).await);
            let value = keys.value_state::<u64>(state).unwrap();
            for (key, expected) in expected {
                keys.set_current_key(&key).unwrap();
                let found = value.get(&keys).unwrap().unwrap_or(0);
                assert_eq!(found, expected, "{operator} of key {key} at {positions:?}");
            }
        }
        positions
    }
}

#[cfg(feature = "rocksdb")]
async fn database(
    folder: &std::path::Path,
    write_ahead_log: bool,
    (groups, range): (MaxParallelism, icecore::keygroup::KeyGroupRange),
    plan: Option<(RestorePlan, &Checkpoint)>,
    snapshotter: Arc<Snapshotter>,
    env: &Env,
) -> AnyTask {
    let options = RocksDbOptions { write_buffer_bytes: 64 << 10, write_ahead_log, ..RocksDbOptions::default() };
    let task = match plan {
        None => RocksDbTask::new(folder, groups, range, options, snapshotter, env.clone()),
        Some((plan, from)) => {
            let fetch = FetchOptions::default();
            RocksDbTask::restore(&plan, from, folder, options, snapshotter, env.clone(), &fetch).await
        }
    };
    Box::new(task.unwrap())
}

fn build(
    scope: Scope<'_, u64>,
    checkpoints: &Checkpoints,
    numbers: Numbers,
    tasks: Vec<AnyTask>,
    hook: Hook,
    outlet: Outlet,
    restored: Option<CheckpointId>,
) -> Result<()> {
    let [counts, sums, outputs] = <[AnyTask; 3]>::try_from(tasks).unwrap();
    let (mut counts, mut sums) = (KeyContext::new(counts), KeyContext::new(sums));
    let (count, sum) = (counts.value_state("count")?, sums.value_state("sum")?);
    let stream = source(scope, "numbers", numbers, checkpoints);
    let stream = keyed(stream, "counts", Counts { count, hook }, counts, checkpoints)?;
    let stream = keyed(stream, "sums", Sums { sum }, sums, checkpoints)?;
    sink(stream, "outlet", outlet, outputs, restored, checkpoints)
}

pub fn positions_of(checkpoint: &Checkpoint) -> BTreeMap<u32, u64> {
    let sources = checkpoint.metadata.sources.iter();
    let positions: BTreeMap<u32, u64> = sources
        .map(|source| {
            let position = <[u8; 8]>::try_from(source.position.as_slice()).unwrap();
            (source.split.parse().unwrap(), u64::from_be_bytes(position))
        })
        .collect();
    assert!(positions.keys().copied().eq(0..SPLITS), "not every split has a position: {positions:?}");
    positions
}

fn described(parallelism: u32) -> Vec<OperatorDescription> {
    let described = |operator: &str| OperatorDescription {
        operator: OperatorId::new(operator).unwrap(),
        parallelism,
        max_parallelism: KEY_GROUPS,
    };
    OPERATORS.into_iter().map(described).collect()
}

/// Numbers from a seed (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}
