//! Damaged objects: shared no further, stored anew by the next checkpoint, and nothing else is (X1-X4).

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore::ErrorKind;
use icecore::coordinator::{Acknowledged, Coordinator, CoordinatorOptions, Distrusted, Wish};
use icecore::gc::SweepScope;
use icecore::layout::{CheckpointFolder, SharedName};
use icecore::metadata::{CheckpointKind, Outcome};
use icecore::ownership::requests::{ask, wait_for_answer};
use icecore::store::StorePath;
use icecore::store::testing::{Fault, Rule, Step};

use crate::support::*;

const REASON: &str = "for the test";

/// What may become of an object that somebody else's hands touch.
#[derive(Clone, Copy, Debug)]
enum Damage {
    FlippedByte,
    Truncated,
    Deleted,
}

async fn damage(world: &World, object: &StorePath, how: Damage) {
    let mut bytes = world.read(object).await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    match how {
        Damage::FlippedByte => bytes[middle] ^= 1,
        Damage::Truncated => bytes.truncate(middle),
        Damage::Deleted => {
            world.memory.delete(std::slice::from_ref(object)).await.remove(0).unwrap();
            return;
        }
    }
    world.memory.put(object, bytes.into()).await.unwrap();
}

fn name_of(object: &StorePath) -> SharedName {
    object.file_name().parse().unwrap()
}

/// Whether every file of a checkpoint is there as it was recorded.
async fn is_sound(world: &World, folder: CheckpointFolder) -> bool {
    let objects = world.objects_of(folder).await;
    let metadata = world.metadata(folder).await;
    for file in metadata.files() {
        match world.read(&objects[file.local_name.as_str()]).await {
            Some(bytes) if sha256(&bytes) == file.sha256.0 => {}
            _ => return false,
        }
    }
    true
}

/// A task with three files and a checkpoint of it.
async fn three_files(world: &World, coordinator: &Coordinator) -> (Task, CheckpointFolder) {
    let mut task = world.task(coordinator, 0, 1);
    for (name, length) in [("1.sst", 100), ("2.sst", 200), ("3.sst", 300)] {
        task.write(name, vec![length as u8; length]);
    }
    let folder = checkpoint(coordinator, &[&task]).await;
    (task, folder)
}

/// The shared bytes that a checkpoint wrote, and where its files lie.
async fn measured(
    world: &World,
    coordinator: &Coordinator,
    tasks: &[&Task],
) -> (u64, CheckpointFolder, BTreeMap<String, StorePath>) {
    world.counting.reset();
    let folder = checkpoint(coordinator, tasks).await;
    (world.counting.traffic("job-j/shared/").written_bytes, folder, world.objects_of(folder).await)
}

async fn distrust(coordinator: &Coordinator, object: &StorePath) -> Distrusted {
    coordinator.distrust(&[name_of(object)], REASON).await.unwrap()
}

#[tokio::test]
async fn the_next_checkpoint_stores_what_is_damaged_anew_and_nothing_else() {
    for how in [Damage::FlippedByte, Damage::Truncated, Damage::Deleted] {
        let world = World::new();
        let coordinator = world.coordinator(1, keep(9)).await;
        let (task, first) = three_files(&world, &coordinator).await;
        let before = world.objects_of(first).await;
        damage(&world, &before["2.sst"], how).await;

        // Without a word of it, the damage goes on and on.
        let (written, second, _) = measured(&world, &coordinator, &[&task]).await;
        assert_eq!((written, is_sound(&world, second).await), (0, false), "{how:?}");

        let opened = task.opened();
        assert_eq!(distrust(&coordinator, &before["2.sst"]).await.marked, [name_of(&before["2.sst"])], "{how:?}");
        let (written, third, now) = measured(&world, &coordinator, &[&task]).await;
        assert_eq!((written, task.opened() - opened), (200, 1), "{how:?}: only what is damaged");
        assert!(is_sound(&world, third).await, "{how:?}");
        assert_ne!(now["2.sst"], before["2.sst"]);
        assert_eq!((&now["1.sst"], &now["3.sst"]), (&before["1.sst"], &before["3.sst"]));
        assert_eq!(world.objects_of(second).await["2.sst"], before["2.sst"], "older ones are as they were");
        assert!(!is_sound(&world, first).await && !is_sound(&world, second).await);

        // Once is enough: what is new is carried over as ever.
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        assert!(trigger.distrusted.is_empty());
        let opened = task.opened();
        finish(&coordinator, &[&task], &trigger).await;
        assert_eq!(task.opened(), opened);
        // The damaged one goes with its checkpoints, and so does the record of it.
        let drops = [first, second].map(|folder| (folder, "asked for".to_owned()));
        coordinator.drop_checkpoints(&drops, false).await.unwrap();
        coordinator.collect(SweepScope::Records, false).await.unwrap();
        world.assert_sound("the damaged ones are dropped").await;
        world.assert_exact("the damaged ones are dropped").await;
        assert!(world.view().await.distrusted.is_empty(), "nobody needs the record any more");
    }
}

