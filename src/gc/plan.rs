//! What is to be deleted, and why, as a value: printed, tested, dry-run, then executed.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::layout::{CheckpointFolder, JobId, Place, SharedName};
use crate::ownership::{BlockScope, Blocker};
use crate::store::StorePath;

/// The most objects of one plan. A longer sweep stops there and says so; the next one goes on.
pub const MAX_PLAN_OBJECTS: usize = 1_000_000;
/// The most foreign objects that a plan names; the rest is counted.
pub const MAX_NAMED_FOREIGN: usize = 100;

/// A plan of deletion. Nothing has happened yet, and [`super::Collector::execute`] checks again what
/// may have changed since (references, pins, the claims).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GcPlan {
    /// The job.
    #[serde(serialize_with = "as_text")]
    pub job: JobId,
    /// The checkpoints that stop counting.
    pub dropped: Vec<Dropped>,
    /// Checkpoints that were asked to be dropped and are not.
    pub refused: Vec<Refused>,
    /// What goes, in the order of deletion.
    pub objects: Vec<PlannedObject>,
    /// What could not be read, and what therefore stays.
    pub blocked: Vec<BlockedBy>,
    /// Objects that would go if nothing was blocked.
    pub blocked_objects: u64,
    /// The bytes of these.
    pub blocked_bytes: u64,
    /// Names that icecore did not write, the first [`MAX_NAMED_FOREIGN`] of them. They stay.
    #[serde(serialize_with = "all_as_text")]
    pub foreign: Vec<StorePath>,
    /// How many such names there are.
    pub foreign_objects: u64,
    /// Whether the plan is as long as a plan may be; then the next one goes on.
    pub is_cut: bool,
}

/// A checkpoint that a plan drops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// Its folder.
    #[serde(serialize_with = "as_text")]
    pub folder: CheckpointFolder,
    /// Why, for people: `asked for`, `not among the last 3`.
    pub why: String,
}

/// A checkpoint that is not dropped although it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Its folder.
    #[serde(serialize_with = "as_text")]
    pub folder: CheckpointFolder,
    /// What keeps it, and what to do about that.
    pub why: String,
}

/// An object that a plan deletes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedObject {
    /// Where it lies below the root.
    #[serde(serialize_with = "as_text")]
    pub path: StorePath,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Why it goes.
    pub reason: Reason,
    /// What it is.
    #[serde(skip)]
    pub place: Place,
}

impl PlannedObject {
    /// Its name in `shared/`, if it lies there: what the registry knows it by.
    pub fn shared_name(&self) -> Option<&SharedName> {
        match &self.place {
            Place::Shared(name) => Some(name),
            _ => None,
        }
    }
}

/// Why an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// The index of a dropped checkpoint. Goes first.
    DroppedIndex,
    /// A file in the folder of a dropped checkpoint.
    DroppedPrivate,
    /// A shared file that only dropped checkpoints referenced.
    UnreferencedShared,
    /// An object of a superseded epoch that nothing that counts references.
    SupersededOrphan,
    /// An object of this epoch, of a checkpoint that was aborted or is complete, that nothing references.
    FinishedOrphan,
    /// A person's hold that was removed, does not count, or holds nothing any more.
    Hold,
    /// Another job's hold that does not count.
    VoidRef,
    /// A record that an object is damaged, which no checkpoint that counts has any more.
    Distrust,
    /// A request that was answered, or addressed to a superseded epoch, or its answer.
    Request,
    /// A list that does not count.
    VoidList,
    /// The claim, start or end of a superseded epoch. Go last, in increasing order (E1).
    SupersededEpoch,
}

impl Reason {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DroppedIndex => "index of a dropped checkpoint",
            Self::DroppedPrivate => "file of a dropped checkpoint",
            Self::UnreferencedShared => "shared file that no checkpoint references any more",
            Self::SupersededOrphan => "orphan of a superseded epoch",
            Self::FinishedOrphan => "orphan of a finished or aborted checkpoint",
            Self::Hold => "pin that is removed or void",
            Self::VoidRef => "ref that is void",
            Self::Distrust => "record of a damaged object that no checkpoint has any more",
            Self::Request => "request that is answered or void",
            Self::VoidList => "condemned list that is void",
            Self::SupersededEpoch => "record of a superseded epoch",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What blocks a deletion (4.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockedBy {
    /// The object that cannot be read.
    #[serde(serialize_with = "as_text")]
    pub object: StorePath,
    /// Why.
    pub reason: String,
    /// What stays because of it.
    pub blocks: &'static str,
}

impl From<&Blocker> for BlockedBy {
    fn from(blocker: &Blocker) -> Self {
        Self { object: blocker.object.clone(), reason: blocker.reason.clone(), blocks: blocker.scope.as_str() }
    }
}

impl GcPlan {
    /// A plan that does nothing yet.
    pub fn empty(job: JobId) -> Self {
        Self {
            job,
            dropped: Vec::new(),
            refused: Vec::new(),
            objects: Vec::new(),
            blocked: Vec::new(),
            blocked_objects: 0,
            blocked_bytes: 0,
            foreign: Vec::new(),
            foreign_objects: 0,
            is_cut: false,
        }
    }

    /// The bytes that go.
    pub fn total_bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.size_bytes).fold(0, u64::saturating_add)
    }

