//! placeholder
mod build;
mod coding;
pub mod edit;
pub mod log;
mod names;
mod version;
pub use build::{BYTEWISE_COMPARATOR, BuiltManifest};
pub use names::{blob_name, manifest_name, table_name, wal_name};
pub use version::{ColumnFamily, DEFAULT_COLUMN_FAMILY, FolderVersion, LiveBlobFile, LiveTable, ReplayedManifest};
