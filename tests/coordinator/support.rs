//! A store in memory with faults and counters, subtasks whose files are made by hand, and what must
//! be true of the store at any time.
#![allow(dead_code)]

#[path = "../support/controlled_env.rs"]
mod controlled_env;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use controlled_env::{Time, controlled_env};
use futures::StreamExt;
use icecore::Result;
use icecore::coordinator::{
    Acknowledged, CheckpointListener, Coordinator, CoordinatorOptions, OperatorDescription, RetentionPolicy, Supervisor,
};
use icecore::env::Env;
use icecore::keygroup::MaxParallelism;
use icecore::layout::{CheckpointFolder, CheckpointId, FileKind, JobId, JobLayout, OperatorId, Place, SubtaskName};
use icecore::metadata::{Backend, CheckpointKind, CheckpointMetadata, FileIdentity};
use icecore::ownership::JobView;
use icecore::snapshot::{
    FileSource, Known, LocalFile, LocalSnapshot, Placing, Snapshotter, SnapshotterOptions, SubtaskHandle, Trigger,
    UploadBroker,
};
use icecore::store::testing::{CountingStore, FaultyStore};
use icecore::store::{OpendalStore, StorePath, StoreRef};
use parking_lot::Mutex;
use sha2::Digest as _;

pub const OPERATOR: &str = "op";

/// One store, one clock, one job.
pub struct World {
    pub memory: StoreRef,
    pub counting: Arc<CountingStore>,
    pub store: Arc<FaultyStore>,
    pub env: Env,
    pub time: Arc<Time>,
    pub layout: JobLayout,
    identities: Arc<AtomicU64>,
}

impl World {
    pub fn new() -> Self {
        let (env, time) = controlled_env();
        Self::on(env, time)
    }

    fn on(env: Env, time: Arc<Time>) -> Self {
        let memory: StoreRef = Arc::new(OpendalStore::memory(env.clone()).unwrap());
        let counting = CountingStore::new(Arc::clone(&memory));
        let store = FaultyStore::new(Arc::clone(&counting) as StoreRef);
        let layout = JobLayout::new(job()).unwrap();
        Self { memory, counting, store, env, time, layout, identities: Arc::default() }
    }

    /// Another store in the same world: no random number comes twice.
    pub fn beside(&self) -> Self {
        Self::on(self.env.clone(), Arc::clone(&self.time))
    }

    /// A coordinator over the store with faults, for `subtasks` subtasks.
    pub async fn coordinator(&self, subtasks: u32, options: CoordinatorOptions) -> Coordinator {
        self.try_coordinator(subtasks, options).await.unwrap()
    }

    pub async fn try_coordinator(&self, subtasks: u32, options: CoordinatorOptions) -> Result<Coordinator> {
        self.coordinator_on(Arc::clone(&self.store) as StoreRef, subtasks, options, Vec::new()).await
    }

    pub async fn coordinator_on(
        &self,
        store: StoreRef,
        subtasks: u32,
        options: CoordinatorOptions,
        listeners: Vec<Arc<dyn CheckpointListener>>,
    ) -> Result<Coordinator> {
        Coordinator::start(store, job(), operators(subtasks), self.env.clone(), options, listeners).await
    }

    /// A subtask that runs beside `coordinator`.
    pub fn task(&self, coordinator: &Coordinator, index: u32, subtasks: u32) -> Task {
        self.task_on(Arc::clone(&self.store) as StoreRef, coordinator, index, subtasks)
    }

    pub fn task_on(&self, store: StoreRef, coordinator: &Coordinator, index: u32, subtasks: u32) -> Task {
        self.task_with(store, coordinator.broker(), index, subtasks)
    }

    /// A subtask that outlives coordinators.
    pub fn supervised_task(&self, supervisor: &Arc<Supervisor>, index: u32, subtasks: u32) -> Task {
        self.task_with(Arc::clone(&self.store) as StoreRef, supervisor.broker(), index, subtasks)
    }

