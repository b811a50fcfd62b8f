//! The one place that decides what becomes of an object. The sweep asks it about every object it
//! lists, `why` about one; so they cannot disagree.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use super::drop::is_accounted_for;
use super::holdings::Holdings;
use super::plan::{Reason, is_blocked};
use crate::layout::{CheckpointFolder, CheckpointId, DistrustName, Epoch, Place, SharedName};
use crate::ownership::{Blocker, CheckpointView, JobView};
use crate::store::StorePath;

/// How far a tenure's checkpoints are. Take it *before* the objects are listed: an object listed
/// later whose checkpoint was finished then is either held by the registry or an orphan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The id that the tenure will give next; greater ones do not exist yet.
    pub next: CheckpointId,
    /// The ids below it that are neither complete nor aborted.
    pub in_flight: BTreeSet<CheckpointId>,
}

impl Progress {
    /// Everything that the tenure began is complete or aborted, as after its end.
    pub fn all_finished() -> Self {
        Self { next: CheckpointId(u64::MAX), in_flight: BTreeSet::new() }
    }

    /// Whether checkpoint `id` is complete or aborted.
    pub fn is_finished(&self, id: CheckpointId) -> bool {
        id < self.next && !self.in_flight.contains(&id)
    }
}

/// What becomes of an object at the next sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It stays.
    Kept(Keep),
    /// The sweep deletes it.
    Goes(Reason),
    /// The sweep would delete it, but something cannot be read (4.6).
    Blocked(Reason),
}

/// Why an object stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// A checkpoint that counts references it, or it is the index of one.
    Counts,
    /// The registry holds it, for a checkpoint in flight, say.
    Held,
    /// It was written for a checkpoint that is not finished.
    InFlight(CheckpointId),
    /// The folder's `_metadata` cannot be read, so nobody knows whether it is referenced.
    Unreadable(CheckpointFolder),
    /// A list that counts names it: its delete is under way.
    Condemned,
    /// It belongs to an epoch greater than the owner's.
    NewerEpoch,
    /// A record of the owner's own epoch, or a hold or request that counts.
    InUse,
    /// What happened to the job, for people: the job manager bounds it by itself.
    History,
    /// icecore did not write it.
    Foreign,
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counts => f.write_str("a checkpoint that counts needs it"),
            Self::Held => f.write_str("the registry holds it"),
            Self::InFlight(id) => write!(f, "it was written for checkpoint {id}, which may still be in flight"),
            Self::Unreadable(folder) => write!(f, "the index of {folder} cannot be read, so it may be needed"),
            Self::Condemned => f.write_str("its delete is under way"),
            Self::NewerEpoch => f.write_str("it belongs to a newer owner of the job"),
            Self::InUse => f.write_str("it is in use"),
            Self::History => f.write_str("it tells people what happened to the job"),
            Self::Foreign => f.write_str("icecore did not write it and leaves it alone"),
        }
    }
}

/// Everything a verdict depends on, read once.
#[derive(Debug)]
pub struct Judge<'a> {
    view: &'a JobView,
    holdings: &'a dyn Holdings,
    epoch: Epoch,
    progress: &'a Progress,
    /// Requests, answers and stray lists of the own epoch that have done their service.
    done: &'a BTreeSet<StorePath>,
    referenced: HashSet<StorePath>,
    condemned: HashSet<StorePath>,
    /// Damaged objects that checkpoints that count reference, in whichever job's folder they lie.
    damaged_in_use: HashSet<SharedName>,
    blockers: Vec<Blocker>,
}

fn damaged_in_use(view: &JobView, referenced: &HashSet<StorePath>) -> HashSet<SharedName> {
    if view.distrusted.is_empty() {
        return HashSet::new();
    }
    let names = referenced.iter().filter_map(|path| path.file_name().parse().ok());
    names.filter(|name| view.is_distrusted(name)).collect()
}

impl<'a> Judge<'a> {
    /// A judge for the owner of `epoch`. The order matters: `progress` was taken first, then the view
    /// was read, under this epoch; what is judged is listed afterwards. `done` names what else of the
    /// own epoch may go ([`crate::ownership::requests::Inbox::done`], [`super::Collector::stray_lists`]).
    pub fn new(
        view: &'a JobView,
        holdings: &'a dyn Holdings,
        epoch: Epoch,
        progress: &'a Progress,
        done: &'a BTreeSet<StorePath>,
    ) -> Self {
        Self::asking(view, |_| true, holdings, epoch, progress, done)
    }

    /// A judge of what checkpoints of this tenure left that came to nothing, and of nothing else: objects
    /// in their folders, which no other checkpoint references, and shared ones, which `holdings` knows.
    /// So only checkpoints are gone through that it does not know.
    pub fn of_leftovers(
        view: &'a JobView,
        holdings: &'a dyn Holdings,
        epoch: Epoch,
        progress: &'a Progress,
        done: &'a BTreeSet<StorePath>,
    ) -> Self {
        let is_asked = |checkpoint: &CheckpointView| !is_accounted_for(checkpoint, holdings);
        Self::asking(view, is_asked, holdings, epoch, progress, done)
    }

