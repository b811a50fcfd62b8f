//! The job's process: restores the newest checkpoint if there is one, then works through the events
//! with a checkpoint every so many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use icecore::coordinator::{
    Acknowledged, CheckpointListener, Coordinator, CoordinatorOptions, OperatorDescription, RetentionPolicy,
};
use icecore::env::Env;
use icecore::keygroup::MaxParallelism;
use icecore::layout::{CheckpointFolder, JobId, OperatorId, SubtaskName};
use icecore::metadata::CheckpointKind;
use icecore::restore::{Checkpoint, FetchOptions, RestorePlan};
use icecore::snapshot::{SnapshotStats, Snapshotter, SnapshotterOptions, Trigger};
use icecore::state::heap::HeapBackend;
use icecore::state::rocksdb::RocksDbOptions;
use icecore::store::{self, StoreAddress, StoreOptions, StoreRef};
use icecore::task::RocksDbTask;
use icecore::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::operators::{Auctions, Operator, People};
use crate::pipeline::{KEY_GROUPS, Pipeline, Subtasks};
use crate::protocol::{CheckpointRow, JobConfig, Report, say};
use crate::source::Source;

/// The job's id on the store.
pub const JOB: &str = "nexmark";
/// How many checkpoints are kept.
pub const RETAINED: u32 = 3;

/// Opens the store that checkpoints go to, whatever its kind. Options come from the environment: those of the
/// store's own tools, such as AWS_REGION, and those that the command takes, too.
pub fn open_store(store: &str, env: &Env) -> Result<StoreRef> {
    let mut options = StoreOptions::new();
    options.add_list(&std::env::var("ICECORE_STORE_OPTIONS").unwrap_or_default())?;
    store::open(&StoreAddress::parse(store)?, &options, env.clone())
}

/// The operators at a parallelism.
pub fn operators(parallelism: u32) -> Result<Vec<OperatorDescription>> {
    let describe = |name: &str| {
        Ok(OperatorDescription { operator: OperatorId::new(name)?, parallelism, max_parallelism: KEY_GROUPS })
    };
    [Auctions::NAME, People::NAME].into_iter().map(describe).collect()
}

/// How the demo coordinates, in the job's process and at the end.
pub fn coordinator_options(holder: &str) -> CoordinatorOptions {
    CoordinatorOptions {
        retention: RetentionPolicy { last: RETAINED, ..RetentionPolicy::default() },
        holder: format!("nexmark_demo {holder}, process {}", std::process::id()),
        ..CoordinatorOptions::default()
    }
}

/// Runs the job to its end.
pub fn run(config: &JobConfig, runtime: &tokio::runtime::Runtime) -> Result<()> {
    match &config.store {
        None => run_in_memory(config),
        Some(store) => run_with_checkpoints(config, store, runtime),
    }
}

/// The reference: no checkpoints, no RocksDB, no store.
fn run_in_memory(config: &JobConfig) -> Result<()> {
    let key_groups = MaxParallelism::new(KEY_GROUPS)?;
    let mut pipeline = Pipeline { auctions: Subtasks::new()?, people: Subtasks::new()? };
    for index in 0..config.parallelism {
        let backend = || HeapBackend::new(key_groups, key_groups.range_of_subtask(index, config.parallelism)?);
        pipeline.auctions.start(backend()?, config.dump.clone(), |_, _| Ok(()))?;
        pipeline.people.start(backend()?, config.dump.clone(), |_, _| Ok(()))?;
    }
    let started = Instant::now();
    let mut source = Source::at(0);
    while source.offset() < config.events {
        let first = source.offset();
        let mut batch = source.next_batch();
        let skipped = config.skip_event.filter(|skipped| (first..source.offset()).contains(skipped));
        if let Some(skipped) = skipped {
            batch.events.remove((skipped - first) as usize);
        }
        pipeline.feed(batch)?;
        say_progress(&source);
    }
    finish(pipeline, config.events, started)
}

