//! One record of a MANIFEST: a `VersionEdit`, what it adds to and takes from the version before it.
//!
//! Tags are those of RocksDB up to 11.8 (`db/version_edit.h`). A tag that is not known is passed over
//! if RocksDB says that it may be (bit 13 of an edit's tag, no bit 6 of a table's field), and is
//! refused as unsupported if not: reading on would give another state than the database has. What is
//! passed over is not written again, for nobody knows what it would promise there.
//!
//! Memory: every byte of a record is copied at most once, so an edit is never larger than a small
//! multiple of its record, whose length [`super::log::MAX_RECORD_BYTES`] bounds.

mod decode;
mod encode;

use std::fmt;

/// Levels are numbered below this; RocksDB's default is 7 levels.
pub const MAX_LEVELS: u32 = 1024;
/// Path ids have two bits.
pub const MAX_PATH_ID: u32 = 3;
/// The greatest sequence number: 56 bits.
pub const MAX_SEQUENCE: u64 = (1 << 56) - 1;
/// File numbers have 62 bits; the other two hold a path id.
pub const MAX_FILE_NUMBER: u64 = (1 << 62) - 1;

/// A key as tables sort it: the user's key, then sequence number and value type in eight bytes. Among
/// equal user keys the greater sequence number sorts first.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct InternalKey(Vec<u8>);

/// Value types of an internal key that this crate itself writes (`db/dbformat.h`).
const TYPE_DELETION: u8 = 0;
const TYPE_RANGE_DELETION: u8 = 0xf;
const TRAILER_BYTES: usize = 8;

impl InternalKey {
    /// Takes the stored form; `None` if it is too short to hold a sequence number.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() >= TRAILER_BYTES).then(|| Self(bytes.to_vec()))
    }

    /// A key that sorts before, or with, every entry of `user_key` up to `sequence`: a table's smallest.
    pub fn lowest(user_key: &[u8], sequence: u64) -> Self {
        Self::pack(user_key, sequence, TYPE_RANGE_DELETION)
    }

    /// A key that sorts after, or with, every entry of `user_key` from `sequence` on: a table's largest.
    pub fn highest(user_key: &[u8], sequence: u64) -> Self {
        Self::pack(user_key, sequence, TYPE_DELETION)
    }

    fn pack(user_key: &[u8], sequence: u64, kind: u8) -> Self {
        let mut bytes = user_key.to_vec();
        bytes.extend_from_slice(&(sequence.min(MAX_SEQUENCE) << 8 | u64::from(kind)).to_le_bytes());
        Self(bytes)
    }

    /// The user's key. With user-defined timestamps, the timestamp is its end.
    pub fn user_key(&self) -> &[u8] {
        self.0.get(..self.0.len().saturating_sub(TRAILER_BYTES)).unwrap_or_default()
    }

    /// The sequence number.
    pub fn sequence(&self) -> u64 {
        self.trailer() >> 8
    }

    /// The value type, RocksDB's `ValueType`.
    pub fn value_type(&self) -> u8 {
        (self.trailer() & 0xff) as u8
    }

    /// Whether this is the exclusive end of a range tombstone: no entry with this user key need exist.
    pub fn is_range_tombstone_end(&self) -> bool {
        self.sequence() == MAX_SEQUENCE && self.value_type() == TYPE_RANGE_DELETION
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn trailer(&self) -> u64 {
        self.0.last_chunk().copied().map(u64::from_le_bytes).unwrap_or_default()
    }
}

impl fmt::Debug for InternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user_key().escape_ascii(), self.sequence(), self.value_type())
    }
}

