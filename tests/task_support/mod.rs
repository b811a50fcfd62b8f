//! A job of one operator, with real tasks, coordinator and store, beside a model of what it should hold.
#![allow(dead_code)]

#[path = "../support/test_store.rs"]
pub mod test_store;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use icecore::Result;
use icecore::coordinator::{Acknowledged, Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::keygroup::MaxParallelism;
use icecore::layout::{CheckpointId, JobId, OperatorId, SubtaskName};
use icecore::metadata::CheckpointKind;
use icecore::restore::{Checkpoint, FetchOptions, RestorePlan, read_checkpoint};
use icecore::snapshot::{LocalSnapshot, SnapshotStats, Snapshotter, SnapshotterOptions, Trigger};
use icecore::state::KeyedBackend;
#[cfg(feature = "rocksdb")]
use icecore::state::rocksdb::RocksDbOptions;
use icecore::store::testing::CountingStore;
use icecore::store::{StorePath, StoreRef};
use icecore::task::HeapTask;
#[cfg(feature = "rocksdb")]
use icecore::task::RocksDbTask;

use super::state_model::{Model, Operation, Place, Subject};

/// Where the tasks keep their state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Heap,
    #[cfg(feature = "rocksdb")]
    RocksDb,
}

/// Both kinds of task.
pub trait Task: KeyedBackend {
    fn freeze_now(&mut self, trigger: &Trigger) -> Result<LocalSnapshot>;
    fn uploader(&self) -> Arc<Snapshotter>;
    fn complete(&mut self, checkpoint: CheckpointId);
}

impl Task for HeapTask {
    fn freeze_now(&mut self, trigger: &Trigger) -> Result<LocalSnapshot> {
        self.freeze(trigger)
    }
    fn uploader(&self) -> Arc<Snapshotter> {
        self.snapshotter().clone()
    }
    fn complete(&mut self, checkpoint: CheckpointId) {
        self.notify_complete(checkpoint);
    }
}

#[cfg(feature = "rocksdb")]
impl Task for RocksDbTask {
    fn freeze_now(&mut self, trigger: &Trigger) -> Result<LocalSnapshot> {
        self.freeze(trigger)
    }
    fn uploader(&self) -> Arc<Snapshotter> {
        self.snapshotter().clone()
    }
    fn complete(&mut self, checkpoint: CheckpointId) {
        self.notify_complete(checkpoint);
    }
}

/// Tiny buffers and files, so that little data makes many tables and compactions.
#[cfg(feature = "rocksdb")]
pub fn tiny() -> RocksDbOptions {
    RocksDbOptions { write_buffer_bytes: 64 << 10, target_file_bytes: 16 << 10, ..RocksDbOptions::default() }
}

pub fn operator() -> OperatorId {
    OperatorId::new("op").unwrap()
}

/// What a job runs on, and how.
pub struct Setting {
    pub store: StoreRef,
    pub env: Env,
    pub coordinator: CoordinatorOptions,
    pub snapshotter: SnapshotterOptions,
    #[cfg(feature = "rocksdb")]
    pub database: RocksDbOptions,
}

impl Setting {
    /// The defaults, on `store`.
    pub fn on(store: StoreRef, env: Env) -> Self {
        Self {
            store,
            env,
            coordinator: CoordinatorOptions::default(),
            snapshotter: SnapshotterOptions::default(),
            #[cfg(feature = "rocksdb")]
            database: tiny(),
        }
    }
}

pub struct Cluster {
    pub folder: tempfile::TempDir,
    /// Where the store is, if [`Cluster::start`] chose it.
    pub address: String,
    pub counting: Arc<CountingStore>,
    pub store: StoreRef,
    pub env: Env,
    pub max: MaxParallelism,
    pub coordinator: Coordinator,
    pub tasks: Vec<Subject<Box<dyn Task>>>,
    /// What the tasks should hold.
    pub model: Model,
    /// What they held at the last checkpoint.
    pub at_checkpoint: Model,
    launches: u32,
    snapshotter_options: SnapshotterOptions,
    #[cfg(feature = "rocksdb")]
    database_options: RocksDbOptions,
}

impl Cluster {
    /// On a store of the kind that this run tests.
    pub async fn start(kind: Kind, max: u32, parallelism: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = Env::system().unwrap();
        let address = test_store::fresh_address(folder.path());
        let setting = Setting::on(test_store::open_at(&address, &env), env);
        Self::start_in(folder, address, setting, kind, (max, parallelism)).await
    }

