//! What `copy` prints.

use serde::Serialize;

use super::exit;
use super::output::{Done, one_line};
use super::select::kind_name;
use super::text::{Align, Table, count, size};
use crate::copy::{CopyPlan, CopyReport, CopyStep, SavepointPlan, Verdict};
use crate::error::Result;
use crate::restore::Checkpoint;

/// Everything a report is made of.
pub(super) struct Outcome {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) plan: CopyPlan,
    pub(super) report: CopyReport,
    pub(super) dry_run: bool,
    /// Whether checkpoints were named, so that one that is passed over is a refusal.
    pub(super) is_chosen: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    from: String,
    to: String,
    job: String,
    to_job: String,
    dry_run: bool,
    checkpoints: Vec<Row>,
    /// Sent, or with `dry_run` to be sent.
    sent_files: u64,
    sent_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    checkpoint: u64,
    folder: String,
    kind: Option<&'static str>,
    /// `copied`, `to-copy`, `there`, `older`, `refused`, `damaged` or `gone`.
    result: &'static str,
    /// Its number at the target.
    to_checkpoint: Option<u64>,
    /// Its folder at the target.
    to_folder: Option<String>,
    files: u64,
    bytes: u64,
    sent_files: u64,
    sent_bytes: u64,
    /// Why it was not copied.
    reason: Option<String>,
    /// Whether it is pinned at the source.
    pinned_at_source: bool,
    /// Whether this copy pinned it, or would.
    pins: bool,
}

/// # Errors
/// A bug only.
pub(super) fn report(outcome: Outcome) -> Result<Done> {
    let rows: Vec<Row> = outcome.plan.steps.iter().map(|step| row(step, &outcome)).collect();
    let report = Report {
        sent_files: rows.iter().map(|row| row.sent_files).fold(0, u64::saturating_add),
        sent_bytes: rows.iter().map(|row| row.sent_bytes).fold(0, u64::saturating_add),
        job: outcome.plan.job.to_string(),
        to_job: outcome.plan.to_job.to_string(),
        from: outcome.from,
        to: outcome.to,
        dry_run: outcome.dry_run,
        checkpoints: rows,
    };
    let has = |result| report.checkpoints.iter().any(|row| row.result == result);
    let code = match () {
        () if has("damaged") => exit::DAMAGED,
        () if has("refused") || (outcome.is_chosen && has("older")) => exit::KEPT,
        () if outcome.is_chosen && has("gone") => exit::NOT_FOUND,
        () => exit::OK,
    };
    Ok(Done::new(text(&report), &report)?.with_code(code))
}

fn row(step: &CopyStep, outcome: &Outcome) -> Row {
    let report = &outcome.report;
    let copied = report.copied.iter().find(|copied| copied.source == step.source);
    let damaged = report.damaged.iter().find(|damaged| damaged.source == step.source);
    let mut row = Row {
        checkpoint: step.source.checkpoint.0,
        folder: step.source.to_string(),
        kind: step.kind.map(kind_name),
        result: "to-copy",
        to_checkpoint: None,
        to_folder: None,
        files: step.files,
        bytes: step.bytes,
        sent_files: 0,
        sent_bytes: 0,
        reason: None,
        pinned_at_source: step.is_pinned,
        pins: step.sets_pin,
    };
    if let Some(copied) = copied {
        row.result = "copied";
        row.to_checkpoint = Some(copied.target.checkpoint.0);
        row.to_folder = Some(copied.target.to_string());
        (row.sent_files, row.sent_bytes) = (copied.sent_files, copied.sent_bytes);
    } else if let Some(damaged) = damaged {
        (row.result, row.reason) = ("damaged", Some(damaged.reason.clone()));
    } else if report.gone.contains(&step.source) {
        (row.result, row.reason) = ("gone", Some("it was dropped at the source meanwhile".to_owned()));
    } else {
        plan_row(&mut row, step);
    }
    row
}

/// What the plan says of a checkpoint that nothing was done with.
fn plan_row(row: &mut Row, step: &CopyStep) {
    match &step.verdict {
        Verdict::Send(number) => {
            row.to_checkpoint = Some(number.0);
            (row.sent_files, row.sent_bytes) = (step.send_files, step.send_bytes);
        }
        Verdict::There(folder) => {
            row.result = "there";
            row.to_checkpoint = Some(folder.checkpoint.0);
            row.to_folder = Some(folder.to_string());
        }
        Verdict::Older(newer) => {
            let why = format!("the target has a newer one, {newer}, and numbers grow; --on-top puts it above that");
            (row.result, row.reason) = ("older", Some(why));
        }
        Verdict::Refused(why) if why.yields_to_on_top() => {
            let why = format!("{why}; --on-top makes it the newest there, which a recovery takes");
            (row.result, row.reason) = ("refused", Some(why));
        }
        Verdict::Refused(why) => (row.result, row.reason) = ("refused", Some(why.to_string())),
        Verdict::Unreadable(unreadable) => (row.result, row.reason) = ("damaged", Some(unreadable.reason.clone())),
    }
}

