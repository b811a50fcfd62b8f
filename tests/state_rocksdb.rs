//! The RocksDB backend: the same operations give the same rows as on the heap, checkpoints are cuts, and
//! a restore holds exactly the key groups it should (I10).

mod state_model;

use std::path::Path;
use std::time::Duration;

use icecore::ErrorKind;
use icecore::env::{Clock, SystemClock};
use icecore::keygroup::{KeyGroupRange, MaxParallelism};
use icecore::layout::ContentHash;
use icecore::metadata::{StateKind, StateSchema};
use icecore::state::heap::{HeapBackend, HeapRestore};
use icecore::state::rocksdb::{RocksDbBackend, RocksDbOptions};
use icecore::state::{KeyedBackend, StateId};
use proptest::prelude::*;
use state_model::{Model, Subject, max_parallelism, operation, ranges, rows};

const STATES: [&str; 6] = ["value", "list", "map", "reduced", "aggregated", "timers"];

fn options() -> RocksDbOptions {
    RocksDbOptions::default()
}

fn schema(name: &str) -> StateSchema {
    StateSchema {
        name: name.into(),
        kind: StateKind::Value,
        key_serializer: "bytes".into(),
        value_serializer: "bytes".into(),
    }
}

fn max() -> MaxParallelism {
    MaxParallelism::new(128).unwrap()
}

fn created(folder: &Path) -> (RocksDbBackend, StateId) {
    let mut backend = RocksDbBackend::create(folder, max(), max().all_groups(), options()).unwrap();
    let id = backend.open_state(&schema("bids")).unwrap();
    (backend, id)
}

fn row(group: u16, key: u32) -> Vec<u8> {
    icecore::state::KeyLayout::new(max()).row_key(group, &key.to_be_bytes(), b"")
}

fn open(folder: &Path, first: u16, last: u16) -> icecore::Result<RocksDbBackend> {
    RocksDbBackend::open(folder, max(), KeyGroupRange::new(first, last).unwrap(), &[schema("bids")], options())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_same_operations_give_the_same_rows_on_both_backends_also_after_a_restore_at_any_parallelism(
        max in max_parallelism(),
        operations in prop::collection::vec(operation(), 0..250),
        cut in 0.0..1.0,
        parallelism in 1_u32..=3,
    ) {
        let cut = (operations.len() as f64 * cut) as usize;
        let folder = tempfile::tempdir().unwrap();
        let live = RocksDbBackend::create(&folder.path().join("live"), max, max.all_groups(), options()).unwrap();
        let mut rocks = Subject::over(live).unwrap();
        let mut heap = Subject::over(HeapBackend::new(max, max.all_groups()).unwrap()).unwrap();
        let mut model = Model::default();
        let mut apply = |rocks: &mut Subject<RocksDbBackend>, heap: &mut Subject<HeapBackend>, operation| {
            let fired = rocks.apply(operation);
            assert_eq!(fired, heap.apply(operation));
            assert_eq!(fired, model.apply(operation));
            model.clone()
        };

        let mut at_cut = Model::default();
        for operation in &operations[..cut] {
            at_cut = apply(&mut rocks, &mut heap, operation);
        }
        let snapshot = heap.context.backend_mut().snapshot();
        for index in 0..parallelism {
            let target = folder.path().join(index.to_string());
            rocks.context.backend().create_checkpoint(&target, &SystemClock::new()).unwrap();
        }
        for operation in &operations[cut..] {
            apply(&mut rocks, &mut heap, operation);
        }
        for state in STATES {
            let (on_disk, in_memory) = (rows(rocks.context.backend_mut(), state), rows(heap.context.backend_mut(), state));
            prop_assert_eq!(on_disk, in_memory, "rows of {}", state);
        }

        let states: Vec<StateSchema> = snapshot.states().cloned().collect();
        let mut restored = Model::default();
        for (index, range) in ranges(max, parallelism).into_iter().enumerate() {
            let target = folder.path().join(index.to_string());
            let mut rocks = RocksDbBackend::open(&target, max, range, &states, options()).unwrap();
            let mut restore = HeapRestore::new(max, range, &states).unwrap();
            for name in snapshot.chunks() {
                let mut bytes = Vec::new();
                snapshot.write_chunk(&name, &mut bytes).unwrap();
                restore.add_chunk(bytes.as_slice()).unwrap();
            }
            let mut heap = restore.finish().unwrap();
            for state in STATES {
                prop_assert_eq!(rows(&mut rocks, state), rows(&mut heap, state), "rows of {}", state);
            }
            restored.merge(Subject::over(rocks).unwrap().read().unwrap());
        }
        prop_assert_eq!(restored, at_cut);
    }
}

