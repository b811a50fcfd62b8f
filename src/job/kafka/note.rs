//! What Kafka keeps of a sink: the name of its last transaction.
//!
//! It is the metadata of an offset that the sink's own consumer group has committed for partition 0 of the topic, written
//! by the very transaction that it names. The offset itself is always 0 and means nothing. The text is one of
//!
//! ```text
//! icecore/1 nothing
//! icecore/1 after=<checkpoint> part=<number>
//! ```

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::cluster::{Deadline, Reader};
use super::failure::{failed, kind_of};
use crate::error::{Error, ErrorKind, Result};
use crate::job::dataflow::Transaction;
use crate::layout::CheckpointId;

const READ: &str = "read what a Kafka sink has committed";
/// Brokers hold an answer back for as long as a transaction on it is neither committed nor aborted. Its producer is fenced by
/// then, so brokers end it by themselves, unless they have lost its marker (Kafka 4.4 does, when the only replica of a
/// partition crashes before it has been written).
const UNDECIDED: &str = "either the brokers are overloaded, or they hold a transaction of this sink undecided for ever: \
    `kafka-transactions.sh find-hanging` lists those";
const VERSION: &str = "icecore/1";
/// Where the offset is. Every topic has this partition.
const PARTITION: i32 = 0;

/// Up to where a sink has committed. Its transactions are of one key group, so their names are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Note {
    /// The sink has begun, no more.
    Nothing,
    /// This one, and all before it.
    UpTo { after: CheckpointId, part: u64 },
}

impl Note {
    pub(super) fn of(transaction: Transaction) -> Self {
        Self::UpTo { after: transaction.after, part: transaction.part }
    }

    fn text(self) -> String {
        match self {
            Self::Nothing => format!("{VERSION} nothing"),
            Self::UpTo { after, part } => format!("{VERSION} after={} part={part}", after.0),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        match words.as_slice() {
            [VERSION, "nothing"] => Some(Self::Nothing),
            [VERSION, after, part] => {
                let after = CheckpointId(after.strip_prefix("after=")?.parse().ok()?);
                Some(Self::UpTo { after, part: part.strip_prefix("part=")?.parse().ok()? })
            }
            _ => None,
        }
    }

    /// The offset to be committed with the transaction.
    pub(super) fn offsets(self, topic: &str) -> KafkaResult<TopicPartitionList> {
        let mut offsets = TopicPartitionList::new();
        let mut offset = offsets.add_partition(topic, PARTITION);
        offset.set_offset(Offset::Offset(0))?;
        offset.set_metadata(self.text());
        Ok(offsets)
    }
}

/// What the reader's group holds, if anything: brokers forget it in time. Waits until no transaction on it is under way.
pub(super) fn read(reader: &Reader, topic: &str, deadline: Deadline) -> Result<Option<Note>> {
    let group =
        || Error::corrupt(READ, topic, "the sink's consumer group has an offset that no icecore of this version wrote");
    loop {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(topic, PARTITION);
        let answer = reader.committed_offsets(asked, deadline.remaining()).and_then(|answer| {
            let found = answer.find_partition(topic, PARTITION);
            let found = found.ok_or(KafkaError::NoMessageReceived)?;
            found.error()?;
            // Panics for what is not UTF-8; but brokers keep text, and give no other.
            Ok((found.offset() != Offset::Invalid).then(|| found.metadata().to_owned()))
        });
        let error = match answer {
            Ok(None) => return Ok(None),
            Ok(Some(text)) => return Note::parse(&text).map(Some).ok_or_else(group),
            Err(error) => error,
        };
        let is_passing = error.rdkafka_error_code().is_some_and(|code| kind_of(code) == ErrorKind::Temporary);
        if !is_passing || !deadline.pause() {
            let failure = failed(READ, error).with_object(topic);
            return Err(if is_passing { failure.with_advice(UNDECIDED) } else { failure });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        for note in [Note::Nothing, Note::UpTo { after: CheckpointId(0), part: 7 }, up_to(u64::MAX, 0)] {
            assert_eq!(Note::parse(&note.text()), Some(note));
        }
    }

    #[test]
    fn what_nobody_wrote_is_no_note() {
        let all = [
            "",
            "icecore/1",
            "icecore/2 nothing",
            "icecore/1 after=1",
            "icecore/1 after=-1 part=0",
            "icecore/1 part=1 after=0",
        ];
        for text in all.into_iter().chain(["icecore/1 after=1 part=0 ", "icecore/1 after=18446744073709551616 part=0"])
        {
            assert_eq!(Note::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn notes_are_in_the_order_of_transactions() {
        assert!(Note::Nothing < up_to(0, 0) && up_to(0, 9) < up_to(1, 0) && up_to(1, 0) < up_to(1, 1));
    }

    fn up_to(after: u64, part: u64) -> Note {
        Note::UpTo { after: CheckpointId(after), part }
    }
}
