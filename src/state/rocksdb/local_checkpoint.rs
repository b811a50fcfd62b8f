//! Copies of a database at one point, by hard links.
//!
//! Without a write-ahead log the point is where [`LocalCheckpoint::begin`] is called: RocksDB sets the memtables of all
//! states aside there, and writes go on into new ones while those are written out. What the copy consists of are the files
//! of the database once that is done, so the new ones must not be written out before: see [`WriteBudget`]. Nor may anybody
//! else have them written out, or what they were compacted.
//!
//! With a log, RocksDB's copies have a part of that, too, so the point is where the copy is made, and nothing may be
//! written meanwhile.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ::rocksdb::checkpoint::Checkpoint;
use ::rocksdb::{ColumnFamily, DB, DEFAULT_COLUMN_FAMILY_NAME, FlushOptions};
use parking_lot::{Condvar, Mutex};

use super::error::from_rocksdb;
use crate::env::Clock;
use crate::error::{Error, ErrorKind, Result};

const OPERATION: &str = "make a local checkpoint";
/// How often it is looked whether memtables have been written out: RocksDB tells nobody.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often it is looked at most: for a minute. A worker that is held up for longer is taken for one that stands still.
const MAX_LOOKS: u32 = 60_000;
/// What RocksDB needs for a row in a memtable besides key and value, in bytes, rather too much than too little.
const ROW_OVERHEAD_BYTES: usize = 64;
/// How many memtables were set aside and are not written out.
const SET_ASIDE: &str = "rocksdb.num-immutable-mem-table";
/// How often the database could not be written to in the background.
const BACKGROUND_ERRORS: &str = "rocksdb.background-errors";
/// RocksDB takes no larger ones.
const MAX_WRITE_BUFFER_BYTES: u64 = 64 << 30;
/// RocksDB leaves the log alone, and flushes nothing.
const NO_FLUSH: u64 = u64::MAX;

/// How long the two parts of a local checkpoint took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointTimes {
    /// Writing out what was only in memory.
    pub flush: Duration,
    /// Writing a MANIFEST and hard-linking the files.
    pub link: Duration,
}

/// A copy of a database that is to be made, on any thread. The database stays open as long as there is one of these.
pub struct LocalCheckpoint {
    db: Arc<DB>,
    /// The column families of its states, and `default`, should anybody have written to that.
    families: Vec<String>,
    folder: PathBuf,
    /// [`BACKGROUND_ERRORS`] before the cut.
    errors: u64,
    /// Of the last write that is in it. `None`: the point is where the copy is made.
    sequence: Option<u64>,
    _budget: BudgetInForce,
}

impl LocalCheckpoint {
    /// Makes the cut, if it can be made before the copy.
    pub(super) fn begin(
        db: Arc<DB>,
        mut families: Vec<String>,
        folder: PathBuf,
        has_log: bool,
        budget: &Arc<WriteBudget>,
    ) -> Result<Self> {
        let budget = budget.put_in_force().ok_or_else(|| {
            Error::new(ErrorKind::Temporary, OPERATION, "another one of the same database is being made")
                .with_object(folder.display())
                .with_advice("make it when that is done")
        })?;
        families.push(DEFAULT_COLUMN_FAMILY_NAME.to_owned());
        let mut checkpoint = Self { db, families, folder, errors: 0, sequence: None, _budget: budget };
        if !has_log {
            checkpoint.errors = checkpoint.count_errors()?;
            checkpoint.set_aside()?;
            checkpoint.sequence = Some(checkpoint.db.latest_sequence_number());
        }
        Ok(checkpoint)
    }

