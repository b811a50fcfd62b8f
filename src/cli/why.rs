//! `why FILE`: who needs a stored file, and what becomes of it. The same judge decides as in `gc`.

use std::collections::BTreeSet;

use serde::Serialize;

use super::args::WhyArgs;
use super::change::Rehearsal;
use super::output::{Done, one_line};
use super::place::{Job, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::gc::{Explanation, explain};
use crate::layout::SharedName;
use crate::ownership::JobView;
use crate::store::StorePath;

/// The most objects that one question is answered for.
const MAX_EXPLAINED: usize = 20;
/// The shortest beginning of a hash that is looked for, in digits.
const MIN_HASH_DIGITS: usize = 4;

#[derive(Debug, Serialize)]
struct Report {
    asked: String,
    objects: Vec<Answer>,
    /// How many more there are that were not explained.
    more: usize,
}

#[derive(Debug, Serialize)]
struct Answer {
    /// Whether the object is there.
    exists: bool,
    size_bytes: Option<u64>,
    #[serde(flatten)]
    explanation: Explanation,
}

pub(super) async fn run(place: &Place, args: WhyArgs) -> Result<Done> {
    let (job, view) = place.view().await?;
    let found = resolve(&job, &view, &args.file).await?;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "explain a file", "nothing by that name is stored or referenced")
            .with_object(args.file.escape_debug())
            .with_advice(
                "give an object's path, a shared object's name, 4 or more digits of a hash, or a database file's name",
            ));
    }
    let rehearsal = Rehearsal::of(&view);
    let judge = rehearsal.judge(&view);
    let mut objects = Vec::new();
    for path in found.iter().take(MAX_EXPLAINED) {
        let size_bytes = match job.store.stat(path).await {
            Ok(meta) => Some(meta.size_bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let explanation = explain(&view, &judge, path);
        objects.push(Answer { exists: size_bytes.is_some(), size_bytes, explanation });
    }
    let report = Report { asked: args.file, more: found.len().saturating_sub(objects.len()), objects };
    Done::new(text(&report), &report)
}

/// Every object that `asked` may mean.
async fn resolve(job: &Job, view: &JobView, asked: &str) -> Result<BTreeSet<StorePath>> {
    let named = |path: StorePath| Ok(BTreeSet::from([path]));
    if let Ok(path) = StorePath::new(asked) {
        if path.below(job.layout.root()).is_some() {
            return named(path);
        }
        if let Ok(name) = asked.parse::<SharedName>() {
            return named(job.layout.shared_object(&name)?);
        }
        let below = job.layout.root().join(asked)?;
        if asked.contains('/') && crate::layout::Place::of(&job.layout, &below) != Some(crate::layout::Place::Foreign) {
            return named(below);
        }
    }
    let mut found = by_local_name(view, asked);
    let is_hash = asked.len() >= MIN_HASH_DIGITS && asked.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash {
        let digits = asked.to_ascii_lowercase();
        let shared = job.layout.shared()?;
        for child in job.store.list_children(Some(&shared)).await? {
            if child.size_bytes.is_some() && child.name.starts_with(&digits) {
                found.extend(shared.join(&child.name).ok());
            }
        }
        let hashed = readable(view)
            .flat_map(|metadata| metadata.files().map(move |file| (metadata, file)))
            .filter(|(_, file)| file.sha256.to_string().starts_with(&digits));
        found.extend(hashed.filter_map(|(metadata, file)| view.object_at(metadata, file)));
    }
    Ok(found)
}

fn readable(view: &JobView) -> impl Iterator<Item = &crate::metadata::CheckpointMetadata> {
    view.checkpoints.values().filter_map(|checkpoint| checkpoint.content.as_deref().ok())
}

fn by_local_name(view: &JobView, asked: &str) -> BTreeSet<StorePath> {
    let mut found = BTreeSet::new();
    for metadata in readable(view) {
        let named =
            metadata.files().filter(|file| file.local_name.as_str() == asked || file.local_name.file_name() == asked);
        found.extend(named.filter_map(|file| view.object_at(metadata, file)));
    }
    found
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for answer in &report.objects {
        for line in answer.explanation.to_string().lines() {
            text += &one_line(line);
            text.push('\n');
        }
        if !answer.exists {
            text += "  is not there (any more)\n";
        }
    }
    if report.more > 0 {
        text += &format!("and {} more; name one of them to ask about it\n", report.more);
    }
    text
}