    pub async fn start_on(setting: Setting, kind: Kind, max: u32, parallelism: u32) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), String::new(), setting, kind, (max, parallelism)).await
    }

    async fn start_in(
        folder: tempfile::TempDir,
        address: String,
        setting: Setting,
        kind: Kind,
        (max, parallelism): (u32, u32),
    ) -> Self {
        let Setting { store, env, coordinator: coordinator_options, snapshotter: snapshotter_options, .. } = setting;
        let counting = CountingStore::new(store);
        let store: StoreRef = counting.clone();
        let operators = vec![described(max, parallelism)];
        let coordinator = Coordinator::start(store.clone(), job(), operators, env.clone(), coordinator_options, vec![])
            .await
            .unwrap();
        let mut cluster = Self {
            folder,
            address,
            counting,
            store,
            env,
            max: MaxParallelism::new(max).unwrap(),
            coordinator,
            tasks: vec![],
            model: Model::default(),
            at_checkpoint: Model::default(),
            launches: 0,
            snapshotter_options,
            #[cfg(feature = "rocksdb")]
            database_options: setting.database,
        };
        for index in 0..parallelism {
            let task = cluster.new_task(kind, index, parallelism);
            cluster.tasks.push(Subject::over(task).unwrap());
        }
        cluster
    }

    pub fn snapshotter(&self, index: u32) -> Arc<Snapshotter> {
        let subtask = SubtaskName { operator: operator(), index };
        let (store, env, options) = (self.store.clone(), self.env.clone(), self.snapshotter_options.clone());
        Arc::new(Snapshotter::new(subtask, store, env, self.coordinator.broker(), options))
    }

    /// A folder for a database that was never used before.
    pub fn fresh_folder(&mut self) -> PathBuf {
        self.launches += 1;
        self.folder.path().join(format!("task-{}", self.launches))
    }

    fn new_task(&mut self, kind: Kind, index: u32, parallelism: u32) -> Box<dyn Task> {
        let (range, snapshotter) = (self.max.range_of_subtask(index, parallelism).unwrap(), self.snapshotter(index));
        match kind {
            Kind::Heap => Box::new(HeapTask::new(self.max, range, snapshotter, self.env.clone()).unwrap()),
            #[cfg(feature = "rocksdb")]
            Kind::RocksDb => {
                let folder = self.fresh_folder();
                let options = self.database_options.clone();
                Box::new(RocksDbTask::new(&folder, self.max, range, options, snapshotter, self.env.clone()).unwrap())
            }
        }
    }

    pub async fn restored_task(&mut self, kind: Kind, plan: &RestorePlan, from: &Checkpoint) -> Result<Box<dyn Task>> {
        let (snapshotter, env, options) = (self.snapshotter(plan.subtask), self.env.clone(), FetchOptions::default());
        Ok(match kind {
            Kind::Heap => Box::new(HeapTask::restore(plan, from, snapshotter, env, &options).await?),
            #[cfg(feature = "rocksdb")]
            Kind::RocksDb => {
                let folder = self.fresh_folder();
                let database = self.database_options.clone();
                Box::new(RocksDbTask::restore(plan, from, &folder, database, snapshotter, env, &options).await?)
            }
        })
    }

    /// The task that an operation belongs to; `None`: all.
    fn owner(&self, operation: &Operation) -> Option<usize> {
        let (key, _) = place_of(operation)?;
        let group = self.max.key_group_of(key);
        Some(self.max.subtask_of_group(group, self.tasks.len() as u32).unwrap() as usize)
    }

    pub fn apply(&mut self, operation: &Operation) {
        let fired = match self.owner(operation) {
            Some(owner) => self.tasks[owner].apply(operation),
            None => self.tasks.iter_mut().flat_map(|task| task.apply(operation)).collect::<BTreeSet<_>>(),
        };
        assert_eq!(fired, self.model.apply(operation));
    }

    /// Takes a checkpoint; all of its parts are there when this returns.
    pub async fn checkpoint(&mut self, kind: CheckpointKind) -> SnapshotStats {
        let trigger = self.coordinator.trigger(kind).unwrap();
        self.complete(&trigger).await
    }

    pub async fn savepoint(&mut self, path: &str) -> SnapshotStats {
        let trigger = self.coordinator.trigger_savepoint(&StorePath::new(path).unwrap()).await.unwrap();
        self.complete(&trigger).await
    }

    async fn complete(&mut self, trigger: &Trigger) -> SnapshotStats {
        self.try_complete(trigger).await.unwrap()
    }

    /// All subtasks take part in a checkpoint. What fails is told, and everything is left as it is then.
    pub async fn try_complete(&mut self, trigger: &Trigger) -> Result<SnapshotStats> {
        let freeze = |task: &mut Subject<Box<dyn Task>>| task.context.backend_mut().freeze_now(trigger);
        let frozen: Vec<_> = self.tasks.iter_mut().map(freeze).collect::<Result<_>>()?;
        let mut outcome = None;
        for (task, frozen) in self.tasks.iter().zip(frozen) {
            let handle = task.context.backend().uploader().upload(trigger, frozen).await?;
            outcome = Some(self.coordinator.acknowledge(handle).await?);
        }
        for task in &mut self.tasks {
            task.context.backend_mut().complete(trigger.checkpoint);
        }
        self.at_checkpoint = self.model.clone();
        match outcome {
            Some(Acknowledged::Complete(_, stats)) => Ok(stats),
            other => panic!("not complete: {other:?}"),
        }
    }

    /// Throws the tasks away and restores them from the newest checkpoint.
    pub async fn restart(&mut self, kind: Kind, parallelism: u32) {
        let latest = self.coordinator.latest().await.unwrap().unwrap();
        self.restart_from(&latest, kind, parallelism).await;
    }

    pub async fn restart_from(&mut self, from: &Checkpoint, kind: Kind, parallelism: u32) {
        self.tasks.clear();
        self.coordinator.restart_tasks(vec![described(self.max.get(), parallelism)]).unwrap();
        for index in 0..parallelism {
            let plan = RestorePlan::new(&from.metadata, &operator(), index, parallelism).unwrap();
            let task = self.restored_task(kind, &plan, from).await.unwrap();
            self.tasks.push(Subject::over(task).unwrap());
        }
        self.model = self.at_checkpoint.clone();
    }

    /// Compares all state, key by key, with the model (I10).
    pub fn assert_equals_model(&mut self, when: &str) {
        let mut found = Model::default();
        for task in &mut self.tasks {
            found.merge(task.read().unwrap());
        }
        assert!(found == self.model, "{when}: the state differs from the model");
    }

    pub async fn open_savepoint(&self, path: &str) -> Checkpoint {
        read_checkpoint(self.store.clone(), Some(StorePath::new(path).unwrap())).await.unwrap()
    }
}

