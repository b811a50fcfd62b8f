//! The files of one subtask at one checkpoint, as a value that is cheap to copy and to change.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{FileEntry, FileIdentity};
use crate::store::StorePath;

/// Files by local name and by identity. A persistent map: a copy shares everything with its
/// original, and a change costs the logarithm of its size.
#[derive(Clone, Debug, Default)]
pub struct FileSet {
    by_name: imbl::OrdMap<StorePath, Arc<FileEntry>>,
    by_identity: imbl::HashMap<FileIdentity, Arc<FileEntry>>,
}

/// What one change of a [`FileSet`] took out and put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileSetChange {
    /// Entries that are there now and were not before.
    pub added: Vec<Arc<FileEntry>>,
    /// Entries that were there before and are not now.
    pub removed: Vec<Arc<FileEntry>>,
}

impl FileSet {
    /// The set of these entries.
    pub fn from_entries(entries: impl IntoIterator<Item = FileEntry>) -> Self {
        let mut set = Self::default();
        for entry in entries {
            set.insert(Arc::new(entry));
        }
        set
    }

    /// The entry of this local name.
    pub fn get(&self, local_name: &StorePath) -> Option<&Arc<FileEntry>> {
        self.by_name.get(local_name)
    }

    /// An entry with this identity, under whatever name.
    pub fn with_identity(&self, identity: &FileIdentity) -> Option<&Arc<FileEntry>> {
        self.by_identity.get(identity)
    }

    /// The entries in order of their local names.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<FileEntry>> {
        self.by_name.values()
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Puts an entry in, in place of the one of the same local name, which is returned.
    pub fn insert(&mut self, entry: Arc<FileEntry>) -> Option<Arc<FileEntry>> {
        let replaced = self.remove(&entry.local_name);
        if let Some(identity) = entry.identity {
            self.by_identity.insert(identity, entry.clone());
        }
        self.by_name.insert(entry.local_name.clone(), entry);
        replaced
    }

    /// Takes the entry of this local name out.
    pub fn remove(&mut self, local_name: &StorePath) -> Option<Arc<FileEntry>> {
        let removed = self.by_name.remove(local_name)?;
        if let Some(identity) = removed.identity
            && self.by_identity.get(&identity).is_some_and(|entry| entry.local_name == *local_name)
        {
            self.by_identity.remove(&identity);
        }
        Some(removed)
    }

    /// Applies an acknowledgement's difference.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a removed name is not in the set: the sender built on another
    /// base, and nothing of it can be believed.
    pub fn apply(&mut self, added: &[FileEntry], removed: &[StorePath]) -> Result<()> {
        for name in removed {
            if self.remove(name).is_none() {
                return Err(Error::new(ErrorKind::InvalidInput, "apply a difference", "a removed file is not there")
                    .with_object(name));
            }
        }
        for entry in added {
            self.insert(Arc::new(entry.clone()));
        }
        Ok(())
    }

    /// The difference from `older` to this set. Costs what differs where one was made from the
    /// other, as they share the rest.
    pub fn since(&self, older: &Self) -> FileSetChange {
        let mut change = FileSetChange::default();
        for item in older.by_name.diff(&self.by_name) {
            match item {
                imbl::ordmap::DiffItem::Add(_, new) => change.added.push(new.clone()),
                imbl::ordmap::DiffItem::Update { old: (_, old), new: (_, new) } => {
                    if old != new {
                        change.removed.push(old.clone());
                        change.added.push(new.clone());
                    }
                }
                imbl::ordmap::DiffItem::Remove(_, old) => change.removed.push(old.clone()),
            }
        }
        change
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::layout::{ContentHash, FileKind};
    use crate::metadata::{Encoding, Location};

    pub(crate) fn entry(name: &str, content: &str) -> FileEntry {
        let size_bytes = content.len() as u64;
        FileEntry {
            local_name: StorePath::new(name).unwrap(),
            kind: FileKind::Sst,
            location: Location::InRoot(StorePath::new(format!("job-a/shared/{name}")).unwrap()),
            offset_bytes: 0,
            stored_size_bytes: size_bytes,
            encoding: Encoding::Plain,
            size_bytes,
            sha256: ContentHash::of(content.as_bytes()),
            key_groups: None,
            table: None,
            identity: Some(FileIdentity { unique_id: [content.len() as u64, 7], size_bytes, sequences: [0, 0] }),
        }
    }

    #[test]
    fn the_difference_applied_to_the_base_gives_the_set() {
        let base = FileSet::from_entries([entry("1.sst", "a"), entry("2.sst", "bb"), entry("3.sst", "ccc")]);
        let mut set = base.clone();
        set.apply(&[entry("3.sst", "dddd"), entry("4.sst", "eeeee")], &[StorePath::new("1.sst").unwrap()]).unwrap();
        let change = set.since(&base);
        let names = |entries: &[Arc<FileEntry>]| entries.iter().map(|e| e.local_name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&change.added), ["3.sst", "4.sst"]);
        assert_eq!(names(&change.removed), ["1.sst", "3.sst"]);
        assert_eq!(set.since(&set.clone()), FileSetChange::default());
    }

    #[test]
    fn a_difference_to_another_base_is_refused() {
        let mut set = FileSet::from_entries([entry("1.sst", "a")]);
        let error = set.apply(&[], &[StorePath::new("2.sst").unwrap()]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn identities_follow_their_entries() {
        let mut set = FileSet::from_entries([entry("1.sst", "a")]);
        let identity = entry("1.sst", "a").identity.unwrap();
        assert!(set.with_identity(&identity).is_some());
        set.insert(Arc::new(entry("1.sst", "bb")));
        assert!(set.with_identity(&identity).is_none());
    }
}
