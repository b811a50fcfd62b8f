//! Files too large to be held in memory, whose bytes are sent before their name is known.

#![cfg(feature = "test-support")]

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use icecore::env::Env;
use icecore::layout::{CheckpointFolder, CheckpointId, ContentHash, Epoch, FileKind, JobId, JobLayout, OperatorId};
use icecore::layout::{SubtaskName, Uid};
use icecore::metadata::{Backend, CheckpointKind};
use icecore::registry::Registry;
use icecore::snapshot::{
    FileSource, Known, LocalFile, LocalSnapshot, Placing, RegistryBroker, Snapshotter, SnapshotterOptions,
    SubtaskHandle, Trigger,
};
use icecore::store::testing::CountingStore;
use icecore::store::{Child, LocalStore, ObjectMeta, ObjectWriter, Store, StorePath, StoreRef, UnnamedWriter};
use icecore::transfer::{Progress, READ_ONCE_BYTES};
use icecore::{Error, ErrorKind, Result};

const EPOCH: Epoch = Epoch { counter: 1, uid: Uid(1) };

fn content() -> Vec<u8> {
    (0..READ_ONCE_BYTES + 1).map(|index| (index % 251) as u8).collect()
}

/// `subtasks` subtasks that snapshot the same file at once into one store.
async fn snapshot(store: StoreRef, source: &Path, subtasks: u32) -> Vec<SubtaskHandle> {
    let options = SnapshotterOptions::default();
    try_snapshot(store, source, subtasks, options).await.into_iter().map(Result::unwrap).collect()
}

async fn try_snapshot(
    store: StoreRef,
    source: &Path,
    subtasks: u32,
    options: SnapshotterOptions,
) -> Vec<Result<SubtaskHandle>> {
    let env = Env::system().unwrap();
    let layout = JobLayout::new(JobId::new("j").unwrap()).unwrap();
    let registry = Registry::new();
    registry.begin_pending(CheckpointId(1)).unwrap();
    let broker = Arc::new(RegistryBroker::new(registry, layout.clone(), env.clone()));
    let trigger = Trigger {
        checkpoint: CheckpointId(1),
        epoch: EPOCH,
        generation: 0,
        kind: CheckpointKind::Incremental,
        base: None,
        distrusted: Arc::default(),
        folder: layout.checkpoint(CheckpointFolder { checkpoint: CheckpointId(1), epoch: EPOCH }).unwrap(),
        triggered_at_unix_ms: 0,
    };
    let uploads = (0..subtasks).map(|index| {
        let subtask = SubtaskName { operator: OperatorId::new("op").unwrap(), index };
        let snapshotter = Snapshotter::new(subtask, store.clone(), env.clone(), broker.clone(), options.clone());
        let trigger = &trigger;
        async move { snapshotter.upload(trigger, frozen(source)).await }
    });
    futures::future::join_all(uploads).await
}

fn frozen(source: &Path) -> LocalSnapshot {
    let file = LocalFile {
        local_name: StorePath::new("000007.sst").unwrap(),
        kind: FileKind::Sst,
        source: FileSource::Path { path: source.to_path_buf(), size_bytes: READ_ONCE_BYTES + 1 },
        placing: Placing::Shared,
        known: Known::No,
        key_groups: None,
        table: None,
    };
    LocalSnapshot {
        backend: Backend::RocksDbFolder,
        key_groups: None,
        states: Vec::new(),
        files: vec![file],
        prepare: None,
        sync_us: 0,
        beside_us: 0,
        hold: None,
    }
}

fn objects(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root.join("job-j/shared")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_subtasks_with_the_same_large_content_make_one_object_and_leave_nothing_else() {
    let work = tempfile::tempdir().unwrap();
    let (source, root) = (work.path().join("source"), work.path().join("store"));
    std::fs::write(&source, content()).unwrap();
    let store = Arc::new(LocalStore::open(&root, Env::system().unwrap()).unwrap());
    let handles = snapshot(store, &source, 3).await;
    let [object] = &objects(&root)[..] else { panic!("not one object: {:?}", objects(&root)) };
    assert!(object.starts_with(&ContentHash::of(&content()).to_string()));
    assert_eq!(std::fs::read(root.join("job-j/shared").join(object)).unwrap(), content());
    assert_eq!(handles.iter().map(|handle| handle.stats.uploaded_files).sum::<u64>(), 1);
    assert!(handles.iter().all(|handle| handle.added == handles[0].added));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_needs_names_first_gets_the_same_object() {
    let work = tempfile::tempdir().unwrap();
    let (source, root) = (work.path().join("source"), work.path().join("store"));
    std::fs::write(&source, content()).unwrap();
    // A wrapper that does not hand `create_unnamed` on.
    let store = CountingStore::new(Arc::new(LocalStore::open(&root, Env::system().unwrap()).unwrap()));
    snapshot(store.clone(), &source, 2).await;
    let [object] = &objects(&root)[..] else { panic!("not one object: {:?}", objects(&root)) };
    assert!(object.starts_with(&ContentHash::of(&content()).to_string()));
    assert_eq!(store.traffic("job-j/shared").written_bytes, READ_ONCE_BYTES + 1, "sent once by two subtasks");
}

/// A folder in which naming what was sent fails `failures` times: after it was done, if `lands`.
#[derive(Debug)]
struct NamesLate {
    inner: LocalStore,
    failures: Arc<AtomicU32>,
    lands: bool,
    /// Overwritten as the first naming fails.
    spoils: Option<PathBuf>,
}

struct NamesLateWriter {
    inner: Box<dyn UnnamedWriter>,
    failures: Arc<AtomicU32>,
    lands: bool,
    spoils: Option<PathBuf>,
}

#[async_trait]
impl ObjectWriter for NamesLateWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.inner.write(bytes).await
    }
    async fn finish(self: Box<Self>) -> Result<()> {
        self.inner.finish().await
    }
    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}

