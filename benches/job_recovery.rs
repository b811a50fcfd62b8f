//! How long a job is down when a worker dies: from kill -9 to the first record processed again, step by step, beside a plain copy of
//! its state.
//!
//! `cargo bench --features rocksdb,job,timely --bench job_recovery`
//!
//! Two workers, each a process of this program, hold 1 GB of state. One of them is killed again and again: on machines that keep what
//! they had (its files are linked), and on machines that have nothing (all is fetched).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use icecore::Result;
use icecore::coordinator::CoordinatorOptions;
use icecore::env::Env;
use icecore::job::dataflow::{
    AnyTask, Checkpoints, DataflowOptions, KeyedOperator, Source, Start, StateBackend, keyed, run_job_worker, source,
};
use icecore::job::manager::{ManagedOperator, Manager, ManagerOptions, OnDamage, StartFrom};
use icecore::job::report::RecoveryReport;
use icecore::job::{Ending, LaunchOrder, ProcessLauncher, RestartStrategy, RunOptions};
use icecore::keygroup::MaxParallelism;
use icecore::layout::{JobId, OperatorId};
use icecore::metadata::{CheckpointKind, SourcePosition};
use icecore::state::typed::{KeyContext, ValueState};
use icecore::store::LocalStore;
use timely::dataflow::Scope;

mod support;

const WORKERS: u32 = 2;
const VALUE_BYTES: usize = 1_000;
/// Threads of the plain copy: as many as restores use for large files.
const COPY_THREADS: usize = 4;
const SOURCE: &str = "numbers";
const OPERATOR: &str = "values";
const FOLDER_VARIABLE: &str = "ICECORE_BENCH_FOLDER";
const KEYS_VARIABLE: &str = "ICECORE_BENCH_KEYS";
const BACKEND_VARIABLE: &str = "ICECORE_BENCH_BACKEND";
/// After the state is loaded, of each worker: there is always a next record soon.
const RECORDS_PER_SECOND: f64 = 1_000.0;
const PATIENCE: Duration = Duration::from_secs(600);

/// A key, and the number that its value is made of.
type Keyed = (u64, u64);

/// One worker's share of the numbers: each key once, as fast as can be, then again and again, slowly.
struct Numbers {
    worker: u32,
    next: u64,
    keys: u64,
    loaded: PathBuf,
    slow_since: Option<Instant>,
    given_slowly: u64,
}

impl Source for Numbers {
    type Record = Keyed;

    fn poll(&mut self, max: usize, records: &mut Vec<Keyed>) -> Result<bool> {
        let end = if self.next < self.keys {
            self.keys
        } else {
            let since = *self.slow_since.get_or_insert_with(Instant::now);
            if !self.loaded.exists() {
                fs::write(&self.loaded, "").unwrap();
            }
            let due = (since.elapsed().as_secs_f64() * RECORDS_PER_SECOND) as u64 + 1;
            let new = due.saturating_sub(self.given_slowly);
            self.given_slowly = due;
            self.next + new * u64::from(WORKERS)
        };
        let own = (self.next..end).step_by(WORKERS as usize).take(max);
        let before = records.len();
        // Beyond the last key they begin anew.
        records.extend(own.map(|number| (number % self.keys, number)));
        self.next += (records.len() - before) as u64 * u64::from(WORKERS);
        Ok(true)
    }

    fn positions(&self) -> Vec<SourcePosition> {
        let position = self.next.to_be_bytes().to_vec();
        vec![SourcePosition { source: SOURCE.to_owned(), split: self.worker.to_string(), position }]
    }
}

/// The newest value of each key.
struct Values(ValueState<Vec<u8>>);

impl KeyedOperator<AnyTask> for Values {
    type Key = u64;
    type Input = Keyed;
    type Output = ();

    fn key((key, _): &Keyed) -> u64 {
        *key
    }

    fn record(&mut self, keys: &mut KeyContext<u64, AnyTask>, (_, number): Keyed, _: &mut Vec<()>) -> Result<()> {
        self.0.set(keys, &support::noise(number, VALUE_BYTES))
    }
}

