//! `repair --objects`: damaged objects are shared no further, so that the next snapshot stores their content
//! anew (X1-X4 of `docs/protocol.md`). What is damaged is found out here, by reading; the owner marks it.
//!
//! `repair CHECKPOINT` gives up a checkpoint whose index cannot be read (`change`).

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use serde::Serialize;

use super::args::{OwnerArgs, RepairArgs};
use super::change::give_up;
use super::output::{Done, one_line};
use super::owner::{Reply, ask_or_claim, perform};
use super::place::{Job, Place};
use super::progress::Bar;
use super::select::{find, open, refuse_unknown};
use super::text::count;
use super::verify::is_damage;
use crate::coordinator::{MAX_REQUESTED_OBJECTS, Wish};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, SharedName};
use crate::ownership::JobView;
use crate::restore::{Checkpoint, verify_objects};
use crate::store::StorePath;
use crate::transfer::TransferLimits;

const REPAIR: &str = "repair objects";
/// What the records say to people.
const REASON: &str = "found damaged by `icecore repair`";

#[derive(Debug, Default, Serialize)]
struct Report {
    job: String,
    dry_run: bool,
    /// Whether every byte was read and hashed.
    deep: bool,
    /// Who marked them: `this command` as the owner, `the owner`, which was asked, or `nobody`.
    done_by: &'static str,
    /// What the job's owner answered.
    answer: Option<String>,
    damaged: Vec<Damaged>,
    /// How many objects are marked now and were not before.
    marked: u64,
}

