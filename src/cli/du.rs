//! `du`: how many bytes each checkpoint needs, shares, and would free.

use std::collections::HashMap;

use futures::StreamExt;
use serde::Serialize;

use super::output::Done;
use super::place::{Job, Place};
use super::select::refuse_unknown;
use super::text::{Align, Table, size};
use crate::error::Result;
use crate::metadata::total_bytes;
use crate::ownership::{CheckpointView, JobView};
use crate::store::StorePath;

#[derive(Debug, Serialize)]
struct Report {
    job: String,
    checkpoints: Vec<Row>,
    /// Bytes of all objects of the job, records and orphans included.
    stored_bytes: u64,
    /// Bytes of objects that a checkpoint that counts needs, each once.
    referenced_bytes: u64,
    /// Bytes of the rest: records, orphans, deletes under way. `gc --dry-run` tells more.
    other_bytes: u64,
    /// Bytes that the checkpoints would take if each stored its files alone.
    without_sharing_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    checkpoint: u64,
    folder: String,
    /// Bytes of the objects it needs, its index included.
    total_bytes: u64,
    /// Those of them that other checkpoints need, too.
    shared_bytes: u64,
    /// Those that nothing else needs: what dropping it frees.
    exclusive_bytes: u64,
    /// What keeps it from being dropped, if anything does.
    kept_because: Option<String>,
}

pub(super) async fn run(place: &Place) -> Result<Done> {
    let (job, view) = place.view().await?;
    refuse_unknown(&view)?;
    let stored = stored_sizes(&job).await?;
    let needed: Vec<(&CheckpointView, HashMap<StorePath, u64>)> =
        view.checkpoints.values().map(|checkpoint| (checkpoint, objects_of(&view, checkpoint, &stored))).collect();
    let mut users: HashMap<&StorePath, (u32, u64)> = HashMap::new();
    for (path, size_bytes) in needed.iter().flat_map(|(_, objects)| objects) {
        let (count, _) = users.entry(path).or_insert((0, *size_bytes));
        *count += 1;
    }
    let rows: Vec<Row> = needed.iter().map(|(checkpoint, objects)| row(&view, checkpoint, objects, &users)).collect();
    let stored_bytes = total_bytes(stored.values().copied());
    let referenced_bytes: u64 = total_bytes(users.values().map(|(_, size_bytes)| *size_bytes));
    let report = Report {
        job: job.layout.job().to_string(),
        without_sharing_bytes: total_bytes(rows.iter().map(|row| row.total_bytes)),
        checkpoints: rows,
        stored_bytes,
        referenced_bytes,
        other_bytes: stored_bytes.saturating_sub(referenced_bytes),
    };
    Done::new(text(&report), &report)
}

/// The length of every object of the job, as the store lists it.
async fn stored_sizes(job: &Job) -> Result<HashMap<StorePath, u64>> {
    let mut sizes = HashMap::new();
    let mut listing = job.store.list(Some(job.layout.root()));
    while let Some(object) = listing.next().await {
        let object = object?;
        sizes.insert(object.path, object.size_bytes);
    }
    Ok(sizes)
}

/// The objects that a checkpoint needs. One that is missing, or of another job, counts with the
/// length that the index gives.
fn objects_of(
    view: &JobView,
    checkpoint: &CheckpointView,
    stored: &HashMap<StorePath, u64>,
) -> HashMap<StorePath, u64> {
    let mut objects = HashMap::new();
    if let Ok(path) = view.layout.metadata(checkpoint.folder) {
        objects.insert(path, checkpoint.metadata_size_bytes);
    }
    if let Ok(metadata) = &checkpoint.content {
        for file in metadata.files() {
            if let Some(path) = view.object_at(metadata, file) {
                let end_bytes = file.offset_bytes.saturating_add(file.stored_size_bytes);
                let size_bytes = stored.get(&path).copied().unwrap_or(end_bytes);
                objects.insert(path, size_bytes);
            }
        }
    }
    objects
}

fn row(
    view: &JobView,
    checkpoint: &CheckpointView,
    objects: &HashMap<StorePath, u64>,
    users: &HashMap<&StorePath, (u32, u64)>,
) -> Row {
    let needed_bytes = total_bytes(objects.values().copied());
    let is_exclusive = |path: &StorePath| users.get(path).is_none_or(|(count, _)| *count <= 1);
    // Only what lies in the job's folder is the job's to free.
    let is_own = |path: &StorePath| path.below(view.layout.root()).is_some();
    let exclusive = objects.iter().filter(|(path, _)| is_exclusive(path) && is_own(path));
    let exclusive_bytes = total_bytes(exclusive.map(|(_, size_bytes)| *size_bytes));
    Row {
        checkpoint: checkpoint.folder.checkpoint.0,
        folder: checkpoint.folder.to_string(),
        total_bytes: needed_bytes,
        shared_bytes: needed_bytes.saturating_sub(exclusive_bytes),
        exclusive_bytes,
        kept_because: crate::gc::refusal(view, checkpoint.folder).map(|refused| refused.why),
    }
}

fn text(report: &Report) -> String {
    use Align::{Left, Right};
    let mut table = Table::new([
        ("CP", Right),
        ("TOTAL", Right),
        ("SHARED", Right),
        ("DROPPING IT FREES", Right),
        ("BUT IT STAYS", Left),
    ]);
    for row in &report.checkpoints {
        table.row([
            row.checkpoint.to_string(),
            size(row.total_bytes),
            size(row.shared_bytes),
            size(row.exclusive_bytes),
            row.kept_because.clone().unwrap_or_default(),
        ]);
    }
    let mut text = table.render();
    text += &format!(
        "\nstored {} (records and orphans {}); without sharing the checkpoints would take {}\n",
        size(report.stored_bytes),
        size(report.other_bytes),
        size(report.without_sharing_bytes)
    );
    text
}
