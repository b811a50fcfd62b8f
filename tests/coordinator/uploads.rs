//! Uploads that fail: another name, the same checkpoint (K2).

use std::collections::BTreeSet;
use std::sync::Arc;

use icecore::ErrorKind;
use icecore::gc::SweepScope;
use icecore::metadata::CheckpointKind;
use icecore::restore::read_checkpoint;
use icecore::store::testing::{Fault, FaultyStore, Rule, Step};
use icecore::store::{RetryPolicy, StorePath, StoreRef};

use crate::support::*;

/// How a store may fail so that another attempt is due.
const PASSING: [Fault; 4] = [
    Fault::LoseAnswer(ErrorKind::Temporary),
    Fault::LandLater(ErrorKind::Temporary),
    Fault::Fail(ErrorKind::RateLimited),
    Fault::Fail(ErrorKind::Unreachable),
];

impl World {
    /// No object was written more than once, whatever the store answered (K2).
    async fn assert_each_name_was_written_once(&self) {
        for path in self.objects().await.into_keys() {
            assert_eq!(self.counting.traffic(path.as_str()).objects_begun, 1, "{path}");
        }
    }
}

#[tokio::test]
async fn a_file_whose_upload_failed_is_sent_again_under_another_name() {
    for fault in PASSING {
        for file in ["1.sst", "private-1"] {
            let (world, coordinator, mut task) = one_task(keep(5)).await;
            task.write(file, "content");
            let place = if file == "1.sst" { "/shared/" } else { "/operator-" };
            world.store.inject(Rule::on(Step::Put).path_contains(place).times(3), fault).unwrap();
            let folder = checkpoint(&coordinator, &[&task]).await;
            assert_eq!(world.store.fired(), 3, "{fault:?}");
            world.assert_sound("a checkpoint after failed uploads").await;
            world.assert_each_name_was_written_once().await;
            // What failed may land at any time, and goes.
            world.store.land_late().await;
            for _ in 0..2 {
                coordinator.collect(SweepScope::Everything, false).await.unwrap();
            }
            world.assert_exact(&format!("{fault:?} of {file}, after two collections")).await;
            assert_eq!(world.objects_of(folder).await.len(), 1);
            task.write("2.sst", "more");
            checkpoint(&coordinator, &[&task]).await;
            world.assert_sound("the next checkpoint").await;
        }
    }
}

#[tokio::test]
async fn what_failed_and_lands_after_the_checkpoint_was_dropped_goes_too() {
    let (world, coordinator, mut task) = one_task(keep(1)).await;
    for file in ["1.sst", "private-1"] {
        task.write(file, "first");
    }
    let rule = || Rule::on(Step::Put).times(2);
    let late = Fault::LandLater(ErrorKind::Temporary);
    world.store.inject(rule().path_contains("/shared/"), late).unwrap();
    world.store.inject(rule().path_contains("/operator-"), late).unwrap();
    checkpoint(&coordinator, &[&task]).await;
    task.write("1.sst", "second");
    checkpoint(&coordinator, &[&task]).await;
    assert_eq!(world.counting_ids().await, [2]);
    assert_eq!(world.store.land_late().await.len(), 4);
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    world.assert_exact("after one collection").await;
}

#[tokio::test]
async fn who_waits_for_an_upload_that_fails_takes_it_over_and_serves_the_first_one() {
    let world = World::new();
    let coordinator = world.coordinator(2, keep(5)).await;
    let store = FaultyStore::new(world.memory.clone());
    let mut first = world.task_on(store.clone() as StoreRef, &coordinator, 0, 2);
    let mut second = world.task(&coordinator, 1, 2);
    first.write("1.sst", "the same");
    second.write("1.sst", "the same");
    let (first, second) = (Arc::new(first), Arc::new(second));
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let upload = |task: &Arc<Task>| {
        let (task, trigger) = (task.clone(), trigger.clone());
        tokio::spawn(async move { task.upload(&trigger).await })
    };
    let gate = store.park(Rule::on(Step::Put).path_contains("/shared/"));
    let first = upload(&first);
    gate.reached().await;
    let second = upload(&second);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(!second.is_finished(), "it does not wait for the first");
    // The first one never gets through again: all it can do is to wait for the second.
    store.cut_off();
    gate.release();
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!((first.stats.uploaded_files, second.stats.uploaded_files), (0, 1));
    assert_eq!(first.added[0].location, second.added[0].location);
    coordinator.acknowledge(first).await.unwrap();
    coordinator.acknowledge(second).await.unwrap();
    world.assert_sound("two subtasks, one object").await;
    world.assert_exact("two subtasks, one object").await;
}

