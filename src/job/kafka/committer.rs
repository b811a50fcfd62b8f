//! A sink whose outputs a `read_committed` consumer sees once.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::ExchangeData;

use super::cluster::KafkaCluster;
use super::note::Note;
use super::transactions::Transactions;
use crate::error::{Error, ErrorKind, Result};
use crate::job::dataflow::{Committer, Transaction};
use crate::keygroup::KeyGroup;
use crate::layout::CheckpointId;
use crate::task::CheckpointedTask;

const OPEN: &str = "open a Kafka sink";
const COMMIT: &str = "commit outputs to Kafka";
/// The default of [`KafkaSinkOptions::transaction_timeout`].
pub const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(120);

/// Where outputs go to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSinkOptions {
    /// The cluster. [`KafkaCluster::patience`] is how long a transaction is tried again before the job fails.
    pub cluster: KafkaCluster,
    /// The topic, which must be there.
    pub topic: String,
    /// What the sink is called in Kafka: its `transactional.id`, and the consumer group that holds its note. One for each
    /// job and sink, the same for ever: `<job>-<sink>`, say. Whoever uses it fences all who used it before.
    pub id: String,
    /// After how long without an end the broker aborts a transaction by itself (`transaction.timeout.ms`). Until then, or
    /// until the next run begins, consumers read nothing behind what a run that died has left open. It must be longer than
    /// a transaction may be tried, or it would be aborted meanwhile, and no longer than the broker's
    /// `transaction.max.timeout.ms` (15 minutes). Nothing is lost by it: outputs are in the checkpoint, not in a transaction
    /// that waits for one.
    pub transaction_timeout: Duration,
    /// How batches are compressed.
    pub compression: Compression,
    /// What to do if Kafka has forgotten what was committed.
    pub if_forgotten: Forgotten,
}

impl KafkaSinkOptions {
    /// A sink with the usual options.
    pub fn new(cluster: KafkaCluster, topic: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            cluster,
            topic: topic.into(),
            id: id.into(),
            transaction_timeout: DEFAULT_TRANSACTION_TIMEOUT,
            compression: Compression::Lz4,
            if_forgotten: Forgotten::Refuse,
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(Error::invalid(OPEN, what.to_owned()).with_object(&self.id));
        if self.id.is_empty() {
            return refuse("`id` is empty");
        }
        if self.transaction_timeout <= self.cluster.patience {
            return refuse("`transaction_timeout` must be longer than the cluster's `patience`");
        }
        Ok(())
    }
}

/// How the records of a batch are compressed: what librdkafka brings itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// By zlib.
    Gzip,
    /// By Snappy.
    Snappy,
    /// By LZ4.
    Lz4,
}

impl Compression {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
        }
    }
}

/// What to do with transactions of which nobody knows whether they were committed.
///
/// Kafka keeps a sink's note for `offsets.retention.minutes` (7 days) after it was written last, which each transaction
/// and each start does. A job that goes on after a longer time may have transactions in its checkpoint that its last run
/// committed just before it ended. Everything that came after the checkpoint is new, and committed in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// The job fails, and somebody has to look into the topic.
    Refuse,
    /// They are committed: their outputs may be there twice.
    CommitAgain,
    /// They are left out: their outputs may be missing.
    Skip,
}

/// A record for Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaOutput {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value. `None`: a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The partition; `None`: by the key, as Java's clients choose it, or any one without a key.
    pub partition: Option<i32>,
}

type Encode<T> = Box<dyn FnMut(&T) -> Result<KafkaOutput> + Send>;

/// Writes transactions of a sink to Kafka, each as one transaction of Kafka with its name.
///
/// All outputs of the sink have one key, hence one key group, and go to one worker: only there is a producer opened, so
/// that workers do not fence each other, and the transactions come in one order. One that is not behind the last that was
/// committed changes nothing.
pub struct KafkaCommitter<T> {
    opened: Option<Opened>,
    encode: Encode<T>,
}

#[derive(Debug)]
struct Opened {
    transactions: Transactions,
    if_forgotten: Forgotten,
    key_group: KeyGroup,
    /// `None`: Kafka does not know.
    noted: Option<Note>,
    /// The checkpoint that this run began with.
    began_with: CheckpointId,
}

