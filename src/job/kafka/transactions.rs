//! One Kafka transaction after another, each with a note of what it is.

use std::fmt;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};

use super::cluster::{Deadline, Logging, Reader, partitions, reader};
use super::committer::{KafkaOutput, KafkaSinkOptions};
use super::failure::{failed, is_permanent, kind_of};
use super::note::{self, Note};
use crate::error::{Error, ErrorKind, Result};

const OPEN: &str = "open a Kafka sink";
const COMMIT: &str = "commit a Kafka transaction";
/// Kilobytes of outputs that wait in the producer at most.
const MAX_QUEUED_KBYTES: u32 = 64 << 10;

/// The producer of a sink, after it has fenced its predecessors.
pub(super) struct Transactions {
    options: KafkaSinkOptions,
    producer: ThreadedProducer<Deliveries>,
    /// Of the sink's own consumer group, which has no members.
    group: ConsumerGroupMetadata,
}

/// What is to be done after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The same call again.
    Again,
    /// The transaction has to be aborted; then it may be done again.
    Abort,
    /// Nothing more can be done by this producer.
    End,
}

impl Transactions {
    /// Fences every predecessor, ends the transaction that it may have left open, and reads what was committed.
    pub(super) fn open(options: &KafkaSinkOptions) -> Result<(Self, Option<Note>)> {
        let deadline = options.cluster.deadline();
        let reader = reader(&options.cluster, &options.id, &[])?;
        partitions(&reader, &options.topic, deadline)?;
        let group = reader.group_metadata().ok_or_else(|| Error::new(ErrorKind::Internal, OPEN, "it has no group"))?;
        let producer: ThreadedProducer<Deliveries> = options
            .cluster
            .config(&settings(options))?
            .create_with_context(Deliveries::default())
            .map_err(|error| failed(OPEN, error))?;
        let this = Self { options: options.clone(), producer, group };
        deadline.until_done(|| this.producer.init_transactions(deadline.remaining())).map_err(|error| {
            this.explain(OPEN, error).with_advice(
                "the broker must allow this transactional id, and `transaction.max.timeout.ms` be no less than the \
                 option `transaction_timeout`",
            )
        })?;
        // Only now: none who could still write it is left.
        let noted = this.read(&reader, deadline)?;
        Ok((this, noted))
    }

    /// Makes outputs and note visible together. The same transaction is tried again for as long as the options say.
    pub(super) fn commit(&self, note: Note, outputs: &[KafkaOutput]) -> Result<()> {
        let deadline = self.options.cluster.deadline();
        loop {
            self.producer.context().failure.lock().take();
            let Err((step, error)) = self.attempt(note, outputs, deadline) else { return Ok(()) };
            let verdict = verdict(&error);
            let failure = self.explain(step, self.producer.context().failure.lock().take().unwrap_or(error));
            // The next run aborts what may be open, and finds out what may have been committed.
            if deadline.remaining().is_zero() {
                return Err(failure.with_note(format_args!("tried for {:?}", deadline.patience)));
            }
            if verdict == Verdict::End {
                return Err(failure);
            }
            deadline
                .until_done(|| self.producer.abort_transaction(deadline.remaining()))
                .map_err(|error| self.explain("abort a Kafka transaction", error))?;
            if is_permanent(failure.kind()) {
                return Err(failure);
            }
            tracing::warn!(sink = self.options.id, %failure, "a Kafka transaction was aborted, and is done again");
            // The note is what counts, should the transaction have been committed after all.
            let reader = reader(&self.options.cluster, &self.options.id, &[])?;
            if self.read(&reader, deadline)? >= Some(note) {
                return Ok(());
            }
            deadline.pause();
        }
    }

