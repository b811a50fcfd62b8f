//! A job over all its lives: `topic of words -> how often each came in its partition -> topic`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use icecore::coordinator::{Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::job::dataflow::{
    Checkpoints, Committer, KeyedOperator, LocalControl, Transaction, keyed, run_worker, sink, source,
};
use icecore::job::kafka::{
    KafkaCommitter, KafkaOutput, KafkaRecord, KafkaSinkOptions, KafkaSource, KafkaSourceOptions,
};
use icecore::keygroup::MaxParallelism;
use icecore::layout::{CheckpointId, JobId, OperatorId, SubtaskName};
use icecore::metadata::{CheckpointKind, SourcePosition};
use icecore::restore::{Checkpoint, FetchOptions, RestorePlan};
use icecore::snapshot::{Snapshotter, SnapshotterOptions};
use icecore::state::typed::{KeyContext, ValueState};
use icecore::store::{LocalStore, StoreRef};
use icecore::task::HeapTask;
use icecore::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use timely::communication::WorkerGuards;
use timely::dataflow::Scope;

use crate::gate::Gate;
use crate::kafka::{PATIENCE, Topic, cluster};

pub const PARTITIONS: i32 = 3;
const OUTPUT_PARTITIONS: i32 = 2;
const WORDS: u64 = 20;
const KEY_GROUPS: u32 = 8;
const OPERATORS: [&str; 2] = ["counts", "outlet"];

/// Partition, number in it, and word.
type Word = (i32, u64, u64);
/// The same, and how often the word came in the partition, this time included.
type Counted = (i32, u64, u64, u64);

/// What becomes of a commit, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// As if the process died before Kafka heard of it.
    Before,
    /// As if it died when it was committed, but the sink had not heard of it.
    After,
}

#[derive(Default)]
pub struct Meddling {
    pub mishap: Mutex<Option<Mishap>>,
    /// Shut, no commit begins.
    pub gate: Gate,
    begun: AtomicU64,
    done: AtomicU64,
}

impl Meddling {
    /// Transactions that were handed over.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Those that came through.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }
}

/// The committer under test, and what happens around it.
struct Meddled {
    inner: KafkaCommitter<Counted>,
    with: Arc<Meddling>,
}

impl Committer for Meddled {
    type Output = Counted;
    type Key = ();

    fn key(_: &Counted) {}

    fn commit(&mut self, transaction: Transaction, outputs: Vec<Counted>) -> Result<()> {
        self.with.begun.fetch_add(1, Ordering::SeqCst);
        self.with.gate.pass();
        let mishap = self.with.mishap.lock().take();
        if mishap != Some(Mishap::Before) {
            self.inner.commit(transaction, outputs)?;
            self.with.done.fetch_add(1, Ordering::SeqCst);
        }
        match mishap {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::OutcomeUnknown, "commit", "the test lets it fail")),
        }
    }
}

struct Counts(ValueState<u64>);

impl KeyedOperator<HeapTask> for Counts {
    type Key = u64;
    type Input = Word;
    type Output = Counted;

    fn key((partition, _, word): &Word) -> u64 {
        *partition as u64 * WORDS + word
    }

    fn record(&mut self, keys: &mut KeyContext<u64, HeapTask>, word: Word, counted: &mut Vec<Counted>) -> Result<()> {
        let count = self.0.get(keys)?.unwrap_or(0) + 1;
        self.0.set(keys, &count)?;
        counted.push((word.0, word.1, word.2, count));
        Ok(())
    }
}

fn word(partition: i32, number: u64) -> u64 {
    (number * number + 3 * number + partition as u64) % WORDS
}

fn text(counted: &Counted) -> String {
    format!("{} {} {} {}", counted.0, counted.1, counted.2, counted.3)
}

/// A source's record: its value is its number in the partition.
fn decode(record: KafkaRecord<'_>) -> Result<Word> {
    let number = record.value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    let number = number.ok_or_else(|| Error::corrupt("decode", "a word", "it is no number"))?;
    Ok((record.partition, number, word(record.partition, number)))
}

fn encode(counted: &Counted) -> Result<KafkaOutput> {
    let key = format!("{}-{}", counted.0, counted.2).into_bytes();
    Ok(KafkaOutput { key: Some(key), payload: Some(text(counted).into_bytes()), partition: None })
}

