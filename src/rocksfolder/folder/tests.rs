use super::*;
use crate::rocksfolder::edit::{InternalKey, TableMeta, VersionEdit, WalAddition};
use crate::rocksfolder::log::LogWriter;

const TABLE_BYTES: u64 = 64;

/// A folder whose MANIFEST has one table, 7, with a log, 8, that holds two records.
struct Made(tempfile::TempDir);

impl Made {
    fn new() -> Self {
        Self::with_table(|table| table)
    }

    fn with_table(change: impl FnOnce(TableMeta) -> TableMeta) -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let keys = (InternalKey::lowest(b"a", 1), InternalKey::highest(b"z", 2));
        let table = change(TableMeta::new(7, TABLE_BYTES, keys.0, keys.1, [1, 2]));
        made.manifest(&[VersionEdit {
            log_number: Some(8),
            next_file_number: Some(20),
            last_sequence: Some(2),
            new_tables: vec![(0, table)],
            ..VersionEdit::default()
        }]);
        made.put("CURRENT", b"MANIFEST-000001\n");
        made.put("OPTIONS-000003", b"[DBOptions]\n");
        made.put("000007.sst", &table_bytes());
        made.log(8);
        made
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    fn append(&self, name: &str, content: &[u8]) {
        let whole = [&std::fs::read(self.path().join(name)).unwrap()[..], content].concat();
        self.put(name, &whole);
    }

    fn manifest(&self, edits: &[VersionEdit]) {
        let mut writer = LogWriter::new(Vec::new());
        edits.iter().for_each(|edit| writer.add_record(&edit.encode()).unwrap());
        self.put("MANIFEST-000001", &writer.into_inner());
    }

    fn log(&self, number: u64) -> u64 {
        let mut writer = LogWriter::new(Vec::new());
        writer.add_record(b"one").unwrap();
        writer.add_record(b"two").unwrap();
        let bytes = writer.into_inner();
        self.put(&names::wal_name(number), &bytes);
        bytes.len() as u64
    }

    fn read(&self) -> Result<RocksFolder> {
        RocksFolder::read(self.path())
    }

