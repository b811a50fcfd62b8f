use super::super::edit::{BlobGarbage, InternalKey, WalAddition};
use super::super::log::LogWriter;
use super::*;

fn table(number: u64) -> TableMeta {
    TableMeta::new(number, 100, InternalKey::lowest(b"a", 1), InternalKey::highest(b"z", 2), [1, 2])
}

fn blob(number: u64, blob_count: u64) -> BlobFileMeta {
    BlobFileMeta { number, blob_count, blob_bytes: 1000, checksum_method: Vec::new(), checksum: Vec::new() }
}

fn base() -> VersionEdit {
    VersionEdit { log_number: Some(3), next_file_number: Some(50), last_sequence: Some(9), ..VersionEdit::default() }
}

fn manifest(edits: &[VersionEdit]) -> Vec<u8> {
    let mut writer = LogWriter::new(Vec::new());
    edits.iter().for_each(|edit| writer.add_record(&edit.encode()).unwrap());
    writer.into_inner()
}

fn replay(edits: &[VersionEdit]) -> Result<ReplayedManifest> {
    FolderVersion::replay(&manifest(edits)[..])
}

fn numbers(version: &FolderVersion) -> Vec<(u64, u32)> {
    version.tables().map(|(_, table)| (table.meta.number, table.level)).collect()
}

#[test]
fn a_table_moved_to_another_level_in_one_edit_is_there_once() {
    let add = VersionEdit { new_tables: vec![(0, table(7)), (0, table(8))], ..base() };
    let moved = VersionEdit { deleted_tables: vec![(0, 7)], new_tables: vec![(6, table(7))], ..VersionEdit::default() };
    let replayed = replay(&[add, moved]).unwrap();
    assert_eq!(numbers(&replayed.version), [(7, 6), (8, 0)]);
    assert_eq!(replayed.end, LogEnd::Clean);
}

#[test]
fn contradictions_are_corruption() {
    let add = VersionEdit { new_tables: vec![(0, table(7))], ..base() };
    let contradictions = [
        VersionEdit { new_tables: vec![(1, table(7))], ..VersionEdit::default() },
        VersionEdit { deleted_tables: vec![(1, 7)], ..VersionEdit::default() },
        VersionEdit { deleted_tables: vec![(0, 8)], ..VersionEdit::default() },
        VersionEdit { column_family: 4, ..VersionEdit::default() },
        VersionEdit { column_family: 4, column_family_drop: true, ..VersionEdit::default() },
        VersionEdit { column_family_drop: true, ..VersionEdit::default() },
        VersionEdit { column_family_add: Some("again".into()), ..VersionEdit::default() },
        VersionEdit {
            blob_garbage: vec![BlobGarbage { number: 9, blob_count: 1, blob_bytes: 1 }],
            ..VersionEdit::default()
        },
    ];
    for contradiction in contradictions {
        let error = replay(&[add.clone(), contradiction.clone()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{contradiction:?}");
    }
}

#[test]
fn a_manifest_without_its_numbers_is_corruption() {
    for edit in [
        VersionEdit { log_number: None, ..base() },
        VersionEdit { next_file_number: None, ..base() },
        VersionEdit { last_sequence: None, ..base() },
    ] {
        assert_eq!(replay(&[edit]).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn an_atomic_group_that_is_cut_off_does_not_count_and_is_not_part_of_the_copy() {
    let member = |remaining, number| VersionEdit {
        atomic_group_remaining: Some(remaining),
        new_tables: vec![(0, table(number))],
        ..VersionEdit::default()
    };
    let whole = replay(&[base(), member(1, 7), member(0, 8)]).unwrap();
    assert_eq!(numbers(&whole.version), [(7, 0), (8, 0)]);
    let cut = replay(&[base(), member(2, 7), member(1, 8)]).unwrap();
    assert_eq!((numbers(&cut.version), cut.end), (vec![], LogEnd::Torn));
    assert_eq!(cut.complete_bytes, manifest(&[base()]).len() as u64);
    for broken in [[member(2, 7), member(0, 8)], [member(1, 7), VersionEdit::default()]] {
        let error = replay(&[&[base()][..], &broken].concat()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[test]
fn column_families_come_and_go_with_their_tables() {
    let add = |id: u32, name: &str| VersionEdit {
        column_family: id,
        column_family_add: Some(name.into()),
        comparator: Some("c".into()),
        log_number: Some(5),
        ..VersionEdit::default()
    };
    let table = VersionEdit { column_family: 2, new_tables: vec![(0, table(7))], ..VersionEdit::default() };
    let drop = VersionEdit { column_family: 2, column_family_drop: true, ..VersionEdit::default() };
    let kept = replay(&[base(), add(2, "two"), table.clone()]).unwrap().version;
    assert_eq!(numbers(&kept), [(7, 0)]);
    let family = &kept.column_families[&2];
    assert_eq!((family.name.as_str(), family.comparator.as_deref(), family.log_number), ("two", Some("c"), 5));
    let dropped = replay(&[base(), add(2, "two"), table, drop, add(3, "two")]).unwrap().version;
    assert_eq!(numbers(&dropped), []);
    assert_eq!((dropped.max_column_family, dropped.first_needed_log()), (3, 3));
}

#[test]
fn blob_files_that_no_table_can_point_into_are_not_live() {
    let with_blob = |number, oldest| TableMeta { oldest_blob_file: Some(oldest), ..table(number) };
    let edit = VersionEdit {
        new_blob_files: vec![blob(10, 5), blob(11, 5), blob(12, 5), blob(13, 5)],
        new_tables: vec![(0, with_blob(20, 11)), (0, with_blob(21, 13))],
        blob_garbage: [12, 13].map(|number| BlobGarbage { number, blob_count: 5, blob_bytes: 9 }).to_vec(),
        ..base()
    };
    // 10 is older than all, 12 is all garbage and unnamed; 13 is all garbage but named.
    let live = |version: FolderVersion| version.blob_files().map(|(_, file)| file.meta.number).collect::<Vec<_>>();
    assert_eq!(live(replay(std::slice::from_ref(&edit)).unwrap().version), [11, 13]);
    let gone = VersionEdit { deleted_tables: vec![(0, 20), (0, 21)], ..VersionEdit::default() };
    assert!(live(replay(&[edit, gone]).unwrap().version).is_empty());
}

#[test]
fn tracked_logs_are_forgotten_once_deleted_even_if_their_sync_is_recorded_later() {
    let synced = |number, bytes| VersionEdit {
        wal_additions: vec![WalAddition { number, synced_bytes: bytes }],
        ..VersionEdit::default()
    };
    let deletion = VersionEdit { wal_deletion: Some(5), ..VersionEdit::default() };
    let edits = [base(), synced(4, None), synced(5, Some(9)), synced(5, Some(7)), deletion, synced(4, Some(100))];
    assert_eq!(replay(&edits).unwrap().version.tracked_logs, BTreeMap::from([(5, Some(9))]));
}

#[test]
fn identity_needs_a_unique_id() {
    let without = LiveTable { level: 0, meta: table(7) };
    assert_eq!(without.identity(), None);
    let with = LiveTable { level: 0, meta: TableMeta { unique_id: Some([1, 2]), ..table(7) } };
    let expect = FileIdentity { unique_id: [1, 2], size_bytes: 100, sequences: [1, 2] };
    assert_eq!(with.identity(), Some(expect));
}
