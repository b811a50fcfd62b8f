//! The sink's end towards Kafka: names, fencing, notes, and what it refuses.

use std::collections::BTreeMap;
use std::time::Duration;

use icecore::job::dataflow::{Committer, Transaction};
use icecore::job::kafka::{Compression, Forgotten, KafkaCommitter, KafkaOutput, KafkaSinkOptions};
use icecore::keygroup::MaxParallelism;
use icecore::layout::CheckpointId;
use icecore::{Error, ErrorKind, Result};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::job::lone_task;
use crate::kafka::{Topic, client, cluster, forget_group, shared};

pub struct Sink {
    pub topic: Topic,
    pub options: KafkaSinkOptions,
}

impl Sink {
    pub fn new(bootstrap: &str, name: &str) -> Self {
        let topic = Topic::new(bootstrap, name, 2);
        let options = KafkaSinkOptions::new(cluster(bootstrap), &topic.name, format!("{}-sink", topic.name));
        Self { topic, options }
    }

    /// The committer of a run that begins with a checkpoint.
    pub fn open(&self, restored: Option<u64>) -> Result<KafkaCommitter<String>> {
        KafkaCommitter::open(&self.options, &lone_task(0, 1), restored.map(CheckpointId), encode)
    }
}

#[allow(clippy::ptr_arg)] // a committer of strings gives them so
fn encode(text: &String) -> Result<KafkaOutput> {
    match text.as_str() {
        "wrong" => Err(Error::invalid("encode", "it is wrong")),
        _ => Ok(KafkaOutput { payload: Some(text.clone().into_bytes()), ..KafkaOutput::default() }),
    }
}

/// The transaction of that name in the one key group there is.
fn named(after: u64, part: u64) -> Transaction {
    let key_group = MaxParallelism::new(8).unwrap().key_group_of(&());
    Transaction { after: CheckpointId(after), key_group, part }
}

pub fn commit(committer: &mut KafkaCommitter<String>, after: u64, part: u64, outputs: &[&str]) -> Result<()> {
    committer.commit(named(after, part), outputs.iter().map(|output| (*output).to_owned()).collect())
}

#[test]
fn a_transaction_that_is_not_behind_the_last_one_changes_nothing() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "names");
    let mut committer = sink.open(None).unwrap();
    commit(&mut committer, 0, 0, &["a", "b"]).unwrap();
    commit(&mut committer, 0, 1, &["c"]).unwrap();
    commit(&mut committer, 3, 0, &["d"]).unwrap();
    for (after, part) in [(0, 0), (0, 1), (0, 9), (2, 5), (3, 0)] {
        commit(&mut committer, after, part, &["again"]).unwrap();
    }
    assert_eq!(sink.topic.values(), ["a", "b", "c", "d"]);
    // And so it is for a successor.
    let mut successor = sink.open(Some(4)).unwrap();
    commit(&mut successor, 3, 0, &["again"]).unwrap();
    commit(&mut successor, 3, 1, &["e"]).unwrap();
    commit(&mut successor, 4, 0, &["f"]).unwrap();
    assert_eq!(sink.topic.values(), ["a", "b", "c", "d", "e", "f"]);
}

#[test]
fn a_predecessor_is_fenced_and_nothing_of_it_is_seen() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "fenced");
    let mut zombie = sink.open(None).unwrap();
    commit(&mut zombie, 0, 0, &["a"]).unwrap();
    let mut successor = sink.open(Some(1)).unwrap();
    let error = commit(&mut zombie, 1, 0, &["a zombie's"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(error.object(), Some(&*format!("{} to {}", sink.options.id, sink.topic.name)));
    commit(&mut successor, 1, 0, &["b"]).unwrap();
    assert_eq!(commit(&mut zombie, 1, 1, &["a zombie's"]).unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(sink.topic.values(), ["a", "b"]);
}

#[test]
fn only_the_worker_that_all_outputs_go_to_opens_a_producer() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "one-worker");
    let workers = 4;
    let open = |worker| KafkaCommitter::open(&sink.options, &lone_task(worker, workers), None, encode).unwrap();
    let mut committers: Vec<KafkaCommitter<String>> = (0..workers).map(open).collect();
    let outcomes = committers.iter_mut().map(|committer| commit(committer, 0, 0, &["a"]));
    let outcomes: Vec<_> = outcomes.map(|outcome| outcome.map_err(|error| error.kind())).collect();
    let owner = MaxParallelism::new(8).unwrap().subtask_of_group(named(0, 0).key_group, workers).unwrap();
    for (worker, outcome) in outcomes.into_iter().enumerate() {
        let expected = if worker == owner as usize { Ok(()) } else { Err(ErrorKind::Internal) };
        assert_eq!(outcome, expected, "worker {worker}");
    }
    assert_eq!(sink.topic.values(), ["a"]);
}

