//! A job that is stopped and restored at the same and at other parallelisms, over and over, holds exactly
//! what it held at its checkpoint, key by key (I10): on the heap, and on RocksDB with many small tables.

mod state_model;
mod task_support;

use std::collections::BTreeSet;

use icecore::ErrorKind;
use icecore::metadata::{CheckpointKind, FileEntry, Location};
use icecore::restore::RestorePlan;
use icecore::state::typed::KeyContext;
use icecore::store::StorePath;
use proptest::prelude::*;
use state_model::{Operation, operation};
use task_support::test_store::is_local;
use task_support::{Cluster, Dice, Kind, coordinator, operator};

const KEYS: u64 = 5_000;
const OPERATIONS: usize = 12_000;

/// Fewer where each of a heap's chunks, one a state and key group, is a request over a network.
fn key_groups() -> u32 {
    if is_local() { 128 } else { 32 }
}

async fn churn(cluster: &mut Cluster, dice: &mut Dice, count: usize) {
    for _ in 0..count {
        cluster.apply(&dice.operation(KEYS));
    }
}

/// Writes, checkpoints twice, writes what will be lost, and restores, at each parallelism in turn.
async fn through(kind: Kind, parallelisms: &[u32]) {
    let mut cluster = Cluster::start(kind, key_groups(), 1).await;
    let mut dice = Dice(parallelisms.len() as u64);
    churn(&mut cluster, &mut dice, OPERATIONS).await;
    for (turn, parallelism) in parallelisms.iter().enumerate() {
        cluster.checkpoint(CheckpointKind::Incremental).await;
        churn(&mut cluster, &mut dice, OPERATIONS / 6).await;
        cluster.apply(&Operation::Advance(50_000 * turn as i64));
        cluster.checkpoint(CheckpointKind::Incremental).await;
        cluster.assert_equals_model("at the checkpoint");
        churn(&mut cluster, &mut dice, OPERATIONS / 12).await;
        cluster.restart(kind, *parallelism).await;
        cluster.assert_equals_model(&format!("restored at {parallelism} in turn {turn}"));
    }
}

/// Deletes everything, rescales, and looks again after each further rescale.
async fn nothing_comes_back(kind: Kind) {
    let mut cluster = Cluster::start(kind, key_groups(), 1).await;
    let mut dice = Dice(7);
    churn(&mut cluster, &mut dice, OPERATIONS).await;
    cluster.checkpoint(CheckpointKind::Incremental).await;
    for key in 0..KEYS {
        // One in eight stays, so that old tables stay in use.
        if key % 8 == 0 {
            continue;
        }
        for namespace in [vec![], b"window".to_vec()] {
            let place = (format!("key-{key}"), namespace);
            cluster.apply(&Operation::ClearValue(place.clone()));
            cluster.apply(&Operation::ClearList(place.clone()));
            cluster.apply(&Operation::ClearMap(place.clone()));
            cluster.apply(&Operation::ClearReduced(place.clone()));
            cluster.apply(&Operation::ClearAggregated(place));
        }
    }
    cluster.apply(&Operation::Advance(900_000));
    for parallelism in [2, 3, 1, 4, 1] {
        cluster.checkpoint(CheckpointKind::Incremental).await;
        cluster.restart(kind, parallelism).await;
        cluster.assert_equals_model(&format!("at {parallelism}"));
        churn(&mut cluster, &mut dice, 50).await;
    }
}

/// A job goes on from another one's checkpoint, on another store, that has the number of its own newest.
async fn taken_over(kind: Kind) {
    let (mut original, mut clone) =
        (Cluster::start(kind, key_groups(), 1).await, Cluster::start(kind, key_groups(), 1).await);
    for (seed, cluster) in [&mut original, &mut clone].into_iter().enumerate() {
        churn(cluster, &mut Dice(seed as u64), OPERATIONS / 4).await;
        cluster.checkpoint(CheckpointKind::Incremental).await;
    }
    let from = original.coordinator.latest().await.unwrap().unwrap();
    clone.at_checkpoint = original.at_checkpoint.clone();
    clone.restart_from(&from, kind, 1).await;
    clone.assert_equals_model("taken over");
    clone.checkpoint(CheckpointKind::Incremental).await;
    clone.restart(kind, 1).await;
    clone.assert_equals_model("restored from the first checkpoint of its own");
}

