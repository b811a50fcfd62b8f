//! Keyed state in RocksDB, with its checkpoints.

mod database;
mod restore;
pub(super) mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use database::{Cut, freeze_database};

use super::folder::local_file;
use super::{Freeze, checkpointed_task, full};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroupRange, MaxParallelism};
use crate::layout::{CheckpointId, FileKind, Uid};
use crate::metadata::{Backend, CheckpointKind, StateSchema, TableInfo};
use crate::restore::{Checkpoint, FetchOptions, RestorePlan};
use crate::rocksfolder::{FolderFile, ReadOptions, RocksFolder};
use crate::snapshot::{Hold, LocalFile, LocalSnapshot, Prepare, Snapshotter, Trigger};
use crate::state::rocksdb::{LocalCheckpoint, RocksDbBackend, RocksDbOptions};
use crate::state::{KeyLayout, KeyedBackend, delegate_keyed_backend};

/// A subtask that keeps its state in RocksDB. It is a [`KeyedBackend`] itself: typed state is read and
/// written through a [`crate::state::typed::KeyContext`] over it.
#[derive(Debug)]
pub struct RocksDbTask {
    backend: RocksDbBackend,
    snapshotter: Arc<Snapshotter>,
    env: Env,
}

impl RocksDbTask {
    /// A task with empty state, its database in `folder`.
    ///
    /// # Errors
    /// As [`RocksDbBackend::create`].
    pub fn new(
        folder: &Path,
        max_parallelism: MaxParallelism,
        key_groups: KeyGroupRange,
        options: RocksDbOptions,
        snapshotter: Arc<Snapshotter>,
        env: Env,
    ) -> Result<Self> {
        let backend = RocksDbBackend::create(folder, max_parallelism, key_groups, options)?;
        Ok(Self { backend, snapshotter, env })
    }

    /// Restores a subtask into `folder`, which must not exist or be empty, from a checkpoint that a
    /// RocksDB backend wrote at this or another parallelism, or from a full checkpoint or savepoint of
    /// either backend. Only files that overlap the subtask's key groups are fetched.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] naming what is damaged; [`crate::ErrorKind::AlreadyExists`] if the
    /// folder has content; [`crate::ErrorKind::Unsupported`] for an incremental checkpoint of another
    /// backend. The folder is not there then.
    pub async fn restore(
        plan: &RestorePlan,
        checkpoint: &Checkpoint,
        folder: &Path,
        options: RocksDbOptions,
        snapshotter: Arc<Snapshotter>,
        env: Env,
        fetch: &FetchOptions,
    ) -> Result<Self> {
        let backend = restore::restore(plan, checkpoint, folder, options, &snapshotter, &env, fetch).await?;
        Ok(Self { backend, snapshotter, env })
    }

    /// The state.
    pub fn backend(&mut self) -> &mut RocksDbBackend {
        &mut self.backend
    }

    /// The uploader: `task.snapshotter().upload(&trigger, frozen)` is the asynchronous part.
    pub fn snapshotter(&self) -> &Arc<Snapshotter> {
        &self.snapshotter
    }

    /// The synchronous part of a checkpoint: flushes and links files into a folder beside the
    /// database, which goes when the returned value is dropped. Blocks.
    ///
    /// # Errors
    /// As [`RocksDbBackend::create_checkpoint`].
    pub fn freeze(&mut self, trigger: &Trigger) -> Result<LocalSnapshot> {
        self.begin(trigger)?.finish(false)
    }

    /// Makes the cut, as [`RocksDbBackend::begin_checkpoint`] does.
    fn begin(&self, trigger: &Trigger) -> Result<Freezing> {
        let began = self.env.clock.monotonic();
        let copy = self.backend.begin_checkpoint()?;
        Ok(Freezing {
            copy,
            cut_in: self.env.clock.monotonic().saturating_sub(began),
            linked: LinkedFolder::beside(self.backend.folder(), trigger.checkpoint, &self.env)?,
            layout: self.backend.layout(),
            range: self.backend.key_groups(),
            states: self.backend.states(),
            is_incremental: trigger.kind == CheckpointKind::Incremental,
            snapshotter: self.snapshotter.clone(),
            env: self.env.clone(),
        })
    }

