//! `job status`: how a running job is.

use super::ManagerArgs;
use super::ask::checked;
use crate::cli::output::{Done, one_line};
use crate::cli::place::Place;
use crate::cli::text::{Align, Table, count, duration, size, time};
use crate::error::Result;
use crate::job::report::{CheckpointRecord, JobReport, RecoveryReport};

pub(super) async fn run(place: &Place, args: ManagerArgs, last: usize) -> Result<Done> {
    let (_, _, report) = checked(place, args).await?;
    Done::new(text(&report, last), &report)
}

fn text(report: &JobReport, last: usize) -> String {
    let mut text: String = head(report).iter().map(|line| one_line(line) + "\n").collect();
    text += "\n";
    text += &workers(report);
    if !report.checkpoints.is_empty() {
        text += "\n";
        text += &checkpoints(report, last);
    }
    if !report.events.is_empty() {
        text += "\n";
        text += &events(report, last);
    }
    text
}

fn head(report: &JobReport) -> Vec<String> {
    let why = report.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let stopping = if report.stopping { ", stopping" } else { "" };
    let since = time(report.manager.started_at_unix_ms);
    let mut lines = vec![
        format!("job {} on {}", report.job, report.store),
        format!(
            "  state         {}{stopping}, generation {}, {}{why}",
            report.state,
            report.generation,
            count(report.parallelism.into(), "worker")
        ),
        format!("  manager       {}, since {since} UTC, epoch {}", report.manager.holder, report.manager.epoch),
    ];
    if !report.missing_workers.is_empty() {
        let what = if report.state == "restoring" { "have not restored yet" } else { "have not registered yet" };
        lines.push(format!("  missing       workers {:?} {what}", report.missing_workers));
    }
    if let Some(ms) = report.restarts_in_ms {
        lines.push(format!("  restarts      in {}", duration(ms.saturating_mul(1_000))));
    }
    let restored = report.restored_from.as_ref().map_or("nothing: it began without state", |from| &from.path);
    lines.push(format!("  restored      {restored}"));
    lines.extend(recovery(&report.recovery));
    let last_failure = report.last_failure.as_ref().map(|why| format!("; workers were ended last: {why}"));
    lines.push(format!(
        "  failures      {}, {}{}",
        report.failures,
        count(report.restarts, "restart"),
        last_failure.unwrap_or_default()
    ));
    let in_flight: Vec<String> =
        report.in_flight.iter().map(|one| format!("{} ({})", one.checkpoint, one.kind)).collect();
    let in_flight =
        if in_flight.is_empty() { "none in flight".to_owned() } else { format!("in flight: {}", in_flight.join(", ")) };
    lines.push(format!("  checkpoints   {} complete, {} aborted, {in_flight}", report.completed, report.aborted));
    let shared = &report.shared;
    let ratio = shared.dedupe_ratio.map(|ratio| format!(", each byte serves {ratio:.2}")).unwrap_or_default();
    lines.push(format!("  shared files  {}, {}{ratio}", shared.objects, size(shared.stored_bytes)));
    lines
}

/// How the workers came to run, step by step.
fn recovery(recovery: &RecoveryReport) -> Option<String> {
    let ms = |ms: u64| duration(ms.saturating_mul(1_000));
    let step = |time: Option<u64>, what: &str| time.map(|time| format!("{} {what}", ms(time)));
    let steps = [
        step(recovery.pause_ms, "pause"),
        step(recovery.start_ms, "to start"),
        step(recovery.restore_ms, "to restore"),
        step(recovery.resume_ms, "to the first record"),
    ];
    let steps: Vec<String> = steps.into_iter().flatten().collect();
    let total = recovery.total_ms.map(|total| format!(", {} in all", ms(total))).unwrap_or_default();
    let files = |files: u64, bytes: u64, what: &str| match files {
        0 => String::new(),
        files => format!("; {what}: {}, {}", count(files, "file"), size(bytes)),
    };
    let fetched = files(recovery.fetched_files, recovery.fetched_bytes, "fetched");
    let linked = files(recovery.linked_files, recovery.linked_bytes, "linked");
    (!steps.is_empty()).then(|| format!("  came to run   {}{total}{fetched}{linked}", steps.join(", ")))
}

fn workers(report: &JobReport) -> String {
    use Align::{Left, Right};
    let mut table =
        Table::new([("WORKER", Right), ("NAME", Left), ("STEPS", Right), ("SILENT", Right), ("KEY GROUPS", Left)]);
    for worker in &report.workers {
        let groups = report.operators.iter().filter_map(|operator| {
            let (first, last) = operator.key_groups.get(worker.worker as usize)?;
            Some(format!("{} {first}-{last}", operator.operator))
        });
        let (name, steps) = match worker.registered {
            true => (worker.name.clone(), worker.steps.to_string()),
            false => ("(has not registered)".to_owned(), "-".to_owned()),
        };
        let silent = worker.silent_ms.map_or_else(|| "-".to_owned(), |ms| duration(ms.saturating_mul(1_000)));
        table.row([worker.worker.to_string(), name, steps, silent, groups.collect::<Vec<_>>().join(", ")]);
    }
    table.render()
}

fn checkpoints(report: &JobReport, last: usize) -> String {
    use Align::{Left, Right};
    let mut table = Table::new([
        ("CP", Right),
        ("KIND", Left),
        ("STATUS", Left),
        ("TRIGGERED (UTC)", Left),
        ("TOOK", Right),
        ("SENT", Right),
        ("SHARED", Right),
        ("WHY", Left),
    ]);
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), size);
    let row = |record: &CheckpointRecord| {
        [
            record.checkpoint.to_string(),
            record.kind.clone(),
            record.status.clone(),
            time(record.triggered_at_unix_ms),
            record.duration_ms.map_or_else(|| "-".to_owned(), |ms| duration(ms.saturating_mul(1_000))),
            bytes(record.uploaded_bytes),
            bytes(record.shared_bytes),
            record.reason.clone().unwrap_or_default(),
        ]
    };
    report.checkpoints.iter().take(last).for_each(|record| table.row(row(record)));
    table.render()
}

fn events(report: &JobReport, last: usize) -> String {
    let mut table = Table::new([
        ("TIME (UTC)", Align::Left),
        ("EVENT", Align::Left),
        ("GENERATION", Align::Right),
        ("WHAT", Align::Left),
    ]);
    for event in report.events.iter().take(last) {
        table.row([time(event.at_unix_ms), event.kind.clone(), event.generation.to_string(), event.text.clone()]);
    }
    table.render()
}
