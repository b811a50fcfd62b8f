//! Databases written by `db_bench` (Debian's older RocksDB), read in plain Rust and compared with what
//! RocksDB's own `ldb` says. Links no RocksDB.

#[path = "support/peak_memory.rs"]
mod peak_memory;
mod rocksfolder_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Child;

use icecore::ErrorKind;
use icecore::layout::FileKind;
use icecore::rocksfolder::log::{LogReader, LogWriter};
use icecore::rocksfolder::{FolderVersion, RocksFolder};
use peak_memory::{Counting, measure};
use rocksfolder_support::{copy, copy_or_link, db_bench, have_rocksdb_tools, ldb};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// As often as a copy of a database that is being written may be tried.
const MAX_ATTEMPTS: u32 = 3_000;

const FAMILIES_AND_BLOBS: [&str; 6] = [
    "--benchmarks=fillrandom,deleterandom,overwrite",
    "--num=3000",
    "--num_column_families=3",
    "--enable_blob_files=1",
    "--min_blob_size=50",
    "--enable_blob_garbage_collection=1",
];
const MANY_TABLES: [&str; 3] =
    ["--benchmarks=fillrandom,deleterandom,overwrite", "--num=8000", "--compression_type=none"];

fn made(arguments: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    assert!(db_bench(folder.path(), arguments).status().unwrap().success());
    folder
}

/// One table as `ldb manifest_dump --hex` and as we see it: family, level, size, sequence numbers, keys.
type Described = (String, u32, u64, [u64; 2], [String; 2]);

#[derive(Debug, Default, PartialEq, Eq)]
struct Dump {
    tables: BTreeMap<u64, Described>,
    /// Count, bytes, garbage count, garbage bytes.
    blobs: BTreeMap<u64, [u64; 4]>,
    logs: BTreeMap<String, u64>,
    last_sequence: u64,
    next_file_number: u64,
}

fn dump_by_ldb(folder: &RocksFolder) -> Dump {
    let manifest = folder.files().iter().find(|file| file.kind == FileKind::Manifest).unwrap();
    let text = ldb(&["manifest_dump", "--hex", &format!("--path={}", folder.path().join(&manifest.name).display())]);
    let mut dump = Dump::default();
    let (mut family, mut level) = (String::new(), 0);
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |label: &str| line.split(label).nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
        if line.contains("Column family \"") {
            family = line.split('"').nth(1).unwrap().to_owned();
        } else if let Some(number) = line.strip_prefix("log number: ") {
            dump.logs.insert(family.clone(), number.parse().unwrap());
        } else if line.starts_with("--- level ") {
            level = words[2].parse().unwrap();
        } else if line.starts_with("blob_file_number: ") {
            let labels = ["total_blob_count:", "total_blob_bytes:", "garbage_blob_count:", "garbage_blob_bytes:"];
            dump.blobs.insert(words[1].parse().unwrap(), labels.map(after));
        } else if line.starts_with("next_file_number ") {
            dump.next_file_number = words[1].parse().unwrap();
            dump.last_sequence = after("last_sequence ");
        } else if let Some((number, rest)) = line.trim_start().split_once(':').filter(|_| line.starts_with(' ')) {
            let (size, rest) = rest.split_once('[').unwrap();
            let (sequences, keys) = rest.split_once("]['").unwrap();
            let (smallest, largest) = sequences.split_once(" .. ").unwrap();
            let quoted: Vec<&str> = keys.split('\'').collect();
            let keys = [quoted[0].to_owned(), quoted[2].to_owned()];
            let sequences = [smallest, largest].map(|sequence| sequence.parse().unwrap());
            let described = (family.clone(), level, size.parse().unwrap(), sequences, keys);
            dump.tables.insert(number.parse().unwrap(), described);
        }
    }
    dump
}

fn dump_by_us(version: &FolderVersion) -> Dump {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    Dump {
        tables: version
            .tables()
            .map(|(family, table)| {
                let meta = &table.meta;
                let keys = [hex(meta.smallest.user_key()), hex(meta.largest.user_key())];
                let sequences = [meta.smallest_sequence, meta.largest_sequence];
                (meta.number, (family.name.clone(), table.level, meta.size_bytes, sequences, keys))
            })
            .collect(),
        blobs: version
            .blob_files()
            .map(|(_, file)| {
                let meta = &file.meta;
                (meta.number, [meta.blob_count, meta.blob_bytes, file.garbage_count, file.garbage_bytes])
            })
            .collect(),
        logs: version.column_families.values().map(|family| (family.name.clone(), family.log_number)).collect(),
        last_sequence: version.last_sequence,
        next_file_number: version.next_file_number,
    }
}