#[derive(Debug, Serialize)]
struct Damaged {
    object: String,
    reason: String,
    /// The numbers of the checkpoints that have it, of those that were looked at.
    checkpoints: Vec<u64>,
    /// What is or would be done about it.
    fate: Fate,
    #[serde(skip)]
    name: Option<SharedName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Fate {
    /// It is shared no more.
    Marked,
    /// It was marked before.
    Known,
    /// It is one checkpoint's own file, which no other shares.
    Own,
}

/// The shared object that lies at a path, in whichever job's folder.
pub(super) fn shared_at(object: &StorePath) -> Option<SharedName> {
    SharedName::from_str(object.file_name()).ok()
}

pub(super) async fn run(place: &Place, args: RepairArgs) -> Result<Done> {
    if args.objects {
        return objects(place, args).await;
    }
    match args.what.as_slice() {
        [checkpoint] => give_up(place, checkpoint, args.dry_run, args.owner).await,
        _ => Err(Error::invalid("repair a checkpoint", "name one, as each is given up for good")
            .with_advice("give --objects to have damaged objects stored anew")),
    }
}

async fn objects(place: &Place, args: RepairArgs) -> Result<Done> {
    let (job, view) = place.view().await?;
    refuse_unknown(&view)?;
    let wanted = choose(place, &job, &view, &args.what)?;
    let is_wanted = |path: &StorePath| wanted.objects.as_ref().is_none_or(|objects| objects.contains(path));
    let bar = Bar::new(place.output, "verify");
    let (env, limits) = (&place.env, TransferLimits::default());
    let reports = verify_objects(env, &wanted.checkpoints, &is_wanted, !args.quick, limits, &bar).await?;
    bar.finish();
    let mut found: BTreeMap<StorePath, Damaged> = BTreeMap::new();
    for (checkpoint, report) in wanted.checkpoints.iter().zip(reports) {
        for damage in report.damaged {
            let new = || damaged(&view, &damage.object, damage.reason);
            let entry = found.entry(damage.object.clone()).or_insert_with(new);
            entry.checkpoints.push(checkpoint.metadata.checkpoint.0);
        }
    }
    let damaged: Vec<Damaged> = found.into_values().collect();
    let names: Vec<SharedName> =
        damaged.iter().filter(|damaged| damaged.fate == Fate::Marked).filter_map(|damaged| damaged.name).collect();
    let mut report = Report {
        job: job.layout.job().to_string(),
        dry_run: args.dry_run,
        deep: !args.quick,
        done_by: "nobody",
        damaged,
        ..Report::default()
    };
    if !args.dry_run && !names.is_empty() {
        mark(place, &job, &names, args.owner, &mut report).await?;
    }
    Done::new(text(&report), &report)
}

fn damaged(view: &JobView, object: &StorePath, reason: String) -> Damaged {
    let name = shared_at(object);
    let fate = match &name {
        None => Fate::Own,
        Some(name) if view.is_distrusted(name) => Fate::Known,
        Some(_) => Fate::Marked,
    };
    Damaged { object: object.to_string(), reason, checkpoints: Vec::new(), fate, name }
}

/// Has the living owner mark them, a request for so many; or does it as the owner.
async fn mark(place: &Place, job: &Job, names: &[SharedName], args: OwnerArgs, report: &mut Report) -> Result<()> {
    let mut left = names;
    while !left.is_empty() {
        let (chunk, rest) = left.split_at(left.len().min(MAX_REQUESTED_OBJECTS));
        match ask_or_claim(place, job, &Wish::Distrust(chunk.to_vec()), args).await? {
            Reply::Answered(answer) => {
                (report.done_by, report.answer) = ("the owner", Some(answer));
                left = rest;
            }
            Reply::Owner(coordinator) => {
                report.done_by = "this command";
                perform(place, &coordinator, async |coordinator| coordinator.distrust(left, REASON).await).await?;
                left = &[];
            }
        }
    }
    report.marked = names.len() as u64;
    Ok(())
}

/// What is looked at: checkpoints, and, if objects were named, only those.
struct Wanted {
    checkpoints: Vec<Checkpoint>,
    objects: Option<BTreeSet<StorePath>>,
}

fn choose(place: &Place, job: &Job, view: &JobView, what: &[String]) -> Result<Wanted> {
    let mut objects = BTreeSet::new();
    let mut folders: BTreeSet<CheckpointFolder> = BTreeSet::new();
    for text in what {
        if text == "all" {
            folders.extend(view.checkpoints.keys());
        } else if let Some(object) = object_of(job, text) {
            objects.insert(object);
        } else {
            folders.insert(find(view, text)?.folder);
        }
    }
    if !objects.is_empty() && !folders.is_empty() {
        return Err(Error::invalid(REPAIR, "both objects and checkpoints were named")
            .with_advice("name objects only, or checkpoints only"));
    }
    let by_object = !objects.is_empty();
    let mut checkpoints = Vec::new();
    for (folder, checkpoint) in &view.checkpoints {
        if !by_object && !folders.contains(folder) {
            continue;
        }
        match open(job, checkpoint) {
            Ok(opened) => checkpoints.push(opened),
            Err(error) if is_damage(&error) => {
                place.output.note(&format!("{folder} is left out: {}; `icecore verify` says more", error.message()));
            }
            Err(error) => return Err(error),
        }
    }
    for object in &objects {
        let is_used = |checkpoint: &Checkpoint| view.references(&checkpoint.metadata).any(|path| path == *object);
        if !checkpoints.iter().any(is_used) {
            return Err(Error::new(ErrorKind::NotFound, REPAIR, "no checkpoint that can be read has this object")
                .with_object(object)
                .with_advice("`icecore verify` names damaged objects, `icecore why` says what an object is for"));
        }
    }
    Ok(Wanted { checkpoints, objects: by_object.then_some(objects) })
}

/// The object that a word means, by its path or by its name in `shared/`.
fn object_of(job: &Job, text: &str) -> Option<StorePath> {
    if let Ok(name) = text.parse::<SharedName>() {
        return job.layout.shared_object(&name).ok();
    }
    StorePath::new(text).ok().filter(|path| path.as_str().contains('/'))
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    for damaged in &report.damaged {
        let word = match damaged.fate {
            Fate::Marked if report.dry_run => "to mark",
            Fate::Marked => "marked ",
            Fate::Known => "known  ",
            Fate::Own => "kept   ",
        };
        let numbers: Vec<String> = damaged.checkpoints.iter().map(ToString::to_string).collect();
        lines.push(format!("{word}  {}  (of {}: {})", damaged.object, numbers.join(", "), damaged.reason));
    }
    if let Some(answer) = &report.answer {
        lines.push("done by the job's owner:".to_owned());
        lines.extend(answer.lines().map(str::to_owned));
    }
    let of = |fate| report.damaged.iter().filter(|damaged| damaged.fate == fate).count() as u64;
    if report.damaged.is_empty() {
        lines.push("nothing is damaged".to_owned());
    } else if report.dry_run {
        lines.push(format!("{} to mark; nothing was changed (dry run)", count(of(Fate::Marked), "object")));
    } else if of(Fate::Marked) + of(Fate::Known) > 0 {
        let marked = count(report.marked, "object");
        lines.push(format!("{marked} marked: the next snapshot stores the content of damaged objects anew"));
        lines.push("the checkpoints that have them stay damaged: drop them when a newer one is there".to_owned());
    }
    if of(Fate::Own) > 0 {
        lines.push("no other checkpoint shares what was kept: it goes when its own is dropped".to_owned());
    }
    lines.iter().map(|line| one_line(line) + "\n").collect()
}
