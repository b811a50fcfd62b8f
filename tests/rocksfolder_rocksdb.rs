//! What RocksDB itself (11.8.1, linked) makes of the folders that `rocksfolder` reads and writes.

mod rocksfolder_support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use icecore::layout::FileKind;
use icecore::rocksfolder::edit::{InternalKey, TableMeta, VersionEdit};
use icecore::rocksfolder::log::LogReader;
use icecore::rocksfolder::table::TableProperties;
use icecore::rocksfolder::{
    BYTEWISE_COMPARATOR, BuiltManifest, FolderFile, FolderVersion, ONE_TABLE_NUMBER, RocksFolder, blob_name, table_name,
};
use rocksdb::{BlockBasedOptions, ColumnFamilyDescriptor, DB, IteratorMode, Options, SstFileWriter, WriteBatch};
use rocksfolder_support::{copy, copy_file, copy_or_link, db_bench, have_rocksdb_tools, ldb};

type Rows = BTreeMap<String, Vec<(Box<[u8]>, Box<[u8]>)>>;

const FAMILIES: [&str; 3] = ["default", "plain", "blobs"];

fn options(family: &str) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_size(64 << 10);
    options.set_target_file_size_base(16 << 10);
    options.set_max_bytes_for_level_base(64 << 10);
    if family == "blobs" {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(50);
    }
    options
}

fn open(path: &Path) -> DB {
    let names = DB::list_cf(&Options::default(), path).unwrap_or_else(|_| FAMILIES.map(String::from).to_vec());
    open_with(path, &options("default"), &names)
}

fn open_with(path: &Path, db_options: &Options, names: &[String]) -> DB {
    let families = names.iter().map(|name| ColumnFamilyDescriptor::new(name, options(name)));
    DB::open_cf_descriptors(db_options, path, families).unwrap()
}

fn rows(db: &DB, names: &[String]) -> Rows {
    let scan = |name: &String| {
        let family = db.cf_handle(name).unwrap();
        (name.clone(), db.iterator_cf(&family, IteratorMode::Start).map(Result::unwrap).collect())
    };
    names.iter().map(scan).collect()
}

/// Opens the database in `path` with RocksDB, checks its checksums and gives all it holds.
fn rows_in(path: &Path) -> Rows {
    let names = DB::list_cf(&Options::default(), path).unwrap();
    let db = open(path);
    for name in &names {
        // As RocksDB sees it: levels that overlap, sizes or ids that differ would have failed the opening.
        db.compact_range_cf::<&[u8], &[u8]>(&db.cf_handle(name).unwrap(), None, None);
    }
    let compacted = rows(&db, &names);
    drop(db);
    let reopened = rows(&open(path), &names);
    assert_eq!(reopened, compacted);
    reopened
}

/// Overwrites, deletions and range deletions in three column families, on several levels.
fn fill(db: &DB, rounds: std::ops::Range<u64>) {
    for round in rounds {
        for name in FAMILIES {
            let family = db.cf_handle(name).unwrap();
            for index in 0..1500u64 {
                let key = format!("{:06}", (index * 7919 + round * 104_729) % 5000);
                db.put_cf(&family, &key, format!("{round}-{index}").repeat(12)).unwrap();
            }
            for index in 0..100 {
                db.delete_cf(&family, format!("{:06}", (index * 31 + round) % 5000)).unwrap();
            }
            let from = round * 400 % 5000;
            db.delete_range_cf(&family, format!("{from:06}"), format!("{:06}", from + 60)).unwrap();
        }
        if round % 2 == 0 {
            FAMILIES.iter().for_each(|name| db.flush_cf(&db.cf_handle(name).unwrap()).unwrap());
        }
    }
}

fn filled() -> (tempfile::TempDir, DB) {
    let folder = tempfile::tempdir().unwrap();
    let db = open(folder.path());
    fill(&db, 0..7);
    (folder, db)
}

/// Lays the tables and blob files of `version` and a MANIFEST written for it into a new folder.
fn rebuild(folder: &RocksFolder, version: &FolderVersion, to: &Path) -> BuiltManifest {
    let tables = version.tables().map(|(_, table)| table_name(table.meta.number));
    let names: Vec<_> = tables.chain(version.blob_files().map(|(_, file)| blob_name(file.meta.number))).collect();
    for file in folder.files().iter().filter(|file| names.contains(&file.name)) {
        copy_file(folder, file, &to.join(&file.name)).unwrap();
    }
    let built = version.build_manifest().unwrap();
    std::fs::write(to.join(&built.name), &built.manifest).unwrap();
    std::fs::write(to.join("CURRENT"), &built.current).unwrap();
    built
}

