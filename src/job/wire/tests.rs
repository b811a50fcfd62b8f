//! What is said is heard as it was said, and nothing else is believed.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::answers::{Acknowledgement, Decline};
use super::upload::{EndUpload, Place, Placed};
use super::*;
use crate::error::ErrorKind;
use crate::job::{Heartbeat, RestoredFiles};
use crate::keygroup::{KeyGroupRange, MaxParallelism};
use crate::layout::{
    CheckpointFolder, CheckpointId, ContentHash, Epoch, FileKind, JobId, JobLayout, OperatorId, SharedName,
    SubtaskName, Tag, Uid,
};
use crate::metadata::{
    Backend, CheckpointKind, Encoding, FileEntry, FileIdentity, Location, SourcePosition, StateKind, StateSchema,
};
use crate::snapshot::{PlacementRequest, SnapshotStats, SubtaskHandle, Trigger};
use crate::store::StorePath;

fn job() -> JobId {
    JobId::new("count").unwrap()
}

fn passes() -> impl Strategy<Value = Pass> {
    any::<(u64, u32, u64, u64)>().prop_map(|(generation, worker, first, second)| Pass {
        generation,
        worker,
        cookie: Cookie { first, second },
    })
}

fn epochs() -> impl Strategy<Value = Epoch> {
    any::<(u64, u64)>().prop_map(|(counter, uid)| Epoch { counter, uid: Uid(uid) })
}

fn folders() -> impl Strategy<Value = CheckpointFolder> {
    (any::<u64>(), epochs())
        .prop_map(|(checkpoint, epoch)| CheckpointFolder { checkpoint: CheckpointId(checkpoint), epoch })
}

fn hashes() -> impl Strategy<Value = ContentHash> {
    any::<[u8; 32]>().prop_map(ContentHash)
}

fn kinds() -> impl Strategy<Value = FileKind> {
    prop::sample::select(FileKind::ALL.to_vec())
}

fn shared_names() -> impl Strategy<Value = SharedName> {
    (hashes(), epochs(), any::<(u64, u64, u64)>(), kinds()).prop_map(
        |(hash, epoch, (generation, checkpoint, uid), kind)| {
            let tag = Tag { epoch, generation, checkpoint: CheckpointId(checkpoint), upload: Uid(uid) };
            SharedName { hash, tag, kind }
        },
    )
}

fn texts() -> impl Strategy<Value = String> {
    "\\PC{0,40}"
}

fn says() -> impl Strategy<Value = Say> {
    let heartbeat = any::<(u64, u64, bool)>().prop_map(|(generation, steps, has_input)| Say::Heartbeat {
        generation,
        heartbeat: Heartbeat { steps, has_input },
    });
    prop_oneof![
        (passes(), texts(), texts()).prop_map(|(pass, name, data_address)| Say::Register { pass, name, data_address }),
        heartbeat,
        Just(Say::Finished),
        any::<u64>().prop_map(Say::Epoch),
        Just(Say::Drained),
        Just(Say::Resumed),
        any::<(u64, u64, u64, u64)>().prop_map(|(fetched_files, fetched_bytes, linked_files, linked_bytes)| {
            Say::Restored(RestoredFiles { fetched_files, fetched_bytes, linked_files, linked_bytes })
        }),
        (texts(), prop::sample::select(vec![None, Some(Damage::Wrong), Some(Damage::Missing)]), any::<bool>())
            .prop_map(|(why, damage, is_final)| Say::Failed { why, damage, is_final }),
    ]
}

fn deployments() -> impl Strategy<Value = Deployment> {
    let operators = vec((1..=32_768_u32, any::<u64>()), 0..4).prop_map(|operators| {
        let operator = |(index, (groups, draw)): (usize, (u32, u64))| {
            let max_parallelism = MaxParallelism::new(groups).unwrap();
            let parallelism = 1 + u32::try_from(draw % u64::from(groups)).unwrap();
            let key_groups = max_parallelism.range_of_subtask(parallelism - 1, parallelism).unwrap();
            DeployedOperator { operator: OperatorId::new(format!("op-{index}")).unwrap(), max_parallelism, key_groups }
        };
        operators.into_iter().enumerate().map(operator).collect::<Vec<_>>()
    });
    (any::<(u64, u32)>(), vec(texts(), 1..5), operators, option::of(folders()), epochs()).prop_map(
        |((generation, worker), peers, operators, restore, epoch)| Deployment {
            job: job(),
            generation,
            worker: worker % peers.len() as u32,
            peers,
            operators,
            restore: restore.map(|folder| JobLayout::new(job()).unwrap().checkpoint(folder).unwrap()),
            newest: CheckpointId(epoch.counter ^ generation),
            is_pausing: generation % 2 == 1,
            epoch,
        },
    )
}

