//! `diff A B`: which files B has that A has not, and the other way round, by content.

use std::collections::BTreeMap;

use serde::Serialize;

use super::args::DiffArgs;
use super::output::Done;
use super::place::Place;
use super::select::{content, find};
use super::text::{Align, Table, count, size};
use crate::error::Result;
use crate::layout::ContentHash;
use crate::metadata::{CheckpointMetadata, total_bytes};

#[derive(Debug, Serialize)]
struct Report {
    a: String,
    b: String,
    added: Vec<Entry>,
    removed: Vec<Entry>,
    added_bytes: u64,
    removed_bytes: u64,
    shared_files: u64,
    shared_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Entry {
    operator: String,
    subtask: u32,
    name: String,
    kind: &'static str,
    size_bytes: u64,
    sha256: String,
}

/// A file of a subtask, by content: the same name with other bytes is another file.
type Key<'a> = (&'a str, u32, &'a str, ContentHash);
type Files<'a> = BTreeMap<Key<'a>, (&'static str, u64)>;

pub(super) async fn run(place: &Place, args: DiffArgs) -> Result<Done> {
    let (job, view) = place.view().await?;
    let (a, b) = (find(&view, &args.a)?, find(&view, &args.b)?);
    let (older, newer) = (content(&job, a)?, content(&job, b)?);
    let (old, new) = (files_of(&older), files_of(&newer));
    let (added, removed) = (missing_in(&new, &old), missing_in(&old, &new));
    let shared: Vec<u64> = new.iter().filter(|(key, _)| old.contains_key(*key)).map(|(_, (_, size))| *size).collect();
    let report = Report {
        a: a.folder.to_string(),
        b: b.folder.to_string(),
        added_bytes: total_bytes(added.iter().map(|entry| entry.size_bytes)),
        removed_bytes: total_bytes(removed.iter().map(|entry| entry.size_bytes)),
        added,
        removed,
        shared_files: shared.len() as u64,
        shared_bytes: total_bytes(shared),
    };
    Done::new(text(&report), &report)
}

fn files_of(metadata: &CheckpointMetadata) -> Files<'_> {
    let mut files = Files::new();
    for operator in &metadata.operators {
        for part in &operator.subtasks {
            for file in &part.files {
                let key = (operator.operator.as_str(), part.index, file.local_name.as_str(), file.sha256);
                files.insert(key, (file.kind.as_str(), file.size_bytes));
            }
        }
    }
    files
}

fn missing_in(files: &Files<'_>, other: &Files<'_>) -> Vec<Entry> {
    let missing = files.iter().filter(|(key, _)| !other.contains_key(*key));
    let entry = |((operator, subtask, name, hash), (kind, size_bytes)): (&Key<'_>, &(&'static str, u64))| Entry {
        operator: (*operator).to_owned(),
        subtask: *subtask,
        name: (*name).to_owned(),
        kind,
        size_bytes: *size_bytes,
        sha256: hash.to_string(),
    };
    missing.map(entry).collect()
}

fn text(report: &Report) -> String {
    use Align::{Left, Right};
    let mut text = String::new();
    if !report.added.is_empty() || !report.removed.is_empty() {
        let mut table = Table::new([("", Left), ("SUBTASK", Left), ("FILE", Left), ("KIND", Left), ("SIZE", Right)]);
        let rows = report.removed.iter().map(|entry| ("-", entry)).chain(report.added.iter().map(|e| ("+", e)));
        for (sign, entry) in rows {
            let subtask = format!("{}/{}", entry.operator, entry.subtask);
            let kind = entry.kind.to_owned();
            table.row([sign.to_owned(), subtask, entry.name.clone(), kind, size(entry.size_bytes)]);
        }
        text += &table.render();
        text.push('\n');
    }
    let line = |what: &str, files: u64, bytes: u64| format!("{what:<8} {}, {}\n", count(files, "file"), size(bytes));
    text += &line("added", report.added.len() as u64, report.added_bytes);
    text += &line("removed", report.removed.len() as u64, report.removed_bytes);
    text += &line("shared", report.shared_files, report.shared_bytes);
    text
}