    fn task_with(&self, store: StoreRef, broker: Arc<dyn UploadBroker>, index: u32, subtasks: u32) -> Task {
        let options = SnapshotterOptions::default();
        let snapshotter = Snapshotter::new(subtask(index), store, self.env.clone(), broker, options);
        Task {
            snapshotter,
            subtasks,
            index,
            files: BTreeMap::new(),
            opened: Arc::default(),
            identities: Arc::clone(&self.identities),
        }
    }

    pub async fn view(&self) -> JobView {
        JobView::read(&*self.memory, &self.layout).await.unwrap()
    }

    /// Every object and its length.
    pub async fn objects(&self) -> BTreeMap<StorePath, u64> {
        let mut listing = self.memory.list(None);
        let mut objects = BTreeMap::new();
        while let Some(object) = listing.next().await {
            let object = object.unwrap();
            objects.insert(object.path, object.size_bytes);
        }
        objects
    }

    pub async fn shared(&self) -> BTreeMap<StorePath, u64> {
        let shared = self.layout.shared().unwrap();
        self.objects().await.into_iter().filter(|(path, _)| path.below(&shared).is_some()).collect()
    }

    pub async fn read(&self, path: &StorePath) -> Option<Bytes> {
        let size = self.memory.stat(path).await.ok()?.size_bytes;
        Some(self.memory.read(path, 0..size).await.unwrap())
    }

    /// I1: every file of every checkpoint that counts is there, with the recorded length and hash.
    pub async fn assert_sound(&self, when: &str) {
        let view = self.view().await;
        assert!(view.blockers.is_empty(), "{when}: {:?}", view.blockers);
        for (folder, checkpoint) in &view.checkpoints {
            let metadata = checkpoint.content.as_ref().unwrap_or_else(|e| panic!("{when}: {folder}: {e:?}"));
            for file in metadata.files() {
                let path = view.object_at(metadata, file).unwrap();
                let Some(bytes) = self.read(&path).await else {
                    panic!("{when}: {folder} counts, and its file {} is gone: {path}", file.local_name);
                };
                assert_eq!(sha256(&bytes), file.sha256.0, "{when}: {folder}: {path}");
                assert_eq!(bytes.len() as u64, file.size_bytes, "{when}: {folder}: {path}");
            }
        }
    }

    /// I5: what lies there is what the checkpoints that count reference, their indexes, and records.
    pub async fn assert_exact(&self, when: &str) {
        let view = self.view().await;
        let mut wanted = BTreeSet::new();
        for (folder, checkpoint) in &view.checkpoints {
            wanted.insert(self.layout.metadata(*folder).unwrap());
            wanted.extend(view.references(checkpoint.content.as_ref().unwrap()));
        }
        let data = |path: &StorePath| {
            let place = Place::of(&self.layout, path);
            matches!(place, Some(Place::Shared(_) | Place::Metadata(_) | Place::Private(_) | Place::Foreign))
        };
        let there: BTreeSet<StorePath> = self.objects().await.into_keys().filter(data).collect();
        let surplus: Vec<_> = there.difference(&wanted).collect();
        let missing: Vec<_> = wanted.difference(&there).collect();
        assert!(surplus.is_empty() && missing.is_empty(), "{when}: surplus {surplus:#?}, missing {missing:#?}");
    }

    pub async fn metadata(&self, folder: CheckpointFolder) -> Arc<CheckpointMetadata> {
        let view = self.view().await;
        view.checkpoints.get(&folder).unwrap_or_else(|| panic!("{folder} does not count")).content.clone().unwrap()
    }

    /// The numbers of the checkpoints that count.
    pub async fn counting_ids(&self) -> Vec<u64> {
        self.view().await.checkpoints.keys().map(|folder| folder.checkpoint.0).collect()
    }

    /// The shared objects in which the files of a checkpoint lie, by local name.
    pub async fn objects_of(&self, folder: CheckpointFolder) -> BTreeMap<String, StorePath> {
        let view = self.view().await;
        let metadata = self.metadata(folder).await;
        metadata.files().map(|file| (file.local_name.to_string(), view.object_at(&metadata, file).unwrap())).collect()
    }
}

