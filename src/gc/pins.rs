//! A person's hold on a checkpoint.
//!
//! A checkpoint is being dropped or it is pinned, never both: a pin that was answered with success is
//! seen by every drop that comes after it. A pin waits for no delete. Steps F2-F4 of `docs/protocol.md`.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::collector::Collector;
use super::plan::{GcPlan, PlannedObject, Reason};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, Place, RefName, Uid};
use crate::metadata::{ControlRecord, Pin};
use crate::ownership::JobView;

impl Collector {
    /// Pins a checkpoint that counts: published, then looked. `reason` is for people.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the checkpoint does not count, or is being dropped;
    /// [`ErrorKind::Fenced`] if the tenure is over: then nobody knows whether the pin counts. After
    /// any other error of the store, too, the pin may be there; `list` shows it.
    pub async fn pin(&self, view: &JobView, folder: CheckpointFolder, reason: &str) -> Result<RefName> {
        let tenure = self.tenure();
        tenure.check()?;
        let env = tenure.env();
        let name = RefName { folder, writer: tenure.epoch(), uid: Uid::random(&*env.randomness) };
        let record = Pin { name, reason: reason.to_owned(), created_at_unix_ms: env.clock.unix_time_ms() };
        let bytes = record.encode()?;
        // Held before it is written, and whatever the answer is (F3): it may land later.
        let mut reserved = self.reserve(view, name)?;
        // The view may be older than a drop that is done.
        tenure.store().stat(&tenure.layout().metadata(folder)?).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => gone(folder),
            _ => error,
        })?;
        reserved.may_be_there = true;
        tenure.store().put(&tenure.layout().pin(&name)?, Bytes::from(bytes)).await?; // F2
        tenure.look().await?;
        Ok(name)
    }

    /// Holds a checkpoint that counts and is not being dropped, for a pin that is about to be written.
    fn reserve(&self, view: &JobView, name: RefName) -> Result<Reserved<'_>> {
        let pending = self.pending.lock();
        let is_dropping = pending.iter().any(|batch| batch.dropped.contains(&name.folder));
        if is_dropping || !view.checkpoints.contains_key(&name.folder) {
            return Err(gone(name.folder));
        }
        self.pinned.lock().insert(name, name.folder);
        Ok(Reserved { collector: self, name, may_be_there: false })
    }

    /// Whether a pin of this tenure holds `folder`, or may hold it: one that no view has shown yet, or
    /// whose writing failed. Planners leave such a checkpoint out; [`Self::execute`] refuses to drop it.
    pub fn is_pinned(&self, folder: CheckpointFolder) -> bool {
        self.pinned.lock().values().any(|pinned| *pinned == folder)
    }

    /// Forgets pins that a view shows, so that the memory of them does not grow. Plans must be made
    /// from this view or a later one.
    pub fn note_view(&self, view: &JobView) {
        self.pinned.lock().retain(|name, _| !view.pins.contains_key(name));
    }
}

fn gone(folder: CheckpointFolder) -> Error {
    Error::new(ErrorKind::NotFound, "pin a checkpoint", "it is no checkpoint that counts").with_object(folder)
}

/// A pin that holds before it is written, and no more if it never will be.
struct Reserved<'a> {
    collector: &'a Collector,
    name: RefName,
    may_be_there: bool,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.may_be_there {
            self.collector.pinned.lock().remove(&self.name);
        }
    }
}

/// Plans to remove every pin on `folder`. Other jobs' refs are theirs to remove.
pub fn plan_unpin(view: &JobView, folder: CheckpointFolder) -> Result<GcPlan> {
    let mut plan = GcPlan::empty(view.layout.job().clone());
    plan.block(&view.all_blockers());
    if view.blocks_everything().is_some() {
        return Ok(plan);
    }
    let names: BTreeSet<_> = view.pins.keys().filter(|name| name.folder == folder).collect();
    for name in names {
        let (path, place) = (view.layout.pin(name)?, Place::Pin(*name));
        plan.add(PlannedObject { path, size_bytes: 0, reason: Reason::Hold, place });
    }
    Ok(plan)
}
