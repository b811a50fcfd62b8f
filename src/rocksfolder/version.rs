//! What a database holds at one moment: a MANIFEST's edits, applied one after another.
//!
//! The rules are those of RocksDB's recovery (`db/version_edit_handler.cc`, `db/version_builder.cc`):
//! an edit of an unknown column family, a table that is added twice or removed where it is not, is
//! corruption; an atomic group counts only if it is whole. Column family 0, `default`, is always there.

use std::collections::BTreeMap;
use std::io::Read;

use super::edit::{BlobFileMeta, TableMeta, VersionEdit};
use super::log::{LogEnd, LogReader};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{FileIdentity, TableInfo};

/// The name of column family 0.
pub const DEFAULT_COLUMN_FAMILY: &str = "default";

const REPLAY: &str = "replay a MANIFEST";

/// A table that is part of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveTable {
    /// Its level in the tree.
    pub level: u32,
    /// The rest.
    pub meta: TableMeta,
}

impl LiveTable {
    /// What tells its file apart without reading it (I6); `None` if the MANIFEST has no unique id for
    /// it (RocksDB before 7.3, files made by another program).
    pub fn identity(&self) -> Option<FileIdentity> {
        self.meta.unique_id.map(|unique_id| FileIdentity {
            unique_id,
            size_bytes: self.meta.size_bytes,
            sequences: [self.meta.smallest_sequence, self.meta.largest_sequence],
        })
    }

    /// What `_metadata` keeps of it, as a table of `column_family`.
    pub fn info(&self, column_family: &str) -> TableInfo {
        TableInfo {
            column_family: column_family.into(),
            level: self.level,
            smallest_key: self.meta.smallest.user_key().to_vec(),
            largest_key: self.meta.largest.user_key().to_vec(),
            smallest_sequence: self.meta.smallest_sequence,
            largest_sequence: self.meta.largest_sequence,
        }
    }
}

/// A blob file that is part of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveBlobFile {
    /// The file.
    pub meta: BlobFileMeta,
    /// How many of its values are garbage.
    pub garbage_count: u64,
    /// Their length in bytes.
    pub garbage_bytes: u64,
}

/// Header and footer of a blob file, in bytes (`db/blob/blob_log_format.h`).
const BLOB_FILE_FRAME_BYTES: u64 = 30 + 32;

impl LiveBlobFile {
    /// Length of the file.
    pub fn size_bytes(&self) -> u64 {
        self.meta.blob_bytes.saturating_add(BLOB_FILE_FRAME_BYTES)
    }
}

/// One column family of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFamily {
    /// Its number.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Name of its comparator, if the MANIFEST tells.
    pub comparator: Option<String>,
    /// Whether user-defined timestamps are stored with the keys, if the MANIFEST tells.
    pub persist_timestamps: Option<bool>,
    /// Timestamps below this may have been collected.
    pub full_history_ts_low: Option<Vec<u8>>,
    /// Logs before this one hold nothing of it that is not in its tables.
    pub log_number: u64,
    /// Its tables, by number.
    pub tables: BTreeMap<u64, LiveTable>,
    /// Its blob files, by number.
    pub blob_files: BTreeMap<u64, LiveBlobFile>,
}

impl ColumnFamily {
    /// An empty column family.
    pub fn new(id: u32, name: impl Into<String>) -> Self {
        Self {
            id,
            name: name.into(),
            comparator: None,
            persist_timestamps: None,
            full_history_ts_low: None,
            log_number: 0,
            tables: BTreeMap::new(),
            blob_files: BTreeMap::new(),
        }
    }

    /// Removes the blob files that no table can point into. RocksDB's rule: those before the oldest
    /// that some table names as its oldest, and those that are all garbage and that no table names.
    pub(super) fn drop_unused_blob_files(&mut self) {
        let named: std::collections::BTreeSet<u64> =
            self.tables.values().filter_map(|table| table.meta.oldest_blob_file).collect();
        let oldest = named.iter().find(|number| self.blob_files.contains_key(number)).copied();
        self.blob_files.retain(|number, file| {
            oldest.is_some_and(|oldest| *number >= oldest)
                && (named.contains(number) || file.garbage_count < file.meta.blob_count)
        });
    }
}