    /// Whether it deletes nothing.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// This plan and `other` of the same job as one. An object that is in both is in it once.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.dropped.extend(other.dropped);
        self.refused.extend(other.refused);
        self.objects.extend(other.objects);
        self.objects.sort_by(|a, b| a.path.cmp(&b.path));
        self.objects.dedup_by(|a, b| a.path == b.path);
        self.blocked.extend(other.blocked);
        self.blocked.sort_by(|a, b| a.object.cmp(&b.object));
        self.blocked.dedup();
        self.blocked_objects = self.blocked_objects.saturating_add(other.blocked_objects);
        self.blocked_bytes = self.blocked_bytes.saturating_add(other.blocked_bytes);
        self.foreign_objects = self.foreign_objects.saturating_add(other.foreign_objects);
        self.foreign.extend(other.foreign);
        self.foreign.truncate(MAX_NAMED_FOREIGN);
        self.is_cut |= other.is_cut;
        self.in_order()
    }

    /// Puts the objects into the order in which they are deleted: indexes first, so that what is half
    /// deleted no longer looks whole; records of epochs last and in increasing order (E1).
    #[must_use]
    pub(super) fn in_order(mut self) -> Self {
        self.objects.sort_by(|a, b| order_of(a).cmp(&order_of(b)));
        self
    }

    pub(super) fn add(&mut self, object: PlannedObject) {
        if self.objects.len() < MAX_PLAN_OBJECTS {
            self.objects.push(object);
        } else {
            self.is_cut = true;
        }
    }

    pub(super) fn add_foreign(&mut self, path: StorePath) {
        self.foreign_objects = self.foreign_objects.saturating_add(1);
        if self.foreign.len() < MAX_NAMED_FOREIGN {
            self.foreign.push(path);
        }
    }

    pub(super) fn add_blocked(&mut self, size_bytes: u64) {
        self.blocked_objects = self.blocked_objects.saturating_add(1);
        self.blocked_bytes = self.blocked_bytes.saturating_add(size_bytes);
    }

    pub(super) fn block(&mut self, blockers: &[Blocker]) {
        self.blocked = blockers.iter().map(BlockedBy::from).collect();
    }
}

/// Whether one of `blockers` forbids to delete an object at `place`.
pub(super) fn is_blocked(blockers: &[Blocker], place: &Place) -> bool {
    blockers.iter().any(|blocker| match blocker.scope {
        BlockScope::Everything => true,
        // A checkpoint that cannot be read may have any shared object, a damaged one, too.
        BlockScope::Shared => matches!(place, Place::Shared(_) | Place::Distrust(_)),
    })
}

fn order_of(object: &PlannedObject) -> (u8, Option<(crate::layout::Epoch, u8)>, &StorePath) {
    let (rank, epoch) = match &object.place {
        Place::Metadata(_) => (0, None),
        Place::Private(_) | Place::Shared(_) | Place::History(..) | Place::Foreign => (1, None),
        Place::Pin(_) | Place::Ref(_) | Place::Distrust(_) => (2, None),
        Place::Request(..) | Place::Answer(..) => (3, None),
        Place::List(..) => (4, None),
        Place::Start(epoch) => (5, Some((*epoch, 0))),
        Place::End(epoch) => (5, Some((*epoch, 1))),
        Place::Claim(epoch) => (5, Some((*epoch, 2))),
    };
    (rank, epoch, &object.path)
}

impl fmt::Display for GcPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for dropped in &self.dropped {
            writeln!(f, "drop   {}  ({})", dropped.folder, dropped.why)?;
        }
        for refused in &self.refused {
            writeln!(f, "keep   {}  ({})", refused.folder, refused.why)?;
        }
        for object in &self.objects {
            writeln!(f, "delete {}  {} bytes  ({})", object.path, object.size_bytes, object.reason)?;
        }
        for blocked in &self.blocked {
            writeln!(f, "blocked by {}: {} stays; {}", blocked.object, blocked.blocks, blocked.reason)?;
        }
        if self.blocked_objects > 0 {
            writeln!(f, "kept only because of that: {} objects, {} bytes", self.blocked_objects, self.blocked_bytes)?;
        }
        for foreign in &self.foreign {
            writeln!(f, "unknown {foreign}  (icecore did not write it; left alone)")?;
        }
        let unnamed = self.foreign_objects.saturating_sub(self.foreign.len() as u64);
        if unnamed > 0 {
            writeln!(f, "unknown: {unnamed} more")?;
        }
        if self.is_cut {
            writeln!(f, "the plan is cut at {MAX_PLAN_OBJECTS} objects; collect again for the rest")?;
        }
        let (objects, bytes) = (self.objects.len(), self.total_bytes());
        write!(f, "{} checkpoints dropped, {objects} objects, {bytes} bytes to delete", self.dropped.len())
    }
}

pub(super) fn as_text<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(super) fn all_as_text<T: fmt::Display, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(values.iter().map(ToString::to_string))
}
