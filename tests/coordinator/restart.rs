//! What a successor takes up.

use std::sync::Arc;

use icecore::ErrorKind;
use icecore::coordinator::Coordinator;
use icecore::gc::SweepScope;
use icecore::layout::JobId;
use icecore::metadata::{CheckpointKind, TableInfo};
use icecore::store::StoreRef;

use crate::support::*;

/// The figures that do not depend on how a registry came to be.
fn figures(coordinator: &Coordinator) -> [u64; 5] {
    let stats = coordinator.registry().stats();
    [stats.entries, stats.tenancies, stats.stored_bytes, stats.checkpoints, stats.held]
}

#[tokio::test]
async fn a_restarted_coordinator_has_the_registry_and_the_chain_that_the_first_had() {
    let (world, first, [mut a, mut b]) = two_tasks(keep(3)).await;
    for round in 0..6_u32 {
        a.write(&format!("{}.sst", round % 4), format!("a{round}"));
        b.write("same.sst", format!("both{round}"));
        a.write("same.sst", format!("both{round}"));
        if round % 3 == 2 {
            a.remove("1.sst");
        }
        checkpoint(&first, &[&a, &b]).await;
    }
    let newest = world.metadata(first.completed().last().unwrap().folder).await;
    let before = figures(&first);
    let second = world.coordinator(2, keep(3)).await;
    assert_eq!(figures(&second), before);
    let folders = |coordinator: &Coordinator| coordinator.completed().iter().map(|d| d.folder).collect::<Vec<_>>();
    assert_eq!(folders(&second), folders(&first));

    let mut a = world.task(&second, 0, 2).restored_from(&a, &newest);
    let b = world.task(&second, 1, 2).restored_from(&b, &newest);
    let (opened, objects) = (a.opened() + b.opened(), world.shared().await);
    let trigger = second.trigger(CheckpointKind::Incremental).unwrap();
    assert_eq!(trigger.base, Some(newest.folder()));
    finish(&second, &[&a, &b], &trigger).await;
    assert_eq!(a.opened() + b.opened(), opened, "nothing has changed, so nothing is read");
    assert!(world.shared().await.keys().all(|path| objects.contains_key(path)), "nothing is uploaded");
    // And the chain goes on: what goes and comes is counted as before.
    for round in 0..4 {
        a.write("0.sst", format!("later {round}"));
        checkpoint(&second, &[&a, &b]).await;
        world.assert_sound("going on").await;
        world.assert_exact("going on").await;
    }
}

#[tokio::test]
async fn a_restarted_coordinator_uploads_known_content_no_more_even_for_a_subtask_that_knows_nothing() {
    let (world, first, mut task) = one_task(keep(3)).await;
    task.write("1.sst", "a");
    task.write("2.sst", "b");
    checkpoint(&first, &[&task]).await;
    let second = world.coordinator(1, keep(3)).await;
    let mut fresh = world.task(&second, 0, 1);
    fresh.files = task.files.clone();
    let handle_objects = world.shared().await;
    let trigger = second.trigger(CheckpointKind::Incremental).unwrap();
    let handle = fresh.upload(&trigger).await.unwrap();
    assert_eq!((handle.stats.hashed_files, handle.stats.uploaded_files), (2, 0));
    second.acknowledge(handle).await.unwrap();
    assert_eq!(world.shared().await, handle_objects);
}

#[tokio::test]
async fn an_entry_that_changes_while_its_object_stays_is_one_tenancy_before_and_after_a_restart() {
    let (world, first, mut task) = one_task(keep(5)).await;
    task.write("1.sst", "a");
    checkpoint(&first, &[&task]).await;
    // RocksDB moves the table to another level: its entry changes, its bytes do not.
    let mut snapshot = task.snapshot();
    snapshot.files[0].table = Some(TableInfo {
        column_family: "default".into(),
        level: 6,
        smallest_key: vec![1],
        largest_key: vec![2],
        smallest_sequence: 0,
        largest_sequence: 0,
    });
    let trigger = first.trigger(CheckpointKind::Incremental).unwrap();
    let handle = task.snapshotter.upload(&trigger, snapshot).await.unwrap();
    assert_eq!((handle.stats.uploaded_files, handle.added.len()), (0, 1));
    first.acknowledge(handle).await.unwrap();
    let latest = first.latest().await.unwrap().unwrap();
    let table = latest.metadata.files().next().unwrap().table.clone();
    assert_eq!(table.map(|table| table.level), Some(6), "the index says where the table is now");
    let before = figures(&first);
    assert_eq!(before[1], 1);
    assert_eq!(figures(&world.coordinator(1, keep(5)).await), before);
}

