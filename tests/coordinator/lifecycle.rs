//! How checkpoints end: complete, aborted, declined, overtaken.

use std::sync::Arc;

use icecore::ErrorKind;
use icecore::coordinator::Acknowledged;
use icecore::gc::SweepScope;
use icecore::layout::CheckpointId;
use icecore::metadata::{CheckpointKind, SourcePosition};
use icecore::store::StorePath;
use icecore::store::testing::{Fault, Rule, Step};

use crate::support::*;

#[tokio::test]
async fn a_checkpoint_is_complete_when_every_subtask_has_acknowledged_and_not_before() {
    let (world, coordinator, [mut a, mut b]) = two_tasks(keep(3)).await;
    a.write("1.sst", "a");
    b.write("1.sst", "b");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let acknowledged = coordinator.acknowledge(a.upload(&trigger).await.unwrap()).await.unwrap();
    assert_eq!(acknowledged, Acknowledged::Awaiting(1));
    assert!(world.counting_ids().await.is_empty());
    let acknowledged = coordinator.acknowledge(b.upload(&trigger).await.unwrap()).await.unwrap();
    let Acknowledged::Complete(folder, stats) = acknowledged else { panic!("{acknowledged:?}") };
    assert_eq!((stats.files, stats.uploaded_files), (2, 2));
    assert_eq!(world.metadata(folder).await.operators[0].subtasks.len(), 2);
    world.assert_sound("complete").await;
}

#[tokio::test]
async fn aborting_keeps_shared_files_that_others_use_and_frees_its_own() {
    let (world, coordinator, mut task) = one_task(keep(5)).await;
    task.write("1.sst", "used by the first");
    checkpoint(&coordinator, &[&task]).await;
    let before = world.shared().await;
    // Of a pending checkpoint: content that the first has, too, and content of its own.
    task.write("2.sst", "used by the first");
    task.write("3.sst", "nobody else's");
    task.write("private-1", "in the folder");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&trigger).await.unwrap();
    assert_eq!(world.shared().await.len(), 2);
    assert!(coordinator.abort(trigger.checkpoint, "for the test"));
    coordinator.collect(SweepScope::Everything, false).await.unwrap().1.into_result().unwrap();
    assert_eq!(world.shared().await, before);
    world.assert_sound("after the abort").await;
    world.assert_exact("after the abort").await;
}

#[tokio::test]
async fn aborting_leaves_a_file_that_another_pending_checkpoint_was_answered() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let (mut one, mut other) = (world.task(&coordinator, 0, 1), world.task(&coordinator, 0, 1));
    one.write("1.sst", "both");
    other.write("1.sst", "both");
    let first = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let second = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    one.upload(&first).await.unwrap();
    let handle = other.upload(&second).await.unwrap();
    assert_eq!(handle.stats.uploaded_files, 0, "the first has sent it");
    coordinator.abort(first.checkpoint, "for the test");
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    coordinator.acknowledge(handle).await.unwrap();
    assert_eq!(world.counting_ids().await, [second.checkpoint.0]);
    world.assert_sound("the second is complete").await;
    world.assert_exact("the second is complete").await;
}

#[tokio::test]
async fn the_next_completion_removes_what_an_aborted_checkpoint_left() {
    let (world, coordinator, mut task) = one_task(keep(5)).await;
    task.write("1.sst", "of the aborted one");
    task.write("private-1", "of the aborted one");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&trigger).await.unwrap();
    coordinator.abort(trigger.checkpoint, "for the test");
    task.remove("1.sst");
    task.write("2.sst", "of the next");
    checkpoint(&coordinator, &[&task]).await;
    world.assert_exact("after the next completion").await;
}

