//! Runs that end at any point and go on from the newest complete checkpoint, on another number of workers.

use std::time::Duration;

use icecore::metadata::CheckpointKind;

use crate::support::{Dice, Job, Kind, SPLITS, expected};

const END: u64 = 4_000;

/// Each life takes some checkpoints and crashes, now and then with one in flight. The state restored is checked at each
/// start, key by key, the outputs at the end, record by record.
fn crash_again_and_again(kind: Kind, seed: u64) {
    let job = Job::new(kind, END);
    let mut dice = Dice(seed);
    for workers in [2, 3, 1, 4] {
        job.live(workers, async |life| {
            let mut given = 0;
            for _ in 0..=dice.roll(3) {
                given += dice.roll(500);
                life.until_given(given).await;
                life.control.checkpoint(CheckpointKind::Incremental).await.unwrap();
            }
            life.until_given(given + dice.roll(700)).await;
            if dice.roll(2) == 0 {
                life.control.trigger_checkpoint(CheckpointKind::Incremental).unwrap();
                tokio::time::sleep(Duration::from_micros(dice.roll(20_000))).await;
            }
            life.crash();
        });
    }
    job.live(2, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected(), "seed {seed}: outputs are lost, doubled or wrong");
    // Once more, to check the state at the end.
    job.live(3, async |_| ());
}

#[test]
fn heap_state_survives_crashes_and_rescaling_record_by_record() {
    for seed in 0..4 {
        crash_again_and_again(Kind::Heap, seed);
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn database_state_survives_crashes_and_rescaling_record_by_record() {
    for seed in 0..2 {
        crash_again_and_again(Kind::RocksDb, seed);
    }
}

#[test]
fn an_undisturbed_run_puts_out_every_record_once() {
    let job = Job::new(Kind::Heap, END);
    job.live(2, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}

#[test]
fn a_worker_without_records_takes_part() {
    // The fourth worker has no split, and a single word's key group is on one worker only.
    let job = Job::new(Kind::Heap, 1);
    let checkpoint = job.live(4, async |life| life.finish().await);
    job.live(4, async |life| {
        let latest = life.coordinator.latest().await.unwrap().unwrap();
        assert_eq!(latest.metadata.checkpoint, checkpoint);
        assert!(latest.metadata.operators.iter().all(|operator| operator.subtasks.len() == 4));
    });
    assert_eq!(job.outside.outputs(), expected(&(0..SPLITS).map(|split| (split, 1)).collect()));
}

#[test]
fn a_crash_before_the_first_checkpoint_begins_anew() {
    let job = Job::new(Kind::Heap, END);
    job.live(2, async |life| life.until_given(1_000).await);
    assert!(job.outside.outputs().is_empty(), "nothing was in a complete checkpoint");
    job.live(3, async |life| life.finish().await);
    assert!(job.outside.outputs() == job.expected());
}