    fn fails(&self, kind: ErrorKind, words: &str) {
        let error = self.read().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

fn table_bytes() -> Vec<u8> {
    let mut bytes = vec![1; TABLE_BYTES as usize - 8];
    bytes.extend(0x88e2_41b7_85f4_cff7u64.to_le_bytes());
    bytes
}

#[test]
fn the_files_of_a_copy_are_those_of_the_version_and_its_logs() {
    let made = Made::new();
    made.put("000006.sst", b"left over");
    made.log(4);
    let newest = made.log(9);
    made.put("OPTIONS-000002", b"[DBOptions]\n old");
    let folder = made.read().unwrap();
    let names: Vec<_> = folder.files().iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["000007.sst", "000008.log", "000009.log", "OPTIONS-000003", "MANIFEST-000001", "CURRENT"]);
    assert_eq!(folder.files()[0].table.as_ref().unwrap().smallest_key, b"a");
    assert_eq!(folder.files()[2].size_bytes, newest);
    assert_eq!(folder.files()[5].content.as_deref(), Some(&b"MANIFEST-000001\n"[..]));
}

#[test]
fn a_folder_without_current_is_no_rocksdb_folder() {
    let made = Made::new();
    std::fs::remove_file(made.path().join("CURRENT")).unwrap();
    made.fails(ErrorKind::NotFound, "no RocksDB folder");
    let error = RocksFolder::read(made.path().join("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_current_that_names_something_else_is_corrupt() {
    let made = Made::new();
    made.put("CURRENT", b"../MANIFEST-000001\n");
    made.fails(ErrorKind::Corrupt, "name of a MANIFEST");
    made.put("CURRENT", b"MANIFEST-000099\n");
    made.fails(ErrorKind::Corrupt, "it is not there");
}

#[test]
fn a_missing_short_or_long_table_is_corrupt() {
    let made = Made::new();
    made.append("000007.sst", b"x");
    made.fails(ErrorKind::Corrupt, "65 bytes, and 64 by the MANIFEST");
    made.put("000007.sst", &table_bytes()[1..]);
    made.fails(ErrorKind::Corrupt, "63 bytes");
    std::fs::remove_file(made.path().join("000007.sst")).unwrap();
    made.fails(ErrorKind::Corrupt, "000007.sst");
}

#[test]
fn a_table_with_a_wrong_magic_number_is_corrupt_unless_it_is_known() {
    let made = Made::with_table(|table| TableMeta { unique_id: Some([5, 6]), ..table });
    made.put("000007.sst", &[1; TABLE_BYTES as usize]);
    made.fails(ErrorKind::Corrupt, "magic number");
    let is_known = |identity: &FileIdentity| identity.unique_id == [5, 6];
    let options = ReadOptions { is_known: Some(&is_known), ..ReadOptions::default() };
    assert!(RocksFolder::read_with(made.path(), options).is_ok());
}

#[test]
fn a_symbolic_link_is_refused() {
    let made = Made::new();
    for name in ["000007.sst", "CURRENT", "MANIFEST-000001", "000008.log"] {
        let (file, away) = (made.path().join(name), made.path().join("away"));
        std::fs::rename(&file, &away).unwrap();
        std::os::unix::fs::symlink(&away, &file).unwrap();
        made.fails(ErrorKind::Unsupported, "symbolic link");
        std::fs::rename(&away, &file).unwrap();
    }
    assert!(made.read().is_ok());
}

#[test]
fn tables_in_other_folders_are_refused_with_advice() {
    Made::with_table(|table| TableMeta { path_id: 1, ..table }).fails(ErrorKind::Unsupported, "checkpoint");
}

#[test]
fn a_log_folder_elsewhere_is_refused_unless_the_caller_knows_better() {
    let made = Made::new();
    made.put("OPTIONS-000003", b"[DBOptions]\n  wal_dir=/another/folder\n");
    made.fails(ErrorKind::Unsupported, "/another/folder");
    let options = ReadOptions { logs_are_in_folder: true, ..ReadOptions::default() };
    assert!(RocksFolder::read_with(made.path(), options).is_ok());
}

#[test]
fn torn_tails_are_left_out_of_the_copy() {
    let made = Made::new();
    let whole = made.read().unwrap();
    made.append("MANIFEST-000001", &[1, 2, 3, 4, 200, 0, 1, 9]);
    made.append("000008.log", &[1, 2, 3, 4, 200, 0, 1, 9]);
    assert_eq!(made.read().unwrap().files(), whole.files());
}

#[test]
fn a_log_damaged_in_the_middle_is_corrupt() {
    let made = Made::new();
    let mut bytes = std::fs::read(made.path().join("000008.log")).unwrap();
    bytes[8] ^= 1;
    made.put("000008.log", &bytes);
    made.fails(ErrorKind::Corrupt, "whole records follow");
}

#[test]
fn a_log_that_the_manifest_tracks_must_be_there_in_full() {
    let made = Made::new();
    let synced = |number, bytes| VersionEdit {
        log_number: Some(8),
        next_file_number: Some(20),
        last_sequence: Some(2),
        wal_additions: vec![WalAddition { number, synced_bytes: Some(bytes) }],
        ..VersionEdit::default()
    };
    made.manifest(&[synced(8, 20)]);
    assert!(made.read().is_ok());
    made.manifest(&[synced(8, 2000)]);
    made.fails(ErrorKind::Corrupt, "2000 bytes");
    made.manifest(&[synced(9, 1)]);
    made.fails(ErrorKind::Corrupt, "000009.log");
}

#[test]
fn a_folder_is_no_longer_current_once_its_manifest_has_grown_or_changed() {
    let made = Made::new();
    let folder = made.read().unwrap();
    made.append("000008.log", b"more");
    assert!(folder.is_still_current().unwrap());
    made.append("MANIFEST-000001", b"x");
    assert!(!folder.is_still_current().unwrap());
    let folder = made.read().unwrap();
    made.put("CURRENT", b"MANIFEST-000002\n");
    assert!(!folder.is_still_current().unwrap());
    std::fs::remove_file(made.path().join("CURRENT")).unwrap();
    assert!(!folder.is_still_current().unwrap());
}

#[test]
fn a_file_that_went_with_its_version_is_a_change_and_not_corruption() {
    let made = Made::new();
    let folder = made.read().unwrap();
    std::fs::remove_file(made.path().join("000007.sst")).unwrap();
    assert_eq!(folder.open(&folder.files()[0]).unwrap_err().kind(), ErrorKind::NotFound);
    made.append("MANIFEST-000001", b"x");
    assert_eq!(folder.open(&folder.files()[0]).unwrap_err().kind(), ErrorKind::Changed);
}

#[test]
fn a_folder_that_changes_at_every_reading_is_reported_as_changed() {
    let made = Made::with_table(|table| TableMeta { unique_id: Some([5, 6]), ..table });
    let readings = std::cell::Cell::new(0);
    let disturb = |_: &FileIdentity| {
        readings.set(readings.get() + 1);
        made.append("MANIFEST-000001", b"x");
        true
    };
    let options = ReadOptions { is_known: Some(&disturb), ..ReadOptions::default() };
    assert_eq!(RocksFolder::read_with(made.path(), options).unwrap_err().kind(), ErrorKind::Changed);
    assert_eq!(readings.get(), MAX_READ_ATTEMPTS);
}

#[test]
fn a_table_that_vanishes_because_the_database_moved_on_is_looked_for_again() {
    let made = Made::with_table(|table| TableMeta { unique_id: Some([5, 6]), ..table });
    let version = VersionEdit {
        log_number: Some(8),
        next_file_number: Some(30),
        last_sequence: Some(9),
        new_tables: Vec::new(),
        ..VersionEdit::default()
    };
    // The first reading finds the table of another length, and meanwhile a new MANIFEST without it.
    made.put("000007.sst", b"being deleted");
    let first = RocksFolder::read(made.path()).unwrap_err();
    assert_eq!(first.kind(), ErrorKind::Corrupt);
    made.put("000007.sst", &[0; TABLE_BYTES as usize]);
    let disturb = |_: &FileIdentity| {
        made.manifest(std::slice::from_ref(&version));
        false
    };
    let options = ReadOptions { is_known: Some(&disturb), ..ReadOptions::default() };
    let folder = RocksFolder::read_with(made.path(), options).unwrap();
    assert_eq!((folder.version().tables().count(), folder.version().last_sequence), (0, 9));
}

#[test]
fn options_that_are_replaced_while_the_folder_is_read_are_looked_for_again() {
    let made = Made::with_table(|table| TableMeta { unique_id: Some([5, 6]), ..table });
    let replace = |_: &FileIdentity| {
        let _ = std::fs::remove_file(made.path().join("OPTIONS-000003"));
        made.put("OPTIONS-000004", b"[DBOptions]\n");
        true
    };
    let options = ReadOptions { is_known: Some(&replace), ..ReadOptions::default() };
    let folder = RocksFolder::read_with(made.path(), options).unwrap();
    assert!(folder.files().iter().any(|file| file.name == "OPTIONS-000004"));
}

#[test]
fn no_log_is_measured_before_a_newer_one() {
    // A database that writes the end of log 4 and begins to use log 5, as soon as anybody looks at either.
    let (mut in_4, mut in_5) = (false, false);
    let found = files::newest_first(&[4, 5], |number| {
        let has_record = if number == 4 { in_4 } else { in_5 };
        (in_4, in_5) = (true, true);
        Ok((number, has_record))
    });
    assert_eq!(found.unwrap(), [(4, true), (5, false)], "record of 5 without those of 4 before it");
}
