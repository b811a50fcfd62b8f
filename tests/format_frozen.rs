//! The bytes of version 1 are frozen: `tests/fixtures/format/v1` holds objects as the first release
//! wrote them. Every later build must read them to exactly these values, and as long as version 1
//! is what is written, write exactly these bytes.
//!
//! `ICECORE_WRITE_FIXTURES=1 cargo test --test format_frozen` writes the fixtures that are not
//! there yet, and the texts beside them. It never changes a `.bin`: that would not be frozen.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use icecore::keygroup::KeyGroupRange;
use icecore::layout::{
    CheckpointFolder, CheckpointId, ContentHash, DistrustName, Epoch, FileKind, JobId, OperatorId, RefName, SharedName,
    Tag, Uid,
};
use icecore::metadata::{
    Answer, Backend, CheckpointKind, CheckpointMetadata, Claim, Condemned, ControlRecord, Distrust, Encoding, End,
    FileEntry, FileIdentity, Location, OperatorState, Origin, Outcome, Pin, Ref, Request, RequestKind, SourcePosition,
    Start, StateKind, StateSchema, SubtaskState, TableInfo, decode, encode,
};
use icecore::store::StorePath;

type ReadsAsValue = Box<dyn Fn(&[u8]) -> bool>;

/// A fixture's name, its value as text, its value's bytes, and whether decoding given bytes gives the value.
struct Fixture {
    name: String,
    text: String,
    encoded: Vec<u8>,
    reads_as_value: ReadsAsValue,
}

fn metadata(name: &str, value: CheckpointMetadata) -> Fixture {
    Fixture {
        name: name.to_owned(),
        text: format!("{value:#?}\n"),
        encoded: encode(&value).unwrap(),
        reads_as_value: Box::new(move |bytes| decode(bytes).unwrap() == value),
    }
}

fn control<R: ControlRecord + Debug + PartialEq + 'static>(name: &str, value: R) -> Fixture {
    Fixture {
        name: name.to_owned(),
        text: format!("{value:#?}\n"),
        encoded: value.encode().unwrap(),
        reads_as_value: Box::new(move |bytes| R::decode(bytes).unwrap() == value),
    }
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

fn epoch(counter: u64) -> Epoch {
    Epoch { counter, uid: Uid(0x0123_4567_89ab_cde0 + counter) }
}

fn folder(checkpoint: u64) -> CheckpointFolder {
    CheckpointFolder { checkpoint: CheckpointId(checkpoint), epoch: epoch(2) }
}

fn hold(checkpoint: u64) -> RefName {
    RefName { folder: folder(checkpoint), writer: epoch(3), uid: Uid(0xabc0 + checkpoint) }
}

/// The example of `docs/format.md`.
fn tiny() -> CheckpointMetadata {
    CheckpointMetadata {
        job: JobId::new("a").unwrap(),
        checkpoint: CheckpointId(7),
        epoch: Epoch { counter: 1, uid: Uid(0x2a) },
        kind: CheckpointKind::Incremental,
        triggered_at_unix_ms: 1_700_000_000_000,
        max_parallelism: 128,
        writer: "icecore 0.1.0".to_owned(),
        origin: None,
        operators: vec![OperatorState {
            operator: OperatorId::new("sum").unwrap(),
            parallelism: 1,
            max_parallelism: 128,
            states: vec![],
            subtasks: vec![SubtaskState {
                index: 0,
                key_groups: KeyGroupRange::new(0, 127),
                backend: Backend::RocksDb,
                files: vec![small_file("CURRENT", FileKind::Current, "operator-sum/subtask-0/CURRENT")],
            }],
        }],
        sources: vec![],
        properties: BTreeMap::new(),
    }
}

fn small_file(name: &str, kind: FileKind, place: &str) -> FileEntry {
    FileEntry {
        local_name: path(name),
        kind,
        location: Location::InCheckpoint(path(place)),
        offset_bytes: 0,
        stored_size_bytes: 16,
        encoding: Encoding::Plain,
        size_bytes: 16,
        sha256: ContentHash::of(name.as_bytes()),
        key_groups: None,
        table: None,
        identity: None,
    }
}