pub fn job() -> JobId {
    JobId::new("test").unwrap()
}

pub fn described(max_parallelism: u32, parallelism: u32) -> OperatorDescription {
    OperatorDescription { operator: operator(), parallelism, max_parallelism }
}

pub async fn coordinator(store: &StoreRef, env: &Env, max: u32, parallelism: u32) -> Result<Coordinator> {
    let operators = vec![described(max, parallelism)];
    Coordinator::start(store.clone(), job(), operators, env.clone(), CoordinatorOptions::default(), vec![]).await
}

fn place_of(operation: &Operation) -> Option<&Place> {
    use Operation::*;
    match operation {
        Advance(_) => None,
        SetValue(place, _) | ClearValue(place) | AddToList(place, _) | SetList(place, _) | ClearList(place) => {
            Some(place)
        }
        PutInMap(place, ..) | RemoveFromMap(place, _) | ClearMap(place) | Reduce(place, _) => Some(place),
        ClearReduced(place) | Aggregate(place, _) | ClearAggregated(place) => Some(place),
        Register(place, _) | DeleteTimer(place, _) => Some(place),
    }
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

    /// Sets, appends, deletes and timers over `keys` keys.
    pub fn operation(&mut self, keys: u64) -> Operation {
        use Operation::*;
        let namespace = if self.roll(10) == 0 { b"window".to_vec() } else { Vec::new() };
        let place = (format!("key-{}", self.roll(keys)), namespace);
        let number = self.roll(1 << 32) as u32;
        let small = self.roll(8) as i16;
        match self.roll(40) {
            0..8 => SetValue(place, number),
            8..10 => ClearValue(place),
            10..16 => AddToList(place, number as u16),
            16 => SetList(place, vec![1, 2, number as u16]),
            17 => ClearList(place),
            18..24 => PutInMap(place, small, format!("{number:x}-{:x}-{:x}", self.roll(u64::MAX), self.roll(u64::MAX))),
            24..26 => RemoveFromMap(place, small),
            26 => ClearMap(place),
            27..30 => Reduce(place, number),
            30 => ClearReduced(place),
            31..34 => Aggregate(place, number),
            34 => ClearAggregated(place),
            35..39 => Register(place, self.roll(1_000_000) as i64),
            _ => DeleteTimer(place, self.roll(1_000_000) as i64),
        }
    }
}
