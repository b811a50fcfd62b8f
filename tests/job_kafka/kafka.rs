//! Topics, and what is in them.

use std::thread;
use std::time::{Duration, Instant};

use icecore::job::kafka::KafkaCluster;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::services;

/// Longest that anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A topic that no other test uses, on a broker.
pub struct Topic {
    pub bootstrap: String,
    pub name: String,
}

/// A record as a `read_committed` consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<String>,
}

/// The broker that all tests share.
pub fn shared() -> Option<&'static str> {
    services::shared_kafka()
}

pub fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// What the crate under test is told.
pub fn cluster(bootstrap: &str) -> KafkaCluster {
    KafkaCluster::new(bootstrap)
}

/// Runs what an administrator asks for, from any thread.
fn administer<T: Send>(
    bootstrap: &str,
    ask: impl AsyncFnOnce(AdminClient<DefaultClientContext>, AdminOptions) -> T + Send,
) -> T {
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
            runtime.block_on(ask(client(bootstrap).create().unwrap(), options))
        });
        asking.join().unwrap()
    })
}

impl Topic {
    pub fn new(bootstrap: &str, name: &str, partitions: i32) -> Self {
        let topic = Self { bootstrap: bootstrap.to_owned(), name: services::fresh_prefix(name) };
        topic.create(partitions);
        topic
    }

    pub fn create(&self, partitions: i32) {
        administer(&self.bootstrap, async |admin, options| {
            let topic = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
            admin.create_topics([&topic], &options).await.unwrap().remove(0).unwrap();
        });
        self.wait(|found| found == partitions as usize);
    }

    pub fn delete(&self) {
        administer(&self.bootstrap, async |admin, options| {
            admin.delete_topics(&[&self.name], &options).await.unwrap().remove(0).unwrap();
        });
        self.wait(|found| found == 0);
    }

    pub fn grow(&self, partitions: usize) {
        administer(&self.bootstrap, async |admin, options| {
            let more = NewPartitions::new(&self.name, partitions);
            admin.create_partitions([&more], &options).await.unwrap().remove(0).unwrap();
        });
        self.wait(|found| found == partitions);
    }

    /// Brokers tell of a change somewhat later than the controller makes it.
    fn wait(&self, is: impl Fn(usize) -> bool) {
        let consumer: BaseConsumer = client(&self.bootstrap).create().unwrap();
        let started = Instant::now();
        loop {
            let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE).unwrap();
            let topic = &metadata.topics()[0];
            let led = topic.partitions().iter().all(|partition| partition.leader() >= 0);
            if led && is(if topic.error().is_some() { 0 } else { topic.partitions().len() }) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{}: the change does not come about", self.name);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Deletes the records of a partition before an offset.
    pub fn delete_records(&self, partition: i32, before: i64) {
        administer(&self.bootstrap, async |admin, options| {
            let mut offsets = TopicPartitionList::new();
            offsets.add_partition_offset(&self.name, partition, Offset::Offset(before)).unwrap();
            let deleted = admin.delete_records(&offsets, &options).await.unwrap();
            deleted.elements()[0].error().unwrap();
        });
    }

    /// Appends records, each as its partition, key and value.
    pub fn produce<'a>(&self, records: impl IntoIterator<Item = (i32, &'a str, &'a [u8])>) {
        let producer: BaseProducer = client(&self.bootstrap).create().unwrap();
        for (partition, key, value) in records {
            self.send(&producer, partition, key, value);
        }
        producer.flush(PATIENCE).unwrap();
    }

    pub fn send(&self, producer: &BaseProducer, partition: i32, key: &str, value: &[u8]) {
        let mut record = BaseRecord::to(&self.name).partition(partition).key(key).payload(value);
        while let Err((error, back)) = producer.send(record) {
            assert!(error.to_string().contains("Queue full"), "{error}");
            producer.poll(Duration::from_millis(10));
            record = back;
        }
    }

    /// A producer in a transaction, with a record in each partition that is named. All of it is in Kafka.
    pub fn in_transaction(&self, id: &str, partitions: &[i32], value: &[u8]) -> BaseProducer {
        let producer: BaseProducer = client(&self.bootstrap).set("transactional.id", id).create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        for partition in partitions {
            self.send(&producer, *partition, "in a transaction", value);
        }
        producer.flush(PATIENCE).unwrap();
        producer
    }

    /// What a `read_committed` consumer sees, in the order of partitions and offsets.
    pub fn read(&self) -> Vec<Seen> {
        let consumer: BaseConsumer = client(&self.bootstrap)
            .set("group.id", "a reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE).unwrap();
        let mut open = metadata.topics()[0].partitions().len();
        let mut all = TopicPartitionList::new();
        all.add_partition_range(&self.name, 0, open as i32 - 1);
        all.set_all_offsets(Offset::Beginning).unwrap();
        consumer.assign(&all).unwrap();
        let (mut seen, started) = (Vec::new(), Instant::now());
        while open > 0 {
            assert!(started.elapsed() < PATIENCE, "{}: its end does not come", self.name);
            match consumer.poll(Duration::from_millis(100)) {
                None => {}
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => panic!("{error}"),
                Some(Ok(message)) => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    seen.push(Seen {
                        partition: message.partition(),
                        offset: message.offset(),
                        key: message.key().map(text),
                        value: message.payload().map(text),
                    });
                }
            }
        }
        seen.sort_unstable();
        seen
    }

    /// The same, once there are so many, or as many as there are after a long time: a commit is through before the broker has marked
    /// it in every partition.
    pub fn read_at_least(&self, count: usize) -> Vec<Seen> {
        let started = Instant::now();
        loop {
            let seen = self.read();
            if seen.len() >= count || started.elapsed() >= PATIENCE {
                return seen;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn values(&self) -> Vec<String> {
        let mut values: Vec<String> = self.read().into_iter().filter_map(|seen| seen.value).collect();
        values.sort_unstable();
        values
    }
}

/// What a broker does when a group's offsets have not been written for long.
pub fn forget_group(bootstrap: &str, group: &str) {
    administer(bootstrap, async |admin, options| {
        admin.delete_groups(&[group], &options).await.unwrap().remove(0).unwrap();
    });
}
