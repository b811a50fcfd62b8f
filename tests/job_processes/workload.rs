//! A job whose result is known: it counts numbered records of a source that can be read again from any offset.
//!
//! The source has one split a key group; its records have keys of that group. So whoever owns the group reads the split, after a
//! rescale, too, and no record has to go from one worker to another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use icecore::env::Env;
use icecore::job::RestoredFiles;
use icecore::job::worker::{Assignment, Order, Orders, WorkerHandle, Workload};
use icecore::keygroup::{KeyGroup, MaxParallelism};
use icecore::layout::{OperatorId, SubtaskName};
use icecore::metadata::SourcePosition;
use icecore::restore::{Checkpoint, FetchOptions, RestorePlan};
use icecore::snapshot::{Snapshotter, SnapshotterOptions, Trigger, UploadBroker};
use icecore::state::typed::{KeyContext, ValueState};
use icecore::store::StoreRef;
use icecore::task::HeapTask;
use icecore::{Error, Result};

pub const GROUPS: u32 = 8;
const KEYS_PER_GROUP: usize = 5;
const SOURCE: &str = "numbers";

pub fn operator() -> OperatorId {
    OperatorId::new("counts").unwrap()
}

pub fn groups() -> MaxParallelism {
    MaxParallelism::new(GROUPS).unwrap()
}

/// The first keys of each group.
pub fn keys() -> BTreeMap<KeyGroup, Vec<String>> {
    let mut keys: BTreeMap<KeyGroup, Vec<String>> = BTreeMap::new();
    let mut number = 0;
    while keys.len() < GROUPS as usize || keys.values().any(|keys| keys.len() < KEYS_PER_GROUP) {
        let key = format!("key-{number}");
        let own = keys.entry(groups().key_group_of(&key)).or_default();
        if own.len() < KEYS_PER_GROUP {
            own.push(key);
        }
        number += 1;
    }
    keys
}

/// Record `number` of a split is `number`, for this key.
fn key_of(keys: &[String], number: u64) -> &String {
    &keys[(number % KEYS_PER_GROUP as u64) as usize]
}

/// How many records of each key there are, and their sum, when each split has `total`.
pub fn expected(total: u64) -> BTreeMap<String, (u64, u64)> {
    let mut expected = BTreeMap::new();
    for keys in keys().values() {
        for number in 0..total {
            let (count, sum) = expected.entry(key_of(keys, number).clone()).or_insert((0, 0));
            *count += 1;
            *sum += number;
        }
    }
    expected
}

/// How the counting goes.
#[derive(Clone, Debug)]
pub struct Counting {
    pub store: StoreRef,
    pub env: Env,
    /// Records of each split.
    pub total: u64,
    /// Records of each split between two pauses.
    pub batch: u64,
    pub pause: Duration,
    /// Whether it returns when it has counted everything and a checkpoint of that is complete.
    pub returns: bool,
}

struct Run {
    keys: KeyContext<String, HeapTask>,
    counts: ValueState<(u64, u64)>,
    /// The next record of each split.
    offsets: BTreeMap<KeyGroup, u64>,
}

pub type Counts = KeyContext<String, HeapTask>;

pub fn counts(keys: &mut Counts) -> Result<ValueState<(u64, u64)>> {
    keys.value_state::<(u64, u64)>("count")
}

/// The offset of each split at a checkpoint.
pub fn offsets(sources: &[SourcePosition]) -> BTreeMap<KeyGroup, u64> {
    let offset = |source: &SourcePosition| {
        let bytes: [u8; 8] = source.position.as_slice().try_into().unwrap();
        (source.split.parse().unwrap(), u64::from_le_bytes(bytes))
    };
    sources.iter().map(offset).collect()
}

impl Counting {
    fn snapshotter(&self, index: u32, broker: Arc<dyn UploadBroker>) -> Arc<Snapshotter> {
        let subtask = SubtaskName { operator: operator(), index };
        let options = SnapshotterOptions::default();
        Arc::new(Snapshotter::new(subtask, self.store.clone(), self.env.clone(), broker, options))
    }