fn table_file(job: &str, number: u64) -> FileEntry {
    let sha256 = ContentHash::of(&number.to_le_bytes());
    let tag = Tag { epoch: epoch(2), generation: 1, checkpoint: CheckpointId(5), upload: Uid(0xfeed_0000 + number) };
    let name = SharedName { hash: sha256, tag, kind: FileKind::Sst };
    FileEntry {
        location: Location::InRoot(path(&format!("job-{job}/shared/{name}"))),
        stored_size_bytes: 67_108_864 + number,
        size_bytes: 67_108_864 + number,
        sha256,
        key_groups: KeyGroupRange::new(0, 63),
        table: Some(TableInfo {
            column_family: "bids".into(),
            level: 6,
            smallest_key: vec![0, 0, 1],
            largest_key: vec![0, 63, 255],
            smallest_sequence: 0,
            largest_sequence: 4_000_000_000 + number,
        }),
        identity: Some(FileIdentity {
            unique_id: [0xdead_beef_0000_0000, number],
            size_bytes: 67_108_864 + number,
            sequences: [0, 4_000_000_000 + number],
        }),
        ..small_file(&format!("{number:06}.sst"), FileKind::Sst, "replaced")
    }
}

/// Every field, every kind of state, file and backend, every form of location.
fn everything() -> CheckpointMetadata {
    let kinds = [
        StateKind::Value,
        StateKind::List,
        StateKind::Map,
        StateKind::Reducing,
        StateKind::Aggregating,
        StateKind::Timer,
        StateKind::Opaque,
    ];
    let state = |(index, kind): (usize, &StateKind)| StateSchema {
        name: format!("state-{index}"),
        kind: *kind,
        key_serializer: "postcard:u64".to_owned(),
        value_serializer: "postcard:alloc::string::String".to_owned(),
    };
    let mut files: Vec<FileEntry> = FileKind::ALL
        .iter()
        .map(|kind| small_file(&format!("x-{kind}"), *kind, &format!("operator-sum/subtask-0/x-{kind}")))
        .collect();
    files.extend([table_file("bids.eu", 12), table_file("fork-origin", 13)]);
    let mut packed = small_file("000014.sst", FileKind::Sst, "replaced");
    packed.location = Location::InRoot(path("job-bids.eu/packs/1.pack"));
    packed.offset_bytes = 4096;
    files.push(packed);
    files.sort_by(|left, right| left.local_name.cmp(&right.local_name));
    let heap = small_file("7.bids.state", FileKind::HeapChunk, "operator-sum/subtask-1/7.bids.state");
    let subtask = |index, first, last, backend, files| SubtaskState {
        index,
        key_groups: KeyGroupRange::new(first, last),
        backend,
        files,
    };
    CheckpointMetadata {
        job: JobId::new("bids.eu").unwrap(),
        checkpoint: CheckpointId(6),
        epoch: epoch(2),
        operators: vec![
            OperatorState {
                operator: OperatorId::new("foreign").unwrap(),
                parallelism: 1,
                max_parallelism: 1,
                states: vec![],
                subtasks: vec![SubtaskState {
                    index: 0,
                    key_groups: None,
                    backend: Backend::RocksDbFolder,
                    files: vec![small_file("IDENTITY", FileKind::Identity, "operator-foreign/subtask-0/IDENTITY")],
                }],
            },
            OperatorState {
                operator: OperatorId::new("sum").unwrap(),
                parallelism: 3,
                max_parallelism: 128,
                states: kinds.iter().enumerate().map(state).collect(),
                subtasks: vec![
                    subtask(0, 0, 63, Backend::RocksDb, files),
                    subtask(2, 64, 127, Backend::Heap, vec![heap]),
                ],
            },
        ],
        sources: vec![
            SourcePosition { source: "bids".to_owned(), split: "0".to_owned(), position: vec![1, 2, 3] },
            SourcePosition { source: "bids".to_owned(), split: "1".to_owned(), position: vec![] },
        ],
        properties: BTreeMap::from([
            ("comment".to_owned(), b"before the upgrade".to_vec()),
            ("empty".to_owned(), vec![]),
        ]),
        ..tiny()
    }
}