/// A table (SST) as an edit adds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMeta {
    /// Its number, which names its file.
    pub number: u64,
    /// Which of the column family's `cf_paths` (or the database's `db_paths`) it lies in; 0 is the first.
    pub path_id: u32,
    /// Length of the file.
    pub size_bytes: u64,
    /// Smallest key it serves.
    pub smallest: InternalKey,
    /// Largest key it serves; see [`InternalKey::is_range_tombstone_end`].
    pub largest: InternalKey,
    /// Smallest sequence number in it. 0 where an old MANIFEST does not tell.
    pub smallest_sequence: u64,
    /// Largest sequence number in it. [`MAX_SEQUENCE`] where an old MANIFEST does not tell.
    pub largest_sequence: u64,
    /// RocksDB's internal unique id of the file, never the null one (`table/unique_id_impl.h`).
    pub unique_id: Option<[u64; 2]>,
    /// Orders tables of level 0; absent from MANIFESTs of older RocksDB (7.8.3 among them), never 0.
    pub epoch_number: Option<u64>,
    /// The oldest blob file that it points into; never 0.
    pub oldest_blob_file: Option<u64>,
    /// The other fields, as they are stored: checksum, creation times, temperature and so on. Sorted as
    /// in the MANIFEST; only known tags, each checked.
    pub other_fields: Vec<(u32, Vec<u8>)>,
}

impl TableMeta {
    /// The least that describes a table.
    pub fn new(number: u64, size_bytes: u64, smallest: InternalKey, largest: InternalKey, sequences: [u64; 2]) -> Self {
        Self {
            number,
            path_id: 0,
            size_bytes,
            smallest,
            largest,
            smallest_sequence: sequences[0],
            largest_sequence: sequences[1],
            unique_id: None,
            epoch_number: None,
            oldest_blob_file: None,
            other_fields: Vec::new(),
        }
    }
}

/// A blob file as an edit adds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobFileMeta {
    /// Its number, which names its file.
    pub number: u64,
    /// How many values it holds.
    pub blob_count: u64,
    /// Length of its records in bytes, without the file's header and footer.
    pub blob_bytes: u64,
    /// How the checksum was made; empty if there is none.
    pub checksum_method: Vec<u8>,
    /// The checksum.
    pub checksum: Vec<u8>,
}

/// What of a blob file has become garbage, in addition to what was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobGarbage {
    /// The blob file.
    pub number: u64,
    /// How many values.
    pub blob_count: u64,
    /// Their length in bytes.
    pub blob_bytes: u64,
}

/// A write-ahead log that the MANIFEST keeps track of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalAddition {
    /// Its number.
    pub number: u64,
    /// How many of its bytes are known to be synced; absent when it was merely created.
    pub synced_bytes: Option<u64>,
}

/// One edit. Every field is absent or empty unless the record had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// The database's id, as in IDENTITY.
    pub db_id: Option<String>,
    /// Name of the column family's comparator.
    pub comparator: Option<String>,
    /// Whether user-defined timestamps are stored with the keys.
    pub persist_timestamps: Option<bool>,
    /// Logs before this one hold nothing of the column family that is not in tables.
    pub log_number: Option<u64>,
    /// A second log, of databases older than RocksDB.
    pub prev_log_number: Option<u64>,
    /// All file numbers in use are smaller.
    pub next_file_number: Option<u64>,
    /// The greatest column family id ever used.
    pub max_column_family: Option<u32>,
    /// Logs before this one are needed by nobody.
    pub min_log_number_to_keep: Option<u64>,
    /// The last sequence number in tables, or a later one.
    pub last_sequence: Option<u64>,
    /// Where the next compaction of a level begins.
    pub compact_cursors: Vec<(u32, InternalKey)>,
    /// Level and number of tables that are gone.
    pub deleted_tables: Vec<(u32, u64)>,
    /// Level and description of tables that are new.
    pub new_tables: Vec<(u32, TableMeta)>,
    /// Blob files that are new.
    pub new_blob_files: Vec<BlobFileMeta>,
    /// What became garbage in blob files.
    pub blob_garbage: Vec<BlobGarbage>,
    /// Logs created or synced.
    pub wal_additions: Vec<WalAddition>,
    /// Logs before this one are deleted.
    pub wal_deletion: Option<u64>,
    /// The column family that the edit is about; 0 is `default`.
    pub column_family: u32,
    /// The edit creates the column family, under this name.
    pub column_family_add: Option<String>,
    /// The edit drops the column family.
    pub column_family_drop: bool,
    /// The edit belongs to a group that holds as a whole or not at all; so many follow.
    pub atomic_group_remaining: Option<u32>,
    /// Timestamps below this may have been collected.
    pub full_history_ts_low: Option<Vec<u8>>,
}

