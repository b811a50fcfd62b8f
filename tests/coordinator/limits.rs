//! Time and numbers: timeouts, pauses, how many at once, how many failures.

use std::time::Duration;

use icecore::ErrorKind;
use icecore::coordinator::{Acknowledged, CoordinatorOptions, RetentionPolicy};
use icecore::metadata::CheckpointKind;
use icecore::snapshot::SnapshotStats;
use icecore::store::StorePath;

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_timeout_ends_one_checkpoint_alone() {
    let (world, coordinator, mut task) = one_task(CoordinatorOptions { timeout: 10 * SECOND, ..keep(5) }).await;
    task.write("1.sst", "a");
    let slow = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    world.time.pass(6 * SECOND);
    let other = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    assert!(coordinator.tick().unwrap().timed_out.is_empty());
    world.time.pass(6 * SECOND);
    assert_eq!(coordinator.tick().unwrap().timed_out, [slow.checkpoint]);
    finish(&coordinator, &[&task], &other).await;
    assert_eq!(world.counting_ids().await, [other.checkpoint.0]);
}

#[tokio::test]
async fn no_more_than_allowed_are_in_flight_and_savepoints_do_not_count() {
    let (_world, coordinator, task) = one_task(CoordinatorOptions { max_concurrent: 2, ..keep(5) }).await;
    coordinator.trigger_savepoint(&StorePath::new("mine").unwrap()).await.unwrap();
    coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let second = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let error = coordinator.trigger(CheckpointKind::Incremental).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    coordinator.trigger_savepoint(&StorePath::new("mine-too").unwrap()).await.unwrap();
    finish(&coordinator, &[&task], &second).await;
    coordinator.trigger(CheckpointKind::Incremental).unwrap();
}

#[tokio::test]
async fn savepoints_in_flight_are_bounded_too() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    let path = |n: usize| StorePath::new(format!("mine-{n}")).unwrap();
    for number in 0..icecore::coordinator::MAX_CONCURRENT_CHECKPOINTS {
        coordinator.trigger_savepoint(&path(number)).await.unwrap();
    }
    let error = coordinator.trigger_savepoint(&path(1_000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

#[tokio::test]
async fn figures_that_subtasks_made_up_do_not_overflow() {
    let (_world, coordinator, [a, b]) = two_tasks(keep(5)).await;
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let mut stats = SnapshotStats::default();
    for task in [&a, &b] {
        let mut handle = task.upload(&trigger).await.unwrap();
        handle.stats.uploaded_bytes = u64::MAX;
        if let Acknowledged::Complete(_, sum) = coordinator.acknowledge(handle).await.unwrap() {
            stats = sum;
        }
    }
    assert_eq!(stats.uploaded_bytes, u64::MAX);
}

#[tokio::test]
async fn periodic_checkpoints_keep_their_interval_and_the_pause_after_the_last() {
    let options = CoordinatorOptions { interval: Some(10 * SECOND), min_pause: 4 * SECOND, ..keep(5) };
    let (world, coordinator, task) = one_task(options).await;
    let first = coordinator.tick().unwrap().triggered.expect("the first is due at once");
    world.time.pass(9 * SECOND);
    finish(&coordinator, &[&task], &first).await;
    world.time.pass(3 * SECOND);
    assert!(coordinator.tick().unwrap().triggered.is_none(), "the interval is over, the pause is not");
    world.time.pass(SECOND);
    let second = coordinator.tick().unwrap().triggered.expect("both are over");
    finish(&coordinator, &[&task], &second).await;
    world.time.pass(5 * SECOND);
    assert!(coordinator.tick().unwrap().triggered.is_none(), "the pause is over, the interval is not");
    world.time.pass(5 * SECOND);
    assert!(coordinator.tick().unwrap().triggered.is_some());
}

#[tokio::test]
async fn that_periodic_checkpoints_have_ended_for_good_is_told_at_every_tick() {
    let world = World::new();
    let options = CoordinatorOptions { interval: Some(10 * SECOND), tolerable_failures: 0, ..keep(5) };
    let coordinator = world.coordinator(1, options).await;
    let task = world.task(&coordinator, 0, 1);
    let first = coordinator.tick().unwrap();
    assert!(!first.too_many_failures);
    coordinator.decline(first.triggered.unwrap().checkpoint, &subtask(0), "no");
    assert!(!coordinator.tick().unwrap().too_many_failures, "none is due yet");
    for _ in 0..2 {
        world.time.pass(10 * SECOND);
        let report = coordinator.tick().unwrap();
        assert!(report.too_many_failures && report.triggered.is_none(), "{report:?}");
    }
    coordinator.restart_tasks(operators(1)).unwrap();
    let again = coordinator.tick().unwrap();
    assert!(!again.too_many_failures);
    finish(&coordinator, &[&task], &again.triggered.unwrap()).await;
}

#[tokio::test]
async fn without_an_interval_it_is_told_at_once_that_checkpoints_have_ended_for_good() {
    let world = World::new();
    let coordinator = world.coordinator(1, CoordinatorOptions { tolerable_failures: 0, ..keep(5) }).await;
    let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    assert!(!coordinator.tick().unwrap().too_many_failures);
    coordinator.decline(trigger.checkpoint, &subtask(0), "no");
    assert!(
        coordinator.tick().unwrap().too_many_failures,
        "nothing else would ever say that the tasks have to be restarted"
    );
    coordinator.restart_tasks(operators(1)).unwrap();
    assert!(!coordinator.tick().unwrap().too_many_failures);
}

#[tokio::test]
async fn without_an_interval_nothing_is_triggered_by_time() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(5)).await;
    world.time.pass(1_000 * SECOND);
    assert!(coordinator.tick().unwrap().triggered.is_none());
}

