//! `list`: the checkpoints of a job, oldest first.

use serde::Serialize;

use super::args::ListArgs;
use super::exit;
use super::output::Done;
use super::place::Place;
use super::select::{kind_name, refuse_unknown, why_not};
use super::text::{Align, Table, count, size, time};
use crate::error::Result;
use crate::layout::{CheckpointFolder, SharedName};
use crate::metadata::{CheckpointMetadata, FileEntry, Location, total_bytes};
use crate::ownership::{CheckpointView, JobView};

#[derive(Debug, Serialize)]
struct Listing {
    job: String,
    checkpoints: Vec<Row>,
    /// With `--all` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncounted: Option<Vec<UncountedRow>>,
}

#[derive(Debug, Serialize)]
struct Row {
    checkpoint: u64,
    folder: String,
    kind: Option<&'static str>,
    triggered_at_unix_ms: Option<u64>,
    files: u64,
    /// Bytes that were stored for this checkpoint, its index included.
    new_bytes: u64,
    /// Bytes of all files of the restored state.
    total_bytes: u64,
    pins: Vec<String>,
    /// Why its index cannot be read.
    unreadable: Option<String>,
}

#[derive(Debug, Serialize)]
struct UncountedRow {
    checkpoint: u64,
    folder: String,
    metadata_size_bytes: Option<u64>,
    why: &'static str,
}

pub(super) async fn run(place: &Place, args: ListArgs) -> Result<Done> {
    let (job, view) = place.view().await?;
    let mut code = exit::OK;
    match refuse_unknown(&view) {
        // The folders are there all the same, and their names are of use.
        Err(error) if args.all => {
            place.output.note(&error.to_string());
            code = exit::KEPT;
        }
        known => known?,
    }
    let checkpoints: Vec<Row> = view.checkpoints.values().map(|checkpoint| row(&view, checkpoint)).collect();
    let uncounted = args.all.then(|| {
        let rows = view.uncounted.iter().map(|(folder, uncounted)| UncountedRow {
            checkpoint: folder.checkpoint.0,
            folder: folder.to_string(),
            metadata_size_bytes: uncounted.metadata_size_bytes,
            why: why_not(uncounted.why),
        });
        rows.collect()
    });
    let listing = Listing { job: job.layout.job().to_string(), checkpoints, uncounted };
    Ok(Done::new(text(&listing, view.uncounted.len()), &listing)?.with_code(code))
}

fn row(view: &JobView, checkpoint: &CheckpointView) -> Row {
    let content = checkpoint.content.as_ref();
    let metadata = content.ok();
    let pins = view.pins.iter().filter(|(name, _)| name.folder == checkpoint.folder);
    let holders = view.refs.iter().filter(|(name, _)| name.folder == checkpoint.folder);
    let note = |hold: &crate::ownership::HoldView| hold.note.clone().unwrap_or_else(|e| format!("({})", e.reason));
    Row {
        checkpoint: checkpoint.folder.checkpoint.0,
        folder: checkpoint.folder.to_string(),
        kind: metadata.map(|metadata| kind_name(metadata.kind)),
        triggered_at_unix_ms: metadata.map(|metadata| metadata.triggered_at_unix_ms),
        files: metadata.map_or(0, |metadata| metadata.files().count() as u64),
        new_bytes: total_bytes([metadata.map_or(0, |metadata| new_bytes(metadata)), checkpoint.metadata_size_bytes]),
        total_bytes: metadata.map_or(0, |metadata| total_bytes(metadata.files().map(|file| file.size_bytes))),
        pins: pins.map(|(_, hold)| note(hold)).chain(holders.map(|(_, hold)| format!("job {}", note(hold)))).collect(),
        unreadable: content.err().map(|unreadable| unreadable.reason.clone()),
    }
}

/// Bytes of the objects that were written for this checkpoint, each once.
fn new_bytes(metadata: &CheckpointMetadata) -> u64 {
    let mut objects: Vec<(&Location, u64, u64)> = metadata
        .files()
        .filter(|file| is_own(metadata.folder(), file))
        .map(|file| (&file.location, file.offset_bytes, file.stored_size_bytes))
        .collect();
    objects.sort();
    objects.dedup();
    total_bytes(objects.iter().map(|(_, _, size_bytes)| *size_bytes))
}

/// Whether the object of a file was written for the checkpoint itself.
fn is_own(folder: CheckpointFolder, file: &FileEntry) -> bool {
    match &file.location {
        Location::InCheckpoint(_) => true,
        Location::InRoot(path) => path
            .file_name()
            .parse::<SharedName>()
            .is_ok_and(|name| name.tag.checkpoint == folder.checkpoint && name.tag.epoch == folder.epoch),
    }
}

fn text(listing: &Listing, uncounted: usize) -> String {
    use Align::{Left, Right};
    if listing.checkpoints.is_empty() && listing.uncounted.as_ref().is_none_or(Vec::is_empty) {
        return format!("job {} has no checkpoint that counts", listing.job);
    }
    let mut table = Table::new([
        ("CP", Right),
        ("KIND", Left),
        ("TIME (UTC)", Left),
        ("FILES", Right),
        ("NEW", Right),
        ("TOTAL", Right),
        ("PINNED", Left),
    ]);
    for row in &listing.checkpoints {
        let pinned = match &row.unreadable {
            Some(reason) => format!("UNREADABLE: {reason}"),
            None => row.pins.join("; "),
        };
        table.row([
            row.checkpoint.to_string(),
            row.kind.unwrap_or("?").to_owned(),
            row.triggered_at_unix_ms.map_or_else(|| "?".to_owned(), time),
            row.files.to_string(),
            size(row.new_bytes),
            size(row.total_bytes),
            pinned,
        ]);
    }
    let mut text = table.render();
    match &listing.uncounted {
        Some(rows) if !rows.is_empty() => {
            let mut table = Table::new([("DOES NOT COUNT", Left), ("WHY", Left)]);
            for row in rows {
                table.row([row.folder.clone(), row.why.to_owned()]);
            }
            text += "\n";
            text += &table.render();
        }
        None if uncounted > 0 => {
            let folders = count(uncounted as u64, "folder");
            text += &format!("\n{folders} more that do not count; --all shows them\n");
        }
        _ => {}
    }
    text
}