#[tokio::test]
async fn a_newer_completion_ends_older_pending_checkpoints_and_late_acknowledgements_are_harmless() {
    let (world, coordinator, mut task) = one_task(keep(5)).await;
    task.write("1.sst", "a");
    let older = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let newer = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let late = task.upload(&older).await.unwrap();
    finish(&coordinator, &[&task], &newer).await;
    assert!(!coordinator.abort(older.checkpoint, "again"), "it has ended");
    let stats = coordinator.registry().stats();
    assert!(is_discarded(&coordinator.acknowledge(late).await.unwrap()));
    assert_eq!(coordinator.registry().stats(), stats);
    assert_eq!(world.counting_ids().await, [newer.checkpoint.0]);
    world.assert_sound("after the late acknowledgement").await;
    world.assert_exact("after the late acknowledgement").await;
}

#[tokio::test]
async fn a_full_checkpoint_ends_older_pending_ones_too() {
    let options = icecore::coordinator::CoordinatorOptions { tolerable_failures: 0, ..keep(5) };
    let (_world, coordinator, mut task) = one_task(options).await;
    task.write("1.sst", "a");
    let older = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let newer = coordinator.trigger(CheckpointKind::Full).unwrap();
    let late = task.upload(&older).await.unwrap();
    finish(&coordinator, &[&task], &newer).await;
    assert!(is_discarded(&coordinator.acknowledge(late).await.unwrap()));
    coordinator.trigger(CheckpointKind::Incremental).expect("nothing has failed");
}