/// A consistent set of files: what RocksDB calls the current version, over all column families.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderVersion {
    /// The database's id, if the MANIFEST has it.
    pub db_id: Option<String>,
    /// The column families, by number.
    pub column_families: BTreeMap<u32, ColumnFamily>,
    /// The last sequence number in tables, or a later one.
    pub last_sequence: u64,
    /// All file numbers in use are smaller.
    pub next_file_number: u64,
    /// Logs before this one are needed by nobody; 0 if the MANIFEST does not tell.
    pub min_log_number_to_keep: u64,
    /// A second log, of databases older than RocksDB; 0 is none.
    pub prev_log_number: u64,
    /// The greatest column family id ever used.
    pub max_column_family: u32,
    /// Logs that the MANIFEST keeps track of, and how many of their bytes are synced.
    pub tracked_logs: BTreeMap<u64, Option<u64>>,
}

/// A MANIFEST, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedManifest {
    /// The version after the last whole edit.
    pub version: FolderVersion,
    /// How many bytes of the file make exactly that version: copy so many, and no more.
    pub complete_bytes: u64,
    /// How the file ended.
    pub end: LogEnd,
}

impl FolderVersion {
    /// A database with one empty column family, `default`.
    pub fn empty() -> Self {
        Self {
            db_id: None,
            column_families: BTreeMap::from([(0, ColumnFamily::new(0, DEFAULT_COLUMN_FAMILY))]),
            last_sequence: 0,
            next_file_number: 1,
            min_log_number_to_keep: 0,
            prev_log_number: 0,
            max_column_family: 0,
            tracked_logs: BTreeMap::new(),
        }
    }

    /// Reads a MANIFEST.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] and [`ErrorKind::Unsupported`] as [`VersionEdit::decode`] and
    /// [`LogReader::next_record`], and for edits that contradict each other; what reading gives.
    pub fn replay(manifest: impl Read) -> Result<ReplayedManifest> {
        let mut reader = LogReader::new(manifest, 0);
        let mut replay = Replay::default();
        while let Some(record) = reader.next_record()? {
            if replay.take(VersionEdit::decode(&record)?)? {
                replay.complete_bytes = reader.complete_bytes();
            }
        }
        let end = if replay.group.is_empty() { reader.end().unwrap_or(LogEnd::Clean) } else { LogEnd::Torn };
        Ok(ReplayedManifest { complete_bytes: replay.complete_bytes, end, version: replay.finish()? })
    }

    /// The first write-ahead log that holds anything not in tables; earlier ones are not needed, and
    /// neither need later ones exist.
    pub fn first_needed_log(&self) -> u64 {
        let unflushed = || self.column_families.values().map(|family| family.log_number).min().unwrap_or(0);
        if self.min_log_number_to_keep > 0 { self.min_log_number_to_keep } else { unflushed() }
    }

    /// Every table with its column family.
    pub fn tables(&self) -> impl Iterator<Item = (&ColumnFamily, &LiveTable)> {
        self.column_families.values().flat_map(|family| family.tables.values().map(move |table| (family, table)))
    }

    /// Every blob file with its column family.
    pub fn blob_files(&self) -> impl Iterator<Item = (&ColumnFamily, &LiveBlobFile)> {
        self.column_families.values().flat_map(|family| family.blob_files.values().map(move |file| (family, file)))
    }
}

struct Replay {
    version: FolderVersion,
    has_log_number: bool,
    has_next_file_number: bool,
    has_last_sequence: bool,
    logs_deleted_before: u64,
    /// An atomic group that is not whole yet.
    group: Vec<VersionEdit>,
    complete_bytes: u64,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            version: FolderVersion::empty(),
            has_log_number: false,
            has_next_file_number: false,
            has_last_sequence: false,
            logs_deleted_before: 0,
            group: Vec::new(),
            complete_bytes: 0,
        }
    }
}

impl Replay {
    /// Takes the next edit; tells whether the version is one that was meant to exist, no group pending.
    fn take(&mut self, edit: VersionEdit) -> Result<bool> {
        let Some(remaining) = edit.atomic_group_remaining else {
            if !self.group.is_empty() {
                return Err(corrupt("an atomic group is cut off by another edit"));
            }
            self.apply(edit)?;
            return Ok(true);
        };
        let expected = self.group.last().and_then(|last| last.atomic_group_remaining).map(|last| last.checked_sub(1));
        if expected.is_some_and(|expected| expected != Some(remaining)) {
            return Err(corrupt("an atomic group's edits are not counted down"));
        }
        self.group.push(edit);
        if remaining > 0 {
            return Ok(false);
        }
        for edit in std::mem::take(&mut self.group) {
            self.apply(edit)?;
        }
        Ok(true)
    }

