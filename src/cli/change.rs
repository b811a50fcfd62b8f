//! `drop`, `repair`, `retain`, `pin`, `unpin`, `gc`: what changes a job. Dry runs only read.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::args::{DropArgs, GcArgs, KeepArgs, OwnerArgs, PinArgs, RetainArgs, UnpinArgs};
use super::exit;
use super::output::{Done, one_line};
use super::owner::{Reply, ask_or_claim, perform};
use super::place::{Job, Place};
use super::select::find_folder;
use super::text::{count, size};
use crate::coordinator::{Candidate, Coordinator, MAX_REQUESTED_CHECKPOINTS, RetentionPlan, RetentionPolicy, Wish};
use crate::error::{Error, Result};
use crate::gc::{self, GcPlan, GcReport, Judge, NoHoldings, Progress, SweepScope};
use crate::layout::{CheckpointFolder, CheckpointId, Epoch, Uid};
use crate::metadata::CheckpointKind;
use crate::ownership::JobView;
use crate::store::StorePath;

/// What a change did, or would do.
#[derive(Debug, Default, Serialize)]
struct Report {
    job: String,
    dry_run: bool,
    /// Who did it: `this command` as the owner, or `the owner`, which was asked.
    done_by: &'static str,
    /// What the job's owner answered.
    answer: Option<String>,
    plan: Option<GcPlan>,
    report: Option<GcReport>,
    /// Temporary files of crashed writers that were removed.
    removed_unfinished: Option<u64>,
    /// The name of a pin that was set.
    pin: Option<String>,
    /// How many pins were removed.
    unpinned: Option<usize>,
}

impl KeepArgs {
    /// The policy, if any part of it was given.
    pub(super) fn policy(self) -> Option<RetentionPolicy> {
        let Self { keep_last, keep_hourly, keep_daily, keep_weekly } = self;
        let is_given = [keep_last, keep_hourly, keep_daily, keep_weekly].iter().any(Option::is_some);
        is_given.then(|| RetentionPolicy {
            last: keep_last.unwrap_or(0),
            hourly: keep_hourly.unwrap_or(0),
            daily: keep_daily.unwrap_or(0),
            weekly: keep_weekly.unwrap_or(0),
        })
    }
}

/// What a sweep would do if it ran now, as far as that can be told without claiming the job.
pub(super) struct Rehearsal {
    epoch: Epoch,
    progress: Progress,
    done: BTreeSet<StorePath>,
}

impl Rehearsal {
    /// If an owner lives, what it may be writing is in flight. Otherwise a new owner would sweep.
    pub(super) fn of(view: &JobView) -> Self {
        let next = view.epochs.greatest().map_or(0, |epoch| epoch.counter).saturating_add(1);
        let epoch = view.epochs.living_owner().unwrap_or(Epoch { counter: next, uid: Uid(0) });
        let progress = Progress { next: CheckpointId(0), in_flight: BTreeSet::new() };
        Self { epoch, progress, done: BTreeSet::new() }
    }

    /// Judges by it.
    pub(super) fn judge<'a>(&'a self, view: &'a JobView) -> Judge<'a> {
        Judge::new(view, &NoHoldings, self.epoch, &self.progress, &self.done)
    }
}

pub(super) async fn drop(place: &Place, args: DropArgs) -> Result<Done> {
    let (job, view) = place.view().await?;
    let mut folders = Vec::new();
    for text in &args.checkpoints {
        folders.push(find_folder(&view, text)?);
    }
    if args.dry_run {
        return rehearse_drop(&job, &view, folders, "asked for").await;
    }
    drop_folders(place, &job, folders, args.owner).await
}

async fn drop_folders(place: &Place, job: &Job, folders: Vec<CheckpointFolder>, args: OwnerArgs) -> Result<Done> {
    if folders.len() > MAX_REQUESTED_CHECKPOINTS {
        let message = format!("more than {MAX_REQUESTED_CHECKPOINTS} checkpoints at once");
        return Err(Error::invalid("drop checkpoints", message).with_advice("drop some of them first"));
    }
    let wish = Wish::Drop(folders.clone());
    owned(place, job, &wish, args, async |coordinator, report| {
        let drops: Vec<_> = folders.into_iter().map(|folder| (folder, "asked for".to_owned())).collect();
        let (plan, done) = coordinator.drop_checkpoints(&drops, false).await?;
        (report.plan, report.report) = (Some(plan), Some(done));
        Ok(())
    })
    .await
}