pub struct Job {
    folder: tempfile::TempDir,
    pub input: Topic,
    pub output: Topic,
    pub source: KafkaSourceOptions,
    pub sink: KafkaSinkOptions,
    pub meddling: Arc<Meddling>,
    /// Records of each partition of the input.
    produced: u64,
}

/// One life of a job: from its start to its end or crash.
pub struct Life {
    pub control: Arc<LocalControl>,
    /// The control does not keep it alive.
    _coordinator: Arc<Coordinator>,
    workers: Mutex<Option<WorkerGuards<()>>>,
}

impl Life {
    pub async fn checkpoint(&self) -> CheckpointId {
        self.control.checkpoint(CheckpointKind::Incremental).await.unwrap()
    }

    /// Waits for all workers.
    pub fn join(&self) {
        let ended = self.workers.lock().take().map(WorkerGuards::join).unwrap_or_default();
        assert!(ended.iter().all(std::result::Result::is_ok), "{ended:?}");
    }

    /// To the end of the topic.
    pub async fn finish(&self) {
        if let Err(error) = self.control.finish().await {
            panic!("{error}");
        }
        self.join();
        self.control.outcome().unwrap();
    }

    /// What it fails with.
    pub fn failure(&self) -> Error {
        self.join();
        self.control.outcome().unwrap_err()
    }
}

