//! Interned tags: what the objects of one checkpoint's attempt have in common, kept once.

use std::collections::HashMap;

use super::slab::{NONE, Slab, Slot};
use crate::error::Result;
use crate::layout::{CheckpointId, Epoch, Tag};

/// A [`Tag`] without its upload uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin {
    epoch: Epoch,
    generation: u64,
    checkpoint: CheckpointId,
}

impl Origin {
    fn of(tag: &Tag) -> Self {
        Self { epoch: tag.epoch, generation: tag.generation, checkpoint: tag.checkpoint }
    }
}

/// The origins of the objects of a shard, each with the number of objects that have it: a job that
/// runs for a year takes millions of checkpoints, so an origin goes with its last object.
#[derive(Debug)]
pub(super) struct Tags {
    origins: Slab<(Origin, u64)>,
    slots: HashMap<Origin, Slot>,
    /// The one asked for last. Changes come in runs of one checkpoint's.
    last: Slot,
}

impl Tags {
    pub(super) fn new() -> Self {
        Self { origins: Slab::new(), slots: HashMap::new(), last: NONE }
    }

    /// The slot of `tag`'s origin, for one more object.
    pub(super) fn intern(&mut self, tag: &Tag) -> Result<Slot> {
        let origin = Origin::of(tag);
        let known = match self.origins.get(self.last) {
            Ok((last, uses)) if *last == origin && *uses > 0 => Some(self.last),
            _ => self.slots.get(&origin).copied(),
        };
        let slot = match known {
            Some(slot) => slot,
            None => {
                let slot = self.origins.insert((origin, 0))?;
                self.slots.insert(origin, slot);
                slot
            }
        };
        self.origins.get_mut(slot)?.1 += 1;
        self.last = slot;
        Ok(slot)
    }

    /// One object fewer has the origin at `slot`.
    pub(super) fn release(&mut self, slot: Slot) -> Result<()> {
        let (origin, uses) = self.origins.get_mut(slot)?;
        *uses = uses.saturating_sub(1);
        if *uses == 0 {
            let origin = *origin;
            self.slots.remove(&origin);
            self.origins.remove(slot);
        }
        Ok(())
    }

    /// Whether the origin at `slot` and `upload` make `tag`.
    pub(super) fn matches(&self, slot: Slot, upload: crate::layout::Uid, tag: &Tag) -> Result<bool> {
        Ok(upload == tag.upload && self.origins.get(slot)?.0 == Origin::of(tag))
    }

    /// The tag of the origin at `slot` and `upload`.
    pub(super) fn tag(&self, slot: Slot, upload: crate::layout::Uid) -> Result<Tag> {
        let Origin { epoch, generation, checkpoint } = self.origins.get(slot)?.0;
        Ok(Tag { epoch, generation, checkpoint, upload })
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.origins.heap_bytes() + self.slots.capacity() * (size_of::<(Origin, Slot)>() + 1) * 8 / 7
    }
}