fn text(report: &Report) -> String {
    use Align::{Left, Right};
    let mut table = Table::new([
        ("CP", Right),
        ("RESULT", Left),
        ("AS", Right),
        ("FILES", Right),
        ("SENT", Right),
        ("BYTES SENT", Right),
    ]);
    for row in &report.checkpoints {
        let is_sent = matches!(row.result, "copied" | "to-copy");
        let sent = |text: String| if is_sent { text } else { String::new() };
        table.row([
            row.checkpoint.to_string(),
            row.result.replace('-', " "),
            row.to_checkpoint.map_or_else(String::new, |number| number.to_string()),
            row.files.to_string(),
            sent(row.sent_files.to_string()),
            sent(size(row.sent_bytes)),
        ]);
    }
    let mut text = table.render();
    text += &reasons(report);
    text += &pins_line(report);
    let is_sent = |row: &&Row| matches!(row.result, "copied" | "to-copy");
    let checkpoints = count(report.checkpoints.iter().filter(is_sent).count() as u64, "checkpoint");
    let (files, bytes) = (count(report.sent_files, "file"), size(report.sent_bytes));
    let Report { to, to_job, .. } = report;
    text += &match report.dry_run {
        true => {
            format!("{checkpoints} to copy to job {to_job} on {to}: {files}, {bytes}\nnothing was changed (dry run)")
        }
        false => format!("{checkpoints} copied to job {to_job} on {to}: {files}, {bytes}"),
    };
    text
}

/// Why checkpoints were not copied: a line for all that have the same reason.
fn reasons(report: &Report) -> String {
    let mut lines: Vec<(&str, Vec<String>)> = Vec::new();
    for row in &report.checkpoints {
        let Some(reason) = &row.reason else { continue };
        match lines.iter_mut().find(|(known, _)| known == reason) {
            Some((_, numbers)) => numbers.push(row.checkpoint.to_string()),
            None => lines.push((reason, vec![row.checkpoint.to_string()])),
        }
    }
    let line =
        |(reason, numbers): (&str, Vec<String>)| one_line(&format!("not copied: {}: {reason}", numbers.join(", ")));
    lines.into_iter().map(|entry| line(entry) + "\n").collect()
}

fn pins_line(report: &Report) -> String {
    let numbers = |is_wanted: fn(&&Row) -> bool| {
        let numbers: Vec<String> =
            report.checkpoints.iter().filter(is_wanted).map(|row| row.checkpoint.to_string()).collect();
        (!numbers.is_empty()).then(|| numbers.join(", "))
    };
    let pinned = numbers(|row| row.pins).map(|numbers| {
        format!("{} at the target: {numbers}\n", if report.dry_run { "to be pinned" } else { "pinned" })
    });
    let unpinned = numbers(|row| row.pinned_at_source && !row.pins && matches!(row.result, "copied" | "to-copy"))
        .map(|numbers| format!("pinned at the source, and not at the target without --pins: {numbers}\n"));
    pinned.unwrap_or_default() + &unpinned.unwrap_or_default()
}

#[derive(Debug, Serialize)]
struct SavepointReport {
    job: String,
    checkpoint: u64,
    to: String,
    to_path: String,
    dry_run: bool,
    /// `copied`, `to-copy` or `there`.
    result: &'static str,
    files: u64,
    bytes: u64,
    sent_files: u64,
    sent_bytes: u64,
}

/// # Errors
/// A bug only.
pub(super) fn report_savepoint(checkpoint: &Checkpoint, plan: &SavepointPlan, to: &str, dry_run: bool) -> Result<Done> {
    let report = SavepointReport {
        job: checkpoint.metadata.job.to_string(),
        checkpoint: checkpoint.metadata.checkpoint.0,
        to: to.to_owned(),
        to_path: plan.folder.to_string(),
        dry_run,
        result: match (plan.is_there, dry_run) {
            (true, _) => "there",
            (false, true) => "to-copy",
            (false, false) => "copied",
        },
        files: plan.files,
        bytes: plan.bytes,
        sent_files: plan.send_files,
        sent_bytes: plan.send_bytes,
    };
    let SavepointReport { job, checkpoint, to, to_path, .. } = &report;
    let (files, sent) = (count(report.files, "file"), size(report.sent_bytes));
    let what = format!("savepoint {checkpoint} of job {job}");
    let text = match report.result {
        "there" => format!("{what} is at {to_path} on {to} already"),
        "to-copy" => format!("{what} would be copied to {to_path} on {to}: {files}, {sent} to send"),
        _ => format!("copied {what} to {to_path} on {to}: {files}, {sent} sent"),
    };
    Done::new(text, &report)
}
