//! A `_metadata` of many files, as an incremental checkpoint of a RocksDB job has them.

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore::keygroup::KeyGroupRange;
use icecore::layout::{CheckpointId, ContentHash, Epoch, FileKind, JobId, OperatorId, SharedName, Tag, Uid};
use icecore::metadata::{
    Backend, CheckpointKind, CheckpointMetadata, Encoding, FileEntry, FileIdentity, Location, OperatorState, StateKind,
    StateSchema, SubtaskState, TableInfo,
};
use icecore::store::StorePath;

const SUBTASKS: u32 = 8;
const KEY_GROUPS_EACH: u16 = 16;

fn table(number: u64, key_groups: KeyGroupRange, family: &Arc<str>) -> FileEntry {
    let sha256 = ContentHash::of(&number.to_le_bytes());
    let tag = Tag {
        epoch: Epoch { counter: 3, uid: Uid(0x1234_5678_9abc_def0) },
        generation: 2,
        checkpoint: CheckpointId(1000 + number % 50),
        upload: Uid(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
    };
    let name = SharedName { hash: sha256, tag, kind: FileKind::Sst };
    let size_bytes = 67_000_000 + number;
    let key = |group: u16, fill: u8| [&group.to_be_bytes()[..], &[fill; 22]].concat();
    let sequences = [number * 1000, number * 1000 + 999];
    FileEntry {
        local_name: StorePath::new(format!("{number:06}.sst")).unwrap(),
        kind: FileKind::Sst,
        location: Location::InRoot(StorePath::new(format!("job-payments/shared/{name}")).unwrap()),
        offset_bytes: 0,
        stored_size_bytes: size_bytes,
        encoding: Encoding::Plain,
        size_bytes,
        sha256,
        key_groups: Some(key_groups),
        table: Some(TableInfo {
            column_family: Arc::clone(family),
            level: 6,
            smallest_key: key(key_groups.first(), 0x11),
            largest_key: key(key_groups.last(), 0xee),
            smallest_sequence: sequences[0],
            largest_sequence: sequences[1],
        }),
        identity: Some(FileIdentity { unique_id: [0xfeed_beef_dead_cafe, number << 20], size_bytes, sequences }),
    }
}

/// One operator of eight subtasks with `files` tables among them.
pub fn checkpoint_of(files: u64) -> CheckpointMetadata {
    let families: Vec<Arc<str>> = ["bids", "auctions", "timers", "windows"].map(Arc::from).into();
    let subtask = |index: u32| {
        let first = u16::try_from(index).unwrap() * KEY_GROUPS_EACH;
        let key_groups = KeyGroupRange::new(first, first + KEY_GROUPS_EACH - 1).unwrap();
        let from = files * u64::from(index) / u64::from(SUBTASKS);
        let to = files * u64::from(index + 1) / u64::from(SUBTASKS);
        let family = |number: u64| &families[usize::try_from(number % 4).unwrap()];
        let files = (from..to).map(|number| table(number, key_groups, family(number))).collect();
        SubtaskState { index, key_groups: Some(key_groups), backend: Backend::RocksDb, files }
    };
    CheckpointMetadata {
        job: JobId::new("payments").unwrap(),
        checkpoint: CheckpointId(1050),
        epoch: Epoch { counter: 3, uid: Uid(0x1234_5678_9abc_def0) },
        kind: CheckpointKind::Incremental,
        triggered_at_unix_ms: 1_700_000_000_000,
        max_parallelism: SUBTASKS * u32::from(KEY_GROUPS_EACH),
        writer: "icecore".to_owned(),
        origin: None,
        operators: vec![OperatorState {
            operator: OperatorId::new("windowed-sum").unwrap(),
            parallelism: SUBTASKS,
            max_parallelism: SUBTASKS * u32::from(KEY_GROUPS_EACH),
            states: vec![StateSchema {
                name: "bids".to_owned(),
                kind: StateKind::Reducing,
                key_serializer: "postcard:u64".to_owned(),
                value_serializer: "postcard:i64".to_owned(),
            }],
            subtasks: (0..SUBTASKS).map(subtask).collect(),
        }],
        sources: vec![],
        properties: BTreeMap::new(),
    }
}
