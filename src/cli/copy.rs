//! `copy FROM TO`: checkpoints of a job, or a savepoint, from one store to another.
//!
//! The source is only read. The target's job is claimed, as by `snapshot`, but only if there is something to copy:
//! a copy that has nothing to do touches nothing and fences nobody.

use std::time::Duration;

use super::args::CopyArgs;
use super::copy_report::{Outcome, report, report_savepoint};
use super::output::Done;
use super::owner::{Claimant, claim_when_free, release, serve};
use super::place::{Job, Place, options};
use super::progress::Bar;
use super::select::{find_folder, refuse_unknown};
use crate::coordinator::Coordinator;
use crate::copy::{CopyOptions, CopyPlan, CopyReport, CopySource, SavepointPlan, copy_checkpoints, copy_savepoint};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, JobId, JobLayout};
use crate::ownership::JobView;
use crate::restore::read_checkpoint;
use crate::store::{StoreAddress, StorePath, StoreRef};
use crate::transfer::TransferLimits;

pub(super) async fn run(place: &Place, args: CopyArgs) -> Result<Done> {
    let from = place.open(&StoreAddress::parse(&args.from)?, &options(None, &args.from_option)?).await?;
    let to = place.open(&StoreAddress::parse(&args.to)?, &options(None, &args.to_option)?).await?;
    match &args.savepoint {
        Some(path) => savepoint(place, &args, path, from, to).await,
        None => checkpoints(place, &args, from, to).await,
    }
}

async fn checkpoints(place: &Place, args: &CopyArgs, from: StoreRef, to: StoreRef) -> Result<Done> {
    let job = place.job_on(from).await?;
    let source = CopySource { store: job.store.clone(), view: job.view().await? };
    refuse_unknown(&source.view)?;
    let chosen = chosen(&source.view, &args.checkpoint)?;
    let to_job = args.to_job.as_ref().map_or_else(|| Ok(job.layout.job().clone()), JobId::new)?;
    let target = Job { store: to, layout: JobLayout::new(to_job)? };
    let CopyArgs { on_top, pins, keep_going, .. } = *args;
    let options = CopyOptions { on_top, pins, keep_going, limits: TransferLimits::default() };
    let rehearsed = JobView::read(&*target.store, &target.layout).await?;
    let plan = CopyPlan::new(&source.view, &chosen, &rehearsed, &options)?;
    let outcome = |plan, report, dry_run| Outcome {
        from: source.store.describe(),
        to: target.store.describe(),
        plan,
        report,
        dry_run,
        is_chosen: !args.checkpoint.is_empty(),
    };
    if args.dry_run || plan.is_empty() {
        return report(outcome(plan, CopyReport::default(), args.dry_run));
    }
    let coordinator = claim_when_free(place, &target, args.owner, Claimant::default()).await?;
    let done = carry_out(place, &source, &chosen, &target, &coordinator, &options).await;
    release(&coordinator).await;
    let (plan, mut done) = done?;
    if let Some(error) = done.stopped.take() {
        tell_copied(place, &done);
        return Err(error);
    }
    report(outcome(plan, done, false))
}

fn chosen(view: &JobView, named: &[String]) -> Result<Vec<CheckpointFolder>> {
    if named.is_empty() {
        return Ok(view.checkpoints.keys().copied().collect());
    }
    named.iter().map(|text| find_folder(view, text)).collect()
}

/// Plans anew, with what the claim has found, and copies.
async fn carry_out(
    place: &Place,
    source: &CopySource,
    chosen: &[CheckpointFolder],
    target: &Job,
    coordinator: &Coordinator,
    options: &CopyOptions,
) -> Result<(CopyPlan, CopyReport)> {
    let plan = CopyPlan::new(&source.view, chosen, &coordinator.view(), options)?;
    // Nobody but this owner may write here; a zombie's writer fails at its end.
    if let Err(error) = target.store.remove_unfinished(Some(target.layout.root()), Duration::ZERO).await {
        tracing::warn!(%error, "could not remove unfinished files of crashed writers");
    }
    let bar = Bar::new(place.output, "copy");
    let mut stop = Box::pin(async {
        tokio::select! {
            over = serve(place, coordinator) => over,
            () = place.signals.received() => {
                place.signals.error("what was told as copied stays, and the same copy goes on with the rest")
            }
        }
    });
    let report = copy_checkpoints(&place.env, source, &plan, coordinator, options, &bar, &mut stop).await;
    bar.finish();
    Ok((plan, report))
}

/// What a copy that ends with an error did before.
fn tell_copied(place: &Place, done: &CopyReport) {
    let numbers: Vec<String> = done.copied.iter().map(|copied| copied.source.checkpoint.to_string()).collect();
    if !numbers.is_empty() {
        place.output.note(&format!("copied before that, and complete: {}", numbers.join(", ")));
    }
}

async fn savepoint(place: &Place, args: &CopyArgs, path: &str, from: StoreRef, to: StoreRef) -> Result<Done> {
    let path = StorePath::new(path)?;
    let folder = args.to_path.as_ref().map_or_else(|| Ok(path.clone()), StorePath::new)?;
    let checkpoint = read_checkpoint(from, Some(path.clone())).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "open a savepoint", "there is no `_metadata`")
            .with_object(&path)
            .with_advice("name its path below the store's root"),
        _ => error,
    })?;
    let plan = SavepointPlan::new(&checkpoint, &to, &folder).await?;
    if !args.dry_run {
        let bar = Bar::new(place.output, "copy");
        place.signals.awaits();
        tokio::select! {
            biased;
            done = copy_savepoint(&place.env, &checkpoint, &to, &plan, TransferLimits::default(), &bar) => done?,
            () = place.signals.received() => {
                let standing = "the target is unfinished (it has no `_metadata`): copy again to go on, or remove it";
                return Err(place.signals.error(standing));
            }
        }
        bar.finish();
    }
    report_savepoint(&checkpoint, &plan, &to.describe(), args.dry_run)
}
