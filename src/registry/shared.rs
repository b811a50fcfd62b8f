//! [`Registry`]: the shards, and the order in which they are changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossbeam::utils::CachePadded;
use parking_lot::{Mutex, MutexGuard};

use super::hasher::shard_byte_of;
use super::holds::{Found, Waiting, not_pending};
use super::shard::{Changes, Place, Shard};
use super::upload::{UploadDecision, UploadGuard, UploadWaiter};
use super::{ObjectStatus, Stats, Unreferenced};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointId, ContentHash, FileKind, SharedName, Tag};

/// How many shards: a power of two, and no more than a byte tells apart. At ten million entries a
/// shard's share still fits a processor's last cache, and a batch is worked off shard by shard.
const SHARDS: usize = 64;

/// Which checkpoints are registered.
#[derive(Debug, Default)]
struct Registered {
    ids: BTreeSet<CheckpointId>,
    /// The greatest id ever registered.
    greatest: Option<CheckpointId>,
}

/// The shared-file registry. See the module's text.
#[derive(Debug)]
pub struct Registry {
    shards: [CachePadded<Mutex<Shard>>; SHARDS],
    /// Held for the whole of a registration, and while the newest checkpoint is released. Taken
    /// after `releasing`, before a shard.
    registering: Mutex<()>,
    /// Held for the whole of a release.
    releasing: Mutex<()>,
    /// Never held while another lock is taken.
    registered: Mutex<Registered>,
    pending: Mutex<BTreeSet<CheckpointId>>,
}