fn agrees_with_ldb(arguments: &[&str]) -> RocksFolder {
    let made = made(arguments);
    let folder = RocksFolder::read(made.path()).unwrap();
    let theirs = dump_by_ldb(&folder);
    let mut ours = dump_by_us(folder.version());
    // RocksDB opens at the number after the one recorded; ldb prints that.
    ours.next_file_number = theirs.next_file_number.min(ours.next_file_number + 1);
    assert_eq!(ours, theirs);
    assert!(folder.version().tables().all(|(_, table)| table.identity().is_some()));
    assert!(folder.files().iter().any(|file| file.kind == FileKind::Wal && file.size_bytes > 0), "no log to copy");
    // The same set of live files, by the program that opens the database.
    let listed = ldb(&[&format!("--db={}", made.path().display()), "list_live_files_metadata", "--sort_by_filename"]);
    let listed: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split([',', ' ']).next()?.rsplit_once('/').map(|(_, name)| name))
        .collect();
    let is_live = |kind| kind == FileKind::Sst || kind == FileKind::Blob;
    let live = folder.files().iter().filter(|file| is_live(file.kind)).map(|file| file.name.as_str());
    assert_eq!(live.collect::<BTreeSet<_>>(), listed);
    folder
}

#[test]
fn several_column_families_and_blob_files_are_read_as_ldb_reads_them() {
    if have_rocksdb_tools("several column families and blob files") {
        let folder = agrees_with_ldb(&FAMILIES_AND_BLOBS);
        assert_eq!(folder.version().column_families.len(), 3);
        assert!(folder.version().blob_files().count() > 5);
    }
}

#[test]
fn many_tables_on_several_levels_with_deletions_are_read_as_ldb_reads_them() {
    if have_rocksdb_tools("many tables") {
        let folder = agrees_with_ldb(&MANY_TABLES);
        let levels: BTreeSet<u32> = folder.version().tables().map(|(_, table)| table.level).collect();
        assert!(levels.len() > 1 && folder.version().tables().count() > 15, "{levels:?}");
    }
}

#[test]
fn logs_tracked_in_the_manifest_are_read() {
    if have_rocksdb_tools("tracked logs") {
        let tracked = "--track_and_verify_wals_in_manifest=1";
        let made = made(&["--benchmarks=fillrandom", "--num=3000", "--num_column_families=3", "--sync=1", tracked]);
        let folder = RocksFolder::read(made.path()).unwrap();
        assert!(!folder.version().tracked_logs.is_empty());
    }
}

