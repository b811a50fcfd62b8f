//! How checkpoints end, and what acknowledgements may change.

use std::sync::Arc;

use icecore::ErrorKind;
use icecore::coordinator::{Acknowledged, CheckpointListener};
use icecore::gc::SweepScope;
use icecore::keygroup::KeyGroupRange;
use icecore::layout::{CheckpointFolder, CheckpointId};
use icecore::metadata::{CheckpointKind, Location, SourcePosition};
use icecore::ownership::JobView;
use icecore::restore::read_checkpoint;
use icecore::store::testing::{Fault, Rule, Step};
use icecore::store::{StorePath, StoreRef};

use crate::support::*;

fn is_discarded(acknowledged: &Acknowledged) -> bool {
    matches!(acknowledged, Acknowledged::Discarded(_))
}

#[tokio::test]
async fn a_checkpoint_is_complete_when_every_subtask_has_acknowledged_and_not_before() {
    let world = World::new();
    let coordinator = world.coordinator(2, keep(3)).await;
    let (mut a, mut b) = (world.task(&coordinator, 0, 2), world.task(&coordinator, 1, 2));
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
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
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
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
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
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
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
    let world = World::new();
    let options = icecore::coordinator::CoordinatorOptions { tolerable_failures: 0, ..keep(5) };
    let coordinator = world.coordinator(1, options).await;
    let mut task = world.task(&coordinator, 0, 1);
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
    let world = World::new();
    let options = icecore::coordinator::CoordinatorOptions { tolerable_failures: 0, ..keep(5) };
    let coordinator = Arc::new(world.coordinator(1, options).await);
    let mut task = world.task(&coordinator, 0, 1);
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
async fn a_doubled_acknowledgement_changes_nothing() {
    let world = World::new();
    let coordinator = world.coordinator(2, keep(5)).await;
    let (mut a, mut b) = (world.task(&coordinator, 0, 2), world.task(&coordinator, 1, 2));
    a.write("1.sst", "a");
    b.write("1.sst", "b");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let handle = a.upload(&trigger).await.unwrap();
    coordinator.acknowledge(handle.clone()).await.unwrap();
    assert!(is_discarded(&coordinator.acknowledge(handle.clone()).await.unwrap()));
    let folder = match coordinator.acknowledge(b.upload(&trigger).await.unwrap()).await.unwrap() {
        Acknowledged::Complete(folder, _) => folder,
        other => panic!("{other:?}"),
    };
    assert!(is_discarded(&coordinator.acknowledge(handle).await.unwrap()));
    assert_eq!(world.metadata(folder).await.files().count(), 2);
}

#[tokio::test]
async fn an_acknowledgement_of_another_run_or_tenure_or_subtask_changes_nothing() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
    task.write("1.sst", "a");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let good = task.upload(&trigger).await.unwrap();
    let (mut run, mut tenure, mut stranger, mut index) = (good.clone(), good.clone(), good.clone(), good.clone());
    run.generation += 1;
    tenure.epoch.counter += 1;
    stranger.subtask.operator = icecore::layout::OperatorId::new("other").unwrap();
    index.subtask.index = 1;
    for bad in [run, tenure, stranger, index] {
        assert!(is_discarded(&coordinator.acknowledge(bad).await.unwrap()));
    }
    let acknowledged = coordinator.acknowledge(good).await.unwrap();
    assert!(matches!(acknowledged, Acknowledged::Complete(..)), "{acknowledged:?}");
}

#[tokio::test]
async fn acknowledgements_of_an_earlier_run_are_discarded_after_a_restart_of_the_tasks() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
    task.write("1.sst", "a");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let handle = task.upload(&trigger).await.unwrap();
    coordinator.restart_tasks(operators(1)).unwrap();
    assert!(is_discarded(&coordinator.acknowledge(handle).await.unwrap()));
    assert!(world.counting_ids().await.is_empty());
    checkpoint(&coordinator, &[&task]).await;
}

#[tokio::test]
async fn an_acknowledgement_on_a_wrong_base_ends_its_checkpoint_alone() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
    task.write("1.sst", "a");
    checkpoint(&coordinator, &[&task]).await;
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let mut handle = task.upload(&trigger).await.unwrap();
    assert_eq!(handle.base, trigger.base);
    handle.base = trigger.base.map(|base| CheckpointFolder { checkpoint: CheckpointId(77), ..base });
    let error = coordinator.acknowledge(handle).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!coordinator.abort(trigger.checkpoint, "again"), "it has ended");
    checkpoint(&coordinator, &[&task]).await;
    world.assert_sound("after the next").await;
}

