//! Commits are made beside the dataflow's work, and a run may end in every gap around them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use icecore::ErrorKind;
use icecore::job::dataflow::{MAX_CHECKPOINTS_UNCOMMITTED, MAX_EPOCHS_IN_FLIGHT, MAX_RECORDS_PER_EPOCH};
use icecore::layout::CheckpointId;
use icecore::metadata::CheckpointKind;

use crate::outside::Mishap;
use crate::support::{A_WHILE, Dice, Job, Kind, Life, expected, positions_of, until};

const END: u64 = 4_000;
const NEVER_ENDING: u64 = 1_000_000;
/// How often in a row what stands still is looked at.
const LOOKS: usize = 5;

async fn checkpoint(life: &Life) {
    life.control.checkpoint(CheckpointKind::Incremental).await.unwrap();
}

#[test]
fn checkpoints_complete_while_a_commit_takes_long() {
    let job = Job::new(Kind::Heap, NEVER_ENDING);
    job.live(2, async |life| {
        let gate = job.outside.gate.shut();
        life.until_given(500).await;
        checkpoint(life).await;
        until(|| job.outside.has_begun()).await;
        for given in [1_000, 1_500, 2_000] {
            life.until_given(given).await;
            checkpoint(life).await;
        }
        assert!(job.outside.outputs().is_empty(), "the first commit is under way");
        drop(gate);
        let cut = expected(&positions_of(&life.coordinator.latest().await.unwrap().unwrap()));
        until(|| job.outside.outputs().len() >= cut.len()).await;
        assert!(job.outside.outputs() == cut);
    });
    assert_eq!(job.outside.again.load(Ordering::SeqCst), 0);
}

/// Ends a run while a commit is under way and a further checkpoint has completed, which was frozen before that commit was
/// through. Returns what the next run begins with.
fn interrupted(mishap: Option<Mishap>) -> (Job, usize) {
    let job = Job::new(Kind::Heap, END);
    let cut = job.live(2, async |life| {
        let gate = job.outside.gate.shut();
        life.until_given(500).await;
        checkpoint(life).await;
        until(|| job.outside.has_begun()).await;
        life.until_given(1_000).await;
        checkpoint(life).await;
        let cut = expected(&positions_of(&life.coordinator.latest().await.unwrap().unwrap())).len();
        life.control.cancel("the test lets it crash");
        *job.outside.mishap.lock() = mishap;
        drop(gate);
        cut
    });
    *job.outside.mishap.lock() = None;
    (job, cut)
}

