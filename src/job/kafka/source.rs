//! A topic as a source.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::cluster::{Deadline, KafkaCluster, Reader, partitions, reader};
use super::failure::failed;
use crate::error::{Error, ErrorKind, Result};
use crate::job::dataflow::{END_OF_TIME_MS, NO_WATERMARK_MS, Source};
use crate::metadata::SourcePosition;

const OPEN: &str = "open a Kafka source";
const READ: &str = "read from Kafka";

/// Kilobytes of records that one worker's source has fetched and not given yet, at most; an answer that is under way may
/// come on top.
pub const MAX_QUEUED_KBYTES: u32 = 16 << 10;
/// Bytes that one answer of a broker has, unless its first batch alone is larger.
pub const MAX_FETCH_BYTES: u32 = 8 << 20;
/// When a partition is asked again whose records have filled the queue, in milliseconds. librdkafka's second would be most
/// of the time of a source that is throttled.
const FETCH_AGAIN_AFTER_MS: u32 = 20;

/// What to read, and from where on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSourceOptions {
    /// The cluster.
    pub cluster: KafkaCluster,
    /// The topic.
    pub topic: String,
    /// Where a source begins of which no checkpoint says where it stood.
    pub begin: Begin,
    /// For each partition, the offset before which it ends, such as [`KafkaSourceOptions::ends`] says; partitions that are
    /// not named are not read. `None`: the source never ends.
    ///
    /// The same after a restart, so it is yours to keep: what a job reads up to is a part of what it is told at each start,
    /// as the topic is, and a job that was bounded may go on further another day.
    pub until: Option<BTreeMap<i32, i64>>,
    /// The consumer group that librdkafka wants named. It is neither joined, nor is anything committed in it.
    pub group: String,
}

impl KafkaSourceOptions {
    /// All of a topic, from its earliest records on, for ever.
    pub fn new(cluster: KafkaCluster, topic: impl Into<String>) -> Self {
        let (begin, group) = (Begin::Earliest, "icecore-source".to_owned());
        Self { cluster, topic: topic.into(), begin, until: None, group }
    }

    /// Where each partition ends at present: behind all records of transactions that are decided, and before the first
    /// transaction that is open.
    ///
    /// # Errors
    /// As [`KafkaSource::open`].
    pub fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        let (reader, deadline) = (reader(&self.cluster, &self.group, &[])?, self.cluster.deadline());
        let partitions = partitions(&reader, &self.topic, deadline)?.into_iter();
        partitions.map(|partition| Ok((partition, bounds(&reader, &self.topic, partition, deadline)?.1))).collect()
    }
}

/// Where a source begins at its first start. Partitions that are found only after a restart begin at their earliest record
/// in any case: all in them is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// At the earliest record that is there.
    Earliest,
    /// Behind the latest record.
    Latest,
}

