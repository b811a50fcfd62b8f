//! What goes on beside a collection: commits, pins and drops do not wait for its deletes, and its
//! deletes take nothing from them.

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use icecore::ErrorKind;
use icecore::coordinator::Coordinator;
use icecore::gc::{CONDEMNED_BATCH_OBJECTS, SweepScope};
use icecore::layout::CheckpointFolder;
use icecore::metadata::CheckpointKind;
use icecore::store::testing::{Gate, Rule, Step};
use tokio::task::JoinHandle;

use crate::support::*;

/// More turns than any call here takes that does not wait for another.
const TURNS: usize = 100_000;

/// What `call` answers, without waiting for what stands still.
async fn at_once<T: Send + 'static>(what: &str, call: impl Future<Output = T> + Send + 'static) -> T {
    let call = tokio::spawn(call);
    for _ in 0..TURNS {
        if call.is_finished() {
            return call.await.unwrap();
        }
        tokio::task::yield_now().await;
    }
    panic!("{what} waits");
}

async fn checkpoint_at_once(coordinator: &Arc<Coordinator>, task: &Arc<Task>) -> CheckpointFolder {
    let (coordinator, task) = (coordinator.clone(), task.clone());
    at_once("a checkpoint", async move { checkpoint(&coordinator, &[&task]).await }).await
}

/// An aborted checkpoint's file, which only a collection removes.
async fn leave_an_orphan(coordinator: &Coordinator, task: &mut Task) {
    task.write("orphan.sst", "of an aborted checkpoint");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&trigger).await.unwrap();
    task.remove("orphan.sst");
    coordinator.abort(trigger.checkpoint, "for the test");
}

fn collect(coordinator: &Arc<Coordinator>) -> JoinHandle<bool> {
    let coordinator = coordinator.clone();
    tokio::spawn(async move {
        let (_, report) = coordinator.collect(SweepScope::Everything, false).await.unwrap();
        report.is_finished()
    })
}

/// A collection that stands still at `rule`.
async fn stalled_at(world: &World, coordinator: &Arc<Coordinator>, rule: Rule) -> (Gate, JoinHandle<bool>) {
    let gate = world.store.park(rule);
    let collecting = collect(coordinator);
    gate.reached().await;
    (gate, collecting)
}

#[tokio::test]
async fn checkpoints_commit_while_the_deletes_of_a_collection_hang() {
    let (world, coordinator, mut task) = one_task(keep(2)).await;
    task.write("1.sst", "a");
    checkpoint(&coordinator, &[&task]).await;
    leave_an_orphan(&coordinator, &mut task).await;
    let (gate, collecting) = stalled_at(&world, &coordinator, Rule::on(Step::Delete).always()).await;
    let task = Arc::new(task);
    let mut folders = Vec::new();
    for _ in 0..4 {
        folders.push(checkpoint_at_once(&coordinator, &task).await);
        world.assert_sound("while the deletes hang").await;
    }
    assert_eq!(coordinator.completed().iter().map(|done| done.folder).collect::<Vec<_>>(), folders[2..]);
    assert!(!collecting.is_finished());
    gate.release();
    assert!(collecting.await.unwrap());
    // Whoever deleted went on to what the checkpoints had dropped meanwhile.
    world.assert_sound("after the collection").await;
    world.assert_exact("after the collection").await;
    assert_eq!(world.view().await.lists.len(), 0);
}

#[tokio::test]
async fn checkpoints_commit_while_a_collection_lists_and_reads() {
    // At every request of the collection before its first delete, one after the other.
    for step in [Step::List, Step::ListItem, Step::ListChildren, Step::Stat, Step::Read, Step::Put] {
        for n in 1.. {
            let (world, coordinator, mut task) = one_task(keep(1)).await;
            task.write("1.sst", "a");
            checkpoint(&coordinator, &[&task]).await;
            leave_an_orphan(&coordinator, &mut task).await;
            let gate = world.store.park(Rule::on(step).nth(n));
            let mut collecting = collect(&coordinator);
            tokio::select! {
                biased;
                () = gate.reached() => {}
                is_finished = &mut collecting => {
                    assert!(is_finished.unwrap() && n > 1, "{step:?}");
                    break;
                }
            }
            task.write("2.sst", "b");
            let task = Arc::new(task);
            let folder = checkpoint_at_once(&coordinator, &task).await;
            let when = format!("{step:?} {n}");
            assert_eq!(coordinator.latest().await.unwrap().unwrap().metadata.folder(), folder, "{when}");
            gate.release();
            assert!(collecting.await.unwrap(), "{when}");
            world.assert_sound(&when).await;
            assert_eq!(world.counting_ids().await, [folder.checkpoint.0], "{when}");
            // What the collection knows of the job is not older than the commit.
            checkpoint(&coordinator, &[&task]).await;
            coordinator.collect(SweepScope::Everything, false).await.unwrap();
            world.assert_sound(&when).await;
            world.assert_exact(&when).await;
        }
    }
}

