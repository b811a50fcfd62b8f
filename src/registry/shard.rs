//! One shard: the objects whose hashes fall into it, and everything about them, under one lock.

use std::collections::{BTreeMap, HashMap};

use super::chain::{Chain, List, Node, Row};
use super::holds::{Pending, Upload};
use super::objects::{Objects, State};
use super::slab::{NONE, Slot};
use super::{ObjectStatus, Stats};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointId, SharedName};

/// A shard's part of what a checkpoint changed.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: Vec<(SharedName, u64)>,
    pub(super) removed: Vec<(SharedName, CheckpointId)>,
}

/// Where in the chain the checkpoint stands that is being released.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) before: Option<CheckpointId>,
    pub(super) after: Option<CheckpointId>,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) objects: Objects,
    pub(super) chain: Chain,
    /// How often pending checkpoints hold an object.
    pub(super) holds: HashMap<Slot, u32>,
    /// The pending checkpoints: few, so a vector.
    pub(super) pending: Vec<Pending>,
    /// Uploads in flight.
    pub(super) uploads: HashMap<Slot, Upload>,
    pub(super) tenancies: u64,
    pub(super) stored_bytes: u64,
    pub(super) condemned: u64,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            objects: Objects::new(),
            chain: Chain::new(),
            holds: HashMap::new(),
            pending: Vec::new(),
            uploads: HashMap::new(),
            tenancies: 0,
            stored_bytes: 0,
            condemned: 0,
        }
    }

    /// Appends checkpoint `id` to the chain. After an error the node is there with what was done so
    /// far, and [`Self::undo_register`] takes it back.
    ///
    /// `adopt`: take in objects that the registry does not know (a rebuild).
    pub(super) fn register(&mut self, id: CheckpointId, changes: &Changes, adopt: bool) -> Result<()> {
        let mut node = Node { id, live: List::EMPTY, dead: BTreeMap::new() };
        let added = changes.added.iter().try_for_each(|(name, size)| self.add(&mut node, name, *size, adopt));
        let removed =
            added.and_then(|()| changes.removed.iter().try_for_each(|(name, born)| self.take(&mut node, name, *born)));
        self.chain.nodes.push_back(node);
        removed
    }

    /// Takes back a registration that failed, wholly or in part done.
    pub(super) fn undo_register(&mut self, id: CheckpointId, adopt: bool) -> Result<()> {
        let mut unreferenced = Vec::new();
        self.release_newest(id, &mut unreferenced)?;
        if adopt {
            // Taken in on the word of a checkpoint that is refused: they may not even be there.
            for name in &unreferenced {
                self.condemn(name)?;
                self.forget(name)?;
            }
        }
        // Otherwise they were held or unreferenced before, and still are: not news.
        Ok(())
    }

    /// One more tenancy of the object `name`, born at `node`.
    fn add(&mut self, node: &mut Node, name: &SharedName, size_bytes: u64, adopt: bool) -> Result<()> {
        let slot = match self.objects.find(name)? {
            Some(slot) => slot,
            None if adopt => {
                let slot = self.objects.insert(name, size_bytes, State::Stored)?;
                self.stored_bytes += size_bytes;
                slot
            }
            None => return Err(unusable(name, "the registry does not hold it, so it may have been deleted")),
        };
        let object = self.objects.get_mut(slot)?;
        match object.state {
            State::Stored => {}
            // A rebuild takes in what is there, damaged or not; nothing that is new may go there.
            State::Distrusted if adopt => {}
            State::Distrusted => return Err(unusable(name, "it is known to be damaged")),
            State::Condemned => return Err(unusable(name, "its deletion is planned")),
            State::InFlight => return Err(unusable(name, "its upload has not been completed")),
        }
        if object.size_bytes() != size_bytes {
            let message = format!("{size_bytes} bytes are claimed for an object of {} bytes", object.size_bytes());
            return Err(Error::new(ErrorKind::Corrupt, "register a checkpoint", message).with_object(name));
        }
        object.references = object.references.checked_add(1).ok_or_else(|| too_often(name))?;
        self.tenancies += 1;
        let head = object.first_live;
        if head != NONE {
            let row = self.chain.rows.get_mut(head)?;
            if row.born == node.id {
                // Bounded by `references`, which was checked.
                row.count += 1;
                self.chain.touched += 1;
                return Ok(());
            }
        }
        let row = self.chain.rows.insert(Row {
            born: node.id,
            object: slot,
            count: 1,
            previous: NONE,
            next: NONE,
            newer: NONE,
            older: head,
        })?;
        object.first_live = row;
        if head != NONE {
            self.chain.rows.get_mut(head)?.newer = row;
        }
        self.chain.push(&mut node.live, row)
    }

    /// One tenancy of `name`, born at `born`, is not in `node` any more: it goes onto its dead list.
    fn take(&mut self, node: &mut Node, name: &SharedName, born: CheckpointId) -> Result<()> {
        let slot = self.objects.find(name)?.ok_or_else(|| no_tenancy(name, born))?;
        // The node itself is not in the chain yet, so nothing born at it is found.
        let (before, class) = self.chain.class_of(born).map_err(|error| error.with_object(name))?;
        let mut at = self.objects.get(slot)?.first_live;
        let row = loop {
            if at == NONE {
                return Err(no_tenancy(name, born));
            }
            self.chain.touched += 1;
            let row = *self.chain.rows.get(at)?;
            // Every birth within one class has the same future, so any of them will do.
            if row.born <= class && Some(row.born) > before {
                break row;
            }
            at = row.older;
        };
        let dying = if row.count > 1 {
            self.chain.rows.get_mut(at)?.count -= 1;
            self.chain.rows.insert(Row { count: 1, newer: NONE, older: NONE, ..row })?
        } else {
            self.detach(at)?;
            let mut live = self.chain.node_mut(class)?.live;
            self.chain.unlink(&mut live, at)?;
            self.chain.node_mut(class)?.live = live;
            at
        };
        self.chain.push(node.dead.entry(class).or_insert(List::EMPTY), dying)
    }

    /// Takes a row out of its object's live rows.
    fn detach(&mut self, at: Slot) -> Result<()> {
        let Row { object, newer, older, .. } = *self.chain.rows.get(at)?;
        if newer == NONE {
            self.objects.get_mut(object)?.first_live = older;
        } else {
            self.chain.rows.get_mut(newer)?.older = older;
        }
        if older != NONE {
            self.chain.rows.get_mut(older)?.newer = newer;
        }
        Ok(())
    }

    /// Takes checkpoint `id` out of the chain; appends to `unreferenced` what nothing holds any more.
    pub(super) fn release(&mut self, id: CheckpointId, place: Place, unreferenced: &mut Vec<SharedName>) -> Result<()> {
        let Some(after) = place.after else {
            return self.release_newest(id, unreferenced);
        };
        let released = self.chain.take_node(id)?;
        let successor = self.chain.node_mut(after)?;
        let mut dead = std::mem::take(&mut successor.dead);
        let live = successor.live;
        // What the successor lost and the predecessor never had, only `id` still had.
        let freed = match place.before {
            Some(before) => dead.split_off(&CheckpointId(before.0.saturating_add(1))),
            None => std::mem::take(&mut dead),
        };
        let live = self.chain.concat(released.live, live)?;
        let dead = self.chain.merge_dead(dead, released.dead)?;
        let successor = self.chain.node_mut(after)?;
        (successor.live, successor.dead) = (live, dead);
        freed.into_values().try_for_each(|list| self.free(list, false, unreferenced))
    }

    /// Takes the newest checkpoint out of the chain: what it alone has is freed, and what it lost
    /// lives on, since its predecessor is the newest now.
    pub(super) fn release_newest(&mut self, id: CheckpointId, unreferenced: &mut Vec<SharedName>) -> Result<()> {
        let released = self.chain.take_node(id)?;
        self.free(released.live, true, unreferenced)?;
        for list in released.dead.into_values() {
            let mut at = list.first;
            while at != NONE {
                let Row { next, born, object, .. } = *self.chain.rows.get(at)?;
                let (_, class) = self.chain.class_of(born)?;
                let object = self.objects.get_mut(object)?;
                let head = std::mem::replace(&mut object.first_live, at);
                if head != NONE {
                    self.chain.rows.get_mut(head)?.newer = at;
                }
                let row = self.chain.rows.get_mut(at)?;
                (row.newer, row.older) = (NONE, head);
                let mut live = self.chain.node_mut(class)?.live;
                self.chain.push(&mut live, at)?;
                self.chain.node_mut(class)?.live = live;
                at = next;
            }
        }
        Ok(())
    }

    /// Frees every row of a list.
    fn free(&mut self, list: List, live: bool, unreferenced: &mut Vec<SharedName>) -> Result<()> {
        let mut at = list.first;
        while at != NONE {
            self.chain.touched += 1;
            let Row { next, object: slot, count, .. } = *self.chain.rows.get(at)?;
            if live {
                self.detach(at)?;
            }
            let object = self.objects.get_mut(slot)?;
            object.references = object.references.checked_sub(count).ok_or_else(underflow)?;
            self.tenancies = self.tenancies.checked_sub(u64::from(count)).ok_or_else(underflow)?;
            let last = object.references == 0;
            self.chain.rows.remove(at);
            // What a pending checkpoint holds is reported when that ends.
            if last && (self.holds.is_empty() || !self.holds.contains_key(&slot)) {
                unreferenced.push(self.objects.name(slot)?);
            }
            at = next;
        }
        Ok(())
    }

    /// What the registry knows of `name`.
    pub(super) fn status(&self, name: &SharedName) -> Result<ObjectStatus> {
        let Some(slot) = self.objects.find(name)? else {
            return Ok(ObjectStatus::Unknown);
        };
        let object = self.objects.get(slot)?;
        Ok(match object.state {
            State::InFlight => ObjectStatus::InFlight,
            State::Condemned => ObjectStatus::Condemned,
            State::Stored | State::Distrusted if object.references > 0 => {
                ObjectStatus::Referenced { tenancies: object.references }
            }
            State::Stored | State::Distrusted if self.holds.contains_key(&slot) => ObjectStatus::Held,
            State::Stored | State::Distrusted => ObjectStatus::Unreferenced,
        })
    }

    pub(super) fn size_bytes(&self, name: &SharedName) -> Result<Option<u64>> {
        match self.objects.find(name)? {
            None => Ok(None),
            Some(slot) => Ok(Some(self.objects.get(slot)?.size_bytes())),
        }
    }

    /// The registered checkpoints that have `name`. Reads every dead list of the shard: for people.
    pub(super) fn checkpoints_of(&self, name: &SharedName) -> Result<Vec<CheckpointId>> {
        let Some(slot) = self.objects.find(name)? else {
            return Ok(Vec::new());
        };
        let mut lives = Vec::new();
        let mut at = self.objects.get(slot)?.first_live;
        while at != NONE {
            let row = self.chain.rows.get(at)?;
            lives.push((row.born, None));
            at = row.older;
        }
        for node in &self.chain.nodes {
            for list in node.dead.values() {
                let mut at = list.first;
                while at != NONE {
                    let row = self.chain.rows.get(at)?;
                    if row.object == slot {
                        lives.push((row.born, Some(node.id)));
                    }
                    at = row.next;
                }
            }
        }
        let lived_at = |id| lives.iter().any(|(born, died)| *born <= id && died.is_none_or(|died| id < died));
        Ok(self.chain.nodes.iter().map(|node| node.id).filter(|id| lived_at(*id)).collect())
    }

    /// Condemns `name` unless something needs it; whether it is condemned now.
    pub(super) fn condemn(&mut self, name: &SharedName) -> Result<bool> {
        let slot = match self.objects.find(name)? {
            Some(slot) => slot,
            None => {
                // An orphan that the registry never knew. It is remembered, so that nobody registers it.
                self.objects.insert(name, 0, State::Condemned)?;
                self.condemned += 1;
                return Ok(true);
            }
        };
        let held = self.holds.contains_key(&slot);
        let object = self.objects.get_mut(slot)?;
        match object.state {
            State::Condemned => Ok(true),
            State::InFlight => Ok(false),
            State::Stored | State::Distrusted if held || object.references > 0 => Ok(false),
            State::Stored | State::Distrusted => {
                object.state = State::Condemned;
                self.stored_bytes = self.stored_bytes.saturating_sub(object.size_bytes());
                self.condemned += 1;
                Ok(true)
            }
        }
    }

    /// Hands `name` out no more; whether the registry knows it as stored. Nothing else changes: what
    /// references it needs it as before.
    pub(super) fn distrust(&mut self, name: &SharedName) -> Result<bool> {
        let Some(slot) = self.objects.find(name)? else { return Ok(false) };
        let object = self.objects.get_mut(slot)?;
        match object.state {
            State::Stored | State::Distrusted => {
                object.state = State::Distrusted;
                Ok(true)
            }
            State::InFlight | State::Condemned => Ok(false),
        }
    }

    /// Whether `name` is known to be damaged.
    pub(super) fn is_distrusted(&self, name: &SharedName) -> Result<bool> {
        match self.objects.find(name)? {
            None => Ok(false),
            Some(slot) => Ok(self.objects.get(slot)?.state == State::Distrusted),
        }
    }

    /// Drops a condemned object from memory.
    pub(super) fn forget(&mut self, name: &SharedName) -> Result<()> {
        let slot = self.condemned_slot(name)?;
        self.objects.remove(slot)?;
        self.condemned = self.condemned.saturating_sub(1);
        Ok(())
    }

    /// The slot of `name`, which must be condemned.
    pub(super) fn condemned_slot(&self, name: &SharedName) -> Result<Slot> {
        const OPERATION: &str = "forget a deleted object";
        let slot = self.objects.find(name)?;
        let slot =
            slot.ok_or_else(|| Error::new(ErrorKind::NotFound, OPERATION, "unknown object").with_object(name))?;
        if self.objects.get(slot)?.state != State::Condemned {
            return Err(Error::new(ErrorKind::Internal, OPERATION, "it was never condemned").with_object(name));
        }
        Ok(slot)
    }

    /// Adds this shard's figures to `stats`.
    pub(super) fn count_into(&self, stats: &mut Stats) {
        let heap = self.objects.heap_bytes() + self.chain.heap_bytes();
        stats.entries += self.objects.len() as u64;
        stats.tenancies += self.tenancies;
        stats.stored_bytes += self.stored_bytes;
        stats.condemned += self.condemned;
        stats.in_flight += self.uploads.len() as u64;
        stats.held += self.holds.len() as u64;
        stats.touched += self.chain.touched;
        stats.heap_bytes += heap as u64;
    }
}

#[cold]
fn unusable(name: &SharedName, why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "register a checkpoint", why).with_object(name).with_advice(
        "abort the checkpoint: only what `begin_upload` answered, or what is registered, may be registered",
    )
}

#[cold]
fn no_tenancy(name: &SharedName, born: CheckpointId) -> Error {
    let message = format!("the newest checkpoint has no such file since checkpoint {born}");
    Error::new(ErrorKind::InvalidInput, "register a checkpoint", message)
        .with_object(name)
        .with_advice("compute the changes against the newest registered checkpoint")
}

#[cold]
fn too_often(name: &SharedName) -> Error {
    Error::new(ErrorKind::LimitExceeded, "register a checkpoint", "more than 2^32 - 1 references").with_object(name)
}

#[cold]
fn underflow() -> Error {
    Error::new(ErrorKind::Internal, "release a checkpoint", "a count fell below zero")
        .with_advice("restart the coordinator: the registry is rebuilt from the `_metadata` files")
}
