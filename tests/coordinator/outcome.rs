//! Commits whose outcome nobody knows, and coordinators that are superseded.

use icecore::ErrorKind;
use icecore::gc::SweepScope;
use icecore::metadata::CheckpointKind;
use icecore::store::testing::{Fault, Rule, Step};

use crate::support::*;

/// A commit is answered with an error. Returns the world, with what the first coordinator left.
async fn failed_commit(fault: Fault) -> (World, Vec<u64>) {
    let (world, coordinator, mut task) = one_task(keep(2)).await;
    task.write("1.sst", "a");
    task.write("private-1", "p");
    checkpoint(&coordinator, &[&task]).await;
    task.write("2.sst", "b");
    world.store.inject(Rule::on(Step::Put).path_contains("/cp-2.").path_ends_with("_metadata"), fault).unwrap();
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let handle = task.upload(&trigger).await.unwrap();
    let before = world.objects().await;
    let error = coordinator.acknowledge(handle.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    // The old one is there, nothing was cleaned up, and the tenure is over for everybody.
    let mut after = world.objects().await;
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
    let mut kinds = vec![
        coordinator.trigger(CheckpointKind::Incremental).unwrap_err().kind(),
        coordinator.tick().unwrap_err().kind(),
        coordinator.collect(SweepScope::Everything, false).await.unwrap_err().kind(),
        coordinator.acknowledge(handle).await.unwrap_err().kind(),
        coordinator.end().await.unwrap_err().kind(),
    ];
    let first = coordinator.completed()[0].folder;
    kinds.push(coordinator.pin(first, "no").await.unwrap_err().kind());
    kinds.push(coordinator.drop_checkpoints(&[(first, "no".into())], false).await.unwrap_err().kind());
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::OutcomeUnknown), "{kinds:?}");
    assert!(!coordinator.abort(trigger.checkpoint, "no"));
    let mut later = world.objects().await;
    later.retain(|path, _| before.contains_key(path));
    assert_eq!(later, before, "nothing was cleaned up later either");
    let ids = world.counting_ids().await;
    (world, ids)
}

/// A successor works on what is there.
async fn go_on(world: &World) -> Vec<u64> {
    let successor = world.coordinator(1, keep(2)).await;
    let adopted = successor.completed().iter().map(|done| done.folder.checkpoint.0).collect();
    world.assert_sound("adopted").await;
    let mut task = world.task(&successor, 0, 1);
    task.write("1.sst", "a");
    task.write("3.sst", "c");
    checkpoint(&successor, &[&task]).await;
    world.store.land_late().await;
    world.assert_sound("landed").await;
    checkpoint(&successor, &[&task]).await;
    for _ in 0..2 {
        successor.collect(SweepScope::Everything, false).await.unwrap();
    }
    world.assert_sound("in the end").await;
    world.assert_exact("in the end").await;
    adopted
}

#[tokio::test]
async fn a_commit_that_failed_and_landed_counts_for_the_successor() {
    let (world, ids) = failed_commit(Fault::LoseAnswer(ErrorKind::Temporary)).await;
    assert_eq!(ids, [1, 2]);
    assert_eq!(go_on(&world).await, [1, 2]);
}

#[tokio::test]
async fn a_commit_that_failed_and_did_not_land_leaves_the_old_one() {
    let (world, ids) = failed_commit(Fault::Fail(ErrorKind::StorageFull)).await;
    assert_eq!(ids, [1]);
    assert_eq!(go_on(&world).await, [1]);
}

#[tokio::test]
async fn a_commit_that_lands_after_its_successor_started_does_not_count() {
    let (world, ids) = failed_commit(Fault::LandLater(ErrorKind::Temporary)).await;
    assert_eq!(ids, [1]);
    assert_eq!(go_on(&world).await, [1]);
}

#[tokio::test]
async fn a_commit_whose_look_fails_for_good_is_of_unknown_outcome() {
    let (world, coordinator, mut task) = one_task(keep(2)).await;
    task.write("1.sst", "a");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let handle = task.upload(&trigger).await.unwrap();
    let fault = Fault::Fail(ErrorKind::Temporary);
    world.store.inject(Rule::on(Step::List).path_contains("/epochs").always(), fault).unwrap();
    assert_eq!(coordinator.acknowledge(handle).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert!(coordinator.completed().is_empty(), "nobody was told");
    world.store.heal();
    assert_eq!(world.coordinator(1, keep(2)).await.completed().len(), 1, "the successor decides that it counts");
    world.assert_sound("the successor").await;
}

#[tokio::test]
async fn a_superseded_coordinator_is_fenced_at_its_next_commit_and_deletes_nothing() {
    let (world, old, mut task) = one_task(keep(1)).await;
    task.write("1.sst", "a");
    checkpoint(&old, &[&task]).await;
    task.write("1.sst", "b");
    let trigger = old.trigger(CheckpointKind::Incremental).unwrap();
    let handle = task.upload(&trigger).await.unwrap();
    let new = world.coordinator(1, keep(1)).await;
    let before = world.objects().await;
    assert_eq!(old.acknowledge(handle).await.unwrap_err().kind(), ErrorKind::Fenced);
    let mut after = world.objects().await;
    after.retain(|path, _| before.contains_key(path));
    assert_eq!(after, before);
    assert_eq!(old.trigger(CheckpointKind::Incremental).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(world.counting_ids().await, [1], "what the old one wrote after the start does not count");
    let mut task = world.task(&new, 0, 1);
    task.write("1.sst", "c");
    checkpoint(&new, &[&task]).await;
    for _ in 0..2 {
        new.collect(SweepScope::Everything, false).await.unwrap();
    }
    world.assert_exact("the new one").await;
}

#[tokio::test]
async fn a_superseded_coordinator_deletes_nothing_when_it_drops_or_collects() {
    let (world, old, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "a");
    let first = checkpoint(&old, &[&task]).await;
    task.write("1.sst", "b");
    checkpoint(&old, &[&task]).await;
    let _new = world.coordinator(1, keep(9)).await;
    let before = world.objects().await;
    let error = old.drop_checkpoints(&asked(first), false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert_eq!(old.collect(SweepScope::Everything, false).await.unwrap_err().kind(), ErrorKind::Fenced);
    let after = world.objects().await;
    assert!(before.keys().all(|path| after.contains_key(path)));
    world.assert_sound("after the zombie").await;
}