#[tokio::test]
async fn a_heap_taken_over_from_another_jobs_checkpoint_is_checkpointed_as_it_is() {
    taken_over(Kind::Heap).await;
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn a_database_taken_over_from_another_jobs_checkpoint_is_checkpointed_as_it_is() {
    taken_over(Kind::RocksDb).await;
}

#[tokio::test]
async fn a_heap_restored_at_the_same_parallelism_holds_what_it_held() {
    through(Kind::Heap, &[1, 1]).await;
}

#[tokio::test]
async fn a_heap_rescaled_again_and_again_holds_what_it_held() {
    through(Kind::Heap, &[2, 3, 1]).await;
}

#[tokio::test]
async fn what_was_deleted_on_a_heap_before_a_rescale_never_comes_back() {
    nothing_comes_back(Kind::Heap).await;
}

#[tokio::test]
async fn an_unchanged_heap_serialises_and_sends_nothing_after_a_restore() {
    let mut cluster = Cluster::start(Kind::Heap, 128, 2).await;
    churn(&mut cluster, &mut Dice(3), 2_000).await;
    cluster.checkpoint(CheckpointKind::Incremental).await;
    cluster.restart(Kind::Heap, 2).await;
    let stats = cluster.checkpoint(CheckpointKind::Incremental).await;
    assert_eq!((stats.hashed_files, stats.uploaded_bytes), (0, 0), "{stats:?}");
    assert!(stats.shared_bytes > 0);
}

#[tokio::test]
async fn another_max_parallelism_is_refused() {
    let mut cluster = Cluster::start(Kind::Heap, 128, 1).await;
    churn(&mut cluster, &mut Dice(3), 100).await;
    cluster.checkpoint(CheckpointKind::Incremental).await;
    let error = cluster.coordinator.restart_tasks(vec![task_support::described(256, 1)]).unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::InvalidInput, Some("op")));
    cluster.coordinator.end().await.unwrap();
    let error = coordinator(&cluster.store, &cluster.env, 256, 1).await.unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::InvalidInput, Some("op")));
    let latest = cluster.coordinator.latest().await.unwrap().unwrap();
    let error = RestorePlan::new(&latest.metadata, &operator(), 0, 129).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

/// A full checkpoint makes older ones superfluous, but not the one that the next incremental one builds on.
#[tokio::test]
async fn full_and_incremental_checkpoints_take_turns() {
    let mut cluster = Cluster::start(Kind::Heap, 128, 1).await;
    let mut dice = Dice(17);
    for kind in [CheckpointKind::Incremental, CheckpointKind::Full, CheckpointKind::Full, CheckpointKind::Incremental] {
        churn(&mut cluster, &mut dice, 100).await;
        cluster.checkpoint(kind).await;
    }
    let kept = cluster.coordinator.completed();
    assert_eq!(kept.len(), 1, "{kept:?}");
    cluster.restart(Kind::Heap, 2).await;
    cluster.assert_equals_model("at the end");
}

async fn refuses_another_type(kind: Kind) {
    let mut cluster = Cluster::start(kind, 128, 1).await;
    churn(&mut cluster, &mut Dice(3), 100).await;
    cluster.checkpoint(CheckpointKind::Incremental).await;
    let latest = cluster.coordinator.latest().await.unwrap().unwrap();
    let plan = RestorePlan::new(&latest.metadata, &operator(), 0, 1).unwrap();
    let task = cluster.restored_task(kind, &plan, &latest).await.unwrap();
    let mut context = KeyContext::<String, _>::new(task);
    let error = context.value_state::<String>("value").unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::SchemaMismatch, Some("value")));
    let error = context.list_state::<u32>("map").unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::SchemaMismatch, Some("map")));
}

