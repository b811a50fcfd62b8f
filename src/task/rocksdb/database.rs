//! Freezing an engine's own open database.

use std::io::Read;
use std::path::Path;

use ::rocksdb::DB;
use ::rocksdb::checkpoint::Checkpoint;

use super::LinkedFolder;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::CheckpointId;
use crate::metadata::FileIdentity;
use crate::rocksfolder::MAX_OPTIONS_BYTES;
use crate::snapshot::{Hold, LocalSnapshot};
use crate::task::folder::{FolderOptions, freeze_folder};

const FREEZE: &str = "freeze a database";

/// What makes the cut one sequence number over all column families of an engine's own database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The database was opened with atomic flush. This is checked. What cannot be checked: that all writes
    /// go to the write-ahead log, or none do. Those that go there and come after the flush are in the cut,
    /// the others are not, so a program that writes both ways has to hold its writers.
    AtomicFlush,
    /// Nobody writes during the call. The caller answers for that.
    WritersHeld,
}

/// Freezes a database that the engine itself has open: RocksDB flushes and links its files into a
/// folder beside the database, which goes when the returned value is dropped. Blocks for that long. The folder
/// of the database must not itself be the root of a file system: nothing can be linked beside it, and RocksDB
/// copies the whole database each time.
///
/// **A database with a `wal_dir`** finds the logs of its later life there when the restored folder is opened,
/// and replays them: the state would not be that of the cut. Give it a new, empty `wal_dir`, and move the
/// `.log` files of the restored folder into that first.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if several column families could be cut at different points; what
/// RocksDB fails with.
pub fn freeze_database(
    db: &DB,
    cut: Cut,
    checkpoint: CheckpointId,
    is_known: &dyn Fn(&FileIdentity) -> bool,
    env: &Env,
) -> Result<LocalSnapshot> {
    check_cut(db.path(), cut)?;
    let linked = LinkedFolder::beside(db.path(), checkpoint, env)?;
    let started = env.clock.monotonic();
    Checkpoint::new(db)
        .and_then(|checkpoint| checkpoint.create_checkpoint(&linked.path))
        .map_err(|error| Error::new(ErrorKind::Io, FREEZE, error.to_string()).with_object(db.path().display()))?;
    let elapsed = env.clock.monotonic().saturating_sub(started);
    let options = FolderOptions { staging: None, is_known: Some(is_known), logs_are_in_folder: true };
    let mut snapshot = freeze_folder(&linked.path, options)?;
    snapshot.sync_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    snapshot.hold = Some(Hold::new(linked));
    Ok(snapshot)
}

/// A flush that is not atomic flushes one column family after another, and a writer in between is in
/// some of them only.
fn check_cut(folder: &Path, cut: Cut) -> Result<()> {
    if cut == Cut::WritersHeld {
        return Ok(());
    }
    let families = DB::list_cf(&::rocksdb::Options::default(), folder)
        .map_err(|error| Error::new(ErrorKind::Io, FREEZE, error.to_string()).with_object(folder.display()))?;
    if families.len() <= 1 || flushes_atomically(folder)? {
        return Ok(());
    }
    Err(Error::invalid(FREEZE, "its column families would be cut at different points: atomic flush is off")
        .with_object(folder.display())
        .with_advice("open it with `set_atomic_flush(true)`, or hold all writers and pass `Cut::WritersHeld`"))
}

/// Whether the newest OPTIONS file says so. RocksDB writes it when the database is opened.
fn flushes_atomically(folder: &Path) -> Result<bool> {
    let fail = |error| Error::io(FREEZE, folder.display(), error);
    let mut newest: Option<(u64, std::path::PathBuf)> = None;
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("OPTIONS-").and_then(|number| number.parse().ok());
        if let Some(number) = number
            && newest.as_ref().is_none_or(|(known, _)| *known < number)
        {
            newest = Some((number, path));
        }
    }
    let Some((_, path)) = newest else { return Ok(false) };
    let mut text = String::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(MAX_OPTIONS_BYTES).read_to_string(&mut text))
        .map_err(|error| Error::io(FREEZE, path.display(), error))?;
    Ok(text.lines().any(|line| line.trim() == "atomic_flush=true"))
}
