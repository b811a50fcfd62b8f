//! Copies of a database at one point, by hard links.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::rocksdb::checkpoint::Checkpoint;
use ::rocksdb::{ColumnFamily, DB, FlushOptions};

use super::error::from_rocksdb;
use crate::env::Clock;
use crate::error::{Error, ErrorKind, Result};

/// How long the two parts of a local checkpoint took. Nothing may be written meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointTimes {
    /// Writing out what was only in memory.
    pub flush: Duration,
    /// Writing a MANIFEST and hard-linking the files.
    pub link: Duration,
}

/// Makes copies of one database, on any thread. The database stays open as long as there is one of these.
pub struct LocalCheckpoints {
    db: Arc<DB>,
    /// The column families of its states.
    families: Vec<String>,
    folder: PathBuf,
}

impl LocalCheckpoints {
    pub(super) fn new(db: Arc<DB>, families: Vec<String>, folder: PathBuf) -> Self {
        Self { db, families, folder }
    }

    /// Makes a consistent, openable copy of the database in `target`, which must not exist: flushes all
    /// states at one sequence number, then links files.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target exists; what RocksDB fails with.
    pub fn create(&self, target: &Path, clock: &dyn Clock) -> Result<CheckpointTimes> {
        const OPERATION: &str = "make a local checkpoint";
        if target.exists() {
            return Err(Error::new(ErrorKind::AlreadyExists, OPERATION, "something is there already")
                .with_object(target.display()));
        }
        let begin = clock.monotonic();
        self.flush(OPERATION)?;
        let flushed = clock.monotonic();
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(target))
            .map_err(|error| from_rocksdb(OPERATION, target.display(), error))?;
        let linked = clock.monotonic();
        Ok(CheckpointTimes { flush: flushed.saturating_sub(begin), link: linked.saturating_sub(flushed) })
    }

    /// Flushes every column family at once; `DB::flush` would flush `default` alone.
    pub(super) fn flush(&self, operation: &'static str) -> Result<()> {
        let families: Vec<&ColumnFamily> = self.families.iter().filter_map(|name| self.db.cf_handle(name)).collect();
        if families.is_empty() {
            return Ok(());
        }
        self.db
            .flush_cfs_opt(&families, &FlushOptions::default())
            .map_err(|error| from_rocksdb(operation, self.folder.display(), error))
    }
}

impl fmt::Debug for LocalCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCheckpoints").field("folder", &self.folder).finish_non_exhaustive()
    }
}
