//! Which calls a fault hits, and what it does to them.

use crate::error::{Error, ErrorKind, Result};
use crate::store::StorePath;

/// One kind of call on a store or a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Step {
    /// [`Store::probe`](crate::store::Store::probe); it has no path.
    Probe,
    /// [`Store::put`](crate::store::Store::put).
    Put,
    /// [`Store::create`](crate::store::Store::create).
    Create,
    /// [`ObjectWriter::write`](crate::store::ObjectWriter::write).
    Write,
    /// [`ObjectWriter::finish`](crate::store::ObjectWriter::finish).
    Finish,
    /// [`ObjectWriter::abort`](crate::store::ObjectWriter::abort).
    Abort,
    /// [`Store::read`](crate::store::Store::read).
    Read,
    /// [`Store::stat`](crate::store::Store::stat).
    Stat,
    /// The beginning of a [`Store::list`](crate::store::Store::list); its path is the prefix.
    List,
    /// One object of a listing, before it is handed out; its path is the object's. A listing parked
    /// here has been made in part, as one that takes two pages.
    ListItem,
    /// [`Store::list_children`](crate::store::Store::list_children); its path is the prefix.
    ListChildren,
    /// One path of a [`Store::delete`](crate::store::Store::delete).
    Delete,
    /// [`Store::remove_unfinished`](crate::store::Store::remove_unfinished); its path is the prefix.
    RemoveUnfinished,
}

/// What happens to a call that a [`Rule`] hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing is done, and this error is answered.
    Fail(ErrorKind),
    /// It is done, and this error is answered: the answer was lost on its way.
    LoseAnswer(ErrorKind),
    /// This error is answered, and it is done when the test says so, with
    /// [`FaultyStore::land_late`](super::FaultyStore::land_late). For `Put`, `Finish` and `Delete`.
    LandLater(ErrorKind),
    /// Only the first `keep_bytes` bytes arrive, and `Ok` is answered. For `Put` and `Create`.
    Torn {
        /// What is left of the object, in bytes.
        keep_bytes: u64,
    },
    /// All bits of the byte at `offset` are inverted, and `Ok` is answered. For `Put` and `Create`
    /// (an offset in the object) and `Read` (an offset in the object; one outside the range does
    /// nothing).
    Flip {
        /// Which byte, counted from the object's beginning.
        offset: u64,
    },
}

/// Which calls: a step, a pattern of paths, and which of the calls that match.
#[derive(Clone, Debug)]
pub struct Rule {
    step: Step,
    contains: Vec<String>,
    ends_with: Option<String>,
    skip: u64,
    times: u64,
    seen: u64,
}

impl Rule {
    /// The first call of this kind, whatever its path.
    pub fn on(step: Step) -> Self {
        Self { step, contains: Vec::new(), ends_with: None, skip: 0, times: 1, seen: 0 }
    }

    /// Only paths that contain `text`. May be said several times; all must hold.
    #[must_use]
    pub fn path_contains(mut self, text: impl Into<String>) -> Self {
        self.contains.push(text.into());
        self
    }

    /// Only paths that end with `text`.
    #[must_use]
    pub fn path_ends_with(mut self, text: impl Into<String>) -> Self {
        self.ends_with = Some(text.into());
        self
    }

    /// The `n`-th call that matches, counted from 1 and from when the rule was given to the store.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// This many calls in a row.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Every call, until [`FaultyStore::heal`](super::FaultyStore::heal).
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    pub(super) fn step(&self) -> Step {
        self.step
    }

    /// Counts the call if it matches, and says whether the rule hits it.
    pub(super) fn hits(&mut self, step: Step, path: Option<&StorePath>) -> bool {
        let text = path.map_or("", StorePath::as_str);
        let matches = self.step == step
            && self.contains.iter().all(|part| text.contains(part))
            && self.ends_with.as_ref().is_none_or(|end| text.ends_with(end));
        if !matches {
            return false;
        }
        self.seen += 1;
        self.seen > self.skip && self.seen - self.skip <= self.times
    }

    /// Refuses a fault that this rule's step cannot have: a test that injects nothing tests nothing.
    pub(super) fn check(&self, fault: Fault) -> Result<()> {
        let possible = match fault {
            Fault::Fail(_) => true,
            Fault::LoseAnswer(_) => self.step != Step::ListItem,
            Fault::LandLater(_) => matches!(self.step, Step::Put | Step::Finish | Step::Delete),
            Fault::Torn { .. } => matches!(self.step, Step::Put | Step::Create),
            Fault::Flip { .. } => matches!(self.step, Step::Put | Step::Create | Step::Read),
        };
        if possible {
            return Ok(());
        }
        Err(Error::invalid("inject a fault", format!("{fault:?} cannot happen at {:?}", self.step)))
    }
}
