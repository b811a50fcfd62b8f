//! The objects of one shard: an index from content hash to a small entry each.

use super::hasher::{PrefixMap, prefix_of};
use super::slab::{NONE, Slab, Slot};
use super::tags::Tags;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{ContentHash, FileKind, SharedName, Tag, Uid};

/// The largest size of one object, in bytes: 256 TiB, what six bytes can say.
pub const MAX_OBJECT_SIZE_BYTES: u64 = (1 << 48) - 1;

/// What may be done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Somebody uploads it.
    InFlight,
    /// It is stored and may be handed out.
    Stored,
    /// It is stored and known to be damaged: never handed out again, and needed as before by whatever
    /// references it.
    Distrusted,
    /// Its deletion is planned: never handed out again in this tenure (design 4.3).
    Condemned,
}

/// One object. 64 bytes, which a test keeps so.
#[derive(Debug)]
pub(super) struct Object {
    hash: ContentHash,
    upload: Uid,
    size_low: u32,
    size_high: u16,
    pub(super) kind: FileKind,
    pub(super) state: State,
    /// The origin part of its tag, interned.
    tag: Slot,
    /// The newest of its tenancies that the newest checkpoint still has.
    pub(super) first_live: Slot,
    /// How many tenancies it has, in whichever registered checkpoints.
    pub(super) references: u32,
    /// The next object whose hash has the same first bytes: the same content under another tag,
    /// almost always.
    next_same_prefix: Slot,
}

impl Object {
    pub(super) fn size_bytes(&self) -> u64 {
        u64::from(self.size_high) << 32 | u64::from(self.size_low)
    }
}

/// All objects of a shard.
#[derive(Debug)]
pub(super) struct Objects {
    index: PrefixMap<Slot>,
    slab: Slab<Object>,
    tags: Tags,
}

impl Objects {
    pub(super) fn new() -> Self {
        Self { index: PrefixMap::default(), slab: Slab::new(), tags: Tags::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        // hashbrown keeps an eighth of its places free and a control byte for each.
        let index_places = self.index.capacity() * 8 / 7;
        self.slab.heap_bytes() + self.tags.heap_bytes() + index_places * (size_of::<(u64, Slot)>() + 1)
    }

    pub(super) fn get(&self, slot: Slot) -> Result<&Object> {
        self.slab.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Result<&mut Object> {
        self.slab.get_mut(slot)
    }

    /// The full name of the object at `slot`.
    pub(super) fn name(&self, slot: Slot) -> Result<SharedName> {
        let object = self.slab.get(slot)?;
        Ok(SharedName { hash: object.hash, tag: self.tags.tag(object.tag, object.upload)?, kind: object.kind })
    }

    /// The tag of the object at `slot`.
    pub(super) fn tag(&self, slot: Slot) -> Result<Tag> {
        let object = self.slab.get(slot)?;
        self.tags.tag(object.tag, object.upload)
    }

    /// The object of exactly this name.
    pub(super) fn find(&self, name: &SharedName) -> Result<Option<Slot>> {
        let mut at = self.index.get(&prefix_of(&name.hash)).copied().unwrap_or(NONE);
        while at != NONE {
            let object = self.slab.get(at)?;
            if object.hash == name.hash
                && object.kind == name.kind
                && self.tags.matches(object.tag, object.upload, &name.tag)?
            {
                return Ok(Some(at));
            }
            at = object.next_same_prefix;
        }
        Ok(None)
    }

    /// An object of this content and kind that may be handed out, or will be: a stored one before one in
    /// flight.
    pub(super) fn find_content(&self, hash: &ContentHash, kind: FileKind) -> Result<Option<(Slot, State)>> {
        let mut found = None;
        let mut at = self.index.get(&prefix_of(hash)).copied().unwrap_or(NONE);
        while at != NONE {
            let object = self.slab.get(at)?;
            if object.hash == *hash && object.kind == kind {
                match object.state {
                    State::Stored => return Ok(Some((at, State::Stored))),
                    State::InFlight => found = Some((at, State::InFlight)),
                    State::Distrusted | State::Condemned => {}
                }
            }
            at = object.next_same_prefix;
        }
        Ok(found)
    }

    /// Adds an object.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if the name is there, [`ErrorKind::LimitExceeded`] if it is too large.
    pub(super) fn insert(&mut self, name: &SharedName, size_bytes: u64, state: State) -> Result<Slot> {
        if self.find(name)?.is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists, "add an object", "a name is never used twice")
                .with_object(name)
                .with_advice("draw a fresh upload uid for each attempt"));
        }
        if size_bytes > MAX_OBJECT_SIZE_BYTES {
            let message = format!("{size_bytes} bytes are more than {MAX_OBJECT_SIZE_BYTES}");
            return Err(Error::new(ErrorKind::LimitExceeded, "add an object", message).with_object(name));
        }
        let tag = self.tags.intern(&name.tag)?;
        let head = self.index.entry(prefix_of(&name.hash)).or_insert(NONE);
        let slot = self.slab.insert(Object {
            hash: name.hash,
            upload: name.tag.upload,
            // Both casts keep every bit of a size within the limit.
            size_low: (size_bytes & u64::from(u32::MAX)) as u32,
            size_high: (size_bytes >> 32) as u16,
            kind: name.kind,
            state,
            tag,
            first_live: NONE,
            references: 0,
            next_same_prefix: *head,
        })?;
        *head = slot;
        Ok(slot)
    }

    /// Takes the object at `slot` out. It has no tenancies.
    pub(super) fn remove(&mut self, slot: Slot) -> Result<()> {
        let object = self.slab.get(slot)?;
        let (prefix, next, tag) = (prefix_of(&object.hash), object.next_same_prefix, object.tag);
        let head = self.index.get(&prefix).copied().unwrap_or(NONE);
        if head == slot {
            if next == NONE {
                self.index.remove(&prefix);
            } else {
                self.index.insert(prefix, next);
            }
        } else {
            let mut before = head;
            loop {
                let object = self.slab.get_mut(before)?;
                if object.next_same_prefix == slot {
                    object.next_same_prefix = next;
                    break;
                }
                before = object.next_same_prefix;
            }
        }
        self.slab.remove(slot);
        self.tags.release(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_takes_one_cache_line_of_memory() {
        assert_eq!(size_of::<Object>(), 64);
    }
}