#[test]
fn a_checkpoint_that_completes_during_a_commit_holds_its_outputs_still() {
    let (job, cut) = interrupted(Some(Mishap::Before));
    assert!(job.outside.outputs().len() < cut, "a commit was interrupted");
    job.live(3, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}

#[test]
fn a_commit_that_came_through_as_the_run_ended_is_repeated_with_the_same_outputs() {
    let (job, _) = interrupted(None);
    assert!(!job.outside.outputs().is_empty());
    job.live(3, async |life| life.finish().await);
    assert!(job.outside.again.load(Ordering::SeqCst) > 0);
    assert!(job.outside.outputs() == job.expected());
}

#[test]
fn no_commit_is_under_way_once_the_workers_have_ended() {
    let job = Job::new(Kind::Heap, END);
    job.live(2, async |life| {
        let gate = job.outside.gate.shut();
        life.until_given(500).await;
        checkpoint(life).await;
        until(|| job.outside.has_begun()).await;
        life.control.cancel("the test lets it crash");
        tokio::time::sleep(A_WHILE).await;
        assert!(!life.has_ended());
        drop(gate);
        life.join();
        let (begun, done) = (job.outside.begun.load(Ordering::SeqCst), job.outside.order.lock().len());
        assert_eq!(begun, done as u64);
    });
}

#[test]
fn a_commit_that_fails_fails_the_job_and_the_next_run_makes_it() {
    for (mishap, says) in [
        (Mishap::Before, "the test lets it fail"),
        (Mishap::After, "the test lets it fail"),
        (Mishap::Panic, "the committer panicked"),
    ] {
        let job = Job::new(Kind::Heap, END);
        job.live(2, async |life| {
            *job.outside.mishap.lock() = Some(mishap);
            life.until_given(500).await;
            // The checkpoint is complete before its outputs are committed; but the commit may be the quicker to be told.
            let _ = life.control.checkpoint(CheckpointKind::Incremental).await;
            life.join();
            let error = life.control.outcome().unwrap_err();
            assert!(error.message().contains(says), "{mishap:?}: {error}");
            assert_eq!(error.object(), Some("outlet"));
            assert_eq!(
                job.outside.begun.load(Ordering::SeqCst) - job.outside.order.lock().len() as u64,
                u64::from(mishap != Mishap::After)
            );
        });
        job.live(3, async |life| life.finish().await);
        assert!(job.outside.outputs() == job.expected(), "{mishap:?}");
        let again = job.outside.again.load(Ordering::SeqCst) > 0;
        assert_eq!(again, mishap == Mishap::After, "{mishap:?}");
    }
}

#[test]
fn what_the_last_checkpoint_closed_is_committed_before_the_workers_end() {
    let job = Job::new(Kind::Heap, END);
    job.live(2, async |life| {
        let gate = job.outside.gate.shut();
        life.control.finish().await.unwrap();
        tokio::time::sleep(A_WHILE).await;
        assert!(!life.has_ended() && job.outside.outputs().is_empty());
        drop(gate);
        life.join();
        life.control.outcome().unwrap();
        assert!(job.outside.outputs() == job.expected());
    });
    // Of sources that never end: a checkpoint, and the end.
    let job = Job::new(Kind::Heap, NEVER_ENDING);
    job.live(3, async |life| {
        let gate = job.outside.gate.shut();
        life.until_given(1_000).await;
        checkpoint(life).await;
        let cut = expected(&positions_of(&life.coordinator.latest().await.unwrap().unwrap()));
        life.control.close();
        tokio::time::sleep(A_WHILE).await;
        drop(gate);
        life.join();
        life.control.outcome().unwrap();
        assert!(job.outside.outputs() == cut, "all of the checkpoint, and nothing of what came after it");
    });
}

#[test]
fn a_committer_that_is_too_slow_holds_the_sources_up() {
    let job = Job::new(Kind::Heap, NEVER_ENDING);
    job.live(2, async |life| {
        let gate = job.outside.gate.shut();
        life.until_given(100).await;
        for _ in 0..=MAX_CHECKPOINTS_UNCOMMITTED {
            checkpoint(life).await;
        }
        let newest = life.control.newest_complete();
        life.control.trigger_checkpoint(CheckpointKind::Incremental).unwrap();
        let (mut before, mut looks) = (life.given(), 0);
        let bound = before + 2 * (MAX_EPOCHS_IN_FLIGHT + 2) * MAX_RECORDS_PER_EPOCH as u64;
        while looks < LOOKS {
            tokio::time::sleep(A_WHILE).await;
            looks = if life.given() == before { looks + 1 } else { 0 };
            before = life.given();
            assert!(before < bound, "the sources do not stand");
        }
        assert_eq!(life.control.newest_complete(), newest, "the sink stands");
        drop(gate);
        life.until_given(before + 1_000).await;
        until(|| life.control.newest_complete() > newest).await;
    });
}

#[test]
fn the_transactions_of_a_key_group_come_in_their_order() {
    let job = Job::new(Kind::Heap, END);
    job.live(1, async |life| {
        for given in [500, 1_000, 1_500] {
            let gate = job.outside.gate.shut();
            life.until_given(given).await;
            checkpoint(life).await;
            drop(gate);
        }
        life.finish().await;
    });
    let order = job.outside.order.lock();
    let mut last: BTreeMap<u16, (CheckpointId, u64)> = BTreeMap::new();
    for transaction in &*order {
        let before = last.insert(transaction.key_group, (transaction.after, transaction.part));
        assert!(before < Some((transaction.after, transaction.part)), "{transaction:?} after {before:?}");
    }
    assert!(last.len() > 1, "there is more than one key group");
}

#[test]
fn a_task_of_another_checkpoint_than_is_said_is_refused() {
    let mut job = Job::new(Kind::Heap, END);
    job.live(2, async |life| {
        *job.outside.mishap.lock() = Some(Mishap::Before);
        life.until_given(500).await;
        let _ = life.control.checkpoint(CheckpointKind::Incremental).await;
        life.join();
    });
    job.says_restored = |_| None;
    job.live(2, async |life| {
        life.join();
        let error = life.control.outcome().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("outputs that came after checkpoint 0"), "{error}");
    });
}

/// Each life ends at any point of a commit, on any number of workers.
#[test]
fn outputs_survive_commits_that_fail_at_any_point_record_by_record() {
    for seed in 100..106 {
        let job = Job::new(Kind::Heap, END);
        let mut dice = Dice(seed);
        for workers in [2, 3, 1, 4] {
            job.live(workers, async |life| {
                let began = life.given();
                for given in [dice.roll(500), 500 + dice.roll(500), 1_000 + dice.roll(500)].map(|more| began + more) {
                    until(|| life.given() >= given || life.control.outcome().is_err() || life.control.is_drained())
                        .await;
                    // Fails once the job has.
                    let _ = life.control.checkpoint(CheckpointKind::Incremental).await;
                    let mishap = [None, Some(Mishap::Before), Some(Mishap::After)];
                    *job.outside.mishap.lock() = mishap[dice.roll(3) as usize];
                }
            });
        }
        *job.outside.mishap.lock() = None;
        job.live(2, async |life| life.finish().await);
        assert!(job.outside.outputs() == job.expected(), "seed {seed}: outputs are lost, doubled or wrong");
    }
}
