//! Full checkpoints and savepoints: a folder a key group, which stands on its own and which either backend
//! reads at any parallelism.

mod state_model;
mod task_support;

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use icecore::keygroup::KeyGroup;
use icecore::metadata::{CheckpointKind, Location};
use icecore::state::KeyedBackend as _;
use icecore::store::StorePath;
use icecore::task::{FULL_MANIFEST_NAME, FULL_STATE_NAME, FULL_TABLE_NAME};
use task_support::{Cluster, Dice, Kind};

const STATES: [&str; 6] = ["value", "list", "map", "reduced", "aggregated", "timers"];

async fn churned(kind: Kind, parallelism: u32) -> Cluster {
    // Few keys, so that some key groups have no rows at all.
    let mut cluster = Cluster::start(kind, 128, parallelism).await;
    let mut dice = Dice(21);
    for _ in 0..600 {
        cluster.apply(&dice.operation(60));
    }
    cluster
}

/// Every row that the tasks hold, by key group.
/// State, key and value.
type Row = (String, Vec<u8>, Vec<u8>);

fn rows_by_group(cluster: &mut Cluster) -> BTreeMap<KeyGroup, BTreeSet<Row>> {
    let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for task in &mut cluster.tasks {
        let layout = task.context.backend().layout();
        for state in STATES {
            for (key, value) in state_model::rows(task.context.backend_mut(), state) {
                let group = layout.key_group_of_row(&key).unwrap();
                all.entry(group).or_default().insert((state.to_owned(), key, value));
            }
        }
    }
    all
}

async fn below(cluster: &Cluster, folder: &str) -> BTreeSet<String> {
    let folder = StorePath::new(folder).unwrap();
    let found: Vec<_> = cluster.store.list(Some(&folder)).try_collect().await.unwrap();
    found.into_iter().map(|object| object.path.below(&folder).unwrap().to_owned()).collect()
}

fn names() -> &'static [&'static str] {
    if cfg!(feature = "rocksdb") { &[FULL_TABLE_NAME, FULL_MANIFEST_NAME] } else { &[FULL_STATE_NAME] }
}

/// A folder for each key group that has rows, `_metadata`, and nothing else.
async fn has_the_layout(cluster: &mut Cluster, folder: &str) {
    let groups = rows_by_group(cluster);
    assert!(groups.len() < 100, "every key group has rows: the test shows less than it should");
    let mut expected: BTreeSet<String> = groups
        .keys()
        .flat_map(|group| names().iter().map(move |name| format!("operator-op/keygroup-{group}/{name}")))
        .collect();
    let in_metadata: BTreeSet<String> = cluster
        .open_savepoint(folder)
        .await
        .metadata
        .files()
        .map(|file| match &file.location {
            Location::InCheckpoint(path) => path.to_string(),
            Location::InRoot(path) => panic!("{path} lies outside the checkpoint's folder"),
        })
        .collect();
    assert_eq!(in_metadata, expected);
    expected.insert("_metadata".into());
    assert_eq!(below(cluster, folder).await, expected);
}

async fn layout_of_full_and_savepoint(kind: Kind) {
    let mut cluster = churned(kind, 2).await;
    cluster.checkpoint(CheckpointKind::Full).await;
    let folder = cluster.coordinator.latest().await.unwrap().unwrap().folder.unwrap();
    has_the_layout(&mut cluster, folder.as_str()).await;
    cluster.savepoint("mine/before-upgrade").await;
    has_the_layout(&mut cluster, "mine/before-upgrade").await;
}

async fn savepoint_restores(wrote: Kind, reads: Kind, from: u32, to: u32) {
    let mut cluster = churned(wrote, from).await;
    cluster.checkpoint(CheckpointKind::Incremental).await;
    cluster.savepoint("sp").await;
    cluster.apply(&Dice(1).operation(60));
    let savepoint = cluster.open_savepoint("sp").await;
    cluster.restart_from(&savepoint, reads, to).await;
    let when = format!("{wrote:?} at {from} into {reads:?} at {to}");
    cluster.assert_equals_model(&when);
    // And it goes on from there.
    let mut dice = Dice(2);
    for _ in 0..100 {
        cluster.apply(&dice.operation(60));
    }
    cluster.checkpoint(CheckpointKind::Incremental).await;
    cluster.restart(reads, from).await;
    cluster.assert_equals_model(&format!("{when}, and once more"));
}

#[tokio::test]
async fn a_heap_writes_a_folder_for_each_key_group_with_rows_and_nothing_else() {
    layout_of_full_and_savepoint(Kind::Heap).await;
}

#[tokio::test]
async fn a_savepoint_of_a_heap_restores_into_a_heap_at_another_parallelism() {
    savepoint_restores(Kind::Heap, Kind::Heap, 2, 3).await;
}

#[tokio::test]
async fn a_full_checkpoint_is_restored_as_any_other() {
    let mut cluster = churned(Kind::Heap, 2).await;
    cluster.checkpoint(CheckpointKind::Full).await;
    cluster.restart(Kind::Heap, 3).await;
    cluster.assert_equals_model("from the full checkpoint");
}