#[async_trait]
impl UnnamedWriter for NamesLateWriter {
    async fn finish_as(self: Box<Self>, path: &StorePath) -> Result<()> {
        if self.failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
            return self.inner.finish_as(path).await;
        }
        if self.lands {
            self.inner.finish_as(path).await?;
        }
        if let Some(source) = &self.spoils {
            std::fs::write(source, vec![0; READ_ONCE_BYTES as usize + 1]).unwrap();
        }
        Err(Error::new(ErrorKind::Temporary, "finish an object", "its answer was lost"))
    }
}

#[async_trait]
impl Store for NamesLate {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    async fn create_unnamed(&self, folder: &StorePath) -> Result<Option<Box<dyn UnnamedWriter>>> {
        let Some(inner) = self.inner.create_unnamed(folder).await? else { return Ok(None) };
        let (failures, spoils) = (self.failures.clone(), self.spoils.clone());
        Ok(Some(Box::new(NamesLateWriter { inner, failures, lands: self.lands, spoils })))
    }
    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        self.inner.put(path, bytes).await
    }
    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        self.inner.create(path).await
    }
    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        self.inner.read(path, range).await
    }
    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        self.inner.stat(path).await
    }
    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        self.inner.list_children(prefix).await
    }
    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        self.inner.delete(paths).await
    }
}

fn names_late(root: &Path, failures: u32, lands: bool, spoils: Option<PathBuf>) -> StoreRef {
    let inner = LocalStore::open(root, Env::system().unwrap()).unwrap();
    Arc::new(NamesLate { inner, failures: Arc::new(failures.into()), lands, spoils })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_before_it_had_a_name_is_sent_again_whole_if_naming_it_fails() {
    for (lands, subtasks) in [(true, 1), (false, 1), (true, 3)] {
        let work = tempfile::tempdir().unwrap();
        let (source, root) = (work.path().join("source"), work.path().join("store"));
        std::fs::write(&source, content()).unwrap();
        let handles = snapshot(names_late(&root, 1, lands, None), &source, subtasks).await;
        assert!(handles.iter().all(|handle| handle.added == handles[0].added));
        let icecore::metadata::Location::InRoot(object) = &handles[0].added[0].location else { panic!("not shared") };
        assert_eq!(std::fs::read(root.join(object.as_str())).unwrap(), content());
        // The failed one lies beside it, under a name of its own, until a sweep.
        assert_eq!(objects(&root).len(), 1 + usize::from(lands), "{:?}", objects(&root));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_changed_before_it_is_sent_again_is_not_stored() {
    let work = tempfile::tempdir().unwrap();
    let (source, root) = (work.path().join("source"), work.path().join("store"));
    std::fs::write(&source, content()).unwrap();
    let store = names_late(&root, 1, false, Some(source.clone()));
    let error = try_snapshot(store, &source, 1, SnapshotterOptions::default()).await.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert!(!root.join("job-j/shared").exists() || objects(&root).is_empty());
}

#[derive(Debug, Default)]
struct Told {
    expected: AtomicU64,
    moved: AtomicU64,
    files: AtomicU64,
}

impl Progress for Told {
    fn expect(&self, _files: u64, bytes: u64) {
        self.expected.fetch_add(bytes, SeqCst);
    }
    fn advance(&self, bytes: u64) {
        self.moved.fetch_add(bytes, SeqCst);
    }
    fn file_done(&self) {
        self.files.fetch_add(1, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_comes_to_what_was_expected_whoever_sends_the_file() {
    for needs_names_first in [false, true] {
        let work = tempfile::tempdir().unwrap();
        let (source, root) = (work.path().join("source"), work.path().join("store"));
        std::fs::write(&source, content()).unwrap();
        let local = Arc::new(LocalStore::open(&root, Env::system().unwrap()).unwrap());
        let store: StoreRef = if needs_names_first { CountingStore::new(local) } else { local };
        let told = Arc::new(Told::default());
        let options = SnapshotterOptions { progress: told.clone(), ..SnapshotterOptions::default() };
        for handle in try_snapshot(store, &source, 3, options).await {
            handle.unwrap();
        }
        let bytes = 3 * (READ_ONCE_BYTES + 1);
        let figures = [&told.expected, &told.moved, &told.files].map(|figure| figure.load(SeqCst));
        assert_eq!(figures, [bytes, bytes, 3], "names first: {needs_names_first}");
    }
}