#[tokio::test]
async fn a_successor_with_another_parallelism_counts_the_same_objects() {
    let (world, first, [mut a, mut b]) = two_tasks(keep(2)).await;
    a.write("1.sst", "a");
    b.write("1.sst", "b");
    checkpoint(&first, &[&a, &b]).await;
    let second = world.coordinator(1, keep(2)).await;
    let mut one = world.task(&second, 0, 1);
    one.write("1.sst", "a");
    one.write("2.sst", "b");
    let trigger = second.trigger(CheckpointKind::Incremental).unwrap();
    let handle = one.upload(&trigger).await.unwrap();
    assert_eq!(handle.stats.uploaded_files, 0);
    second.acknowledge(handle).await.unwrap();
    one.write("3.sst", "c");
    checkpoint(&second, &[&one]).await;
    checkpoint(&second, &[&one]).await;
    world.assert_sound("rescaled").await;
    world.assert_exact("rescaled").await;
}

#[tokio::test]
async fn ids_grow_over_restarts() {
    let world = World::new();
    for expected in 1..5 {
        let coordinator = world.coordinator(1, keep(2)).await;
        let task = world.task(&coordinator, 0, 1);
        assert_eq!(checkpoint(&coordinator, &[&task]).await.checkpoint.0, expected);
        coordinator.end().await.unwrap();
    }
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_read_blocks_deletions_of_shared_files_and_nothing_else() {
    let (world, first, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "a");
    let damaged = checkpoint(&first, &[&task]).await;
    task.write("1.sst", "b");
    checkpoint(&first, &[&task]).await;
    world.memory.put(&world.layout.metadata(damaged).unwrap(), "damaged".into()).await.unwrap();
    let second = world.coordinator(1, keep(1)).await;
    let objects = world.shared().await;
    let mut task = world.task(&second, 0, 1);
    task.write("1.sst", "c");
    checkpoint(&second, &[&task]).await;
    second.collect(SweepScope::Everything, false).await.unwrap();
    let now = world.shared().await;
    assert!(objects.keys().all(|path| now.contains_key(path)), "what it may need is there");
    assert_eq!(second.completed().len(), 1);
}

#[tokio::test]
async fn a_damaged_newest_checkpoint_is_an_error_that_names_the_sound_one_and_that_one_stays() {
    let (world, first, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "a");
    let sound = checkpoint(&first, &[&task]).await;
    let damaged = checkpoint(&first, &[&task]).await;
    world.memory.put(&world.layout.metadata(damaged).unwrap(), "damaged".into()).await.unwrap();
    let second = world.coordinator(1, keep(1)).await;
    let error = second.latest().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&damaged.to_string()), "{error}");
    assert!(error.advice().unwrap().contains(&sound.to_string()), "{error}");
    // The registry goes on from the sound one, so it must not go although it is not the newest.
    let (plan, _) = second.drop_checkpoints(&asked(sound), false).await.unwrap();
    assert_eq!(plan.refused.len(), 1, "{plan}");
    let mut task = world.task(&second, 0, 1);
    task.write("2.sst", "b");
    let next = checkpoint(&second, &[&task]).await;
    assert_eq!(next.checkpoint.0, 3);
    assert_eq!(second.latest().await.unwrap().unwrap().metadata.checkpoint, next.checkpoint);
}

/// Numbers are given anew in every job, and in a copied one from where it was copied. What tells a
/// checkpoint is its folder.
#[tokio::test]
async fn a_subtask_restored_from_another_jobs_checkpoint_builds_on_nothing_of_that_number() {
    let world = World::new();
    let theirs = world.coordinator(1, keep(3)).await;
    let mut other = world.task(&theirs, 0, 1);
    other.write("1.sst", "what is wanted");
    let wanted = checkpoint(&theirs, &[&other]).await;
    let wanted = world.metadata(wanted).await;

    let store = Arc::clone(&world.store) as StoreRef;
    let job = JobId::new("clone").unwrap();
    let ours = Coordinator::start(store, job, operators(1), world.env.clone(), keep(3), vec![]).await.unwrap();
    let mut task = world.task(&ours, 0, 1);
    task.write("1.sst", "what there was");
    checkpoint(&ours, &[&task]).await;

    // Both checkpoints have the number 1, and as many files of the same names.
    let restored = world.task(&ours, 0, 1).restored_from(&other, &wanted);
    checkpoint(&ours, &[&restored]).await;
    let latest = ours.latest().await.unwrap().unwrap();
    let hashes: Vec<_> = latest.metadata.files().map(|file| file.sha256.0).collect();
    assert_eq!(hashes, [sha256(b"what is wanted")], "the checkpoint holds another state than its subtask");
}