    /// The number of the last write that is in the copy. No table in it has a greater one, and no log anything: if one does,
    /// somebody had the database written out, and the copy is not of the cut. `None`: nothing may be written before it is made.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// Makes a consistent, openable copy of the database in `target`, which must not exist. Blocks. Nobody may have had the database
    /// written out or compacted since the cut.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the target exists; [`ErrorKind::Temporary`] if RocksDB cannot write the memtables out
    /// or does not come to it; what RocksDB fails with.
    pub fn create(self, target: &Path, clock: &dyn Clock) -> Result<CheckpointTimes> {
        if target.exists() {
            return Err(Error::new(ErrorKind::AlreadyExists, OPERATION, "something is there already")
                .with_object(target.display()));
        }
        let begin = clock.monotonic();
        let log_size_for_flush = match self.sequence {
            Some(_) => {
                self.wait_for_flush()?;
                NO_FLUSH
            }
            None => {
                flush(&self.db, &self.families, &self.folder, OPERATION)?;
                0
            }
        };
        let flushed = clock.monotonic();
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint_with_log_size(target, log_size_for_flush))
            .map_err(|error| from_rocksdb(OPERATION, target.display(), error))?;
        let linked = clock.monotonic();
        Ok(CheckpointTimes { flush: flushed.saturating_sub(begin), link: linked.saturating_sub(flushed) })
    }

    /// Has RocksDB set the memtables of all states aside, at once, and write them out in the background.
    fn set_aside(&self) -> Result<()> {
        let families = families_of(&self.db, &self.families, &self.folder)?;
        let mut options = FlushOptions::default();
        options.set_wait(false);
        match self.db.flush_cfs_opt(&families, &options) {
            // It has stopped writers, so nothing can come in between.
            Err(error) if error.kind() == ::rocksdb::ErrorKind::TryAgain => {
                flush(&self.db, &self.families, &self.folder, OPERATION)
            }
            outcome => outcome.map_err(|error| from_rocksdb(OPERATION, self.folder.display(), error)),
        }
    }

    /// Waits until no memtable that was set aside is left.
    fn wait_for_flush(&self) -> Result<()> {
        let fail = |message| {
            Err(Error::new(ErrorKind::Temporary, OPERATION, message)
                .with_object(self.folder.display())
                .with_advice("its file LOG says why"))
        };
        for _ in 0..MAX_LOOKS {
            let is_written_out = self.count_set_aside()? == 0;
            // Also if it is: RocksDB may have tried again by itself, and with newer memtables.
            if self.count_errors()? > self.errors {
                return fail("RocksDB could not write its memtables out");
            }
            if is_written_out {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        fail("RocksDB does not come to writing its memtables out")
    }

    fn count_set_aside(&self) -> Result<u64> {
        let families = families_of(&self.db, &self.families, &self.folder)?;
        let counts = families.into_iter().map(|family| self.db.property_int_value_cf(family, SET_ASIDE));
        counts.map(|count| self.known(count, SET_ASIDE)).sum()
    }

    /// RocksDB keeps that number with `default`, whichever column family it was about.
    fn count_errors(&self) -> Result<u64> {
        self.known(self.db.property_int_value(BACKGROUND_ERRORS), BACKGROUND_ERRORS)
    }

    fn known(&self, count: std::result::Result<Option<u64>, ::rocksdb::Error>, property: &str) -> Result<u64> {
        let count = count.map_err(|error| from_rocksdb(OPERATION, self.folder.display(), error))?;
        count.ok_or_else(|| Error::new(ErrorKind::Internal, OPERATION, format!("RocksDB does not know {property}")))
    }
}

impl fmt::Debug for LocalCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCheckpoint")
            .field("folder", &self.folder)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

fn families_of<'a>(db: &'a DB, names: &[String], folder: &Path) -> Result<Vec<&'a ColumnFamily>> {
    let missing = |name| {
        let message = format!("it has no column family `{name}`");
        Error::new(ErrorKind::Internal, OPERATION, message).with_object(folder.display())
    };
    names.iter().map(|name| db.cf_handle(name).ok_or_else(|| missing(name))).collect()
}

/// Writes out all these column families at once, and waits for it; `DB::flush` would flush `default` alone.
pub(super) fn flush(db: &DB, families: &[String], folder: &Path, operation: &'static str) -> Result<()> {
    let families = families_of(db, families, folder)?;
    if families.is_empty() {
        return Ok(());
    }
    db.flush_cfs_opt(&families, &FlushOptions::default())
        .map_err(|error| from_rocksdb(operation, folder.display(), error))
}

/// How much may be written between the cut of a [`LocalCheckpoint`] and its copy, to all states together: half of what would
/// have RocksDB write the memtable of one of them out. Whoever wants to write more waits. There is one a database.
#[derive(Debug)]
pub(super) struct WriteBudget {
    max_bytes: u64,
    is_in_force: AtomicBool,
    spent_bytes: AtomicU64,
    /// Held by those who wait, and by who ends their waiting.
    waiting: Mutex<()>,
    is_over: Condvar,
}

impl WriteBudget {
    pub(super) fn new(write_buffer_bytes: usize) -> Self {
        Self {
            max_bytes: (write_buffer_bytes as u64).min(MAX_WRITE_BUFFER_BYTES) / 2,
            is_in_force: false.into(),
            spent_bytes: 0.into(),
            waiting: Mutex::default(),
            is_over: Condvar::new(),
        }
    }

    /// `None` if it is in force.
    fn put_in_force(self: &Arc<Self>) -> Option<BudgetInForce> {
        // The writer is the one who calls this, or is held by them.
        let was_in_force = self.is_in_force.swap(true, Ordering::AcqRel);
        if was_in_force {
            return None;
        }
        self.spent_bytes.store(0, Ordering::Relaxed);
        Some(BudgetInForce(self.clone()))
    }

    /// So many rows of so many bytes are about to be written.
    pub(super) fn spend(&self, rows: usize, bytes: usize) {
        if !self.is_in_force.load(Ordering::Acquire) {
            return;
        }
        let cost_bytes = rows.saturating_mul(ROW_OVERHEAD_BYTES).saturating_add(bytes) as u64;
        let spent_bytes = self.spent_bytes.fetch_add(cost_bytes, Ordering::Relaxed).saturating_add(cost_bytes);
        if spent_bytes > self.max_bytes {
            self.wait();
        }
    }

    /// Waits until it is not in force.
    pub(super) fn wait(&self) {
        let mut waiting = self.waiting.lock();
        while self.is_in_force.load(Ordering::Acquire) {
            self.is_over.wait(&mut waiting);
        }
    }
}

/// A budget is in force for as long as there is this.
struct BudgetInForce(Arc<WriteBudget>);

impl Drop for BudgetInForce {
    fn drop(&mut self) {
        let _waiting = self.0.waiting.lock();
        self.0.is_in_force.store(false, Ordering::Release);
        self.0.is_over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_budget_waits_for_the_end_of_the_checkpoint_and_nothing_else_does() {
        let budget = Arc::new(WriteBudget::new(1_000));
        budget.spend(100, 1_000);
        let in_force = budget.put_in_force().unwrap();
        assert!(budget.put_in_force().is_none(), "there is one at a time");
        budget.spend(4, 500 - 4 * ROW_OVERHEAD_BYTES);
        let writer = std::thread::spawn({
            let budget = budget.clone();
            move || budget.spend(1, 0)
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!writer.is_finished());
        drop(in_force);
        writer.join().unwrap();
        budget.spend(100, 1_000);
        let _again = budget.put_in_force().unwrap();
        budget.spend(1, 100);
    }
}