    fn asking(
        view: &'a JobView,
        is_asked: impl Fn(&CheckpointView) -> bool,
        holdings: &'a dyn Holdings,
        epoch: Epoch,
        progress: &'a Progress,
        done: &'a BTreeSet<StorePath>,
    ) -> Self {
        let asked = view.checkpoints.values().filter(|checkpoint| is_asked(checkpoint));
        let readable = asked.filter_map(|checkpoint| checkpoint.content.as_ref().ok());
        let referenced: HashSet<StorePath> = readable.flat_map(|metadata| view.references(metadata)).collect();
        let damaged_in_use = damaged_in_use(view, &referenced);
        let condemned = view.lists.iter().flat_map(|list| list.content.objects.iter().cloned()).collect();
        let blockers = view.all_blockers();
        Self { view, holdings, epoch, progress, done, referenced, condemned, damaged_in_use, blockers }
    }

    /// What stands in the way of deletions.
    pub fn blockers(&self) -> &[Blocker] {
        &self.blockers
    }

    /// What becomes of `path`, which is `place`.
    pub fn fate(&self, path: &StorePath, place: &Place) -> Fate {
        match self.verdict(path, place) {
            Fate::Goes(reason) if is_blocked(&self.blockers, place) => Fate::Blocked(reason),
            fate => fate,
        }
    }

    fn verdict(&self, path: &StorePath, place: &Place) -> Fate {
        if self.condemned.contains(path) {
            return Fate::Kept(Keep::Condemned);
        }
        match place {
            Place::Foreign => Fate::Kept(Keep::Foreign),
            Place::History(..) => Fate::Kept(Keep::History),
            Place::Shared(name) if self.holdings.holds(name) => Fate::Kept(Keep::Held),
            Place::Shared(name) => self.data(path, name.tag.epoch, name.tag.checkpoint),
            Place::Metadata(folder) if self.view.checkpoints.contains_key(folder) => Fate::Kept(Keep::Counts),
            Place::Metadata(folder) => self.data(path, folder.epoch, folder.checkpoint),
            Place::Private(folder) => match self.view.checkpoints.get(folder) {
                Some(checkpoint) if checkpoint.content.is_err() => Fate::Kept(Keep::Unreadable(*folder)),
                _ => self.data(path, folder.epoch, folder.checkpoint),
            },
            Place::Claim(epoch) | Place::Start(epoch) | Place::End(epoch) => {
                self.record(*epoch, Keep::InUse, Reason::SupersededEpoch)
            }
            Place::List(..) if self.done.contains(path) => Fate::Goes(Reason::VoidList),
            Place::List(epoch, _) => self.record(*epoch, Keep::Condemned, Reason::VoidList),
            Place::Pin(name) => match self.view.pins.contains_key(name) {
                true if self.view.checkpoints.contains_key(&name.folder) => Fate::Kept(Keep::InUse),
                true => Fate::Goes(Reason::Hold),
                false => self.record(name.writer, Keep::InUse, Reason::Hold),
            },
            Place::Ref(name) if self.view.refs.contains_key(name) => Fate::Kept(Keep::InUse),
            Place::Ref(name) => self.record(name.writer, Keep::InUse, Reason::VoidRef),
            Place::Distrust(name) => self.distrust(name),
            Place::Request(..) | Place::Answer(..) if self.done.contains(path) => Fate::Goes(Reason::Request),
            Place::Request(epoch, _) | Place::Answer(epoch, _) => self.record(*epoch, Keep::InUse, Reason::Request),
        }
    }

    /// A file of data or an index that `epoch` wrote for checkpoint `id` (S2).
    fn data(&self, path: &StorePath, epoch: Epoch, id: CheckpointId) -> Fate {
        if self.referenced.contains(path) {
            return Fate::Kept(Keep::Counts);
        }
        match epoch.cmp(&self.epoch) {
            std::cmp::Ordering::Less => Fate::Goes(Reason::SupersededOrphan),
            std::cmp::Ordering::Equal if self.progress.is_finished(id) => Fate::Goes(Reason::FinishedOrphan),
            std::cmp::Ordering::Equal => Fate::Kept(Keep::InFlight(id)),
            std::cmp::Ordering::Greater => Fate::Kept(Keep::NewerEpoch),
        }
    }

    /// X4: such a record serves for as long as a checkpoint that counts has the object. One that the view does
    /// not show is newer than that, and the next sweep's.
    fn distrust(&self, name: &DistrustName) -> Fate {
        if name.writer > self.epoch {
            return Fate::Kept(Keep::NewerEpoch);
        }
        let is_used = self.damaged_in_use.contains(&name.object) || self.holdings.holds(&name.object);
        match self.view.distrusted.contains(name) && !is_used {
            true => Fate::Goes(Reason::Distrust),
            false => Fate::Kept(Keep::InUse),
        }
    }

    /// Something that serves its epoch only.
    fn record(&self, epoch: Epoch, own: Keep, reason: Reason) -> Fate {
        match epoch.cmp(&self.epoch) {
            std::cmp::Ordering::Less => Fate::Goes(reason),
            std::cmp::Ordering::Equal => Fate::Kept(own),
            std::cmp::Ordering::Greater => Fate::Kept(Keep::NewerEpoch),
        }
    }
}