#[test]
fn foreign_key_groups_are_gone_for_good_once_a_folder_was_opened_for_fewer() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("restored");
    let (mut backend, id) = created(&folder.path().join("live"));
    for group in 0..128 {
        for key in 0..20 {
            backend.put(id, &row(group, key), b"value").unwrap();
        }
    }
    backend.create_checkpoint(&target, &SystemClock::new()).unwrap();
    drop(open(&target, 40, 42).unwrap());
    let found = rows(&mut open(&target, 0, 127).unwrap(), "bids");
    let expected: Vec<_> = (40..=42).flat_map(|group| (0..20).map(move |key| row(group, key))).collect();
    assert_eq!(found.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), expected);
}

#[test]
fn files_that_hold_only_foreign_key_groups_are_deleted_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("restored");
    let small = RocksDbOptions { target_file_bytes: 64 << 10, ..options() };
    let mut backend = RocksDbBackend::create(&folder.path().join("live"), max(), max().all_groups(), small).unwrap();
    let id = backend.open_state(&schema("bids")).unwrap();
    // Two overlapping files at level 0, so that the compaction writes new ones rather than moves one.
    for round in ["first", "second"] {
        for (group, key) in (0..128).flat_map(|group| (0..10).map(move |key| (group, key))) {
            // Incompressible: other hashes in every row.
            let hash = |part: u32| ContentHash::of(&[row(group, key), row(0, part)].concat()).0;
            backend.put(id, &row(group, key), &(0..64).flat_map(hash).collect::<Vec<u8>>()).unwrap();
        }
        backend.create_checkpoint(&folder.path().join(round), &SystemClock::new()).unwrap();
    }
    let family = backend.db().cf_handle("bids").unwrap();
    backend.db().compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
    let files = |backend: &RocksDbBackend| backend.db().live_files().unwrap().len();
    let before = files(&backend);
    assert!(before > 20, "only {before} files; the test shows nothing");
    backend.create_checkpoint(&target, &SystemClock::new()).unwrap();
    let restored = open(&target, 64, 65).unwrap();
    assert!(files(&restored) < before / 4, "{} of {before} files are left", files(&restored));
}

#[test]
fn a_checkpoint_holds_the_writes_before_it_and_none_after() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("checkpoint");
    let (mut backend, id) = created(&folder.path().join("live"));
    backend.put(id, &row(1, 1), b"before").unwrap();
    backend.append(id, &row(1, 2), b"be").unwrap();
    backend.append(id, &row(1, 2), b"fore").unwrap();
    backend.create_checkpoint(&target, &SystemClock::new()).unwrap();
    backend.put(id, &row(1, 1), b"after").unwrap();
    backend.append(id, &row(1, 2), b"after").unwrap();
    backend.put(id, &row(1, 3), b"after").unwrap();
    let found = rows(&mut open(&target, 0, 127).unwrap(), "bids");
    assert_eq!(found, [(row(1, 1), b"before".to_vec()), (row(1, 2), b"before".to_vec())]);
}

#[derive(Debug, Default)]
struct SteppingClock(std::sync::atomic::AtomicU64);

impl Clock for SteppingClock {
    fn monotonic(&self) -> Duration {
        // 0 s, 1 s, 4 s, 9 s: every interval is told apart.
        let step = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Duration::from_secs(step * step)
    }

    fn unix_time_ms(&self) -> u64 {
        0
    }
}

#[test]
fn flush_and_link_are_timed_apart_by_the_given_clock() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, _) = created(&folder.path().join("live"));
    let times = backend.create_checkpoint(&folder.path().join("checkpoint"), &SteppingClock::default()).unwrap();
    assert_eq!((times.flush, times.link), (Duration::from_secs(1), Duration::from_secs(3)));
}

#[test]
fn a_target_or_database_that_exists_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let (backend, _) = created(&folder.path().join("live"));
    let error = backend.create_checkpoint(folder.path(), &SystemClock::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    drop(backend);
    let again = RocksDbBackend::create(&folder.path().join("live"), max(), max().all_groups(), options());
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn a_folder_without_a_database_is_not_found_and_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path(), 0, 127).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_column_family_that_the_schema_does_not_name_is_a_mismatch() {
    let folder = tempfile::tempdir().unwrap();
    let (mut backend, _) = created(folder.path());
    backend.open_state(&schema("forgotten")).unwrap();
    drop(backend);
    let error = open(folder.path(), 0, 127).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
    assert!(error.message().contains("`forgotten`"), "{error}");
}

#[test]
fn a_restored_state_of_another_schema_is_a_mismatch() {
    let folder = tempfile::tempdir().unwrap();
    drop(created(folder.path()));
    let mut backend = open(folder.path(), 0, 127).unwrap();
    let other = StateSchema { kind: StateKind::List, ..schema("bids") };
    assert_eq!(backend.open_state(&other).unwrap_err().kind(), ErrorKind::SchemaMismatch);
}

