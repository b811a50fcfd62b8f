//! Retention, dropping, pins and collection: everything by which a coordinator deletes.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;

use super::core::Coordinator;
use super::counting::merged;
use super::retention::{Candidate, RetentionPlan, RetentionPolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::gc::{self, GcPlan, GcReport, Judge, Progress, SweepScope};
use crate::layout::{CheckpointFolder, CheckpointId, Place, RefName, SharedName};
use crate::metadata::CheckpointKind;
use crate::ownership::{HoldView, JobView};
use crate::registry::Unreferenced;
use crate::store::{ObjectMeta, StorePath};

/// How many folders and objects are remembered to be removed with the next complete checkpoint. While
/// checkpoints only fail they are not removed, and what is beyond is left to a sweep.
const MAX_LEFTOVERS: usize = 65_536;

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
        if self.folders.len() + self.objects.len() > MAX_LEFTOVERS {
            tracing::warn!("failed checkpoints left more than {MAX_LEFTOVERS} objects; a sweep (`gc`) removes them");
            *self = Self::default();
        }
    }

    /// Objects that nothing references and whose deletion is not planned yet, as far as they are known by name.
    pub(super) fn objects(&self) -> usize {
        self.objects.len()
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
    /// logged and made good by a later call: a checkpoint that is complete stays complete. Waits for
    /// nobody's deletes: whoever is at some goes on to these.
    pub(super) async fn retain(&self) {
        {
            let _one_at_a_time = self.plans.lock().await;
            let drops = self.retention_plan(self.options.retention, &self.counting.now()).drop;
            if !drops.is_empty()
                && let Err(error) = self.begin_drops(&not_kept(&drops)).await
            {
                tracing::warn!(%error, "could not drop checkpoints; a later collection does");
            }
            if let Err(error) = self.begin_leftovers().await {
                tracing::warn!(%error, "could not remove what ended checkpoints left; a sweep does");
            }
        }
        log_report(&self.told(self.collector.work_off_unless_busy().await));
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
        self.tenure.check()?;
        if dry_run {
            let view = self.counting.now();
            let (going, refused) = self.choose(&view, drops);
            let mut plan = gc::plan_drop(&*self.store, &view, &going).await?;
            plan.refused.extend(refused);
            return Ok((plan, GcReport::default()));
        }
        let (plan, kept) = {
            let _one_at_a_time = self.plans.lock().await;
            self.begin_drops(drops).await?
        };
        let report = GcReport { kept, ..self.told(self.collector.work_off().await) };
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
        let retention = self.retention_plan(policy, &self.counting.now());
        let (plan, report) = self.drop_checkpoints(&not_kept(&retention.drop), dry_run).await?;
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
        self.tenure.check()?;
        let (progress, before) = (self.progress(), self.counting.now());
        let fresh = self.read_view().await?;
        let (plan, kept) = {
            let _one_at_a_time = self.plans.lock().await;
            let now = self.counting.now();
            // One that was read goes by a drop, which knows what that frees.
            let was_read = |view: &JobView| view.checkpoints.get(&folder).is_some_and(|known| known.content.is_ok());
            let mut plan = if was_read(&now) || was_read(&before) {
                gc::plan_repair(&*self.store, &before, folder).await?
            } else {
                let view = merged(fresh, &before, &now, &progress);
                gc::plan_repair(&*self.store, &view, folder).await?
            };
            let (bases, newest) = self.built_on();
            if let Some(why) = self.needed(&bases, newest, folder).filter(|_| !plan.dropped.is_empty()) {
                plan = GcPlan::empty(self.layout.job().clone());
                plan.refused.push(gc::Refused { folder, why: why.to_owned() });
            }
            // If it is registered, what it references stays held until the next tenure.
            let kept = self.condemn(&plan)?;
            (plan, kept)
        };
        let report = GcReport { kept, ..self.told(self.collector.work_off().await) };
        Ok((plan, report.into_result()?))
    }

    /// Plans drops and condemns what they free (D1).
    async fn begin_drops(&self, drops: &[(CheckpointFolder, String)]) -> Result<(GcPlan, Vec<StorePath>)> {
        let view = self.counting.now();
        let (going, refused) = self.choose(&view, drops);
        let mut plan = gc::plan_release(&*self.store, &view, &*self.registry, &going).await?;
        plan.refused.extend(refused);
        let kept = self.condemn(&plan)?;
        Ok((plan, kept))
    }

    /// From here on the checkpoints that a plan drops count no more, and the collector has what goes
    /// with them: both or neither, whenever this future's caller is dropped. Were one counted on the store and
    /// not here, a later plan would free what it references.
    fn condemn(&self, plan: &GcPlan) -> Result<Vec<StorePath>> {
        let kept = self.collector.begin(plan.clone())?;
        for dropped in &plan.dropped {
            self.state.lock().completed.remove(&dropped.folder);
            self.counting.note(|view| view.note_dropped(dropped.folder));
        }
        Ok(kept)
    }

    /// Tells listeners what a report says.
    fn told(&self, report: GcReport) -> GcReport {
        for folder in &report.dropped {
            for listener in &self.listeners {
                listener.subsumed(*folder);
            }
        }
        report
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

    async fn begin_leftovers(&self) -> Result<()> {
        let leftovers = std::mem::take(&mut self.state.lock().leftovers);
        if leftovers.is_empty() {
            return Ok(());
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
        let (view, done) = (self.counting.now(), BTreeSet::new());
        let judge = Judge::of_leftovers(&view, &*self.registry, self.tenure.epoch(), &progress, &done);
        self.condemn(&gc::plan_listed(&self.layout, &judge, listing)).map(|_| ())
    }

    /// Finds and removes everything that nothing references: orphans of crashed runs and aborted
    /// checkpoints, void lists, superseded epochs; first goes on with deletes that failed. With
    /// `dry_run` it only plans. Commits, drops and pins go on meanwhile.
    ///
    /// # Errors
    /// The tenure's end; [`ErrorKind::Blocked`] if the own start cannot be read, so that nobody knows
    /// what counts; what the store says of a listing: a sweep that could not see everything deletes
    /// nothing.
    pub async fn collect(&self, scope: SweepScope, dry_run: bool) -> Result<(GcPlan, GcReport)> {
        let _one_at_a_time = if dry_run { None } else { Some(self.sweeps.lock().await) };
        self.tenure.check()?;
        if !dry_run {
            log_report(&self.told(self.collector.work_off().await));
        }
        // First how far each checkpoint is, then what counts, then what is there (S2).
        let progress = self.progress();
        let view = self.refresh(&progress).await?;
        let mut done = self.inbox.done(&self.tenure)?;
        done.extend(self.collector.stray_lists(&view));
        let plan = {
            let judge = Judge::new(&view, &*self.registry, self.tenure.epoch(), &progress, &done);
            gc::plan_sweep(&*self.store, &self.layout, &judge, scope).await?
        };
        if dry_run {
            return Ok((plan, GcReport::default()));
        }
        let report = self.told(self.collector.execute(plan.clone()).await);
        Ok((plan, report.into_result()?))
    }

    /// Pins a complete checkpoint: retention and drops leave it alone until it is unpinned.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is no complete checkpoint; the tenure's end.
    pub async fn pin(&self, folder: CheckpointFolder, reason: &str) -> Result<RefName> {
        let _one_at_a_time = self.plans.lock().await;
        let name = self.collector.pin(&self.counting.now(), folder, reason).await?;
        let hold = HoldView { path: self.layout.pin(&name)?, note: Ok(reason.to_owned()) };
        self.counting.note(|view| view.pins.insert(name, hold));
        self.collector.note_view(&self.counting.now());
        Ok(name)
    }

    /// Removes every pin of a checkpoint. Returns how many there were.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it has none; the tenure's end.
    pub async fn unpin(&self, folder: CheckpointFolder) -> Result<usize> {
        let plan = {
            let _one_at_a_time = self.plans.lock().await;
            let plan = gc::plan_unpin(&self.counting.now(), folder)?;
            if plan.is_empty() {
                let error = Error::new(ErrorKind::NotFound, "unpin a checkpoint", "it is not pinned");
                return Err(error.with_object(folder));
            }
            self.condemn(&plan)?;
            plan
        };
        self.told(self.collector.work_off().await).into_result()?;
        for object in &plan.objects {
            if let Place::Pin(name) = &object.place {
                self.counting.note(|view| view.pins.remove(name));
            }
        }
        Ok(plan.objects.len())
    }

    /// Reads anew what counts. Unless that is seen with the own start, the view stays as it was: one
    /// in which nothing counts would say that the job has no checkpoint. `progress` was taken before.
    async fn refresh(&self, progress: &Progress) -> Result<Arc<JobView>> {
        let before = self.counting.now();
        let fresh = self.read_view().await?;
        let _nothing_is_dropped_or_pinned = self.plans.lock().await;
        let view = self.counting.take_in(fresh, &before, progress);
        self.collector.note_view(&view);
        Ok(view)
    }

    async fn read_view(&self) -> Result<JobView> {
        let fresh = JobView::read(&*self.store, &self.layout).await?;
        if fresh.start.as_ref().map(|start| start.epoch) != Some(self.tenure.epoch()) {
            self.tenure.look().await?;
            return Err(Error::new(ErrorKind::Blocked, "read what counts", "the start of this tenure cannot be read")
                .with_object(self.layout.start(self.tenure.epoch())?)
                .with_advice("put back a sound copy of the object, or claim the job again"));
        }
        Ok(fresh)
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

fn not_kept(drops: &[CheckpointFolder]) -> Vec<(CheckpointFolder, String)> {
    drops.iter().map(|folder| (*folder, "not kept by the retention policy".to_owned())).collect()
}

fn log_report(report: &GcReport) {
    // One line. What waits still may well be another call's, which is at it.
    let line = report.to_string().trim_end().replace('\n', "; ");
    if report.failed.is_empty() && report.stopped.is_none() {
        tracing::debug!(report = line, "collected");
    } else {
        tracing::warn!(report = line, "collected in part; a later collection goes on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{Epoch, Uid};

    #[test]
    fn leftovers_of_checkpoints_that_only_fail_are_bounded() {
        let mut leftovers = Leftovers::default();
        let epoch = Epoch { counter: 1, uid: Uid(1) };
        for id in 0..3 * MAX_LEFTOVERS as u64 {
            leftovers.add(Some(CheckpointFolder { checkpoint: CheckpointId(id), epoch }), Ok(Unreferenced::default()));
            assert!(leftovers.folders.len() <= MAX_LEFTOVERS);
        }
        assert!(!leftovers.is_empty(), "later ones are remembered again");
    }
}