/// The example as another store holds a copy of it, in a job of another name.
fn copied() -> CheckpointMetadata {
    let origin = Some(Origin { job: tiny().job, folder: tiny().folder() });
    CheckpointMetadata { job: JobId::new("b").unwrap(), epoch: epoch(4), origin, ..tiny() }
}

fn fixtures() -> Vec<Fixture> {
    let request = |kind| Request { uid: Uid(9), kind, argument: "6".to_owned(), created_at_unix_ms: 1_700_000_000_003 };
    let uid = Uid(9);
    let all_of = |kind: CheckpointKind| CheckpointMetadata { kind, operators: vec![], ..tiny() };
    let mut fixtures = vec![
        metadata("metadata-tiny", tiny()),
        metadata("metadata-everything", everything()),
        metadata("metadata-full", all_of(CheckpointKind::Full)),
        metadata("metadata-savepoint", all_of(CheckpointKind::Savepoint)),
        metadata("metadata-copied", copied()),
        control(
            "claim",
            Claim {
                epoch: epoch(3),
                job: JobId::new("bids.eu").unwrap(),
                claimed_at_unix_ms: 1_700_000_000_001,
                holder: "host-7, process 4711".to_owned(),
            },
        ),
        control(
            "start",
            Start {
                epoch: epoch(3),
                adopted: vec![folder(5), folder(6)],
                refs: vec![hold(5)],
                pins: vec![hold(5), hold(6)],
            },
        ),
        control("end", End { epoch: epoch(3) }),
        control(
            "condemned",
            Condemned {
                epoch: epoch(3),
                uid: Uid(8),
                dropped: vec![folder(5)],
                objects: vec![
                    path("job-bids.eu/cp-5.2-0123456789abcde2/_metadata"),
                    path("job-bids.eu/cp-5.2-0123456789abcde2/operator-sum/subtask-0/CURRENT"),
                ],
            },
        ),
        control(
            "pin",
            Pin { name: hold(5), reason: "before the upgrade".to_owned(), created_at_unix_ms: 1_700_000_000_002 },
        ),
        control(
            "ref",
            Ref { name: hold(5), holder: JobId::new("fork").unwrap(), created_at_unix_ms: 1_700_000_000_002 },
        ),
        control(
            "distrust",
            Distrust {
                name: DistrustName {
                    object: SharedName {
                        hash: ContentHash::of(b"damaged"),
                        tag: Tag { epoch: epoch(2), generation: 1, checkpoint: CheckpointId(5), upload: Uid(0xfeed) },
                        kind: FileKind::Sst,
                    },
                    writer: epoch(3),
                    uid: Uid(7),
                },
                reason: "it has 4096 bytes, 8192 are needed".to_owned(),
                created_at_unix_ms: 1_700_000_000_002,
            },
        ),
        control("answer-done", Answer { uid, result: Outcome::Done("3 objects".to_owned()) }),
        control("answer-refused", Answer { uid, result: Outcome::Refused("checkpoint 6 is pinned".to_owned()) }),
    ];
    for (name, kind) in [
        ("request-gc", RequestKind::Gc),
        ("request-drop", RequestKind::Drop),
        ("request-retain", RequestKind::Retain),
        ("request-pin", RequestKind::Pin),
        ("request-unpin", RequestKind::Unpin),
        ("request-fork", RequestKind::Fork),
        ("request-repair", RequestKind::Repair),
        ("request-savepoint", RequestKind::Savepoint),
        ("request-distrust", RequestKind::Distrust),
    ] {
        fixtures.push(control(name, request(kind)));
    }
    fixtures
}

fn folder_of_fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format/v1")
}