#[tokio::test]
async fn a_file_that_a_collection_is_about_to_take_is_handed_out_before_or_uploaded_again() {
    // The orphan's content is wanted again: before it is condemned, while its list is written, while it is deleted.
    let shared = || Rule::on(Step::Delete).path_contains("/shared/");
    let listed = || Rule::on(Step::ListItem).path_contains("/shared/");
    for rule in [listed(), Rule::on(Step::Put).path_contains("/condemned/"), shared()] {
        let (world, coordinator, mut task) = one_task(keep(2)).await;
        leave_an_orphan(&coordinator, &mut task).await;
        let (gate, collecting) = stalled_at(&world, &coordinator, rule.clone()).await;
        task.write("again.sst", "of an aborted checkpoint");
        let task = Arc::new(task);
        checkpoint_at_once(&coordinator, &task).await;
        gate.release();
        collecting.await.unwrap();
        world.assert_sound(&format!("{rule:?}")).await;
        coordinator.collect(SweepScope::Everything, false).await.unwrap();
        world.assert_exact(&format!("{rule:?}")).await;
    }
}

#[tokio::test]
async fn a_file_that_a_collection_has_found_free_and_an_upload_was_answered_stays() {
    let (world, coordinator, mut task) = one_task(keep(2)).await;
    for name in ["1.sst", "2.sst"] {
        task.write(name, name);
    }
    let aborted = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&aborted).await.unwrap();
    coordinator.abort(aborted.checkpoint, "for the test");
    // One of them is judged, both are not condemned yet.
    let rule = Rule::on(Step::ListItem).path_contains("/shared/").nth(2);
    let (gate, collecting) = stalled_at(&world, &coordinator, rule).await;
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let handle = task.upload(&trigger).await.unwrap();
    assert_eq!(handle.stats.uploaded_files, 0, "both were handed out again");
    gate.release();
    assert!(collecting.await.unwrap());
    assert_eq!(world.shared().await.len(), 2);
    coordinator.acknowledge(handle).await.unwrap();
    world.assert_sound("they are what the checkpoint needs").await;
    world.assert_exact("they are what the checkpoint needs").await;
}

#[tokio::test]
async fn an_index_that_is_published_and_not_yet_complete_does_not_let_the_newest_checkpoint_go() {
    // R1 and K4: a collection reads the job between the index and its look.
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "a");
    let newest = checkpoint_of(&coordinator, &[&task], CheckpointKind::Full).await;
    let gate = world.store.park_after(Rule::on(Step::Put).path_ends_with("_metadata"));
    let trigger = coordinator.trigger(CheckpointKind::Full).unwrap();
    let handle = task.upload(&trigger).await.unwrap();
    let committing = acknowledging(&coordinator, handle);
    gate.reached().await;
    assert_eq!(world.view().await.checkpoints.len(), 2, "its index is there");
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    let (plan, _) = coordinator.drop_checkpoints(&asked(newest), false).await.unwrap();
    assert_eq!(plan.refused.len(), 1, "{plan}");
    assert_eq!(coordinator.latest().await.unwrap().unwrap().metadata.folder(), newest);
    gate.release();
    committing.await.unwrap().unwrap();
    coordinator.drop_checkpoints(&asked(newest), false).await.unwrap();
    assert_eq!(world.counting_ids().await, [trigger.checkpoint.0]);
}

#[tokio::test]
async fn pins_are_set_while_the_deletes_of_a_collection_hang_and_hold() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "a");
    let first = checkpoint(&coordinator, &[&task]).await;
    checkpoint(&coordinator, &[&task]).await;
    leave_an_orphan(&coordinator, &mut task).await;
    let (gate, collecting) = stalled_at(&world, &coordinator, Rule::on(Step::Delete)).await;
    let pinning = coordinator.clone();
    at_once("a pin", async move { pinning.pin(first, "mine").await }).await.unwrap();
    let drops = asked(first);
    let dropping = coordinator.clone();
    let (plan, _) = at_once("a refusal", async move { dropping.drop_checkpoints(&drops, true).await }).await.unwrap();
    assert_eq!(plan.refused.len(), 1, "{plan}");
    gate.release();
    assert!(collecting.await.unwrap());
    let (plan, _) = coordinator.drop_checkpoints(&asked(first), false).await.unwrap();
    assert_eq!(plan.refused.len(), 1, "{plan}");
    assert_eq!(coordinator.unpin(first).await.unwrap(), 1);
    world.assert_exact("after all").await;
}