impl Registry {
    /// An empty one, for a job that has no checkpoints.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| CachePadded::new(Mutex::new(Shard::new()))),
            registering: Mutex::new(()),
            releasing: Mutex::new(()),
            registered: Mutex::new(Registered::default()),
            pending: Mutex::new(BTreeSet::new()),
        })
    }

    // The index is taken modulo the length of the array.
    #[allow(clippy::indexing_slicing)]
    pub(super) fn shard(&self, hash: &ContentHash) -> MutexGuard<'_, Shard> {
        self.shards[shard_byte_of(hash) % SHARDS].lock()
    }

    /// Begins a pending checkpoint: from now on uploads for it are answered.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if it is pending or registered.
    pub fn begin_pending(&self, checkpoint: CheckpointId) -> Result<()> {
        let taken = self.is_registered(checkpoint) || !self.pending.lock().insert(checkpoint);
        if taken {
            let message = "this checkpoint is pending or registered already";
            return Err(Error::new(ErrorKind::AlreadyExists, "begin a checkpoint", message).with_object(checkpoint));
        }
        for shard in &self.shards {
            shard.lock().begin_pending(checkpoint);
        }
        Ok(())
    }

    /// Somebody wants to store a content for the pending checkpoint. The object named by the answer
    /// is held for that checkpoint until it ends.
    ///
    /// `fresh` draws a tag that was never used, for this checkpoint; it is called only if nobody has
    /// stored the content, and without a lock.
    ///
    /// # Errors
    /// - [`ErrorKind::Cancelled`] if the checkpoint is not pending (a late upload of an aborted one);
    /// - [`ErrorKind::InvalidInput`] if the size is not that of the known content, or the tag is of
    ///   another checkpoint;
    /// - [`ErrorKind::AlreadyExists`] if the tag was used;
    /// - [`ErrorKind::LimitExceeded`] above [`super::MAX_OBJECT_SIZE_BYTES`].
    pub fn begin_upload(
        self: &Arc<Self>,
        pending: CheckpointId,
        hash: ContentHash,
        size_bytes: u64,
        kind: FileKind,
        fresh: impl FnOnce() -> Tag,
    ) -> Result<UploadDecision> {
        {
            let mut shard = self.shard(&hash);
            if let Found::Stored(name) = shard.look_up(pending, &hash, kind, size_bytes)? {
                return Ok(UploadDecision::Stored(name));
            }
        }
        let tag = fresh();
        if tag.checkpoint != pending {
            let message = format!("the tag `{tag}` is not of the pending checkpoint {pending}");
            return Err(Error::invalid("begin an upload", message));
        }
        let name = SharedName { hash, tag, kind };
        let mut shard = self.shard(&hash);
        // Again, since the lock was free meanwhile.
        match shard.look_up(pending, &hash, kind, size_bytes)? {
            Found::Stored(stored) => Ok(UploadDecision::Stored(stored)),
            Found::Absent => {
                shard.begin_upload(pending, &name, size_bytes)?;
                drop(shard);
                Ok(UploadDecision::Upload(UploadGuard::new(Arc::clone(self), name)))
            }
            Found::InFlight(slot) => {
                let (sender, receiver) = tokio::sync::oneshot::channel();
                shard.enqueue(slot, Waiting { pending, name, sender })?;
                drop(shard);
                Ok(UploadDecision::InFlight(UploadWaiter::new(Arc::clone(self), name, receiver)))
            }
        }
    }

    /// Holds an object for a pending checkpoint that references it and may not have been answered it:
    /// one that it has from the checkpoint it builds on, say. From here until the checkpoint ends the
    /// object cannot be condemned. Returns its length in bytes; `None` if nothing needs the object, so
    /// that it may be gone at any time, or is gone already.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the checkpoint is not pending.
    pub fn hold(&self, pending: CheckpointId, name: &SharedName) -> Result<Option<u64>> {
        self.shard(&name.hash).hold_needed(pending, name)
    }

    /// Ends a pending checkpoint that has completed (after [`Self::register`], for one that enters).
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if it is not pending.
    pub fn finish_pending(&self, checkpoint: CheckpointId) -> Result<Unreferenced> {
        if !self.pending.lock().remove(&checkpoint) {
            return Err(not_pending(checkpoint));
        }
        let mut unreferenced = Unreferenced::default();
        let mut dismissed = Vec::new();
        for shard in &self.shards {
            shard.lock().end_pending(checkpoint, &mut unreferenced, &mut dismissed)?;
        }
        Ok(unreferenced)
    }

    /// Ends a pending checkpoint that did not complete. Only what it alone created, and nobody holds
    /// or references, is reported as created (I9).
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if it is not pending, [`ErrorKind::InvalidInput`] if it is registered:
    /// a complete checkpoint is released, not aborted. Nothing is changed then.
    pub fn abort(&self, checkpoint: CheckpointId) -> Result<Unreferenced> {
        if self.is_registered(checkpoint) {
            let message = "it is complete and registered";
            return Err(Error::invalid("abort a checkpoint", message).with_object(checkpoint));
        }
        self.finish_pending(checkpoint)
    }

    /// Appends a completed checkpoint to the chain.
    ///
    /// `added` and `removed` are the difference to the newest registered checkpoint: files with the
    /// objects they lie in and their sizes, and files that are gone with the checkpoint that first had
    /// them. One item for each file of each subtask; several files may lie in one object.
    ///
    /// # Errors
    /// - [`ErrorKind::AlreadyExists`] if it is registered;
    /// - [`ErrorKind::InvalidInput`] if its id is not above every id registered before, if an added
    ///   object is unknown, condemned or in flight, or if a removed file is not one of the newest
    ///   checkpoint's;
    /// - [`ErrorKind::Corrupt`] if a size is not that of the object.
    ///
    /// Nothing is changed then.
    pub fn register(
        &self,
        checkpoint: CheckpointId,
        added: impl IntoIterator<Item = (SharedName, u64)>,
        removed: impl IntoIterator<Item = (SharedName, CheckpointId)>,
    ) -> Result<()> {
        self.extend_chain(checkpoint, added, removed, false)
    }

    pub(super) fn extend_chain(
        &self,
        checkpoint: CheckpointId,
        added: impl IntoIterator<Item = (SharedName, u64)>,
        removed: impl IntoIterator<Item = (SharedName, CheckpointId)>,
        adopt: bool,
    ) -> Result<()> {
        let parts = partition(added, removed);
        let _registering = self.registering.lock();
        self.check_next(checkpoint)?;
        for (at, (shard, part)) in self.shards.iter().zip(&parts).enumerate() {
            // A statement of its own: the lock is free again before the shards are visited to undo.
            let done = shard.lock().register(checkpoint, part, adopt);
            if let Err(error) = done {
                for shard in self.shards.iter().take(at + 1) {
                    shard.lock().undo_register(checkpoint, adopt)?;
                }
                return Err(error);
            }
        }
        let mut registered = self.registered.lock();
        registered.ids.insert(checkpoint);
        registered.greatest = Some(checkpoint);
        Ok(())
    }

    fn check_next(&self, checkpoint: CheckpointId) -> Result<()> {
        const OPERATION: &str = "register a checkpoint";
        let registered = self.registered.lock();
        if registered.ids.contains(&checkpoint) {
            let error = Error::new(ErrorKind::AlreadyExists, OPERATION, "it is registered already");
            return Err(error.with_object(checkpoint));
        }
        match registered.greatest {
            Some(greatest) if greatest >= checkpoint => {
                let message = format!("ids grow, and checkpoint {greatest} was registered before");
                Err(Error::invalid(OPERATION, message).with_object(checkpoint))
            }
            _ => Ok(()),
        }
    }

    /// Takes a checkpoint out of the chain, in any order. Returns the objects that nothing
    /// references or holds any more; what a pending checkpoint holds is reported when that ends.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not registered: nothing is changed then.
    pub fn release(&self, checkpoint: CheckpointId) -> Result<Vec<SharedName>> {
        let _releasing = self.releasing.lock();
        let mut place = self.place_of(checkpoint)?;
        // The newest changes what the next registration builds on, so no registration may run.
        let _registering = match place.after {
            Some(_) => None,
            None => {
                let registering = self.registering.lock();
                place = self.place_of(checkpoint)?;
                Some(registering)
            }
        };
        let mut unreferenced = Vec::new();
        for shard in &self.shards {
            shard.lock().release(checkpoint, place, &mut unreferenced)?;
        }
        self.registered.lock().ids.remove(&checkpoint);
        Ok(unreferenced)
    }

    fn place_of(&self, checkpoint: CheckpointId) -> Result<Place> {
        let registered = self.registered.lock();
        if !registered.ids.contains(&checkpoint) {
            let error = Error::new(ErrorKind::NotFound, "release a checkpoint", "it is not registered");
            return Err(error.with_object(checkpoint).with_advice("release each registered checkpoint once"));
        }
        let after = CheckpointId(checkpoint.0.saturating_add(1));
        Ok(Place {
            before: registered.ids.range(..checkpoint).next_back().copied(),
            after: registered.ids.range(after..).next().copied().filter(|after| *after != checkpoint),
        })
    }

    /// Condemns the named objects: they are handed out no more in this tenure (design 4.3). Returns
    /// those that are condemned now; **only these may be deleted**. What is referenced, held or in
    /// flight is left out. An object that the registry never knew is condemned too, and so is,
    /// again, one that was.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the registry is broken.
    pub fn condemn(&self, names: &[SharedName]) -> Result<Vec<SharedName>> {
        let mut condemned = Vec::with_capacity(names.len());
        for name in names {
            if self.shard(&name.hash).condemn(name)? {
                condemned.push(*name);
            }
        }
        Ok(condemned)
    }

    /// Forgets condemned objects after their deletion was confirmed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if one is unknown, [`ErrorKind::Internal`] if one was never condemned.
    /// Nothing is forgotten then.
    pub fn forget(&self, names: &[SharedName]) -> Result<()> {
        for name in names {
            self.shard(&name.hash).condemned_slot(name)?;
        }
        for name in names {
            match self.shard(&name.hash).forget(name) {
                // Named twice.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// The named objects are damaged on the store: they are handed out no more, and new content of the same
    /// hash gets an object of its own beside them. What references them needs them as before, so they are
    /// deleted when the last of it goes. Returns those that the registry knows as stored.
    ///
    /// What pending checkpoints were answered before is theirs still: the caller aborts them.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the registry is broken.
    pub fn distrust(&self, names: &[SharedName]) -> Result<Vec<SharedName>> {
        let mut known = Vec::with_capacity(names.len());
        for name in names {
            if self.shard(&name.hash).distrust(name)? {
                known.push(*name);
            }
        }
        Ok(known)
    }

    /// Whether an object is known to be damaged ([`Registry::distrust`]).
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the registry is broken.
    pub fn is_distrusted(&self, name: &SharedName) -> Result<bool> {
        self.shard(&name.hash).is_distrusted(name)
    }

    /// What the registry knows of an object.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the registry is broken.
    pub fn status(&self, name: &SharedName) -> Result<ObjectStatus> {
        self.shard(&name.hash).status(name)
    }

    /// The length of an object that the registry knows, in bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the registry is broken.
    pub fn size_bytes(&self, name: &SharedName) -> Result<Option<u64>> {
        self.shard(&name.hash).size_bytes(name)
    }

    /// The registered checkpoints that have an object, in id order. For people: it reads the dead
    /// lists of a shard.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if the registry is broken.
    pub fn checkpoints_of(&self, name: &SharedName) -> Result<Vec<CheckpointId>> {
        self.shard(&name.hash).checkpoints_of(name)
    }

    /// The registered checkpoints, in id order.
    pub fn checkpoints(&self) -> Vec<CheckpointId> {
        self.registered.lock().ids.iter().copied().collect()
    }

    /// Whether a checkpoint is in the chain.
    pub fn is_registered(&self, checkpoint: CheckpointId) -> bool {
        self.registered.lock().ids.contains(&checkpoint)
    }

    /// The registry's figures, shard by shard: exact when nothing else runs.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { checkpoints: self.registered.lock().ids.len() as u64, ..Stats::default() };
        for shard in &self.shards {
            shard.lock().count_into(&mut stats);
        }
        stats
    }
}

/// The changes of each shard.
fn partition(
    added: impl IntoIterator<Item = (SharedName, u64)>,
    removed: impl IntoIterator<Item = (SharedName, CheckpointId)>,
) -> Vec<Changes> {
    let mut parts: Vec<Changes> = std::iter::repeat_with(Changes::default).take(SHARDS).collect();
    for item in added {
        if let Some(part) = parts.get_mut(shard_byte_of(&item.0.hash) % SHARDS) {
            part.added.push(item);
        }
    }
    for item in removed {
        if let Some(part) = parts.get_mut(shard_byte_of(&item.0.hash) % SHARDS) {
            part.removed.push(item);
        }
    }
    parts
}