/// `repair CHECKPOINT`.
pub(super) async fn give_up(place: &Place, checkpoint: &str, dry_run: bool, args: OwnerArgs) -> Result<Done> {
    let (job, view) = place.view().await?;
    let folder = find_folder(&view, checkpoint)?;
    if dry_run {
        return rehearsed(&job, gc::plan_repair(&*job.store, &view, folder).await?);
    }
    owned(place, &job, &Wish::Repair(folder), args, async |coordinator, report| {
        let (plan, done) = coordinator.repair(folder).await?;
        (report.plan, report.report) = (Some(plan), Some(done));
        Ok(())
    })
    .await
}

pub(super) async fn retain(place: &Place, args: RetainArgs) -> Result<Done> {
    let policy = args.keep.policy().ok_or_else(|| {
        Error::invalid("apply a retention policy", "none was given")
            .with_advice("give --keep-last N, --keep-hourly N, --keep-daily N or --keep-weekly N")
    })?;
    policy.check()?;
    let (job, view) = place.view().await?;
    if args.dry_run {
        let plan = RetentionPlan::new(policy, &candidates(&view));
        return rehearse_drop(&job, &view, plan.drop, "not kept by the retention policy").await;
    }
    owned(place, &job, &Wish::Retain(policy), args.owner, async |coordinator, report| {
        let (_, plan, done) = coordinator.apply_retention(policy, false).await?;
        (report.plan, report.report) = (Some(plan), Some(done));
        Ok(())
    })
    .await
}

fn candidates(view: &JobView) -> Vec<Candidate> {
    let readable =
        view.checkpoints.values().filter_map(|checkpoint| Some((checkpoint, checkpoint.content.as_ref().ok()?)));
    readable
        .filter(|(_, metadata)| metadata.kind != CheckpointKind::Savepoint)
        .map(|(checkpoint, metadata)| Candidate {
            folder: checkpoint.folder,
            triggered_at_unix_ms: metadata.triggered_at_unix_ms,
            held: view.holds(checkpoint.folder).next().is_some(),
        })
        .collect()
}

pub(super) async fn pin(place: &Place, args: PinArgs) -> Result<Done> {
    let (job, view) = place.view().await?;
    let folder = find_folder(&view, &args.checkpoint)?;
    let wish = Wish::Pin(folder, args.reason.clone());
    owned(place, &job, &wish, args.owner, async |coordinator, report| {
        report.pin = Some(coordinator.pin(folder, &args.reason).await?.to_string());
        Ok(())
    })
    .await
}

pub(super) async fn unpin(place: &Place, args: UnpinArgs) -> Result<Done> {
    let (job, view) = place.view().await?;
    let folder = find_folder(&view, &args.checkpoint)?;
    owned(place, &job, &Wish::Unpin(folder), args.owner, async |coordinator, report| {
        report.unpinned = Some(coordinator.unpin(folder).await?);
        Ok(())
    })
    .await
}

pub(super) async fn gc(place: &Place, args: GcArgs) -> Result<Done> {
    let (job, mut view) = place.view().await?;
    if args.dry_run {
        if view.epochs.living_owner().is_none() {
            // A new owner adopts what no list names, and then the lists are void.
            view.lists.clear();
        }
        let rehearsal = Rehearsal::of(&view);
        let judge = rehearsal.judge(&view);
        let plan = gc::plan_sweep(&*job.store, &job.layout, &judge, SweepScope::Everything).await?;
        return rehearsed(&job, plan);
    }
    let scope = SweepScope::Everything;
    owned(place, &job, &Wish::Gc(scope), args.owner, async |coordinator, report| {
        let (plan, done) = coordinator.collect(scope, false).await?;
        (report.plan, report.report) = (Some(plan), Some(done));
        // Nobody but this owner may write here; a zombie's writer fails at its end.
        report.removed_unfinished = Some(job.store.remove_unfinished(Some(job.layout.root()), Duration::ZERO).await?);
        Ok(())
    })
    .await
}