/// Tags of an edit.
mod tag {
    pub(super) const COMPARATOR: u32 = 1;
    pub(super) const LOG_NUMBER: u32 = 2;
    pub(super) const NEXT_FILE_NUMBER: u32 = 3;
    pub(super) const LAST_SEQUENCE: u32 = 4;
    pub(super) const COMPACT_CURSOR: u32 = 5;
    pub(super) const DELETED_FILE: u32 = 6;
    pub(super) const NEW_FILE: u32 = 7;
    pub(super) const PREV_LOG_NUMBER: u32 = 9;
    pub(super) const MIN_LOG_NUMBER_TO_KEEP: u32 = 10;
    pub(super) const NEW_FILE2: u32 = 100;
    pub(super) const NEW_FILE3: u32 = 102;
    pub(super) const NEW_FILE4: u32 = 103;
    pub(super) const COLUMN_FAMILY: u32 = 200;
    pub(super) const COLUMN_FAMILY_ADD: u32 = 201;
    pub(super) const COLUMN_FAMILY_DROP: u32 = 202;
    pub(super) const MAX_COLUMN_FAMILY: u32 = 203;
    pub(super) const IN_ATOMIC_GROUP: u32 = 300;
    pub(super) const BLOB_FILE_ADDITION: u32 = 400;
    pub(super) const BLOB_FILE_GARBAGE: u32 = 401;
    pub(super) const SAFE_IGNORE_MASK: u32 = 1 << 13;
    pub(super) const DB_ID: u32 = 8193;
    pub(super) const BLOB_FILE_ADDITION_OLD: u32 = 8194;
    pub(super) const BLOB_FILE_GARBAGE_OLD: u32 = 8195;
    pub(super) const WAL_ADDITION: u32 = 8196;
    pub(super) const WAL_DELETION: u32 = 8197;
    pub(super) const FULL_HISTORY_TS_LOW: u32 = 8198;
    pub(super) const WAL_ADDITION2: u32 = 8199;
    pub(super) const WAL_DELETION2: u32 = 8200;
    pub(super) const PERSIST_TIMESTAMPS: u32 = 8201;
}

/// Tags of a table's fields (`NewFileCustomTag`).
mod field {
    pub(super) const TERMINATE: u32 = 1;
    pub(super) const NEED_COMPACTION: u32 = 2;
    pub(super) const MIN_LOG_NUMBER_TO_KEEP: u32 = 3;
    pub(super) const OLDEST_BLOB_FILE: u32 = 4;
    pub(super) const OLDEST_ANCESTOR_TIME: u32 = 5;
    pub(super) const FILE_CREATION_TIME: u32 = 6;
    pub(super) const FILE_CHECKSUM: u32 = 7;
    pub(super) const FILE_CHECKSUM_NAME: u32 = 8;
    pub(super) const TEMPERATURE: u32 = 9;
    pub(super) const MIN_TIMESTAMP: u32 = 10;
    pub(super) const MAX_TIMESTAMP: u32 = 11;
    pub(super) const UNIQUE_ID: u32 = 12;
    pub(super) const EPOCH_NUMBER: u32 = 13;
    pub(super) const COMPENSATED_RANGE_DELETION_SIZE: u32 = 14;
    pub(super) const TAIL_SIZE: u32 = 15;
    pub(super) const TIMESTAMPS_PERSISTED: u32 = 16;
    pub(super) const FILE_OPEN_METADATA: u32 = 17;
    pub(super) const PATH_ID: u32 = 65;
    /// A field with this bit must be understood.
    pub(super) const MUST_UNDERSTAND_BIT: u32 = 1 << 6;
}

/// Tags inside a tracked log's record.
mod wal {
    pub(super) const TERMINATE: u32 = 1;
    pub(super) const SYNCED_SIZE: u32 = 2;
}

/// Tags inside a blob file's record.
mod blob {
    pub(super) const END: u32 = 0;
    /// A field with this bit must be understood.
    pub(super) const MUST_UNDERSTAND_BIT: u32 = 1 << 6;
}

#[cfg(test)]
mod tests;
