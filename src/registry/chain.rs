//! One shard's share of the chain of registered checkpoints: tenancies, live lists and dead lists.
//! The module's text in `mod.rs` tells how they work.

use std::collections::{BTreeMap, VecDeque};

use super::slab::{NONE, Slab, Slot};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::CheckpointId;

/// Tenancies of one object that were born at one checkpoint and share their fate so far. In exactly
/// one list: a live list, or a dead list. 32 bytes, which a test keeps so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// The checkpoint that first had them.
    pub(super) born: CheckpointId,
    /// The object, in the same shard.
    pub(super) object: Slot,
    /// How many.
    pub(super) count: u32,
    /// Neighbours in the list.
    pub(super) previous: Slot,
    pub(super) next: Slot,
    /// Neighbours among the object's live rows; unused in a dead list.
    pub(super) newer: Slot,
    pub(super) older: Slot,
}

/// The ends of a doubly linked list of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) first: Slot,
    last: Slot,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };
}

/// A registered checkpoint.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: CheckpointId,
    /// Live rows born after this checkpoint's predecessor and no later than it.
    pub(super) live: List,
    /// Rows that the predecessor has and this one has not, by the registered checkpoint in whose
    /// live list they were when they died.
    pub(super) dead: BTreeMap<CheckpointId, List>,
}

/// What of a shard belongs to the chain.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) rows: Slab<Row>,
    /// In id order.
    pub(super) nodes: VecDeque<Node>,
    /// Rows read or written since the start.
    pub(super) touched: u64,
}

impl Chain {
    pub(super) fn new() -> Self {
        Self { rows: Slab::new(), nodes: VecDeque::new(), touched: 0 }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let dead: usize = self.nodes.iter().map(|node| node.dead.len() * size_of::<(CheckpointId, List)>()).sum();
        self.rows.heap_bytes() + self.nodes.capacity() * size_of::<Node>() + dead
    }

    /// Where `id` is, or would be, in the chain.
    fn position(&self, id: CheckpointId) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.id.cmp(&id))
    }

    /// The checkpoint whose live list holds rows born at `born`, and its predecessor.
    pub(super) fn class_of(&self, born: CheckpointId) -> Result<(Option<CheckpointId>, CheckpointId)> {
        let (Ok(at) | Err(at)) = self.position(born);
        let node = self.nodes.get(at).ok_or_else(|| not_registered(born))?;
        let before = at.checked_sub(1).and_then(|before| self.nodes.get(before)).map(|node| node.id);
        Ok((before, node.id))
    }

    pub(super) fn node_mut(&mut self, id: CheckpointId) -> Result<&mut Node> {
        let at = self.position(id).map_err(|_| not_registered(id))?;
        self.nodes.get_mut(at).ok_or_else(|| not_registered(id))
    }

    /// Takes a node out of the chain, with its lists.
    pub(super) fn take_node(&mut self, id: CheckpointId) -> Result<Node> {
        let at = self.position(id).map_err(|_| not_registered(id))?;
        self.nodes.remove(at).ok_or_else(|| not_registered(id))
    }

    /// Appends row `slot` to `list`.
    pub(super) fn push(&mut self, list: &mut List, slot: Slot) -> Result<()> {
        self.touched += 1;
        let row = self.rows.get_mut(slot)?;
        (row.previous, row.next) = (list.last, NONE);
        if list.last == NONE {
            list.first = slot;
        } else {
            self.rows.get_mut(list.last)?.next = slot;
        }
        list.last = slot;
        Ok(())
    }

    /// Takes row `slot` out of `list`.
    pub(super) fn unlink(&mut self, list: &mut List, slot: Slot) -> Result<()> {
        self.touched += 1;
        let Row { previous, next, .. } = *self.rows.get(slot)?;
        if previous == NONE {
            list.first = next;
        } else {
            self.rows.get_mut(previous)?.next = next;
        }
        if next == NONE {
            list.last = previous;
        } else {
            self.rows.get_mut(next)?.previous = previous;
        }
        Ok(())
    }

    /// Both lists as one, whatever their lengths.
    pub(super) fn concat(&mut self, front: List, back: List) -> Result<List> {
        if front.first == NONE {
            return Ok(back);
        }
        if back.first == NONE {
            return Ok(front);
        }
        self.rows.get_mut(front.last)?.next = back.first;
        self.rows.get_mut(back.first)?.previous = front.last;
        Ok(List { first: front.first, last: back.last })
    }

    /// Merges two sets of dead lists, the smaller into the larger.
    pub(super) fn merge_dead(
        &mut self,
        one: BTreeMap<CheckpointId, List>,
        other: BTreeMap<CheckpointId, List>,
    ) -> Result<BTreeMap<CheckpointId, List>> {
        let (mut large, small) = if one.len() < other.len() { (other, one) } else { (one, other) };
        for (born, list) in small {
            let target = large.entry(born).or_insert(List::EMPTY);
            *target = self.concat(*target, list)?;
        }
        Ok(large)
    }
}

#[cold]
fn not_registered(id: CheckpointId) -> Error {
    Error::new(
        ErrorKind::NotFound,
        "look up a registered checkpoint",
        "no registered checkpoint has this id or a later one",
    )
    .with_object(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenancy_takes_half_a_cache_line_of_memory() {
        assert_eq!(size_of::<Row>(), 32);
    }
}
