//! Removing what crashed writers left: `.tmp-` files.
//!
//! **Is that safe while a writer is alive elsewhere?** Yes, and not because of anybody's clock. A
//! temporary name is 128 random bits and never used again, and a writer's last step is to *rename*
//! its temporary file. If that file was removed, the rename finds nothing, `finish` answers an error,
//! and no object appears: the writer learns of it before anyone believes in the object (I4). So the
//! worst that a wrong removal can do is to waste an upload.
//!
//! To waste none, two things keep a file: a lock, which its writer holds and the system drops when
//! the writer's process ends, however it ends; and youth, for file systems without locks and for the
//! moment between making the file and locking it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::disk::is_temporary;
use super::folders::Folders;
use crate::error::{Error, Result};

/// Removes the temporary files below `folder` that nobody writes and that were last written
/// `older_than` before `now_ms` (of the store's clock). Answers how many.
pub(super) fn remove_stale(folders: &Folders, folder: &Path, older_than: Duration, now_ms: u64) -> Result<u64> {
    let mut removed = 0;
    let mut to_visit: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(folder) = to_visit.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(Error::io("look for stale files", folder.display(), error)),
        };
        let removed_before = removed;
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("look for stale files", folder.display(), error))?;
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                to_visit.push(entry.path());
            } else if kind.is_file() && is_temporary(&entry.file_name()) {
                removed += u64::from(remove_if_stale(folders, &entry.path(), older_than, now_ms)?);
            }
        }
        if removed > removed_before {
            folders.prune(&folder);
        }
    }
    Ok(removed)
}

fn remove_if_stale(folders: &Folders, file: &Path, older_than: Duration, now_ms: u64) -> Result<bool> {
    let failed = |error| Error::io("remove a stale file", file.display(), error);
    let metadata = match fs::symlink_metadata(file) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let written = metadata.modified().map_err(failed)?;
    let written_ms = written.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    if u128::from(now_ms).saturating_sub(written_ms) < older_than.as_millis() {
        return Ok(false);
    }
    if let Err(TryLockError::WouldBlock) =
        File::open(file).map_err(TryLockError::Error).and_then(|open| open.try_lock())
    {
        return Ok(false);
    }
    match folders.disk.remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(error)),
    }
}
