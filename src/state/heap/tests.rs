use proptest::prelude::*;

use super::row::touched;
use super::*;
use crate::error::ErrorKind;
use crate::layout::ContentHash;
use crate::metadata::StateKind;

const GROUPS: u32 = 16;

fn schema(name: &str) -> StateSchema {
    StateSchema {
        name: name.into(),
        kind: StateKind::Value,
        key_serializer: "bytes".into(),
        value_serializer: "bytes".into(),
    }
}

fn range(first: KeyGroup, last: KeyGroup) -> KeyGroupRange {
    KeyGroupRange::new(first, last).unwrap()
}

fn max() -> MaxParallelism {
    MaxParallelism::new(GROUPS).unwrap()
}

fn backend(states: &[&str]) -> (HeapBackend, Vec<StateId>) {
    let mut backend = HeapBackend::new(max(), max().all_groups()).unwrap();
    let ids = states.iter().map(|name| backend.open_state(&schema(name)).unwrap()).collect();
    (backend, ids)
}

fn row(group: KeyGroup, key: &[u8]) -> Vec<u8> {
    KeyLayout::new(max()).row_key(group, key, b"")
}

fn chunk(key_group: KeyGroup, state: &str) -> ChunkName {
    ChunkName { key_group, state: state.into() }
}

fn bytes_of(snapshot: &HeapSnapshot, name: &ChunkName) -> Vec<u8> {
    let mut bytes = Vec::new();
    let summary = snapshot.write_chunk(name, &mut bytes).unwrap();
    assert_eq!(summary.size_bytes, bytes.len() as u64);
    assert_eq!(summary.sha256, ContentHash::of(&bytes));
    bytes
}

/// A chunk with two rows, of group 3 of state `bids`.
fn sound_chunk() -> Vec<u8> {
    let (mut backend, ids) = backend(&["bids"]);
    backend.put(ids[0], &row(3, b"a"), b"1").unwrap();
    backend.put(ids[0], &row(3, b"bb"), b"").unwrap();
    bytes_of(&backend.snapshot(), &chunk(3, "bids"))
}

fn load(bytes: &[u8]) -> Result<Option<u64>> {
    HeapRestore::new(max(), max().all_groups(), &[schema("bids")]).unwrap().add_chunk(bytes)
}

/// `body` with the checksum that belongs to it, so that only what it says can be wrong.
fn sealed(mut body: Vec<u8>) -> Vec<u8> {
    let crc32c = crc32c::crc32c(&body);
    body.extend_from_slice(&crc32c.to_be_bytes());
    body
}

#[test]
fn taking_a_snapshot_touches_no_row_and_the_next_write_only_its_path() {
    const ROWS: u32 = 50_000;
    let (mut backend, ids) = backend(&["bids"]);
    for number in 0..ROWS {
        backend.put(ids[0], &row((number % GROUPS) as KeyGroup, &number.to_be_bytes()), b"value").unwrap();
    }
    touched::take();
    let snapshot = backend.snapshot();
    assert_eq!(touched::take(), 0);

    backend.put(ids[0], &row(3, &3_u32.to_be_bytes()), b"other").unwrap();
    let copied = touched::take();
    assert!(copied > 0, "the counter does not count");
    assert!(copied < 1_000, "a write after a snapshot touched {copied} of {ROWS} rows");
    drop(snapshot);
}

#[test]
fn listing_chunks_and_changes_looks_at_groups_not_at_their_rows() {
    const ROWS: u32 = 50_000;
    // One descent of the tree: its depth times the comparisons in a node, generously.
    const MAX_TOUCHED_A_GROUP: u64 = 60;
    let (mut backend, ids) = backend(&["bids"]);
    for number in 0..ROWS {
        backend.put(ids[0], &row((number % GROUPS) as KeyGroup, &number.to_be_bytes()), b"value").unwrap();
    }
    let base = backend.snapshot();
    backend.put(ids[0], &row(3, b"new"), b"").unwrap();
    let snapshot = backend.snapshot();
    touched::take();
    assert_eq!(snapshot.changed_since(base.generation()).len(), 1);
    let by_changes = touched::take();
    assert!((1..=MAX_TOUCHED_A_GROUP).contains(&by_changes), "changes touched {by_changes} rows");
    assert_eq!(snapshot.chunks().len(), GROUPS as usize);
    let by_chunks = touched::take();
    assert!(by_chunks <= MAX_TOUCHED_A_GROUP * u64::from(GROUPS), "chunks touched {by_chunks} rows");
}

