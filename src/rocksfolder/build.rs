//! Writing a MANIFEST for a version of our choosing: a part of a checkpoint's tables, or one table.
//!
//! The tables keep their numbers, levels, key bounds, sequence numbers, epochs and unique ids, so that
//! RocksDB serves from them what it served before. No write-ahead log belongs to such a version: log
//! numbers are set past every file, so that a log that lies about is not replayed into it.

use super::edit::{BlobGarbage, MAX_FILE_NUMBER, MAX_SEQUENCE, TableMeta, VersionEdit};
use super::log::LogWriter;
use super::names::manifest_name;
use super::version::{ColumnFamily, FolderVersion, LiveTable};
use crate::error::{Error, ErrorKind, Result};

const BUILD: &str = "write a MANIFEST";

/// The comparator that RocksDB uses unless told otherwise: bytes, unsigned.
pub const BYTEWISE_COMPARATOR: &str = "leveldb.BytewiseComparator";
/// The number to give the one table of [`FolderVersion::of_one_table`]: `0.sst` becomes `000001.sst`. Not 0:
/// a RocksDB that was built with assertions (as Debian's is) aborts on a file of that number.
pub const ONE_TABLE_NUMBER: u64 = 1;
/// How many tables go into one record.
const TABLES_PER_RECORD: usize = 10_000;

/// The two files that turn a folder of tables into a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltManifest {
    /// The MANIFEST's file name.
    pub name: String,
    /// The MANIFEST.
    pub manifest: Vec<u8>,
    /// The file `CURRENT`.
    pub current: Vec<u8>,
}

impl FolderVersion {
    /// Keeps only the tables for which `keep` holds, and the blob files they may point into.
    pub fn retain_tables(&mut self, mut keep: impl FnMut(&str, &LiveTable) -> bool) {
        for family in self.column_families.values_mut() {
            let name = &family.name;
            family.tables.retain(|_, table| keep(name, table));
            family.drop_unused_blob_files();
        }
    }

    /// A database whose one column family, `default`, holds one table at level 0.
    ///
    /// This is what a full checkpoint's `keygroup-<k>` folder is: `0.sst`, and a MANIFEST that calls it
    /// by `table.number`, which should be [`ONE_TABLE_NUMBER`].
    pub fn of_one_table(mut table: TableMeta, comparator: &str) -> Self {
        let mut version = Self::empty();
        version.next_file_number = table.number.saturating_add(1);
        version.last_sequence = table.largest_sequence;
        table.epoch_number = table.epoch_number.or(Some(1));
        let mut family = ColumnFamily::new(0, super::version::DEFAULT_COLUMN_FAMILY);
        family.comparator = Some(comparator.to_owned());
        family.tables.insert(table.number, LiveTable { level: 0, meta: table });
        version.column_families.insert(0, family);
        version
    }

    /// The MANIFEST and CURRENT of this version without any write-ahead log. [`FolderVersion::replay`]
    /// gives the version back, with other log and file numbers.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] if file numbers have run out; [`ErrorKind::InvalidInput`] if the
    /// version contradicts itself: a table or blob number that is 0 or not below the next file number.
    pub fn build_manifest(&self) -> Result<BuiltManifest> {
        self.check_numbers()?;
        let manifest_number = self.next_file_number;
        let log_number = manifest_number + 1;
        let mut writer = LogWriter::new(Vec::new());
        let mut put = |edit: &VersionEdit| {
            writer.add_record(&edit.encode()).map_err(|error| Error::io(BUILD, "the MANIFEST", error))
        };
        if self.db_id.is_some() {
            put(&VersionEdit { db_id: self.db_id.clone(), ..VersionEdit::default() })?;
        }
        for family in self.column_families.values() {
            family_edits(family, log_number).iter().try_for_each(&mut put)?;
        }
        put(&VersionEdit {
            log_number: Some(log_number),
            prev_log_number: Some(0),
            min_log_number_to_keep: Some(log_number),
            next_file_number: Some(log_number + 1),
            max_column_family: Some(self.max_column_family),
            last_sequence: Some(self.last_sequence_of_tables()),
            ..VersionEdit::default()
        })?;
        let name = manifest_name(manifest_number);
        let current = format!("{name}\n").into_bytes();
        Ok(BuiltManifest { name, manifest: writer.into_inner(), current })
    }

    fn last_sequence_of_tables(&self) -> u64 {
        let known = |sequence: &u64| *sequence < MAX_SEQUENCE;
        let largest = self.tables().map(|(_, table)| table.meta.largest_sequence).filter(known).max();
        self.last_sequence.max(largest.unwrap_or(0))
    }

    fn check_numbers(&self) -> Result<()> {
        let tables = self.tables().map(|(_, table)| table.meta.number);
        let blobs = self.blob_files().map(|(_, file)| file.meta.number);
        if tables.chain(blobs).any(|number| number == 0 || number >= self.next_file_number) {
            return Err(Error::invalid(BUILD, "a file's number is 0 or not below the next file number"));
        }
        // One more number each for the MANIFEST and the log, and room for RocksDB to go on.
        if self.next_file_number > MAX_FILE_NUMBER / 2 {
            return Err(Error::new(ErrorKind::LimitExceeded, BUILD, "file numbers have run out"));
        }
        Ok(())
    }
}