    /// Hears that a checkpoint is complete.
    pub fn notify_complete(&mut self, checkpoint: CheckpointId) {
        self.snapshotter.notify_complete(checkpoint);
    }

    /// Hears that a checkpoint was given up.
    pub fn notify_aborted(&mut self, checkpoint: CheckpointId) {
        self.snapshotter.notify_aborted(checkpoint);
    }
}

checkpointed_task!(RocksDbTask {
    fn begin_freeze(&mut self, trigger: &Trigger) -> Result<Freeze> {
        let freezing = self.begin(trigger)?;
        let is_cut = freezing.copy.sequence().is_some();
        Ok(Freeze::Elsewhere { rest: Box::new(move || freezing.finish(is_cut)), is_cut })
    }
});

/// A freeze that was begun.
struct Freezing {
    copy: LocalCheckpoint,
    /// How long the cut took.
    cut_in: Duration,
    linked: LinkedFolder,
    layout: KeyLayout,
    range: KeyGroupRange,
    states: Vec<StateSchema>,
    is_incremental: bool,
    snapshotter: Arc<Snapshotter>,
    env: Env,
}

impl Freezing {
    /// The rest of it, beside the subtask's work or not.
    fn finish(self, is_beside: bool) -> Result<LocalSnapshot> {
        let Self { copy, cut_in, linked, layout, range, states, is_incremental, snapshotter, env } = self;
        let sequence = copy.sequence();
        let times = copy.create(&linked.path, &*env.clock)?;
        let linked = Arc::new(linked);
        let mut hold = Hold::new(linked.clone());
        let prepare = if is_incremental {
            let linked = linked.clone();
            Prepare::new(move || read_linked(&linked.path, sequence, layout, range, &snapshotter))
        } else {
            let states = states.clone();
            let tables = Arc::new(tables::table_folder(linked.path.parent().unwrap_or(Path::new(".")))?);
            hold = Hold::new((linked.clone(), tables.clone()));
            Prepare::new(move || prepare_full(&linked.path, sequence, tables.path(), layout, range, &states))
        };
        let rest = times.flush + times.link;
        let (held_up, beside) = if is_beside { (cut_in, rest) } else { (cut_in + rest, Duration::ZERO) };
        let microseconds = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Ok(LocalSnapshot {
            backend: Backend::RocksDb,
            key_groups: Some(range),
            states,
            files: Vec::new(),
            prepare: Some(prepare),
            sync_us: microseconds(held_up),
            beside_us: microseconds(beside),
            hold: Some(hold),
        })
    }
}

impl KeyedBackend for RocksDbTask {
    delegate_keyed_backend!(self => self.backend);
}

/// A folder of hard links beside a database, removed when dropped.
#[derive(Debug)]
pub(super) struct LinkedFolder {
    pub(super) path: PathBuf,
}

impl LinkedFolder {
    /// Names, and does not make, a folder beside `folder`: beside the real one, if that is a link. On
    /// another file system RocksDB would copy the whole database instead of linking it.
    pub(super) fn beside(folder: &Path, checkpoint: CheckpointId, env: &Env) -> Result<Self> {
        let folder =
            fs::canonicalize(folder).map_err(|error| Error::io("make a local checkpoint", folder.display(), error))?;
        let name = folder.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
            Error::invalid("make a local checkpoint", "the database's folder has no usable name")
                .with_object(folder.display())
        })?;
        let uid = Uid::random(&*env.randomness);
        Ok(Self { path: folder.with_file_name(format!(".{name}.cp-{checkpoint}-{uid}")) })
    }
}

impl Drop for LinkedFolder {
    fn drop(&mut self) {
        match fs::remove_dir_all(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(folder = %self.path.display(), %error, "could not remove a local checkpoint"),
        }
    }
}

/// The files of a local checkpoint of our own backend.
fn read_linked(
    path: &Path,
    sequence: Option<u64>,
    layout: KeyLayout,
    range: KeyGroupRange,
    snapshotter: &Snapshotter,
) -> Result<Vec<LocalFile>> {
    let is_known = |identity: &_| snapshotter.knows(identity);
    let read = ReadOptions { is_known: Some(&is_known), logs_are_in_folder: true };
    let folder = RocksFolder::read_with(path, read)?;
    check_cut(&folder, sequence)?;
    folder
        .files()
        .iter()
        .map(|file| {
            let mut local = local_file(file, path.join(&file.name))?;
            local.key_groups = file.table.as_ref().and_then(|table| groups_of(table, layout)?.intersection(range));
            Ok(local)
        })
        .collect()
}