#[tokio::test]
async fn after_more_failures_than_tolerated_nothing_is_triggered_until_the_tasks_restart() {
    let (_world, coordinator, task) = one_task(CoordinatorOptions { tolerable_failures: 1, ..keep(5) }).await;
    let fail = || {
        let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
        coordinator.decline(trigger.checkpoint, &subtask(0), "no");
    };
    fail();
    checkpoint(&coordinator, &[&task]).await;
    // A success in between begins the count again.
    fail();
    fail();
    let error = coordinator.trigger(CheckpointKind::Incremental).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert!(error.advice().is_some_and(|advice| advice.contains("restart")));
    coordinator.restart_tasks(operators(1)).unwrap();
    checkpoint(&coordinator, &[&task]).await;
}

#[tokio::test]
async fn checkpoints_that_a_restart_of_the_tasks_ends_are_no_failures() {
    let world = World::new();
    let coordinator = world.coordinator(1, CoordinatorOptions { tolerable_failures: 0, ..keep(5) }).await;
    coordinator.trigger(CheckpointKind::Incremental).unwrap();
    coordinator.restart_tasks(operators(1)).unwrap();
    coordinator.trigger(CheckpointKind::Incremental).unwrap();
}

#[tokio::test]
async fn to_retain_nothing_is_refused() {
    let world = World::new();
    let error = world.try_coordinator(1, keep(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let coordinator = world.coordinator(1, keep(1)).await;
    let nothing = RetentionPolicy { last: 0, ..RetentionPolicy::default() };
    let error = coordinator.apply_retention(nothing, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let world = World::new();
    for options in [
        CoordinatorOptions { max_concurrent: 0, ..keep(1) },
        CoordinatorOptions { max_concurrent: 65, ..keep(1) },
        CoordinatorOptions { timeout: Duration::ZERO, ..keep(1) },
        CoordinatorOptions { interval: Some(Duration::ZERO), ..keep(1) },
    ] {
        let error = world.try_coordinator(1, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(world.objects().await.is_empty(), "nothing was claimed");
}

#[tokio::test]
async fn an_operator_with_more_subtasks_than_key_groups_is_refused() {
    let world = World::new();
    assert_eq!(world.try_coordinator(129, keep(1)).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}
