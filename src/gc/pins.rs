//! A person's hold on a checkpoint.
//!
//! Pins change what may be dropped, so they take turns with deletions: a pin that was answered with
//! success is seen by every drop that comes after it. Steps F2-F4 of `docs/protocol.md`.

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
        let _turn = self.turn.lock().await;
        let tenure = self.tenure();
        tenure.check()?;
        let gone = || {
            Error::new(ErrorKind::NotFound, "pin a checkpoint", "it is no checkpoint that counts").with_object(folder)
        };
        if !view.checkpoints.contains_key(&folder) || self.is_dropping(folder) {
            return Err(gone());
        }
        // The view may be older than a drop that is done.
        tenure.store().stat(&tenure.layout().metadata(folder)?).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => gone(),
            _ => error,
        })?;
        let env = tenure.env();
        let name = RefName { folder, writer: tenure.epoch(), uid: Uid::random(&*env.randomness) };
        let record = Pin { name, reason: reason.to_owned(), created_at_unix_ms: env.clock.unix_time_ms() };
        let bytes = record.encode()?;
        // Held before it is written, and whatever the answer is (F3): it may land later.
        self.pinned.lock().insert(name, folder);
        tenure.store().put(&tenure.layout().pin(&name)?, Bytes::from(bytes)).await?; // F2
        tenure.look().await?;
        Ok(name)
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