/// Nothing that was written after the cut may be in it, as when somebody had the database written out meanwhile. What was
/// compacted after that does not tell any more.
fn check_cut(folder: &RocksFolder, sequence: Option<u64>) -> Result<()> {
    let Some(sequence) = sequence else { return Ok(()) };
    let is_later = |table: &TableInfo| table.largest_sequence > sequence;
    let is_log = |file: &&FolderFile| file.kind == FileKind::Wal && file.size_bytes > 0;
    let mut files = folder.files().iter();
    match files.find(|file| is_log(file) || file.table.as_ref().is_some_and(is_later)) {
        None => Ok(()),
        Some(file) => {
            Err(Error::new(ErrorKind::Temporary, "make a local checkpoint", "it has writes from after its cut")
                .with_object(&file.name)
                .with_advice(
                    "do not write to the database itself, flush or compact it while a checkpoint is being made; the next one may succeed",
                ))
        }
    }
}

/// The key groups that a table's bounds span; `None` if they do not tell, and the table is always
/// fetched.
fn groups_of(table: &TableInfo, layout: KeyLayout) -> Option<KeyGroupRange> {
    let first = layout.key_group_of_row(&table.smallest_key).ok()?;
    let last = layout.key_group_of_row(&table.largest_key).ok()?;
    KeyGroupRange::new(first, last)
}

fn prepare_full(
    path: &Path,
    sequence: Option<u64>,
    tables: &Path,
    layout: KeyLayout,
    range: KeyGroupRange,
    states: &[StateSchema],
) -> Result<Vec<LocalFile>> {
    let read = ReadOptions { is_known: None, logs_are_in_folder: true };
    check_cut(&RocksFolder::read_with(path, read)?, sequence)?;
    let max_parallelism = layout.max_parallelism();
    let frozen = RocksDbBackend::open(path, max_parallelism, range, states, RocksDbOptions::default())?;
    tables::prepare(&frozen, range, tables)
}

/// Visits the rows of a full checkpoint's tables.
pub(super) use full::FullRowVisitor;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SystemClock;
    use crate::metadata::StateKind;

    /// A copy that rows were written before and after the cut of, checked.
    fn checked_copy(meanwhile: impl FnOnce(&mut RocksDbBackend)) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let max = MaxParallelism::new(4).unwrap();
        let options = RocksDbOptions::default();
        let mut backend = RocksDbBackend::create(&folder.path().join("db"), max, max.all_groups(), options).unwrap();
        let schema = StateSchema {
            name: "bids".into(),
            kind: StateKind::Value,
            key_serializer: "bytes".into(),
            value_serializer: "bytes".into(),
        };
        let state = backend.open_state(&schema).unwrap();
        let row = |key: &[u8]| KeyLayout::new(max).row_key(0, key, &[]);
        backend.put(state, &row(b"before"), b"").unwrap();
        let copy = backend.begin_checkpoint().unwrap();
        let sequence = copy.sequence();
        assert!(sequence.is_some());
        backend.put(state, &row(b"after"), b"").unwrap();
        meanwhile(&mut backend);
        let target = folder.path().join("copy");
        copy.create(&target, &SystemClock::new()).unwrap();
        let read = ReadOptions { is_known: None, logs_are_in_folder: true };
        check_cut(&RocksFolder::read_with(&target, read).unwrap(), sequence)
    }

    #[test]
    fn a_copy_that_was_flushed_into_is_refused_and_another_one_is_not() {
        checked_copy(|_| {}).unwrap();
        let error = checked_copy(|backend| backend.flush_all().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Temporary);
        assert!(error.message().contains("after its cut"), "{error}");
    }

    #[test]
    fn a_copy_with_a_log_of_writes_past_the_backend_is_refused() {
        let error = checked_copy(|backend| {
            let family = backend.db().cf_handle("bids").unwrap();
            backend.db().put_cf(family, b"key", b"value").unwrap();
        });
        assert!(error.unwrap_err().object().unwrap().ends_with(".log"));
    }
}