#[tokio::test]
async fn a_store_that_stays_down_is_told_of_in_the_end_and_the_next_checkpoint_is_taken() {
    let (world, coordinator, mut task) = one_task(keep(5)).await;
    task.write("1.sst", "a");
    world.store.inject(Rule::on(Step::Put).path_contains("/shared/").always(), PASSING[0]).unwrap();
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let began = world.env.clock.monotonic();
    let error = task.upload(&trigger).await.unwrap_err();
    let tried = world.store.fired();
    assert_eq!(error.kind(), ErrorKind::Temporary);
    assert!(error.message().contains(&format!("tried {tried} times in 720.0 s")), "{error}");
    let passed = world.env.clock.monotonic() - began;
    assert!(passed.abs_diff(RetryPolicy::OBJECTS.give_up_after).as_secs() < 1, "{passed:?}");
    // HDFS, by its defaults, may choose a dead DataNode for so long.
    assert!(passed.as_secs() > 630);
    coordinator.decline(trigger.checkpoint, &subtask(0), error.message());
    world.store.heal();
    checkpoint(&coordinator, &[&task]).await;
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    world.assert_exact("every failed name is gone").await;
}

#[tokio::test]
async fn what_will_not_pass_is_not_tried_again() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    for (file, place) in [("1.sst", "/shared/"), ("private-1", "/operator-")] {
        let mut task = world.task(&coordinator, 0, 1);
        task.write(file, "a");
        let fired = world.store.fired();
        world.store.inject(Rule::on(Step::Put).path_contains(place), Fault::Fail(ErrorKind::StorageFull)).unwrap();
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        assert_eq!(task.upload(&trigger).await.unwrap_err().kind(), ErrorKind::StorageFull);
        coordinator.abort(trigger.checkpoint, "for the test");
        coordinator.restart_tasks(operators(1)).unwrap();
        assert_eq!(world.store.fired(), fired + 1);
    }
}

#[tokio::test]
async fn nothing_is_sent_again_for_a_checkpoint_that_was_given_up() {
    for (file, place) in [("1.sst", "/shared/"), ("private-1", "/operator-")] {
        let (world, coordinator, mut task) = one_task(keep(5)).await;
        task.write(file, "a");
        world.store.inject(Rule::on(Step::Put).path_contains(place).always(), PASSING[2]).unwrap();
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        let task = Arc::new(task);
        let upload = {
            let (task, trigger) = (task.clone(), trigger.clone());
            tokio::spawn(async move { task.upload(&trigger).await })
        };
        while world.store.fired() < 3 {
            tokio::task::yield_now().await;
        }
        let tried = world.store.fired();
        coordinator.abort(trigger.checkpoint, "for the test");
        task.snapshotter.notify_aborted(trigger.checkpoint);
        assert_eq!(upload.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled, "{file}");
        assert_eq!(world.store.fired(), tried, "{file}");
    }
}

#[tokio::test]
async fn a_savepoints_folder_holds_no_failed_attempt() {
    let (world, coordinator, mut task) = one_task(keep(5)).await;
    task.write("1.sst", "a");
    task.write("private-1", "b");
    world.store.inject(Rule::on(Step::Put).path_contains("mine/").times(4), PASSING[0]).unwrap();
    let path = StorePath::new("mine").unwrap();
    let trigger = coordinator.trigger_savepoint(&path).await.unwrap();
    finish(&coordinator, &[&task], &trigger).await;
    assert_eq!(world.store.fired(), 4);
    world.assert_each_name_was_written_once().await;
    let savepoint = read_checkpoint(world.memory.clone(), Some(path.clone())).await.unwrap();
    let named = savepoint.metadata.files().map(|file| savepoint.stored_file(file).unwrap().object);
    let named: BTreeSet<StorePath> = named.chain([path.join("_metadata").unwrap()]).collect();
    let there = world.objects().await.into_keys().filter(|object| object.below(&path).is_some());
    assert_eq!(there.collect::<BTreeSet<_>>(), named);
    for file in savepoint.metadata.files() {
        let bytes = world.read(&savepoint.stored_file(file).unwrap().object).await.unwrap();
        assert_eq!(sha256(&bytes), file.sha256.0);
    }
}