#[test]
fn a_snapshot_does_not_see_later_writes() {
    let (mut backend, ids) = backend(&["bids"]);
    backend.put(ids[0], &row(1, b"put"), b"before").unwrap();
    backend.put(ids[0], &row(1, b"deleted"), b"before").unwrap();
    backend.append(ids[0], &row(1, b"list"), b"before").unwrap();
    let snapshot = backend.snapshot();
    let before = bytes_of(&snapshot, &chunk(1, "bids"));
    backend.put(ids[0], &row(1, b"put"), b"after").unwrap();
    backend.delete(ids[0], &row(1, b"deleted")).unwrap();
    backend.append(ids[0], &row(1, b"list"), b"after").unwrap();
    backend.put(ids[0], &row(1, b"new"), b"after").unwrap();
    assert_eq!(bytes_of(&snapshot, &chunk(1, "bids")), before);
    assert_ne!(bytes_of(&backend.snapshot(), &chunk(1, "bids")), before);
}

#[test]
fn an_unchanged_group_gives_identical_bytes_whatever_happened_elsewhere_and_in_whatever_order() {
    let (mut one, ids) = backend(&["bids", "sums"]);
    one.put(ids[0], &row(2, b"a"), b"1").unwrap();
    one.put(ids[0], &row(2, b"b"), b"2").unwrap();
    let first = bytes_of(&one.snapshot(), &chunk(2, "bids"));
    one.put(ids[0], &row(3, b"c"), b"3").unwrap();
    one.put(ids[1], &row(2, b"c"), b"3").unwrap();
    assert_eq!(bytes_of(&one.snapshot(), &chunk(2, "bids")), first);

    let (mut two, ids) = backend(&["sums", "bids"]);
    two.put(ids[1], &row(2, b"b"), b"2").unwrap();
    two.put(ids[1], &row(2, b"gone"), b"").unwrap();
    two.put(ids[1], &row(2, b"a"), b"1").unwrap();
    two.delete(ids[1], &row(2, b"gone")).unwrap();
    assert_eq!(bytes_of(&two.snapshot(), &chunk(2, "bids")), first);
}

#[test]
fn only_groups_with_rows_have_chunks() {
    let (mut backend, ids) = backend(&["sums", "bids", "empty"]);
    backend.put(ids[0], &row(15, b"a"), b"1").unwrap();
    backend.put(ids[1], &row(0, b"a"), b"1").unwrap();
    backend.put(ids[1], &row(7, b"a"), b"1").unwrap();
    backend.put(ids[1], &row(8, b"a"), b"1").unwrap();
    backend.delete(ids[1], &row(8, b"a")).unwrap();
    assert_eq!(backend.snapshot().chunks(), [chunk(0, "bids"), chunk(7, "bids"), chunk(15, "sums")]);
}

#[test]
fn changed_since_names_exactly_the_groups_written_after_the_base() {
    let (mut backend, ids) = backend(&["bids"]);
    let write = |backend: &mut HeapBackend, group| backend.put(ids[0], &row(group, b"k"), b"v").unwrap();
    let changed = |snapshot: &HeapSnapshot, base| {
        let changes = snapshot.changed_since(base).into_iter();
        changes.map(|change| (change.name.key_group, change.has_rows)).collect::<Vec<_>>()
    };
    write(&mut backend, 1);
    write(&mut backend, 2);
    let one = backend.snapshot();
    write(&mut backend, 2);
    write(&mut backend, 3);
    let two = backend.snapshot();
    backend.delete(ids[0], &row(1, b"k")).unwrap();
    backend.delete(ids[0], &row(9, b"never there")).unwrap();
    let three = backend.snapshot();
    let four = backend.snapshot();
    assert_eq!(changed(&two, one.generation()), [(2, true), (3, true)]);
    assert_eq!(changed(&three, two.generation()), [(1, false)]);
    // A base that is not the latest one: the checkpoint between failed.
    assert_eq!(changed(&four, one.generation()), [(1, false), (2, true), (3, true)]);
    assert_eq!(changed(&four, three.generation()), []);
}

#[test]
fn after_a_restore_only_what_was_written_since_counts_as_changed() {
    let mut restore = HeapRestore::new(max(), range(2, 5), &[schema("bids")]).unwrap();
    assert_eq!(restore.add_chunk(&sound_chunk()[..]).unwrap(), Some(2));
    let mut backend = restore.finish().unwrap();
    let id = backend.open_state(&schema("bids")).unwrap();
    assert_eq!(backend.snapshot().changed_since(Generation::RESTORED), []);
    assert_eq!(bytes_of(&backend.snapshot(), &chunk(3, "bids")), sound_chunk());
    backend.put(id, &row(4, b"k"), b"v").unwrap();
    let change = ChunkChange { name: chunk(4, "bids"), has_rows: true };
    assert_eq!(backend.snapshot().changed_since(Generation::RESTORED), [change]);
}

