//! A broker that stops, stalls, or stays away.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use icecore::ErrorKind;
use icecore::job::dataflow::Source;
use icecore::job::kafka::{KafkaSource, KafkaSourceOptions};

use crate::committer::{Sink, commit};
use crate::job::{Job, until};
use crate::kafka::{Topic, cluster};
use crate::logging::logged;
use crate::services::kafka::KafkaBroker;

const RECORDS: u64 = 2_000;

#[test]
fn a_broker_that_is_killed_in_the_middle_loses_and_doubles_nothing() {
    let Some(broker) = KafkaBroker::start().map(Arc::new) else { return };
    let mut job = Job::new(broker.bootstrap(), "killed", RECORDS);
    job.live(2, async |life| {
        until(|| life.control.is_drained()).await;
        life.checkpoint().await;
    });
    job.grow(10 * RECORDS);
    job.live(2, async |life| {
        let killed = broker.clone();
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            killed.kill9();
            killed.restart();
        });
        life.finish().await;
        killer.join().unwrap();
    });
    job.check();
    // And in the middle of a commit.
    job.grow(RECORDS);
    job.live(3, async |life| {
        let gate = job.meddling.gate.shut();
        until(|| life.control.is_drained()).await;
        life.checkpoint().await;
        until(|| job.meddling.begun() > 0).await;
        broker.kill9();
        drop(gate);
        tokio::time::sleep(Duration::from_millis(500)).await;
        broker.restart();
        life.finish().await;
    });
    job.check();
}

#[test]
fn a_broker_that_stays_away_fails_the_job_and_the_next_run_commits() {
    let Some(broker) = KafkaBroker::start() else { return };
    let mut job = Job::new(broker.bootstrap(), "away", RECORDS);
    let patience = std::mem::replace(&mut job.sink.cluster.patience, Duration::from_secs(20));
    job.live(2, async |life| {
        let gate = job.meddling.gate.shut();
        until(|| life.control.is_drained()).await;
        life.checkpoint().await;
        until(|| job.meddling.begun() > 0).await;
        broker.kill9();
        drop(gate);
        let error = life.failure();
        assert!([ErrorKind::Temporary, ErrorKind::OutcomeUnknown].contains(&error.kind()), "{error}");
        assert!(error.message().contains("tried for 20s"), "{error}");
    });
    broker.restart();
    job.sink.cluster.patience = patience;
    job.live(3, async |life| life.finish().await);
    job.check();
}

#[test]
fn a_transaction_that_has_to_be_aborted_is_done_again() {
    let Some(broker) = KafkaBroker::start() else { return };
    logged();
    let mut sink = Sink::new(broker.bootstrap(), "aborted");
    // Less than the broker stalls, so that records fail for good.
    sink.options.cluster.settings.insert("message.timeout.ms".to_owned(), "1500".to_owned());
    let mut committer = sink.open(None).unwrap();
    commit(&mut committer, 0, 0, &["a"]).unwrap();
    thread::scope(|scope| {
        broker.pause();
        let committing = scope.spawn(|| commit(&mut committer, 1, 0, &["b", "c"]));
        thread::sleep(Duration::from_secs(4));
        broker.resume();
        committing.join().unwrap().unwrap();
    });
    assert_eq!(sink.topic.values(), ["a", "b", "c"]);
    let is_it = |line: &String| line.contains("was aborted, and is done again") && line.contains(&sink.options.id);
    assert!(logged().lock().iter().any(is_it), "records were to fail");
    commit(&mut committer, 1, 0, &["again"]).unwrap();
    assert_eq!(sink.topic.values(), ["a", "b", "c"]);
}

#[test]
fn a_source_does_not_wait_for_a_broker_that_stalls() {
    let Some(broker) = KafkaBroker::start() else { return };
    let topic = Topic::new(broker.bootstrap(), "stalled", 1);
    let options = KafkaSourceOptions::new(cluster(broker.bootstrap()), &topic.name);
    let mut source = KafkaSource::open("orders", &options, &[], (0, 1), |record| Ok(record.offset)).unwrap();
    let mut offsets: Vec<i64> = Vec::new();
    broker.pause();
    // Would it wait, this would never end.
    for _ in 0..100 {
        assert!(source.poll(1_024, &mut offsets).unwrap());
    }
    broker.resume();
    assert!(offsets.is_empty());
    topic.produce([(0, "", &b"a"[..])]);
    while offsets.is_empty() {
        source.poll(1_024, &mut offsets).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(offsets, [0]);
}