fn family_edits(family: &ColumnFamily, log_number: u64) -> Vec<VersionEdit> {
    let about = || VersionEdit { column_family: family.id, ..VersionEdit::default() };
    let garbage = family.blob_files.values().filter(|file| file.garbage_count > 0).map(|file| BlobGarbage {
        number: file.meta.number,
        blob_count: file.garbage_count,
        blob_bytes: file.garbage_bytes,
    });
    // Blob files first: RocksDB links a table to its oldest blob file when it sees the table.
    let mut edits = vec![
        VersionEdit {
            column_family_add: (family.id != 0).then(|| family.name.clone()),
            comparator: family.comparator.clone(),
            persist_timestamps: family.comparator.as_ref().and(family.persist_timestamps),
            ..about()
        },
        VersionEdit {
            log_number: Some(log_number),
            full_history_ts_low: family.full_history_ts_low.clone(),
            new_blob_files: family.blob_files.values().map(|file| file.meta.clone()).collect(),
            blob_garbage: garbage.collect(),
            ..about()
        },
    ];
    let tables: Vec<_> = family.tables.values().map(|table| (table.level, table.meta.clone())).collect();
    edits.extend(tables.chunks(TABLES_PER_RECORD).map(|some| VersionEdit { new_tables: some.to_vec(), ..about() }));
    edits
}

#[cfg(test)]
mod tests {
    use super::super::edit::{BlobFileMeta, InternalKey};
    use super::super::log::LogEnd;
    use super::super::version::LiveBlobFile;
    use super::*;

    fn table(number: u64, oldest_blob_file: Option<u64>) -> LiveTable {
        let keys = (InternalKey::lowest(b"a", 1), InternalKey::highest(b"z", 2));
        let meta = TableMeta { oldest_blob_file, ..TableMeta::new(number, 100, keys.0, keys.1, [1, 2]) };
        LiveTable { level: 3, meta: TableMeta { unique_id: Some([3, number]), epoch_number: Some(number), ..meta } }
    }

    fn blob(number: u64) -> LiveBlobFile {
        let meta = BlobFileMeta { number, blob_count: 5, blob_bytes: 50, checksum_method: vec![], checksum: vec![1] };
        LiveBlobFile { meta, garbage_count: 2, garbage_bytes: 20 }
    }

    fn sample() -> FolderVersion {
        let mut version = FolderVersion { db_id: Some("id".into()), next_file_number: 40, ..FolderVersion::empty() };
        let mut other = ColumnFamily { comparator: Some("c".into()), ..ColumnFamily::new(4, "other") };
        other.tables = (10..15).map(|number| (number, table(number, Some(number + 10)))).collect();
        other.blob_files = (20..30).map(|number| (number, blob(number))).collect();
        version.column_families.insert(4, other);
        version.max_column_family = 9;
        version.last_sequence = 77;
        version
    }

    #[test]
    fn a_built_manifest_reads_back_as_the_version_without_logs() {
        let version = sample();
        let built = version.build_manifest().unwrap();
        assert_eq!((built.name.as_str(), &built.current[..]), ("MANIFEST-000040", &b"MANIFEST-000040\n"[..]));
        let replayed = FolderVersion::replay(&built.manifest[..]).unwrap();
        assert_eq!((replayed.complete_bytes, replayed.end), (built.manifest.len() as u64, LogEnd::Clean));
        let mut expect = version;
        expect.next_file_number = 42;
        expect.min_log_number_to_keep = 41;
        expect.column_families.values_mut().for_each(|family| family.log_number = 41);
        assert_eq!(replayed.version, expect);
        assert_eq!(replayed.version.first_needed_log(), 41);
    }

    #[test]
    fn leaving_tables_out_leaves_out_the_blob_files_that_only_they_need() {
        let mut version = sample();
        version.retain_tables(|family, table| family == "other" && table.meta.number >= 13);
        let family = &version.column_families[&4];
        assert_eq!(family.tables.keys().copied().collect::<Vec<_>>(), [13, 14]);
        assert_eq!(family.blob_files.keys().copied().collect::<Vec<_>>(), [23, 24, 25, 26, 27, 28, 29]);
        version.retain_tables(|_, _| false);
        assert_eq!(version.blob_files().count(), 0);
    }

    #[test]
    fn the_last_sequence_is_never_below_a_table_s() {
        let mut version = sample();
        version.last_sequence = 0;
        let built = version.build_manifest().unwrap();
        assert_eq!(FolderVersion::replay(&built.manifest[..]).unwrap().version.last_sequence, 2);
    }

    #[test]
    fn file_number_0_is_refused() {
        let version = FolderVersion::of_one_table(table(0, None).meta, BYTEWISE_COMPARATOR);
        assert_eq!(version.build_manifest().unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_number_that_would_be_given_out_again_is_refused() {
        let version = FolderVersion { next_file_number: 14, ..sample() };
        assert_eq!(version.build_manifest().unwrap_err().kind(), ErrorKind::InvalidInput);
        let version = FolderVersion { next_file_number: MAX_FILE_NUMBER, ..sample() };
        assert_eq!(version.build_manifest().unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
}
