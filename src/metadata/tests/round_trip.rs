//! What is encoded is decoded to the same value, and the same value always gives the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::samples;
use crate::keygroup::KeyGroupRange;
use crate::layout::{
    CheckpointFolder, CheckpointId, ContentHash, Epoch, FileKind, JobId, OperatorId, SharedName, Tag, Uid,
};
use crate::metadata::*;
use crate::store::StorePath;

#[test]
fn a_checkpoint_that_uses_every_field_reads_back() {
    let value = samples::checkpoint();
    let bytes = encode(&value).unwrap();
    assert_eq!(decode(&bytes).unwrap(), value);
}

#[test]
fn a_list_of_many_segments_reads_back_and_its_families_share_one_name() {
    let mut value = samples::checkpoint();
    let count = 2 * limits::SEGMENT_FILES as u64 + 1;
    value.operators[1].subtasks[0].files = (0..count).map(samples::table_file).collect();
    let read = decode(&encode(&value).unwrap()).unwrap();
    assert_eq!(read, value);
    let families: BTreeSet<*const u8> =
        read.files().filter_map(|file| file.table.as_ref()).map(|table| table.column_family.as_ptr()).collect();
    assert_eq!(families.len(), 1);
}

#[test]
fn segments_end_after_so_many_files() {
    let files = |count| {
        let mut value = samples::checkpoint();
        value.operators[1].subtasks[0].files = (0..count).map(samples::table_file).collect();
        encode(&value).unwrap().len()
    };
    let segment = limits::SEGMENT_FILES as u64;
    let a_file = files(segment) - files(segment - 1);
    let a_file_and_a_segment = files(segment + 1) - files(segment);
    assert!(a_file_and_a_segment > a_file + 32, "no new segment's hash: {a_file_and_a_segment} and {a_file}");
}

#[test]
fn a_shared_object_of_the_own_job_costs_no_second_copy_of_its_hash() {
    let with = encode(&samples::checkpoint()).unwrap().len();
    let mut value = samples::checkpoint();
    let file = &mut value.operators[1].subtasks[0].files[0];
    let Location::InRoot(path) = &file.location else { panic!("a shared file") };
    // The name of other content: legal, but the long form.
    let other = path.as_str().replace(&file.sha256.to_string(), &ContentHash::of(b"other").to_string());
    file.location = Location::InRoot(samples::path(&other));
    let bytes = encode(&value).unwrap();
    assert_eq!(decode(&bytes).unwrap(), value);
    assert!(bytes.len() > with + 64);
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,12}"
}

fn store_path() -> impl Strategy<Value = StorePath> {
    "[a-z0-9]{1,6}(/[a-zA-Z0-9+=@%_-]{1,9}){0,2}".prop_map(|text| StorePath::new(text).unwrap())
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (any::<u64>(), any::<u64>()).prop_map(|(counter, uid)| Epoch { counter, uid: Uid(uid) })
}

fn location(sha256: ContentHash, kind: FileKind) -> impl Strategy<Value = Location> {
    let shared = (name(), epoch(), any::<[u64; 3]>(), any::<[bool; 2]>()).prop_map(
        move |(job, epoch, [generation, checkpoint, upload], [same_hash, same_kind])| {
            let hash = if same_hash { sha256 } else { ContentHash::of(job.as_bytes()) };
            let kind = if same_kind { kind } else { FileKind::Blob };
            let tag = Tag { epoch, generation, checkpoint: CheckpointId(checkpoint), upload: Uid(upload) };
            let name = SharedName { hash, tag, kind };
            Location::InRoot(StorePath::new(format!("job-{job}/shared/{name}")).unwrap())
        },
    );
    let in_root = (name(), store_path())
        .prop_map(|(job, path)| Location::InRoot(StorePath::new(format!("job-{job}/{path}")).unwrap()));
    prop_oneof![shared, in_root, store_path().prop_map(Location::InCheckpoint)]
}

fn table() -> impl Strategy<Value = TableInfo> {
    (name(), any::<u32>(), vec(any::<u8>(), 0..20), vec(any::<u8>(), 0..20), any::<[u64; 2]>()).prop_map(
        |(family, level, smallest_key, largest_key, [smallest_sequence, largest_sequence])| TableInfo {
            column_family: Arc::from(family),
            level,
            smallest_key,
            largest_key,
            smallest_sequence,
            largest_sequence,
        },
    )
}