/// Has the living owner do it, or does it as the owner.
async fn owned(
    place: &Place,
    job: &Job,
    wish: &Wish,
    args: OwnerArgs,
    work: impl AsyncFnOnce(&Coordinator, &mut Report) -> Result<()>,
) -> Result<Done> {
    let mut report = Report { job: job.layout.job().to_string(), ..Report::default() };
    match ask_or_claim(place, job, wish, args).await? {
        Reply::Answered(answer) => {
            (report.done_by, report.answer) = ("the owner", Some(answer));
        }
        Reply::Owner(coordinator) => {
            report.done_by = "this command";
            perform(place, &coordinator, async |coordinator| work(coordinator, &mut report).await).await?;
        }
    }
    let code = code_of(&report);
    Ok(Done::new(text(&report), &report)?.with_code(code))
}

async fn rehearse_drop(job: &Job, view: &JobView, folders: Vec<CheckpointFolder>, why: &str) -> Result<Done> {
    let drops: Vec<_> = folders.into_iter().map(|folder| (folder, why.to_owned())).collect();
    rehearsed(job, gc::plan_drop(&*job.store, view, &drops).await?)
}

fn rehearsed(job: &Job, plan: GcPlan) -> Result<Done> {
    let report = Report {
        job: job.layout.job().to_string(),
        dry_run: true,
        done_by: "nobody",
        plan: Some(plan),
        ..Report::default()
    };
    let code = code_of(&report);
    Ok(Done::new(text(&report), &report)?.with_code(code))
}

/// What was kept from being deleted is not success: a script must be able to tell.
fn code_of(report: &Report) -> u8 {
    let is_unfinished = report.report.as_ref().is_some_and(|report| !report.is_finished());
    let is_kept = report.plan.as_ref().is_some_and(|plan| !plan.refused.is_empty() || plan.blocked_objects > 0);
    match (is_unfinished, is_kept) {
        (true, _) => exit::FAILED,
        (false, true) => exit::KEPT,
        (false, false) => exit::OK,
    }
}

fn text(report: &Report) -> String {
    let mut lines: Vec<String> = Vec::new();
    if let Some(answer) = &report.answer {
        lines.push("done by the job's owner:".to_owned());
        lines.extend(answer.lines().map(str::to_owned));
    }
    match (&report.plan, &report.report) {
        (Some(plan), None) => {
            lines.extend(plan.to_string().lines().map(str::to_owned));
            lines.push("nothing was changed (dry run)".to_owned());
        }
        (Some(plan), Some(done)) => lines.extend(done_lines(plan, done)),
        _ => {}
    }
    if let Some(removed) = report.removed_unfinished.filter(|removed| *removed > 0) {
        lines.push(format!("{} of crashed writers removed", count(removed, "unfinished file")));
    }
    if let Some(pin) = &report.pin {
        lines.push(format!("pinned as {pin}"));
    }
    if let Some(unpinned) = report.unpinned {
        lines.push(format!("{} removed", count(unpinned as u64, "pin")));
    }
    lines.iter().map(|line| one_line(line) + "\n").collect()
}

fn done_lines(plan: &GcPlan, done: &GcReport) -> Vec<String> {
    let mut lines: Vec<String> =
        plan.dropped.iter().map(|dropped| format!("dropped {}  ({})", dropped.folder, dropped.why)).collect();
    lines.extend(plan.refused.iter().map(|refused| format!("kept    {}  ({})", refused.folder, refused.why)));
    for blocked in &plan.blocked {
        lines.push(format!("blocked by {}: {} stays; {}", blocked.object, blocked.blocks, blocked.reason));
    }
    if plan.blocked_objects > 0 {
        let (objects, bytes) = (count(plan.blocked_objects, "object"), size(plan.blocked_bytes));
        lines.push(format!("kept only because of that: {objects}, {bytes}"));
    }
    lines.extend(plan.foreign.iter().map(|path| format!("unknown {path}  (icecore did not write it; left alone)")));
    lines.extend(done.failed.iter().map(|failed| format!("not deleted: {} ({})", failed.path, failed.reason)));
    if done.pending_lists > 0 {
        lines.push(format!("{} not yet deleted; run `icecore gc` again", count(done.pending_objects, "object")));
    }
    lines.push(format!("{} deleted, {}", count(done.deleted_objects, "object"), size(done.deleted_bytes)));
    lines
}