fn run_with_checkpoints(config: &JobConfig, store: &str, runtime: &tokio::runtime::Runtime) -> Result<()> {
    let _inside = runtime.enter();
    let env = Env::system()?;
    let store = open_store(store, &env)?;
    let uploaders = Arc::new(Uploaders::default());
    let listeners: Vec<Arc<dyn CheckpointListener>> = vec![uploaders.clone()];
    let coordinator = runtime.block_on(Coordinator::start(
        store.clone(),
        JobId::new(JOB)?,
        operators(config.parallelism)?,
        env.clone(),
        coordinator_options("job"),
        listeners,
    ))?;
    let (done, outcomes) = channel();
    let job = Arc::new(Job { config: config.clone(), coordinator, env, store, done, acknowledged: AtomicU64::new(0) });
    let latest = runtime.block_on(job.coordinator.latest())?;
    let started = Instant::now();
    let mut pipeline = Pipeline { auctions: Subtasks::new()?, people: Subtasks::new()? };
    for index in 0..config.parallelism {
        start_subtask(&job, &mut pipeline.auctions, index, latest.as_ref(), &uploaders, runtime)?;
        start_subtask(&job, &mut pipeline.people, index, latest.as_ref(), &uploaders, runtime)?;
    }
    let source = match &latest {
        None => Source::at(0),
        Some(checkpoint) => Source::restore(&checkpoint.metadata.sources)?,
    };
    if let Some(checkpoint) = &latest {
        say_restored(checkpoint, source.offset(), started);
    }
    drop(latest);
    let (started, offset) = (Instant::now(), source.offset());
    work(&job, &mut pipeline, source, &outcomes)?;
    finish(pipeline, config.events - offset, started)?;
    runtime.block_on(job.coordinator.end())
}

/// Feeds the events, and a barrier after every so many.
fn work(job: &Job, pipeline: &mut Pipeline, mut source: Source, outcomes: &Receiver<Outcome>) -> Result<()> {
    let mut in_flight: Option<InFlight> = None;
    let mut last = (source.offset(), Instant::now());
    while source.offset() < job.config.events {
        pipeline.feed(source.next_batch())?;
        say_progress(&source);
        if source.offset().is_multiple_of(job.config.checkpoint_every) {
            // One at a time. The events go on while one is in flight, up to the next one's turn.
            if let Some(in_flight) = in_flight.take() {
                in_flight.wait(outcomes)?;
            }
            let trigger = job.coordinator.trigger(CheckpointKind::Incremental)?;
            job.coordinator.set_source_positions(trigger.checkpoint, vec![source.position()]);
            pipeline.barrier(&trigger)?;
            let (offset, since) = std::mem::replace(&mut last, (source.offset(), Instant::now()));
            let events_per_second = per_second(source.offset() - offset, since);
            in_flight = Some(InFlight { offset: source.offset(), events_per_second });
        } else if let Ok(outcome) = outcomes.try_recv() {
            in_flight.take().map_or(Ok(()), |in_flight| in_flight.ended(outcome))?;
        }
    }
    in_flight.map_or(Ok(()), |in_flight| in_flight.wait(outcomes))
}

/// A checkpoint's end.
type Outcome = Result<(CheckpointFolder, SnapshotStats)>;

struct InFlight {
    offset: u64,
    events_per_second: u64,
}

impl InFlight {
    fn wait(self, outcomes: &Receiver<Outcome>) -> Result<()> {
        let gone = |_| Error::new(ErrorKind::Internal, "wait for a checkpoint", "nobody is left to complete it");
        self.ended(outcomes.recv().map_err(gone)?)
    }

    fn ended(self, outcome: Outcome) -> Result<()> {
        let (folder, stats) = outcome?;
        say(&Report::Checkpoint(CheckpointRow {
            checkpoint: folder.checkpoint.0,
            offset: self.offset,
            files: stats.files,
            new_files: stats.uploaded_files,
            uploaded_bytes: stats.uploaded_bytes,
            shared_bytes: stats.shared_bytes,
            sync_us: stats.sync_us,
            async_us: stats.async_us,
            events_per_second: self.events_per_second,
        }));
        Ok(())
    }
}

/// What all subtasks share.
struct Job {
    config: JobConfig,
    coordinator: Coordinator,
    env: Env,
    store: StoreRef,
    done: Sender<Outcome>,
    /// Parts of the checkpoint that is held.
    acknowledged: AtomicU64,
}

