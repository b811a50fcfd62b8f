//! Which files of a frozen state are new: decided before a byte is read.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::file_set::FileSet;
use super::local::{Known, LocalFile, Placing};
use crate::layout::{CheckpointFolder, ContentHash, SharedName};
use crate::metadata::{CheckpointKind, FileEntry, FileIdentity, Location};

/// What will be done with each file of a snapshot. A value: print it, test it, then execute it.
#[derive(Debug, Default)]
pub struct UploadPlan {
    /// The same as in the base checkpoint: not opened.
    pub carried: Vec<Arc<FileEntry>>,
    /// Content whose hash is known: not opened unless the store has lost it.
    pub hashed: Vec<(LocalFile, ContentHash)>,
    /// To be read, hashed, and sent if the store does not hold the content.
    pub unknown: Vec<LocalFile>,
    /// To be sent into the checkpoint's own folder.
    pub private: Vec<LocalFile>,
}

impl UploadPlan {
    /// Plans the upload of `files` for a checkpoint of `kind` on top of `base`. What the base has in one of the
    /// `distrusted` objects is placed anew. `hash_of` knows the hashes of files that are not in the base.
    pub fn new(
        files: Vec<LocalFile>,
        kind: CheckpointKind,
        base: Option<(CheckpointFolder, &FileSet)>,
        distrusted: &BTreeSet<SharedName>,
        hash_of: &dyn Fn(&FileIdentity) -> Option<ContentHash>,
    ) -> Self {
        let mut plan = Self::default();
        for file in files {
            // A full checkpoint and a savepoint stand on their own: everything goes in their folder.
            if kind != CheckpointKind::Incremental || file.placing == Placing::Private {
                plan.private.push(file);
                continue;
            }
            match Self::find(&file, base) {
                Some(entry) if is_entry_of(&entry, &file) && !lies_in(&entry, distrusted) => plan.carried.push(entry),
                Some(entry) => plan.hashed.push((file, entry.sha256)),
                None => match Self::known_hash(&file, hash_of) {
                    Some(hash) => plan.hashed.push((file, hash)),
                    None => plan.unknown.push(file),
                },
            }
        }
        plan
    }

    fn find(file: &LocalFile, base: Option<(CheckpointFolder, &FileSet)>) -> Option<Arc<FileEntry>> {
        let (base_id, base) = base?;
        match file.known {
            Known::No => None,
            Known::UnchangedSince(checkpoint) if checkpoint == base_id => base.get(&file.local_name).cloned(),
            Known::UnchangedSince(_) => None,
            Known::Identity(identity) => Self::same_file(base, file, &identity),
        }
    }

    fn known_hash(file: &LocalFile, hash_of: &dyn Fn(&FileIdentity) -> Option<ContentHash>) -> Option<ContentHash> {
        match &file.known {
            Known::Identity(identity) => hash_of(identity),
            Known::No | Known::UnchangedSince(_) => None,
        }
    }

    fn same_file(base: &FileSet, file: &LocalFile, identity: &FileIdentity) -> Option<Arc<FileEntry>> {
        let same = |entry: &&Arc<FileEntry>| entry.identity == Some(*identity);
        base.get(&file.local_name).filter(same).or_else(|| base.with_identity(identity)).cloned()
    }

    /// How many files the snapshot has.
    pub fn len(&self) -> usize {
        self.carried.len() + self.hashed.len() + self.unknown.len() + self.private.len()
    }