/// A record as it is in Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KafkaRecord<'a> {
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value. `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// The partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970 UTC, if it has one.
    pub timestamp_ms: Option<i64>,
}

type Decode<R> = Box<dyn FnMut(KafkaRecord<'_>) -> Result<R>>;

/// The partitions of a topic that one worker reads: those whose number, divided by that of workers, leaves the worker's own.
/// Records of transactions come when those are committed, those of aborted ones never.
///
/// Its splits are `<topic>-<partition>`; a position is the offset of the next record, in 8 bytes, little endian; of a source with
/// event time ([`KafkaSource::with_event_time`]) followed by the greatest event time before it, in 8 bytes more.
///
/// Partitions that a topic gets while a dataflow runs are not noticed; the next run begins at their earliest record. While
/// no broker answers the source has no records; librdkafka tries again and says so in the log.
pub struct KafkaSource<R> {
    name: String,
    topic: String,
    reader: Reader,
    partitions: BTreeMap<i32, Reading>,
    decode: Decode<R>,
    event_time: Option<EventTime<R>>,
}

/// How event time follows from records.
struct EventTime<R> {
    of: Box<dyn Fn(&R) -> i64>,
    out_of_order_ms: i64,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// The offset of the next record.
    next: i64,
    /// The offset before which it ends.
    end: i64,
    /// The greatest event time before the next record, if that is known.
    newest_ms: Option<i64>,
}

impl Reading {
    fn position(self) -> Vec<u8> {
        let mut position = self.next.to_le_bytes().to_vec();
        position.extend(self.newest_ms.into_iter().flat_map(i64::to_le_bytes));
        position
    }

    /// `None` if it is no position.
    fn parse(position: &[u8]) -> Option<(i64, Option<i64>)> {
        let (next, newest) = position.split_first_chunk()?;
        let newest_ms = match newest {
            [] => None,
            newest => Some(i64::from_le_bytes(newest.try_into().ok()?)),
        };
        let next = i64::from_le_bytes(*next);
        (next >= 0).then_some((next, newest_ms))
    }

    fn has_ended(self) -> bool {
        self.next >= self.end
    }
}

impl<R> KafkaSource<R> {
    /// Opens the partitions of worker `worker` of `workers`. Each begins where `restored` says, all source positions of the
    /// checkpoint that the dataflow begins with, by those of the source `name`; without any, where the options say.
    /// `decode` makes records of the dataflow out of Kafka's; what it fails with fails the job's tasks.
    ///
    /// Waits until the brokers have said where the partitions begin and end.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] if no broker answers in time; [`ErrorKind::NotFound`] if the topic or a partition is not
    /// there, or not the records that the source is to go on with: they were deleted, or the topic was truncated or made
    /// anew; [`ErrorKind::InvalidInput`] for options that cannot work, or positions that are of another topic.
    pub fn open(
        name: &str,
        options: &KafkaSourceOptions,
        restored: &[SourcePosition],
        (worker, workers): (usize, usize),
        decode: impl FnMut(KafkaRecord<'_>) -> Result<R> + 'static,
    ) -> Result<Self> {
        let topic = options.topic.as_str();
        let (reader, deadline) =
            (reader(&options.cluster, &options.group, &settings(options))?, options.cluster.deadline());
        let (found, stood) = (partitions(&reader, topic, deadline)?, stood(name, topic, restored)?);
        let named = stood.iter().flat_map(Stood::keys).chain(options.until.iter().flat_map(BTreeMap::keys));
        if let Some(missing) = named.into_iter().find(|partition| !found.contains(partition)) {
            return Err(gone(topic, *missing, "there is no such partition any more"));
        }
        let mut reading = BTreeMap::new();
        for partition in found.into_iter().filter(|partition| *partition as usize % workers.max(1) == worker) {
            let stands = stood.as_ref().and_then(|stood| stood.get(&partition)).copied();
            let end = match &options.until {
                None => i64::MAX,
                Some(until) => match until.get(&partition) {
                    Some(end) => *end,
                    None => {
                        // Not read, and where it stands is carried on, for a run that reads it.
                        if let Some((next, newest_ms)) = stands {
                            reading.insert(partition, Reading { next, end: next, newest_ms });
                        }
                        continue;
                    }
                },
            };
            let (first, last) = bounds(&reader, topic, partition, deadline)?;
            let (next, newest_ms) = match (&stood, options.begin) {
                (Some(_), _) => stands.unwrap_or((first, None)),
                (None, Begin::Earliest) => (first, None),
                (None, Begin::Latest) => (last, None),
            };
            check_bounds(topic, partition, next..end, first..last)?;
            reading.insert(partition, Reading { next, end, newest_ms });
        }
        let source = Self {
            name: name.to_owned(),
            topic: topic.to_owned(),
            reader,
            partitions: reading,
            decode: Box::new(decode),
            event_time: None,
        };
        source.assign()?;
        Ok(source)
    }

    /// Gives the source event time: `of` says that of a record, in milliseconds, and within a partition a record comes at most
    /// `out_of_order_ms` after a later one. So far behind the newest record of each partition is its watermark; the source's is the
    /// least of its partitions'. One that has no records yet holds all back, one that has come to its end nobody.
    #[must_use]
    pub fn with_event_time(self, of: impl Fn(&R) -> i64 + 'static, out_of_order_ms: u32) -> Self {
        let event_time = Some(EventTime { of: Box::new(of), out_of_order_ms: out_of_order_ms.into() });
        Self { event_time, ..self }
    }

    fn assign(&self) -> Result<()> {
        let mut assigned = TopicPartitionList::new();
        for (partition, reading) in self.partitions.iter().filter(|(_, reading)| !reading.has_ended()) {
            assigned
                .add_partition_offset(&self.topic, *partition, Offset::Offset(reading.next))
                .map_err(|error| failed(OPEN, error).with_object(self.split(*partition)))?;
        }
        self.reader.assign(&assigned).map_err(|error| failed(OPEN, error).with_object(&self.topic))
    }

    fn split(&self, partition: i32) -> String {
        format!("{}-{partition}", self.topic)
    }

    /// Ends a partition that has come to its end. Whatever else is fetched of it is thrown away.
    fn end(&mut self, partition: i32) -> Result<()> {
        if let Some(reading) = self.partitions.get_mut(&partition) {
            reading.next = reading.end;
        }
        let mut ended = TopicPartitionList::new();
        ended.add_partition(&self.topic, partition);
        self.reader.pause(&ended).map_err(|error| failed(READ, error).with_object(self.split(partition)))
    }

    /// What may pass is logged by now, and librdkafka tries again.
    fn check(&self, error: KafkaError) -> Result<()> {
        match &error {
            KafkaError::MessageConsumption(code) if !is_the_end(*code) => Ok(()),
            KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                let stands = |(partition, reading): (&i32, &Reading)| format!("{partition} at {}", reading.next);
                let stand: Vec<String> = self.partitions.iter().map(stands).collect();
                let message = format!(
                    "the next records of some partition are gone: they were deleted, or the topic was truncated or made \
                     anew; partitions stand at these offsets: {}",
                    stand.join(", ")
                );
                Err(Error::new(ErrorKind::NotFound, READ, message)
                    .with_object(&self.topic)
                    .with_advice(DELETED_ADVICE)
                    .with_source(error))
            }
            _ => Err(failed(READ, error).with_object(&self.topic)),
        }
    }

    /// Takes the next record, if it is there. Returns whether there may be another one now.
    fn take(&mut self, records: &mut Vec<R>) -> Result<bool> {
        let message = match self.reader.poll(Duration::ZERO) {
            None => return Ok(false),
            Some(Ok(message)) => message,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                // Only a source with an end is told. That lay before the last stable offset when the source was opened,
                // which never goes back: what follows the records that came are marks of transactions.
                return self.end(partition).map(|()| true);
            }
            Some(Err(error)) => return self.check(error).map(|()| true),
        };
        let (partition, offset) = (message.partition(), message.offset());
        let Some(reading) = self.partitions.get_mut(&partition).filter(|reading| !reading.has_ended()) else {
            return Ok(true);
        };
        if offset >= reading.end {
            drop(message);
            return self.end(partition).map(|()| true);
        }
        let record = KafkaRecord {
            key: message.key(),
            value: message.payload(),
            partition,
            offset,
            timestamp_ms: message.timestamp().to_millis(),
        };
        let decoded = (self.decode)(record);
        if let (Some(event_time), Ok(record)) = (&self.event_time, &decoded) {
            reading.newest_ms = reading.newest_ms.max(Some((event_time.of)(record)));
        }
        reading.next = offset.saturating_add(1);
        let ends = reading.has_ended();
        drop(message);
        records.push(decoded.map_err(|error| error.with_object(format!("{} at {offset}", self.split(partition))))?);
        if ends {
            self.end(partition)?;
        }
        Ok(true)
    }
}

const DELETED_ADVICE: &str =
    "keep records for longer than a job may stand still; a source of another name begins anew, without what is lost";

impl<R: Clone + 'static> Source for KafkaSource<R> {
    type Record = R;

    fn poll(&mut self, max: usize, records: &mut Vec<R>) -> Result<bool> {
        let full = records.len().saturating_add(max);
        while records.len() < full && self.take(records)? {}
        Ok(self.partitions.values().any(|reading| !reading.has_ended()))
    }

    fn positions(&self) -> Vec<SourcePosition> {
        let position = |(partition, reading): (&i32, &Reading)| SourcePosition {
            source: self.name.clone(),
            split: self.split(*partition),
            position: reading.position(),
        };
        self.partitions.iter().map(position).collect()
    }

    fn watermark_ms(&self) -> i64 {
        let Some(EventTime { out_of_order_ms, .. }) = &self.event_time else { return NO_WATERMARK_MS };
        let watermark_ms = |reading: &Reading| {
            // What comes may be as old as this, and no older.
            reading
                .newest_ms
                .map_or(NO_WATERMARK_MS, |newest| newest.saturating_sub(*out_of_order_ms).saturating_sub(1))
        };
        let open = self.partitions.values().filter(|reading| !reading.has_ended());
        open.map(watermark_ms).min().unwrap_or(END_OF_TIME_MS)
    }
}

impl<R> fmt::Debug for KafkaSource<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource")
            .field("topic", &self.topic)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

fn settings(options: &KafkaSourceOptions) -> Vec<(&'static str, String)> {
    vec![
        ("enable.partition.eof", options.until.is_some().to_string()),
        ("queued.max.messages.kbytes", MAX_QUEUED_KBYTES.to_string()),
        ("fetch.max.bytes", MAX_FETCH_BYTES.to_string()),
        ("fetch.queue.backoff.ms", FETCH_AGAIN_AFTER_MS.to_string()),
        ("check.crcs", "true".to_owned()),
    ]
}

/// The earliest offset of a partition, and the last stable one: no transaction before it is open.
fn bounds(reader: &Reader, topic: &str, partition: i32, deadline: Deadline) -> Result<(i64, i64)> {
    reader
        .fetch_watermarks(topic, partition, deadline.remaining())
        .map_err(|error| failed("look at a partition", error).with_object(format!("{topic}-{partition}")))
}

/// The next offset of each partition, and the greatest event time before it.
type Stood = BTreeMap<i32, (i64, Option<i64>)>;

/// Where the partitions of a source stood, by the checkpoint. `None`: it knows nothing of the source.
fn stood(name: &str, topic: &str, restored: &[SourcePosition]) -> Result<Option<Stood>> {
    let mut all = BTreeMap::new();
    for SourcePosition { split, position, .. } in restored.iter().filter(|position| position.source == name) {
        let partition = split.strip_prefix(topic).and_then(|rest| rest.strip_prefix('-')?.parse().ok());
        let partition: i32 = partition.ok_or_else(|| {
            let message = format!("the checkpoint has positions of source `{name}` that are not of topic `{topic}`");
            Error::invalid(OPEN, message)
                .with_object(split)
                .with_advice("another topic is another source: give it a name of its own")
        })?;
        let position = Reading::parse(position);
        all.insert(partition, position.ok_or_else(|| Error::corrupt(OPEN, split, "its position is no offset"))?);
    }
    Ok((!all.is_empty()).then_some(all))
}

/// Refuses to begin where records are missing, and to end where nobody can say that the partition has got there.
fn check_bounds(topic: &str, partition: i32, read: std::ops::Range<i64>, there: std::ops::Range<i64>) -> Result<()> {
    let (next, first, last) = (read.start, there.start, there.end);
    if next >= read.end {
        return Ok(());
    }
    if next < first {
        let message = format!("the source goes on at offset {next}, the records before {first} were deleted");
        return Err(gone(topic, partition, &message).with_advice(DELETED_ADVICE));
    }
    if next > last {
        let message = format!(
            "the source goes on at offset {next}, behind the end at {last}: the topic was truncated or made anew"
        );
        return Err(gone(topic, partition, &message));
    }
    if read.end != i64::MAX && read.end > last {
        let message = format!("it is to end before offset {}, but has no more than {last} that is stable", read.end);
        return Err(Error::invalid(OPEN, message)
            .with_object(format!("{topic}-{partition}"))
            .with_advice("take the ends from `KafkaSourceOptions::ends`"));
    }
    Ok(())
}

fn gone(topic: &str, partition: i32, message: &str) -> Error {
    Error::new(ErrorKind::NotFound, OPEN, message).with_object(format!("{topic}-{partition}"))
}

/// Whether librdkafka will get no further by itself.
fn is_the_end(code: Code) -> bool {
    matches!(
        code,
        Code::AutoOffsetReset
            | Code::OffsetOutOfRange
            | Code::LogTruncation
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::TopicAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::BadMessage
            | Code::BadCompression
            | Code::InvalidMessage
            | Code::NotImplemented
            | Code::UnsupportedFeature
            | Code::UnsupportedCompressionType
            | Code::Fatal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(split: &str, position: &[u8]) -> SourcePosition {
        SourcePosition { source: "orders".to_owned(), split: split.to_owned(), position: position.to_vec() }
    }

    #[test]
    fn a_position_is_the_next_offset_in_eight_bytes_little_endian() {
        let restored = [position("a-b-3", &[1, 2, 0, 0, 0, 0, 0, 0]), position("a-b-0", &[0; 8])];
        let stood = stood("orders", "a-b", &restored).unwrap().unwrap();
        assert_eq!(stood, BTreeMap::from([(3, (513, None)), (0, (0, None))]));
    }

    #[test]
    fn a_position_with_event_time_is_read_as_it_was_written() {
        for newest_ms in [None, Some(i64::MIN), Some(-1), Some(1_436_918_400_000)] {
            let reading = Reading { next: 513, end: i64::MAX, newest_ms };
            assert_eq!(Reading::parse(&reading.position()), Some((513, newest_ms)));
        }
    }

    #[test]
    fn positions_of_other_sources_are_not_looked_at() {
        assert_eq!(stood("payments", "a", &[position("b-0", &[0; 8])]).unwrap(), None);
    }

    #[test]
    fn positions_of_another_topic_or_no_offsets_are_refused() {
        for split in ["b-0", "a", "a-", "a-x", "a0"] {
            let error = stood("orders", "a", &[position(split, &[0; 8])]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{split}");
        }
        for bytes in [&[0; 7][..], &[0; 9], &[0; 15], &[0; 17], &[0, 0, 0, 0, 0, 0, 0, 0x80]] {
            assert_eq!(stood("orders", "a", &[position("a-0", bytes)]).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_source_begins_between_the_first_record_and_the_last_stable_one() {
        let check = |read| check_bounds("a", 0, read, 10..20).map_err(|error| error.kind());
        assert_eq!(check(10..i64::MAX), Ok(()));
        assert_eq!(check(20..i64::MAX), Ok(()));
        assert_eq!(check(9..9), Ok(()), "it has been read to its end");
        assert_eq!(check(9..i64::MAX), Err(ErrorKind::NotFound));
        assert_eq!(check(21..i64::MAX), Err(ErrorKind::NotFound));
        assert_eq!(check(10..21), Err(ErrorKind::InvalidInput));
    }
}
