//! What counts: the read-only view of a job that everyone shares.
//!
//! A checkpoint, ref or pin counts if the newest start adopted it or that start's epoch wrote it
//! since, except what a list of that epoch names (`docs/protocol.md`, Words). Reading claims nothing
//! and changes nothing; `list`, `show`, `restore` and `verify` use it as the owner does.
//!
//! It reads in the order lists, starts, refs and pins, checkpoints (C4-C7): a list that is not seen
//! has been removed after all its deletes were confirmed, so what is seen later is not half deleted.
//!
//! It fails closed (4.6): what cannot be read is kept as a [`Blocker`] or as an unreadable
//! checkpoint, and every plan asks for both. A passing error of the store at the newest start or at
//! one of its lists is no such fault: then there is no view, and reading it may be tried again.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind};
use crate::layout::{CheckpointFolder, CheckpointId, DistrustName, Epoch, JobLayout, RefName, SharedName, Uid};
use crate::metadata::{CheckpointKind, CheckpointMetadata, Condemned, FileEntry, Location, Start};
use crate::store::StorePath;

use super::epochs::Epochs;

/// A job's folder, as it was read.
#[derive(Clone, Debug)]
pub struct JobView {
    /// The job.
    pub layout: JobLayout,
    /// Every visible claim, start and end.
    pub epochs: Epochs,
    /// The newest start. `None`: no tenure has begun, and nothing counts.
    pub start: Option<Start>,
    /// The checkpoints that count, by number, then epoch.
    pub checkpoints: BTreeMap<CheckpointFolder, CheckpointView>,
    /// Checkpoint folders that do not count, and why.
    pub uncounted: BTreeMap<CheckpointFolder, Uncounted>,
    /// People's holds that count.
    pub pins: BTreeMap<RefName, HoldView>,
    /// Other jobs' holds that count.
    pub refs: BTreeMap<RefName, HoldView>,
    /// Shared objects that are known to be damaged, whichever epoch said so: to believe it costs one upload
    /// at most, so these records need not count (X3).
    pub distrusted: BTreeSet<DistrustName>,
    /// The lists that count: deletes of the newest start's epoch that are under way.
    pub lists: Vec<ListView>,
    /// What can only be judged with something that could not be read.
    pub blockers: Vec<Blocker>,
    /// Names that icecore does not write. Reported, never touched. (Those inside `shared/` and the
    /// checkpoint folders are not looked for here.)
    pub foreign: Vec<StorePath>,
    entries_read: Arc<AtomicU64>,
}

/// A checkpoint that counts.
#[derive(Clone, Debug)]
pub struct CheckpointView {
    /// Its folder.
    pub folder: CheckpointFolder,
    /// Length of its `_metadata`, in bytes.
    pub metadata_size_bytes: u64,
    /// What it holds, or why that cannot be told. What is here makes a path for each of its files.
    pub content: Result<Arc<CheckpointMetadata>, Unreadable>,
    /// Whether all its files are known to lie in its own folder: then no other folder's and no shared
    /// object is kept because of it.
    pub stands_alone: bool,
}

/// Why an object could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The kind of the error.
    pub kind: ErrorKind,
    /// One line for people.
    pub reason: String,
}

impl From<&Error> for Unreadable {
    fn from(error: &Error) -> Self {
        Self { kind: error.kind(), reason: error.to_string() }
    }
}

/// A checkpoint folder that does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncounted {
    /// Length of its `_metadata` in bytes, if it has one.
    pub metadata_size_bytes: Option<u64>,
    /// Why it does not count.
    pub why: NotCounting,
}

/// Why a checkpoint does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotCounting {
    /// It has no `_metadata`: unfinished, aborted, or what is left of a dropped one.
    NoMetadata,
    /// A list that counts names it.
    Condemned,
    /// The newest start did not adopt it, and a smaller epoch wrote it.
    NotAdopted,
    /// An epoch greater than the newest start wrote it.
    NewerEpoch,
    /// The newest start is missing or unreadable, so nobody can tell.
    Unknown,
}

