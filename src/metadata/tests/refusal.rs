//! Values and bytes that break a rule: the writer refuses to make them, the reader to believe them.

use prost::Message;

use super::samples::{checkpoint, path, small_file};
use crate::ErrorKind;
use crate::keygroup::KeyGroupRange;
use crate::layout::FileKind;
use crate::metadata::codec::encode_unchecked;
use crate::metadata::wire::{self, body};
use crate::metadata::*;

/// What a person does to a sound checkpoint, and a word of the message they get.
type Breakage = (&'static str, fn(&mut CheckpointMetadata));

fn sum(value: &mut CheckpointMetadata) -> &mut OperatorState {
    &mut value.operators[1]
}

fn file(value: &mut CheckpointMetadata) -> &mut FileEntry {
    &mut value.operators[1].subtasks[0].files[0]
}

fn assert_refused(breakages: &[Breakage], written: ErrorKind, read: ErrorKind) {
    for (word, change) in breakages {
        let mut value = checkpoint();
        change(&mut value);
        let error = encode(&value).expect_err(word);
        assert_eq!(error.kind(), written, "{word}: {error}");
        assert!(error.message().contains(word), "{error} does not say {word}");
        let error = decode(&encode_unchecked(&value).unwrap()).expect_err(word);
        assert_eq!(error.kind(), read, "{word}: {error}");
    }
}

#[test]
fn lists_that_are_not_sorted_or_say_something_twice_are_refused() {
    assert_refused(
        &[
            ("operators are not sorted", |value| value.operators.reverse()),
            ("states are not sorted", |value| {
                let state = sum(value).states[0].clone();
                sum(value).states.push(state);
            }),
            ("subtasks are not sorted", |value| sum(value).subtasks.reverse()),
            ("subtasks are not sorted", |value| sum(value).subtasks[1].index = 0),
            ("files are not sorted", |value| sum(value).subtasks[0].files.reverse()),
            ("files are not sorted", |value| file(value).local_name = path("000011.sst")),
            ("source positions are not sorted", |value| value.sources.push(value.sources[0].clone())),
        ],
        ErrorKind::InvalidInput,
        ErrorKind::Corrupt,
    );
}

#[test]
fn key_groups_and_parallelism_that_contradict_each_other_are_refused() {
    assert_refused(
        &[
            ("max parallelism is 0", |value| value.max_parallelism = 0),
            ("parallelism is 0", |value| sum(value).parallelism = 0),
            ("parallelism is 9", |value| sum(value).parallelism = 9),
            ("only 2 subtasks", |value| sum(value).subtasks[1].index = 2),
            ("of which there are 8", |value| sum(value).subtasks[1].key_groups = KeyGroupRange::new(4, 8)),
            ("overlap", |value| sum(value).subtasks[1].key_groups = KeyGroupRange::new(3, 7)),
            ("overlap", |value| sum(value).subtasks[1].key_groups = KeyGroupRange::new(1, 2)),
            ("key groups are not there", |value| sum(value).subtasks[1].key_groups = None),
            ("has no key groups", |value| {
                value.operators[0].subtasks[0].key_groups = KeyGroupRange::new(0, 0);
            }),
            ("not all its subtask's", |value| file(value).key_groups = KeyGroupRange::new(3, 4)),
            ("not all its subtask's", |value| {
                value.operators[0].subtasks[0].files[0].key_groups = KeyGroupRange::new(0, 0);
            }),
        ],
        ErrorKind::InvalidInput,
        ErrorKind::Corrupt,
    );
}

#[test]
fn files_that_cannot_be_where_they_claim_are_refused() {
    assert_refused(
        &[
            ("does not lie in a job's folder", |value| file(value).location = Location::InRoot(path("etc/passwd"))),
            ("does not lie in a job's folder", |value| file(value).location = Location::InRoot(path("job-a"))),
            ("does not lie in a job's folder", |value| file(value).location = Location::InRoot(path("job-/x"))),
            ("in the `_metadata` itself", |value| {
                file(value).location = Location::InCheckpoint(path("_metadata"));
            }),
            ("too large together", |value| file(value).offset_bytes = u64::MAX),
            ("stored plainly", |value| file(value).stored_size_bytes = 1),
        ],
        ErrorKind::InvalidInput,
        ErrorKind::Corrupt,
    );
}

#[test]
fn an_identity_of_another_length_is_refused_by_the_writer_and_has_no_bytes() {
    let mut value = checkpoint();
    file(&mut value).identity.as_mut().unwrap().size_bytes += 1;
    assert_eq!(encode(&value).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(decode(&encode_unchecked(&value).unwrap()).unwrap(), checkpoint());
}

#[test]
fn values_over_a_limit_are_refused() {
    const TEXT: usize = limits::MAX_TEXT_BYTES;
    assert_refused(
        &[
            ("max parallelism", |value| value.max_parallelism = limits::MAX_MAX_PARALLELISM + 1),
            ("max parallelism", |value| sum(value).max_parallelism = limits::MAX_MAX_PARALLELISM + 1),
            ("the writer", |value| value.writer = "x".repeat(TEXT + 1)),
            ("a state's name", |value| sum(value).states[0].name = "x".repeat(TEXT + 1)),
            ("a key serialiser", |value| sum(value).states[0].key_serializer = "x".repeat(TEXT + 1)),
            ("a value serialiser", |value| sum(value).states[0].value_serializer = "x".repeat(TEXT + 1)),
            ("a source's name", |value| value.sources[0].source = "x".repeat(TEXT + 1)),
            ("a split's name", |value| value.sources[0].split = "x".repeat(TEXT + 1)),
            ("position", |value| value.sources[0].position = vec![0; limits::MAX_POSITION_BYTES + 1]),
            ("a property's key", |value| {
                value.properties.insert("x".repeat(TEXT + 1), vec![]);
            }),
            ("a property's value", |value| {
                value.properties.insert("x".to_owned(), vec![0; limits::MAX_PROPERTY_BYTES + 1]);
            }),
            ("properties", |value| {
                value.properties = (0..=limits::MAX_PROPERTIES).map(|n| (format!("{n:05}"), vec![])).collect();
            }),
            ("source positions", |value| {
                let one = value.sources[0].clone();
                let split = |n| SourcePosition { split: format!("{n:07}"), ..one.clone() };
                value.sources = (0..=limits::MAX_SOURCE_POSITIONS).map(split).collect();
            }),
            ("operators", |value| {
                let one = OperatorState { subtasks: vec![], states: vec![], ..value.operators[0].clone() };
                let named = |n| crate::layout::OperatorId::new(format!("op-{n:05}")).unwrap();
                value.operators =
                    (0..=limits::MAX_OPERATORS).map(|n| OperatorState { operator: named(n), ..one.clone() }).collect();
            }),
            ("states", |value| {
                let one = sum(value).states[0].clone();
                let named = |n| StateSchema { name: format!("{n:05}"), ..one.clone() };
                sum(value).states = (0..=limits::MAX_STATES_PER_OPERATOR).map(named).collect();
            }),
            ("column family", |value| file(value).table.as_mut().unwrap().column_family = "x".repeat(TEXT + 1).into()),
            ("smallest key", |value| {
                file(value).table.as_mut().unwrap().smallest_key = vec![0; limits::MAX_KEY_BYTES + 1];
            }),
            ("largest key", |value| {
                file(value).table.as_mut().unwrap().largest_key = vec![0; limits::MAX_KEY_BYTES + 1];
            }),
        ],
        ErrorKind::LimitExceeded,
        ErrorKind::LimitExceeded,
    );
}

#[test]
fn the_longest_keys_fit_their_segment() {
    let mut value = checkpoint();
    for file in &mut sum(&mut value).subtasks[0].files[..2] {
        let table = file.table.as_mut().unwrap();
        table.smallest_key = vec![1; limits::MAX_KEY_BYTES];
        table.largest_key = vec![2; limits::MAX_KEY_BYTES];
    }
    assert!(decode(&encode(&value).unwrap()).unwrap() == value);
}

/// A body of one operator with one subtask, part by part, as protobuf messages.
struct Parts {
    checkpoint: wire::Checkpoint,
    operator: wire::Operator,
    subtask: wire::Subtask,
    file: wire::File,
}

impl Parts {
    fn sound() -> Self {
        Self {
            checkpoint: wire::Checkpoint {
                job: "a".to_owned(),
                checkpoint: 1,
                epoch: Some(wire::Epoch { counter: 1, uid: 2 }),
                kind: 2,
                triggered_at_unix_ms: 3,
                max_parallelism: 8,
                writer: "test".to_owned(),
                origin: None,
            },
            operator: wire::Operator { operator: "sum".to_owned(), parallelism: 1, max_parallelism: 8 },
            subtask: wire::Subtask {
                index: 0,
                key_groups: Some(wire::KeyGroups { first: 0, last: 7 }),
                backend: 2,
                segment_place: 1,
                segments: vec![wire::Segment { sha256: vec![], files: 1 }],
            },
            file: wire::File {
                local_name: "000012.sst".to_owned(),
                kind: 1,
                place: Some(wire::Place::InRoot("job-a/shared/x.sst".to_owned())),
                offset_bytes: 0,
                stored_size_bytes: 5,
                encoding: 1,
                size_bytes: 5,
                sha256: vec![7; 32],
                key_groups: None,
                table: None,
                identity: None,
            },
        }
    }

    fn segment(&self) -> Vec<u8> {
        let mut segment = Vec::new();
        wire::put_message(&mut segment, wire::SEGMENT_FILE, &self.file);
        segment
    }

    fn body(&self) -> Vec<u8> {
        self.body_with_segment(&self.segment())
    }

    fn body_with_segment(&self, segment: &[u8]) -> Vec<u8> {
        let mut subtask = self.subtask.clone();
        if let Some(named) = subtask.segments.first_mut().filter(|named| named.sha256.is_empty()) {
            named.sha256 = crate::layout::ContentHash::of(segment).0.to_vec();
        }
        let mut body = Vec::new();
        wire::put_message(&mut body, body::CHECKPOINT, &self.checkpoint);
        wire::put_message(&mut body, body::OPERATOR, &self.operator);
        wire::put_bytes(&mut body, body::SEGMENT, segment);
        wire::put_message(&mut body, body::SUBTASK, &subtask);
        body
    }
}

type PartBreakage = (&'static str, fn(&mut Parts));

fn assert_parts_refused(kind: ErrorKind, breakages: &[PartBreakage]) {
    assert!(decode_body(&Parts::sound().body()).is_ok());
    for (word, change) in breakages {
        let mut parts = Parts::sound();
        change(&mut parts);
        let error = decode_body(&parts.body()).expect_err(word);
        assert_eq!(error.kind(), kind, "{word}: {error}");
        assert!(error.message().contains(word), "{error} does not say {word}");
    }
}

#[test]
fn paths_that_leave_the_root_are_corrupt() {
    assert_parts_refused(
        ErrorKind::Corrupt,
        &[
            ("could leave the root", |parts| parts.file.local_name = "../x".to_owned()),
            ("a component is empty", |parts| parts.file.local_name = "/etc/passwd".to_owned()),
            ("it is empty", |parts| parts.file.local_name = String::new()),
            ("could leave the root", |parts| {
                parts.file.place = Some(wire::Place::InRoot("job-a/../../x".to_owned()));
            }),
            ("could leave the root", |parts| {
                parts.file.place = Some(wire::Place::InCheckpoint("..".to_owned()));
            }),
            ("does not lie in a job's folder", |parts| {
                parts.file.place = Some(wire::Place::InRoot("epochs/x".to_owned()));
            }),
            ("not a valid name", |parts| {
                parts.file.place =
                    Some(wire::Place::Shared(wire::Shared { job: "..".to_owned(), ..Default::default() }));
            }),
            ("not a valid name", |parts| parts.checkpoint.job = "../a".to_owned()),
            ("not a valid name", |parts| parts.operator.operator = "a/b".to_owned()),
            ("not a valid name", |parts| {
                parts.checkpoint.origin = Some(wire::Origin { job: "../a".to_owned(), folder: Some(sound_folder()) });
            }),
        ],
    );
}

fn sound_folder() -> wire::Folder {
    wire::Folder { checkpoint: 1, epoch: Some(wire::Epoch { counter: 1, uid: 2 }) }
}

#[test]
fn numbers_that_say_nothing_are_corrupt() {
    assert_parts_refused(
        ErrorKind::Corrupt,
        &[
            ("3-2 is not a range", |parts| parts.file.key_groups = Some(wire::KeyGroups { first: 3, last: 2 })),
            ("0-65536 is not a range", |parts| {
                parts.subtask.key_groups = Some(wire::KeyGroups { first: 0, last: 65_536 });
            }),
            ("a SHA-256 has 32 bytes", |parts| parts.file.sha256.push(0)),
            ("the epoch is not there", |parts| parts.checkpoint.epoch = None),
            ("origin: the checkpoint is not there", |parts| {
                parts.checkpoint.origin = Some(wire::Origin { job: "b".to_owned(), folder: None });
            }),
            ("origin: the epoch is not there", |parts| {
                let folder = wire::Folder { epoch: None, ..sound_folder() };
                parts.checkpoint.origin = Some(wire::Origin { job: "b".to_owned(), folder: Some(folder) });
            }),
            ("its location is not there", |parts| parts.file.place = None),
            ("another hash", |parts| parts.subtask.segments[0].sha256 = vec![0; 32]),
            ("a SHA-256 has 32 bytes", |parts| parts.subtask.segments[0].sha256 = vec![0; 31]),
            ("names 0 segments, 1 are there", |parts| parts.subtask.segments.clear()),
            ("a segment of 2 files holds 1", |parts| parts.subtask.segments[0].files = 2),
        ],
    );
}

#[test]
fn what_a_newer_build_may_know_is_unsupported() {
    assert_parts_refused(
        ErrorKind::Unsupported,
        &[
            ("no checkpoint kind of number 9", |parts| parts.checkpoint.kind = 9),
            ("no checkpoint kind of number 0", |parts| parts.checkpoint.kind = 0),
            ("no state backend of number 9", |parts| parts.subtask.backend = 9),
            ("no place of segments of number 2", |parts| parts.subtask.segment_place = 2),
            ("no file kind of number 99", |parts| parts.file.kind = 99),
            ("no encoding of number 2", |parts| parts.file.encoding = 2),
        ],
    );
    let mut state = Parts::sound().body();
    let operator_ends = state.windows(3).position(|bytes| bytes == [0x18, 8, 0x22]).unwrap() + 2;
    let message = wire::State { name: "x".to_owned(), kind: 50, ..Default::default() };
    let mut record = Vec::new();
    wire::put_message(&mut record, body::STATE, &message);
    state.splice(operator_ends..operator_ends, record);
    let error = decode_body(&state).unwrap_err();
    assert!(error.message().contains("no state kind of number 50"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_record_of_an_unknown_number_is_unsupported() {
    let sound = Parts::sound().body();
    for key in [8 << 3 | 2, 15 << 3 | 2, 1 << 3, 0x80, 0xff] {
        let body = [sound.as_slice(), &[key, 0]].concat();
        assert_eq!(decode_body(&body).unwrap_err().kind(), ErrorKind::Unsupported, "key {key:#x}");
    }
    let segment = [Parts::sound().segment().as_slice(), &[2 << 3 | 2, 0]].concat();
    assert_eq!(decode_body(&Parts::sound().body_with_segment(&segment)).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn an_unknown_field_inside_a_record_is_passed_over() {
    let parts = Parts::sound();
    let mut file = parts.file.encode_to_vec();
    file.extend_from_slice(&[14 << 3, 1]); // field 14, varint 1
    let mut segment = Vec::new();
    wire::put_bytes(&mut segment, wire::SEGMENT_FILE, &file);
    let read = decode_body(&parts.body_with_segment(&segment)).unwrap();
    assert_eq!(read, decode_body(&parts.body()).unwrap());
}

#[test]
fn records_out_of_order_are_corrupt() {
    let record = |number, bytes: &[u8]| {
        let mut out = Vec::new();
        wire::put_bytes(&mut out, number, bytes);
        out
    };
    let parts = Parts::sound();
    let first = record(body::CHECKPOINT, &parts.checkpoint.encode_to_vec());
    let operator = record(body::OPERATOR, &parts.operator.encode_to_vec());
    let segment = record(body::SEGMENT, &parts.segment());
    let source = record(body::SOURCE, &wire::Source::default().encode_to_vec());
    let property = record(body::PROPERTY, &wire::Property::default().encode_to_vec());
    let state = record(body::STATE, &wire::State { kind: 1, ..Default::default() }.encode_to_vec());
    let next = wire::Operator { operator: "window".to_owned(), ..parts.operator.clone() };
    let next_operator = record(body::OPERATOR, &next.encode_to_vec());
    let mut with_segment = parts.subtask.clone();
    with_segment.segments[0].sha256 = crate::layout::ContentHash::of(&parts.segment()).0.to_vec();
    let names_it = record(body::SUBTASK, &with_segment.encode_to_vec());
    let empty = wire::Subtask { segments: vec![], ..parts.subtask.clone() };
    let subtask = record(body::SUBTASK, &empty.encode_to_vec());
    for order in [
        vec![],
        vec![&operator],
        vec![&first, &first],
        vec![&first, &state],
        vec![&first, &segment],
        vec![&first, &subtask],
        vec![&first, &operator, &segment],
        vec![&first, &operator, &segment, &operator],
        vec![&first, &operator, &segment, &next_operator, &names_it],
        vec![&first, &operator, &segment, &source],
        vec![&first, &operator, &segment, &property],
        vec![&first, &operator, &subtask, &state],
        vec![&first, &source, &operator],
        vec![&first, &source, &subtask],
        vec![&first, &property, &source],
        vec![&first, &property, &property],
    ] {
        let body: Vec<u8> = order.iter().flat_map(|record| record.iter().copied()).collect();
        assert_eq!(decode_body(&body).unwrap_err().kind(), ErrorKind::Corrupt, "{order:x?}");
    }
    let sound = [first, operator, state, subtask, next_operator, segment, names_it, source, property].concat();
    assert!(decode_body(&sound).is_ok());
}

#[test]
fn an_empty_or_overlong_segment_is_refused() {
    let mut parts = Parts::sound();
    parts.subtask.segments[0].files = 0;
    assert_eq!(decode_body(&parts.body_with_segment(&[])).unwrap_err().kind(), ErrorKind::Corrupt);
    let long = vec![0; limits::MAX_SEGMENT_BYTES + 1];
    assert_eq!(decode_body(&parts.body_with_segment(&long)).unwrap_err().kind(), ErrorKind::LimitExceeded);
    let mut many = Vec::new();
    for number in 0..=limits::SEGMENT_FILES {
        parts.file.local_name = format!("{number:06}.sst");
        many.extend(parts.segment());
    }
    parts.subtask.segments[0].files = limits::SEGMENT_FILES as u64 + 1;
    assert_eq!(decode_body(&parts.body_with_segment(&many)).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn a_count_that_lies_reserves_no_memory() {
    let mut parts = Parts::sound();
    parts.subtask.segments[0].files = u64::MAX;
    assert_eq!(decode_body(&parts.body()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn many_empty_elements_are_refused_before_they_take_memory() {
    let first = Parts::sound().checkpoint.encode_to_vec();
    let mut body = Vec::new();
    wire::put_bytes(&mut body, body::CHECKPOINT, &first);
    body.extend([body::SOURCE << 3 | 2, 0].repeat(limits::MAX_SOURCE_POSITIONS + 1));
    assert_eq!(decode_body(&body).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn a_message_names_the_operator_and_the_subtask() {
    let mut value = checkpoint();
    value.operators[1].subtasks[0].files.push(small_file("000001.sst", FileKind::Sst));
    let error = encode(&value).unwrap_err();
    assert_eq!(
        error.to_string(),
        "encode _metadata: operator `sum`: subtask 0: files are not sorted, or one is there twice"
    );
}