fn triggers() -> impl Strategy<Value = Trigger> {
    let kind = prop::sample::select(vec![CheckpointKind::Full, CheckpointKind::Incremental, CheckpointKind::Savepoint]);
    let distrusted = vec(shared_names(), 0..3).prop_map(|names| Arc::new(names.into_iter().collect::<BTreeSet<_>>()));
    (folders(), any::<(u64, u64)>(), kind, option::of(folders()), distrusted).prop_map(
        |(folder, (generation, moment), kind, base, distrusted)| Trigger {
            checkpoint: folder.checkpoint,
            epoch: folder.epoch,
            generation,
            kind,
            base,
            distrusted,
            folder: JobLayout::new(job()).unwrap().checkpoint(folder).unwrap(),
            triggered_at_unix_ms: moment,
        },
    )
}

fn tells() -> impl Strategy<Value = Tell> {
    prop_oneof![
        deployments().prop_map(Tell::Deploy),
        Just(Tell::Heard),
        (triggers(), any::<u64>()).prop_map(|(trigger, ends_epoch)| Tell::Trigger { trigger, ends_epoch }),
        any::<(u64, u64)>().prop_map(|(current, last)| Tell::Epochs(DataflowEpochs { current, last })),
        Just(Tell::Pause),
        Just(Tell::Close),
        folders().prop_map(Tell::Complete),
        folders().prop_map(Tell::SavepointComplete),
        (any::<u64>(), texts())
            .prop_map(|(checkpoint, reason)| Tell::Aborted { checkpoint: CheckpointId(checkpoint), reason }),
        (texts(), any::<bool>()).prop_map(|(why, is_end)| Tell::Leave { why, is_end }),
    ]
}

fn files() -> impl Strategy<Value = Vec<FileEntry>> {
    let file = (shared_names(), any::<bool>(), 0..u64::MAX / 2, option::of(any::<[u64; 4]>()));
    btree_map(0..1_000_u32, file, 0..6).prop_map(|files| {
        let mut files: Vec<FileEntry> = files
            .into_iter()
            .map(|(number, (name, is_shared, size_bytes, identity))| {
                let local_name = StorePath::new(format!("{number}.file")).unwrap();
                let shared = JobLayout::new(job()).unwrap().shared_object(&name).unwrap();
                FileEntry {
                    location: if is_shared {
                        Location::InRoot(shared)
                    } else {
                        Location::InCheckpoint(local_name.clone())
                    },
                    local_name,
                    kind: name.kind,
                    offset_bytes: 0,
                    stored_size_bytes: size_bytes,
                    encoding: Encoding::Plain,
                    size_bytes,
                    sha256: name.hash,
                    key_groups: KeyGroupRange::new(3, 3),
                    table: None,
                    identity: identity.map(|[first, second, smallest, largest]| FileIdentity {
                        unique_id: [first, second],
                        size_bytes,
                        sequences: [smallest, largest],
                    }),
                }
            })
            .collect();
        files.sort_by(|a, b| a.local_name.cmp(&b.local_name));
        files
    })
}

