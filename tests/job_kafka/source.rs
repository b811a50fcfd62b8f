//! The source: where it begins and ends, whose partitions it has, and what it does not do silently.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use icecore::job::dataflow::Source;
use icecore::job::kafka::{Begin, KafkaRecord, KafkaSource, KafkaSourceOptions, MAX_QUEUED_KBYTES};
use icecore::metadata::SourcePosition;
use icecore::{Error, ErrorKind, Result};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::kafka::{PATIENCE, Topic, client, cluster, shared};

const ALL: (usize, usize) = (0, 1);
/// Long enough for a record to come that should not.
const A_WHILE: Duration = Duration::from_millis(700);

fn options(topic: &Topic) -> KafkaSourceOptions {
    KafkaSourceOptions::new(cluster(&topic.bootstrap), &topic.name)
}

/// Partition, offset and value.
type Got = (i32, i64, String);

fn decode(record: KafkaRecord<'_>) -> Result<Got> {
    Ok((record.partition, record.offset, String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned()))
}

fn open(options: &KafkaSourceOptions, restored: &[SourcePosition]) -> Result<KafkaSource<Got>> {
    KafkaSource::open("orders", options, restored, ALL, decode)
}

/// What a source gives, sorted, once it has given so many records or has ended.
fn take(source: &mut KafkaSource<Got>, count: usize) -> Result<Vec<Got>> {
    let (mut got, started) = (Vec::new(), Instant::now());
    while source.poll(1_024, &mut got)? && got.len() < count {
        assert!(started.elapsed() < PATIENCE, "{} of {count} records have come", got.len());
        thread::sleep(Duration::from_millis(5));
    }
    got.sort_unstable();
    Ok(got)
}

/// What comes within a while.
fn rest(source: &mut KafkaSource<Got>) -> Vec<Got> {
    let (mut got, started) = (Vec::new(), Instant::now());
    while started.elapsed() < A_WHILE && source.poll(1_024, &mut got).unwrap() {
        thread::sleep(Duration::from_millis(5));
    }
    got
}

fn got(partition: i32, offset: i64, value: &str) -> Got {
    (partition, offset, value.to_owned())
}

fn at(topic: &Topic, partition: i32, offset: i64) -> SourcePosition {
    let split = format!("{}-{partition}", topic.name);
    SourcePosition { source: "orders".to_owned(), split, position: offset.to_le_bytes().to_vec() }
}

#[test]
fn a_record_comes_with_its_key_partition_offset_and_time() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "fields", 1);
    let producer: BaseProducer = client(bootstrap).create().unwrap();
    producer.send(BaseRecord::to(&topic.name).key("k").payload("v").timestamp(1_234)).unwrap();
    producer.send(BaseRecord::<(), ()>::to(&topic.name).timestamp(5)).unwrap();
    producer.flush(PATIENCE).unwrap();
    let all = |record: KafkaRecord<'_>| {
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        Ok((key, value, record.partition, record.offset, record.timestamp_ms))
    };
    let mut source = KafkaSource::open("orders", &options(&topic), &[], ALL, all).unwrap();
    let (mut got, started) = (Vec::new(), Instant::now());
    while got.len() < 2 {
        assert!(started.elapsed() < PATIENCE);
        assert!(source.poll(10, &mut got).unwrap());
    }
    let expected = [(Some(b"k".to_vec()), Some(b"v".to_vec()), 0, 0, Some(1_234)), (None, None, 0, 1, Some(5))];
    assert_eq!(got, expected);
}

#[test]
fn the_workers_share_the_partitions() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "share", 5);
    topic.produce((0..5).map(|partition| (partition, "", &b"x"[..])));
    for workers in [1, 2, 3, 7] {
        let mut all = Vec::new();
        for worker in 0..workers {
            let mut source = KafkaSource::open("orders", &options(&topic), &[], (worker, workers), decode).unwrap();
            let splits: Vec<String> = source.positions().into_iter().map(|position| position.split).collect();
            let own: Vec<i32> = (0..5).filter(|partition| *partition as usize % workers == worker).collect();
            assert_eq!(splits, own.iter().map(|own| format!("{}-{own}", topic.name)).collect::<Vec<_>>());
            all.extend(take(&mut source, own.len()).unwrap());
            assert_eq!(source.poll(1, &mut all).unwrap(), !own.is_empty(), "one without partitions has ended");
        }
        all.sort_unstable();
        assert_eq!(all, (0..5).map(|partition| got(partition, 0, "x")).collect::<Vec<_>>());
    }
}

