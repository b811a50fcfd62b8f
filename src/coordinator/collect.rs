//! Retention, dropping, pins and collection: everything by which a coordinator deletes.

use std::collections::BTreeSet;

use futures::StreamExt;

use super::core::Coordinator;
use super::retention::{Candidate, RetentionPlan, RetentionPolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::gc::{self, GcPlan, GcReport, Judge, Progress, SweepScope};
use crate::layout::{CheckpointFolder, CheckpointId, RefName, SharedName};
use crate::metadata::CheckpointKind;
use crate::ownership::{HoldView, JobView};
use crate::registry::Unreferenced;
use crate::store::ObjectMeta;

/// What ended checkpoints left on the store.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    folders: BTreeSet<CheckpointFolder>,
    objects: BTreeSet<SharedName>,
}

impl Leftovers {
    /// Notes what the end of a checkpoint set free.
    pub(super) fn add(&mut self, folder: Option<CheckpointFolder>, unreferenced: Result<Unreferenced>) {
        self.folders.extend(folder);
        match unreferenced {
            Ok(Unreferenced { created, outlived, suspects }) => {
                self.objects.extend(created.into_iter().chain(outlived).chain(suspects));
            }
            // What the registry does not tell, the next sweep finds.
            Err(error) => tracing::warn!(%error, "registry"),
        }
    }

    fn is_empty(&self) -> bool {
        self.folders.is_empty() && self.objects.is_empty()
    }
}

impl Coordinator {
    /// What the retention policy would keep and drop now.
    pub fn retention_plan(&self, policy: RetentionPolicy, view: &JobView) -> RetentionPlan {
        let state = self.state.lock();
        let bases = state.bases();
        let newest = state.newest_incremental().map(|done| done.folder);
        let is_newest_of_all = state.completed.keys().next_back().copied() == newest;
        let candidates: Vec<Candidate> = state
            .completed
            .values()
            .filter(|done| done.kind != CheckpointKind::Savepoint)
            .map(|done| Candidate {
                folder: done.folder,
                triggered_at_unix_ms: done.triggered_at_unix_ms,
                held: bases.contains(&done.folder)
                    || (Some(done.folder) == newest && !is_newest_of_all)
                    || view.holds(done.folder).next().is_some()
                    || self.collector.is_pinned(done.folder),
            })
            .collect();
        RetentionPlan::new(policy, &candidates)
    }

    /// Drops what the options' policy does not keep, and what ended checkpoints left. Failures are
    /// logged and made good by a later call: a checkpoint that is complete stays complete.
    pub(super) async fn retain(&self, view: &mut JobView) {
        let policy = self.options.retention;
        let drops = self.retention_plan(policy, view).drop;
        let why = |folder: &CheckpointFolder| (*folder, "not kept by the retention policy".to_owned());
        let drops: Vec<_> = drops.iter().map(why).collect();
        if !drops.is_empty() {
            match self.drop_now(view, &drops).await {
                Ok((_, report)) => log_report(&report),
                Err(error) => tracing::warn!(%error, "could not drop checkpoints; a later collection does"),
            }
        }
        match self.remove_leftovers(view).await {
            Ok(report) => log_report(&report),
            Err(error) => tracing::warn!(%error, "could not remove what ended checkpoints left; a sweep does"),
        }
    }

    /// Drops checkpoints whatever the policy says, with `dry_run` only as a plan. What cannot be
    /// dropped (the newest, one that someone holds) is refused in the plan.
    ///
    /// # Errors
    /// The tenure's end; what the store says of a listing.
    pub async fn drop_checkpoints(
        &self,
        drops: &[(CheckpointFolder, String)],
        dry_run: bool,
    ) -> Result<(GcPlan, GcReport)> {
        let mut view = self.view.lock().await;
        self.tenure.check()?;
        if dry_run {
            let (going, refused) = self.choose(&view, drops);
            let mut plan = gc::plan_drop(&*self.store, &view, &going).await?;
            plan.refused.extend(refused);
            return Ok((plan, GcReport::default()));
        }
        let (plan, report) = self.drop_now(&mut view, drops).await?;
        Ok((plan, report.into_result()?))
    }

    /// Applies a retention policy once, with `dry_run` only as a plan.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a policy that keeps nothing; otherwise as
    /// [`Coordinator::drop_checkpoints`].
    pub async fn apply_retention(
        &self,
        policy: RetentionPolicy,
        dry_run: bool,
    ) -> Result<(RetentionPlan, GcPlan, GcReport)> {
        policy.check()?;
        let retention = {
            let view = self.view.lock().await;
            self.retention_plan(policy, &view)
        };
        let why = |folder: &CheckpointFolder| (*folder, "not kept by the retention policy".to_owned());
        let drops: Vec<_> = retention.drop.iter().map(why).collect();
        let (plan, report) = self.drop_checkpoints(&drops, dry_run).await?;
        Ok((retention, plan, report))
    }

