//! Rebuilding a subtask's database from one or several earlier subtasks' files.
//!
//! The largest share becomes the database: its tables as they are, under a MANIFEST that lists only
//! those that were fetched. The rows of the others are written into it. Writing is what makes this
//! safe: a row put now outranks whatever tombstone an earlier restore left in the files, which merged
//! files would not (`docs/state.md`).

use std::collections::HashSet;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use crate::env::Env;
use crate::error::{Error, Result};
use crate::keygroup::{KeyGroupRange, MaxParallelism};
use crate::layout::FileKind;
use crate::metadata::{Backend, CheckpointKind, StateSchema, total_bytes};
use crate::restore::{Checkpoint, FetchOptions, RestorePlan, RestoreSource, StagedFolder, fetch_files};
use crate::rocksfolder::{FolderVersion, table_name};
use crate::snapshot::Snapshotter;
use crate::state::KeyedBackend;
use crate::state::rocksdb::{RocksDbBackend, RocksDbOptions};
use crate::task::full;

use super::tables::read_tables;

const RESTORE: &str = "restore a state database";

/// What every part of a restore needs to know.
#[derive(Clone)]
struct Target {
    max_parallelism: MaxParallelism,
    range: KeyGroupRange,
    states: Vec<StateSchema>,
    options: RocksDbOptions,
}

impl Target {
    fn open(&self, folder: &Path, range: KeyGroupRange) -> Result<RocksDbBackend> {
        RocksDbBackend::open(folder, self.max_parallelism, range, &self.states, self.options.clone())
    }
}

pub(super) async fn restore(
    plan: &RestorePlan,
    checkpoint: &Checkpoint,
    folder: &Path,
    options: RocksDbOptions,
    snapshotter: &Snapshotter,
    env: &Env,
    fetch: &FetchOptions,
) -> Result<RocksDbBackend> {
    let (max_parallelism, range) = full::keyed(plan)?;
    let target = Target { max_parallelism, range, states: plan.states.clone(), options };
    let staged = StagedFolder::create(env, folder)?;
    if checkpoint.metadata.kind == CheckpointKind::Incremental {
        from_folders(plan, checkpoint, &staged, &target, env, fetch).await?;
        tell_snapshotter(plan, checkpoint, snapshotter);
    } else {
        from_key_groups(plan, checkpoint, &staged, &target, env, fetch).await?;
    }
    let folder = folder.to_owned();
    env.blocking(move || {
        staged.publish()?;
        // It was opened as a whole before; should it fail now, it must not look like a restored one.
        target.open(&folder, target.range).inspect_err(|_| drop(fs::remove_dir_all(&folder)))
    })
    .await?
}

/// The snapshotter builds on the checkpoint if the files are exactly what this subtask had in it;
/// otherwise it only knows their hashes.
fn tell_snapshotter(plan: &RestorePlan, checkpoint: &Checkpoint, snapshotter: &Snapshotter) {
    match plan.unchanged_source() {
        Some(source) => snapshotter.remember(checkpoint.metadata.folder(), source.files.iter().cloned()),
        None => snapshotter.seed(plan.sources.iter().flat_map(|source| &source.files)),
    }
}

async fn from_folders(
    plan: &RestorePlan,
    checkpoint: &Checkpoint,
    staged: &StagedFolder,
    target: &Target,
    env: &Env,
    fetch: &FetchOptions,
) -> Result<()> {
    if let Some(source) = plan.sources.iter().find(|source| source.backend != Backend::RocksDb) {
        return Err(full::wrong_backend(plan, source.backend));
    }
    let size_bytes = |source: &&RestoreSource| total_bytes(source.files.iter().map(|file| file.size_bytes));
    let Some(base) = plan.sources.iter().max_by_key(size_bytes) else {
        return Err(Error::corrupt(RESTORE, &plan.operator, "no subtask of the checkpoint has these key groups"));
    };
    fetch_database(base, checkpoint, staged.path(), env, fetch).await?;
    if let Some(wanted) = base.wanted {
        // Whatever else its files hold is covered before any row of another source comes in; and what
        // RocksDB or the schema refuses is refused before the folder appears (I7).
        let (target, folder) = (target.clone(), staged.path().to_owned());
        // Flushed in so many words: without a log the tombstones are only in memory, and closing a
        // database tells nobody that it could not write them. Deleted rows would come back (I10).
        env.blocking(move || target.open(&folder, wanted)?.flush_all()).await??;
    }
    for source in plan.sources.iter().filter(|source| source.subtask != base.subtask) {
        let folder = tempfile::tempdir_in(staged.path().parent().unwrap_or(Path::new(".")))
            .map_err(|error| Error::local_io(RESTORE, staged.path().display(), error))?;
        fetch_database(source, checkpoint, folder.path(), env, fetch).await?;
        let (target, into, wanted) = (target.clone(), staged.path().to_owned(), source.wanted);
        env.blocking(move || copy_rows(&target, folder.path(), &into, wanted)).await??;
    }
    Ok(())
}