fn build(scope: Scope<'_, u64>, mut start: Start, folder: &Path, keys: u64, checkpoints: &Checkpoints) -> Result<()> {
    let worker = start.worker();
    let stood = start.positions(SOURCE).unwrap_or_default();
    let stood = stood.iter().find(|known| known.split == worker.to_string());
    let next =
        stood.map_or(u64::from(worker), |known| u64::from_be_bytes(known.position.as_slice().try_into().unwrap()));
    let loaded = folder.join(format!("loaded-{worker}"));
    let numbers = Numbers { worker, next, keys, loaded, slow_since: None, given_slowly: 0 };
    let numbers = source(scope, SOURCE, numbers, checkpoints);
    let mut context = KeyContext::new(start.task(OPERATOR)?);
    let values = Values(context.value_state("value")?);
    keyed(numbers, OPERATOR, values, context, checkpoints).map(drop)
}

fn be_a_worker(order: LaunchOrder) {
    let variable = |name| std::env::var(name).unwrap();
    let (folder, keys) = (PathBuf::from(variable(FOLDER_VARIABLE)), variable(KEYS_VARIABLE).parse().unwrap());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let env = Env::system().unwrap();
        let store = Arc::new(LocalStore::open(&folder.join("store"), env.clone()).unwrap());
        let mut options = DataflowOptions::new(folder.join("local"));
        if variable(BACKEND_VARIABLE) == "rocksdb" {
            options.backend = StateBackend::RocksDb(Default::default());
        }
        let build = move |scope: Scope<'_, u64>, start: Start, checkpoints: &Checkpoints| {
            build(scope, start, &folder, keys, checkpoints)
        };
        // It leaves with its manager.
        let _ = run_job_worker(order, store, env, options, build).await;
    });
}

fn manager_options() -> ManagerOptions {
    ManagerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        workers: WORKERS,
        operators: vec![ManagedOperator {
            operator: OperatorId::new(OPERATOR).unwrap(),
            max_parallelism: MaxParallelism::new(128).unwrap(),
        }],
        run: RunOptions {
            restart: RestartStrategy::FixedDelay { attempts: 1_000, delay: Duration::ZERO },
            ..RunOptions::default()
        },
        coordinator: CoordinatorOptions { interval: None, ..CoordinatorOptions::default() },
        start_from: StartFrom::Newest,
        on_damage: OnDamage::Fail,
        allow_non_restored_state: false,
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

struct Job {
    manager: Arc<Manager>,
    launcher: Arc<ProcessLauncher>,
    folder: PathBuf,
}

impl Job {
    async fn start(folder: &Path, backend: &'static str, keys: u64) -> Self {
        fs::create_dir(folder.join("store")).unwrap();
        let path = folder.to_owned();
        let launcher = Arc::new(ProcessLauncher::new(move |_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.env(FOLDER_VARIABLE, &path).env(KEYS_VARIABLE, keys.to_string()).env(BACKEND_VARIABLE, backend);
            command
        }));
        let env = Env::system().unwrap();
        let store = Arc::new(LocalStore::open(&folder.join("store"), env.clone()).unwrap());
        let (job, options) = (JobId::new("recovery").unwrap(), manager_options());
        let manager = Manager::start(store, job, launcher.clone(), env, options, Vec::new()).await.unwrap();
        let loaded = |worker: u32| folder.join(format!("loaded-{worker}")).exists();
        until("the state", || (0..WORKERS).all(loaded)).await;
        Self { manager, launcher, folder: folder.to_owned() }
    }

    async fn checkpoint(&self) {
        let taken = self.manager.trigger(CheckpointKind::Incremental).await.unwrap();
        let newest = || self.manager.coordinator().completed().last().map(|done| done.folder.checkpoint);
        until("a checkpoint", || newest() >= Some(taken)).await;
    }

    /// Kills a worker. Returns how long it took until a record was processed, and the steps that the manager saw.
    async fn loses_a_worker(&self, keeps_files: bool) -> (u64, RecoveryReport) {
        let generation = self.manager.status().generation;
        let (_, process) = self.launcher.process_ids(generation)[0];
        let killed_at = unix_ms();
        assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
        if !keeps_files && self.folder.join("local").exists() {
            fs::rename(self.folder.join("local"), self.folder.join("gone")).unwrap();
        }
        let mut resumed_at = None;
        until("a record", || {
            let events = self.manager.newest_events();
            let event = events.iter().find(|event| event.kind == "resumed" && event.generation > generation);
            resumed_at = event.map(|event| event.at_unix_ms);
            resumed_at.is_some()
        })
        .await;
        let recovery = self.manager.report().recovery;
        if self.folder.join("gone").exists() {
            fs::remove_dir_all(self.folder.join("gone")).unwrap();
        }
        (resumed_at.unwrap() - killed_at, recovery)
    }

    /// Copies the files of the newest checkpoint, as plainly as can be. Returns how many bytes there were.
    async fn copies_plainly(&self) -> (Duration, u64) {
        let checkpoint = self.manager.coordinator().latest().await.unwrap().unwrap();
        let files: Vec<PathBuf> = checkpoint
            .metadata
            .files()
            .map(|file| self.folder.join("store").join(checkpoint.stored_file(file).unwrap().object.as_str()))
            .collect();
        let bytes = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        let target = self.folder.join("copy");
        fs::create_dir(&target).unwrap();
        let (next, began) = (AtomicUsize::new(0), Instant::now());
        std::thread::scope(|scope| {
            for _ in 0..COPY_THREADS {
                scope.spawn(|| {
                    while let Some((number, file)) = take(&next, &files) {
                        let copy = target.join(number.to_string());
                        fs::copy(file, &copy).unwrap();
                        fs::File::open(copy).unwrap().sync_all().unwrap();
                    }
                });
            }
        });
        let took = began.elapsed();
        fs::remove_dir_all(target).unwrap();
        (took, bytes)
    }
}