    /// Gives up a checkpoint that counts and whose index cannot be read, so that it blocks no deletion
    /// any more. On a person's word only: the index may be sound and out of reach for a while. What it
    /// alone referenced goes with the next [`Coordinator::collect`].
    ///
    /// Refused in the plan if the index can be read, or could when this coordinator looked last; if
    /// something holds the checkpoint or builds on it; and for the newest one (R1).
    ///
    /// # Errors
    /// The tenure's end; what the store says of a listing.
    pub async fn repair(&self, folder: CheckpointFolder) -> Result<(GcPlan, GcReport)> {
        let mut view = self.view.lock().await;
        self.tenure.check()?;
        let fresh = JobView::read(&*self.store, &self.layout).await?;
        if fresh.start.as_ref().map(|start| start.epoch) != Some(self.tenure.epoch()) {
            self.tenure.look().await?;
        }
        // One that was read goes by a drop, which knows what that frees.
        let was_read = view.checkpoints.get(&folder).is_some_and(|checkpoint| checkpoint.content.is_ok());
        let mut plan = gc::plan_repair(&*self.store, if was_read { &view } else { &fresh }, folder).await?;
        let (bases, newest) = self.built_on();
        if let Some(why) = self.needed(&bases, newest, folder).filter(|_| !plan.dropped.is_empty()) {
            plan = GcPlan::empty(self.layout.job().clone());
            plan.refused.push(gc::Refused { folder, why: why.to_owned() });
        }
        // If it is registered, what it references stays held until the next tenure.
        for dropped in &plan.dropped {
            self.state.lock().completed.remove(&dropped.folder);
        }
        let report = self.collector.execute(plan.clone()).await;
        for dropped in &plan.dropped {
            view.note_dropped(dropped.folder);
        }
        Ok((plan, report.into_result()?))
    }

    async fn drop_now(&self, view: &mut JobView, drops: &[(CheckpointFolder, String)]) -> Result<(GcPlan, GcReport)> {
        let (going, refused) = self.choose(view, drops);
        let mut plan = gc::plan_release(&*self.store, view, &*self.registry, &going).await?;
        plan.refused.extend(refused);
        for dropped in &plan.dropped {
            self.state.lock().completed.remove(&dropped.folder);
        }
        let report = self.collector.execute(plan.clone()).await;
        // Not before: were this future dropped before the collector has the plan, the checkpoint would
        // count on the store and not here, and a later plan would free what it references.
        for dropped in &plan.dropped {
            view.note_dropped(dropped.folder);
        }
        if self.tenure.over().is_none() {
            for dropped in &plan.dropped {
                for listener in &self.listeners {
                    listener.subsumed(dropped.folder);
                }
            }
        }
        Ok((plan, report))
    }

    /// Splits what is asked for into what may go and what may not: what checkpoints in flight and the
    /// next one build on stays, and what may be pinned.
    fn choose(
        &self,
        view: &JobView,
        drops: &[(CheckpointFolder, String)],
    ) -> (Vec<(CheckpointFolder, String)>, Vec<gc::Refused>) {
        let (bases, newest) = self.built_on();
        let (mut going, mut refused) = (Vec::new(), Vec::new());
        for (folder, why) in drops {
            if let Some(no) = gc::refusal(view, *folder) {
                refused.push(no);
            } else if let Some(why) = self.needed(&bases, newest, *folder) {
                refused.push(gc::Refused { folder: *folder, why: why.to_owned() });
            } else {
                going.push((*folder, why.clone()));
            }
        }
        (going, refused)
    }

    /// What checkpoints in flight build on, and what the next incremental one does.
    fn built_on(&self) -> (BTreeSet<CheckpointFolder>, Option<CheckpointFolder>) {
        let state = self.state.lock();
        (state.bases(), state.newest_incremental().map(|done| done.folder))
    }