#[test]
fn a_restored_source_gives_exactly_what_the_one_before_has_not() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "restored", 2);
    topic.produce([(0, "", &b"a"[..]), (0, "", b"b"), (1, "", b"c"), (1, "", b"d")]);
    let mut first = open(&options(&topic), &[]).unwrap();
    let mut all = Vec::new();
    while all.len() < 3 {
        first.poll(3 - all.len(), &mut all).unwrap();
    }
    let positions = first.positions();
    let taken = |partition| all.iter().filter(|got| got.0 == partition).count() as i64;
    assert_eq!(positions, [at(&topic, 0, taken(0)), at(&topic, 1, taken(1))]);
    let mut second = open(&options(&topic), &positions).unwrap();
    assert_eq!(second.positions(), positions);
    all.extend(take(&mut second, 1).unwrap());
    all.extend(rest(&mut second));
    all.sort_unstable();
    assert_eq!(all, [got(0, 0, "a"), got(0, 1, "b"), got(1, 0, "c"), got(1, 1, "d")]);
}

#[test]
fn a_source_may_begin_behind_what_is_there() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "latest", 1);
    topic.produce([(0, "", &b"old"[..])]);
    let mut options = options(&topic);
    options.begin = Begin::Latest;
    let mut source = open(&options, &[]).unwrap();
    assert_eq!(source.positions(), [at(&topic, 0, 1)]);
    topic.produce([(0, "", &b"new"[..])]);
    assert_eq!(take(&mut source, 1).unwrap(), [got(0, 1, "new")]);
}

#[test]
fn a_partition_that_appears_is_read_by_the_next_run_from_its_first_record() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "appears", 1);
    let mut options = options(&topic);
    options.begin = Begin::Latest;
    let mut source = open(&options, &[]).unwrap();
    topic.grow(2);
    topic.produce([(0, "", &b"a"[..]), (1, "", b"b")]);
    assert_eq!(take(&mut source, 1).unwrap(), [got(0, 0, "a")]);
    assert_eq!(rest(&mut source), []);
    let mut next = open(&options, &source.positions()).unwrap();
    assert_eq!(take(&mut next, 1).unwrap(), [got(1, 0, "b")]);
}

#[test]
fn a_source_ends_where_it_is_told_however_often_it_begins_again() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "ends", 2);
    topic.produce([(0, "", &b"a"[..]), (0, "", b"b"), (0, "", b"c")]);
    let mut options = options(&topic);
    options.until = Some(options.ends().unwrap());
    assert_eq!(options.until, Some(BTreeMap::from([(0, 3), (1, 0)])));
    topic.produce([(0, "", &b"d"[..]), (1, "", b"e")]);
    let mut source = open(&options, &[]).unwrap();
    assert_eq!(take(&mut source, 9).unwrap(), [got(0, 0, "a"), got(0, 1, "b"), got(0, 2, "c")]);
    let mut again = open(&options, &source.positions()).unwrap();
    assert_eq!(take(&mut again, 9).unwrap(), []);
    let mut from_within = open(&options, &[at(&topic, 0, 2), at(&topic, 1, 0)]).unwrap();
    assert_eq!(take(&mut from_within, 9).unwrap(), [got(0, 2, "c")]);
    // And further, another day.
    options.until = Some(options.ends().unwrap());
    let mut further = open(&options, &source.positions()).unwrap();
    assert_eq!(take(&mut further, 9).unwrap(), [got(0, 3, "d"), got(1, 0, "e")]);
}

#[test]
fn where_a_partition_stands_that_a_run_with_an_end_does_not_read_is_carried_on() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "carried-on", 2);
    topic.produce([(0, "", &b"a"[..]), (1, "", b"b"), (1, "", b"c")]);
    let mut options = options(&topic);
    options.until = Some(BTreeMap::from([(0, 1)]));
    let stood = [at(&topic, 0, 0), at(&topic, 1, 1)];
    let mut source = open(&options, &stood).unwrap();
    assert_eq!(take(&mut source, 9).unwrap(), [got(0, 0, "a")]);
    assert_eq!(source.positions(), [at(&topic, 0, 1), at(&topic, 1, 1)]);
    assert_eq!(open(&options, &[]).unwrap().positions(), [at(&topic, 0, 0)], "it stands nowhere yet");
    options.until = None;
    let mut further = open(&options, &source.positions()).unwrap();
    assert_eq!(take(&mut further, 1).unwrap(), [got(1, 1, "c")]);
}

#[test]
fn a_partition_that_ends_with_the_mark_of_a_transaction_ends() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "marks", 2);
    topic.in_transaction("marks-a", &[0, 1], b"a").commit_transaction(PATIENCE).unwrap();
    topic.in_transaction("marks-b", &[1], b"b").abort_transaction(PATIENCE).unwrap();
    let mut options = options(&topic);
    options.until = Some(options.ends().unwrap());
    assert_eq!(options.until, Some(BTreeMap::from([(0, 2), (1, 4)])));
    let mut source = open(&options, &[]).unwrap();
    assert_eq!(take(&mut source, 9).unwrap(), [got(0, 0, "a"), got(1, 0, "a")]);
    assert_eq!(source.positions(), [at(&topic, 0, 2), at(&topic, 1, 4)]);
}