/// A pin or a ref that counts. Its name alone holds the checkpoint; the body is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldView {
    /// The object.
    pub path: StorePath,
    /// A pin's reason, or the name of the job that holds a ref.
    pub note: Result<String, Unreadable>,
}

/// A condemned list that counts.
#[derive(Clone, Debug)]
pub struct ListView {
    /// The object.
    pub path: StorePath,
    /// The tenure that deletes.
    pub epoch: Epoch,
    /// The list's own uid.
    pub uid: Uid,
    /// What it names.
    pub content: Arc<Condemned>,
}

/// An object that could not be read, and what that forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// The object.
    pub object: StorePath,
    /// What is wrong with it, one line.
    pub reason: String,
    /// What must not be deleted before it is readable or gone.
    pub scope: BlockScope,
}

/// What a blocker forbids to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockScope {
    /// Every file of data that several checkpoints may reference: all of `shared/`.
    Shared,
    /// Everything.
    Everything,
}

impl BlockScope {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared files",
            Self::Everything => "everything",
        }
    }
}

impl JobView {
    /// The checkpoint that is `number`, if it counts.
    pub fn checkpoint(&self, number: CheckpointId) -> Option<&CheckpointView> {
        self.checkpoints.values().rev().find(|checkpoint| checkpoint.folder.checkpoint == number)
    }

    /// The newest checkpoint that counts. It is never dropped (R1): ids grow from it.
    pub fn newest(&self) -> Option<&CheckpointView> {
        self.checkpoints.values().next_back()
    }

    /// The smallest id that the next tenure may use (C9): above every checkpoint that counts. A folder that
    /// does not count takes no id from it, since nobody was ever told that it is complete.
    pub fn least_checkpoint(&self) -> CheckpointId {
        let newest = self.checkpoints.keys().next_back();
        newest.map_or(CheckpointId(1), |folder| CheckpointId(folder.checkpoint.0.saturating_add(1)))
    }

    /// The first id that no checkpoint in sight has, counting or not: what is easiest to tell apart.
    pub fn next_checkpoint(&self) -> CheckpointId {
        let counted = self.checkpoints.keys().next_back().map(|folder| folder.checkpoint);
        let uncounted = self.uncounted.keys().next_back().map(|folder| folder.checkpoint);
        // The greatest number there is stays put: a claim succeeds, and the first commit is refused.
        counted.max(uncounted).map_or(CheckpointId(1), |greatest| CheckpointId(greatest.0.saturating_add(1)))
    }

    /// The pins and refs that hold `folder`.
    pub fn holds(&self, folder: CheckpointFolder) -> impl Iterator<Item = &HoldView> {
        let of_folder = move |(name, _): &(&RefName, &HoldView)| name.folder == folder;
        self.pins.iter().filter(of_folder).chain(self.refs.iter().filter(of_folder)).map(|(_, hold)| hold)
    }

    /// The records that say that `object` is damaged.
    pub fn distrust_of(&self, object: &SharedName) -> impl Iterator<Item = &DistrustName> {
        let least = Epoch { counter: 0, uid: Uid(0) };
        let first = DistrustName { object: *object, writer: least, uid: Uid(0) };
        self.distrusted.range(first..).take_while(move |record| record.object == first.object)
    }

    /// Whether `object` is known to be damaged.
    pub fn is_distrusted(&self, object: &SharedName) -> bool {
        self.distrust_of(object).next().is_some()
    }

    /// What forbids every deletion, if anything does.
    pub fn blocks_everything(&self) -> Option<&Blocker> {
        self.blockers.iter().find(|blocker| blocker.scope == BlockScope::Everything)
    }