#[tokio::test]
async fn a_difference_to_other_files_than_the_bases_is_refused() {
    // A subtask that took over another key range, and remembers only its part of the base's files.
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
    task.write("1.sst", "a");
    task.write("2.sst", "b");
    let first = checkpoint(&coordinator, &[&task]).await;
    let metadata = world.metadata(first).await;
    let mut half = world.task(&coordinator, 0, 1);
    half.files = task.files.clone();
    half.remove("2.sst");
    let files = metadata.files().filter(|file| file.local_name.as_str() == "1.sst").cloned();
    half.snapshotter.remember(first, files);
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let error = coordinator.acknowledge(half.upload(&trigger).await.unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

/// A restore refuses a checkpoint of which some key groups are missing, so it must not be reported complete.
#[tokio::test]
async fn parts_that_leave_out_a_key_group_make_no_checkpoint() {
    let world = World::new();
    let coordinator = world.coordinator(2, keep(5)).await;
    let (a, b) = (world.task(&coordinator, 0, 2), world.task(&coordinator, 1, 2));
    for (first, second) in [((0, 62), (64, 127)), ((1, 63), (64, 127)), ((0, 63), (64, 126))] {
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        for (task, (from, to)) in [(&a, first), (&b, second)] {
            let mut handle = task.upload(&trigger).await.unwrap();
            handle.key_groups = KeyGroupRange::new(from, to);
            match coordinator.acknowledge(handle).await {
                Ok(acknowledged) => assert_eq!(acknowledged, Acknowledged::Awaiting(1)),
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}"),
            }
        }
        assert!(world.counting_ids().await.is_empty(), "{first:?} and {second:?} were taken for all of 128");
    }
    checkpoint(&coordinator, &[&a, &b]).await;
}

#[tokio::test]
async fn an_acknowledged_file_that_nobody_keeps_is_refused_before_anything_is_published() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
    task.write("1.sst", "a");
    // An object that is not there, one in another checkpoint's folder, one of another length.
    for tampering in 0..3 {
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        let mut handle = task.upload(&trigger).await.unwrap();
        let entry = &mut handle.added[0];
        let Location::InRoot(path) = entry.location.clone() else { panic!("{entry:?}") };
        match tampering {
            0 => entry.location = Location::InRoot(StorePath::new(path.as_str().replace("sst", "blob")).unwrap()),
            1 => entry.location = Location::InRoot(StorePath::new("job-j/cp-1.1-1/operator-op/subtask-0/x").unwrap()),
            _ => (entry.stored_size_bytes, entry.size_bytes) = (2, 2),
        }
        let error = coordinator.acknowledge(handle).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(world.counting_ids().await.is_empty());
    }
    checkpoint(&coordinator, &[&task]).await;
}

#[tokio::test]
async fn a_declined_checkpoint_ends_and_the_next_one_is_taken() {
    let world = World::new();
    let coordinator = world.coordinator(2, keep(5)).await;
    let (mut a, b) = (world.task(&coordinator, 0, 2), world.task(&coordinator, 1, 2));
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
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
    task.write("1.sst", "a");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    coordinator.abort(trigger.checkpoint, "for the test");
    assert_eq!(task.upload(&trigger).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(world.shared().await.is_empty());
}

#[tokio::test]
async fn a_failed_upload_of_a_declined_checkpoint_is_made_by_the_next_and_its_orphan_is_swept_when_it_lands() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
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
    let world = World::new();
    let coordinator = world.coordinator(2, keep(5)).await;
    let (mut a, mut b) = (world.task(&coordinator, 0, 2), world.task(&coordinator, 1, 2));
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
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
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
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let task = world.task(&coordinator, 0, 1);
    let position = |split: &str| SourcePosition { source: "s".into(), split: split.into(), position: vec![1, 2] };
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    coordinator.set_source_positions(trigger.checkpoint, vec![position("2"), position("1")]);
    finish(&coordinator, &[&task], &trigger).await;
    let latest = coordinator.latest().await.unwrap().unwrap();
    assert_eq!(latest.metadata.sources, [position("1"), position("2")]);
}

#[tokio::test]
async fn listeners_hear_in_the_order_in_which_it_happened() {
    let world = World::new();
    let told = Arc::new(Told::default());
    let store = Arc::clone(&world.store) as StoreRef;
    let listeners = vec![Arc::clone(&told) as Arc<dyn CheckpointListener>];
    let coordinator = world.coordinator_on(store, 1, keep(1), listeners).await.unwrap();
    let task = world.task(&coordinator, 0, 1);
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
async fn a_savepoint_is_not_subsumed_and_not_retained_away_and_stands_on_its_own() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(1)).await;
    let mut task = world.task(&coordinator, 0, 1);
    task.write("1.sst", "a");
    checkpoint(&coordinator, &[&task]).await;
    let path = StorePath::new("mine/savepoint-1").unwrap();
    let trigger = coordinator.trigger_savepoint(&path).await.unwrap();
    task.write("2.sst", "b");
    // Newer checkpoints complete while the savepoint is in flight, and after it.
    checkpoint(&coordinator, &[&task]).await;
    finish(&coordinator, &[&task], &trigger).await;
    task.write("1.sst", "c");
    checkpoint(&coordinator, &[&task]).await;
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    let savepoint = read_checkpoint(world.memory.clone(), Some(path)).await.unwrap();
    assert_eq!(savepoint.metadata.kind, CheckpointKind::Savepoint);
    for file in savepoint.metadata.files() {
        let stored = savepoint.stored_file(file).unwrap();
        assert!(stored.object.as_str().starts_with("mine/savepoint-1/"), "{stored:?}");
        assert_eq!(sha256(&world.read(&stored.object).await.unwrap()), file.sha256.0);
    }
    assert_eq!(savepoint.metadata.files().count(), 2);
    assert_eq!(coordinator.completed().len(), 1, "the checkpoints are retained without it");
}