/// One subtask: its files as they are now, and its uploader.
pub struct Task {
    pub snapshotter: Snapshotter,
    subtasks: u32,
    index: u32,
    pub files: BTreeMap<String, (Vec<u8>, FileIdentity)>,
    /// How many files were opened.
    pub opened: Arc<AtomicU64>,
    identities: Arc<AtomicU64>,
}

impl Task {
    /// A new file, of an identity of its own.
    pub fn write(&mut self, name: &str, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref().to_vec();
        let unique_id = [self.identities.fetch_add(1, Ordering::SeqCst), 1];
        let identity = FileIdentity { unique_id, size_bytes: bytes.len() as u64, sequences: [0, 0] };
        self.files.insert(name.to_owned(), (bytes, identity));
    }

    pub fn remove(&mut self, name: &str) {
        self.files.remove(name).unwrap();
    }

    pub fn local_files(&self) -> Vec<LocalFile> {
        let file = |(name, (bytes, identity)): (&String, &(Vec<u8>, FileIdentity))| {
            let (bytes, opened) = (Bytes::from(bytes.clone()), Arc::clone(&self.opened));
            let make = move || {
                opened.fetch_add(1, Ordering::SeqCst);
                Ok(bytes.clone())
            };
            LocalFile {
                local_name: StorePath::new(name.as_str()).unwrap(),
                kind: FileKind::Sst,
                source: FileSource::Made(Arc::new(make)),
                placing: if name.starts_with("private") { Placing::Private } else { Placing::Shared },
                known: if name.starts_with("private") { Known::No } else { Known::Identity(*identity) },
                key_groups: None,
                table: None,
            }
        };
        self.files.iter().map(file).collect()
    }

    pub fn snapshot(&self) -> LocalSnapshot {
        let groups = MaxParallelism::new(128).unwrap();
        LocalSnapshot {
            backend: Backend::RocksDb,
            key_groups: Some(groups.range_of_subtask(self.index, self.subtasks).unwrap()),
            states: Vec::new(),
            files: self.local_files(),
            sync_us: 1,
            beside_us: 0,
            prepare: None,
            hold: None,
        }
    }

    pub async fn upload(&self, trigger: &Trigger) -> Result<SubtaskHandle> {
        self.snapshotter.upload(trigger, self.snapshot()).await
    }

    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }

    /// Takes over the state of another one, as after a restore of `metadata`.
    pub fn restored_from(mut self, other: &Task, metadata: &CheckpointMetadata) -> Self {
        self.files = other.files.clone();
        let parts = metadata.operators.iter().flat_map(|operator| &operator.subtasks);
        let files = parts.filter(|part| part.index == self.index).flat_map(|part| part.files.clone());
        self.snapshotter.remember(metadata.folder(), files);
        self
    }
}

/// A job of one subtask.
pub async fn one_task(options: CoordinatorOptions) -> (World, Arc<Coordinator>, Task) {
    let world = World::new();
    let coordinator = world.coordinator(1, options).await;
    let task = world.task(&coordinator, 0, 1);
    (world, Arc::new(coordinator), task)
}

/// A job of two subtasks.
pub async fn two_tasks(options: CoordinatorOptions) -> (World, Arc<Coordinator>, [Task; 2]) {
    let world = World::new();
    let coordinator = world.coordinator(2, options).await;
    let tasks = [0, 1].map(|index| world.task(&coordinator, index, 2));
    (world, Arc::new(coordinator), tasks)
}

/// A job that somebody listens to, and what that one was told.
pub async fn listened_to(options: CoordinatorOptions) -> (World, Arc<Coordinator>, Task, Arc<Told>) {
    let (world, told) = (World::new(), Arc::new(Told::default()));
    let listeners = vec![Arc::clone(&told) as Arc<dyn CheckpointListener>];
    let store = Arc::clone(&world.store) as StoreRef;
    let coordinator = world.coordinator_on(store, 1, options, listeners).await.unwrap();
    let task = world.task(&coordinator, 0, 1);
    (world, Arc::new(coordinator), task, told)
}