    /// The state of subtask `index` of `parallelism` at a checkpoint.
    pub async fn restore(
        &self,
        checkpoint: &Checkpoint,
        index: u32,
        parallelism: u32,
        broker: Arc<dyn UploadBroker>,
    ) -> Result<Counts> {
        let plan = RestorePlan::new(&checkpoint.metadata, &operator(), index, parallelism)?;
        let (snapshotter, env) = (self.snapshotter(index, broker), self.env.clone());
        let task = HeapTask::restore(&plan, checkpoint, snapshotter, env, &FetchOptions::default()).await?;
        Ok(KeyContext::new(task))
    }

    async fn begin(&self, assignment: &Assignment, handle: &WorkerHandle) -> Result<Run> {
        let deployment = &assignment.deployment;
        let (index, range) = (deployment.worker, deployment.operators[0].key_groups);
        let mut keys = match &assignment.checkpoint {
            Some(checkpoint) => self.restore(checkpoint, index, deployment.workers(), handle.broker()).await?,
            None => {
                let snapshotter = self.snapshotter(index, handle.broker());
                KeyContext::new(HeapTask::new(groups(), range, snapshotter, self.env.clone())?)
            }
        };
        handle.note_restored(RestoredFiles::default());
        let counts = counts(&mut keys)?;
        let known = offsets(assignment.sources());
        let offsets = range.iter().map(|group| (group, known.get(&group).copied().unwrap_or(0))).collect();
        Ok(Run { keys, counts, offsets })
    }
}

impl Run {
    async fn snapshot(&mut self, trigger: &Trigger, handle: &WorkerHandle) -> Result<()> {
        let frozen = self.keys.backend_mut().freeze(trigger)?;
        let position = |(group, offset): (&KeyGroup, &u64)| SourcePosition {
            source: SOURCE.to_owned(),
            split: group.to_string(),
            position: offset.to_le_bytes().to_vec(),
        };
        let sources = self.offsets.iter().map(position).collect();
        let snapshotter = self.keys.backend().snapshotter().clone();
        match snapshotter.upload(trigger, frozen).await {
            Ok(part) => handle.acknowledge(part, sources).await,
            Err(error) => handle.decline(trigger.checkpoint, operator(), error.message()).await,
        }
    }

    fn count(&mut self, group: KeyGroup, key: &String, handle: &WorkerHandle) -> Result<()> {
        let offset = self.offsets.get_mut(&group).unwrap();
        self.keys.set_current_key(key)?;
        let (count, sum) = self.counts.get(&self.keys)?.unwrap_or((0, 0));
        self.counts.set(&mut self.keys, &(count + 1, sum + *offset))?;
        *offset += 1;
        handle.step();
        Ok(())
    }
}

#[async_trait]
impl Workload for Counting {
    async fn run(self: Box<Self>, assignment: Assignment, mut orders: Orders, handle: WorkerHandle) -> Result<()> {
        let mut run = self.begin(&assignment, &handle).await?;
        let all = keys();
        let mut ended_at = None;
        loop {
            let is_over = run.offsets.values().all(|offset| *offset == self.total);
            handle.set_has_input(!is_over);
            let order = if is_over { orders.next().await } else { orders.try_next() };
            match order {
                Some(Order::Trigger { trigger, .. }) => {
                    if is_over {
                        ended_at.get_or_insert(trigger.checkpoint);
                    }
                    // It is given up if this worker's answer fails for another reason than being out of the job.
                    if let Err(error) = run.snapshot(&trigger, &handle).await {
                        eprintln!("checkpoint {}: {error}", trigger.checkpoint);
                    }
                }
                Some(Order::Complete(folder)) => {
                    run.keys.backend_mut().notify_complete(folder.checkpoint);
                    if self.returns && ended_at.is_some_and(|ended| ended <= folder.checkpoint) {
                        return Ok(());
                    }
                }
                Some(Order::SavepointComplete(_) | Order::Epochs(_) | Order::Pause | Order::Close) => {}
                Some(Order::Aborted { checkpoint, .. }) => run.keys.backend_mut().notify_aborted(checkpoint),
                None if is_over => return Err(Error::new(icecore::ErrorKind::Cancelled, "count", "no more orders")),
                None => {
                    for (group, keys) in
                        all.iter().filter(|(group, _)| run.offsets.contains_key(*group)).collect::<Vec<_>>()
                    {
                        for _ in 0..self.batch {
                            let offset = run.offsets[group];
                            if offset < self.total {
                                run.count(*group, key_of(keys, offset), &handle)?;
                            }
                        }
                    }
                    tokio::time::sleep(self.pause).await;
                }
            }
        }
    }
}
