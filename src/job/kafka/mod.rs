//! Kafka for dataflows of the crate `timely`: a source that begins where a checkpoint says, and a sink whose outputs a
//! `read_committed` consumer sees once, whatever crashes.
//!
//! [`KafkaSource`] keeps the offsets in the checkpoint, and Kafka's own consumer groups out of it: partitions are
//! assigned by their number, and nothing is ever reset silently.
//!
//! [`KafkaCommitter`] writes a transaction of the sink as a transaction of Kafka, with its name: the two become visible
//! together. A successor reads the name back, so it knows what has been committed, whatever its predecessor knew.
//! `docs/job.md` has the table of what happens at each moment of failure.
//!
//! What librdkafka logs goes to `tracing`, under the target `librdkafka`.

mod cluster;
mod committer;
mod failure;
mod note;
mod source;
mod transactions;

pub use cluster::{DEFAULT_PATIENCE, KafkaCluster};
pub use committer::{
    Compression, DEFAULT_TRANSACTION_TIMEOUT, Forgotten, KafkaCommitter, KafkaOutput, KafkaSinkOptions,
};
pub use source::{Begin, KafkaRecord, KafkaSource, KafkaSourceOptions, MAX_FETCH_BYTES, MAX_QUEUED_KBYTES};
