//! Faults of the store that pass: what is known stays known, what is done is not done again.

use std::sync::Arc;
use std::time::Duration;

use icecore::ErrorKind;
use icecore::coordinator::{Coordinator, MAX_DONE_REQUESTS, Wish};
use icecore::gc::SweepScope;
use icecore::metadata::{CheckpointKind, Outcome};
use icecore::ownership::requests::{ANSWER_KEPT_MS, Asked, ask, wait_for_answer};
use icecore::store::testing::{Fault, Rule, Step};
use icecore::store::{StorePath, StoreRef};

use crate::support::*;

const TEMPORARY: Fault = Fault::Fail(ErrorKind::Temporary);

async fn latest(coordinator: &Coordinator) -> u64 {
    coordinator.latest().await.unwrap().expect("there are checkpoints").metadata.checkpoint.0
}

async fn leave(world: &World, wish: &Wish) -> Asked {
    ask(&*world.memory, &world.layout, &world.env, wish.kind(), &wish.to_string()).await.unwrap()
}

async fn answer(world: &World, asked: &Asked) -> Outcome {
    let wait = Duration::from_secs(60);
    wait_for_answer(&*world.memory, &world.layout, &world.env, asked, wait).await.unwrap()
}

#[tokio::test]
async fn one_failed_read_of_the_start_does_not_make_a_collection_forget_the_checkpoints() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    let [_, newest] = two_checkpoints(&coordinator, &mut task).await;
    world.store.inject(Rule::on(Step::Read).path_ends_with("/start"), TEMPORARY).unwrap();
    let error = coordinator.collect(SweepScope::Everything, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary);
    assert_eq!(latest(&coordinator).await, newest.checkpoint.0);
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    assert_eq!(latest(&coordinator).await, newest.checkpoint.0);
}

#[tokio::test]
async fn a_pin_and_its_removal_read_nothing_of_the_job_anew() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    let [first, newest] = two_checkpoints(&coordinator, &mut task).await;
    let asked = [(first, "asked for".to_owned())];
    world.store.inject(Rule::on(Step::Read).always(), TEMPORARY).unwrap();
    world.store.inject(Rule::on(Step::List).path_ends_with("/condemned").always(), TEMPORARY).unwrap();
    coordinator.pin(first, "mine").await.unwrap();
    let (plan, _) = coordinator.drop_checkpoints(&asked, false).await.unwrap();
    assert_eq!(plan.refused.len(), 1, "the pin holds");
    assert_eq!(coordinator.unpin(first).await.unwrap(), 1);
    assert_eq!(world.store.fired(), 0);
    world.store.heal();
    assert_eq!(latest(&coordinator).await, newest.checkpoint.0);
    coordinator.drop_checkpoints(&asked, false).await.unwrap();
    assert_eq!(world.counting_ids().await, [newest.checkpoint.0]);
}

#[tokio::test]
async fn a_start_that_is_damaged_blocks_a_collection_and_the_checkpoints_stay_known() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    let [_, newest] = two_checkpoints(&coordinator, &mut task).await;
    let start = world.layout.start(coordinator.epoch()).unwrap();
    world.memory.put(&start, "damaged".into()).await.unwrap();
    let error = coordinator.collect(SweepScope::Everything, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked);
    assert_eq!(latest(&coordinator).await, newest.checkpoint.0);
}

#[tokio::test]
async fn a_list_that_cannot_be_read_for_a_moment_is_a_passing_error() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    let [first, _] = two_checkpoints(&coordinator, &mut task).await;
    world.store.inject(Rule::on(Step::Delete).always(), TEMPORARY).unwrap();
    let (_, report) = coordinator.drop_checkpoints(&asked(first), false).await.unwrap();
    assert_eq!(report.pending_lists, 1, "{report}");
    world.store.inject(Rule::on(Step::Read).path_contains("/condemned/"), TEMPORARY).unwrap();
    let error = coordinator.collect(SweepScope::Everything, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary);
    world.store.heal();
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    world.assert_exact("once the store answers").await;
}

#[tokio::test]
async fn a_checkpoint_that_was_pinned_and_unpinned_can_be_dropped() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    let [first, newest] = two_checkpoints(&coordinator, &mut task).await;
    coordinator.pin(first, "mine").await.unwrap();
    coordinator.unpin(first).await.unwrap();
    let (plan, _) = coordinator.drop_checkpoints(&asked(first), false).await.unwrap();
    assert!(plan.refused.is_empty(), "{plan}");
    assert_eq!(world.counting_ids().await, [newest.checkpoint.0]);
}

#[tokio::test]
async fn a_request_whose_answer_has_to_be_tried_again_is_carried_out_once() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    let [first, _] = two_checkpoints(&coordinator, &mut task).await;
    let asked = leave(&world, &Wish::Pin(first, "mine".into())).await;
    // The first look is the pin's own, the second that of the answer.
    world.store.inject(Rule::on(Step::Stat).path_ends_with("/claim").nth(2), TEMPORARY).unwrap();
    assert_eq!(coordinator.serve_requests().await.unwrap_err().kind(), ErrorKind::Temporary);
    assert_eq!(world.view().await.pins.len(), 1, "it is done");
    assert_eq!(coordinator.serve_requests().await.unwrap(), 1);
    assert_eq!(world.view().await.pins.len(), 1, "it was done once");
    assert!(matches!(answer(&world, &asked).await, Outcome::Done(text) if text.starts_with("pinned")));
    assert_eq!(coordinator.serve_requests().await.unwrap(), 0);
}

