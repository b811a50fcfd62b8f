//! Keyed state in a RocksDB: one column family a named state, keys prefixed by their key group.
//!
//! Rows have the same keys and values as in memory, so a state moves from one backend to the other as it
//! is. Lists are appended to by a merge operator ([`APPEND_OPERATOR`]). A checkpoint is RocksDB's own:
//! flush all column families at one sequence number, then hard-link the files ([`LocalCheckpoint`]); what is
//! new among them, and where it goes, is the snapshot side's business.
//!
//! The database keeps no schema: `_metadata` does, and [`RocksDbBackend::open`] is given it. Opening
//! drops the rows of key groups that the subtask does not own, so that they neither show nor end up in
//! its next checkpoint. **Hazard**, for whoever merges databases: the range tombstones this leaves outrank
//! other sources' rows until compaction has removed them; never ingest foreign rows into a dropped range.

mod error;
mod local_checkpoint;
mod options;

use std::fmt;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::rocksdb::{
    ColumnFamily, DB, DBRawIteratorWithThreadMode, DEFAULT_COLUMN_FAMILY_NAME, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

pub use ::rocksdb::DBCompressionType;
pub use local_checkpoint::{CheckpointTimes, LocalCheckpoint};
pub use options::{APPEND_OPERATOR, RocksDbOptions};

use super::backend::{KeyedBackend, RowBounds, RowVisitor, StateId};
use super::layout::KeyLayout;
use super::limits::check_value;
use super::schema::Schemas;
use crate::env::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroupRange, MaxParallelism};
use crate::metadata::{Backend, StateSchema};
use error::from_rocksdb;
use local_checkpoint::WriteBudget;

const OPEN: &str = "open a state database";
/// How many rows one write removes at most.
const MAX_DELETE_BATCH_ROWS: usize = 1_000;

/// Keyed state in a RocksDB.
pub struct RocksDbBackend {
    /// Shared with those who make local checkpoints of it on other threads.
    db: Arc<DB>,
    folder: PathBuf,
    layout: KeyLayout,
    owned: KeyGroupRange,
    schemas: Schemas,
    options: RocksDbOptions,
    writes: WriteOptions,
    /// Of what is written while a local checkpoint is being made.
    budget: Arc<WriteBudget>,
}

impl RocksDbBackend {
    /// Makes a new database in `folder`, which must not hold one.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if it does; [`ErrorKind::InvalidInput`] if the range goes beyond the
    /// max parallelism; what RocksDB fails with.
    pub fn create(
        folder: &Path,
        max_parallelism: MaxParallelism,
        key_groups: KeyGroupRange,
        options: RocksDbOptions,
    ) -> Result<Self> {
        if folder.join("CURRENT").exists() {
            return Err(
                Error::new(ErrorKind::AlreadyExists, OPEN, "a database is there already").with_object(folder.display())
            );
        }
        fs::create_dir_all(folder).map_err(|error| Error::io(OPEN, folder.display(), error))?;
        Self::open_with(folder, max_parallelism, key_groups, &[], options, true)
    }

    /// Opens the database in `folder`, a restored checkpoint's say, and drops the rows of key groups
    /// that are not among `key_groups`. `states` is what the checkpoint's `_metadata` says.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::SchemaMismatch`] if it has a column family
    /// that `states` does not name; [`ErrorKind::InvalidInput`] if the range goes beyond the max
    /// parallelism; what RocksDB fails with.
    pub fn open(
        folder: &Path,
        max_parallelism: MaxParallelism,
        key_groups: KeyGroupRange,
        states: &[StateSchema],
        options: RocksDbOptions,
    ) -> Result<Self> {
        let present = DB::list_cf(&Options::default(), folder)
            .map_err(|error| from_rocksdb(OPEN, folder.display(), error))?
            .into_iter()
            .filter(|name| name != DEFAULT_COLUMN_FAMILY_NAME);
        for name in present {
            if !states.iter().any(|schema| schema.name == name) {
                let message = format!("it has a column family `{name}` that the checkpoint's schema does not name");
                return Err(Error::new(ErrorKind::SchemaMismatch, OPEN, message).with_object(folder.display()));
            }
        }
        let mut backend = Self::open_with(folder, max_parallelism, key_groups, states, options, false)?;
        backend.drop_foreign_key_groups()?;
        Ok(backend)
    }

    fn open_with(
        folder: &Path,
        max_parallelism: MaxParallelism,
        key_groups: KeyGroupRange,
        states: &[StateSchema],
        options: RocksDbOptions,
        create: bool,
    ) -> Result<Self> {
        max_parallelism.check_group(OPEN, key_groups.last())?;
        let mut schemas = Schemas::default();
        for schema in states {
            if schemas.find(schema)?.is_none() {
                schemas.add(schema)?;
            }
        }
        let mut of_database = options.of_database();
        of_database.create_if_missing(create);
        let families = schemas.iter().map(|schema| (schema.name.clone(), options.of_state()));
        let default = (DEFAULT_COLUMN_FAMILY_NAME.to_owned(), Options::default());
        let db = DB::open_cf_with_opts(&of_database, folder, families.chain([default]))
            .map_err(|error| from_rocksdb(OPEN, folder.display(), error))?;
        let mut writes = WriteOptions::default();
        writes.disable_wal(!options.write_ahead_log);
        let (folder, layout) = (folder.to_path_buf(), KeyLayout::new(max_parallelism));
        let budget = Arc::new(WriteBudget::new(options.write_buffer_bytes));
        Ok(Self { db: Arc::new(db), folder, layout, owned: key_groups, schemas, options, writes, budget })
    }