fn start_subtask<O: Operator + 'static>(
    job: &Arc<Job>,
    subtasks: &mut Subtasks<O>,
    index: u32,
    latest: Option<&Checkpoint>,
    uploaders: &Uploaders,
    runtime: &tokio::runtime::Runtime,
) -> Result<()> {
    let (operator, parallelism) = (OperatorId::new(O::NAME)?, job.config.parallelism);
    let snapshotter = Arc::new(Snapshotter::new(
        SubtaskName { operator: operator.clone(), index },
        job.store.clone(),
        job.env.clone(),
        job.coordinator.broker(),
        SnapshotterOptions::default(),
    ));
    uploaders.0.lock().push(snapshotter.clone());
    let folder = job.config.work.join(format!("{operator}-{index}"));
    let (options, env) = (RocksDbOptions::default(), job.env.clone());
    let task = match latest {
        None => {
            std::fs::create_dir_all(&job.config.work)
                .map_err(|error| Error::io("make the folder", job.config.work.display(), error))?;
            let key_groups = MaxParallelism::new(KEY_GROUPS)?;
            let range = key_groups.range_of_subtask(index, parallelism)?;
            RocksDbTask::new(&folder, key_groups, range, options, snapshotter, env)?
        }
        Some(checkpoint) => {
            let plan = RestorePlan::new(&checkpoint.metadata, &operator, index, parallelism)?;
            let fetch = FetchOptions::default();
            runtime.block_on(RocksDbTask::restore(&plan, checkpoint, &folder, options, snapshotter, env, &fetch))?
        }
    };
    let (job, handle) = (job.clone(), runtime.handle().clone());
    subtasks.start(task, job.config.dump.clone(), move |task, trigger| {
        // The synchronous part holds the subtask up; the rest happens beside it.
        let frozen = task.freeze(&trigger)?;
        let (job, snapshotter) = (job.clone(), task.snapshotter().clone());
        handle.spawn(async move {
            let outcome = match snapshotter.upload(&trigger, frozen).await {
                Ok(part) => job.acknowledge(&trigger, part).await,
                Err(error) => Err(error),
            };
            if let Some(outcome) = outcome.transpose() {
                // The receiver is gone only if the job has ended.
                let _ = job.done.send(outcome);
            }
        });
        Ok(())
    })
}

impl Job {
    async fn acknowledge(
        &self,
        trigger: &Trigger,
        part: icecore::snapshot::SubtaskHandle,
    ) -> Result<Option<(CheckpointFolder, SnapshotStats)>> {
        let is_held = self.config.hold_checkpoint == Some(trigger.checkpoint.0);
        if is_held && self.acknowledged.fetch_add(1, Ordering::SeqCst) > 0 {
            // The part is uploaded, and nobody will ever hear of it.
            return std::future::pending().await;
        }
        match self.coordinator.acknowledge(part).await? {
            Acknowledged::Complete(folder, stats) => Ok(Some((folder, stats))),
            Acknowledged::Discarded(why) => {
                Err(Error::new(ErrorKind::Cancelled, "acknowledge a part", why).with_object(trigger.checkpoint))
            }
            Acknowledged::Awaiting(_) => {
                if is_held {
                    let of = 2 * u64::from(self.config.parallelism);
                    let offset = trigger.checkpoint.0 * self.config.checkpoint_every;
                    say(&Report::Held { checkpoint: trigger.checkpoint.0, offset, acknowledged: 1, of });
                }
                Ok(None)
            }
        }
    }
}

/// Tells the uploaders which checkpoints later ones may build on.
#[derive(Debug, Default)]
struct Uploaders(Mutex<Vec<Arc<Snapshotter>>>);

impl CheckpointListener for Uploaders {
    fn complete(&self, checkpoint: CheckpointFolder) {
        self.0.lock().iter().for_each(|uploader| uploader.notify_complete(checkpoint.checkpoint));
    }

    fn aborted(&self, checkpoint: icecore::layout::CheckpointId, _reason: &str) {
        self.0.lock().iter().for_each(|uploader| uploader.notify_aborted(checkpoint));
    }
}

fn finish(pipeline: Pipeline, events: u64, started: Instant) -> Result<()> {
    pipeline.finish()?;
    say(&Report::Done { events_per_second: per_second(events, started) });
    Ok(())
}

fn say_progress(source: &Source) {
    say(&Report::Progress { offset: source.offset() });
}

fn say_restored(checkpoint: &Checkpoint, offset: u64, started: Instant) {
    let metadata = &checkpoint.metadata;
    say(&Report::Restored {
        checkpoint: metadata.checkpoint.0,
        from_parallelism: metadata.operators.first().map_or(0, |operator| operator.parallelism),
        offset,
        files: metadata.files().count() as u64,
        bytes: metadata.files().map(|file| file.size_bytes).sum(),
        ms: started.elapsed().as_millis() as u64,
    });
}

fn per_second(events: u64, since: Instant) -> u64 {
    (events as f64 / since.elapsed().as_secs_f64().max(0.001)) as u64
}