#[test]
fn records_of_a_transaction_come_when_it_is_committed() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "open", 1);
    topic.produce([(0, "", &b"a"[..])]);
    let producer = topic.in_transaction("open", &[0], b"b");
    topic.produce([(0, "", &b"c"[..])]);
    assert_eq!(options(&topic).ends().unwrap(), BTreeMap::from([(0, 1)]), "what is open has not ended");
    let mut source = open(&options(&topic), &[]).unwrap();
    assert_eq!(take(&mut source, 1).unwrap(), [got(0, 0, "a")]);
    assert_eq!(rest(&mut source), []);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(take(&mut source, 2).unwrap(), [got(0, 1, "b"), got(0, 2, "c")]);
}

#[test]
fn records_that_were_deleted_are_an_error_and_no_gap() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "deleted", 1);
    topic.produce((0..10).map(|_| (0, "", &b"x"[..])));
    topic.delete_records(0, 5);
    let error = open(&options(&topic), &[at(&topic, 0, 4)]).unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::NotFound, Some(&*format!("{}-0", topic.name))));
    assert!(error.message().contains("the records before 5 were deleted"), "{error}");
    assert_eq!(take(&mut open(&options(&topic), &[at(&topic, 0, 5)]).unwrap(), 5).unwrap().len(), 5);
    // A first start begins with what is there.
    assert_eq!(take(&mut open(&options(&topic), &[]).unwrap(), 5).unwrap()[0], got(0, 5, "x"));
}

#[test]
fn records_that_are_deleted_before_a_running_source_has_them_are_an_error_and_no_gap() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "deleted-later", 1);
    let (value, count) = (vec![b'x'; 500 << 10], 4 * i64::from(MAX_QUEUED_KBYTES) / 500);
    topic.produce((0..count).map(|_| (0, "", &value[..])));
    let count_only = |record: KafkaRecord<'_>| Ok(record.offset);
    let mut source = KafkaSource::open("orders", &options(&topic), &[], ALL, count_only).unwrap();
    // It fetches what it may, and no more.
    let (mut offsets, started) = (Vec::new(), Instant::now());
    while offsets.is_empty() {
        assert!(started.elapsed() < PATIENCE);
        source.poll(1, &mut offsets).unwrap();
    }
    thread::sleep(A_WHILE);
    topic.delete_records(0, count - 1);
    let error = loop {
        assert!(started.elapsed() < PATIENCE);
        match source.poll(1, &mut offsets) {
            Ok(_) => thread::sleep(Duration::from_millis(1)),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!((1..count - 1).contains(&(offsets.len() as i64)), "{} were fetched before", offsets.len());
    assert!(offsets.iter().copied().eq(0..offsets.len() as i64), "without a gap: {offsets:?}");
}

#[test]
fn a_position_behind_the_end_is_an_error() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "anew", 2);
    topic.produce([(0, "", &b"a"[..]), (1, "", b"b")]);
    let stood = open(&options(&topic), &[at(&topic, 0, 1), at(&topic, 1, 1)]).unwrap().positions();
    topic.delete();
    topic.create(2);
    let error = open(&options(&topic), &stood).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("made anew"), "{error}");
    // One with fewer partitions is another topic, too.
    topic.delete();
    topic.create(1);
    topic.produce([(0, "", &b"a"[..])]);
    let error = open(&options(&topic), &stood).unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::NotFound, Some(&*format!("{}-1", topic.name))));
}

#[test]
fn an_end_that_is_not_there_yet_is_refused() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "no-end", 1);
    let mut options = options(&topic);
    options.until = Some(BTreeMap::from([(0, 1)]));
    assert_eq!(open(&options, &[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    options.until = Some(BTreeMap::from([(7, 0)]));
    assert_eq!(open(&options, &[]).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_decoding_fails_with_names_the_record() {
    let Some(bootstrap) = shared() else { return };
    let topic = Topic::new(bootstrap, "decode", 1);
    topic.produce([(0, "", &b"good"[..]), (0, "", b"bad")]);
    let decode = |record: KafkaRecord<'_>| match record.value {
        Some(b"good") => Ok(()),
        _ => Err(Error::new(ErrorKind::Corrupt, "decode an order", "it is bad")),
    };
    let mut source = KafkaSource::open("orders", &options(&topic), &[], ALL, decode).unwrap();
    let (mut records, started) = (Vec::new(), Instant::now());
    let error = loop {
        assert!(started.elapsed() < PATIENCE);
        if let Err(error) = source.poll(10, &mut records) {
            break error;
        }
    };
    assert_eq!(error.to_string(), format!("decode an order `{}-0 at 1`: it is bad", topic.name));
    assert_eq!(records, [()]);
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let Some(bootstrap) = shared() else { return };
    let options = KafkaSourceOptions::new(cluster(bootstrap), "no-such-topic");
    let error = open(&options, &[]).unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::NotFound, Some("no-such-topic")));
    assert_eq!(options.ends().unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_broker_that_cannot_be_reached_is_an_error_in_time() {
    let mut options = KafkaSourceOptions::new(cluster("127.0.0.1:1"), "a-topic");
    options.cluster.patience = Duration::from_secs(2);
    let error = open(&options, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().contains("Connection refused"), "{error}");
}