fn acknowledgements() -> impl Strategy<Value = Acknowledgement> {
    let stats = any::<[u64; 7]>().prop_map(
        |[sync_us, async_us, files, hashed_files, uploaded_files, uploaded_bytes, shared_bytes]| SnapshotStats {
            sync_us,
            async_us,
            files,
            hashed_files,
            uploaded_files,
            uploaded_bytes,
            shared_bytes,
        },
    );
    let sources = btree_map("[a-z]{1,8}", vec(any::<u8>(), 0..20), 0..4).prop_map(|splits| {
        let position = |(split, position)| SourcePosition { source: "numbers".to_owned(), split, position };
        splits.into_iter().map(position).collect::<Vec<_>>()
    });
    let states = vec(any::<bool>(), 0..2).prop_map(|states| {
        let state = |_| StateSchema {
            name: "count".to_owned(),
            kind: StateKind::Value,
            key_serializer: "postcard".to_owned(),
            value_serializer: "u64".to_owned(),
        };
        states.into_iter().take(1).map(state).collect::<Vec<_>>()
    });
    (
        passes(),
        folders(),
        any::<(u64, u16)>(),
        option::of(folders()),
        files(),
        vec("[a-z]{1,9}", 0..4),
        stats,
        sources,
        states,
    )
        .prop_map(|(pass, folder, (generation, index), base, added, removed, stats, sources, states)| {
            let subtask =
                SubtaskName { operator: OperatorId::new("counts").unwrap(), index: u32::from(index % 32_768) };
            let handle = SubtaskHandle {
                checkpoint: folder.checkpoint,
                epoch: folder.epoch,
                generation,
                subtask,
                key_groups: KeyGroupRange::new(2, 9),
                backend: Backend::Heap,
                states,
                base,
                added,
                removed: removed.into_iter().map(|name| StorePath::new(name).unwrap()).collect(),
                stats,
            };
            Acknowledgement { pass, handle, sources }
        })
}

fn places() -> impl Strategy<Value = Place> {
    (passes(), epochs(), any::<(u64, u64, u64)>(), hashes(), kinds()).prop_map(
        |(pass, epoch, (generation, checkpoint, size_bytes), hash, kind)| Place {
            pass,
            request: PlacementRequest {
                trigger: (epoch, generation, CheckpointId(checkpoint)),
                hash,
                size_bytes,
                kind,
            },
        },
    )
}

/// Every way to cut the bytes short or to change one of them.
fn mutilated(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let cut = (0..bytes.len()).map(|end| bytes[..end].to_vec());
    let changed = (0..bytes.len()).flat_map(move |at| {
        [0x01, 0x80, 0xff].into_iter().map(move |bits| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= bits;
            bytes
        })
    });
    cut.chain(changed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_a_worker_says_is_heard(say in says()) {
        prop_assert_eq!(Say::decode(&say.encode()).unwrap(), say);
    }

    #[test]
    fn what_a_manager_tells_is_heard(tell in tells()) {
        prop_assert_eq!(Tell::decode(&tell.encode().unwrap()).unwrap(), tell);
    }

    #[test]
    fn an_acknowledgement_arrives_as_it_was(acknowledgement in acknowledgements()) {
        let bytes = acknowledgement.clone().encode(&job()).unwrap();
        prop_assert_eq!(Acknowledgement::decode(&job(), &bytes).unwrap(), acknowledgement);
    }

    #[test]
    fn the_questions_of_an_upload_arrive_as_they_were(place in places(), ticket in any::<Option<u64>>(), is_durable: bool) {
        prop_assert_eq!(Place::decode(&place.encode()).unwrap(), place);
        let end = EndUpload { pass: place.pass, ticket: ticket.unwrap_or(0), is_durable };
        prop_assert_eq!(EndUpload::decode(&end.encode()).unwrap(), end);
        let decline = Decline {
            pass: place.pass,
            checkpoint: place.request.trigger.2,
            operator: OperatorId::new("counts").unwrap(),
            reason: "no".to_owned(),
        };
        prop_assert_eq!(Decline::decode(&decline.encode()).unwrap(), decline);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = (Say::decode(&bytes), Tell::decode(&bytes), Place::decode(&bytes), EndUpload::decode(&bytes));
        let _ = (Decline::decode(&bytes), Acknowledgement::decode(&job(), &bytes));
    }

    #[test]
    fn mutilated_words_are_read_as_something_or_refused(say in says(), tell in tells()) {
        for bytes in mutilated(&say.encode()) {
            let _ = Say::decode(&bytes);
        }
        for bytes in mutilated(&tell.encode().unwrap()) {
            // What is read is something that could have been said.
            if let Ok(read) = Tell::decode(&bytes) {
                prop_assert!(read.encode().is_ok());
            }
        }
    }
}

fn sample<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(&mut proptest::test_runner::TestRunner::deterministic()).unwrap().current()
}

