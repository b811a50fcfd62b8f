//! What an acknowledgement may change: one that is late, doubled, of somebody else, or wrong.

use icecore::ErrorKind;
use icecore::coordinator::Acknowledged;
use icecore::gc::SweepScope;
use icecore::keygroup::KeyGroupRange;
use icecore::layout::{CheckpointFolder, CheckpointId};
use icecore::metadata::{CheckpointKind, Location};
use icecore::ownership::JobView;
use icecore::store::StorePath;
use icecore::store::testing::{Rule, Step};

use crate::support::*;

#[tokio::test]
async fn a_doubled_acknowledgement_changes_nothing() {
    let (world, coordinator, [mut a, mut b]) = two_tasks(keep(5)).await;
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
    let (_world, coordinator, mut task) = one_task(keep(5)).await;
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
    let (world, coordinator, mut task) = one_task(keep(5)).await;
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
    let (world, coordinator, mut task) = one_task(keep(5)).await;
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
    let (world, coordinator, mut task) = one_task(keep(5)).await;
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
    let (world, coordinator, [a, b]) = two_tasks(keep(5)).await;
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
    let (world, coordinator, mut task) = one_task(keep(5)).await;
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
async fn subtasks_that_disagree_about_a_state_end_the_checkpoint_alone() {
    use icecore::metadata::{StateKind, StateSchema};
    let (_world, coordinator, [a, b]) = two_tasks(keep(3)).await;
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
    let options = icecore::coordinator::CoordinatorOptions { max_concurrent: 2, ..keep(5) };
    let (world, coordinator, mut task) = one_task(options).await;
    task.write("1.sst", "a");
    let first = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let second = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let gate = world.store.park(Rule::on(Step::Put).path_ends_with("_metadata"));
    let handle = task.upload(&first).await.unwrap();
    let committing = acknowledging(&coordinator, handle);
    gate.reached().await;
    task.write("2.sst", "only the second's");
    let handle = task.upload(&second).await.unwrap();
    let waiting = acknowledging(&coordinator, handle);
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