    /// Whether the snapshot has no files.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether the base's entry says all that is to be said of `file`. The content of one that RocksDB
/// has moved to another level is known; its entry is not the same.
fn is_entry_of(entry: &FileEntry, file: &LocalFile) -> bool {
    // What lay in the base's own folder does not lie in this one's.
    matches!(entry.location, Location::InRoot(_))
        && entry.local_name == file.local_name
        && entry.kind == file.kind
        && entry.key_groups == file.key_groups
        && entry.table == file.table
}

/// Whether a file lies in one of these shared objects, in whichever job's folder. Costs nothing where
/// there are none, as always but after damage.
pub(crate) fn lies_in(entry: &FileEntry, objects: &BTreeSet<SharedName>) -> bool {
    if objects.is_empty() {
        return false;
    }
    let Location::InRoot(path) = &entry.location else { return false };
    path.file_name().parse().is_ok_and(|name: SharedName| objects.contains(&name))
}

impl fmt::Display for UploadPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} files: {} unchanged, {} of known content, {} to read, {} of the checkpoint's own",
            self.len(),
            self.carried.len(),
            self.hashed.len(),
            self.unknown.len(),
            self.private.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::file_set::tests::entry;
    use super::super::local::FileSource;
    use super::*;
    use crate::layout::{CheckpointId, Epoch, Tag, Uid};

    fn none() -> BTreeSet<SharedName> {
        BTreeSet::new()
    }

    fn local(name: &str, known: Known) -> LocalFile {
        let like = entry(name, "a");
        LocalFile {
            local_name: like.local_name,
            kind: like.kind,
            source: FileSource::Path { path: "/nowhere".into(), size_bytes: 1 },
            placing: Placing::Shared,
            known,
            key_groups: None,
            table: None,
        }
    }

    fn cp(id: u64) -> CheckpointFolder {
        CheckpointFolder { checkpoint: CheckpointId(id), epoch: Epoch { counter: 1, uid: Uid(1) } }
    }

    fn identity_of(content: &str) -> Known {
        Known::Identity(entry("x", content).identity.unwrap())
    }

    #[test]
    fn same_name_and_size_with_another_identity_is_read() {
        // I6: what makes a file known is its identity.
        let base = FileSet::from_entries([entry("1.sst", "a")]);
        let mut other = entry("1.sst", "a").identity.unwrap();
        other.unique_id = [99, 99];
        let files = vec![local("1.sst", Known::Identity(other)), local("2.sst", Known::No)];
        let plan = UploadPlan::new(files, CheckpointKind::Incremental, Some((cp(1), &base)), &none(), &|_| None);
        assert_eq!((plan.carried.len(), plan.unknown.len()), (0, 2));
    }

    #[test]
    fn an_equal_identity_is_carried_over_and_under_another_name_its_hash_is_known() {
        let base = FileSet::from_entries([entry("1.sst", "a")]);
        let files = vec![local("1.sst", identity_of("a")), local("7.sst", identity_of("a"))];
        let plan = UploadPlan::new(files, CheckpointKind::Incremental, Some((cp(1), &base)), &none(), &|_| None);
        assert_eq!((plan.carried.len(), plan.hashed.len(), plan.unknown.len()), (1, 1, 0));
    }

    #[test]
    fn a_file_that_moved_to_another_level_is_not_opened_but_its_entry_is_new() {
        let base = FileSet::from_entries([entry("1.sst", "a")]);
        let mut file = local("1.sst", identity_of("a"));
        file.table = Some(crate::metadata::TableInfo {
            column_family: "default".into(),
            level: 6,
            smallest_key: vec![],
            largest_key: vec![],
            smallest_sequence: 0,
            largest_sequence: 0,
        });
        let plan = UploadPlan::new(vec![file], CheckpointKind::Incremental, Some((cp(1), &base)), &none(), &|_| None);
        assert_eq!((plan.carried.len(), plan.hashed.len(), plan.unknown.len()), (0, 1, 0));
    }

    #[test]
    fn a_file_that_lay_in_the_bases_own_folder_is_not_carried_over() {
        let mut private = entry("1.state", "a");
        private.location = crate::metadata::Location::InCheckpoint(private.local_name.clone());
        let base = FileSet::from_entries([private]);
        let files = vec![local("1.state", Known::UnchangedSince(cp(2)))];
        let plan = UploadPlan::new(files, CheckpointKind::Incremental, Some((cp(2), &base)), &none(), &|_| None);
        assert_eq!((plan.carried.len(), plan.hashed.len()), (0, 1));
    }

    #[test]
    fn what_lies_in_a_distrusted_object_is_placed_anew_and_not_read_before_it_has_to_be() {
        let name = |upload| {
            let tag = Tag { epoch: cp(1).epoch, generation: 1, checkpoint: CheckpointId(1), upload: Uid(upload) };
            SharedName { hash: ContentHash::of(b"a"), tag, kind: crate::layout::FileKind::Sst }
        };
        let in_object = |file: &str, upload| {
            let mut entry = entry(file, "a");
            let path = format!("job-a/shared/{}", name(upload));
            entry.location = Location::InRoot(crate::store::StorePath::new(path).unwrap());
            entry
        };
        // The same content in two objects, one of which is damaged.
        let base = FileSet::from_entries([in_object("1.state", 1), in_object("2.state", 2)]);
        let files = ["1.state", "2.state"].map(|file| local(file, Known::UnchangedSince(cp(1))));
        let distrusted = BTreeSet::from([name(1)]);
        let kind = CheckpointKind::Incremental;
        let plan = UploadPlan::new(files.into(), kind, Some((cp(1), &base)), &distrusted, &|_| None);
        let names = |entries: &[Arc<FileEntry>]| entries.iter().map(|e| e.local_name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&plan.carried), ["2.state"]);
        let hashed: Vec<_> = plan.hashed.iter().map(|(file, hash)| (file.local_name.as_str(), *hash)).collect();
        assert_eq!((hashed, plan.unknown.len()), (vec![("1.state", ContentHash::of(b"a"))], 0));
    }

    #[test]
    fn unchanged_since_another_checkpoint_than_the_base_says_nothing() {
        let base = FileSet::from_entries([entry("1.state", "a")]);
        let plan = |since| {
            let files = vec![local("1.state", Known::UnchangedSince(since))];
            UploadPlan::new(files, CheckpointKind::Incremental, Some((cp(2), &base)), &none(), &|_| None)
        };
        assert_eq!(plan(cp(2)).carried.len(), 1);
        assert_eq!(plan(cp(1)).unknown.len(), 1);
        // Of the same number, in another tenure or another job.
        let other = CheckpointFolder { epoch: Epoch { counter: 1, uid: Uid(2) }, ..cp(2) };
        assert_eq!(plan(other).unknown.len(), 1);
    }

    #[test]
    fn a_savepoint_stands_on_its_own() {
        let base = FileSet::from_entries([entry("1.sst", "a")]);
        let files = vec![local("1.sst", identity_of("a"))];
        let plan = UploadPlan::new(files, CheckpointKind::Savepoint, Some((cp(1), &base)), &none(), &|_| None);
        assert_eq!((plan.private.len(), plan.carried.len()), (1, 0));
    }
}
