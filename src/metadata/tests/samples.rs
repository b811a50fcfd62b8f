//! Small values that use every field, for tests that change one thing at a time.

use std::collections::BTreeMap;

use crate::keygroup::KeyGroupRange;
use crate::layout::{
    CheckpointFolder, CheckpointId, ContentHash, DistrustName, Epoch, FileKind, JobId, OperatorId, RefName, SharedName,
    Tag, Uid,
};
use crate::metadata::*;
use crate::store::StorePath;

pub(in crate::metadata) fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

pub(in crate::metadata) fn epoch(counter: u64) -> Epoch {
    Epoch { counter, uid: Uid(0xe0 + counter) }
}

pub(in crate::metadata) fn folder(checkpoint: u64) -> CheckpointFolder {
    CheckpointFolder { checkpoint: CheckpointId(checkpoint), epoch: epoch(3) }
}

pub(in crate::metadata) fn hold(checkpoint: u64) -> RefName {
    RefName { folder: folder(checkpoint), writer: epoch(4), uid: Uid(checkpoint) }
}

pub(in crate::metadata) fn distrust() -> Distrust {
    let tag = Tag { epoch: epoch(3), generation: 1, checkpoint: CheckpointId(7), upload: Uid(5) };
    let object = SharedName { hash: ContentHash::of(b"damaged"), tag, kind: FileKind::Sst };
    let name = DistrustName { object, writer: epoch(4), uid: Uid(6) };
    Distrust { name, reason: "its SHA-256 is another".to_owned(), created_at_unix_ms: 21 }
}

pub(in crate::metadata) fn table_file(number: u64) -> FileEntry {
    let sha256 = ContentHash::of(&number.to_le_bytes());
    let tag = Tag { epoch: epoch(3), generation: 1, checkpoint: CheckpointId(7), upload: Uid(number) };
    let name = SharedName { hash: sha256, tag, kind: FileKind::Sst };
    FileEntry {
        local_name: path(&format!("{number:06}.sst")),
        kind: FileKind::Sst,
        location: Location::InRoot(path(&format!("job-a/shared/{name}"))),
        offset_bytes: 0,
        stored_size_bytes: 1000 + number,
        encoding: Encoding::Plain,
        size_bytes: 1000 + number,
        sha256,
        key_groups: KeyGroupRange::new(0, 3),
        table: Some(TableInfo {
            column_family: "bids".into(),
            level: 6,
            smallest_key: vec![0, 0, 1],
            largest_key: vec![0, 3, 0xff],
            smallest_sequence: 0,
            largest_sequence: 400 + number,
        }),
        identity: Some(FileIdentity {
            unique_id: [0xfeed, number],
            size_bytes: 1000 + number,
            sequences: [0, 400 + number],
        }),
    }
}

pub(in crate::metadata) fn small_file(name: &str, kind: FileKind) -> FileEntry {
    FileEntry {
        local_name: path(name),
        kind,
        location: Location::InCheckpoint(path(&format!("operator-sum/subtask-0/{name}"))),
        offset_bytes: 8,
        stored_size_bytes: 16,
        encoding: Encoding::Plain,
        size_bytes: 16,
        sha256: ContentHash::of(name.as_bytes()),
        key_groups: None,
        table: None,
        identity: None,
    }
}

/// Two operators, three subtasks, every kind of location.
pub(in crate::metadata) fn checkpoint() -> CheckpointMetadata {
    let subtask = |index, first, last, backend, files| SubtaskState {
        index,
        key_groups: KeyGroupRange::new(first, last),
        backend,
        files,
    };
    let mut foreign = table_file(12);
    foreign.location = Location::InRoot(path("job-other/cp-1.1-00000000000000aa/operator-x/0.sst"));
    foreign.key_groups = None;
    CheckpointMetadata {
        job: JobId::new("a").unwrap(),
        checkpoint: CheckpointId(7),
        epoch: epoch(3),
        kind: CheckpointKind::Incremental,
        triggered_at_unix_ms: 1_700_000_000_000,
        max_parallelism: 128,
        writer: "icecore 0.1.0".to_owned(),
        origin: None,
        operators: vec![
            OperatorState {
                operator: OperatorId::new("ingest").unwrap(),
                parallelism: 1,
                max_parallelism: 1,
                states: vec![],
                subtasks: vec![SubtaskState {
                    index: 0,
                    key_groups: None,
                    backend: Backend::RocksDbFolder,
                    files: vec![foreign],
                }],
            },
            OperatorState {
                operator: OperatorId::new("sum").unwrap(),
                parallelism: 2,
                max_parallelism: 8,
                states: vec![StateSchema {
                    name: "bids".to_owned(),
                    kind: StateKind::Reducing,
                    key_serializer: "postcard:u64".to_owned(),
                    value_serializer: "postcard:i64".to_owned(),
                }],
                subtasks: vec![
                    subtask(
                        0,
                        0,
                        3,
                        Backend::RocksDb,
                        vec![table_file(10), table_file(11), small_file("CURRENT", FileKind::Current)],
                    ),
                    subtask(1, 4, 7, Backend::Heap, vec![]),
                ],
            },
        ],
        sources: vec![SourcePosition {
            source: "kafka-bids".to_owned(),
            split: "0".to_owned(),
            position: vec![1, 2, 3],
        }],
        properties: BTreeMap::from([("watermark".to_owned(), vec![9])]),
    }
}

pub(in crate::metadata) fn start() -> Start {
    Start { epoch: epoch(4), adopted: vec![folder(5), folder(7)], refs: vec![hold(5)], pins: vec![hold(5), hold(7)] }
}

pub(in crate::metadata) fn condemned() -> Condemned {
    Condemned {
        epoch: epoch(4),
        uid: Uid(1),
        dropped: vec![folder(5)],
        objects: vec![path("job-a/cp-5.3-00000000000000e3/_metadata"), path("job-a/shared/x")],
    }
}
