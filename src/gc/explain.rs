//! `why FILE`: which checkpoints need a stored object, or which rule deletes it and when.

use std::fmt;

use serde::Serialize;

use super::judge::{Fate, Judge};
use super::plan::{BlockedBy, all_as_text, as_text, is_blocked};
use crate::layout::{CheckpointFolder, Place};
use crate::ownership::JobView;
use crate::store::StorePath;

/// The most checkpoints that an explanation names.
const MAX_NAMED_CHECKPOINTS: usize = 20;

/// Why an object is there, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The object.
    #[serde(serialize_with = "as_text")]
    pub path: StorePath,
    /// What it is.
    pub what: String,
    /// Whether the next sweep deletes it.
    pub goes: bool,
    /// Why it stays or goes, in a sentence.
    pub because: String,
    /// The checkpoints that count and reference it.
    #[serde(serialize_with = "all_as_text")]
    pub referenced_by: Vec<CheckpointFolder>,
    /// The list that names it, if its delete is under way.
    #[serde(serialize_with = "all_as_text")]
    pub condemned_by: Vec<StorePath>,
    /// The pins and refs on its checkpoint.
    #[serde(serialize_with = "all_as_text")]
    pub held_by: Vec<StorePath>,
    /// The records that say that it is damaged: no later checkpoint shares it.
    #[serde(serialize_with = "all_as_text")]
    pub distrusted_by: Vec<StorePath>,
    /// What could not be read and keeps it.
    pub blocked_by: Vec<BlockedBy>,
}

/// Explains `path`. It need not exist: the answer says what would become of such an object.
pub fn explain(view: &JobView, judge: &Judge<'_>, path: &StorePath) -> Explanation {
    let place = Place::of(&view.layout, path);
    let fate = place.as_ref().map(|place| judge.fate(path, place));
    let (goes, because) = match fate {
        None => {
            (false, format!("it is not in the folder of job {}, whose owner alone may delete it", view.layout.job()))
        }
        Some(Fate::Kept(keep)) => (false, keep.to_string()),
        Some(Fate::Goes(reason)) => (true, format!("{reason}; the owner's next sweep deletes it")),
        Some(Fate::Blocked(reason)) => (false, format!("{reason}; it stays until what blocks it is readable or gone")),
    };
    let blocking = |place: &Place| {
        let all = judge.blockers().iter();
        all.filter(|blocker| is_blocked(std::slice::from_ref(blocker), place)).map(BlockedBy::from).collect()
    };
    let is_blocked_now = matches!(fate, Some(Fate::Blocked(_)));
    let folder = place.as_ref().and_then(folder_of);
    Explanation {
        path: path.clone(),
        what: place.as_ref().map_or_else(|| "an object of no job, or of another".to_owned(), describe),
        goes,
        because,
        referenced_by: view.referenced_by(path).collect(),
        condemned_by: view
            .lists
            .iter()
            .filter(|list| list.content.objects.contains(path))
            .map(|list| list.path.clone())
            .collect(),
        held_by: folder.map(|folder| view.holds(folder).map(|hold| hold.path.clone()).collect()).unwrap_or_default(),
        distrusted_by: match &place {
            Some(Place::Shared(name)) => {
                view.distrust_of(name).filter_map(|record| view.layout.distrust(record).ok()).collect()
            }
            _ => Vec::new(),
        },
        blocked_by: place.as_ref().filter(|_| is_blocked_now).map(blocking).unwrap_or_default(),
    }
}

fn folder_of(place: &Place) -> Option<CheckpointFolder> {
    match place {
        Place::Metadata(folder) | Place::Private(folder) => Some(*folder),
        Place::Pin(name) | Place::Ref(name) => Some(name.folder),
        _ => None,
    }
}

fn describe(place: &Place) -> String {
    match place {
        Place::Claim(epoch) => format!("the claim of epoch {epoch}"),
        Place::Start(epoch) => format!("what epoch {epoch} adopted when it started"),
        Place::End(epoch) => format!("the end of epoch {epoch}"),
        Place::Shared(name) => {
            let tag = name.tag;
            format!("a shared {} file, uploaded for checkpoint {} by epoch {}", name.kind, tag.checkpoint, tag.epoch)
        }
        Place::Metadata(folder) => format!("the index of {folder}"),
        Place::Private(folder) => format!("a file that only {folder} may need"),
        Place::List(epoch, _) => format!("a condemned list of epoch {epoch}"),
        Place::Pin(name) => format!("a pin on {}", name.folder),
        Place::Ref(name) => format!("another job's hold on {}", name.folder),
        Place::Distrust(name) => format!("a record that {} is damaged", name.object),
        Place::Request(epoch, _) => format!("a request to the owner of epoch {epoch}"),
        Place::Answer(epoch, _) => format!("an answer of epoch {epoch}"),
        Place::History(epoch, _) => format!("what happened to the job, as epoch {epoch} has written it down"),
        Place::Foreign => "nothing that icecore writes".to_owned(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path)?;
        writeln!(f, "  is {}", self.what)?;
        write!(f, "  {}: {}", if self.goes { "goes" } else { "stays" }, self.because)?;
        for folder in self.referenced_by.iter().take(MAX_NAMED_CHECKPOINTS) {
            write!(f, "\n  referenced by {folder}")?;
        }
        let unnamed = self.referenced_by.len().saturating_sub(MAX_NAMED_CHECKPOINTS);
        if unnamed > 0 {
            write!(f, "\n  and by {unnamed} more")?;
        }
        for list in &self.condemned_by {
            write!(f, "\n  named by {list}")?;
        }
        for hold in &self.held_by {
            write!(f, "\n  its checkpoint is held by {hold}")?;
        }
        for record in &self.distrusted_by {
            write!(f, "\n  is damaged, and so shared by no later checkpoint: {record}")?;
        }
        for blocked in &self.blocked_by {
            write!(f, "\n  blocked by {}: {}", blocked.object, blocked.reason)?;
        }
        Ok(())
    }
}
