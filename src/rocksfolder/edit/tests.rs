use super::super::coding::{put_prefixed, put_varint, varint};
use super::*;
use crate::ErrorKind;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

fn key() -> impl Strategy<Value = InternalKey> {
    (vec(any::<u8>(), 0..20), 0..=MAX_SEQUENCE).prop_map(|(user, sequence)| InternalKey::lowest(&user, sequence))
}

fn table() -> impl Strategy<Value = TableMeta> {
    let ids = (0..=MAX_FILE_NUMBER, 0u32..4, any::<u64>(), key(), key());
    let optional = (of(any::<[u64; 2]>()), of(1u64..), of(1..=MAX_FILE_NUMBER));
    let other = vec(
        prop_oneof![
            (Just(field::FILE_CHECKSUM), vec(any::<u8>(), 0..9)),
            (Just(field::TEMPERATURE), vec(any::<u8>(), 1..2)),
            (Just(field::TAIL_SIZE), any::<u64>().prop_map(varint)),
        ],
        0..3,
    );
    (ids, optional, [0..=MAX_SEQUENCE, 0..=MAX_SEQUENCE], other).prop_map(
        |(
            (number, path_id, size_bytes, smallest, largest),
            (unique_id, epoch_number, oldest_blob_file),
            seq,
            other,
        )| {
            TableMeta {
                path_id,
                unique_id: unique_id.filter(|id| *id != [0, 0]),
                epoch_number,
                oldest_blob_file,
                other_fields: other,
                ..TableMeta::new(number, size_bytes, smallest, largest, seq)
            }
        },
    )
}

pub(in super::super) fn edit() -> impl Strategy<Value = VersionEdit> {
    let numbers = (of(any::<u64>()), of(0..=MAX_FILE_NUMBER), of(any::<u32>()), of(0..=MAX_SEQUENCE), of(any::<u64>()));
    let names = (of("[a-z]{0,9}"), of("\\PC{0,9}"), of(any::<bool>()), of(vec(any::<u8>(), 1..9)));
    let tables = (
        vec((0..MAX_LEVELS, table()), 0..4),
        vec((0..MAX_LEVELS, 0..=MAX_FILE_NUMBER), 0..4),
        vec((0u32..9, key()), 0..2),
    );
    let blob =
        (0..=MAX_FILE_NUMBER, any::<u64>(), any::<u64>(), vec(any::<u8>(), 0..5)).prop_map(|(n, count, bytes, sum)| {
            BlobFileMeta {
                number: n,
                blob_count: count,
                blob_bytes: bytes,
                checksum_method: sum.clone(),
                checksum: sum,
            }
        });
    let garbage = (0..=MAX_FILE_NUMBER, any::<u64>(), any::<u64>())
        .prop_map(|(number, blob_count, blob_bytes)| BlobGarbage { number, blob_count, blob_bytes });
    let wal = (any::<u64>(), of(any::<u64>())).prop_map(|(number, synced_bytes)| WalAddition { number, synced_bytes });
    let logs = (vec(blob, 0..3), vec(garbage, 0..3), vec(wal, 0..3), of(any::<u64>()));
    let family = (any::<u32>(), of("[a-z]{1,9}"), any::<bool>(), of(any::<u32>()));
    (numbers, names, tables, logs, family).prop_map(|(numbers, names, tables, logs, family)| VersionEdit {
        log_number: numbers.0,
        prev_log_number: numbers.4,
        next_file_number: numbers.1,
        max_column_family: numbers.2,
        last_sequence: numbers.3,
        min_log_number_to_keep: numbers.0,
        db_id: names.0,
        comparator: names.1,
        persist_timestamps: names.2,
        full_history_ts_low: names.3,
        new_tables: tables.0,
        deleted_tables: tables.1,
        compact_cursors: tables.2,
        new_blob_files: logs.0,
        blob_garbage: logs.1,
        wal_additions: logs.2,
        wal_deletion: logs.3,
        column_family: family.0,
        column_family_add: family.1,
        column_family_drop: family.2,
        atomic_group_remaining: family.3,
    })
}

proptest! {
    #[test]
    fn an_edit_reads_back(edit in edit()) {
        prop_assert_eq!(VersionEdit::decode(&edit.encode()).unwrap(), edit);
    }

    #[test]
    fn any_bytes_are_taken_or_refused_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = VersionEdit::decode(&bytes);
    }

    #[test]
    fn a_cut_or_changed_edit_is_taken_or_refused_without_a_panic(edit in edit(), at: prop::sample::Index, flip: u8) {
        let mut bytes = edit.encode();
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            let _ = VersionEdit::decode(&bytes[..at]);
            bytes[at] ^= flip;
            let _ = VersionEdit::decode(&bytes);
        }
    }
}

