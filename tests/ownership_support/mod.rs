//! A store in memory, parties that live on it, and what must be true of it at any time.
#![allow(dead_code)]

#[path = "../support/controlled_env.rs"]
mod controlled_env;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use controlled_env::{Time, controlled_env};
use futures::StreamExt;
use futures::stream::BoxStream;
use icecore::env::Env;
use icecore::gc::{Collector, GcReport, Holdings, Judge, Progress, SweepScope, plan_drop, plan_sweep};
use icecore::keygroup::KeyGroupRange;
use icecore::layout::{
    CheckpointFolder, CheckpointId, ContentHash, FileKind, JobId, JobLayout, OperatorId, Place, SharedName, Tag, Uid,
};
use icecore::metadata::{
    Backend, CheckpointKind, CheckpointMetadata, Encoding, FileEntry, Location, OperatorState, SubtaskState, encode,
};
use icecore::ownership::{Claimed, JobView, Tenure};
use icecore::store::{Child, ObjectMeta, ObjectWriter, Store, StorePath, StoreRef};
use icecore::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// Objects in a map.
#[derive(Debug, Default)]
pub struct MemStore {
    objects: Mutex<BTreeMap<StorePath, Bytes>>,
}

impl MemStore {
    pub fn paths(&self) -> BTreeSet<String> {
        self.objects.lock().keys().map(ToString::to_string).collect()
    }

    pub fn has(&self, path: &StorePath) -> bool {
        self.objects.lock().contains_key(path)
    }

    pub fn overwrite(&self, path: &StorePath, bytes: &'static [u8]) {
        self.objects.lock().insert(path.clone(), Bytes::from_static(bytes));
    }

    pub fn remove(&self, path: &StorePath) -> Option<Bytes> {
        self.objects.lock().remove(path)
    }
}

#[async_trait]
impl Store for MemStore {
    fn describe(&self) -> String {
        "map:".to_owned()
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        let before = self.objects.lock().insert(path.clone(), bytes);
        assert!(before.is_none(), "the name {path} was used twice");
        Ok(())
    }

    async fn create(&self, _path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        Err(Error::new(ErrorKind::Internal, "create", "not needed here"))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        let objects = self.objects.lock();
        let bytes = objects.get(path).ok_or_else(|| missing(path))?;
        let range = range.start as usize..range.end as usize;
        bytes.get(range.clone()).ok_or_else(|| Error::corrupt("read", path, "too short"))?;
        Ok(bytes.slice(range))
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        let objects = self.objects.lock();
        let bytes = objects.get(path).ok_or_else(|| missing(path))?;
        Ok(ObjectMeta { path: path.clone(), size_bytes: bytes.len() as u64 })
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        // Item by item, so that what changes meanwhile is seen or not, as in a listing of many pages.
        let prefix = prefix.cloned();
        let next = move |after: Option<StorePath>| {
            let objects = self.objects.lock();
            let inside = |path: &StorePath| prefix.as_ref().is_none_or(|prefix| path.below(prefix).is_some());
            let mut rest = objects.iter().filter(|(path, _)| after.as_ref().is_none_or(|after| *path > after));
            let (path, bytes) = rest.find(|(path, _)| inside(path))?;
            Some((ObjectMeta { path: path.clone(), size_bytes: bytes.len() as u64 }, Some(path.clone())))
        };
        futures::stream::unfold(None, move |after| std::future::ready(next(after).map(|(meta, at)| (Ok(meta), at))))
            .boxed()
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        let mut children = BTreeMap::new();
        for (path, bytes) in self.objects.lock().iter() {
            let below = match prefix {
                None => Some(path.as_str()),
                Some(prefix) => path.below(prefix),
            };
            let Some(below) = below else { continue };
            match below.split_once('/') {
                Some((folder, _)) => children.insert(folder.to_owned(), None),
                None => children.insert(below.to_owned(), Some(bytes.len() as u64)),
            };
        }
        Ok(children.into_iter().map(|(name, size_bytes)| Child { name, size_bytes }).collect())
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        paths
            .iter()
            .map(|path| {
                self.objects.lock().remove(path);
                Ok(())
            })
            .collect()
    }
}

fn missing(path: &StorePath) -> Error {
    Error::new(ErrorKind::NotFound, "find an object", "it is not there").with_object(path)
}