    /// Every blocker: those of the view, and the counting checkpoints that cannot be read.
    ///
    /// An unreadable `_metadata` forbids to delete anything shared. It can reference nothing else
    /// but its own folder: the registry hands out shared files only.
    pub fn all_blockers(&self) -> Vec<Blocker> {
        let unreadable = self.checkpoints.values().filter_map(|checkpoint| {
            let reason = checkpoint.content.as_ref().err()?.reason.clone();
            let object = self.layout.metadata(checkpoint.folder).ok()?;
            Some(Blocker { object, reason, scope: BlockScope::Shared })
        });
        self.blockers.iter().cloned().chain(unreadable).collect()
    }

    /// Every object that `metadata` references, by its path below the root.
    pub fn references<'a>(&'a self, metadata: &'a CheckpointMetadata) -> impl Iterator<Item = StorePath> + 'a {
        metadata.files().filter_map(move |file| self.object_at(metadata, file))
    }

    /// The object in which one file of `metadata` lies. `None` for a location that makes no path:
    /// not in what this view has read.
    pub fn object_at(&self, metadata: &CheckpointMetadata, file: &FileEntry) -> Option<StorePath> {
        self.entries_read.fetch_add(1, Ordering::Relaxed);
        object_of(&self.layout, metadata.folder(), &file.location)
    }

    /// How many file entries of indexes this view was asked about since it was read: what plans cost.
    /// Grows with what goes and with what a sweep looks at, not with what exists.
    pub fn entries_read(&self) -> u64 {
        self.entries_read.load(Ordering::Relaxed)
    }

    /// The checkpoints that count and reference `object`.
    pub fn referenced_by<'a>(&'a self, object: &'a StorePath) -> impl Iterator<Item = CheckpointFolder> + 'a {
        self.checkpoints.values().filter_map(move |checkpoint| {
            let metadata = checkpoint.content.as_ref().ok()?;
            self.references(metadata).any(|path| path == *object).then_some(checkpoint.folder)
        })
    }

    /// Notes a checkpoint that the tenure of this view completed since it was read. Its locations make
    /// paths, as its writer checked, and only an incremental one references what lies outside its folder.
    pub fn note_committed(&mut self, metadata: Arc<CheckpointMetadata>, metadata_size_bytes: u64) {
        let folder = metadata.folder();
        let stands_alone = metadata.kind != CheckpointKind::Incremental;
        self.uncounted.remove(&folder);
        let checkpoint = CheckpointView { folder, metadata_size_bytes, content: Ok(metadata), stands_alone };
        self.checkpoints.insert(folder, checkpoint);
    }

    /// Notes a checkpoint that the tenure of this view condemned since it was read. What is left of its
    /// folder is the collector's to know.
    pub fn note_dropped(&mut self, folder: CheckpointFolder) {
        self.checkpoints.remove(&folder);
    }

    /// From the own `start` on, the predecessor's lists are void (C8).
    pub(super) fn adopt_as(&mut self, start: Start) {
        self.epochs.known.entry(start.epoch).or_default().started = true;
        self.start = Some(start);
        self.lists.clear();
        for uncounted in self.uncounted.values_mut().filter(|uncounted| uncounted.metadata_size_bytes.is_some()) {
            uncounted.why = NotCounting::NotAdopted;
        }
    }
}

/// Refuses an index with a file whose location makes no path below the root.
///
/// # Errors
/// [`ErrorKind::Corrupt`] naming the file.
pub(crate) fn check_locations(layout: &JobLayout, metadata: &CheckpointMetadata) -> crate::Result<()> {
    match metadata.files().find(|file| object_of(layout, metadata.folder(), &file.location).is_none()) {
        None => Ok(()),
        Some(bad) => {
            let message = format!("the location of its file {} makes no path", bad.local_name);
            Err(Error::new(ErrorKind::Corrupt, "check a checkpoint", message).with_object(metadata.folder()))
        }
    }
}

fn object_of(layout: &JobLayout, folder: CheckpointFolder, location: &Location) -> Option<StorePath> {
    match location {
        Location::InRoot(path) => Some(path.clone()),
        Location::InCheckpoint(path) => layout.checkpoint(folder).ok()?.join(path.as_str()).ok(),
    }
}