/// Two checkpoints without a file in common, of which the first may be dropped.
pub async fn two_checkpoints(coordinator: &Coordinator, task: &mut Task) -> [CheckpointFolder; 2] {
    task.write("1.sst", "a");
    let first = checkpoint(coordinator, &[task]).await;
    task.write("1.sst", "b");
    [first, checkpoint(coordinator, &[task]).await]
}

/// What asks for a checkpoint to be dropped.
pub fn asked(folder: CheckpointFolder) -> Vec<(CheckpointFolder, String)> {
    vec![(folder, "asked for".to_owned())]
}

/// An acknowledgement on its way, for a test that stops it somewhere.
pub fn acknowledging(
    coordinator: &Arc<Coordinator>,
    handle: SubtaskHandle,
) -> tokio::task::JoinHandle<Result<Acknowledged>> {
    let coordinator = Arc::clone(coordinator);
    tokio::spawn(async move { coordinator.acknowledge(handle).await })
}

pub fn is_discarded(acknowledged: &Acknowledged) -> bool {
    matches!(acknowledged, Acknowledged::Discarded(_))
}

/// A whole checkpoint.
pub async fn checkpoint(coordinator: &Coordinator, tasks: &[&Task]) -> CheckpointFolder {
    checkpoint_of(coordinator, tasks, CheckpointKind::Incremental).await
}

pub async fn checkpoint_of(coordinator: &Coordinator, tasks: &[&Task], kind: CheckpointKind) -> CheckpointFolder {
    let trigger = coordinator.trigger(kind).unwrap();
    finish(coordinator, tasks, &trigger).await
}

/// Every subtask uploads and acknowledges; the checkpoint must be complete then.
pub async fn finish(coordinator: &Coordinator, tasks: &[&Task], trigger: &Trigger) -> CheckpointFolder {
    let mut last = None;
    for task in tasks {
        last = Some(coordinator.acknowledge(task.upload(trigger).await.unwrap()).await.unwrap());
    }
    let Some(Acknowledged::Complete(folder, _)) = last else { panic!("not complete: {last:?}") };
    for task in tasks {
        task.snapshotter.notify_complete(folder.checkpoint);
    }
    folder
}

pub fn job() -> JobId {
    JobId::new("j").unwrap()
}

pub fn subtask(index: u32) -> SubtaskName {
    SubtaskName { operator: OperatorId::new(OPERATOR).unwrap(), index }
}

pub fn operators(subtasks: u32) -> Vec<OperatorDescription> {
    vec![OperatorDescription {
        operator: OperatorId::new(OPERATOR).unwrap(),
        parallelism: subtasks,
        max_parallelism: 128,
    }]
}

/// Keeps the last `last`, forgives failures.
pub fn keep(last: u32) -> CoordinatorOptions {
    CoordinatorOptions {
        retention: RetentionPolicy { last, ..RetentionPolicy::default() },
        tolerable_failures: 1_000_000,
        max_concurrent: 8,
        ..CoordinatorOptions::default()
    }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    sha2::Sha256::digest(bytes).into()
}

/// What listeners were told, in order.
#[derive(Debug, Default)]
pub struct Told(pub Mutex<Vec<String>>);

impl CheckpointListener for Told {
    fn complete(&self, checkpoint: CheckpointFolder) {
        self.0.lock().push(format!("complete {}", checkpoint.checkpoint));
    }

    fn aborted(&self, checkpoint: CheckpointId, _reason: &str) {
        self.0.lock().push(format!("aborted {checkpoint}"));
    }

    fn subsumed(&self, checkpoint: CheckpointFolder) {
        self.0.lock().push(format!("subsumed {}", checkpoint.checkpoint));
    }
}