#[test]
fn a_transaction_of_another_key_group_is_refused() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "key-groups");
    let mut committer = sink.open(None).unwrap();
    let other = Transaction { key_group: (named(0, 0).key_group + 1) % 8, ..named(0, 0) };
    assert_eq!(committer.commit(other, vec!["a".to_owned()]).unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(sink.topic.values(), Vec::<String>::new());
}

#[test]
fn a_run_that_begins_before_what_was_committed_is_refused() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "too-old");
    commit(&mut sink.open(None).unwrap(), 5, 0, &["a"]).unwrap();
    for restored in [None, Some(4), Some(5)] {
        let error = sink.open(restored).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{restored:?}");
        assert!(error.message().contains("came after checkpoint 5 are committed"), "{error}");
    }
    sink.open(Some(6)).unwrap();
}

#[test]
fn what_kafka_has_forgotten_is_not_guessed() {
    let Some(bootstrap) = shared() else { return };
    let mut sink = Sink::new(bootstrap, "forgotten");
    commit(&mut sink.open(None).unwrap(), 0, 0, &["a"]).unwrap();
    forget_group(bootstrap, &sink.options.id);
    // A run from checkpoint 1, which may hold what was committed.
    let error = commit(&mut sink.open(Some(1)).unwrap(), 0, 0, &["a"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(error.to_string().contains("offsets.retention.minutes"), "{error}");
    assert_eq!(sink.topic.values(), ["a"]);

    sink.options.if_forgotten = Forgotten::Skip;
    commit(&mut sink.open(Some(1)).unwrap(), 0, 0, &["a"]).unwrap();
    assert_eq!(sink.topic.values(), ["a"]);

    sink.options.if_forgotten = Forgotten::CommitAgain;
    commit(&mut sink.open(Some(1)).unwrap(), 0, 0, &["a"]).unwrap();
    assert_eq!(sink.topic.values(), ["a", "a"]);
    // Now it is known again.
    sink.options.if_forgotten = Forgotten::Refuse;
    commit(&mut sink.open(Some(1)).unwrap(), 0, 0, &["a"]).unwrap();
    assert_eq!(sink.topic.values(), ["a", "a"]);
}

#[test]
fn what_came_after_the_checkpoint_is_new_even_if_kafka_has_forgotten_the_sink() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "new-sink");
    let mut committer = sink.open(Some(7)).unwrap();
    commit(&mut committer, 7, 0, &["a"]).unwrap();
    commit(&mut committer, 7, 0, &["a"]).unwrap();
    assert_eq!(sink.topic.values(), ["a"]);
}

#[test]
fn a_crash_before_anything_was_committed_is_not_taken_for_forgetting() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "first-crash");
    drop(sink.open(None).unwrap());
    commit(&mut sink.open(Some(1)).unwrap(), 0, 0, &["a"]).unwrap();
    assert_eq!(sink.topic.values(), ["a"]);
}

