//! `verify`: whether checkpoints restore, found out without restoring them.

use std::collections::BTreeSet;

use serde::Serialize;

use super::args::VerifyArgs;
use super::exit;
use super::output::Done;
use super::place::Place;
use super::progress::Bar;
use super::repair::shared_at;
use super::select::{find, open, open_exported, refuse_unknown};
use super::text::{Align, Table, size};
use crate::error::{Error, ErrorKind, Result};
use crate::ownership::JobView;
use crate::restore::{Checkpoint, VerifyReport, verify_checkpoints};
use crate::transfer::TransferLimits;

/// The most damaged objects that the next command names one by one.
const MAX_NAMED_OBJECTS: usize = 4;

#[derive(Debug, Serialize)]
struct Report {
    sound: bool,
    /// Whether every byte was read and hashed.
    deep: bool,
    checkpoints: Vec<Row>,
    /// Commands that go on from here.
    next: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    job: String,
    checkpoint: u64,
    folder: String,
    #[serde(skip)]
    is_newest: bool,
    sound: bool,
    files: u64,
    read_bytes: u64,
    damaged: Vec<Damaged>,
}

#[derive(Debug, Serialize)]
struct Damaged {
    object: String,
    reason: String,
    /// Whether it is known: then no later checkpoint shares it.
    marked: bool,
    #[serde(skip)]
    what: What,
}

/// What a damaged object is, which says what can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Several checkpoints may have it, and later ones would.
    Shared,
    /// A file of one checkpoint alone.
    Own,
    /// The index of a checkpoint.
    Index,
}

pub(super) async fn run(place: &Place, args: VerifyArgs) -> Result<Done> {
    let deep = !args.quick;
    let mut unreadable = Vec::new();
    let mut checkpoints = Vec::new();
    let mut viewed = None;
    if let Some(folder) = &args.from {
        checkpoints.push(open_exported(place, folder, &args.from_option).await?);
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
        viewed = Some(view);
    }
    let bar = Bar::new(place.output, "verify");
    let reports = verify_checkpoints(&place.env, &checkpoints, deep, TransferLimits::default(), &bar).await?;
    bar.finish();
    let checked = checkpoints.iter().zip(reports);
    let mut rows: Vec<Row> = checked.map(|(checkpoint, report)| row(checkpoint, report, viewed.as_ref())).collect();
    rows.extend(unreadable);
    rows.sort_by_key(|row| row.checkpoint);
    let next = viewed.map(|view| next_commands(place, &view, &rows, &args)).unwrap_or_default();
    let report = Report { sound: rows.iter().all(|row| row.sound), deep, checkpoints: rows, next };
    let code = if report.sound { exit::OK } else { exit::DAMAGED };
    Ok(Done::new(text(&report), &report)?.with_code(code))
}

/// What to type next. The newest checkpoint cannot be given up (R1).
fn next_commands(place: &Place, view: &JobView, rows: &[Row], args: &VerifyArgs) -> Vec<String> {
    let unmarked = |row: &Row| row.damaged.iter().any(Damaged::is_shared_still);
    let objects: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| &row.damaged)
        .filter(|damaged| damaged.is_shared_still())
        .map(|damaged| damaged.object.as_str())
        .collect();
    let mut next = Vec::new();
    if !objects.is_empty() {
        let mut words = vec!["repair".to_owned(), "--objects".to_owned()];
        if objects.len() <= MAX_NAMED_OBJECTS {
            words.extend(objects.into_iter().map(str::to_owned));
        } else if args.all {
            words.push("all".to_owned());
        } else {
            words.extend(rows.iter().filter(|row| unmarked(row)).map(|row| row.checkpoint.to_string()));
        }
        if args.quick {
            words.push("--quick".to_owned());
        }
        next.push(place.command(&words));
    }
    let newest = view.newest().map(|newest| newest.folder.to_string());
    let lost = rows.iter().filter(|row| row.damaged.iter().any(|damaged| damaged.what == What::Index));
    let lost = lost.filter(|row| Some(&row.folder) != newest.as_ref());
    next.extend(lost.map(|row| place.command(&["repair".to_owned(), row.checkpoint.to_string()])));
    next
}

impl Damaged {
    fn is_shared_still(&self) -> bool {
        self.what == What::Shared && !self.marked
    }
}

/// Whether an error tells of damage, and not of the way to the store.
pub(super) fn is_damage(error: &Error) -> bool {
    use ErrorKind::{Corrupt, InvalidInput, LimitExceeded, NotFound, Unsupported};
    matches!(error.kind(), Corrupt | NotFound | Unsupported | LimitExceeded | InvalidInput)
}

fn row(checkpoint: &Checkpoint, report: VerifyReport, view: Option<&JobView>) -> Row {
    let damaged = report.damaged.iter().map(|damage| {
        let shared = shared_at(&damage.object);
        Damaged {
            object: damage.object.to_string(),
            reason: damage.reason.clone(),
            marked: shared.zip(view).is_some_and(|(name, view)| view.is_distrusted(&name)),
            what: if shared.is_some() { What::Shared } else { What::Own },
        }
    });
    Row {
        job: checkpoint.metadata.job.to_string(),
        checkpoint: checkpoint.metadata.checkpoint.0,
        folder: checkpoint.metadata.folder().to_string(),
        is_newest: view.and_then(JobView::newest).is_some_and(|newest| newest.folder == checkpoint.metadata.folder()),
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
        is_newest: false,
        sound: false,
        files: 0,
        read_bytes: 0,
        damaged: vec![Damaged { object, reason: error.message().to_owned(), marked: false, what: What::Index }],
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
            let marked = if damaged.marked { " (marked: later checkpoints do not share it)" } else { "" };
            let line = format!("checkpoint {}: {}: {}{marked}", row.checkpoint, damaged.object, damaged.reason);
            text += &super::output::one_line(&line);
            text.push('\n');
        }
    }
    let damaged = || report.checkpoints.iter().flat_map(|row| &row.damaged);
    if damaged().any(Damaged::is_shared_still) {
        text += "later checkpoints go on sharing what is damaged; once it is marked, the next one stores it anew\n";
    } else if report.checkpoints.iter().any(|row| row.is_newest && row.damaged.iter().any(|damaged| damaged.marked)) {
        text += "the next checkpoint stores the content of what is marked anew\n";
    }
    if damaged().any(|damaged| damaged.what == What::Index) {
        text += "put back a copy of an index that cannot be read; without one, only giving its checkpoint up is left\n";
    }
    for command in &report.next {
        text += &format!("next: {}\n", super::output::one_line(command));
    }
    if !report.deep {
        text += "only presence and length were checked; leave out --quick to hash every byte\n";
    }
    text
}