/// One store, one source of names, one log of what parties were told and meant.
#[derive(Clone)]
pub struct World {
    pub mem: Arc<MemStore>,
    pub env: Env,
    pub time: Arc<Time>,
    pub layout: JobLayout,
    /// Checkpoints that were reported complete.
    pub complete: Arc<Mutex<Vec<CheckpointFolder>>>,
    /// Checkpoints that an owner decided to drop.
    pub dropped: Arc<Mutex<BTreeSet<CheckpointFolder>>>,
}

impl World {
    pub fn new() -> Self {
        let (env, time) = controlled_env();
        Self {
            mem: Arc::default(),
            env,
            time,
            layout: JobLayout::new(JobId::new("j").unwrap()).unwrap(),
            complete: Arc::default(),
            dropped: Arc::default(),
        }
    }

    pub fn store(&self) -> StoreRef {
        Arc::clone(&self.mem) as StoreRef
    }

    pub async fn claim(&self, store: StoreRef) -> Result<Claimed> {
        Tenure::claim(store, self.layout.clone(), self.env.clone(), "a test").await
    }

    pub async fn party(&self) -> Party {
        self.party_on(self.store()).await.unwrap()
    }

    pub async fn party_on(&self, store: StoreRef) -> Result<Party> {
        Ok(Party::new(self.clone(), self.claim(store).await?))
    }

    pub async fn view(&self) -> JobView {
        JobView::read(&*self.mem, &self.layout).await.unwrap()
    }

    /// I1, I2 and I3, as anyone who reads the job now sees them.
    pub async fn assert_sound(&self, when: &str) {
        let view = self.view().await;
        for checkpoint in view.checkpoints.values() {
            let metadata = checkpoint.content.as_ref().unwrap_or_else(|error| panic!("{when}: {error:?}"));
            for object in view.references(metadata) {
                assert!(self.mem.has(&object), "{when}: I1: {} needs {object}, which is gone", checkpoint.folder);
            }
        }
        let complete = self.complete.lock().clone();
        let dropped = self.dropped.lock().clone();
        for folder in complete.iter().filter(|folder| !dropped.contains(folder)) {
            assert!(view.checkpoints.contains_key(folder), "{when}: I2: {folder} was complete and is lost");
        }
        let ids: BTreeSet<_> = complete.iter().map(|folder| folder.checkpoint).collect();
        assert_eq!(ids.len(), complete.len(), "{when}: I3: one id was complete twice: {complete:?}");
    }

    /// I5: what is there is what the checkpoints that count reference, and records of the owner.
    pub async fn assert_nothing_unreferenced(&self) {
        let view = self.view().await;
        let mut expected = BTreeSet::new();
        for checkpoint in view.checkpoints.values() {
            expected.insert(self.layout.metadata(checkpoint.folder).unwrap().to_string());
            let metadata = checkpoint.content.as_ref().unwrap();
            expected.extend(view.references(metadata).map(|path| path.to_string()));
        }
        let newest = view.epochs.newest_start().unwrap();
        let is_record = |path: &String| match Place::of(&self.layout, &StorePath::new(path.as_str()).unwrap()) {
            Some(Place::Claim(epoch) | Place::Start(epoch) | Place::End(epoch)) => epoch == newest,
            Some(Place::Pin(name)) => view.pins.contains_key(&name),
            _ => false,
        };
        let there: BTreeSet<_> = self.mem.paths().into_iter().filter(|path| !is_record(path)).collect();
        assert_eq!(there, expected, "I5");
    }
}

/// What a registry does for the collector, in its simplest form.
#[derive(Debug, Default)]
pub struct Held {
    pub by_checkpoint: Mutex<BTreeMap<CheckpointId, BTreeSet<SharedName>>>,
    pub condemned: Mutex<BTreeSet<SharedName>>,
}

impl Held {
    pub fn hold(&self, checkpoint: CheckpointId, names: impl IntoIterator<Item = SharedName>) {
        self.by_checkpoint.lock().entry(checkpoint).or_default().extend(names);
    }

    /// What may be handed out to a new checkpoint.
    pub fn reusable(&self) -> BTreeSet<SharedName> {
        let condemned = self.condemned.lock();
        self.by_checkpoint.lock().values().flatten().filter(|name| !condemned.contains(name)).copied().collect()
    }
}