    /// Why this coordinator keeps a checkpoint that nothing on the store does, if it has to.
    fn needed(
        &self,
        bases: &BTreeSet<CheckpointFolder>,
        newest: Option<CheckpointFolder>,
        folder: CheckpointFolder,
    ) -> Option<&'static str> {
        if bases.contains(&folder) {
            Some("a checkpoint in flight builds on it; try again when that has ended")
        } else if newest == Some(folder) {
            Some("the next incremental checkpoint builds on it; take one first")
        } else if self.collector.is_pinned(folder) {
            Some("it is pinned, or may be; remove the pin first")
        } else {
            None
        }
    }

    async fn remove_leftovers(&self, view: &mut JobView) -> Result<GcReport> {
        let leftovers = std::mem::take(&mut self.state.lock().leftovers);
        if leftovers.is_empty() {
            return Ok(GcReport::default());
        }
        let progress = self.progress();
        let mut listing = Vec::new();
        for name in &leftovers.objects {
            listing.push(ObjectMeta { path: self.layout.shared_object(name)?, size_bytes: 0 });
        }
        for folder in &leftovers.folders {
            let root = self.layout.checkpoint(*folder)?;
            let mut objects = self.store.list(Some(&root));
            while let Some(object) = objects.next().await {
                listing.push(object?);
            }
        }
        let done = BTreeSet::new();
        let plan = {
            let judge = Judge::new(view, &*self.registry, self.tenure.epoch(), &progress, &done);
            gc::plan_listed(&self.layout, &judge, listing)
        };
        Ok(self.collector.execute(plan).await)
    }

    /// Finds and removes everything that nothing references: orphans of crashed runs and aborted
    /// checkpoints, void lists, superseded epochs; first goes on with deletes that failed. With
    /// `dry_run` it only plans.
    ///
    /// # Errors
    /// The tenure's end; [`ErrorKind::Blocked`] if the own start cannot be read, so that nobody knows
    /// what counts; what the store says of a listing: a sweep that could not see everything deletes
    /// nothing.
    pub async fn collect(&self, scope: SweepScope, dry_run: bool) -> Result<(GcPlan, GcReport)> {
        let mut view = self.view.lock().await;
        self.tenure.check()?;
        if !dry_run {
            log_report(&self.collector.retry().await);
        }
        let progress = self.progress();
        self.refresh(&mut view).await?;
        let mut done = self.inbox.done(&self.tenure)?;
        done.extend(self.collector.stray_lists(&view));
        let plan = {
            let judge = Judge::new(&view, &*self.registry, self.tenure.epoch(), &progress, &done);
            gc::plan_sweep(&*self.store, &self.layout, &judge, scope).await?
        };
        if dry_run {
            return Ok((plan, GcReport::default()));
        }
        let report = self.collector.execute(plan.clone()).await;
        Ok((plan, report.into_result()?))
    }

    /// Pins a complete checkpoint: retention and drops leave it alone until it is unpinned.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is no complete checkpoint; the tenure's end.
    pub async fn pin(&self, folder: CheckpointFolder, reason: &str) -> Result<RefName> {
        let mut view = self.view.lock().await;
        let name = self.collector.pin(&view, folder, reason).await?;
        // It holds from here on, so that is the answer; the rest of the view may wait.
        let hold = HoldView { path: self.layout.pin(&name)?, note: Ok(reason.to_owned()) };
        view.pins.insert(name, hold);
        self.refresh_if_possible(&mut view).await;
        Ok(name)
    }

    /// Removes every pin of a checkpoint. Returns how many there were.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it has none; the tenure's end.
    pub async fn unpin(&self, folder: CheckpointFolder) -> Result<usize> {
        let mut view = self.view.lock().await;
        let plan = gc::plan_unpin(&view, folder)?;
        let count = plan.objects.len();
        if count == 0 {
            return Err(Error::new(ErrorKind::NotFound, "unpin a checkpoint", "it is not pinned").with_object(folder));
        }
        self.collector.execute(plan).await.into_result()?;
        view.pins.retain(|name, _| name.folder != folder);
        self.refresh_if_possible(&mut view).await;
        Ok(count)
    }

    /// Reads anew what counts. Unless that is seen with the own start, the view stays as it was: one
    /// in which nothing counts would say that the job has no checkpoint.
    async fn refresh(&self, view: &mut JobView) -> Result<()> {
        let fresh = JobView::read(&*self.store, &self.layout).await?;
        if fresh.start.as_ref().map(|start| start.epoch) != Some(self.tenure.epoch()) {
            self.tenure.look().await?;
            return Err(Error::new(ErrorKind::Blocked, "read what counts", "the start of this tenure cannot be read")
                .with_object(self.layout.start(self.tenure.epoch())?)
                .with_advice("put back a sound copy of the object, or claim the job again"));
        }
        self.collector.note_view(&fresh);
        *view = fresh;
        Ok(())
    }

    /// After what is done, whether or not the view can be read.
    async fn refresh_if_possible(&self, view: &mut JobView) {
        if let Err(error) = self.refresh(view).await {
            tracing::warn!(%error, "could not read anew what counts; a later collection does");
        }
    }

    /// How far the tenure's checkpoints are; to be taken before anything is listed.
    fn progress(&self) -> Progress {
        let state = self.state.lock();
        Progress {
            next: CheckpointId(state.next_id),
            in_flight: state.pending.keys().chain(state.committing.keys()).copied().collect(),
        }
    }
}

fn log_report(report: &GcReport) {
    if report.is_finished() {
        tracing::debug!(%report, "collected");
    } else {
        tracing::warn!(%report, "collected in part; a later collection goes on");
    }
}