fn take<'a>(next: &AtomicUsize, files: &'a [PathBuf]) -> Option<(usize, &'a PathBuf)> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    files.get(number).map(|file| (number, file))
}

/// In milliseconds, but for the last one.
#[derive(Default)]
struct Table {
    noticed: support::Samples,
    pause: support::Samples,
    start: support::Samples,
    restore: support::Samples,
    resume: support::Samples,
    total: support::Samples,
    copy: support::Samples,
    copies: support::Samples,
}

async fn measure(backend: &'static str, keeps_files: bool, keys: u64, rounds: usize) {
    let folder = support::work_folder();
    let job = Job::start(folder.path(), backend, keys).await;
    let (mut table, mut bytes, mut brought) = (Table::default(), 0, RecoveryReport::default());
    for _ in 0..rounds {
        job.checkpoint().await;
        let (copy, size) = job.copies_plainly().await;
        let (total_ms, recovery) = job.loses_a_worker(keeps_files).await;
        let part = |samples: &mut support::Samples, ms: Option<u64>| samples.push_number(ms.unwrap_or(0) as f64);
        part(&mut table.noticed, Some(total_ms.saturating_sub(recovery.total_ms.unwrap_or(0))));
        part(&mut table.pause, recovery.pause_ms);
        part(&mut table.start, recovery.start_ms);
        part(&mut table.restore, recovery.restore_ms);
        part(&mut table.resume, recovery.resume_ms);
        part(&mut table.total, Some(total_ms));
        table.copy.push_number(copy.as_secs_f64() * 1_000.0);
        table.copies.push_number(total_ms as f64 / (copy.as_secs_f64() * 1_000.0));
        (bytes, brought) = (size, recovery);
    }
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "{backend}, {}: {:.0} MB of state; fetched {} files, {:.0} MB, linked {}, {:.0} MB",
        if keeps_files { "files kept" } else { "nothing kept" },
        mb(bytes),
        brought.fetched_files,
        mb(brought.fetched_bytes),
        brought.linked_files,
        mb(brought.linked_bytes),
    );
    for (step, samples) in [
        ("noticed", &table.noticed),
        ("workers ended, pause", &table.pause),
        ("workers started", &table.start),
        ("restored, verified", &table.restore),
        ("first record", &table.resume),
        ("all", &table.total),
        ("plain copy", &table.copy),
    ] {
        println!("  {step:<22}{:>7.0} ms ({:.0} to {:.0})", samples.median(), samples.min(), samples.max());
    }
    let copies = &table.copies;
    println!("  all of it takes {:.2} plain copies ({:.2} to {:.2})", copies.median(), copies.min(), copies.max());
    job.manager.cancel();
    assert_eq!(job.manager.ended().await, Ending::Cancelled);
}

fn main() {
    if let Some(order) = LaunchOrder::of_this_process().unwrap() {
        return be_a_worker(order);
    }
    if !support::is_bench_run() {
        return;
    }
    let (keys, rounds) = if support::is_quick() { (50_000, 1) } else { (1_000_000, 5) };
    println!("kill -9 of one of {WORKERS} workers, {keys} keys of {VALUE_BYTES} bytes; medians of {rounds}");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for (backend, keeps_files) in [("rocksdb", true), ("rocksdb", false), ("heap", false)] {
            measure(backend, keeps_files, keys, rounds).await;
        }
    });
}