#[test]
fn a_part_whose_files_were_changed_on_the_way_is_refused() {
    let acknowledgement = sample(acknowledgements().prop_filter("it adds something", |a| !a.handle.added.is_empty()));
    let bytes = acknowledgement.clone().encode(&job()).unwrap();
    for bytes in mutilated(&bytes) {
        if let Ok(read) = Acknowledgement::decode(&job(), &bytes) {
            assert_eq!(read.handle.added, acknowledgement.handle.added);
            assert_eq!(read.handle.subtask, acknowledgement.handle.subtask);
            assert_eq!(read.sources, acknowledgement.sources);
        }
    }
}

#[test]
fn a_part_of_another_job_is_refused() {
    let bytes = sample(acknowledgements()).encode(&job()).unwrap();
    let error = Acknowledgement::decode(&JobId::new("other").unwrap(), &bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("it is of job count"), "{error}");
}

#[test]
fn an_object_that_cannot_hold_what_was_asked_for_is_refused() {
    let layout = JobLayout::new(job()).unwrap();
    let place = sample(places());
    let name = sample(shared_names());
    let right = SharedName { hash: place.request.hash, kind: place.request.kind, ..name };
    let decode = |object: StorePath| {
        let placed = Placed { object, ticket: Some(1) };
        Placed::decode(&layout, &place.request, &placed.encode())
    };
    decode(layout.shared_object(&right).unwrap()).unwrap();
    let other_content = SharedName { hash: ContentHash::of(b"other"), ..right };
    let other_job = JobLayout::new(JobId::new("other").unwrap()).unwrap();
    for wrong in [
        layout.shared_object(&other_content).unwrap(),
        other_job.shared_object(&right).unwrap(),
        StorePath::new("job-count/shared/readme").unwrap(),
        StorePath::new("etc/passwd").unwrap(),
    ] {
        assert_eq!(decode(wrong).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn a_word_of_an_unknown_number_is_from_another_build() {
    let unknown = seal(99, &messages::Nothing {});
    assert_eq!(Say::decode(&unknown).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(Tell::decode(&unknown).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn lists_and_texts_over_their_limits_are_refused() {
    let text = "x".repeat(limits::MAX_TEXT_BYTES + 1);
    let long = messages::Text { text, is_end: false, is_damage: false, is_final: false, is_missing: false };
    assert_eq!(Say::decode(&seal(4, &long)).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(Tell::decode(&seal(6, &long)).unwrap_err().kind(), ErrorKind::LimitExceeded);

    let peers = vec![String::new(); limits::MAX_PEERS + 1];
    let deployment = messages::Deployment { job: "count".to_owned(), peers, ..messages::Deployment::default() };
    assert_eq!(Tell::decode(&seal(1, &deployment)).unwrap_err().kind(), ErrorKind::LimitExceeded);

    let distrusted = vec![String::new(); limits::MAX_DISTRUSTED + limits::MAX_SMALL_FIELDS + 1];
    let trigger = messages::Trigger { distrusted, ..messages::Trigger::default() };
    assert_eq!(Tell::decode(&seal(3, &trigger)).unwrap_err().kind(), ErrorKind::LimitExceeded);

    let address = "x".repeat(limits::MAX_ADDRESS_BYTES + 1);
    let register = Say::Register { pass: sample(passes()), name: String::new(), data_address: address };
    assert_eq!(Say::decode(&register.encode()).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn a_reason_that_is_too_long_is_shortened_at_a_whole_character() {
    let reason = "é".repeat(limits::MAX_TEXT_BYTES);
    let failed = Say::Failed { why: reason, damage: None, is_final: false };
    let Say::Failed { why: heard, .. } = Say::decode(&failed.encode()).unwrap() else { panic!("another word") };
    assert_eq!(heard.len(), limits::MAX_TEXT_BYTES);
}

#[test]
fn a_cookie_is_read_back_and_is_not_in_logs() {
    let cookie = Cookie { first: 0x0123, second: u64::MAX };
    assert_eq!(cookie.to_string().parse::<Cookie>().unwrap(), cookie);
    assert_eq!(format!("{cookie:?}"), "Cookie(..)");
    for wrong in ["", "12", "zz23456789abcdef0123456789abcdef"] {
        assert_eq!(wrong.parse::<Cookie>().unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
