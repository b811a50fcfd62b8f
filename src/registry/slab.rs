//! A growing array of equal things with reusable places, addressed by 32-bit slots.

use crate::error::{Error, ErrorKind, Result};

/// A place in a [`Slab`].
pub(super) type Slot = u32;

/// No place: the end of a list.
pub(super) const NONE: Slot = u32::MAX;

/// The most places of one slab. [`NONE`] is not one.
pub(super) const MAX_SLOTS: usize = NONE as usize;

/// Things at 32-bit slots. Freed slots are used again, the last freed first (it is still in a cache).
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<T>,
    free: Vec<Slot>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// How many places are taken.
    pub(super) fn len(&self) -> usize {
        self.places.len().saturating_sub(self.free.len())
    }

    /// Bytes of memory behind it.
    pub(super) fn heap_bytes(&self) -> usize {
        self.places.capacity() * size_of::<T>() + self.free.capacity() * size_of::<Slot>()
    }

    /// Puts `value` somewhere.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] when 2^32 - 1 places are taken.
    pub(super) fn insert(&mut self, value: T) -> Result<Slot> {
        if let Some(slot) = self.free.pop() {
            *self.get_mut(slot)? = value;
            return Ok(slot);
        }
        let slot = Slot::try_from(self.places.len()).ok().filter(|slot| *slot != NONE).ok_or_else(|| {
            Error::new(ErrorKind::LimitExceeded, "grow the registry", format!("a shard holds {MAX_SLOTS} entries"))
        })?;
        if self.places.len() == self.places.capacity() {
            // An eighth at a time: doubling would leave up to half of a large registry empty.
            self.places.reserve_exact((self.places.len() / 8).max(16));
        }
        self.places.push(value);
        Ok(slot)
    }

    /// Frees a slot. The caller has taken every link to it away.
    pub(super) fn remove(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    pub(super) fn get(&self, slot: Slot) -> Result<&T> {
        self.places.get(slot as usize).ok_or_else(broken_link)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Result<&mut T> {
        self.places.get_mut(slot as usize).ok_or_else(broken_link)
    }
}

#[cold]
fn broken_link() -> Error {
    Error::new(ErrorKind::Internal, "follow a link in the registry", "the link leads nowhere")
        .with_advice("restart the coordinator: the registry is rebuilt from the `_metadata` files")
}
