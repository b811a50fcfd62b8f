//! Encodes and decodes a `_metadata`.
//!
//! The body is a sequence of records, each a length-delimited protobuf field, in one order:
//! checkpoint, then per operator its states and subtasks (each subtask after the segments of its
//! file list), then sources, then properties. The writer appends record by record to the final
//! buffer; the reader turns record by record into values.

use std::collections::BTreeMap;

use super::fault::{Checked, Fault, at_most};
use super::file::{Interner, Segments, read_segment};
use super::frame::Format;
use super::limits::{
    MAX_FILES, MAX_MAX_PARALLELISM, MAX_OPERATORS, MAX_PROPERTIES, MAX_SOURCE_POSITIONS, MAX_STATES_PER_OPERATOR,
    SEGMENT_FILES,
};
use super::model::{CheckpointMetadata, FileEntry, Location, OperatorState, SourcePosition, StateSchema, SubtaskState};
use super::names::{
    epoch, epoch_to_wire, hash, job, key_groups, key_groups_to_wire, name_fault, origin, origin_to_wire,
};
use super::numbers::SegmentPlace;
use super::wire::body;
use super::{check, numbers, wire};
use crate::error::Result;
use crate::layout::{CheckpointId, ContentHash, OperatorId};

const ENCODE: &str = "encode _metadata";
const DECODE: &str = "decode _metadata";
/// More fields than a record without lists has, later versions included.
const MAX_SMALL_FIELDS: usize = 64;
/// A segment of 4,096 files each, or of one file with the longest keys.
const MAX_SUBTASK_FIELDS: usize = MAX_FILES + MAX_SMALL_FIELDS;

/// The object's bytes. The same value always gives the same bytes.
///
/// # Errors
/// [`crate::ErrorKind::InvalidInput`] if the value breaks a rule of `docs/format.md`,
/// [`crate::ErrorKind::LimitExceeded`] if it is too large.
pub fn encode(value: &CheckpointMetadata) -> Result<Vec<u8>> {
    check::checkpoint(value).map_err(|fault| fault.of_writer(ENCODE))?;
    encode_unchecked(value)
}

/// The bytes of any value, one that breaks the rules too. Tests show readers such bytes.
pub(super) fn encode_unchecked(value: &CheckpointMetadata) -> Result<Vec<u8>> {
    let mut out = Format::METADATA.begin(about_body_bytes(value));
    let checkpoint = wire::Checkpoint {
        job: value.job.as_str().to_owned(),
        checkpoint: value.checkpoint.0,
        epoch: Some(epoch_to_wire(value.epoch)),
        kind: numbers::number(value.kind),
        triggered_at_unix_ms: value.triggered_at_unix_ms,
        max_parallelism: value.max_parallelism,
        writer: value.writer.clone(),
        origin: value.origin.as_ref().map(origin_to_wire),
    };
    wire::put_message(&mut out, body::CHECKPOINT, &checkpoint);
    let mut scratch = Vec::new();
    for operator in &value.operators {
        encode_operator(value, operator, &mut scratch, &mut out);
    }
    for source in &value.sources {
        let message = wire::Source {
            source: source.source.clone(),
            split: source.split.clone(),
            position: source.position.clone(),
        };
        wire::put_message(&mut out, body::SOURCE, &message);
    }
    for (key, value) in &value.properties {
        wire::put_message(&mut out, body::PROPERTY, &wire::Property { key: key.clone(), value: value.clone() });
    }
    Format::METADATA.seal(out)
}

/// A little more than the body will take, so that the buffer does not grow by doubling.
fn about_body_bytes(value: &CheckpointMetadata) -> usize {
    const FILE_BYTES: usize = 176;
    let file_bytes = |file: &FileEntry| {
        let table = file.table.as_ref();
        let place = match &file.location {
            Location::InCheckpoint(path) => path.as_str().len(),
            Location::InRoot(_) => 0,
        };
        FILE_BYTES
            + file.local_name.as_str().len()
            + place
            + table.map_or(0, |table| table.column_family.len() + table.smallest_key.len() + table.largest_key.len())
    };
    let rest = value.properties.values().map(Vec::len).chain(value.sources.iter().map(|source| source.position.len()));
    value.files().map(file_bytes).chain(rest).fold(4096, usize::saturating_add)
}