/// A file of a subtask that owns `own`.
fn file(own: Option<KeyGroupRange>) -> impl Strategy<Value = FileEntry> {
    let part = proptest::option::of((any::<u16>(), any::<u16>())).prop_map(move |part| {
        let own = own?;
        let (from, to) = part?;
        let group = |number: u16| own.first() + u16::try_from(u32::from(number) % own.len()).unwrap();
        KeyGroupRange::new(group(from).min(group(to)), group(from).max(group(to)))
    });
    let content = (any::<[u8; 32]>(), 0..FileKind::ALL.len()).prop_flat_map(|(hash, kind)| {
        let (hash, kind) = (ContentHash(hash), FileKind::ALL[kind]);
        location(hash, kind).prop_map(move |location| (hash, kind, location))
    });
    let identity = proptest::option::of(any::<[u64; 4]>());
    (content, any::<u32>(), any::<u64>(), part, proptest::option::of(table()), identity).prop_map(
        |((sha256, kind, location), offset, size_bytes, key_groups, table, identity)| {
            let size_bytes = size_bytes >> 1;
            FileEntry {
                local_name: StorePath::new("replaced").unwrap(),
                kind,
                location,
                offset_bytes: offset.into(),
                stored_size_bytes: size_bytes,
                encoding: Encoding::Plain,
                size_bytes,
                sha256,
                key_groups,
                table,
                identity: identity.map(|[a, b, c, d]| FileIdentity {
                    unique_id: [a, b],
                    size_bytes,
                    sequences: [c, d],
                }),
            }
        },
    )
}

fn files(own: Option<KeyGroupRange>) -> impl Strategy<Value = Vec<FileEntry>> {
    btree_map(store_path(), file(own), 0..4).prop_map(|files| {
        let mut files: Vec<_> = files.into_iter().map(|(local_name, file)| FileEntry { local_name, ..file }).collect();
        files.sort_by(|left, right| left.local_name.cmp(&right.local_name));
        files
    })
}

fn operator() -> impl Strategy<Value = OperatorState> {
    let kind = prop_oneof![Just(StateKind::Value), Just(StateKind::Map), Just(StateKind::Timer)];
    let states = btree_map(".{0,8}", (kind, ".{0,8}", ".{0,8}"), 0..3).prop_map(|states| {
        states
            .into_iter()
            .map(|(name, (kind, key_serializer, value_serializer))| StateSchema {
                name,
                kind,
                key_serializer,
                value_serializer,
            })
            .collect::<Vec<_>>()
    });
    let foreign = files(None)
        .prop_map(|files| vec![SubtaskState { index: 2, key_groups: None, backend: Backend::RocksDbFolder, files }]);
    let keyed = (0u16..100, 0u16..100, any::<bool>()).prop_flat_map(|(middle, last, heap)| {
        let backend = if heap { Backend::Heap } else { Backend::RocksDb };
        let ranges = [KeyGroupRange::new(0, middle), KeyGroupRange::new(middle + 1, middle + 1 + last)];
        let [first, second] = ranges.map(files);
        (first, second).prop_map(move |(first, second)| {
            let subtask = |index, key_groups, files| SubtaskState { index, key_groups, backend, files };
            vec![subtask(0, ranges[0], first), subtask(3, ranges[1], second)]
        })
    });
    (states, prop_oneof![foreign, keyed], 4u32..9).prop_map(|(states, subtasks, parallelism)| OperatorState {
        operator: OperatorId::new("replaced").unwrap(),
        parallelism,
        max_parallelism: 201,
        states,
        subtasks,
    })
}

prop_compose! {
    fn checkpoint()(
        job in name(),
        checkpoint in any::<u64>(),
        epoch in epoch(),
        kind in prop_oneof![
            Just(CheckpointKind::Full), Just(CheckpointKind::Incremental), Just(CheckpointKind::Savepoint)
        ],
        triggered_at_unix_ms in any::<u64>(),
        max_parallelism in 1..=limits::MAX_MAX_PARALLELISM,
        writer in ".{0,20}",
        origin in option::of((name(), any::<u64>(), epoch())),
        operators in btree_map(name(), operator(), 0..3),
        sources in btree_map((".{0,5}", ".{0,5}"), vec(any::<u8>(), 0..9), 0..3),
        properties in btree_map(".{0,5}", vec(any::<u8>(), 0..9), 0..3),
    ) -> CheckpointMetadata {
        let operators: BTreeMap<_, _> =
            operators.into_iter().map(|(name, state)| (OperatorId::new(name).unwrap(), state)).collect();
        CheckpointMetadata {
            job: JobId::new(job).unwrap(),
            checkpoint: CheckpointId(checkpoint),
            epoch,
            kind,
            triggered_at_unix_ms,
            max_parallelism,
            writer,
            origin: origin.map(|(job, checkpoint, epoch)| Origin {
                job: JobId::new(job).unwrap(),
                folder: CheckpointFolder { checkpoint: CheckpointId(checkpoint), epoch },
            }),
            operators: operators.into_iter().map(|(operator, state)| OperatorState { operator, ..state }).collect(),
            sources: sources
                .into_iter()
                .map(|((source, split), position)| SourcePosition { source, split, position })
                .collect(),
            properties,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_value_reads_back_and_has_one_form(value in checkpoint()) {
        let bytes = encode(&value).unwrap();
        let read = decode(&bytes).unwrap();
        prop_assert_eq!(&read, &value);
        prop_assert_eq!(encode(&read).unwrap(), bytes);
    }

    #[test]
    fn arbitrary_bodies_never_panic(body in vec(any::<u8>(), 0..200)) {
        let _ = decode_body(&body);
        let _ = decode(&Format::METADATA.seal([Format::METADATA.begin(0), body].concat()).unwrap());
    }
}