#[test]
fn live_tables_are_those_that_rocksdb_lists() {
    let (path, db) = filled();
    // Compactions in the background would make the two lists of two moments.
    db.cancel_all_background_work(true);
    let folder = RocksFolder::read(path.path()).unwrap();
    let mut theirs: Vec<_> = (db.live_files().unwrap().into_iter())
        .map(|file| {
            let name = file.name.trim_start_matches('/').to_owned();
            (name, file.column_family_name, file.size as u64, file.level as u32, file.start_key, file.end_key)
        })
        .collect();
    let mut ours: Vec<_> = (folder.files().iter())
        .filter_map(|file| {
            let table = file.table.clone()?;
            let keys = (Some(table.smallest_key), Some(table.largest_key));
            Some((file.name.clone(), table.column_family.to_string(), file.size_bytes, table.level, keys.0, keys.1))
        })
        .collect();
    theirs.sort();
    ours.sort();
    assert!(ours.len() > 20);
    assert_eq!(ours, theirs);
    let version = folder.version();
    assert!(version.tables().all(|(_, table)| table.identity().is_some() && table.meta.epoch_number.is_some()));
    assert!(version.blob_files().count() > 0);
}

#[test]
fn a_copy_of_an_open_database_holds_all_that_was_written_before_it() {
    let (path, db) = filled();
    db.cancel_all_background_work(true);
    for name in FAMILIES {
        let family = db.cf_handle(name).unwrap();
        (0..50).for_each(|index| db.put_cf(&family, format!("{index:06}"), "in the log").unwrap());
    }
    let expect = rows(&db, &FAMILIES.map(String::from));
    let folder = RocksFolder::read(path.path()).unwrap();
    assert!(folder.files().iter().any(|file| file.kind == FileKind::Wal && file.size_bytes > 0));
    let to = tempfile::tempdir().unwrap();
    copy(&folder, to.path()).unwrap();
    assert!(folder.is_still_current().unwrap());
    assert_eq!(rows_in(to.path()), expect);
}

#[test]
fn a_rebuilt_database_without_logs_holds_what_was_flushed() {
    let (path, db) = filled();
    FAMILIES.iter().for_each(|name| db.flush_cf(&db.cf_handle(name).unwrap()).unwrap());
    db.cancel_all_background_work(true);
    let expect = rows(&db, &FAMILIES.map(String::from));
    let folder = RocksFolder::read(path.path()).unwrap();
    let to = tempfile::tempdir().unwrap();
    rebuild(&folder, folder.version(), to.path());
    // A log from elsewhere must not be replayed into it.
    let first_log = path.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
    for log in first_log.filter(|path| path.extension().is_some_and(|ending| ending == "log")) {
        std::fs::copy(&log, to.path().join(log.file_name().unwrap())).unwrap();
    }
    assert_eq!(rows_in(to.path()), expect);
}

#[test]
fn a_partial_restore_serves_its_range_and_brings_no_deleted_key_back() {
    let (path, db) = filled();
    FAMILIES.iter().for_each(|name| db.flush_cf(&db.cf_handle(name).unwrap()).unwrap());
    db.cancel_all_background_work(true);
    let expect = rows(&db, &FAMILIES.map(String::from));
    let folder = RocksFolder::read(path.path()).unwrap();
    let (first, last) = (&b"001000"[..], &b"001499"[..]);
    let mut version = folder.version().clone();
    version.retain_tables(|_, table| table.meta.smallest.user_key() <= last && first <= table.meta.largest.user_key());
    assert!(version.tables().count() < folder.version().tables().count());
    let to = tempfile::tempdir().unwrap();
    rebuild(&folder, &version, to.path());
    let within = |rows: Rows| -> Rows {
        let keep = |row: &(Box<[u8]>, Box<[u8]>)| first <= &*row.0 && &*row.0 <= last;
        rows.into_iter().map(|(name, rows)| (name, rows.into_iter().filter(keep).collect())).collect()
    };
    let expect = within(expect);
    assert!(expect.values().all(|rows| rows.len() > 100));
    assert_eq!(within(rows_in(to.path())), expect);
}