    fn apply(&mut self, edit: VersionEdit) -> Result<()> {
        self.has_log_number |= edit.log_number.is_some();
        self.has_next_file_number |= edit.next_file_number.is_some();
        self.has_last_sequence |= edit.last_sequence.is_some();
        self.apply_logs(&edit);
        let version = &mut self.version;
        version.next_file_number = edit.next_file_number.unwrap_or(version.next_file_number);
        version.last_sequence = version.last_sequence.max(edit.last_sequence.unwrap_or(0));
        version.prev_log_number = edit.prev_log_number.unwrap_or(version.prev_log_number);
        version.max_column_family = version.max_column_family.max(edit.max_column_family.unwrap_or(0));
        version.min_log_number_to_keep = version.min_log_number_to_keep.max(edit.min_log_number_to_keep.unwrap_or(0));
        let id = edit.column_family;
        if let Some(name) = &edit.column_family_add {
            version.max_column_family = version.max_column_family.max(id);
            if version.column_families.insert(id, ColumnFamily::new(id, name.clone())).is_some() {
                return Err(corrupt(&format!("column family {id} is added twice")));
            }
        }
        if edit.column_family_drop && (id == 0 || version.column_families.remove(&id).is_none()) {
            return Err(corrupt(&format!("column family {id} is dropped and is not there")));
        }
        if !edit.column_family_drop {
            let family = version.column_families.get_mut(&id);
            let unknown = || corrupt(&format!("an edit of column family {id}, which is not there"));
            apply_to_family(family.ok_or_else(unknown)?, &edit)?;
        }
        version.db_id = edit.db_id.or(version.db_id.take());
        Ok(())
    }

    fn apply_logs(&mut self, edit: &VersionEdit) {
        let tracked = &mut self.version.tracked_logs;
        for log in edit.wal_additions.iter().filter(|log| log.number >= self.logs_deleted_before) {
            let synced = tracked.entry(log.number).or_default();
            *synced = (*synced).max(log.synced_bytes);
        }
        if let Some(before) = edit.wal_deletion {
            self.logs_deleted_before = self.logs_deleted_before.max(before);
            *tracked = tracked.split_off(&before);
        }
    }

    fn finish(mut self) -> Result<FolderVersion> {
        let missing = [
            (self.has_log_number, "log number"),
            (self.has_next_file_number, "next file number"),
            (self.has_last_sequence, "last sequence number"),
        ];
        if let Some((_, what)) = missing.iter().find(|(there, _)| !there) {
            return Err(corrupt(&format!("it has no {what}")));
        }
        self.version.column_families.values_mut().for_each(ColumnFamily::drop_unused_blob_files);
        Ok(self.version)
    }
}

fn apply_to_family(family: &mut ColumnFamily, edit: &VersionEdit) -> Result<()> {
    family.log_number = family.log_number.max(edit.log_number.unwrap_or(0));
    if edit.comparator.is_some() {
        family.comparator.clone_from(&edit.comparator);
    }
    family.persist_timestamps = edit.persist_timestamps.or(family.persist_timestamps);
    if edit.full_history_ts_low.is_some() {
        family.full_history_ts_low.clone_from(&edit.full_history_ts_low);
    }
    for meta in &edit.new_blob_files {
        let file = LiveBlobFile { meta: meta.clone(), garbage_count: 0, garbage_bytes: 0 };
        if family.blob_files.insert(meta.number, file).is_some() {
            return Err(corrupt(&format!("blob file {} is added twice", meta.number)));
        }
    }
    for garbage in &edit.blob_garbage {
        let unknown = || corrupt(&format!("garbage in blob file {}, which is not there", garbage.number));
        let file = family.blob_files.get_mut(&garbage.number).ok_or_else(unknown)?;
        file.garbage_count = file.garbage_count.saturating_add(garbage.blob_count);
        file.garbage_bytes = file.garbage_bytes.saturating_add(garbage.blob_bytes);
    }
    for (level, number) in &edit.deleted_tables {
        if family.tables.remove(number).is_none_or(|table| table.level != *level) {
            return Err(corrupt(&format!("table {number} is removed from level {level}, where it is not")));
        }
    }
    for (level, meta) in &edit.new_tables {
        let table = LiveTable { level: *level, meta: meta.clone() };
        if family.tables.insert(meta.number, table).is_some() {
            return Err(corrupt(&format!("table {} is added twice", meta.number)));
        }
    }
    Ok(())
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, REPLAY, message)
}

#[cfg(test)]
mod tests;