#[test]
fn rows_of_key_groups_that_are_not_owned_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(created(folder.path()));
    let mut backend = open(folder.path(), 3, 5).unwrap();
    let id = backend.open_state(&schema("bids")).unwrap();
    backend.put(id, &row(5, 1), b"").unwrap();
    for error in [
        backend.put(id, &row(6, 1), b"").unwrap_err(),
        backend.append(id, &row(2, 1), b"").unwrap_err(),
        backend.delete(id, &row(6, 1)).unwrap_err(),
        backend.get(id, &row(6, 1)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn more_rows_than_one_batch_are_deleted_and_their_neighbours_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (mut backend, id) = created(folder.path());
    for key in 0..2_500 {
        backend.put(id, &row(7, key), b"").unwrap();
    }
    backend.put(id, &row(6, 0), b"").unwrap();
    backend.put(id, &row(8, 0), b"").unwrap();
    backend.delete_prefix(id, &[7]).unwrap();
    let left: Vec<_> = rows(&mut backend, "bids").into_iter().map(|(key, _)| key).collect();
    assert_eq!(left, [row(6, 0), row(8, 0)]);
}

/// Memtables of 64 KiB fill up all the time: before the cut, at it, and while the copy is made.
#[test]
fn a_local_checkpoint_holds_what_was_written_before_its_cut_and_nothing_that_was_written_while_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let small = RocksDbOptions { write_buffer_bytes: 64 << 10, ..options() };
    let live = folder.path().join("live");
    let mut backend = RocksDbBackend::create(&live, max(), max().all_groups(), small).unwrap();
    let schemas = ["bids", "asks"].map(schema);
    let states = schemas.clone().map(|schema| backend.open_state(&schema).unwrap());
    let write = |backend: &mut RocksDbBackend, number: u32| {
        backend.put(states[number as usize % 2], &row((number % 128) as u16, number), &[7; 100]).unwrap();
    };
    let (mut written, mut meanwhile) = (0, 0);
    for round in 0..20 {
        for _ in 0..round * 97 {
            write(&mut backend, written);
            written += 1;
        }
        let target = folder.path().join(round.to_string());
        let (checkpoint, cut) = (backend.begin_checkpoint().unwrap(), written);
        assert!(checkpoint.sequence().is_some());
        let making = std::thread::spawn({
            let target = target.clone();
            move || checkpoint.create(&target, &SystemClock::new()).unwrap()
        });
        while !making.is_finished() {
            write(&mut backend, written);
            written += 1;
        }
        making.join().unwrap();
        meanwhile += written - cut;
        let mut copy = RocksDbBackend::open(&target, max(), max().all_groups(), &schemas, options()).unwrap();
        let mut numbers: Vec<u32> =
            ["bids", "asks"].iter().flat_map(|state| rows(&mut copy, state)).map(number).collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..cut), "round {round}");
    }
    assert!(meanwhile > 1_000, "writing went on: {meanwhile} rows");
}

fn number((key, _): (Vec<u8>, Vec<u8>)) -> u32 {
    let parts = icecore::state::KeyLayout::new(max()).parse_row(&key).unwrap().key.to_vec();
    u32::from_be_bytes(parts.try_into().unwrap())
}

#[test]
fn a_state_that_is_opened_while_a_local_checkpoint_is_made_waits_for_it_and_is_not_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("copy");
    let (mut backend, id) = created(&folder.path().join("live"));
    backend.put(id, &row(1, 1), b"value").unwrap();
    let checkpoint = backend.begin_checkpoint().unwrap();
    let error = backend.begin_checkpoint().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    let making = std::thread::spawn({
        let target = target.clone();
        move || {
            std::thread::sleep(Duration::from_millis(50));
            checkpoint.create(&target, &SystemClock::new())
        }
    });
    let late = backend.open_state(&schema("late")).unwrap();
    backend.put(late, &row(2, 2), b"value").unwrap();
    making.join().unwrap().unwrap();
    assert_eq!(rows(&mut open(&target, 0, 127).unwrap(), "bids").len(), 1);
}

#[test]
fn a_database_that_cannot_write_its_memtables_out_fails_the_local_checkpoint_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (live, away) = (folder.path().join("live"), folder.path().join("away"));
    let (mut backend, id) = created(&live);
    backend.put(id, &row(1, 1), b"value").unwrap();
    std::fs::rename(&live, &away).unwrap();
    let begin = SystemClock::new();
    let error = backend.create_checkpoint(&folder.path().join("copy"), &SystemClock::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    assert!(error.message().contains("could not write its memtables out"), "{error}");
    assert!(begin.monotonic() < Duration::from_secs(30), "it is not waited for");
    std::fs::rename(&away, &live).unwrap();
}

#[test]
fn with_a_log_a_local_checkpoint_is_cut_where_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("copy");
    let logging = RocksDbOptions { write_ahead_log: true, ..options() };
    let mut backend = RocksDbBackend::create(&folder.path().join("live"), max(), max().all_groups(), logging).unwrap();
    let id = backend.open_state(&schema("bids")).unwrap();
    backend.put(id, &row(1, 1), b"value").unwrap();
    let checkpoint = backend.begin_checkpoint().unwrap();
    assert_eq!(checkpoint.sequence(), None);
    checkpoint.create(&target, &SystemClock::new()).unwrap();
    assert_eq!(rows(&mut open(&target, 0, 127).unwrap(), "bids").len(), 1);
}