#[tokio::test]
async fn a_later_owner_knows_it_whether_its_subtasks_remember_the_base_or_not() {
    for remembers in [true, false] {
        let world = World::new();
        let first = world.coordinator(1, keep(9)).await;
        let (task, folder) = three_files(&world, &first).await;
        let before = world.objects_of(folder).await;
        damage(&world, &before["3.sst"], Damage::FlippedByte).await;
        distrust(&first, &before["3.sst"]).await;
        first.end().await.unwrap();

        let second = world.coordinator(1, keep(9)).await;
        let metadata = world.metadata(folder).await;
        let mut again = world.task(&second, 0, 1);
        if remembers {
            again = again.restored_from(&task, &metadata);
        } else {
            again.files = task.files.clone();
        }
        let (written, newer, _) = measured(&world, &second, &[&again]).await;
        assert_eq!(written, 300, "remembers: {remembers}");
        assert!(is_sound(&world, newer).await);
        // And the one after it, which builds on what is sound.
        second.end().await.unwrap();
        let third = world.coordinator(1, keep(9)).await;
        let metadata = world.metadata(newer).await;
        let again = world.task(&third, 0, 1).restored_from(&task, &metadata);
        let trigger = third.trigger(CheckpointKind::Incremental).unwrap();
        assert!(trigger.distrusted.is_empty(), "the base has nothing damaged");
        let handle = again.upload(&trigger).await.unwrap();
        assert_eq!((handle.stats.uploaded_files, handle.stats.hashed_files), (0, 0));
    }
}

#[tokio::test]
async fn content_that_two_subtasks_have_is_stored_anew_once() {
    let world = World::new();
    let coordinator = world.coordinator(2, keep(9)).await;
    let (mut a, mut b) = (world.task(&coordinator, 0, 2), world.task(&coordinator, 1, 2));
    a.write("a.sst", vec![7; 50]);
    b.write("b.sst", vec![7; 50]);
    let first = checkpoint(&coordinator, &[&a, &b]).await;
    let object = world.objects_of(first).await["a.sst"].clone();
    damage(&world, &object, Damage::Truncated).await;
    distrust(&coordinator, &object).await;
    let (written, second, now) = measured(&world, &coordinator, &[&a, &b]).await;
    assert_eq!(written, 50);
    assert_eq!(now["a.sst"], now["b.sst"]);
    assert!(is_sound(&world, second).await);
}

#[tokio::test]
async fn checkpoints_in_flight_are_given_up_without_blame_and_full_ones_are_not() {
    let world = World::new();
    // Not a single failure is tolerated.
    let coordinator = world.coordinator(1, CoordinatorOptions { tolerable_failures: 0, ..keep(9) }).await;
    let (task, first) = three_files(&world, &coordinator).await;
    let object = world.objects_of(first).await["1.sst"].clone();
    damage(&world, &object, Damage::Deleted).await;
    let full = coordinator.trigger(CheckpointKind::Full).unwrap();
    let early = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let handle = task.upload(&early).await.unwrap();
    distrust(&coordinator, &object).await;
    let acknowledged = coordinator.acknowledge(handle).await.unwrap();
    assert!(matches!(acknowledged, Acknowledged::Discarded(_)), "{acknowledged:?}");
    task.snapshotter.notify_aborted(early.checkpoint);
    finish(&coordinator, &[&task], &full).await;
    let (written, third, _) = measured(&world, &coordinator, &[&task]).await;
    assert_eq!(written, 100);
    assert!(is_sound(&world, third).await);
}

