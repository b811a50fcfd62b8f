//! A shard's pending checkpoints and uploads in flight.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::Unreferenced;
use super::objects::State;
use super::shard::Shard;
use super::slab::Slot;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointId, ContentHash, FileKind, SharedName};

/// A pending checkpoint's part in a shard.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: CheckpointId,
    /// What it was answered, once for each answer.
    held: Vec<Slot>,
    /// Names of its failed uploads, which may have landed or may land yet (design 4.7).
    suspects: Vec<SharedName>,
}

/// An upload in flight.
#[derive(Debug)]
pub(super) struct Upload {
    /// For which checkpoint.
    owner: CheckpointId,
    /// Who else wants the content, in the order they came.
    waiters: VecDeque<Waiting>,
}

/// One who waits for an upload.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) pending: CheckpointId,
    /// The name under which it would upload itself.
    pub(super) name: SharedName,
    pub(super) sender: oneshot::Sender<Message>,
}

/// What a waiter is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message {
    /// The object is stored and held for the waiter's checkpoint.
    Stored(SharedName),
    /// The upload is the waiter's now, under its own name.
    TakeOver,
}

/// What a shard found for somebody who wants a content.
pub(super) enum Found {
    /// It is stored, and held for the asker.
    Stored(SharedName),
    /// Somebody uploads it.
    InFlight(Slot),
    /// Nobody has it.
    Absent,
}

/// A message to send once the shard's lock is free.
pub(super) type Outgoing = (oneshot::Sender<Message>, Message);

impl Shard {
    pub(super) fn begin_pending(&mut self, id: CheckpointId) {
        self.pending.push(Pending { id, held: Vec::new(), suspects: Vec::new() });
    }

    fn pending_mut(&mut self, id: CheckpointId) -> Option<&mut Pending> {
        self.pending.iter_mut().find(|pending| pending.id == id)
    }

    fn check_pending(&mut self, id: CheckpointId) -> Result<()> {
        self.pending_mut(id).map(|_| ()).ok_or_else(|| not_pending(id))
    }

    /// Holds `slot` for `id`, if that is still pending; whether it is.
    fn hold(&mut self, id: CheckpointId, slot: Slot) -> bool {
        let Some(pending) = self.pending_mut(id) else { return false };
        pending.held.push(slot);
        *self.holds.entry(slot).or_insert(0) += 1;
        true
    }

    /// Holds the object `name` for `id` if something needs it already; its length, if so.
    pub(super) fn hold_needed(&mut self, id: CheckpointId, name: &SharedName) -> Result<Option<u64>> {
        self.check_pending(id)?;
        let Some(slot) = self.objects.find(name)? else { return Ok(None) };
        let object = self.objects.get(slot)?;
        let is_needed = object.references > 0 || self.holds.contains_key(&slot);
        if object.state != State::Stored || !is_needed {
            return Ok(None);
        }
        let size_bytes = object.size_bytes();
        self.hold(id, slot);
        Ok(Some(size_bytes))
    }

    /// Looks for a content for the pending checkpoint `id`.
    pub(super) fn look_up(
        &mut self,
        id: CheckpointId,
        hash: &ContentHash,
        kind: FileKind,
        size_bytes: u64,
    ) -> Result<Found> {
        self.check_pending(id)?;
        let Some((slot, state)) = self.objects.find_content(hash, kind)? else {
            return Ok(Found::Absent);
        };
        let known_size_bytes = self.objects.get(slot)?.size_bytes();
        if known_size_bytes != size_bytes {
            let message = format!("this content has {known_size_bytes} bytes, not {size_bytes}");
            return Err(Error::new(ErrorKind::InvalidInput, "begin an upload", message)
                .with_object(hash)
                .with_advice("the file changed while it was hashed, or its size was not taken from the hashed bytes"));
        }
        if state == State::InFlight {
            return Ok(Found::InFlight(slot));
        }
        self.hold(id, slot);
        Ok(Found::Stored(self.objects.name(slot)?))
    }

    /// Notes that `id` uploads `name`.
    pub(super) fn begin_upload(&mut self, id: CheckpointId, name: &SharedName, size_bytes: u64) -> Result<()> {
        let slot = self.objects.insert(name, size_bytes, State::InFlight)?;
        self.uploads.insert(slot, Upload { owner: id, waiters: VecDeque::new() });
        Ok(())
    }

