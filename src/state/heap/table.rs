//! One named state: its rows, and which key groups changed when.
//!
//! Both are persistent B+ trees (`imbl`): a clone copies one pointer, and a later write copies only the
//! nodes on its path that a clone still shares. That is the whole of copy-on-write; no row is visited
//! when a snapshot is taken, which a test of this module counts.

use std::fmt;
use std::ops::Bound;

use imbl::{OrdMap, OrdSet};

use super::Generation;
use super::row::{Key, Value};
use crate::keygroup::{KeyGroup, KeyGroupRange};
use crate::state::RowBounds;

/// The rows of a table at one point, and when its groups last changed.
#[derive(Clone, Default)]
pub(super) struct Frozen {
    rows: OrdMap<Key, Value>,
    /// (generation of its last change, key group), one entry a group that ever had a row.
    changes: OrdSet<(Generation, KeyGroup)>,
}

impl Frozen {
    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.rows.get(key).map(Value::as_slice)
    }

    /// The rows within `bounds`, in key order.
    pub(super) fn rows(&self, bounds: RowBounds<'_>) -> impl Iterator<Item = (&[u8], &[u8])> {
        // An inverted range must give nothing; a tree may panic on it.
        let some = bounds.end.is_none_or(|end| bounds.start < end);
        let end = bounds.end.map_or(Bound::Unbounded, Bound::Excluded);
        some.then(|| self.rows.range::<_, [u8]>((Bound::Included(bounds.start), end)))
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
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
        let value = Value::new(value);
        match self.now.rows.get_mut(key) {
            Some(present) => *present = value,
            None => {
                self.now.rows.insert(Key::new(key), value);
            }
        }
    }

    pub(super) fn append(&mut self, group: KeyGroup, key: &[u8], suffix: &[u8], generation: Generation) {
        self.mark(group, generation);
        match self.now.rows.get_mut(key) {
            Some(present) => present.append(suffix),
            None => {
                self.now.rows.insert(Key::new(key), Value::new(suffix));
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