pub async fn until(holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "it does not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a worker begins with.
struct Start {
    tasks: [HeapTask; 2],
    source: KafkaSourceOptions,
    sink: KafkaSinkOptions,
    positions: Vec<SourcePosition>,
    restored: Option<CheckpointId>,
    meddling: Arc<Meddling>,
}

impl Job {
    /// A job whose input has so many records in each partition, and ends there.
    pub fn new(bootstrap: &str, name: &str, records: u64) -> Self {
        let input = Topic::new(bootstrap, &format!("{name}-in"), PARTITIONS);
        let output = Topic::new(bootstrap, &format!("{name}-out"), OUTPUT_PARTITIONS);
        let mut source = KafkaSourceOptions::new(cluster(bootstrap), &input.name);
        let sink = KafkaSinkOptions::new(cluster(bootstrap), &output.name, format!("{}-sink", output.name));
        let folder = tempfile::tempdir().unwrap();
        source.until = Some((0..PARTITIONS).map(|partition| (partition, 0)).collect());
        let mut job = Self { folder, input, output, source, sink, meddling: Arc::default(), produced: 0 };
        job.grow(records);
        job
    }

    /// More records for each partition; the next life reads up to their end.
    pub fn grow(&mut self, records: u64) {
        let begin = self.produced;
        self.produced += records;
        let numbers: Vec<String> = (begin..begin + records).map(|number| number.to_string()).collect();
        let all =
            (0..PARTITIONS).flat_map(|partition| numbers.iter().map(move |number| (partition, "", number.as_bytes())));
        self.input.produce(all);
        self.source.until = Some(self.source.ends().unwrap());
    }

    /// What a run without any trouble puts out, sorted.
    pub fn expected(&self) -> Vec<String> {
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
            for number in 0..self.produced {
                let word = word(partition, number);
                let count = counts.entry(word).or_default();
                *count += 1;
                all.push(text(&(partition, number, word, *count)));
            }
        }
        all.sort_unstable();
        all
    }

    /// Compares the output with that, record by record, and its order within each key.
    pub fn check(&self) {
        let seen = self.output.read_at_least(self.expected().len());
        let mut last: BTreeMap<String, (i32, u64)> = BTreeMap::new();
        for record in &seen {
            let (key, value) = (record.key.clone().unwrap(), record.value.as_ref().unwrap());
            let count: u64 = value.rsplit(' ').next().unwrap().parse().unwrap();
            let (partition, before) = last.insert(key, (record.partition, count)).unwrap_or((record.partition, 0));
            assert_eq!((partition, before + 1), (record.partition, count), "lost, doubled or out of order: {record:?}");
        }
        let mut values: Vec<String> = seen.into_iter().filter_map(|record| record.value).collect();
        values.sort_unstable();
        assert!(values == self.expected(), "{} records, {} expected", values.len(), self.expected().len());
    }

    /// Starts the job from its newest complete checkpoint, and plays `script`. When that is over whatever of this life still
    /// runs is left to itself, as by a crash.
    pub fn live<R>(&self, workers: u32, script: impl AsyncFnOnce(&Life) -> R) -> R {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let result = runtime.block_on(async {
            let life = self.start(workers).await;
            let result = script(&life).await;
            life.control.cancel("the test lets it crash");
            life.join();
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
        let operators = OPERATORS.map(|operator| OperatorDescription {
            operator: OperatorId::new(operator).unwrap(),
            parallelism: workers,
            max_parallelism: KEY_GROUPS,
        });
        let (job, listener) = (JobId::new("words").unwrap(), control.clone());
        let coordinator =
            Coordinator::start(store, job, operators.into(), env.clone(), options, vec![listener]).await.unwrap();
        let coordinator = Arc::new(coordinator);
        control.serve(&coordinator);
        let latest = coordinator.latest().await.unwrap();
        let mut starts = Vec::new();
        for index in 0..workers {
            let tasks = [
                task(OPERATORS[0], index, workers, latest.as_ref(), &coordinator, &env).await,
                task(OPERATORS[1], index, workers, latest.as_ref(), &coordinator, &env).await,
            ];
            starts.push(Some(Start {
                tasks,
                source: self.source.clone(),
                sink: self.sink.clone(),
                positions: latest.as_ref().map(|latest| latest.metadata.sources.clone()).unwrap_or_default(),
                restored: latest.as_ref().map(|latest| latest.metadata.checkpoint),
                meddling: self.meddling.clone(),
            }));
        }
        let (config, starts, operators) = (timely::Config::process(starts.len()), Mutex::new(starts), control.clone());
        let guards = timely::execute(config, move |worker| {
            let start = starts.lock()[worker.index()].take().unwrap();
            run_worker(worker, operators.clone(), |scope, checkpoints| build(scope, checkpoints, start));
        });
        Life { control, _coordinator: coordinator, workers: Mutex::new(Some(guards.unwrap())) }
    }
}

fn build(scope: Scope<'_, u64>, checkpoints: &Checkpoints, start: Start) -> Result<()> {
    let Start { tasks: [counts, outputs], source: from, sink: to, positions, restored, meddling } = start;
    let words = KafkaSource::open("words", &from, &positions, (scope.index(), scope.peers()), decode)?;
    let inner = KafkaCommitter::open(&to, &outputs, restored, encode)?;
    let mut keys = KeyContext::new(counts);
    let count = Counts(keys.value_state("count")?);
    let stream = source(scope, "words", words, checkpoints);
    let stream = keyed(stream, "counts", count, keys, checkpoints)?;
    sink(stream, "outlet", Meddled { inner, with: meddling }, outputs, restored, checkpoints)
}

async fn task(
    operator: &str,
    index: u32,
    workers: u32,
    latest: Option<&Checkpoint>,
    coordinator: &Coordinator,
    env: &Env,
) -> HeapTask {
    let operator = OperatorId::new(operator).unwrap();
    let subtask = SubtaskName { operator: operator.clone(), index };
    let (store, broker) = (coordinator.store().clone(), coordinator.broker());
    let snapshotter = Arc::new(Snapshotter::new(subtask, store, env.clone(), broker, SnapshotterOptions::default()));
    let groups = MaxParallelism::new(KEY_GROUPS).unwrap();
    match latest {
        None => {
            let range = groups.range_of_subtask(index, workers).unwrap();
            HeapTask::new(groups, range, snapshotter, env.clone()).unwrap()
        }
        Some(latest) => {
            let plan = RestorePlan::new(&latest.metadata, &operator, index, workers).unwrap();
            HeapTask::restore(&plan, latest, snapshotter, env.clone(), &FetchOptions::default()).await.unwrap()
        }
    }
}

/// A task for a committer that is tried without a dataflow.
pub fn lone_task(index: u32, workers: u32) -> HeapTask {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let (folder, env) = (tempfile::tempdir().unwrap(), Env::system().unwrap());
        let store: StoreRef = Arc::new(LocalStore::open(folder.path(), env.clone()).unwrap());
        let operator = OperatorDescription {
            operator: OperatorId::new("outlet").unwrap(),
            parallelism: workers,
            max_parallelism: KEY_GROUPS,
        };
        let (job, options) = (JobId::new("lone").unwrap(), CoordinatorOptions::default());
        let coordinator =
            Coordinator::start(store, job, vec![operator], env.clone(), options, Vec::new()).await.unwrap();
        task("outlet", index, workers, None, &coordinator, &env).await
    })
}