#[test]
fn a_group_of_another_program_is_not_taken_for_a_note() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "foreign");
    let consumer: BaseConsumer = client(bootstrap).set("group.id", &sink.options.id).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&sink.topic.name, 0, rdkafka::Offset::Offset(3)).unwrap();
    consumer.commit(&offsets, rdkafka::consumer::CommitMode::Sync).unwrap();
    assert_eq!(sink.open(None).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn an_output_that_is_too_large_fails_the_job_and_nothing_of_its_transaction_is_seen() {
    let Some(bootstrap) = shared() else { return };
    let mut sink = Sink::new(bootstrap, "too-large");
    sink.options.compression = Compression::None;
    let large = "x".repeat(2 << 20);
    // Once it is the client that refuses, once the broker.
    for limit in [None, Some("4000000")] {
        if let Some(limit) = limit {
            sink.options.cluster.settings = BTreeMap::from([("message.max.bytes".to_owned(), limit.to_owned())]);
        }
        let mut committer = sink.open(None).unwrap();
        let error = commit(&mut committer, 0, 0, &["a", &large, "b"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
        assert_eq!(sink.topic.values(), Vec::<String>::new());
        // Nothing of it is left behind.
        commit(&mut sink.open(None).unwrap(), 0, 0, &[]).unwrap();
        forget_group(bootstrap, &sink.options.id);
    }
}

#[test]
fn an_output_that_cannot_be_encoded_fails_the_job_and_nothing_is_seen() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "encode");
    let mut committer = sink.open(None).unwrap();
    assert_eq!(commit(&mut committer, 0, 0, &["a", "wrong"]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(sink.topic.values(), Vec::<String>::new());
    commit(&mut committer, 0, 0, &["a", "b"]).unwrap();
    assert_eq!(sink.topic.values(), ["a", "b"]);
}

#[test]
fn outputs_go_to_the_partition_they_name_or_to_that_of_their_key() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "partitions");
    let encode = |(key, partition): &(Option<String>, Option<i32>)| {
        Ok(KafkaOutput { key: key.clone().map(String::into_bytes), payload: None, partition: *partition })
    };
    let mut committer = KafkaCommitter::open(&sink.options, &lone_task(0, 1), None, encode).unwrap();
    let keys = ["a", "b", "c", "d", "e", "f"].map(|key| (Some(key.to_owned()), None));
    let outputs = [(None, Some(1)), (None, Some(0))].into_iter().chain(keys.clone()).chain(keys).collect();
    committer.commit(named(0, 0), outputs).unwrap();
    let seen = sink.topic.read();
    assert!(seen.iter().all(|record| record.value.is_none()), "they are tombstones");
    let without_key: Vec<i32> =
        seen.iter().filter(|record| record.key.is_none()).map(|record| record.partition).collect();
    assert_eq!(without_key, [0, 1]);
    // murmur2 of these, as Java's producers have it.
    let expected = [("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 0), ("f", 1)];
    let mut found: Vec<(String, i32)> =
        seen.iter().filter_map(|record| Some((record.key.clone()?, record.partition))).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, expected.map(|(key, partition)| (key.to_owned(), partition)));
}

#[test]
fn every_compression_is_read_by_others() {
    let Some(bootstrap) = shared() else { return };
    let mut sink = Sink::new(bootstrap, "compressed");
    let text = "the same again and again ".repeat(1_000);
    let all = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4];
    for (number, compression) in all.into_iter().enumerate() {
        sink.options.compression = compression;
        let number = number as u64;
        commit(&mut sink.open(Some(number)).unwrap(), number, 0, &[&text]).unwrap();
    }
    assert_eq!(sink.topic.values(), vec![text; 4]);
}

#[test]
fn a_whole_part_is_one_transaction() {
    let Some(bootstrap) = shared() else { return };
    let sink = Sink::new(bootstrap, "whole-part");
    let outputs: Vec<String> =
        (0..icecore::job::dataflow::MAX_OUTPUTS_PER_COMMIT).map(|n| format!("{n:0>1000}")).collect();
    let mut committer = sink.open(None).unwrap();
    committer.commit(named(0, 0), outputs.clone()).unwrap();
    assert!(sink.topic.values() == outputs);
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let Some(bootstrap) = shared() else { return };
    let mut sink = Sink::new(bootstrap, "no-topic");
    sink.options.topic = "no-such-topic".to_owned();
    let error = sink.open(None).unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::NotFound, Some("no-such-topic")));
}

#[test]
fn a_broker_that_cannot_be_reached_is_an_error_in_time() {
    let mut options = KafkaSinkOptions::new(cluster("127.0.0.1:1"), "a-topic", "a-sink");
    options.cluster.patience = Duration::from_secs(2);
    let error = KafkaCommitter::<String>::open(&options, &lone_task(0, 1), None, encode).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().contains("Connection refused"), "{error}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    let good = KafkaSinkOptions::new(cluster("127.0.0.1:1"), "a-topic", "a-sink");
    let mut nameless = good.clone();
    nameless.id.clear();
    let mut impatient = good.clone();
    impatient.transaction_timeout = good.cluster.patience;
    for options in [nameless, impatient] {
        let error = KafkaCommitter::<String>::open(&options, &lone_task(0, 1), None, encode).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn a_time_out_that_the_broker_does_not_allow_is_said() {
    let Some(bootstrap) = shared() else { return };
    let mut sink = Sink::new(bootstrap, "time-out");
    sink.options.transaction_timeout = Duration::from_secs(3_600);
    let error = sink.open(None).unwrap_err();
    assert!(error.to_string().contains("transaction.max.timeout.ms"), "{error}");
}