#[tokio::test]
async fn a_state_of_another_type_is_refused_by_name_on_the_heap() {
    refuses_another_type(Kind::Heap).await;
}

#[tokio::test]
async fn a_checkpoint_that_lacks_a_subtask_is_refused() {
    let mut cluster = Cluster::start(Kind::Heap, 128, 2).await;
    churn(&mut cluster, &mut Dice(3), 100).await;
    cluster.checkpoint(CheckpointKind::Incremental).await;
    let latest = cluster.coordinator.latest().await.unwrap().unwrap();
    let mut metadata = (*latest.metadata).clone();
    metadata.operators[0].subtasks.pop();
    let error = RestorePlan::new(&metadata, &operator(), 0, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("key group 64"), "{error}");
    // The part that is there can be restored.
    assert!(RestorePlan::new(&metadata, &operator(), 0, 2).is_ok());
}

fn object_of(entry: &FileEntry) -> StorePath {
    match &entry.location {
        Location::InRoot(path) => path.clone(),
        Location::InCheckpoint(path) => panic!("{path} is not shared"),
    }
}

#[tokio::test]
async fn only_files_with_wanted_key_groups_are_fetched() {
    let mut cluster = Cluster::start(Kind::Heap, 128, 1).await;
    churn(&mut cluster, &mut Dice(5), 3_000).await;
    cluster.checkpoint(CheckpointKind::Incremental).await;
    let latest = cluster.coordinator.latest().await.unwrap().unwrap();
    cluster.counting.reset();
    let plan = RestorePlan::new(&latest.metadata, &operator(), 1, 3).unwrap();
    cluster.restored_task(Kind::Heap, &plan, &latest).await.unwrap();
    let range = plan.key_groups.unwrap();
    for entry in latest.metadata.files() {
        // A pack has several.
        let wanted = entry.key_groups.unwrap().intersection(range).is_some();
        assert_eq!(cluster.counting.traffic(object_of(entry).as_str()).reads > 0, wanted, "{}", entry.local_name);
    }
}

#[cfg(feature = "rocksdb")]
mod rocksdb {
    use super::*;
    use icecore::layout::FileKind;

    #[tokio::test]
    async fn a_database_restored_at_the_same_parallelism_holds_what_it_held() {
        through(Kind::RocksDb, &[1, 1]).await;
    }

    #[tokio::test]
    async fn a_database_rescaled_again_and_again_holds_what_it_held() {
        through(Kind::RocksDb, &[2, 3, 1]).await;
    }

    #[tokio::test]
    async fn what_was_deleted_from_a_database_before_a_rescale_never_comes_back() {
        nothing_comes_back(Kind::RocksDb).await;
    }

    #[tokio::test]
    async fn a_state_of_another_type_is_refused_by_name() {
        refuses_another_type(Kind::RocksDb).await;
    }

    #[tokio::test]
    async fn only_tables_that_overlap_the_wanted_key_groups_are_fetched() {
        let mut cluster = Cluster::start(Kind::RocksDb, 128, 1).await;
        let mut dice = Dice(11);
        for _ in 0..6 {
            churn(&mut cluster, &mut dice, OPERATIONS / 2).await;
            cluster.checkpoint(CheckpointKind::Incremental).await;
        }
        let latest = cluster.coordinator.latest().await.unwrap().unwrap();
        cluster.counting.reset();
        let plan = RestorePlan::new(&latest.metadata, &operator(), 1, 3).unwrap();
        cluster.restored_task(Kind::RocksDb, &plan, &latest).await.unwrap();
        let range = plan.key_groups.unwrap();
        let (mut fetched, mut skipped) = (0, 0);
        for entry in latest.metadata.files().filter(|entry| entry.kind == FileKind::Sst) {
            // With 128 key groups the first byte of a row is its group.
            let table = entry.table.as_ref().unwrap();
            let (first, last) = (u16::from(table.smallest_key[0]), u16::from(table.largest_key[0]));
            let overlaps = first <= range.last() && last >= range.first();
            let reads = cluster.counting.traffic(object_of(entry).as_str()).reads;
            assert_eq!(reads > 0, overlaps, "{} {first}..{last} for {range}", entry.local_name);
            *(if overlaps { &mut fetched } else { &mut skipped }) += 1;
        }
        assert!(fetched > 0 && skipped > 3, "{fetched} fetched, {skipped} not: the test shows nothing");
    }