#[test]
fn a_chunk_of_a_group_beyond_the_range_is_left_out() {
    let mut restore = HeapRestore::new(max(), range(4, 15), &[schema("bids")]).unwrap();
    assert_eq!(restore.add_chunk(&sound_chunk()[..]).unwrap(), None);
    assert_eq!(restore.finish().unwrap().snapshot().chunks(), []);
}

#[test]
fn a_row_whose_prefix_lies_outside_its_chunks_group_is_refused() {
    let mut foreign = sound_chunk();
    let at = foreign.windows(3).position(|part| part == [3, 2, b'b']).unwrap();
    foreign[at] = 4;
    foreign.truncate(foreign.len() - 4);
    let error = load(&sealed(foreign)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("key group 4"), "{error}");
}

#[test]
fn rows_out_of_order_are_refused() {
    let mut swapped = sound_chunk();
    let at = swapped.windows(3).position(|part| part == [3, 1, b'a']).unwrap();
    swapped[at + 1] = 9;
    swapped.truncate(swapped.len() - 4);
    assert!(load(&sealed(swapped)).unwrap_err().message().contains("order"));
}

#[test]
fn every_changed_or_missing_byte_of_a_chunk_is_noticed() {
    let sound = sound_chunk();
    assert_eq!(load(&sound).unwrap(), Some(2));
    for at in 0..sound.len() {
        assert!(load(&sound[..at]).is_err(), "cut at {at}");
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        assert!(load(&damaged).is_err(), "byte {at}");
    }
    let mut longer = sound;
    longer.push(0);
    assert!(load(&longer).is_err());
}

#[test]
fn a_length_that_lies_costs_no_memory() {
    let sound = sound_chunk();
    let head = sound.len() - sound.windows(3).position(|part| part == [3, 1, b'a']).unwrap();
    let mut hostile = sound[..sound.len() - head - 1].to_vec();
    hostile.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    assert!(load(&hostile).unwrap_err().message().contains("at most"));
}

#[test]
fn an_unknown_version_is_unsupported_not_corrupt() {
    let mut newer = sound_chunk();
    newer[11] = 2;
    assert_eq!(load(&newer).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_failed_restore_hands_out_no_backend() {
    let mut restore = HeapRestore::new(max(), max().all_groups(), &[schema("bids")]).unwrap();
    restore.add_chunk(&sound_chunk()[..]).unwrap();
    assert!(restore.add_chunk(&sound_chunk()[..]).unwrap_err().message().contains("two chunks"));
    assert_eq!(restore.finish().unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_chunk_of_another_max_parallelism_is_refused() {
    let other = MaxParallelism::new(32).unwrap();
    let mut restore = HeapRestore::new(other, other.all_groups(), &[schema("bids")]).unwrap();
    assert_eq!(restore.add_chunk(&sound_chunk()[..]).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_chunk_of_an_undeclared_state_is_refused() {
    let mut restore = HeapRestore::new(max(), max().all_groups(), &[schema("sums")]).unwrap();
    assert_eq!(restore.add_chunk(&sound_chunk()[..]).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn the_bytes_of_a_chunk_are_the_documented_ones() {
    let mut expected = b"ICEHEAP\n".to_vec();
    expected.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 16, 0, 3, 4, b'b', b'i', b'd', b's']);
    expected.extend_from_slice(&[4, 3, 1, b'a', 0, 1, b'1']);
    expected.extend_from_slice(&[5, 3, 2, b'b', b'b', 0, 0]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 2]);
    expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 46]);
    assert_eq!(sound_chunk(), sealed(expected));
}

proptest! {
    #[test]
    fn hostile_rows_are_refused_or_are_the_one_spelling_of_what_they_hold(
        rows in prop::collection::vec((prop::collection::vec(0_u8..5, 0..4), prop::collection::vec(any::<u8>(), 0..4)), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..20),
        count in 0_u64..4,
    ) {
        let head = b"ICEHEAP\n\0\0\0\x01\0\0\0\x10\0\x03\x04bids";
        let mut body = head.to_vec();
        for (key, value) in rows {
            body.extend([[key.len() as u8].to_vec(), key, [value.len() as u8].to_vec(), value].concat());
        }
        // Mostly a proper end, sometimes anything.
        match tail.len() {
            0..15 => {
                body.push(0);
                body.extend_from_slice(&count.to_be_bytes());
                body.extend_from_slice(&(body.len() as u64).to_be_bytes());
            }
            _ => body.extend_from_slice(&tail),
        }
        let hostile = sealed(body);
        let mut restore = HeapRestore::new(max(), max().all_groups(), &[schema("bids")]).unwrap();
        if restore.add_chunk(hostile.as_slice()).is_ok() {
            prop_assert_eq!(bytes_of(&restore.finish().unwrap().snapshot(), &chunk(3, "bids")), hostile);
        }
    }
}