    /// One try, and the step that failed.
    fn attempt(
        &self,
        note: Note,
        outputs: &[KafkaOutput],
        deadline: Deadline,
    ) -> std::result::Result<(), (&'static str, KafkaError)> {
        let at = |step| move |error| (step, error);
        self.producer.begin_transaction().map_err(at("begin a Kafka transaction"))?;
        for output in outputs {
            deadline.until_done(|| self.send(output)).map_err(at("produce to Kafka"))?;
        }
        let offsets = note.offsets(&self.options.topic).map_err(at("name a Kafka transaction"))?;
        deadline
            .until_done(|| self.producer.send_offsets_to_transaction(&offsets, &self.group, deadline.remaining()))
            .map_err(at("name a Kafka transaction"))?;
        deadline.until_done(|| self.producer.commit_transaction(deadline.remaining())).map_err(at(COMMIT))
    }

    fn send(&self, output: &KafkaOutput) -> KafkaResult<()> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.options.topic);
        record.key = output.key.as_deref();
        record.payload = output.payload.as_deref();
        record.partition = output.partition;
        self.producer.send(record).map_err(|(error, _)| error)
    }

    fn read(&self, reader: &Reader, deadline: Deadline) -> Result<Option<Note>> {
        note::read(reader, &self.options.topic, deadline)
    }

    /// A producer that is through with says why by itself.
    fn explain(&self, operation: &'static str, error: KafkaError) -> Error {
        let failure = match self.producer.client().fatal_error() {
            Some((code, reason)) => failed(operation, KafkaError::Global(code)).with_note(reason),
            None => failed(operation, error),
        };
        // Whether a commit of unknown outcome has landed is found out by the next run.
        let is_unknown = operation == COMMIT && failure.is_retryable();
        let failure = if is_unknown { failure.with_kind(ErrorKind::OutcomeUnknown) } else { failure };
        failure.with_object(format!("{} to {}", self.options.id, self.options.topic))
    }
}

impl fmt::Debug for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactions").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Deadline {
    /// Does it again while that may help, and there is time.
    fn until_done(self, call: impl Fn() -> KafkaResult<()>) -> KafkaResult<()> {
        loop {
            match call() {
                Err(error) if verdict(&error) == Verdict::Again && self.pause() => {}
                outcome => return outcome,
            }
        }
    }
}

fn verdict(error: &KafkaError) -> Verdict {
    match error {
        KafkaError::Transaction(error) if error.is_fatal() => Verdict::End,
        KafkaError::Transaction(error) if error.txn_requires_abort() => Verdict::Abort,
        KafkaError::Transaction(error) if error.is_retriable() => Verdict::Again,
        KafkaError::Flush(Code::OperationTimedOut) | KafkaError::MessageProduction(Code::QueueFull) => Verdict::Again,
        // A message that cannot be produced, or a transaction that has failed by an earlier one.
        KafkaError::Flush(_) => Verdict::Abort,
        KafkaError::MessageProduction(code) if kind_of(*code) != ErrorKind::Fenced && *code != Code::Fatal => {
            Verdict::Abort
        }
        _ => Verdict::End,
    }
}

fn settings(options: &KafkaSinkOptions) -> Vec<(&'static str, String)> {
    vec![
        ("transactional.id", options.id.clone()),
        ("transaction.timeout.ms", options.transaction_timeout.as_millis().to_string()),
        ("compression.type", options.compression.as_str().to_owned()),
        ("queue.buffering.max.kbytes", MAX_QUEUED_KBYTES.to_string()),
        // As Java's clients distribute keys.
        ("partitioner", "murmur2_random".to_owned()),
    ]
}

/// Hears which records could not be produced.
#[derive(Default)]
struct Deliveries {
    logging: Logging,
    /// The first failure of the transaction that is not a mere consequence of another one.
    failure: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.logging.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.logging.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        let Err((error, record)) = delivery else { return };
        let is_purged = matches!(error, KafkaError::MessageProduction(Code::PurgeQueue | Code::PurgeInflight));
        if !is_purged {
            tracing::warn!(%error, topic = record.topic(), partition = record.partition(), "a record was not produced");
            self.failure.lock().get_or_insert_with(|| error.clone());
        }
    }
}