impl Holdings for Held {
    fn holds(&self, name: &SharedName) -> bool {
        self.by_checkpoint.lock().values().any(|names| names.contains(name))
    }

    fn is_registered(&self, checkpoint: CheckpointId) -> bool {
        self.by_checkpoint.lock().contains_key(&checkpoint)
    }

    fn release(&self, checkpoint: CheckpointId) -> Vec<(SharedName, u64)> {
        let released = self.by_checkpoint.lock().remove(&checkpoint).unwrap_or_default();
        released.into_iter().filter(|name| !self.holds(name)).map(|name| (name, 8)).collect()
    }

    fn condemn(&self, name: &SharedName) -> bool {
        let free = !self.holds(name);
        if free {
            self.condemned.lock().insert(*name);
        }
        free
    }

    fn forget(&self, _name: &SharedName) {}
}

/// A coordinator, in its simplest form.
pub struct Party {
    pub world: World,
    pub tenure: Arc<Tenure>,
    pub adopted: JobView,
    pub held: Arc<Held>,
    pub collector: Collector,
    pub in_flight: BTreeSet<CheckpointId>,
}

impl Party {
    pub fn new(world: World, claimed: Claimed) -> Self {
        let tenure = Arc::new(claimed.tenure);
        let held = Arc::new(Held::default());
        for checkpoint in claimed.view.checkpoints.values() {
            if let Ok(metadata) = &checkpoint.content {
                held.hold(checkpoint.folder.checkpoint, shared_of(&world.layout, metadata));
            }
        }
        let collector = Collector::new(Arc::clone(&tenure), Arc::clone(&held) as Arc<dyn Holdings>);
        Self { world, tenure, adopted: claimed.view, held, collector, in_flight: BTreeSet::new() }
    }

    pub fn store(&self) -> &dyn Store {
        &**self.tenure.store()
    }

    pub fn folder(&self, checkpoint: CheckpointId) -> CheckpointFolder {
        CheckpointFolder { checkpoint, epoch: self.tenure.epoch() }
    }

    pub fn fresh_name(&self, checkpoint: CheckpointId) -> SharedName {
        let upload = Uid::random(&*self.world.env.randomness);
        let tag = Tag { epoch: self.tenure.epoch(), generation: 0, checkpoint, upload };
        SharedName { hash: ContentHash::of(&upload.0.to_le_bytes()), tag, kind: FileKind::Sst }
    }

    pub async fn upload(&self, name: &SharedName) -> Result<()> {
        let path = self.world.layout.shared_object(name)?;
        self.store().put(&path, Bytes::copy_from_slice(&name.tag.upload.0.to_le_bytes())).await
    }

    pub async fn upload_private(&self, folder: CheckpointFolder) -> Result<StorePath> {
        let name = StorePath::new("operator-count/subtask-0/MANIFEST-000001")?;
        let path = self.world.layout.checkpoint(folder)?.join(name.as_str())?;
        self.store().put(&path, Bytes::from_static(b"manifest")).await?;
        Ok(name)
    }

    /// A checkpoint of everything that may be reused, `kept` first, one new shared file and one private one.
    pub async fn checkpoint(&self) -> Result<CheckpointFolder> {
        self.checkpoint_reusing(self.held.reusable()).await
    }

    pub async fn checkpoint_reusing(&self, reused: BTreeSet<SharedName>) -> Result<CheckpointFolder> {
        let id = self.tenure.next_checkpoint();
        let folder = self.folder(id);
        self.held.hold(id, reused.iter().copied()); // K1
        let fresh = self.fresh_name(id);
        self.upload(&fresh).await?; // K2
        let private = self.upload_private(folder).await?;
        self.held.hold(id, [fresh]);
        let metadata = metadata(&self.world.layout, folder, reused.iter().chain([&fresh]), &private);
        let bytes = Bytes::from(encode(&metadata)?);
        self.tenure.commit(folder, bytes).await?;
        self.world.complete.lock().push(folder);
        Ok(folder)
    }

    pub async fn view(&self) -> Result<JobView> {
        JobView::read(self.store(), &self.world.layout).await
    }

