//! `verify`: whether checkpoints restore, found out without restoring them.

use serde::Serialize;

use super::args::VerifyArgs;
use super::exit;
use super::output::Done;
use super::place::Place;
use super::progress::Bar;
use super::select::{find, open, open_exported, refuse_unknown};
use super::text::{Align, Table, size};
use crate::error::{Error, ErrorKind, Result};
use crate::restore::{Checkpoint, VerifyReport, verify_checkpoints};
use crate::transfer::TransferLimits;

#[derive(Debug, Serialize)]
struct Report {
    sound: bool,
    /// Whether every byte was read and hashed.
    deep: bool,
    checkpoints: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    job: String,
    checkpoint: u64,
    folder: String,
    sound: bool,
    files: u64,
    read_bytes: u64,
    damaged: Vec<Damaged>,
}

#[derive(Debug, Serialize)]
struct Damaged {
    object: String,
    reason: String,
}

pub(super) async fn run(place: &Place, args: VerifyArgs) -> Result<Done> {
    let deep = !args.quick;
    let mut unreadable = Vec::new();
    let mut checkpoints = Vec::new();
    if let Some(folder) = &args.from {
        checkpoints.push(open_exported(place, folder).await?);
    } else {
        let (job, view) = place.view().await?;
        refuse_unknown(&view)?;
        let chosen = match &args.checkpoint {
            None if args.all => view.checkpoints.values().collect(),
            text => vec![find(&view, text.as_deref().unwrap_or("latest"))?],
        };
        for checkpoint in chosen {
            match open(&job, checkpoint) {
                Ok(opened) => checkpoints.push(opened),
                Err(error) if is_damage(&error) => unreadable.push(unreadable_row(&job.layout, checkpoint, &error)?),
                Err(error) => return Err(error),
            }
        }
    }
    let bar = Bar::new(place.output, "verify");
    let reports = verify_checkpoints(&place.env, &checkpoints, deep, TransferLimits::default(), &bar).await?;
    bar.finish();
    let mut rows: Vec<Row> =
        checkpoints.iter().zip(reports).map(|(checkpoint, report)| row(checkpoint, report)).collect();
    rows.extend(unreadable);
    rows.sort_by_key(|row| row.checkpoint);
    let report = Report { sound: rows.iter().all(|row| row.sound), deep, checkpoints: rows };
    let code = if report.sound { exit::OK } else { exit::DAMAGED };
    Ok(Done::new(text(&report), &report)?.with_code(code))
}

/// Whether an error tells of damage, and not of the way to the store.
pub(super) fn is_damage(error: &Error) -> bool {
    use ErrorKind::{Corrupt, InvalidInput, LimitExceeded, NotFound, Unsupported};
    matches!(error.kind(), Corrupt | NotFound | Unsupported | LimitExceeded | InvalidInput)
}

fn row(checkpoint: &Checkpoint, report: VerifyReport) -> Row {
    let damaged = report
        .damaged
        .iter()
        .map(|damage| Damaged { object: damage.object.to_string(), reason: damage.reason.clone() });
    Row {
        job: checkpoint.metadata.job.to_string(),
        checkpoint: checkpoint.metadata.checkpoint.0,
        folder: checkpoint.metadata.folder().to_string(),
        sound: report.is_sound(),
        files: report.files,
        read_bytes: report.read_bytes,
        damaged: damaged.collect(),
    }
}

fn unreadable_row(
    layout: &crate::layout::JobLayout,
    checkpoint: &crate::ownership::CheckpointView,
    error: &Error,
) -> Result<Row> {
    let object = layout.metadata(checkpoint.folder)?.to_string();
    Ok(Row {
        job: layout.job().to_string(),
        checkpoint: checkpoint.folder.checkpoint.0,
        folder: checkpoint.folder.to_string(),
        sound: false,
        files: 0,
        read_bytes: 0,
        damaged: vec![Damaged { object, reason: error.message().to_owned() }],
    })
}

fn text(report: &Report) -> String {
    use Align::{Left, Right};
    let mut table = Table::new([("CP", Right), ("RESULT", Left), ("FILES", Right), ("READ", Right)]);
    for row in &report.checkpoints {
        let result = if row.sound { "sound" } else { "DAMAGED" };
        let read = if report.deep { size(row.read_bytes) } else { "-".to_owned() };
        table.row([row.checkpoint.to_string(), result.to_owned(), row.files.to_string(), read]);
    }
    let mut text = table.render();
    for row in report.checkpoints.iter().filter(|row| !row.sound) {
        for damaged in &row.damaged {
            let line = format!("checkpoint {}: {}: {}", row.checkpoint, damaged.object, damaged.reason);
            text += &super::output::one_line(&line);
            text.push('\n');
        }
    }
    if !report.deep {
        text += "only presence and length were checked; leave out --quick to hash every byte\n";
    }
    text
}