    #[tokio::test]
    async fn a_restored_database_is_not_read_again_for_the_next_checkpoint() {
        let mut cluster = Cluster::start(Kind::RocksDb, 128, 1).await;
        churn(&mut cluster, &mut Dice(5), 3_000).await;
        cluster.checkpoint(CheckpointKind::Incremental).await;
        cluster.restart(Kind::RocksDb, 1).await;
        cluster.counting.reset();
        cluster.checkpoint(CheckpointKind::Incremental).await;
        assert_eq!(cluster.counting.traffic("job-test/shared/").objects_begun, 0);
    }

    #[tokio::test]
    async fn an_incremental_checkpoint_of_the_other_backend_is_refused_with_advice() {
        for (wrote, reads) in [(Kind::Heap, Kind::RocksDb), (Kind::RocksDb, Kind::Heap)] {
            let mut cluster = Cluster::start(wrote, 128, 1).await;
            churn(&mut cluster, &mut Dice(3), 100).await;
            cluster.checkpoint(CheckpointKind::Incremental).await;
            let latest = cluster.coordinator.latest().await.unwrap().unwrap();
            let plan = RestorePlan::new(&latest.metadata, &operator(), 0, 1).unwrap();
            let error = cluster.restored_task(reads, &plan, &latest).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.advice().unwrap().contains("savepoint"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(if is_local() { 12 } else { 4 }) })]

        #[test]
        fn the_same_operations_give_the_same_state_on_both_backends_through_checkpoints_and_rescales(
            runs in prop::collection::vec((prop::collection::vec(operation(), 0..80), 1_u32..=4, any::<bool>()), 1..5),
        ) {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let mut heap = Cluster::start(Kind::Heap, 16, 1).await;
                let mut rocks = Cluster::start(Kind::RocksDb, 16, 1).await;
                for (operations, parallelism, full) in &runs {
                    for operation in operations {
                        heap.apply(operation);
                        rocks.apply(operation);
                    }
                    let kind = if *full { CheckpointKind::Full } else { CheckpointKind::Incremental };
                    heap.checkpoint(kind).await;
                    rocks.checkpoint(kind).await;
                    heap.restart(Kind::Heap, *parallelism).await;
                    rocks.restart(Kind::RocksDb, *parallelism).await;
                    assert!(heap.model == rocks.model);
                    heap.assert_equals_model("heap");
                    rocks.assert_equals_model("rocksdb");
                    for (heap, rocks) in heap.tasks.iter_mut().zip(&mut rocks.tasks) {
                        let (on_heap, on_disk) = (heap.context.backend_mut(), rocks.context.backend_mut());
                        for state in ["value", "list", "map", "reduced", "aggregated", "timers"] {
                            assert_eq!(state_model::rows(on_heap, state), state_model::rows(on_disk, state), "{state}");
                        }
                    }
                }
            });
        }
    }
}

#[test]
fn the_dice_reach_every_kind_of_operation() {
    let mut dice = Dice(1);
    let kinds: BTreeSet<_> =
        (0..2_000).map(|_| std::mem::discriminant(&dice.operation(9))).map(|d| format!("{d:?}")).collect();
    // All but `Advance`, which the tests give themselves.
    assert_eq!(kinds.len(), 14);
}