    /// The database. Rows may be read. Whoever writes answers for the key layout; and whoever does, flushes or compacts while a
    /// [`LocalCheckpoint`] is being made spoils that.
    pub fn db(&self) -> &DB {
        &self.db
    }

    /// The folder the database lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The state of that name, which is open.
    ///
    /// # Errors
    /// [`ErrorKind::SchemaMismatch`] if it is another kind of state, [`ErrorKind::NotFound`] if there is
    /// none of that name.
    pub fn find_state(&self, schema: &StateSchema) -> Result<StateId> {
        self.schemas
            .find(schema)?
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "find a state", "it is not open").with_object(&schema.name))
    }

    /// Writes out what is only in memory, so that the folder alone holds everything. Not while a
    /// [`LocalCheckpoint`] is being made, which would not be of its cut then.
    ///
    /// # Errors
    /// What RocksDB fails with.
    pub fn flush_all(&self) -> Result<()> {
        local_checkpoint::flush(&self.db, &self.families(), &self.folder, "flush a state database")
    }

    /// Makes a consistent, openable copy of the database: all of [`LocalCheckpoint`]. Blocks.
    ///
    /// # Errors
    /// As [`RocksDbBackend::begin_checkpoint`] and [`LocalCheckpoint::create`].
    pub fn create_checkpoint(&self, target: &Path, clock: &dyn Clock) -> Result<CheckpointTimes> {
        self.begin_checkpoint()?.create(target, clock)
    }

    /// Makes the cut for a copy of the database that is then made on another thread. What is written from now on is not in it.
    /// Without a write-ahead log, that is; with one nothing may be written before the copy is made: [`LocalCheckpoint::sequence`]
    /// tells. Mostly it takes microseconds; where RocksDB holds writers up anyway (two memtables that are not written out, 20 files at
    /// level 0), as long as that.
    ///
    /// Until it is made, or dropped, whoever writes half of [`RocksDbOptions::write_buffer_bytes`], or opens a state, waits
    /// for that: it must not be left to a thread that writes.
    ///
    /// # Errors
    /// [`ErrorKind::Temporary`] while another one is being made; what RocksDB fails with.
    pub fn begin_checkpoint(&self) -> Result<LocalCheckpoint> {
        let has_log = self.options.write_ahead_log;
        LocalCheckpoint::begin(self.db.clone(), self.families(), self.folder.clone(), has_log, &self.budget)
    }

    fn families(&self) -> Vec<String> {
        self.schemas.iter().map(|schema| schema.name.clone()).collect()
    }

    fn drop_foreign_key_groups(&mut self) -> Result<()> {
        const OPERATION: &str = "drop the key groups of other subtasks";
        let (start, end) = self.layout.bounds_of_groups(self.owned);
        for schema in self.schemas.iter() {
            let family = self.family_of(schema)?;
            let failed = |error| from_rocksdb(OPERATION, &schema.name, error);
            for bounds in [RowBounds { start: &[], end: Some(&start) }, RowBounds { start: &end, end: None }] {
                let Some((first, last)) = self.first_and_last(family, bounds)? else { continue };
                // Whole files go at once; the rest is covered by one tombstone, no wider than its rows.
                let beyond = [&last[..], &[0]].concat();
                self.db.delete_file_in_range_cf(family, &first, &beyond).map_err(failed)?;
                self.db.delete_range_cf_opt(family, &first, &beyond, &self.writes).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The keys of the first and the last row within `bounds`.
    fn first_and_last(&self, family: &ColumnFamily, bounds: RowBounds<'_>) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut rows = self.db.raw_iterator_cf_opt(family, read_options(bounds));
        rows.seek_to_first();
        let first = rows.key().map(<[u8]>::to_vec);
        rows.seek_to_last();
        let last = rows.key().map(<[u8]>::to_vec);
        rows.status().map_err(|error| from_rocksdb("find the rows to drop", self.folder.display(), error))?;
        Ok(first.zip(last))
    }

    fn family(&self, state: StateId) -> Result<(&StateSchema, &ColumnFamily)> {
        let schema = self.schemas.get(state)?;
        Ok((schema, self.family_of(schema)?))
    }

    fn family_of(&self, schema: &StateSchema) -> Result<&ColumnFamily> {
        self.db.cf_handle(&schema.name).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "find a state", "it has no column family").with_object(&schema.name)
        })
    }
}

impl KeyedBackend for RocksDbBackend {
    fn backend(&self) -> Backend {
        Backend::RocksDb
    }

    fn layout(&self) -> KeyLayout {
        self.layout
    }

