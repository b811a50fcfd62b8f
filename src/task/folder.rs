//! Freezing a RocksDB folder of unknown keys: another program's, an engine's own checkpoint.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::FileKind;
use crate::metadata::{Backend, FileIdentity, StateKind, StateSchema};
use crate::rocksfolder::{FolderFile, ReadOptions, RocksFolder};
use crate::snapshot::{FileSource, Hold, Known, LocalFile, LocalSnapshot, Placing};
use crate::store::StorePath;

const FREEZE: &str = "freeze a RocksDB folder";
/// What the states of a folder say of their encoding.
const OPAQUE_SERIALIZER: &str = "bytes";

/// How a folder is frozen.
#[derive(Clone, Copy, Default)]
pub struct FolderOptions<'a> {
    /// A folder on the same file system in which hard links may be made, so that the snapshot holds
    /// still while the database goes on. Without one, files are read where they are, and a database
    /// that changes meanwhile fails the snapshot with [`ErrorKind::Changed`].
    pub staging: Option<&'a Path>,
    /// Tells which tables need not be read.
    pub is_known: Option<&'a dyn Fn(&FileIdentity) -> bool>,
    /// Take the logs in the folder for all there are, whatever OPTIONS says: true for a checkpoint
    /// that RocksDB made of a database with a `wal_dir`.
    pub logs_are_in_folder: bool,
}

/// Freezes the database in `folder`: MANIFEST and files are read, no lock, comparator or merge
/// operator is needed, and another process may be writing. The write-ahead log is part of it. Blocks.
///
/// # Errors
/// [`ErrorKind::NotFound`] if it is no RocksDB folder; [`ErrorKind::Changed`] if it changed too often
/// while it was read; [`ErrorKind::Corrupt`], [`ErrorKind::Unsupported`] as [`RocksFolder::read_with`].
pub fn freeze_folder(folder: &Path, options: FolderOptions<'_>) -> Result<LocalSnapshot> {
    let read = ReadOptions { is_known: options.is_known, logs_are_in_folder: options.logs_are_in_folder };
    let frozen = RocksFolder::read_with(folder, read)?;
    let staging = match options.staging {
        Some(parent) => Some(
            tempfile::Builder::new()
                .prefix(".icecore-snapshot-")
                .tempdir_in(parent)
                .map_err(|error| Error::io(FREEZE, parent.display(), error))?,
        ),
        None => None,
    };
    let mut files = Vec::with_capacity(frozen.files().len());
    for file in frozen.files() {
        let is_known = match (&file.identity, options.is_known) {
            (Some(identity), Some(is_known)) => is_known(identity),
            _ => false,
        };
        let held = match &staging {
            Some(staging) if !is_known => hold_still(&frozen, file, staging.path())?,
            _ => folder.join(&file.name),
        };
        files.push(local_file(file, held)?);
    }
    if staging.is_some() && !frozen.is_still_current()? {
        return Err(Error::new(ErrorKind::Changed, FREEZE, "the database changed while its files were linked")
            .with_object(folder.display())
            .with_advice("try again, or make a checkpoint with RocksDB and give that folder"));
    }
    Ok(LocalSnapshot {
        backend: Backend::RocksDbFolder,
        key_groups: None,
        states: freeze_restored_states(&frozen),
        files,
        prepare: None,
        sync_us: 0,
        beside_us: 0,
        hold: staging.map(Hold::new),
    })
}

/// The column families of a folder, as the states of its checkpoints.
pub fn freeze_restored_states(folder: &RocksFolder) -> Vec<StateSchema> {
    let families = folder.version().column_families.values();
    families
        .map(|family| StateSchema {
            name: family.name.clone(),
            kind: StateKind::Opaque,
            key_serializer: OPAQUE_SERIALIZER.to_owned(),
            value_serializer: OPAQUE_SERIALIZER.to_owned(),
        })
        .collect()
}

/// Makes a file's bytes independent of what the database does next: a link to what never changes, a
/// copy of what may grow.
fn hold_still(folder: &RocksFolder, file: &FolderFile, staging: &Path) -> Result<PathBuf> {
    let source = folder.path().join(&file.name);
    if file.content.is_some() {
        return Ok(source);
    }
    let target = staging.join(&file.name);
    let is_immutable = matches!(file.kind, FileKind::Sst | FileKind::Blob);
    // Opened first: it refuses symbolic links.
    let opened = folder.open(file)?;
    if is_immutable && fs::hard_link(&source, &target).is_ok() {
        return Ok(target);
    }
    if is_immutable {
        // Another file system, or one without links: read it where it is.
        return Ok(source);
    }
    let fail = |error| Error::io(FREEZE, target.display(), error);
    let mut copy = fs::File::create_new(&target).map_err(fail)?;
    let copied = std::io::copy(&mut opened.take(file.size_bytes), &mut copy).map_err(fail)?;
    copy.flush().map_err(fail)?;
    if copied < file.size_bytes {
        return Err(
            Error::new(ErrorKind::Changed, FREEZE, "it is shorter than a moment ago").with_object(source.display())
        );
    }
    Ok(target)
}

/// A file of a folder as the snapshotter takes it.
pub(super) fn local_file(file: &FolderFile, held: PathBuf) -> Result<LocalFile> {
    let source = match &file.content {
        Some(content) => {
            let bytes = Bytes::from(content.clone());
            FileSource::Made(Arc::new(move || Ok(bytes.clone())))
        }
        None => FileSource::Path { path: held, size_bytes: file.size_bytes },
    };
    let placing = match file.kind {
        FileKind::Sst | FileKind::Blob => Placing::Shared,
        _ => Placing::Private,
    };
    Ok(LocalFile {
        local_name: StorePath::new(&file.name)?,
        kind: file.kind,
        source,
        placing,
        known: file.identity.map_or(Known::No, Known::Identity),
        key_groups: None,
        table: file.table.clone(),
    })
}
