//! Deleting: remove the files, sync each folder once, then prune the folders that became empty.
//!
//! A delete is answered with `Ok` only when its folder was synced, and that goes for a file that was
//! not there, too: it may have been removed a moment ago by someone who crashed before the sync, and
//! a `_metadata` that comes back after a power cut while its files do not would break I1.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::folders::Folders;
use super::resolve::{Found, resolve, write_error};
use crate::error::{Error, ErrorKind, Result};
use crate::store::StorePath;

/// Deletes `paths`; one answer each, in order.
pub(super) fn delete(folders: &Folders, paths: &[StorePath]) -> Vec<Result<()>> {
    let mut by_folder: BTreeMap<PathBuf, FolderBatch> = BTreeMap::new();
    let mut answers: Vec<Result<()>> = Vec::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        let answer = remove(folders, path).map(|(folder, removed)| {
            let batch = by_folder.entry(folder).or_default();
            batch.members.push(index);
            batch.removed_any |= removed;
        });
        answers.push(answer);
    }
    for (folder, batch) in &by_folder {
        if let Err(error) = sync(folders, folder) {
            for index in &batch.members {
                if let (Some(answer), Some(path)) = (answers.get_mut(*index), paths.get(*index)) {
                    *answer = Err(Error::new(error.kind(), "delete an object", error.to_string()).with_object(path));
                }
            }
        }
    }
    // Children sort behind their parents, so backwards means deepest first.
    for (folder, _) in by_folder.iter().rev().filter(|(_, batch)| batch.removed_any) {
        folders.prune(folder);
    }
    answers
}

#[derive(Debug, Default)]
struct FolderBatch {
    members: Vec<usize>,
    removed_any: bool,
}

/// Removes one file. Answers its folder, and whether there was a file.
fn remove(folders: &Folders, path: &StorePath) -> Result<(PathBuf, bool)> {
    folders.check_sound("delete an object")?;
    let (place, found) = resolve(&folders.root, path, "delete an object")?;
    let folder = place.parent().unwrap_or(&folders.root).to_path_buf();
    match found {
        Found::Nothing | Found::Folder => Ok((folder, false)),
        Found::Object(_) => match folders.disk.remove_file(&place) {
            Ok(()) => Ok((folder, true)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((folder, false)),
            Err(error) => Err(write_error("delete an object", path, error)),
        },
    }
}

/// Syncs `folder`. If that is gone, somebody pruned it (a deleter that was a moment quicker, a writer that
/// gave up) and need not have synced it before: then its removal is what has to last, in the folder above.
fn sync(folders: &Folders, folder: &Path) -> Result<()> {
    let up_to_root = folder.ancestors().take_while(|above| above.starts_with(&folders.root));
    for folder in up_to_root {
        match std::fs::metadata(folder) {
            Ok(metadata) if metadata.is_dir() => {}
            _ => continue,
        }
        match folders.sync_one(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            done => return done,
        }
    }
    // There is no store, and so nothing that could come back.
    Ok(())
}