#[tokio::test]
async fn a_savepoint_in_the_jobs_folder_is_refused() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(1)).await;
    assert_eq!(coordinator.trigger(CheckpointKind::Savepoint).unwrap_err().kind(), ErrorKind::InvalidInput);
    let inside = StorePath::new("job-j/mine").unwrap();
    assert_eq!(coordinator.trigger_savepoint(&inside).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_savepoint_at_a_path_that_is_taken_is_refused() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(1)).await;
    let task = world.task(&coordinator, 0, 1);
    let path = StorePath::new("mine").unwrap();
    let trigger = coordinator.trigger_savepoint(&path).await.unwrap();
    let in_flight = coordinator.trigger_savepoint(&path).await.unwrap_err();
    assert_eq!(in_flight.kind(), ErrorKind::AlreadyExists, "another one is on its way there");
    finish(&coordinator, &[&task], &trigger).await;
    let before = world.objects().await;
    let there = coordinator.trigger_savepoint(&path).await.unwrap_err();
    assert_eq!(there.kind(), ErrorKind::AlreadyExists, "it is there");
    assert_eq!(world.objects().await, before);
    coordinator.trigger_savepoint(&StorePath::new("mine-2").unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_savepoint_that_cannot_be_written_leaves_the_job_as_it_was() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(3)).await;
    let mut task = world.task(&coordinator, 0, 1);
    task.write("1.sst", "a");
    checkpoint(&coordinator, &[&task]).await;
    let fault = Fault::Fail(ErrorKind::StorageFull);
    world.store.inject(Rule::on(Step::Put).path_ends_with("mine/_metadata"), fault).unwrap();
    let trigger = coordinator.trigger_savepoint(&StorePath::new("mine").unwrap()).await.unwrap();
    coordinator.acknowledge(task.upload(&trigger).await.unwrap()).await.unwrap_err();
    checkpoint(&coordinator, &[&task]).await;
    assert_eq!(world.counting_ids().await.len(), 2);
    world.assert_sound("after the savepoint failed").await;
}

#[tokio::test]
async fn subtasks_that_disagree_about_a_state_end_the_checkpoint_alone() {
    use icecore::metadata::{StateKind, StateSchema};
    let world = World::new();
    let coordinator = world.coordinator(2, keep(3)).await;
    let (a, b) = (world.task(&coordinator, 0, 2), world.task(&coordinator, 1, 2));
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let state = |kind| StateSchema { name: "s".into(), kind, key_serializer: "k".into(), value_serializer: "v".into() };
    let (mut one, mut other) = (a.upload(&trigger).await.unwrap(), b.upload(&trigger).await.unwrap());
    one.states = vec![state(StateKind::Value)];
    other.states = vec![state(StateKind::List)];
    coordinator.acknowledge(one).await.unwrap();
    assert_eq!(coordinator.acknowledge(other).await.unwrap_err().kind(), ErrorKind::SchemaMismatch);
    checkpoint(&coordinator, &[&a, &b]).await;
}

#[tokio::test]
async fn a_cancelled_acknowledgement_leaves_no_checkpoint_that_never_ends() {
    let world = World::new();
    let options = icecore::coordinator::CoordinatorOptions { max_concurrent: 2, ..keep(5) };
    let coordinator = Arc::new(world.coordinator(1, options).await);
    let mut task = world.task(&coordinator, 0, 1);
    task.write("1.sst", "a");
    let first = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let second = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let gate = world.store.park(Rule::on(Step::Put).path_ends_with("_metadata"));
    let handle = task.upload(&first).await.unwrap();
    let committing = {
        let coordinator = coordinator.clone();
        tokio::spawn(async move { coordinator.acknowledge(handle).await })
    };
    gate.reached().await;
    task.write("2.sst", "only the second's");
    let handle = task.upload(&second).await.unwrap();
    let waiting = {
        let coordinator = coordinator.clone();
        tokio::spawn(async move { coordinator.acknowledge(handle).await })
    };
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    waiting.abort();
    let _ = waiting.await;
    gate.release();
    committing.await.unwrap().unwrap();
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    assert_eq!(coordinator.registry().stats().held, 0);
    world.assert_exact("after the cancelled one").await;
    let view = JobView::read(&*world.memory, &world.layout).await.unwrap();
    assert_eq!(view.checkpoints.len(), 1);
}

#[tokio::test]
async fn an_upload_of_one_checkpoint_is_not_tried_twice() {
    // Its private files would be written a second time under names that were used.
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let mut task = world.task(&coordinator, 0, 1);
    task.write("private-1", "a");
    world.store.inject(Rule::on(Step::Put).path_contains("private"), Fault::Fail(ErrorKind::Io)).unwrap();
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&trigger).await.unwrap_err();
    assert_eq!(task.upload(&trigger).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    coordinator.decline(trigger.checkpoint, &subtask(0), "its upload failed");
    checkpoint(&coordinator, &[&task]).await;
}