#[tokio::test]
async fn a_checkpoint_that_is_being_dropped_cannot_be_pinned() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "a");
    let first = checkpoint(&coordinator, &[&task]).await;
    checkpoint(&coordinator, &[&task]).await;
    let gate = world.store.park(Rule::on(Step::Delete));
    let dropping = {
        let coordinator = coordinator.clone();
        tokio::spawn(async move { coordinator.drop_checkpoints(&asked(first), false).await })
    };
    gate.reached().await;
    let pinning = coordinator.clone();
    let pinned = at_once("a pin", async move { pinning.pin(first, "mine").await }).await;
    assert_eq!(pinned.unwrap_err().kind(), ErrorKind::NotFound);
    gate.release();
    dropping.await.unwrap().unwrap();
    assert!(world.view().await.pins.is_empty());
    world.assert_exact("dropped").await;
}

#[tokio::test]
async fn a_drop_waits_for_one_list_of_a_long_collection_and_not_for_all_of_them() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "a");
    let first = checkpoint(&coordinator, &[&task]).await;
    checkpoint(&coordinator, &[&task]).await;
    // Three lists' worth of orphans. That they are orphans only a sweep finds out.
    for number in 0..2 * CONDEMNED_BATCH_OBJECTS + 10 {
        task.write(&format!("{number}.sst"), number.to_le_bytes());
    }
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&trigger).await.unwrap();
    coordinator.end().await.unwrap();
    let coordinator = Arc::new(world.coordinator(1, keep(9)).await);
    let (gate, collecting) = stalled_at(&world, &coordinator, Rule::on(Step::Delete).path_contains("/shared/")).await;
    let dropping = {
        let (coordinator, memory, shared) = (coordinator.clone(), world.memory.clone(), world.layout.shared().unwrap());
        tokio::spawn(async move {
            coordinator.drop_checkpoints(&asked(first), false).await.unwrap();
            memory.list(Some(&shared)).count().await
        })
    };
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    gate.release();
    let left = dropping.await.unwrap();
    assert!(left > CONDEMNED_BATCH_OBJECTS, "{left} objects are there; the drop waited for the others");
    assert_eq!(world.counting_ids().await, [2]);
    assert!(collecting.await.unwrap());
    world.assert_exact("after the collection").await;
}

#[tokio::test]
async fn a_collection_stops_at_its_next_list_when_the_tenure_ends() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    for number in 0..CONDEMNED_BATCH_OBJECTS + 10 {
        task.write(&format!("{number}.sst"), number.to_le_bytes());
    }
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&trigger).await.unwrap();
    coordinator.abort(trigger.checkpoint, "for the test");
    let gate = world.store.park(Rule::on(Step::Delete).path_contains("/shared/"));
    let collecting = {
        let coordinator = coordinator.clone();
        tokio::spawn(async move { coordinator.collect(SweepScope::Everything, false).await })
    };
    gate.reached().await;
    let ending = coordinator.clone();
    at_once("the end", async move { ending.end().await }).await.unwrap();
    gate.release();
    assert_eq!(collecting.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!world.shared().await.is_empty());
    let successor = world.coordinator(1, keep(9)).await;
    successor.collect(SweepScope::Everything, false).await.unwrap();
    assert!(world.shared().await.is_empty());
    world.assert_exact("the successor").await;
}

#[tokio::test]
async fn what_a_commit_references_is_held_also_if_nobody_had_asked_for_it() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "of the first alone");
    let first = checkpoint(&coordinator, &[&task]).await;
    let entry = world.metadata(first).await.files().next().unwrap().clone();
    task.remove("1.sst");
    checkpoint(&coordinator, &[&task]).await;
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let mut handle = task.upload(&trigger).await.unwrap();
    handle.added.push(entry);
    handle.stats.files += 1;
    let gate = world.store.park_after(Rule::on(Step::Put).path_ends_with("_metadata"));
    let committing = acknowledging(&coordinator, handle);
    gate.reached().await;
    let (dropping, drops) = (coordinator.clone(), asked(first));
    let (plan, _) = at_once("a drop", async move { dropping.drop_checkpoints(&drops, false).await }).await.unwrap();
    assert!(plan.refused.is_empty(), "{plan}");
    gate.release();
    committing.await.unwrap().unwrap();
    assert_eq!(world.counting_ids().await, [2, 3]);
    world.assert_sound("the first is gone, and the third has its file").await;
    world.assert_exact("the first is gone, and the third has its file").await;
}
