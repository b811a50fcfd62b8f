//! Listing: depth first, in order of paths, in bounded memory.
//!
//! Reading a folder gives names in no order. A pass over a folder keeps the smallest
//! [`MAX_NAMES_PER_PASS`] names that follow the last one handed out, so a folder of any size is
//! listed in bounded memory, at the price of one more pass per page. An object that is there from
//! before the listing to its end is seen by every pass, so none is missed (list-after-write).
//!
//! A folder sorts by its name *with* the slash, or `a/x` would come before `a-b`.
//!
//! What is not icecore's:
//! - `.tmp-` files are unfinished objects and not shown.
//! - A name that is no [`StorePath`] (a space, say) is **skipped with a warning**. It cannot be ours,
//!   so no decision can depend on it; having no `StorePath` it can never be deleted through a
//!   `Store`; and an error here would let one stray file stop every collection.
//! - A link, pipe or device under a name that *could* be ours is an **error that names it**. Skipping
//!   it could hide a checkpoint that someone moved to another disk, and a hidden checkpoint's files
//!   look unreferenced: fail closed (design 4.6). The listing goes on behind it.

use std::collections::{BinaryHeap, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, ReadDir};
use std::io;
use std::path::{Path, PathBuf};

use super::disk::is_temporary;
use super::resolve::not_ours;
use crate::error::{Error, Result};
use crate::store::{Child, ObjectMeta, StorePath};

/// How many names of one folder a pass keeps.
const MAX_NAMES_PER_PASS: usize = 65_536;

/// A name in a folder. Ordered by its key: the name, with a slash behind it for a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Folder,
    File,
    Other,
}

/// One folder on the way down.
#[derive(Debug)]
struct Level {
    folder: PathBuf,
    path: Option<StorePath>,
    names: VecDeque<Entry>,
    /// The last name of the page, if there are more behind it.
    more_after: Option<Entry>,
}

/// A listing on its way through a tree.
#[derive(Debug)]
pub(super) struct Walk {
    levels: Vec<Level>,
    names_per_pass: usize,
}

impl Walk {
    /// Begins at `folder`, which is called `path` in the store.
    pub(super) fn new(folder: PathBuf, path: Option<StorePath>) -> Result<Self> {
        Self::with_page(folder, path, MAX_NAMES_PER_PASS)
    }

    fn with_page(folder: PathBuf, path: Option<StorePath>, names_per_pass: usize) -> Result<Self> {
        let mut walk = Self { levels: Vec::new(), names_per_pass };
        walk.enter(folder, path)?;
        Ok(walk)
    }

    /// Up to `count` more objects; none at the end.
    pub(super) fn next_batch(&mut self, count: usize) -> Vec<Result<ObjectMeta>> {
        let mut batch = Vec::new();
        while batch.len() < count {
            match self.step() {
                Some(Ok(None)) => {}
                Some(Ok(Some(object))) => batch.push(Ok(object)),
                Some(Err(error)) => batch.push(Err(error)),
                None => break,
            }
        }
        batch
    }

    /// One name further. `None` at the end.
    fn step(&mut self) -> Option<Result<Option<ObjectMeta>>> {
        let level = self.levels.last_mut()?;
        let Some(entry) = level.names.pop_front() else {
            let Some(last) = level.more_after.take() else {
                self.levels.pop();
                return Some(Ok(None));
            };
            return Some(match read_page(&level.folder, Some(&last), self.names_per_pass) {
                Ok((names, more_after)) => {
                    level.names = names;
                    level.more_after = more_after;
                    Ok(None)
                }
                Err(error) => {
                    let failed = list_error(level.path.as_ref(), &level.folder, error);
                    self.levels.pop();
                    Err(failed)
                }
            });
        };
        let name = entry.key.trim_end_matches('/');
        let place = level.folder.join(name);
        let path = match level.path.as_ref().map_or_else(|| StorePath::new(name), |above| above.join(name)) {
            Ok(path) => path,
            Err(_) => {
                warn_foreign(&place);
                return Some(Ok(None));
            }
        };
        Some(match entry.kind {
            Kind::Folder => self.enter(place, Some(path)).map(|()| None),
            Kind::File | Kind::Other => look(&place, path),
        })
    }

    fn enter(&mut self, folder: PathBuf, path: Option<StorePath>) -> Result<()> {
        match read_page(&folder, None, self.names_per_pass) {
            Ok((names, more_after)) => {
                self.levels.push(Level { folder, path, names, more_after });
                Ok(())
            }
            Err(error) => Err(list_error(path.as_ref(), &folder, error)),
        }
    }
}

fn list_error(path: Option<&StorePath>, folder: &Path, error: io::Error) -> Error {
    match path {
        Some(path) => Error::io("list a folder", path, error),
        None => Error::io("list a folder", folder.display(), error),
    }
}

fn warn_foreign(place: &Path) {
    tracing::warn!(path = %place.display(), "a foreign name lies in the store; it is left alone and not listed");
}

