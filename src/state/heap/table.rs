//! One named state: its rows, and which key groups changed when.
//!
//! Both are persistent B+ trees (`imbl`): a clone copies one pointer, and a later write copies only the
//! nodes on its path that a clone still shares. That is the whole of copy-on-write; no row is visited
//! when a snapshot is taken, which a test of this module counts.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::Generation;
use crate::keygroup::{KeyGroup, KeyGroupRange};
use crate::state::RowBounds;

/// A row's key. Shared between a table and its snapshots.
#[derive(PartialEq, Eq)]
pub(super) struct Key(Arc<[u8]>);

/// A row's value, growable in place as long as no snapshot shares it, so that appending to a list
/// does not copy it every time.
pub(super) struct Value(Arc<Vec<u8>>);

/// Counts what a clone of a table would have to do for each row, if it did.
#[cfg(test)]
pub(super) mod touched {
    use std::cell::Cell;

    thread_local!(static ROWS: Cell<u64> = const { Cell::new(0) });

    pub(in super::super) fn add_one() {
        ROWS.with(|rows| rows.set(rows.get() + 1));
    }

    pub(in super::super) fn take() -> u64 {
        ROWS.with(Cell::take)
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        #[cfg(test)]
        touched::add_one();
        Self(Arc::clone(&self.0))
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        #[cfg(test)]
        touched::add_one();
        Self(Arc::clone(&self.0))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        #[cfg(test)]
        touched::add_one();
        &self.0
    }
}

/// The rows of a table at one point, and when its groups last changed.
#[derive(Clone, Default)]
pub(super) struct Frozen {
    rows: OrdMap<Key, Value>,
    /// (generation of its last change, key group), one entry a group that ever had a row.
    changes: OrdSet<(Generation, KeyGroup)>,
}

impl Frozen {
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.rows.get(key).map(|value| value.0.as_slice())
    }

    /// The rows within `bounds`, in key order.
    pub(super) fn rows(&self, bounds: RowBounds<'_>) -> impl Iterator<Item = (&[u8], &[u8])> {
        // An inverted range must give nothing; a tree may panic on it.
        let some = bounds.end.is_none_or(|end| bounds.start < end);
        let end = bounds.end.map_or(Bound::Unbounded, Bound::Excluded);
        some.then(|| self.rows.range::<_, [u8]>((Bound::Included(bounds.start), end)))
            .into_iter()
            .flatten()
            .map(|(key, value)| (&*key.0, value.0.as_slice()))
    }

    /// The groups whose last change came after `base`, in the order of that change.
    pub(super) fn changed_since(&self, base: Generation) -> impl Iterator<Item = KeyGroup> {
        self.changes.range((base.next(), 0)..).map(|(_, group)| *group)
    }
}

/// A state that is being written.
pub(super) struct Table {
    now: Frozen,
    owned: KeyGroupRange,
    /// By group, counted from the first one owned: the generation under which it stands in `changes`.
    changed_at: Vec<Option<Generation>>,
}

impl Table {
    pub(super) fn new(owned: KeyGroupRange) -> Self {
        Self { now: Frozen::default(), owned, changed_at: vec![None; owned.len() as usize] }
    }

    /// The table as it is, for reading.
    pub(super) fn now(&self) -> &Frozen {
        &self.now
    }

    pub(super) fn put(&mut self, group: KeyGroup, key: &[u8], value: &[u8], generation: Generation) {
        self.mark(group, generation);
        let value = Value(Arc::new(value.to_vec()));
        match self.now.rows.get_mut(key) {
            Some(present) => *present = value,
            None => {
                self.now.rows.insert(Key(key.into()), value);
            }
        }
    }

    pub(super) fn append(&mut self, group: KeyGroup, key: &[u8], suffix: &[u8], generation: Generation) {
        self.mark(group, generation);
        match self.now.rows.get_mut(key) {
            Some(present) => Arc::make_mut(&mut present.0).extend_from_slice(suffix),
            None => {
                self.now.rows.insert(Key(key.into()), Value(Arc::new(suffix.to_vec())));
            }
        }
    }

    pub(super) fn delete(&mut self, group: KeyGroup, key: &[u8], generation: Generation) {
        if self.now.rows.contains_key(key) {
            self.mark(group, generation);
            self.now.rows.remove(key);
        }
    }

    /// The keys within `bounds`, held beyond later writes.
    pub(super) fn keys(&self, bounds: RowBounds<'_>) -> Vec<Vec<u8>> {
        self.now.rows(bounds).map(|(key, _)| key.to_vec()).collect()
    }

    fn mark(&mut self, group: KeyGroup, generation: Generation) {
        let slot = group.checked_sub(self.owned.first()).and_then(|at| self.changed_at.get_mut(usize::from(at)));
        let Some(slot) = slot else {
            debug_assert!(false, "the backend checks the group of every row");
            return;
        };
        if *slot == Some(generation) {
            return;
        }
        if let Some(before) = slot.replace(generation) {
            self.now.changes.remove(&(before, group));
        }
        self.now.changes.insert((generation, group));
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.now.rows.len()).field("owned", &self.owned).finish()
    }
}

impl fmt::Debug for Frozen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frozen").field("rows", &self.rows.len()).finish()
    }
}