    /// Puts a waiter in the queue of the upload at `slot`.
    pub(super) fn enqueue(&mut self, slot: Slot, waiting: Waiting) -> Result<()> {
        let upload = self.uploads.get_mut(&slot).ok_or_else(|| not_in_flight(&waiting.name))?;
        if upload.waiters.len() == upload.waiters.capacity() {
            // Before it grows: those who gave up leave no trace.
            upload.waiters.retain(|other| !other.sender.is_closed());
        }
        upload.waiters.push_back(waiting);
        Ok(())
    }

    fn in_flight(&self, name: &SharedName) -> Result<Slot> {
        let slot = self.objects.find(name)?.filter(|slot| self.uploads.contains_key(slot));
        slot.ok_or_else(|| not_in_flight(name))
    }

    /// The upload of `name` succeeded. `false`: everybody who wanted it has ended meanwhile; the
    /// object is unknown now, an orphan of a checkpoint that has ended.
    pub(super) fn complete_upload(&mut self, name: &SharedName, outgoing: &mut Vec<Outgoing>) -> Result<bool> {
        let slot = self.in_flight(name)?;
        let upload = self.uploads.remove(&slot).ok_or_else(|| not_in_flight(name))?;
        let mut wanted = self.hold(upload.owner, slot);
        for waiter in upload.waiters {
            // The sender of a waiter whose checkpoint has ended is dropped, which tells it so.
            if !waiter.sender.is_closed() && self.hold(waiter.pending, slot) {
                wanted = true;
                outgoing.push((waiter.sender, Message::Stored(*name)));
            }
        }
        if !wanted {
            self.objects.remove(slot)?;
            return Ok(false);
        }
        let object = self.objects.get_mut(slot)?;
        object.state = State::Stored;
        self.stored_bytes += object.size_bytes();
        Ok(true)
    }

    /// The upload of `name` failed: the first who still waits takes over, under its own name.
    pub(super) fn fail_upload(&mut self, name: &SharedName) -> Result<Option<(SharedName, Outgoing)>> {
        let slot = self.in_flight(name)?;
        let mut upload = self.uploads.remove(&slot).ok_or_else(|| not_in_flight(name))?;
        let size_bytes = self.objects.get(slot)?.size_bytes();
        self.objects.remove(slot)?;
        if let Some(owner) = self.pending_mut(upload.owner) {
            owner.suspects.push(*name);
        }
        while let Some(waiter) = upload.waiters.pop_front() {
            if waiter.sender.is_closed() || self.pending_mut(waiter.pending).is_none() {
                continue;
            }
            let slot = self.objects.insert(&waiter.name, size_bytes, State::InFlight)?;
            self.uploads.insert(slot, Upload { owner: waiter.pending, waiters: upload.waiters });
            return Ok(Some((waiter.name, (waiter.sender, Message::TakeOver))));
        }
        Ok(None)
    }

    /// Ends the pending checkpoint `id`. Its waiters are moved to `dismissed`, to be dropped once the
    /// lock is free.
    pub(super) fn end_pending(
        &mut self,
        id: CheckpointId,
        unreferenced: &mut Unreferenced,
        dismissed: &mut Vec<Waiting>,
    ) -> Result<()> {
        let at = self.pending.iter().position(|pending| pending.id == id).ok_or_else(|| not_pending(id))?;
        let pending = self.pending.swap_remove(at);
        for slot in pending.held {
            let holds = self.holds.get_mut(&slot).ok_or_else(lost_hold)?;
            *holds -= 1;
            if *holds > 0 {
                continue;
            }
            self.holds.remove(&slot);
            if self.objects.get(slot)?.references > 0 {
                continue;
            }
            if self.objects.tag(slot)?.checkpoint == id {
                unreferenced.created.push(self.objects.name(slot)?);
            } else {
                unreferenced.outlived.push(self.objects.name(slot)?);
            }
        }
        unreferenced.suspects.extend(pending.suspects);
        for upload in self.uploads.values_mut() {
            let (gone, kept) = std::mem::take(&mut upload.waiters).into_iter().partition(|w| w.pending == id);
            upload.waiters = kept;
            dismissed.extend::<VecDeque<Waiting>>(gone);
        }
        Ok(())
    }
}

#[cold]
pub(super) fn not_pending(id: CheckpointId) -> Error {
    Error::new(
        ErrorKind::Cancelled,
        "find a pending checkpoint",
        "it has not begun, or it has completed or been aborted",
    )
    .with_object(id)
}

#[cold]
fn not_in_flight(name: &SharedName) -> Error {
    Error::new(ErrorKind::Internal, "end an upload", "no such upload is in flight").with_object(name)
}

#[cold]
fn lost_hold() -> Error {
    Error::new(ErrorKind::Internal, "end a pending checkpoint", "a hold has no count")
}