fn read(name: &str) -> Vec<u8> {
    let file = folder_of_fixtures().join(name);
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Writes what is missing, if the environment asks for it.
fn fixtures_on_disk() -> Vec<Fixture> {
    let fixtures = fixtures();
    if std::env::var_os("ICECORE_WRITE_FIXTURES").is_some() {
        for fixture in &fixtures {
            let object = folder_of_fixtures().join(format!("{}.bin", fixture.name));
            if !object.exists() {
                std::fs::write(object, &fixture.encoded).unwrap();
            }
            std::fs::write(folder_of_fixtures().join(format!("{}.txt", fixture.name)), &fixture.text).unwrap();
        }
    }
    fixtures
}

#[test]
fn every_frozen_object_reads_as_the_value_that_was_written() {
    for fixture in fixtures_on_disk() {
        let object = read(&format!("{}.bin", fixture.name));
        assert!((fixture.reads_as_value)(&object), "{} reads as another value", fixture.name);
        let text = String::from_utf8(read(&format!("{}.txt", fixture.name))).unwrap();
        assert_eq!(text, fixture.text, "{}: the text beside it", fixture.name);
    }
}

#[test]
fn every_value_is_written_as_the_frozen_bytes() {
    for fixture in fixtures_on_disk() {
        assert_eq!(read(&format!("{}.bin", fixture.name)), fixture.encoded, "{}", fixture.name);
    }
}

#[test]
fn no_frozen_object_is_without_a_value_here() {
    let known: Vec<String> = fixtures_on_disk().into_iter().map(|fixture| fixture.name).collect();
    for entry in std::fs::read_dir(folder_of_fixtures()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".bin").or_else(|| name.strip_suffix(".txt")).expect("a .bin or a .txt");
        assert!(known.iter().any(|known| known == stem), "{name} is not looked at");
    }
}

fn format_document() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md");
    std::fs::read_to_string(file).unwrap()
}

#[test]
fn the_example_in_the_document_is_the_tiny_fixture() {
    let document = format_document();
    let example = document.split("<!-- metadata-tiny -->\n```text\n").nth(1).expect("an example");
    let example = example.split("```").next().unwrap();
    // A line is hexadecimal pairs, two spaces apart or one, then a remark after three spaces or more.
    let pairs = example.lines().flat_map(|line| {
        let bytes = line.trim_start().split("   ").next().unwrap();
        bytes.split_whitespace().map(|pair| u8::from_str_radix(pair, 16).expect(line)).collect::<Vec<u8>>()
    });
    assert_eq!(pairs.collect::<Vec<u8>>(), read("metadata-tiny.bin"));
}

macro_rules! limits {
    ($($name:ident),* $(,)?) => {
        [$((stringify!($name), u64::try_from(icecore::metadata::limits::$name).unwrap())),*]
    };
}

#[test]
fn the_document_gives_every_limit_as_it_is() {
    let document = format_document();
    let limits = limits![
        MAX_METADATA_BODY_BYTES,
        MAX_FILES,
        MAX_OPERATORS,
        MAX_STATES_PER_OPERATOR,
        MAX_MAX_PARALLELISM,
        MAX_SOURCE_POSITIONS,
        MAX_PROPERTIES,
        MAX_TEXT_BYTES,
        MAX_KEY_BYTES,
        MAX_POSITION_BYTES,
        MAX_PROPERTY_BYTES,
        SEGMENT_FILES,
        SEGMENT_BYTES,
        MAX_SEGMENT_BYTES,
        MAX_SMALL_CONTROL_BODY_BYTES,
        MAX_LIST_CONTROL_BODY_BYTES,
        MAX_CONTROL_CHECKPOINTS,
        MAX_CONTROL_HOLDS,
        MAX_CONDEMNED_OBJECTS,
        MAX_CONTROL_TEXT_BYTES,
    ];
    for (name, value) in limits {
        assert!(
            document.contains(&format!("| `{name}` | {value} |")),
            "{name} is {value}, the document says otherwise"
        );
    }
    let source = include_str!("../src/metadata/limits.rs");
    assert_eq!(source.matches("pub const ").count(), limits.len(), "a limit is missing in this list");
}