#[test]
fn a_rebuilt_database_can_be_written_to_and_read_again() {
    let (path, db) = filled();
    db.cancel_all_background_work(true);
    let folder = RocksFolder::read(path.path()).unwrap();
    let to = tempfile::tempdir().unwrap();
    rebuild(&folder, folder.version(), to.path());
    let rebuilt = open(to.path());
    fill(&rebuilt, 20..23);
    let expect = rows(&rebuilt, &FAMILIES.map(String::from));
    drop(rebuilt);
    let again = tempfile::tempdir().unwrap();
    copy(&RocksFolder::read(to.path()).unwrap(), again.path()).unwrap();
    assert_eq!(rows_in(again.path()), expect);
}

#[test]
fn column_families_that_were_dropped_are_gone_and_their_ids_stay_used() {
    let path = tempfile::tempdir().unwrap();
    let mut db = open(path.path());
    fill(&db, 0..2);
    db.drop_cf("plain").unwrap();
    db.create_cf("late", &options("late")).unwrap();
    db.put_cf(&db.cf_handle("late").unwrap(), "key", "value").unwrap();
    drop(db);
    let folder = RocksFolder::read(path.path()).unwrap();
    let names: Vec<_> = folder.version().column_families.values().map(|family| family.name.as_str()).collect();
    assert_eq!(names, ["default", "blobs", "late"]);
    let to = tempfile::tempdir().unwrap();
    copy(&folder, to.path()).unwrap();
    assert_eq!(rows_in(to.path())["late"].len(), 1);
}

#[test]
fn atomic_flushes_and_reused_logs_are_read() {
    let path = tempfile::tempdir().unwrap();
    let mut db_options = options("default");
    db_options.set_atomic_flush(true);
    db_options.set_recycle_log_file_num(2);
    db_options.set_track_and_verify_wals_in_manifest(true);
    db_options.set_wal_recovery_mode(rocksdb::DBRecoveryMode::PointInTime);
    let names = FAMILIES.map(String::from);
    let db = open_with(path.path(), &db_options, &names);
    for round in 0..6u32 {
        for index in 0..800u32 {
            let mut batch = WriteBatch::default();
            for name in FAMILIES {
                let key = (index * 37 + round).to_be_bytes();
                batch.put_cf(&db.cf_handle(name).unwrap(), key, index.to_string().repeat(30));
            }
            db.write(batch).unwrap();
        }
        db.flush_wal(true).unwrap();
    }
    db.cancel_all_background_work(true);
    let expect = rows(&db, &names);
    let folder = RocksFolder::read(path.path()).unwrap();
    let to = tempfile::tempdir().unwrap();
    copy(&folder, to.path()).unwrap();
    let content = |kind| {
        let of_kind = |file: &&FolderFile| file.kind == kind;
        std::fs::read(to.path().join(&folder.files().iter().rfind(of_kind).unwrap().name)).unwrap()
    };
    let manifest = content(FileKind::Manifest);
    let mut records = LogReader::new(&manifest[..], 0);
    let edits: Vec<_> = std::iter::from_fn(|| records.next_record().unwrap())
        .map(|record| VersionEdit::decode(&record).unwrap())
        .collect();
    assert!(edits.iter().any(|edit| edit.atomic_group_remaining > Some(0)), "no atomic group was written");
    assert!((5..=8).contains(&content(FileKind::Wal)[6]), "no log was reused");
    assert_eq!(rows_in(to.path()), expect);
}

#[test]
fn a_copy_made_under_a_writer_is_one_cut_through_all_column_families() {
    let path = tempfile::tempdir().unwrap();
    let mut db_options = options("default");
    db_options.set_recycle_log_file_num(2);
    let names = FAMILIES.map(String::from);
    let db = open_with(path.path(), &db_options, &names);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let pause_us = AtomicU64::new(SHORTEST_PAUSE_US);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Every batch puts one key into each family; families fill, and are flushed, at different paces.
            for index in 0u32.. {
                let mut batch = WriteBatch::default();
                for (size, name) in [20, 90, 300].into_iter().zip(FAMILIES) {
                    batch.put_cf(&db.cf_handle(name).unwrap(), index.to_be_bytes(), vec![b'x'; size]);
                }
                db.write(batch).unwrap();
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(Duration::from_micros(pause_us.load(Ordering::Relaxed)));
            }
        });
        let checked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| copies_are_cuts(path.path(), &names, &pause_us)));
        stop.store(true, Ordering::Relaxed);
        checked.unwrap();
    });
}