/// The savepoint must not make the task forget what the next incremental checkpoint builds on.
#[tokio::test]
async fn a_savepoint_in_between_makes_no_heap_file_be_written_again() {
    let mut cluster = churned(Kind::Heap, 1).await;
    cluster.checkpoint(CheckpointKind::Incremental).await;
    cluster.savepoint("sp").await;
    let stats = cluster.checkpoint(CheckpointKind::Incremental).await;
    assert_eq!((stats.hashed_files, stats.uploaded_files), (0, 0), "{stats:?}");
}

#[tokio::test]
async fn an_empty_task_has_an_empty_savepoint() {
    let mut cluster = Cluster::start(Kind::Heap, 128, 1).await;
    cluster.savepoint("sp").await;
    assert_eq!(below(&cluster, "sp").await, BTreeSet::from(["_metadata".to_owned()]));
    let savepoint = cluster.open_savepoint("sp").await;
    cluster.restart_from(&savepoint, Kind::Heap, 2).await;
    cluster.assert_equals_model("empty");
}

#[cfg(feature = "rocksdb")]
mod rocksdb {
    use super::*;
    use ::rocksdb::{DB, IteratorMode, Options};

    #[tokio::test]
    async fn a_database_writes_a_folder_for_each_key_group_with_rows_and_nothing_else() {
        layout_of_full_and_savepoint(Kind::RocksDb).await;
    }

    #[tokio::test]
    async fn a_savepoint_of_either_backend_restores_into_the_other_at_another_parallelism() {
        savepoint_restores(Kind::Heap, Kind::RocksDb, 2, 3).await;
        savepoint_restores(Kind::RocksDb, Kind::Heap, 3, 1).await;
    }

    #[tokio::test]
    async fn a_savepoint_of_a_database_restores_into_a_database_at_another_parallelism() {
        savepoint_restores(Kind::RocksDb, Kind::RocksDb, 1, 4).await;
    }

    #[tokio::test]
    async fn rocksdb_opens_a_key_group_s_folder_and_lists_exactly_that_group() {
        for kind in [Kind::Heap, Kind::RocksDb] {
            let mut cluster = churned(kind, 2).await;
            cluster.savepoint("sp").await;
            let expected = rows_by_group(&mut cluster);
            let root = StorePath::new("sp/operator-op").unwrap();
            let mut found: BTreeMap<KeyGroup, BTreeSet<_>> = BTreeMap::new();
            for group in expected.keys() {
                let stored = root.join(&format!("keygroup-{group}")).unwrap();
                let database = tempfile::tempdir().unwrap();
                for (name, local) in [("0.sst", "000001.sst"), ("MANIFEST", "MANIFEST-000002")] {
                    let object = stored.join(name).unwrap();
                    let size_bytes = cluster.store.stat(&object).await.unwrap().size_bytes;
                    let bytes = cluster.store.read(&object, 0..size_bytes).await.unwrap();
                    std::fs::write(database.path().join(local), bytes).unwrap();
                }
                std::fs::write(database.path().join("CURRENT"), "MANIFEST-000002\n").unwrap();
                // Writable, as anyone would open it, with the checks that RocksDB has.
                let mut options = Options::default();
                options.set_paranoid_checks(true);
                let db = DB::open(&options, database.path()).unwrap();
                for row in db.iterator(IteratorMode::Start) {
                    let (key, value) = row.unwrap();
                    let (name, row) = key[1..].split_at(usize::from(key[0]));
                    let name = String::from_utf8(name.to_vec()).unwrap();
                    found.entry(*group).or_default().insert((name, row.to_vec(), value.to_vec()));
                }
            }
            assert_eq!(found, expected, "{kind:?}");
        }
    }

    #[tokio::test]
    async fn equal_state_gives_the_same_rows_whichever_backend_wrote_the_savepoint() {
        let mut heap = churned(Kind::Heap, 2).await;
        let mut rocks = churned(Kind::RocksDb, 3).await;
        assert_eq!(rows_by_group(&mut heap), rows_by_group(&mut rocks));
    }

    #[tokio::test]
    async fn a_savepoint_in_between_makes_no_table_be_read_again() {
        let mut cluster = churned(Kind::RocksDb, 1).await;
        let before = cluster.checkpoint(CheckpointKind::Incremental).await;
        cluster.savepoint("sp").await;
        cluster.counting.reset();
        let after = cluster.checkpoint(CheckpointKind::Incremental).await;
        assert_eq!(cluster.counting.traffic("job-test/shared/").objects_begun, 0);
        assert!(after.hashed_files < before.hashed_files, "{after:?} after {before:?}");
    }

    /// No local folder is left beside a database when its checkpoint is over.
    #[tokio::test]
    async fn nothing_is_left_beside_the_database() {
        let mut cluster = churned(Kind::RocksDb, 1).await;
        cluster.checkpoint(CheckpointKind::Incremental).await;
        cluster.checkpoint(CheckpointKind::Full).await;
        let names: BTreeSet<_> = std::fs::read_dir(cluster.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "store")
            .collect();
        assert_eq!(names, BTreeSet::from(["task-1".to_owned()]));
    }
}