fn new_file4(fields: &[(u32, &[u8])]) -> Vec<u8> {
    let key = InternalKey::lowest(b"k", 1);
    let mut bytes = Vec::new();
    for number in [u64::from(tag::NEW_FILE4), 0, 7, 1000] {
        put_varint(&mut bytes, number);
    }
    put_prefixed(&mut bytes, key.as_bytes());
    put_prefixed(&mut bytes, key.as_bytes());
    put_varint(&mut bytes, 1);
    put_varint(&mut bytes, 2);
    for (tag, value) in fields {
        put_varint(&mut bytes, u64::from(*tag));
        put_prefixed(&mut bytes, value);
    }
    put_varint(&mut bytes, u64::from(field::TERMINATE));
    bytes
}

#[test]
fn an_unknown_tag_is_refused_by_number_unless_its_bit_says_that_it_may_be_ignored() {
    let error = VersionEdit::decode(&varint(500)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("500"), "{error}");
    let mut ignorable = varint(u64::from(tag::SAFE_IGNORE_MASK) + 900);
    put_prefixed(&mut ignorable, b"whatever");
    assert_eq!(VersionEdit::decode(&ignorable).unwrap(), VersionEdit::default());
}

#[test]
fn an_unknown_table_field_is_refused_by_number_only_if_it_must_be_understood() {
    let error = VersionEdit::decode(&new_file4(&[(99, b"x")])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("99"), "{error}");
    let edit = VersionEdit::decode(&new_file4(&[(40, b"x")])).unwrap();
    assert!(edit.new_tables[0].1.other_fields.is_empty());
}

#[test]
fn a_null_unique_id_is_no_identity() {
    let edit = VersionEdit::decode(&new_file4(&[(field::UNIQUE_ID, &[0; 16])])).unwrap();
    assert_eq!(edit.new_tables[0].1.unique_id, None);
    let error = VersionEdit::decode(&new_file4(&[(field::UNIQUE_ID, &[1; 15])])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn the_older_forms_of_a_new_table_are_read() {
    let key = InternalKey::lowest(b"k", 5);
    let form = |tag: u32, path_id: Option<u64>, sequences: &[u64]| {
        let mut bytes = Vec::new();
        [u64::from(tag), 3, 9].into_iter().chain(path_id).chain([77]).for_each(|n| put_varint(&mut bytes, n));
        put_prefixed(&mut bytes, key.as_bytes());
        put_prefixed(&mut bytes, key.as_bytes());
        sequences.iter().for_each(|n| put_varint(&mut bytes, *n));
        VersionEdit::decode(&bytes).unwrap().new_tables.remove(0)
    };
    let expect =
        |path_id, sequences| (3, TableMeta { path_id, ..TableMeta::new(9, 77, key.clone(), key.clone(), sequences) });
    assert_eq!(form(tag::NEW_FILE, None, &[]), expect(0, [0, MAX_SEQUENCE]));
    assert_eq!(form(tag::NEW_FILE2, None, &[4, 6]), expect(0, [4, 6]));
    assert_eq!(form(tag::NEW_FILE3, Some(2), &[4, 6]), expect(2, [4, 6]));
}

#[test]
fn lengths_and_numbers_beyond_their_bounds_are_corruption() {
    let mut level = varint(u64::from(tag::DELETED_FILE));
    put_varint(&mut level, u64::from(MAX_LEVELS));
    put_varint(&mut level, 1);
    let mut sequence = varint(u64::from(tag::LAST_SEQUENCE));
    put_varint(&mut sequence, MAX_SEQUENCE + 1);
    let mut length = varint(u64::from(tag::COMPARATOR));
    put_varint(&mut length, u64::from(u32::MAX));
    for bytes in [level, sequence, length] {
        assert_eq!(VersionEdit::decode(&bytes).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn an_internal_key_gives_its_parts_and_the_bounds_enclose_every_entry() {
    let low = InternalKey::lowest(b"key", 9);
    assert_eq!((low.user_key(), low.sequence(), low.value_type()), (&b"key"[..], 9, 0xf));
    assert!(InternalKey::lowest(b"k", MAX_SEQUENCE).is_range_tombstone_end());
    assert!(InternalKey::from_bytes(&[0; 7]).is_none());
    // Among equal user keys the greater trailer sorts first.
    assert!(low.trailer() > InternalKey::pack(b"key", 9, 1).trailer());
    assert!(InternalKey::highest(b"key", 9).trailer() < InternalKey::pack(b"key", 9, 1).trailer());
}