#[tokio::test]
async fn a_checkpoint_that_is_overtaken_while_it_waits_to_commit_is_no_failure() {
    let options = icecore::coordinator::CoordinatorOptions { tolerable_failures: 0, ..keep(5) };
    let (world, coordinator, mut task) = one_task(options).await;
    task.write("1.sst", "a");
    let first = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let older = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let newer = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let handles = [&first, &newer, &older].map(|trigger| trigger.clone());
    let mut acknowledged = Vec::new();
    // The first is stopped in its commit; the newer one is in line before the older one.
    let gate = world.store.park(Rule::on(Step::Put).path_ends_with("_metadata"));
    for trigger in &handles {
        let handle = task.upload(trigger).await.unwrap();
        let coordinator = coordinator.clone();
        acknowledged.push(tokio::spawn(async move { coordinator.acknowledge(handle).await }));
        gate.reached().await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    gate.release();
    let mut outcomes = Vec::new();
    for outcome in acknowledged {
        outcomes.push(outcome.await.unwrap().is_ok());
    }
    assert_eq!(outcomes, [true, true, false]);
    coordinator.trigger(CheckpointKind::Incremental).expect("it was late, it did not fail");
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    world.assert_sound("after all").await;
    assert_eq!(world.counting_ids().await, [first.checkpoint.0, newer.checkpoint.0]);
}

#[tokio::test]
async fn a_declined_checkpoint_ends_and_the_next_one_is_taken() {
    let (world, coordinator, [mut a, b]) = two_tasks(keep(5)).await;
    a.write("1.sst", "a");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    coordinator.acknowledge(a.upload(&trigger).await.unwrap()).await.unwrap();
    assert!(coordinator.decline(trigger.checkpoint, &subtask(1), "no room on the disk"));
    assert!(!coordinator.decline(trigger.checkpoint, &subtask(1), "no room on the disk"));
    checkpoint(&coordinator, &[&a, &b]).await;
    world.assert_exact("after the next").await;
}

#[tokio::test]
async fn an_upload_for_an_aborted_checkpoint_is_refused_and_leaves_nothing() {
    let (world, coordinator, mut task) = one_task(keep(5)).await;
    task.write("1.sst", "a");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    coordinator.abort(trigger.checkpoint, "for the test");
    assert_eq!(task.upload(&trigger).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(world.shared().await.is_empty());
}

#[tokio::test]
async fn a_failed_upload_of_a_declined_checkpoint_is_made_by_the_next_and_its_orphan_is_swept_when_it_lands() {
    let (world, coordinator, mut task) = one_task(keep(5)).await;
    task.write("1.sst", "a");
    world.store.inject(Rule::on(Step::Put).path_contains("/shared/"), Fault::LandLater(ErrorKind::Io)).unwrap();
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&trigger).await.unwrap_err();
    coordinator.decline(trigger.checkpoint, &subtask(0), "upload failed");
    checkpoint(&coordinator, &[&task]).await;
    assert_eq!(world.store.late_changes(), 1);
    world.store.land_late().await;
    assert_eq!(world.shared().await.len(), 2);
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    world.assert_sound("after the sweep").await;
    world.assert_exact("after the sweep").await;
}

#[tokio::test]
async fn two_files_of_one_name_and_different_content_are_two_objects() {
    let (world, coordinator, [mut a, mut b]) = two_tasks(keep(5)).await;
    a.write("1.sst", "aaaa");
    b.write("1.sst", "bbbb");
    checkpoint(&coordinator, &[&a, &b]).await;
    assert_eq!(world.shared().await.len(), 2);
    // And of one subtask, one after the other.
    a.write("1.sst", "cccc");
    checkpoint(&coordinator, &[&a, &b]).await;
    assert_eq!(world.shared().await.len(), 3);
    world.assert_sound("two contents").await;
}

#[tokio::test]
async fn a_base_that_is_forgotten_during_an_upload_loses_no_file() {
    // A newer completion lets the subtask forget the base of an upload that is under way.
    let (world, coordinator, mut task) = one_task(keep(5)).await;
    task.write("1.sst", "carried over");
    checkpoint(&coordinator, &[&task]).await;
    task.write("2.sst", "new");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let task = Arc::new(task);
    let gate = world.store.park(Rule::on(Step::Put).path_contains("/shared/"));
    let upload = {
        let (task, trigger) = (task.clone(), trigger.clone());
        tokio::spawn(async move { task.upload(&trigger).await })
    };
    gate.reached().await;
    task.snapshotter.notify_complete(CheckpointId(99));
    gate.release();
    let handle = upload.await.unwrap().unwrap();
    let Acknowledged::Complete(folder, _) = coordinator.acknowledge(handle).await.unwrap() else { panic!() };
    assert_eq!(world.metadata(folder).await.files().count(), 2);
}

#[tokio::test]
async fn source_positions_are_stored_with_the_checkpoint_in_order() {
    let (_world, coordinator, task) = one_task(keep(5)).await;
    let position = |split: &str| SourcePosition { source: "s".into(), split: split.into(), position: vec![1, 2] };
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    coordinator.set_source_positions(trigger.checkpoint, vec![position("2"), position("1")]);
    finish(&coordinator, &[&task], &trigger).await;
    let latest = coordinator.latest().await.unwrap().unwrap();
    assert_eq!(latest.metadata.sources, [position("1"), position("2")]);
}

#[tokio::test]
async fn listeners_hear_in_the_order_in_which_it_happened() {
    let (_world, coordinator, task, told) = listened_to(keep(1)).await;
    checkpoint(&coordinator, &[&task]).await;
    let older = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    checkpoint(&coordinator, &[&task]).await;
    let declined = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    coordinator.decline(declined.checkpoint, &subtask(0), "no");
    let savepoint = coordinator.trigger_savepoint(&StorePath::new("mine").unwrap()).await.unwrap();
    finish(&coordinator, &[&task], &savepoint).await;
    assert_eq!(older.checkpoint, CheckpointId(2));
    assert_eq!(*told.0.lock(), ["complete 1", "complete 3", "aborted 2", "subsumed 1", "aborted 4"]);
}

#[tokio::test]
async fn an_upload_of_one_checkpoint_is_not_tried_twice() {
    // Its private files would be written a second time under names that were used.
    let (world, coordinator, mut task) = one_task(keep(5)).await;
    task.write("private-1", "a");
    world.store.inject(Rule::on(Step::Put).path_contains("private"), Fault::Fail(ErrorKind::Io)).unwrap();
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&trigger).await.unwrap_err();
    assert_eq!(task.upload(&trigger).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    coordinator.decline(trigger.checkpoint, &subtask(0), "its upload failed");
    checkpoint(&coordinator, &[&task]).await;
}