/// Between two batches, in microseconds.
const SHORTEST_PAUSE_US: u64 = 300;
/// As often as a copy may be tried.
const MAX_ATTEMPTS: u32 = 1_000;

/// The writer slows down while the database changes faster than this machine copies it now.
fn copies_are_cuts(path: &Path, names: &[String], pause_us: &AtomicU64) {
    let (mut copies, mut with_tables, mut attempts) = (0, 0, 0);
    while copies < 10 || with_tables < 3 {
        attempts += 1;
        assert!(attempts < MAX_ATTEMPTS, "only {copies} copies could be made");
        std::thread::sleep(Duration::from_millis(100));
        let to = tempfile::tempdir().unwrap();
        let copied = RocksFolder::read(path).and_then(|folder| {
            copy_or_link(&folder, to.path())?;
            Ok((folder.is_still_current()?, folder))
        });
        let folder = match copied {
            Ok((true, folder)) => Some(folder),
            Ok((false, _)) => None,
            Err(error) if error.kind() == icecore::ErrorKind::Changed => None,
            Err(error) => panic!("{error}"),
        };
        let pause = pause_us.load(Ordering::Relaxed);
        let Some(folder) = folder else {
            pause_us.store((pause * 2).min(SHORTEST_PAUSE_US << 8), Ordering::Relaxed);
            continue;
        };
        pause_us.store((pause / 2).max(SHORTEST_PAUSE_US), Ordering::Relaxed);
        let rows = rows(&open(to.path()), names);
        let count = rows["default"].len();
        assert!(count > 0);
        for (name, rows) in &rows {
            let keys = rows.iter().map(|row| row.0.to_vec());
            assert!(keys.eq((0..count as u32).map(|index| index.to_be_bytes().to_vec())), "{name}: {}", rows.len());
        }
        copies += 1;
        with_tables += usize::from(folder.version().tables().count() > 0);
    }
}

#[test]
fn a_database_of_an_older_rocksdb_is_copied_and_rebuilt_for_this_one() {
    if !have_rocksdb_tools("a database of an older RocksDB") {
        return;
    }
    let path = tempfile::tempdir().unwrap();
    let shape = ["--benchmarks=fillrandom,deleterandom,overwrite", "--num=4000", "--num_column_families=2"];
    let blobs = ["--enable_blob_files=1", "--min_blob_size=50", "--compression_type=none"];
    assert!(db_bench(path.path(), &[&shape[..], &blobs].concat()).status().unwrap().success());
    let folder = RocksFolder::read(path.path()).unwrap();
    let copied = tempfile::tempdir().unwrap();
    copy(&folder, copied.path()).unwrap();
    let expect = rows_in(copied.path());
    assert!(expect["default"].len() > 500, "{}", expect["default"].len());
    // Opened by this RocksDB, flushed and closed: the copy now has no log that counts.
    let flushed = RocksFolder::read(copied.path()).unwrap();
    let rebuilt = tempfile::tempdir().unwrap();
    rebuild(&flushed, flushed.version(), rebuilt.path());
    assert_eq!(rows_in(rebuilt.path()), expect);
    // And the tables alone, as the older one left them: without epochs, some keys still in its log.
    let tables = tempfile::tempdir().unwrap();
    rebuild(&folder, folder.version(), tables.path());
    let without_log = tempfile::tempdir().unwrap();
    copy(&folder, without_log.path()).unwrap();
    for file in folder.files().iter().filter(|file| file.kind == FileKind::Wal) {
        std::fs::remove_file(without_log.path().join(&file.name)).unwrap();
    }
    assert_eq!(rows_in(tables.path()), rows_in(without_log.path()));
}

const KEYS: u64 = 1000;

fn key(index: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[2..].copy_from_slice(&index.to_be_bytes());
    key
}

/// A table made by `SstFileWriter`, named `0.sst`, and what describes it.
fn external_table(folder: &Path, number: u64, footer_version: Option<i32>) -> TableMeta {
    let mut writer_options = Options::default();
    if let Some(version) = footer_version {
        let mut block = BlockBasedOptions::default();
        block.set_format_version(version);
        writer_options.set_block_based_table_factory(&block);
    }
    let mut writer = SstFileWriter::create(&writer_options);
    let path = folder.join("0.sst");
    writer.open(&path).unwrap();
    (0..KEYS).for_each(|index| writer.put(key(index), index.to_string()).unwrap());
    writer.finish().unwrap();
    let size_bytes = std::fs::metadata(&path).unwrap().len();
    let keys = (InternalKey::lowest(&key(0), 0), InternalKey::highest(&key(KEYS - 1), 0));
    TableMeta::new(number, size_bytes, keys.0, keys.1, [0, 0])
}

