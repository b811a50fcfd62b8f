//! Outputs become visible once, and only with their checkpoint.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use icecore::metadata::CheckpointKind;

use crate::meddling::{Meddling, MeddlingControl};
use crate::support::{Job, Kind, expected, positions_of, until};

#[test]
fn outputs_are_committed_when_their_checkpoint_is_complete_and_not_before() {
    let job = Job::new(Kind::Heap, 4_000);
    job.live(2, async |life| {
        life.until_given(600).await;
        assert!(job.outside.outputs().is_empty(), "no checkpoint is complete");
        for given in [1_000, 1_500] {
            life.until_given(given).await;
            life.control.checkpoint(CheckpointKind::Incremental).await.unwrap();
            let cut = expected(&positions_of(&life.coordinator.latest().await.unwrap().unwrap()));
            // Never more than that, until the next one completes.
            until(|| job.outside.outputs().len() >= cut.len()).await;
            assert!(job.outside.outputs() == cut);
        }
    });
}

/// The sink of a silent control hears of no completion, as if the process had died right after it.
fn silent() -> (Job, Arc<Meddling>) {
    let (mut job, with) = (Job::new(Kind::Heap, 4_000), Arc::new(Meddling::default()));
    let shared = with.clone();
    job.control_of = Arc::new(move |_, inner| Arc::new(MeddlingControl { inner, with: shared.clone() }));
    (job, with)
}

#[test]
fn outputs_of_a_complete_checkpoint_that_nobody_committed_survive_a_crash() {
    let (job, meddling) = silent();
    meddling.is_silent.store(true, Ordering::SeqCst);
    job.live(2, async |life| {
        for given in [500, 900] {
            life.until_given(given).await;
            life.control.checkpoint(CheckpointKind::Incremental).await.unwrap();
        }
    });
    assert!(job.outside.outputs().is_empty());
    job.live(3, async |life| {
        let cut = expected(&positions_of(&life.coordinator.latest().await.unwrap().unwrap()));
        until(|| job.outside.outputs().len() >= cut.len()).await;
        assert!(job.outside.outputs() == cut, "they are committed before anything else");
    });
    meddling.is_silent.store(false, Ordering::SeqCst);
    job.live(1, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}

#[test]
fn a_transaction_that_was_committed_comes_again_with_the_same_outputs() {
    let job = Job::new(Kind::Heap, 4_000);
    job.live(2, async |life| {
        life.until_given(900).await;
        life.control.checkpoint(CheckpointKind::Incremental).await.unwrap();
        until(|| !job.outside.outputs().is_empty()).await;
    });
    assert_eq!(job.outside.again.load(Ordering::SeqCst), 0);
    // The outlet compares what comes again.
    job.live(3, async |life| life.finish().await);
    assert!(job.outside.again.load(Ordering::SeqCst) > 0, "the checkpoint held them still");
    assert!(job.outside.outputs() == job.expected());
}
