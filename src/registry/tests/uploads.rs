//! Uploads in flight.

use std::time::Duration;

use super::*;
use crate::error::ErrorKind;
use crate::registry::{ObjectStatus, UploadOutcome};

fn two_pending() -> Arc<Registry> {
    let registry = Registry::new();
    registry.begin_pending(cp(1)).unwrap();
    registry.begin_pending(cp(2)).unwrap();
    registry
}

async fn take_over(waiter: UploadWaiter) -> UploadGuard {
    let outcome =
        tokio::time::timeout(Duration::from_secs(10), waiter.wait()).await.expect("nobody passed the turn on");
    match outcome.unwrap() {
        UploadOutcome::TakeOver(guard) => guard,
        other => panic!("expected to take over, not {other:?}"),
    }
}

#[tokio::test]
async fn two_subtasks_with_one_content_upload_it_once() {
    let registry = two_pending();
    let guard = expect_upload(begin(&registry, 1, "x"));
    let waiter = expect_waiter(begin(&registry, 2, "x"));
    let name = guard.complete().unwrap();
    assert!(matches!(waiter.wait().await.unwrap(), UploadOutcome::Stored(stored) if stored == name));
    // Held for both.
    registry.abort(cp(1)).unwrap();
    assert_eq!(registry.status(&name).unwrap(), ObjectStatus::Held);
}

#[tokio::test]
async fn exactly_one_waiter_takes_a_failed_upload_over_under_a_new_name() {
    let registry = two_pending();
    let guard = expect_upload(begin(&registry, 1, "x"));
    let failed = *guard.name();
    let first = expect_waiter(begin(&registry, 2, "x"));
    let second = expect_waiter(begin(&registry, 1, "x"));
    drop(guard);
    let guard = take_over(first).await;
    assert_ne!(*guard.name(), failed);
    assert_eq!(guard.name().tag.checkpoint, cp(2));
    let name = guard.complete().unwrap();
    assert!(matches!(second.wait().await.unwrap(), UploadOutcome::Stored(stored) if stored == name));
    assert_eq!(registry.abort(cp(1)).unwrap().suspects, [failed]);
    assert_eq!(registry.abort(cp(2)).unwrap().created, [name]);
}

#[tokio::test]
async fn a_waiter_that_gave_up_is_passed_over() {
    let registry = two_pending();
    let guard = expect_upload(begin(&registry, 1, "x"));
    drop(expect_waiter(begin(&registry, 1, "x")));
    let second = expect_waiter(begin(&registry, 2, "x"));
    drop(guard);
    take_over(second).await.complete().unwrap();
}

#[tokio::test]
async fn a_waiter_dropped_after_its_turn_came_passes_it_on() {
    let registry = two_pending();
    let guard = expect_upload(begin(&registry, 1, "x"));
    let first = expect_waiter(begin(&registry, 1, "x"));
    let second = expect_waiter(begin(&registry, 2, "x"));
    drop(guard);
    drop(first);
    take_over(second).await.complete().unwrap();
    assert_eq!(registry.abort(cp(1)).unwrap().suspects.len(), 2);
}

#[test]
fn a_failed_upload_without_waiters_lets_the_next_one_try() {
    let registry = two_pending();
    let guard = expect_upload(begin(&registry, 1, "x"));
    let failed = *guard.name();
    drop(guard);
    assert_eq!(registry.status(&failed).unwrap(), ObjectStatus::Unknown);
    assert_ne!(*expect_upload(begin(&registry, 1, "x")).name(), failed);
    assert_eq!(registry.stats().in_flight, 0);
}

#[test]
fn an_upload_for_an_aborted_checkpoint_is_refused() {
    let registry = two_pending();
    registry.abort(cp(1)).unwrap();
    let answer = registry.begin_upload(cp(1), hash("x"), SIZE_BYTES, FileKind::Sst, || fresh(1));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn an_upload_that_outlives_its_checkpoint_is_an_orphan() {
    let registry = two_pending();
    let guard = expect_upload(begin(&registry, 1, "x"));
    let name = *guard.name();
    registry.abort(cp(1)).unwrap();
    assert!(registry.status(&name).unwrap().is_needed(), "still being written");
    assert_eq!(guard.complete().unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(!registry.status(&name).unwrap().is_needed());
    assert_eq!(registry.stats().entries, 0);
}

#[tokio::test]
async fn an_upload_whose_checkpoint_was_aborted_still_serves_another() {
    let registry = two_pending();
    let guard = expect_upload(begin(&registry, 1, "x"));
    let waiter = expect_waiter(begin(&registry, 2, "x"));
    assert_eq!(registry.abort(cp(1)).unwrap().created, []);
    let name = guard.complete().unwrap();
    assert!(matches!(waiter.wait().await.unwrap(), UploadOutcome::Stored(stored) if stored == name));
    assert_eq!(registry.status(&name).unwrap(), ObjectStatus::Held);
}

#[tokio::test]
async fn aborting_a_checkpoint_wakes_its_waiters() {
    let registry = two_pending();
    let _guard = expect_upload(begin(&registry, 1, "x"));
    let waiter = expect_waiter(begin(&registry, 2, "x"));
    registry.abort(cp(2)).unwrap();
    assert_eq!(waiter.wait().await.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn an_object_in_flight_is_not_condemned() {
    let registry = two_pending();
    let guard = expect_upload(begin(&registry, 1, "x"));
    assert_eq!(registry.condemn(&[*guard.name()]).unwrap(), []);
    guard.complete().unwrap();
}

#[test]
fn the_same_content_of_another_kind_is_another_object() {
    let registry = two_pending();
    let sst = store(&registry, 1, "x");
    let blob = registry.begin_upload(cp(1), hash("x"), SIZE_BYTES, FileKind::Blob, || fresh(1)).unwrap();
    assert_ne!(*expect_upload(blob).name(), sst);
}

#[test]
fn another_size_for_a_known_content_is_refused() {
    let registry = two_pending();
    store(&registry, 1, "x");
    let answer = registry.begin_upload(cp(1), hash("x"), SIZE_BYTES + 1, FileKind::Sst, || fresh(1));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_tag_of_another_checkpoint_is_refused() {
    let registry = two_pending();
    let answer = registry.begin_upload(cp(1), hash("x"), SIZE_BYTES, FileKind::Sst, || fresh(2));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn no_tag_is_drawn_for_a_content_that_is_stored() {
    let registry = two_pending();
    let name = store(&registry, 1, "x");
    let answer = registry.begin_upload(cp(2), hash("x"), SIZE_BYTES, FileKind::Sst, || panic!("drawn"));
    assert_eq!(expect_stored(answer.unwrap()), name);
}

#[test]
fn an_object_too_large_to_record_is_refused() {
    let registry = two_pending();
    let size = crate::registry::MAX_OBJECT_SIZE_BYTES;
    let largest = registry.begin_upload(cp(1), hash("x"), size, FileKind::Sst, || fresh(1)).unwrap();
    let name = expect_upload(largest).complete().unwrap();
    registry.register(cp(1), [(name, size)], []).unwrap();
    let larger = registry.begin_upload(cp(2), hash("y"), size + 1, FileKind::Sst, || fresh(2));
    assert_eq!(larger.unwrap_err().kind(), ErrorKind::LimitExceeded);
}
