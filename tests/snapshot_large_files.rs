//! Files too large to be held in memory, whose bytes are sent before their name is known.

#![cfg(feature = "test-support")]

use std::path::Path;
use std::sync::Arc;

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
use icecore::store::{LocalStore, StorePath, StoreRef};
use icecore::transfer::READ_ONCE_BYTES;

const EPOCH: Epoch = Epoch { counter: 1, uid: Uid(1) };

fn content() -> Vec<u8> {
    (0..READ_ONCE_BYTES + 1).map(|index| (index % 251) as u8).collect()
}

/// `subtasks` subtasks that snapshot the same file at once into one store.
async fn snapshot(store: StoreRef, source: &Path, subtasks: u32) -> Vec<SubtaskHandle> {
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
        folder: layout.checkpoint(CheckpointFolder { checkpoint: CheckpointId(1), epoch: EPOCH }).unwrap(),
        triggered_at_unix_ms: 0,
    };
    let uploads = (0..subtasks).map(|index| {
        let subtask = SubtaskName { operator: OperatorId::new("op").unwrap(), index };
        let snapshotter =
            Snapshotter::new(subtask, store.clone(), env.clone(), broker.clone(), SnapshotterOptions::default());
        let trigger = &trigger;
        async move { snapshotter.upload(trigger, frozen(source)).await.unwrap() }
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