    fn key_groups(&self) -> KeyGroupRange {
        self.owned
    }

    fn states(&self) -> Vec<StateSchema> {
        self.schemas.sorted()
    }

    fn open_state(&mut self, schema: &StateSchema) -> Result<StateId> {
        if let Some(known) = self.schemas.find(schema)? {
            return Ok(known);
        }
        self.schemas.check_room(schema)?;
        self.budget.wait();
        let db = Arc::get_mut(&mut self.db).ok_or_else(|| {
            Error::new(ErrorKind::Temporary, "make a state", "a checkpoint of its database is being made")
                .with_object(&schema.name)
                .with_advice("try again")
        })?;
        db.create_cf(&schema.name, &self.options.of_state())
            .map_err(|error| from_rocksdb("make a state", &schema.name, error))?;
        self.schemas.add(schema)
    }

    fn read(&self, state: StateId, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        const OPERATION: &str = "read a row";
        self.layout.check_owned(OPERATION, key, self.owned)?;
        let (schema, family) = self.family(state)?;
        let value = self.db.get_pinned_cf(family, key);
        match value.map_err(|error| from_rocksdb(OPERATION, &schema.name, error))? {
            Some(value) => visit(&value).map(|()| true),
            None => Ok(false),
        }
    }

    fn put(&mut self, state: StateId, key: &[u8], value: &[u8]) -> Result<()> {
        const OPERATION: &str = "put a row";
        self.layout.check_owned(OPERATION, key, self.owned)?;
        check_value(OPERATION, value.len())?;
        let (schema, family) = self.family(state)?;
        self.budget.spend(1, key.len().saturating_add(value.len()));
        let put = self.db.put_cf_opt(family, key, value, &self.writes);
        put.map_err(|error| from_rocksdb(OPERATION, &schema.name, error))
    }

    fn delete(&mut self, state: StateId, key: &[u8]) -> Result<()> {
        const OPERATION: &str = "delete a row";
        self.layout.check_owned(OPERATION, key, self.owned)?;
        let (schema, family) = self.family(state)?;
        self.budget.spend(1, key.len());
        let deletion = self.db.delete_cf_opt(family, key, &self.writes);
        deletion.map_err(|error| from_rocksdb(OPERATION, &schema.name, error))
    }

    fn append(&mut self, state: StateId, key: &[u8], suffix: &[u8]) -> Result<()> {
        const OPERATION: &str = "append to a row";
        self.layout.check_owned(OPERATION, key, self.owned)?;
        check_value(OPERATION, suffix.len())?;
        let (schema, family) = self.family(state)?;
        self.budget.spend(1, key.len().saturating_add(suffix.len()));
        let merge = self.db.merge_cf_opt(family, key, suffix, &self.writes);
        merge.map_err(|error| from_rocksdb(OPERATION, &schema.name, error))
    }

    fn scan(&self, state: StateId, bounds: RowBounds<'_>, visit: &mut RowVisitor<'_>) -> Result<()> {
        let (schema, family) = self.family(state)?;
        if is_empty(bounds) {
            return Ok(());
        }
        let rows = self.db.raw_iterator_cf_opt(family, read_options(bounds));
        for_each_row(rows, &schema.name, visit)
    }

    fn delete_rows(&mut self, state: StateId, bounds: RowBounds<'_>) -> Result<()> {
        const OPERATION: &str = "delete rows";
        let (schema, family) = self.family(state)?;
        if is_empty(bounds) {
            return Ok(());
        }
        // Row by row: a range tombstone for every cleared map would slow down all reads around it.
        let mut batch = WriteBatch::default();
        let write = |batch: WriteBatch| {
            self.budget.spend(batch.len(), batch.size_in_bytes());
            let written = self.db.write_opt(batch, &self.writes);
            written.map_err(|error| from_rocksdb(OPERATION, &schema.name, error))
        };
        let rows = self.db.raw_iterator_cf_opt(family, read_options(bounds));
        for_each_row(rows, &schema.name, &mut |key, _| {
            batch.delete_cf(family, key);
            if batch.len() >= MAX_DELETE_BATCH_ROWS {
                write(std::mem::take(&mut batch))?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        write(batch)
    }
}

impl fmt::Debug for RocksDbBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDbBackend")
            .field("folder", &self.folder)
            .field("owned", &self.owned)
            .finish_non_exhaustive()
    }
}

fn is_empty(bounds: RowBounds<'_>) -> bool {
    bounds.end.is_some_and(|end| end <= bounds.start)
}

fn read_options(bounds: RowBounds<'_>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(bounds.start);
    if let Some(end) = bounds.end {
        options.set_iterate_upper_bound(end);
    }
    options
}

fn for_each_row(mut rows: DBRawIteratorWithThreadMode<'_, DB>, state: &str, visit: &mut RowVisitor<'_>) -> Result<()> {
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        if visit(key, value)?.is_break() {
            return Ok(());
        }
        rows.next();
    }
    // An iterator also ends at an error, which must not be taken for the end of the rows.
    rows.status().map_err(|error| from_rocksdb("scan rows", state, error))
}