/// Links `0.sst` as table `number` beside a MANIFEST for it, and opens the folder with RocksDB.
fn open_one_table(number: u64, footer_version: Option<i32>) -> Result<Vec<Box<[u8]>>, String> {
    let folder = tempfile::tempdir().unwrap();
    let table = external_table(folder.path(), number, footer_version);
    let built = FolderVersion::of_one_table(table, BYTEWISE_COMPARATOR).build_manifest().unwrap();
    std::fs::rename(folder.path().join("0.sst"), folder.path().join(table_name(number))).unwrap();
    std::fs::write(folder.path().join(&built.name), &built.manifest).unwrap();
    std::fs::write(folder.path().join("CURRENT"), &built.current).unwrap();
    if footer_version == Some(5) && have_rocksdb_tools("one external table, opened by the older RocksDB") {
        let count = ldb(&[&format!("--db={}", folder.path().display()), "scan", "--no_value", "--hex"]).lines().count();
        assert_eq!(count as u64, KEYS, "table number {number}");
    }
    let keys = |db: DB| db.iterator(IteratorMode::Start).map(|row| row.map(|row| row.0)).collect::<Result<Vec<_>, _>>();
    let first = DB::open_default(folder.path()).and_then(keys).map_err(|error| error.to_string())?;
    let db = DB::open_default(folder.path()).map_err(|error| error.to_string())?;
    db.put(key(KEYS), "written later").unwrap();
    db.compact_range::<&[u8], &[u8]>(None, None);
    assert_eq!(keys(db).unwrap().len() as u64, KEYS + 1);
    Ok(first)
}

#[test]
fn one_external_table_and_its_manifest_open_as_a_database() {
    // What this RocksDB writes unless told otherwise is footer version 7; the older one reads up to 5.
    for (number, footer_version) in [(ONE_TABLE_NUMBER, None), (7, None), (ONE_TABLE_NUMBER, Some(5))] {
        let keys = open_one_table(number, footer_version)
            .unwrap_or_else(|error| panic!("table number {number}, footer {footer_version:?}: {error}"));
        assert!(
            keys.iter().map(|key| key.to_vec()).eq((0..KEYS).map(|index| key(index).to_vec())),
            "table number {number}"
        );
    }
}

#[test]
fn properties_are_read_from_every_footer_version_that_rocksdb_writes() {
    for version in 2..=7 {
        let folder = tempfile::tempdir().unwrap();
        let table = external_table(folder.path(), 1, Some(version));
        let mut file = std::fs::File::open(folder.path().join("0.sst")).unwrap();
        let properties = TableProperties::read(&mut file, table.size_bytes).unwrap();
        assert_eq!(properties.footer_version, version as u32);
        assert_eq!(properties.entries, Some(KEYS));
        assert_eq!(properties.comparator.as_deref(), Some(BYTEWISE_COMPARATOR));
        assert_eq!((properties.db_id.as_deref(), properties.external_version), (Some("SST Writer"), Some(2)));
        // A file that is cut off is refused.
        let error = TableProperties::read(&mut file, table.size_bytes - 1).unwrap_err();
        assert_eq!(error.kind(), icecore::ErrorKind::Corrupt);
    }
}

#[test]
fn a_database_s_tables_tell_who_wrote_them() {
    let (path, db) = filled();
    db.cancel_all_background_work(true);
    let folder = RocksFolder::read(path.path()).unwrap();
    let mut sessions = std::collections::BTreeSet::new();
    for file in folder.files().iter().filter(|file| file.kind == FileKind::Sst) {
        let read = TableProperties::read(&mut folder.open(file).unwrap(), file.size_bytes).unwrap();
        assert_eq!(read.column_family, file.table.as_ref().map(|table| table.column_family.to_string()));
        assert_eq!(read.db_id, folder.version().db_id);
        assert_eq!(read.original_file_number.map(table_name).as_ref(), Some(&file.name));
        assert!(read.entries.unwrap() > 0 && read.external_version.is_none());
        sessions.insert(read.session_id.unwrap());
    }
    assert_eq!(sessions.len(), 1);
}