fn encode_operator(value: &CheckpointMetadata, operator: &OperatorState, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    let message = wire::Operator {
        operator: operator.operator.as_str().to_owned(),
        parallelism: operator.parallelism,
        max_parallelism: operator.max_parallelism,
    };
    wire::put_message(out, body::OPERATOR, &message);
    for state in &operator.states {
        let message = wire::State {
            name: state.name.clone(),
            kind: numbers::number(state.kind),
            key_serializer: state.key_serializer.clone(),
            value_serializer: state.value_serializer.clone(),
        };
        wire::put_message(out, body::STATE, &message);
    }
    for subtask in &operator.subtasks {
        let mut segments = Vec::new();
        let mut pieces = Segments::of(&value.job, &subtask.files);
        while let Some(files) = pieces.next_into(scratch) {
            segments.push(wire::Segment { sha256: ContentHash::of(scratch).0.to_vec(), files: files as u64 });
            wire::put_bytes(out, body::SEGMENT, scratch);
        }
        let message = wire::Subtask {
            index: subtask.index,
            key_groups: subtask.key_groups.map(key_groups_to_wire),
            backend: numbers::number(subtask.backend),
            segment_place: numbers::number(SegmentPlace::Inline),
            segments,
        };
        wire::put_message(out, body::SUBTASK, &message);
    }
}

/// Reads an object. Callers add its path to the error.
///
/// # Errors
/// [`crate::ErrorKind::Corrupt`] if it is damaged or breaks a rule of `docs/format.md`,
/// [`crate::ErrorKind::Unsupported`] if it says something that only a newer build knows,
/// [`crate::ErrorKind::LimitExceeded`] if it is larger than this build takes.
pub fn decode(object: &[u8]) -> Result<CheckpointMetadata> {
    decode_body(Format::METADATA.unframe(object)?)
}

/// Reads a body whose frame was checked already. For the fuzzer, which cannot guess a SHA-256.
///
/// # Errors
/// As [`decode`].
#[doc(hidden)]
pub fn decode_body(body: &[u8]) -> Result<CheckpointMetadata> {
    let read = || {
        let value = read_body(body)?;
        check::checkpoint(&value)?;
        Ok(value)
    };
    read().map_err(|fault: Fault| fault.of_reader(DECODE))
}

fn read_body(mut rest: &[u8]) -> Checked<CheckpointMetadata> {
    let Some((body::CHECKPOINT, bytes)) = wire::take_field(&mut rest)? else {
        return Err(Fault::bad("it does not start with the checkpoint's own record"));
    };
    let mut reader = Reader::new(bytes)?;
    while let Some((number, bytes)) = wire::take_field(&mut rest)? {
        reader.take(number, bytes)?;
    }
    reader.finish()
}

/// What was read so far. Every record but the first is optional, and the order is fixed.
struct Reader<'a> {
    value: CheckpointMetadata,
    families: Interner,
    /// Segments whose subtask has not come yet.
    segments: Vec<&'a [u8]>,
    files: usize,
    section: u8,
}

impl<'a> Reader<'a> {
    fn new(bytes: &[u8]) -> Checked<Self> {
        let message: wire::Checkpoint = wire::decode("the checkpoint's record", bytes, MAX_SMALL_FIELDS)?;
        let value = CheckpointMetadata {
            job: job(&message.job)?,
            checkpoint: CheckpointId(message.checkpoint),
            epoch: epoch(message.epoch)?,
            kind: numbers::value(message.kind)?,
            triggered_at_unix_ms: message.triggered_at_unix_ms,
            max_parallelism: message.max_parallelism,
            writer: message.writer,
            origin: message.origin.map(origin).transpose()?,
            operators: Vec::new(),
            sources: Vec::new(),
            properties: BTreeMap::new(),
        };
        Ok(Self { value, families: Interner::default(), segments: Vec::new(), files: 0, section: body::OPERATOR })
    }

    fn take(&mut self, number: u8, bytes: &'a [u8]) -> Checked {
        self.keep_order(number)?;
        match number {
            body::OPERATOR => self.operator(bytes),
            body::STATE => self.state(bytes),
            body::SEGMENT => {
                self.segments.push(bytes);
                at_most("segments", self.segments.len(), MAX_FILES)
            }
            body::SUBTASK => self.subtask(bytes),
            body::SOURCE => self.source(bytes),
            body::PROPERTY => self.property(bytes),
            _ => Err(Fault::unknown(format!("it holds a record of the unknown number {number}"))),
        }
    }

    /// Operators (each with its states, then its segments and subtasks), sources, properties.
    fn keep_order(&mut self, number: u8) -> Checked {
        let last = self.section;
        let in_order = match number {
            // Segments belong to a subtask of the operator they stand in; `finish` finds those without.
            body::OPERATOR => last <= body::SUBTASK && self.segments.is_empty(),
            body::STATE => last <= body::STATE && !self.value.operators.is_empty(),
            body::SEGMENT | body::SUBTASK => last <= body::SUBTASK && !self.value.operators.is_empty(),
            body::SOURCE => last <= body::SOURCE,
            body::PROPERTY => true,
            body::CHECKPOINT => false,
            _ => true,
        };
        if !in_order {
            return Err(Fault::bad(format!("a record of number {number} stands where none may")));
        }
        self.section = number;
        Ok(())
    }