/// The object at `place`; `None` if it has just been deleted.
fn look(place: &Path, path: StorePath) -> Result<Option<ObjectMeta>> {
    match fs::symlink_metadata(place) {
        Ok(metadata) if metadata.is_file() => Ok(Some(ObjectMeta { path, size_bytes: metadata.len() })),
        Ok(metadata) if metadata.is_dir() => Ok(None),
        Ok(metadata) => Err(not_ours(&metadata, "list a folder", &path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("list a folder", path, error)),
    }
}

/// The smallest `count` names of `folder` behind `after`, and the last of them if there are more. A
/// folder that is gone is empty.
fn read_page(folder: &Path, after: Option<&Entry>, count: usize) -> io::Result<(VecDeque<Entry>, Option<Entry>)> {
    let mut smallest = BinaryHeap::new();
    let mut more = false;
    for entry in read_entries(folder)? {
        let Some(entry) = classify(entry, folder)? else { continue };
        if after.is_some_and(|after| entry <= *after) {
            continue;
        }
        smallest.push(entry);
        if smallest.len() > count {
            smallest.pop();
            more = true;
        }
    }
    let names: VecDeque<Entry> = smallest.into_sorted_vec().into();
    let more_after = if more { names.back().cloned() } else { None };
    Ok((names, more_after))
}

/// The entries of `folder`; none if there is no such folder.
fn read_entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<fs::DirEntry>> + use<>> {
    let entries: Option<ReadDir> = match fs::read_dir(folder) {
        Ok(entries) => Some(entries),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
        Err(error) => return Err(error),
    };
    Ok(entries.into_iter().flatten())
}

/// What one entry is; `None` for what is not shown.
fn classify(entry: io::Result<fs::DirEntry>, folder: &Path) -> io::Result<Option<Entry>> {
    let entry = entry?;
    let name = entry.file_name();
    if is_temporary(&name) {
        return Ok(None);
    }
    let Some(name) = valid_name(&name) else {
        warn_foreign(&folder.join(&name));
        return Ok(None);
    };
    let kind = match entry.file_type() {
        Ok(kind) if kind.is_dir() => Kind::Folder,
        Ok(kind) if kind.is_file() => Kind::File,
        Ok(_) => Kind::Other,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let key = if kind == Kind::Folder { format!("{name}/") } else { name };
    Ok(Some(Entry { key, kind }))
}

fn valid_name(name: &OsStr) -> Option<String> {
    let name = name.to_str()?;
    StorePath::new(name).ok().map(|path| path.as_str().to_owned())
}

/// The names directly below `folder`, sorted. A folder is shown if an object lies below it: empty
/// ones are what a crash between two system calls leaves, and an object store has none.
pub(super) fn children(folder: &Path, path: Option<&StorePath>) -> Result<Vec<Child>> {
    let mut children = Vec::new();
    for entry in read_entries(folder).map_err(|error| list_error(path, folder, error))? {
        let entry = classify(entry, folder).map_err(|error| list_error(path, folder, error))?;
        let Some(Entry { key, kind }) = entry else { continue };
        let name = key.trim_end_matches('/');
        let Ok(child) = path.map_or_else(|| StorePath::new(name), |above| above.join(name)) else {
            warn_foreign(&folder.join(name));
            continue;
        };
        let place = folder.join(name);
        if kind == Kind::Folder {
            if has_object(&place).map_err(|error| list_error(Some(&child), &place, error))? {
                children.push(Child { name: name.to_owned(), size_bytes: None });
            }
        } else if let Some(object) = look(&place, child)? {
            children.push(Child { name: name.to_owned(), size_bytes: Some(object.size_bytes) });
        }
    }
    children.sort_unstable();
    Ok(children)
}

/// Whether anything that could be an object lies below `folder`. Looks no further than the first.
fn has_object(folder: &Path) -> io::Result<bool> {
    // Holds one open folder a level; a path has at most 512 of them.
    let mut levels = vec![(folder.to_path_buf(), read_entries(folder)?)];
    loop {
        let depth = levels.len();
        let Some((folder, entries)) = levels.last_mut() else { return Ok(false) };
        let Some(entry) = entries.next() else {
            levels.pop();
            continue;
        };
        match classify(entry, folder)? {
            Some(Entry { key, kind: Kind::Folder }) if depth < MAX_DEPTH => {
                let deeper = folder.join(key.trim_end_matches('/'));
                let entries = read_entries(&deeper)?;
                levels.push((deeper, entries));
            }
            None | Some(Entry { kind: Kind::Folder, .. }) => {}
            // A link counts, too: listing the folder then says so.
            Some(_) => return Ok(true),
        }
    }
}

/// The deepest that a `StorePath` can be: every second byte a slash.
const MAX_DEPTH: usize = crate::store::MAX_PATH_BYTES / 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for name in names {
            let place = root.path().join(name);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, name).unwrap();
        }
        root
    }

    fn listed(root: &Path, page: usize) -> Vec<String> {
        let mut walk = Walk::with_page(root.to_path_buf(), None, page).unwrap();
        let mut all = Vec::new();
        loop {
            let batch = walk.next_batch(2);
            if batch.is_empty() {
                return all;
            }
            all.extend(batch.into_iter().map(|object| object.unwrap().path.as_str().to_owned()));
        }
    }

    #[test]
    fn a_folder_of_any_size_is_listed_in_order_with_a_page_of_any_size() {
        let names = ["a%", "a-b", "a.b", "a/x", "a/y/z", "a0", "b", "c/d/e/f", "c=", "c@"];
        let root = tree(&names);
        let mut sorted: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        sorted.sort();
        for page in 1..=names.len() {
            assert_eq!(listed(root.path(), page), sorted, "with {page} names a pass");
        }
    }

    #[test]
    fn a_page_is_never_longer_than_asked_for() {
        let names: Vec<String> = (0..50).map(|i| format!("n{i:02}")).collect();
        let root = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let (page, more_after) = read_page(root.path(), None, 7).unwrap();
        assert_eq!(page.len(), 7);
        assert_eq!(more_after.unwrap().key, "n06");
    }
}
