//! Topics of the demo: made, filled, read.

use std::time::{Duration, Instant};

use icecore::{Error, ErrorKind, Result};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(60);

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, "talk to Kafka", error.to_string())
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// Makes topics of these names and numbers of partitions.
pub async fn create(bootstrap: &str, topics: &[(&str, i32)]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().map_err(failed)?;
    let new: Vec<NewTopic<'_>> =
        topics.iter().map(|(name, partitions)| NewTopic::new(name, *partitions, TopicReplication::Fixed(1))).collect();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for made in admin.create_topics(&new, &options).await.map_err(failed)? {
        made.map_err(|(topic, code)| failed(format!("topic {topic}: {code}")))?;
    }
    Ok(())
}

/// Appends records to a topic, each with its partition.
pub struct Filler {
    producer: BaseProducer,
    topic: String,
}

impl Filler {
    pub fn new(bootstrap: &str, topic: &str) -> Result<Self> {
        Ok(Self { producer: client(bootstrap).create().map_err(failed)?, topic: topic.to_owned() })
    }

    pub fn add(&self, partition: i32, value: &[u8]) -> Result<()> {
        let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(&self.topic).partition(partition).payload(value);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(10));
                    record = back;
                }
                Err((error, _)) => return Err(failed(error)),
            }
        }
    }

    pub fn flush(&self) -> Result<()> {
        self.producer.flush(PATIENCE).map_err(failed)
    }
}

/// All that a `read_committed` consumer sees, sorted.
pub fn read(bootstrap: &str, topic: &str) -> Result<Vec<String>> {
    let mut config = client(bootstrap);
    let config = config.set("group.id", "job-demo-reader").set("enable.auto.commit", "false");
    let config = config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().map_err(failed)?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).map_err(failed)?;
    let mut open = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    let mut all = TopicPartitionList::new();
    all.add_partition_range(topic, 0, open as i32 - 1);
    all.set_all_offsets(Offset::Beginning).map_err(failed)?;
    consumer.assign(&all).map_err(failed)?;
    let (mut values, began) = (Vec::new(), Instant::now());
    while open > 0 {
        if began.elapsed() > PATIENCE {
            return Err(failed("the end of the results does not come"));
        }
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(failed(error)),
            Some(Ok(record)) => values.push(String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned()),
        }
    }
    values.sort_unstable();
    Ok(values)
}
