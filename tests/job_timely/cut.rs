//! What is in a checkpoint, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icecore::ErrorKind;
use icecore::job::dataflow::CheckpointControl;
#[cfg(feature = "rocksdb")]
use icecore::layout::CheckpointId;
use icecore::metadata::CheckpointKind;

use crate::meddling::{Meddling, MeddlingControl};
#[cfg(feature = "rocksdb")]
use crate::support::Life;
use crate::support::{Job, Kind, positions_of, until};

/// Long enough for records to get from one worker to the other many times.
const A_WHILE: Duration = Duration::from_millis(100);

/// A job whose second worker is meddled with.
fn meddled(end: u64) -> (Job, Arc<Meddling>) {
    let (mut job, with) = (Job::new(Kind::Heap, end), Arc::new(Meddling::default()));
    let second = with.clone();
    job.control_of = Arc::new(move |worker, inner| match worker {
        1 => Arc::new(MeddlingControl { inner, with: second.clone() }),
        _ => inner,
    });
    (job, with)
}

/// A job on databases whose sources wait at 300 records a split, with what can hold its freezes, and how many records
/// were counted.
#[cfg(feature = "rocksdb")]
fn held_freezes(kind: Kind) -> (Job, Arc<Meddling>, Arc<AtomicU64>) {
    let (mut job, meddling) = (Job::new(kind, 6_000), Arc::new(Meddling::default()));
    job.limit.store(300, Ordering::SeqCst);
    let with = meddling.clone();
    job.control_of = Arc::new(move |_, inner| Arc::new(MeddlingControl { inner, with: with.clone() }));
    let counted = Arc::new(AtomicU64::new(0));
    let count = counted.clone();
    job.hook = Arc::new(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    (job, meddling, counted)
}

/// Begins a checkpoint once all these 900 records were counted, and has all three operators' freezes of it held.
#[cfg(feature = "rocksdb")]
async fn held_checkpoint(life: &Life, meddling: &Meddling, counted: &AtomicU64) -> CheckpointId {
    life.until_given(900).await;
    until(|| counted.load(Ordering::SeqCst) == 900).await;
    meddling.holds_freezes.store(true, Ordering::SeqCst);
    let checkpoint = life.control.trigger_checkpoint(CheckpointKind::Incremental).unwrap();
    // The operators are one behind the other, on one thread, and none has come to its end.
    until(|| meddling.held.count() == 3).await;
    checkpoint
}

/// Lets the freezes go: their checkpoint is complete then, and of those 900 records, however far the job has gone on meanwhile.
#[cfg(feature = "rocksdb")]
async fn cut_at_900(life: &Life, meddling: &Meddling, checkpoint: CheckpointId) {
    assert_eq!(life.control.newest_complete(), None);
    meddling.let_freezes_go();
    until(|| life.control.newest_complete() == Some(checkpoint)).await;
    let latest = life.coordinator.latest().await.unwrap().unwrap();
    assert_eq!(positions_of(&latest).values().sum::<u64>(), 900);
    life.until_given(2_000).await;
}

#[test]
fn records_of_later_epochs_wait_for_the_snapshot() {
    let (mut job, meddling) = meddled(3_000);
    // However late the test is, the sources are not at their end when it takes the checkpoint.
    job.limit.store(400, Ordering::SeqCst);
    meddling.last_epoch.store(0, Ordering::SeqCst);
    // The number behind the last one of split 0, which is on the first worker, that was counted.
    let counted = Arc::new(AtomicU64::new(0));
    let seen = counted.clone();
    job.hook = Arc::new(move |(split, position)| {
        if split == 0 {
            seen.fetch_max(position + 1, Ordering::SeqCst);
        }
        Ok(())
    });
    job.live(2, async |life| {
        until(|| counted.load(Ordering::SeqCst) > 300).await;
        let checkpoint = life.control.trigger_checkpoint(CheckpointKind::Incremental).unwrap();
        // The first worker's source goes on in the next epoch, the second one's stays in the first.
        until(|| life.control.orders().epoch == 1).await;
        job.limit.store(u64::MAX, Ordering::SeqCst);
        until(|| life.control.is_drained() || life.given[0].load(Ordering::SeqCst) == 3_000).await;
        tokio::time::sleep(A_WHILE).await;
        let counted_early = counted.load(Ordering::SeqCst);
        assert_eq!(life.control.newest_complete(), None, "the second worker's source is in the epoch still");
        meddling.last_epoch.store(u64::MAX, Ordering::SeqCst);
        until(|| life.control.newest_complete() == Some(checkpoint)).await;

        let latest = life.coordinator.latest().await.unwrap().unwrap();
        let cut = positions_of(&latest)[&0];
        assert!(cut < 3_000, "records of the next epoch were under way");
        assert_eq!(counted_early, cut, "all before the cut was counted, and nothing behind it");
        until(|| counted.load(Ordering::SeqCst) == 3_000).await;
    });
    // The restored state is compared with the positions.
    job.live(3, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}

#[cfg(feature = "rocksdb")]
#[test]
fn an_operator_goes_on_while_its_database_is_frozen_and_nothing_of_that_is_in_the_checkpoint() {
    let (job, meddling, counted) = held_freezes(Kind::RocksDb);
    job.live(1, async |life| {
        let checkpoint = held_checkpoint(life, &meddling, &counted).await;
        job.limit.store(u64::MAX, Ordering::SeqCst);
        until(|| counted.load(Ordering::SeqCst) > 1_000).await;
        cut_at_900(life, &meddling, checkpoint).await;
    });
    // The restored state is compared with the positions.
    job.live(2, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}

#[cfg(feature = "rocksdb")]
#[test]
fn an_operator_with_a_log_takes_nothing_in_while_its_database_is_frozen_and_those_downstream_freeze_meanwhile() {
    let (job, meddling, counted) = held_freezes(Kind::RocksDbLogging);
    job.live(1, async |life| {
        let checkpoint = held_checkpoint(life, &meddling, &counted).await;
        job.limit.store(u64::MAX, Ordering::SeqCst);
        until(|| life.given() > 900).await;
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(counted.load(Ordering::SeqCst), 900, "it went on while it was frozen");
        cut_at_900(life, &meddling, checkpoint).await;
    });
    // The restored state is compared with the positions.
    job.live(2, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_further_checkpoint_waits_for_databases_that_are_being_frozen_for_one_that_was_aborted() {
    let (job, meddling, counted) = held_freezes(Kind::RocksDb);
    job.live(1, async |life| {
        let first = held_checkpoint(life, &meddling, &counted).await;
        assert!(life.coordinator.abort(first, "the test says so"));
        job.limit.store(310, Ordering::SeqCst);
        life.until_given(930).await;
        let second = life.control.trigger_checkpoint(CheckpointKind::Incremental).unwrap();
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(meddling.held.count(), 3, "none is frozen for the second one");
        meddling.let_freezes_go();
        until(|| life.control.newest_complete() == Some(second)).await;
        assert_eq!(*meddling.uploaded.lock(), [second; 3], "the first one, {first}, was given up");
        let latest = life.coordinator.latest().await.unwrap().unwrap();
        assert_eq!(positions_of(&latest).values().sum::<u64>(), 930);
        job.limit.store(u64::MAX, Ordering::SeqCst);
    });
    job.live(2, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}

#[test]
fn a_checkpoint_that_is_aborted_is_not_the_end_of_the_job() {
    let job = Job::new(Kind::Heap, 4_000);
    job.live(3, async |life| {
        life.until_given(500).await;
        let checkpoint = life.control.trigger_checkpoint(CheckpointKind::Incremental).unwrap();
        assert!(life.coordinator.abort(checkpoint, "the test says so"));
        life.until_given(1_000).await;
        let next = life.control.checkpoint(CheckpointKind::Incremental).await.unwrap();
        assert!(next > checkpoint);
        life.finish().await;
    });
    assert!(job.outside.outputs() == job.expected());
}

#[test]
fn a_checkpoint_that_a_subtask_declines_is_told_with_its_reason_and_the_next_one_completes() {
    let (job, meddling) = meddled(4_000);
    job.live(2, async |life| {
        life.until_given(500).await;
        life.control.checkpoint(CheckpointKind::Incremental).await.unwrap();
        meddling.declines_once.store(true, Ordering::SeqCst);
        let error = life.control.checkpoint(CheckpointKind::Incremental).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(error.message().contains("the disk is full"), "{error}");
        life.control.checkpoint(CheckpointKind::Incremental).await.unwrap();
        life.crash();
    });
    job.live(1, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}

#[test]
fn a_full_checkpoint_is_a_cut_as_well() {
    let job = Job::new(Kind::Heap, 4_000);
    job.live(2, async |life| {
        life.until_given(700).await;
        life.control.checkpoint(CheckpointKind::Full).await.unwrap();
    });
    job.live(3, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}
