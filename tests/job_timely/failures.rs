//! An operator or source that cannot go on ends all workers, and whoever runs the dataflow learns why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use icecore::metadata::CheckpointKind;
use icecore::{Error, ErrorKind};

use crate::support::{Job, Kind};

/// A job whose operator fails once, at one number, by `how`.
fn failing(how: impl Fn() -> icecore::Result<()> + Send + Sync + 'static) -> Job {
    let mut job = Job::new(Kind::Heap, 4_000);
    let has_failed = AtomicBool::new(false);
    job.hook = Arc::new(move |(split, position)| {
        if split == 1 && position == 2_000 && !has_failed.swap(true, Ordering::SeqCst) { how() } else { Ok(()) }
    });
    job
}

#[test]
fn the_error_of_an_operator_ends_all_workers_and_is_told() {
    let job = failing(|| Err(Error::corrupt("count", "a number", "it is no number")));
    job.live(3, async |life| {
        let error = life.control.finish().await.unwrap_err();
        assert!(life.join().iter().all(Result::is_ok));
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(error.to_string(), life.control.outcome().unwrap_err().to_string());
        assert!(error.to_string().contains("it is no number"), "{error}");
        let refused = life.control.trigger_checkpoint(CheckpointKind::Incremental).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
    });
}

#[test]
fn a_worker_that_panics_ends_the_others() {
    let job = failing(|| panic!("the test lets it panic"));
    job.live(3, async |life| {
        let error = life.control.finish().await.unwrap_err();
        assert!(error.message().contains("panicked"), "{error}");
        assert!(life.join().iter().any(Result::is_err));
    });
}

#[test]
fn the_error_of_a_source_ends_all_workers_and_is_told() {
    let mut job = Job::new(Kind::Heap, 4_000);
    job.source_fails_at = 1_500;
    job.live(2, async |life| {
        let error = life.control.finish().await.unwrap_err();
        assert!(life.join().iter().all(Result::is_ok));
        assert!(error.message().contains("they are gone"), "{error}");
        assert_eq!(error.object(), Some("numbers"));
    });
}

#[test]
fn after_a_failure_the_job_goes_on_under_the_same_coordinator() {
    let job = failing(|| Err(Error::corrupt("count", "a number", "it is no number")));
    job.limit.store(1_000, Ordering::SeqCst);
    job.live(3, async |life| {
        life.until_given(3_000).await;
        life.control.checkpoint(CheckpointKind::Incremental).await.unwrap();
        job.limit.store(u64::MAX, Ordering::SeqCst);
        life.control.finish().await.unwrap_err();
        let next = job.restart(life, 2).await;
        next.finish().await;
    });
    assert!(job.outside.outputs() == job.expected());
}