    fn operator(&mut self, bytes: &[u8]) -> Checked {
        at_most("operators", self.value.operators.len() + 1, MAX_OPERATORS)?;
        let message: wire::Operator = wire::decode("an operator", bytes, MAX_SMALL_FIELDS)?;
        self.value.operators.push(OperatorState {
            operator: OperatorId::new(&message.operator).map_err(|error| name_fault(&error).within("operator id"))?,
            parallelism: message.parallelism,
            max_parallelism: message.max_parallelism,
            states: Vec::new(),
            subtasks: Vec::new(),
        });
        Ok(())
    }

    fn state(&mut self, bytes: &[u8]) -> Checked {
        let Some(operator) = self.value.operators.last_mut() else {
            return Err(Fault::bad("a state without an operator"));
        };
        at_most("states", operator.states.len() + 1, MAX_STATES_PER_OPERATOR)?;
        let message: wire::State = wire::decode("a state", bytes, MAX_SMALL_FIELDS)?;
        operator.states.push(StateSchema {
            name: message.name,
            kind: numbers::value(message.kind)?,
            key_serializer: message.key_serializer,
            value_serializer: message.value_serializer,
        });
        Ok(())
    }

    fn subtask(&mut self, bytes: &[u8]) -> Checked {
        let Some(operator) = self.value.operators.last_mut() else {
            return Err(Fault::bad("a subtask without an operator"));
        };
        at_most("subtasks", operator.subtasks.len() + 1, MAX_MAX_PARALLELISM as usize)?;
        let message: wire::Subtask = wire::decode("a subtask", bytes, MAX_SUBTASK_FIELDS)?;
        let SegmentPlace::Inline = numbers::value(message.segment_place)?;
        if message.segments.len() != self.segments.len() {
            let (named, there) = (message.segments.len(), self.segments.len());
            return Err(Fault::bad(format!("subtask {} names {named} segments, {there} are there", message.index)));
        }
        let mut files = Vec::new();
        for (named, segment) in message.segments.iter().zip(self.segments.drain(..)) {
            // A fuzzer does not guess hashes; nothing else is built with `cfg(fuzzing)`.
            if hash(&named.sha256)? != ContentHash::of(segment) && !cfg!(fuzzing) {
                return Err(Fault::bad(format!("subtask {}: a segment has another hash", message.index)));
            }
            let expected = usize::try_from(named.files).unwrap_or(usize::MAX);
            files.reserve(expected.min(SEGMENT_FILES));
            let read = read_segment(&self.value.job, segment, &mut self.families, &mut files)?;
            if read != expected || read == 0 {
                return Err(Fault::bad(format!("a segment of {expected} files holds {read}")));
            }
            self.files += read;
            at_most("files", self.files, MAX_FILES)?;
        }
        operator.subtasks.push(SubtaskState {
            index: message.index,
            key_groups: message.key_groups.map(key_groups).transpose()?,
            backend: numbers::value(message.backend)?,
            files,
        });
        Ok(())
    }

    fn source(&mut self, bytes: &[u8]) -> Checked {
        at_most("source positions", self.value.sources.len() + 1, MAX_SOURCE_POSITIONS)?;
        let message: wire::Source = wire::decode("a source's position", bytes, MAX_SMALL_FIELDS)?;
        self.value.sources.push(SourcePosition {
            source: message.source,
            split: message.split,
            position: message.position,
        });
        Ok(())
    }

    fn property(&mut self, bytes: &[u8]) -> Checked {
        at_most("properties", self.value.properties.len() + 1, MAX_PROPERTIES)?;
        let message: wire::Property = wire::decode("a property", bytes, MAX_SMALL_FIELDS)?;
        if self.value.properties.last_key_value().is_some_and(|(last, _)| *last >= message.key) {
            return Err(Fault::bad("properties are not sorted, or one is there twice"));
        }
        self.value.properties.insert(message.key, message.value);
        Ok(())
    }

    fn finish(self) -> Checked<CheckpointMetadata> {
        if !self.segments.is_empty() {
            return Err(Fault::bad("segments without a subtask"));
        }
        Ok(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::metadata::tests::samples;

    #[test]
    fn a_reader_stops_at_the_segment_that_goes_over_the_limit_of_files() {
        let object = encode(&samples::checkpoint()).unwrap();
        let files = samples::checkpoint().files().count();
        let read = |files_before| {
            let mut rest = Format::METADATA.unframe(&object)?;
            let fields = std::iter::from_fn(|| wire::take_field(&mut rest).unwrap());
            let mut reader = None;
            for (number, bytes) in fields {
                let result = match &mut reader {
                    None => Reader::new(bytes).map(|new| {
                        reader = Some(Reader { files: files_before, ..new });
                    }),
                    Some(reader) => reader.take(number, bytes),
                };
                result.map_err(|fault| fault.of_reader(DECODE))?;
            }
            Ok::<_, crate::Error>(())
        };
        assert!(read(MAX_FILES - files).is_ok());
        assert_eq!(read(MAX_FILES - files + 1).unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
}