impl<T> KafkaCommitter<T> {
    /// The committer of a sink on one worker: `task` and `restored` are those that [`sink`](crate::job::dataflow::sink) is
    /// given. `encode` makes records of outputs, the same of the same ones in every run.
    ///
    /// On the worker that all outputs go to it fences every predecessor, ends the transaction that it may have left open,
    /// and learns what was committed.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] if no broker answers in time; [`ErrorKind::NotFound`] if the topic is not there;
    /// [`ErrorKind::InvalidInput`] for options that cannot work, and if `restored` is older than what was committed: what
    /// came in between would be missing, or there twice.
    pub fn open<B: CheckpointedTask>(
        options: &KafkaSinkOptions,
        task: &B,
        restored: Option<CheckpointId>,
        encode: impl FnMut(&T) -> Result<KafkaOutput> + Send + 'static,
    ) -> Result<Self> {
        options.check()?;
        let key_group = task.layout().max_parallelism().key_group_of(&());
        let opened =
            if task.key_groups().contains(key_group) { Some(Opened::new(options, key_group, restored)?) } else { None };
        Ok(Self { opened, encode: Box::new(encode) })
    }
}

impl Opened {
    fn new(options: &KafkaSinkOptions, key_group: KeyGroup, restored: Option<CheckpointId>) -> Result<Self> {
        let (transactions, noted) = Transactions::open(options)?;
        let began_with = restored.unwrap_or(CheckpointId(0));
        let mut this = Self { transactions, if_forgotten: options.if_forgotten, key_group, noted, began_with };
        if let Some(Note::UpTo { after, .. }) = noted {
            // What was committed was closed by a complete checkpoint, and opened by one before that.
            if restored.is_none_or(|restored| after >= restored) {
                return Err(this.is_too_old(options, after, restored));
            }
        }
        // At the first start there is nothing to forget. A note that is there is written again: brokers count from that.
        if let Some(note) = noted.or(restored.is_none().then_some(Note::Nothing)) {
            this.transactions.commit(note, &[])?;
            this.noted = Some(note);
        }
        Ok(this)
    }

    fn is_too_old(&self, options: &KafkaSinkOptions, after: CheckpointId, restored: Option<CheckpointId>) -> Error {
        let begins =
            restored.map_or("without a checkpoint".to_owned(), |restored| format!("with checkpoint {restored}"));
        let message = format!("outputs that came after checkpoint {after} are committed, but the run begins {begins}");
        Error::invalid(OPEN, message).with_object(&options.id).with_advice(
            "begin with the newest complete checkpoint; for a run that shall put the same out again take another `id`",
        )
    }

    /// Whether a transaction is to be produced.
    fn is_new(&self, transaction: Transaction) -> Result<bool> {
        if transaction.key_group != self.key_group {
            let message = format!("key group {} is not that of all outputs", transaction.key_group);
            return Err(Error::new(ErrorKind::Internal, COMMIT, message));
        }
        let Some(noted) = self.noted else { return self.is_new_for_all_one_knows(transaction) };
        Ok(Note::of(transaction) > noted)
    }

    fn is_new_for_all_one_knows(&self, transaction: Transaction) -> Result<bool> {
        if transaction.after >= self.began_with {
            return Ok(true);
        }
        match self.if_forgotten {
            Forgotten::CommitAgain => Ok(true),
            Forgotten::Skip => Ok(false),
            Forgotten::Refuse => {
                let message = format!(
                    "Kafka has no note of what was committed: it has forgotten it, or the checkpoint is of a sink with \
                     another `id`; and the checkpoint has outputs that came after checkpoint {} and may have been committed",
                    transaction.after
                );
                Err(Error::new(ErrorKind::OutcomeUnknown, COMMIT, message).with_advice(
                    "look into the topic, then set `if_forgotten` for one start (for a new sink: `CommitAgain` or `Skip`); a longer \
                     `offsets.retention.minutes` lets a job stand still for longer",
                ))
            }
        }
    }
}

impl<T: ExchangeData + Serialize + DeserializeOwned> Committer for KafkaCommitter<T> {
    type Output = T;
    /// One key for all outputs, hence one key group.
    type Key = ();

    fn key(_output: &T) {}

    fn commit(&mut self, transaction: Transaction, outputs: Vec<T>) -> Result<()> {
        let opened = self.opened.as_mut().ok_or_else(|| {
            Error::new(ErrorKind::Internal, COMMIT, "another worker has the key group of all outputs")
        })?;
        if !opened.is_new(transaction)? {
            tracing::info!(?transaction, noted = ?opened.noted, "outputs are in Kafka already, or left out");
            return Ok(());
        }
        let outputs = outputs.iter().map(&mut self.encode).collect::<Result<Vec<_>>>()?;
        let note = Note::of(transaction);
        opened.transactions.commit(note, &outputs)?;
        opened.noted = Some(note);
        Ok(())
    }
}

impl<T> fmt::Debug for KafkaCommitter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaCommitter").field("opened", &self.opened).finish_non_exhaustive()
    }
}