#[test]
fn a_separate_log_folder_is_refused() {
    if have_rocksdb_tools("a separate log folder") {
        let logs = tempfile::tempdir().unwrap();
        let made = made(&["--benchmarks=fillrandom", "--num=10", &format!("--wal_dir={}", logs.path().display())]);
        let error = RocksFolder::read(made.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
}

#[test]
fn a_compressed_log_is_copied_to_its_last_whole_record() {
    if have_rocksdb_tools("a compressed log") {
        let made = made(&["--benchmarks=fillrandom", "--num=200", "--wal_compression=zstd", "--sync=1"]);
        let to = tempfile::tempdir().unwrap();
        let folder = RocksFolder::read(made.path()).unwrap();
        copy(&folder, to.path()).unwrap();
        assert!(folder.version().tables().count() == 0, "meant to be in the log alone");
        assert_eq!(keys_of(to.path()), keys_of(made.path()));
        assert!(keys_of(to.path()).len() > 80);
    }
}

#[test]
fn a_rebuilt_manifest_is_read_by_rocksdb_as_the_version_it_was_made_from() {
    if !have_rocksdb_tools("a rebuilt MANIFEST") {
        return;
    }
    for shape in [&FAMILIES_AND_BLOBS[..], &MANY_TABLES] {
        let made = made(shape);
        let folder = RocksFolder::read(made.path()).unwrap();
        let to = tempfile::tempdir().unwrap();
        copy_or_link(&folder, to.path()).unwrap();
        let built = folder.version().build_manifest().unwrap();
        std::fs::write(to.path().join(&built.name), &built.manifest).unwrap();
        std::fs::write(to.path().join("CURRENT"), &built.current).unwrap();
        let rebuilt = RocksFolder::read(to.path()).unwrap();
        let (theirs, original) = (dump_by_ldb(&rebuilt), dump_by_us(folder.version()));
        assert_eq!((theirs.tables, theirs.blobs), (original.tables, original.blobs));
        assert!(theirs.logs.values().all(|log| *log >= folder.version().next_file_number));
        assert!(rebuilt.files().iter().all(|file| file.kind != FileKind::Wal), "a log of the original counts");
        ldb(&[&format!("--db={}", to.path().display()), "checkconsistency"]);
    }
}

struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keys of a copy in the order of the database, by the program that wrote them.
fn keys_of(copy: &Path) -> Vec<u64> {
    let text = ldb(&[&format!("--db={}", copy.display()), "scan", "--no_value", "--hex"]);
    text.lines().map(|line| u64::from_str_radix(&line[2..18], 16).unwrap()).collect()
}

#[test]
fn a_database_that_is_being_written_is_copied_at_one_moment() {
    if !have_rocksdb_tools("a database that is being written") {
        return;
    }
    let made = tempfile::tempdir().unwrap();
    // Keys in order: at every moment the database holds 0 to n without a gap.
    let writing = ["--benchmarks=fillseq", "--num=60000000", "--benchmark_write_rate_limit=1000000"];
    // A flush every quarter of a second or so, with compactions.
    let sizes = ["--write_buffer_size=262144", "--target_file_size_base=262144", "--max_bytes_for_level_base=1048576"];
    let writing = [&writing[..], &sizes].concat();
    let _writer = Writer(db_bench(made.path(), &writing).spawn().unwrap());
    let (mut copies, mut with_tables, mut newest) = (0, 0, 0);
    let mut attempts = 0;
    while copies < 6 {
        attempts += 1;
        assert!(attempts < MAX_ATTEMPTS, "only {copies} copies could be made");
        std::thread::sleep(std::time::Duration::from_millis(100));
        let to = tempfile::tempdir().unwrap();
        let outcome = RocksFolder::read(made.path()).and_then(|folder| {
            copy_or_link(&folder, to.path())?;
            Ok((folder.is_still_current()?, folder))
        });
        match outcome {
            Ok((true, folder)) => {
                let keys = keys_of(to.path());
                assert!(keys.iter().copied().eq(0..keys.len() as u64), "a gap in {} keys", keys.len());
                assert!(keys.len() >= newest, "older than the copy before");
                newest = keys.len();
                with_tables += usize::from(folder.version().tables().count() > 0);
                copies += 1;
            }
            Ok((false, _)) => {}
            // It is not there yet, or it moved on. Never "corrupt".
            Err(error) => assert!([ErrorKind::NotFound, ErrorKind::Changed].contains(&error.kind()), "{error}"),
        }
    }
    assert!(with_tables > 0 && newest > 1000, "nothing was written: {newest} keys");
}

#[test]
fn a_damaged_manifest_never_panics_and_never_takes_much_memory() {
    if !have_rocksdb_tools("a damaged MANIFEST") {
        return;
    }
    let made = made(&FAMILIES_AND_BLOBS);
    let folder = RocksFolder::read(made.path()).unwrap();
    let manifest = folder.files().iter().find(|file| file.kind == FileKind::Manifest).unwrap();
    let bytes = std::fs::read(made.path().join(&manifest.name)).unwrap();
    let mut records = Vec::new();
    let mut reader = LogReader::new(&bytes[..], 0);
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record);
    }
    assert!(records.len() > 20);
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) as usize % below
    };
    let mut refused = 0;
    let mut damage = || {
        // The file as it is on disk: the checksums see it.
        let mut damaged = bytes.clone();
        damaged[draw(bytes.len())] ^= 1 << draw(8);
        damaged.truncate(bytes.len() - draw(4) * draw(bytes.len()) / 4);
        refused += usize::from(FolderVersion::replay(&damaged[..]).is_err());
        // The edits under good checksums: only their own checks see it.
        let mut records = records.clone();
        let hit = draw(records.len());
        let record = &mut records[hit];
        for _ in 0..=draw(3) {
            let at = draw(record.len());
            record[at] = [0, 0x7f, 0x80, 0xff, draw(256) as u8][draw(5)];
        }
        let mut writer = LogWriter::new(Vec::new());
        records.iter().for_each(|record| writer.add_record(record).unwrap());
        refused += usize::from(FolderVersion::replay(&writer.into_inner()[..]).is_err());
    };
    let ((), memory) = measure(|| (0..2000).for_each(|_| damage()));
    assert!(refused > 500, "hardly any damage was noticed: {refused}");
    // The tests beside this one take memory, too, but little.
    assert!(memory.peak_bytes < 512 << 20, "{memory:?}");
}