#[tokio::test]
async fn a_checkpoint_that_waits_for_its_commit_is_not_completed_with_what_is_damaged() {
    let world = World::new();
    let coordinator = Arc::new(world.coordinator(1, CoordinatorOptions { tolerable_failures: 0, ..keep(9) }).await);
    let (task, first) = three_files(&world, &coordinator).await;
    let object = world.objects_of(first).await["1.sst"].clone();
    let one = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let other = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let (one, other) = (task.upload(&one).await.unwrap(), task.upload(&other).await.unwrap());
    let spawn = |handle| {
        let coordinator = Arc::clone(&coordinator);
        tokio::spawn(async move { coordinator.acknowledge(handle).await })
    };
    // The first stands still in its commit; behind it the damage is told of, and behind that the second waits.
    let gate = world.store.park(Rule::on(Step::Put).path_ends_with("_metadata"));
    let one = spawn(one);
    gate.reached().await;
    damage(&world, &object, Damage::FlippedByte).await;
    let told = {
        let (coordinator, name) = (Arc::clone(&coordinator), name_of(&object));
        tokio::spawn(async move { coordinator.distrust(&[name], REASON).await })
    };
    tokio::task::yield_now().await;
    let other = spawn(other);
    tokio::task::yield_now().await;
    gate.release();
    assert!(matches!(one.await.unwrap().unwrap(), Acknowledged::Complete(..)), "it was complete before");
    assert_eq!(told.await.unwrap().unwrap().marked.len(), 1);
    let error = other.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
    let (written, sound, _) = measured(&world, &coordinator, &[&task]).await;
    assert_eq!(written, 100);
    assert!(is_sound(&world, sound).await);
}

#[tokio::test]
async fn a_subtask_that_shares_what_the_trigger_says_is_damaged_is_not_believed() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(9)).await;
    let (task, first) = three_files(&world, &coordinator).await;
    distrust(&coordinator, &world.objects_of(first).await["1.sst"]).await;
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let mut deaf = trigger.clone();
    deaf.distrusted = Arc::default();
    let error = coordinator.acknowledge(task.upload(&deaf).await.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn a_record_that_was_not_written_is_an_error_and_may_be_asked_for_again() {
    for fault in [Fault::Fail(ErrorKind::Temporary), Fault::LoseAnswer(ErrorKind::Temporary)] {
        let world = World::new();
        let coordinator = world.coordinator(1, keep(9)).await;
        let (task, first) = three_files(&world, &coordinator).await;
        let object = world.objects_of(first).await["1.sst"].clone();
        world.store.inject(Rule::on(Step::Put).path_contains("/distrusted/"), fault).unwrap();
        let error = coordinator.distrust(&[name_of(&object)], REASON).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Temporary);
        // For this owner it holds all the same.
        let (written, ..) = measured(&world, &coordinator, &[&task]).await;
        assert_eq!(written, 100, "{fault:?}");
        assert_eq!(distrust(&coordinator, &object).await.marked.len(), 1, "{fault:?}");
        assert_eq!(distrust(&coordinator, &object).await.known.len(), 1, "{fault:?}");
        assert!(world.view().await.is_distrusted(&name_of(&object)), "{fault:?}");
    }
}

#[tokio::test]
async fn what_no_checkpoint_has_needs_no_record_and_what_an_unreadable_one_may_have_does() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(9)).await;
    let (_, first) = three_files(&world, &coordinator).await;
    let mut stranger = name_of(&world.objects_of(first).await["1.sst"]);
    stranger.tag.generation += 1;
    assert_eq!(coordinator.distrust(&[stranger], REASON).await.unwrap().unneeded, [stranger]);
    assert!(world.view().await.distrusted.is_empty());
    world.memory.put(&world.layout.metadata(first).unwrap(), "damaged".into()).await.unwrap();
    let successor = world.coordinator(1, keep(9)).await;
    assert_eq!(successor.distrust(&[stranger], REASON).await.unwrap().marked, [stranger]);
    // Nor is the record removed for as long as nobody can tell.
    successor.collect(SweepScope::Everything, false).await.unwrap();
    assert_eq!(world.view().await.distrusted.len(), 1);
}

#[tokio::test]
async fn a_fenced_owner_promises_nothing() {
    let world = World::new();
    let old = world.coordinator(1, keep(9)).await;
    let (_, first) = three_files(&world, &old).await;
    let name = name_of(&world.objects_of(first).await["1.sst"]);
    let _new = world.coordinator(1, keep(9)).await;
    assert_eq!(old.distrust(&[name], REASON).await.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn the_living_owner_does_it_on_request() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(9)).await;
    let (task, first) = three_files(&world, &coordinator).await;
    let objects = world.objects_of(first).await;
    let wish = Wish::Distrust(vec![name_of(&objects["1.sst"]), name_of(&objects["3.sst"])]);
    let asked = ask(&*world.memory, &world.layout, &world.env, wish.kind(), &wish.to_string()).await.unwrap();
    assert_eq!(coordinator.serve_requests().await.unwrap(), 1);
    let wait = std::time::Duration::from_secs(1);
    let answer = wait_for_answer(&*world.memory, &world.layout, &world.env, &asked, wait).await.unwrap();
    assert!(matches!(&answer, Outcome::Done(text) if text.starts_with("2 objects shared no more")), "{answer:?}");
    let (written, ..) = measured(&world, &coordinator, &[&task]).await;
    assert_eq!(written, 400);
}