    /// What is refused stays; a coordinator that has been overtaken sees its successor's world.
    pub async fn drop_checkpoints(&self, folders: &[CheckpointFolder]) -> Result<GcReport> {
        let drops: Vec<_> = folders.iter().map(|folder| (*folder, "asked for".to_owned())).collect();
        let plan = plan_drop(self.store(), &self.view().await?, &drops).await?;
        self.world.dropped.lock().extend(plan.dropped.iter().map(|dropped| dropped.folder));
        Ok(self.collector.execute(plan).await)
    }

    pub fn progress(&self) -> Progress {
        Progress { next: self.tenure.next_checkpoint(), in_flight: self.in_flight.clone() }
    }

    pub async fn sweep(&self, scope: SweepScope) -> Result<GcReport> {
        let progress = self.progress();
        let view = self.view().await?;
        let done = self.collector.stray_lists(&view).collect();
        let judge = Judge::new(&view, &*self.held, self.tenure.epoch(), &progress, &done);
        let plan = plan_sweep(self.store(), &self.world.layout, &judge, scope).await?;
        Ok(self.collector.execute(plan).await)
    }

    /// What a coordinator does in a short life after its claim: a checkpoint, older ones dropped, a
    /// sweep, another checkpoint.
    pub async fn live(&self, style: Style) -> Result<()> {
        let reused = match style {
            Style::Keeping => self.held.reusable(),
            Style::Forgetting => {
                let oldest = self.held.by_checkpoint.lock().values().next().cloned().unwrap_or_default();
                self.held.reusable().difference(&oldest).copied().collect()
            }
        };
        self.checkpoint_reusing(reused).await?;
        let mut going: Vec<_> = self.view().await?.checkpoints.into_keys().collect();
        going.pop();
        if style == Style::Keeping {
            going.truncate(1);
        }
        self.drop_checkpoints(&going).await?.into_result()?;
        self.sweep(SweepScope::Everything).await?.into_result()?;
        self.checkpoint().await?;
        Ok(())
    }
}

/// How a coordinator lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Its checkpoints reference every file there is; it drops the oldest.
    Keeping,
    /// Its first checkpoint leaves out what the oldest has; it drops all but its own, and so frees
    /// files that a successor may have adopted and may be using.
    Forgetting,
}

pub fn shared_of(layout: &JobLayout, metadata: &CheckpointMetadata) -> Vec<SharedName> {
    let name = |file: &FileEntry| match &file.location {
        Location::InRoot(path) => match Place::of(layout, path) {
            Some(Place::Shared(name)) => Some(name),
            _ => None,
        },
        Location::InCheckpoint(_) => None,
    };
    metadata.files().filter_map(name).collect()
}

fn metadata<'a>(
    layout: &JobLayout,
    folder: CheckpointFolder,
    shared: impl Iterator<Item = &'a SharedName>,
    private: &StorePath,
) -> CheckpointMetadata {
    let entry = |local: String, kind, location, content: &[u8]| FileEntry {
        local_name: StorePath::new(local).unwrap(),
        kind,
        location,
        offset_bytes: 0,
        stored_size_bytes: content.len() as u64,
        encoding: Encoding::Plain,
        size_bytes: content.len() as u64,
        sha256: ContentHash::of(content),
        key_groups: None,
        table: None,
        identity: None,
    };
    let mut files =
        vec![entry("MANIFEST".to_owned(), FileKind::Manifest, Location::InCheckpoint(private.clone()), b"manifest")];
    for (at, name) in shared.enumerate() {
        let location = Location::InRoot(layout.shared_object(name).unwrap());
        files.push(entry(format!("f{at:04}.sst"), FileKind::Sst, location, &name.tag.upload.0.to_le_bytes()));
    }
    let subtask = SubtaskState { index: 0, key_groups: KeyGroupRange::new(0, 127), backend: Backend::RocksDb, files };
    CheckpointMetadata {
        job: layout.job().clone(),
        checkpoint: folder.checkpoint,
        epoch: folder.epoch,
        kind: CheckpointKind::Incremental,
        triggered_at_unix_ms: 0,
        max_parallelism: 128,
        writer: "a test".to_owned(),
        origin: None,
        operators: vec![OperatorState {
            operator: OperatorId::new("count").unwrap(),
            parallelism: 1,
            max_parallelism: 128,
            states: Vec::new(),
            subtasks: vec![subtask],
        }],
        sources: Vec::new(),
        properties: BTreeMap::new(),
    }
}
