//! RocksDB's folders, read and written without RocksDB.
//!
//! A database folder is a set of immutable tables and blob files, write-ahead logs, and a MANIFEST: a
//! log of edits whose sum says which tables make the database. This module reads the MANIFEST and lists
//! what a consistent copy consists of ([`RocksFolder`]), and writes MANIFESTs for a chosen set of tables
//! ([`FolderVersion::build_manifest`]). It needs no lock, comparator or merge operator and links nothing,
//! so `icecore snapshot` works on any program's database, and a command without the `rocksdb` feature
//! can tell levels, key ranges and sequence numbers.
//!
//! It assumes formats that RocksDB calls internal. Therefore everything not known is refused, tags by
//! number, and tests compare every reading with RocksDB itself. `docs/rocksdb-formats.md` says which
//! versions were tested and what is refused.
//!
//! Bytes of a folder are hostile (I8): no length is believed before it is checked, no symbolic link is
//! followed, and no name leads out of the folder.

mod build;
mod coding;
pub mod edit;
mod folder;
pub mod log;
mod names;
mod options;
pub mod table;
mod version;

pub use build::{BYTEWISE_COMPARATOR, BuiltManifest, ONE_TABLE_NUMBER};
pub use folder::{FolderFile, MAX_NAME_FILE_BYTES, MAX_OPTIONS_BYTES, MAX_READ_ATTEMPTS, ReadOptions, RocksFolder};
pub use names::{blob_name, manifest_name, table_name, wal_name};
pub use version::{ColumnFamily, DEFAULT_COLUMN_FAMILY, FolderVersion, LiveBlobFile, LiveTable, ReplayedManifest};
