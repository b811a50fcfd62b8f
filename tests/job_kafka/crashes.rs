//! A job from Kafka to Kafka that ends at any point and goes on, on another number of workers. What a `read_committed`
//! consumer sees is compared record by record.

use std::thread;
use std::time::Duration;

use icecore::ErrorKind;
use icecore::job::kafka::KafkaCommitter;
use icecore::metadata::CheckpointKind;
use rdkafka::producer::Producer;

use crate::job::{Job, Mishap, lone_task, until};
use crate::kafka::{PATIENCE, shared};

const RECORDS: u64 = 2_000;

#[test]
fn an_undisturbed_run_puts_out_every_record_once() {
    let Some(bootstrap) = shared() else { return };
    let job = Job::new(bootstrap, "undisturbed", RECORDS);
    job.live(2, async |life| life.finish().await);
    job.check();
}

#[test]
fn nothing_is_seen_before_its_checkpoint_is_complete() {
    let Some(bootstrap) = shared() else { return };
    let job = Job::new(bootstrap, "before", RECORDS);
    job.live(2, async |life| {
        until(|| life.control.is_drained()).await;
        assert_eq!(job.output.values(), Vec::<String>::new());
        life.checkpoint().await;
        until(|| job.meddling.done() > 0).await;
        job.check();
    });
}

#[test]
fn outputs_of_a_complete_checkpoint_survive_a_crash_before_their_commit() {
    let Some(bootstrap) = shared() else { return };
    let mut job = Job::new(bootstrap, "uncommitted", RECORDS);
    *job.meddling.mishap.lock() = Some(Mishap::Before);
    job.live(2, async |life| {
        until(|| life.control.is_drained()).await;
        life.checkpoint().await;
        assert_eq!(life.failure().kind(), ErrorKind::OutcomeUnknown);
    });
    assert_eq!(job.output.values(), Vec::<String>::new());
    job.grow(RECORDS);
    job.live(3, async |life| life.finish().await);
    job.check();
}

#[test]
fn a_commit_that_nobody_heard_of_changes_nothing_when_it_is_repeated() {
    let Some(bootstrap) = shared() else { return };
    let mut job = Job::new(bootstrap, "repeated", RECORDS);
    *job.meddling.mishap.lock() = Some(Mishap::After);
    job.live(2, async |life| {
        until(|| life.control.is_drained()).await;
        life.checkpoint().await;
        life.failure();
    });
    job.check();
    // The first one has nothing but the repetition to do.
    job.live(1, async |life| life.finish().await);
    job.check();
    job.grow(RECORDS);
    job.live(3, async |life| life.finish().await);
    job.check();
    // What the last checkpoint holds was committed when the run ended.
    let done = job.meddling.done();
    job.live(2, async |life| until(|| job.meddling.done() > done || life.control.outcome().is_err()).await);
    job.check();
}

#[test]
fn a_transaction_that_a_crash_left_open_is_ended_by_the_next_run() {
    let Some(bootstrap) = shared() else { return };
    let mut job = Job::new(bootstrap, "open", RECORDS);
    job.live(2, async |life| life.finish().await);
    // As the sink's producer is when the process dies in the middle of a commit.
    let dead = job.output.in_transaction(&job.sink.id, &[0, 1], b"never committed");
    drop(dead);
    job.check();
    job.grow(RECORDS);
    job.live(3, async |life| life.finish().await);
    job.check();
}

#[test]
fn a_run_that_is_replaced_fails_as_fenced_and_leaves_no_trace() {
    let Some(bootstrap) = shared() else { return };
    let job = Job::new(bootstrap, "replaced", RECORDS);
    job.live(2, async |life| {
        let gate = job.meddling.gate.shut();
        until(|| life.control.is_drained()).await;
        life.checkpoint().await;
        until(|| job.meddling.begun() > 0).await;
        // The successor, which begins with the same: nothing was committed.
        let (sink, task) = (job.sink.clone(), thread::spawn(|| lone_task(0, 1)).join().unwrap());
        let successor = KafkaCommitter::<u64>::open(&sink, &task, None, |_| unreachable!()).unwrap();
        drop(gate);
        let error = life.failure();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        drop(successor);
    });
    assert_eq!(job.output.values(), Vec::<String>::new());
    job.live(1, async |life| life.finish().await);
    job.check();
}

/// Each life takes some checkpoints and ends at any point of a commit, or between two.
#[test]
fn outputs_survive_crashes_and_rescaling_record_by_record() {
    let Some(bootstrap) = shared() else { return };
    let mut seed: u64 = 7;
    let mut roll = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..3 {
        let mut job = Job::new(bootstrap, &format!("crashes-{round}"), 500);
        for workers in [2, 3, 1, 4] {
            job.grow(roll(1_000));
            job.live(workers, async |life| {
                for _ in 0..=roll(3) {
                    tokio::time::sleep(Duration::from_millis(roll(150))).await;
                    // Fails once the job has.
                    let _ = life.control.checkpoint(CheckpointKind::Incremental).await;
                    let mishaps = [None, None, Some(Mishap::Before), Some(Mishap::After)];
                    *job.meddling.mishap.lock() = mishaps[roll(4) as usize];
                }
            });
        }
        *job.meddling.mishap.lock() = None;
        job.live(2, async |life| life.finish().await);
        job.check();
    }
}

/// A consumer of what a dead producer wrote last waits for nobody once the job runs again.
#[test]
fn consumers_are_not_held_up_by_what_a_crash_left_open() {
    let Some(bootstrap) = shared() else { return };
    let job = Job::new(bootstrap, "held-up", RECORDS);
    let dead = job.output.in_transaction(&job.sink.id, &[0, 1], b"never committed");
    job.live(2, async |life| life.finish().await);
    job.check();
    assert!(dead.commit_transaction(PATIENCE).is_err(), "it is fenced");
    job.check();
}