#[tokio::test]
async fn an_owner_that_is_at_a_long_request_says_that_it_is_alive() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    let [first, newest] = two_checkpoints(&coordinator, &mut task).await;
    let long = leave(&world, &Wish::Drop(vec![first])).await;
    let gate = world.store.park(Rule::on(Step::Put).path_contains("/condemned/"));
    let serving = {
        let coordinator = Arc::clone(&coordinator);
        tokio::spawn(async move { coordinator.serve_requests().await })
    };
    gate.reached().await;
    for _ in 0..2 {
        let ping = leave(&world, &Wish::Ping).await;
        assert_eq!(answer(&world, &ping).await, Outcome::Done("alive".into()));
    }
    assert_eq!(world.counting_ids().await.len(), 2, "it is at it still");
    gate.release();
    assert_eq!(serving.await.unwrap().unwrap(), 1);
    assert!(matches!(answer(&world, &long).await, Outcome::Done(text) if text.starts_with("1 checkpoints dropped")));
    assert_eq!(world.counting_ids().await, [newest.checkpoint.0]);
    assert_eq!(coordinator.serve_requests().await.unwrap(), 0);
}

#[tokio::test]
async fn an_owner_that_collects_on_request_frees_unfinished_uploads_too() {
    let (world, coordinator, _task) = one_task(keep(9)).await;
    for (fault, said) in [(None, "0 unfinished uploads removed"), (Some(TEMPORARY), "were not removed")] {
        let fired = world.store.fired();
        if let Some(fault) = fault {
            world.store.inject(Rule::on(Step::RemoveUnfinished), fault).unwrap();
        }
        let asked = leave(&world, &Wish::Gc(SweepScope::Everything)).await;
        assert_eq!(coordinator.serve_requests().await.unwrap(), 1);
        let answer = answer(&world, &asked).await;
        assert!(matches!(&answer, Outcome::Done(text) if text.contains(said)), "{answer:?}");
        assert_eq!(world.store.fired() - fired, u64::from(fault.is_some()));
    }
}

#[tokio::test]
async fn an_owner_that_only_serves_requests_removes_those_that_are_done() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(9)).await;
    for _ in 0..=MAX_DONE_REQUESTS {
        leave(&world, &Wish::Ping).await;
    }
    assert_eq!(coordinator.serve_requests().await.unwrap(), MAX_DONE_REQUESTS + 1);
    world.time.pass(Duration::from_millis(ANSWER_KEPT_MS));
    let last = leave(&world, &Wish::Ping).await;
    assert_eq!(coordinator.serve_requests().await.unwrap(), 1);
    let requests = world.layout.requests().unwrap();
    let left = world.objects().await.into_keys().filter(|path| path.below(&requests).is_some()).count();
    assert_eq!(left, 2, "the last one and its answer");
    assert_eq!(answer(&world, &last).await, Outcome::Done("alive".into()));
    assert_eq!(coordinator.serve_requests().await.unwrap(), 0);
}

#[tokio::test]
async fn a_coordinator_that_cannot_go_on_with_what_it_claimed_leaves_no_tenure_that_commands_wait_for() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    two_checkpoints(&coordinator, &mut task).await;
    coordinator.end().await.unwrap();
    let mut operators = operators(1);
    operators[0].max_parallelism = 64;
    let store = Arc::clone(&world.store) as StoreRef;
    let error = Coordinator::start(store, job(), operators, world.env.clone(), keep(9), Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(world.view().await.epochs.living_owner(), None);
}

#[tokio::test]
async fn a_savepoint_that_may_be_there_is_of_unknown_outcome_and_nobody_hears_that_it_is_not() {
    for rule in [Rule::on(Step::Put).path_ends_with("mine/_metadata"), Rule::on(Step::Stat).path_ends_with("/claim")] {
        let (world, coordinator, task, told) = listened_to(keep(9)).await;
        let trigger = coordinator.trigger_savepoint(&StorePath::new("mine").unwrap()).await.unwrap();
        let handle = task.upload(&trigger).await.unwrap();
        world.store.inject(rule, Fault::LoseAnswer(ErrorKind::Temporary)).unwrap();
        assert_eq!(coordinator.acknowledge(handle).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        assert!(told.0.lock().is_empty());
        checkpoint(&coordinator, &[&task]).await;
        assert_eq!(*told.0.lock(), ["complete 2"], "the job goes on");
        assert_eq!(coordinator.registry().stats().held, 0);
    }
}

#[tokio::test]
async fn a_complete_checkpoint_that_the_registry_refuses_ends_the_tenure_and_a_successor_takes_it_up() {
    let (world, coordinator, mut task, told) = listened_to(keep(9)).await;
    task.write("1.sst", "a");
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let handle = task.upload(&trigger).await.unwrap();
    coordinator.registry().register(trigger.checkpoint, [], []).unwrap();
    assert_eq!(coordinator.acknowledge(handle).await.unwrap_err().kind(), ErrorKind::Internal);
    assert!(told.0.lock().is_empty());
    coordinator.trigger(CheckpointKind::Incremental).unwrap_err();
    let successor = world.coordinator(1, keep(9)).await;
    assert_eq!(successor.completed().len(), 1);
    world.assert_sound("the successor").await;
}