/// Fetches one source's files into `folder`, and makes a database of them.
async fn fetch_database(
    source: &RestoreSource,
    checkpoint: &Checkpoint,
    folder: &Path,
    env: &Env,
    fetch: &FetchOptions,
) -> Result<()> {
    fetch_files(env, checkpoint, &source.files, folder, fetch).await?;
    if source.skipped_files == 0 {
        return Ok(());
    }
    let tables: HashSet<String> =
        source.files.iter().filter(|file| file.kind == FileKind::Sst).map(|file| file.local_name.to_string()).collect();
    let folder = folder.to_owned();
    env.blocking(move || keep_tables(&folder, &tables)).await?
}

/// Rewrites MANIFEST and CURRENT so that the database consists of `tables` only.
fn keep_tables(folder: &Path, tables: &HashSet<String>) -> Result<()> {
    let fail = |error| Error::local_io(RESTORE, folder.display(), error);
    let current = fs::read_to_string(folder.join("CURRENT")).map_err(fail)?;
    let manifest = folder.join(current.trim_end());
    let mut version = FolderVersion::replay(fs::File::open(&manifest).map_err(fail)?)?.version;
    version.retain_tables(|_, table| tables.contains(&table_name(table.meta.number)));
    let built = version.build_manifest()?;
    fs::remove_file(&manifest).map_err(fail)?;
    write_synced(&folder.join(&built.name), &built.manifest).map_err(fail)?;
    write_synced(&folder.join("CURRENT"), &built.current).map_err(fail)
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::write(path, bytes)?;
    fs::File::open(path)?.sync_all()
}

fn copy_rows(target: &Target, from: &Path, into: &Path, wanted: Option<KeyGroupRange>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let from = target.open(from, wanted)?;
    // The whole range: what lies outside the base's share was dropped before, and what other sources
    // brought stays.
    let mut into = target.open(into, target.range)?;
    for schema in from.states() {
        let (source, sink) = (from.find_state(&schema)?, into.open_state(&schema)?);
        from.scan_key_groups(source, wanted, &mut |key, value| {
            into.put(sink, key, value)?;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    into.flush_all()
}

async fn from_key_groups(
    plan: &RestorePlan,
    checkpoint: &Checkpoint,
    staged: &StagedFolder,
    target: &Target,
    env: &Env,
    fetch: &FetchOptions,
) -> Result<()> {
    let parent = staged.path().parent().unwrap_or(Path::new("."));
    let fetched = tempfile::tempdir_in(parent).map_err(|error| Error::local_io(RESTORE, parent.display(), error))?;
    for source in &plan.sources {
        fetch_files(env, checkpoint, &source.files, fetched.path(), fetch).await?;
    }
    let (target, into) = (target.clone(), staged.path().to_owned());
    env.blocking(move || {
        let mut backend = RocksDbBackend::create(&into, target.max_parallelism, target.range, target.options.clone())?;
        let mut states = std::collections::HashMap::new();
        for schema in &target.states {
            states.insert(schema.name.clone(), backend.open_state(schema)?);
        }
        read_tables(fetched.path(), &mut |name, key, value| {
            let state =
                *states.get(name).ok_or_else(|| Error::corrupt(RESTORE, name, "rows of a state without a schema"))?;
            backend.put(state, key, value)
        })?;
        backend.flush_all()
    })
    .await?
}
