//! What an object in a job's folder is, read off its path.

use std::str::FromStr;

use super::ids::parse_decimal;
use super::{CheckpointFolder, DistrustName, Epoch, JobLayout, METADATA_NAME, OperatorId, RefName, SharedName, Uid};
use crate::store::StorePath;

/// The meaning of one path in a job's folder. Nobody else takes paths apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// `epochs/<epoch>/claim`.
    Claim(Epoch),
    /// `epochs/<epoch>/start`.
    Start(Epoch),
    /// `epochs/<epoch>/end`.
    End(Epoch),
    /// `shared/<name>`.
    Shared(SharedName),
    /// `cp-<n>.<epoch>/_metadata`.
    Metadata(CheckpointFolder),
    /// A file below `cp-<n>.<epoch>/operator-<id>/subtask-<i>` or `/keygroup-<k>`.
    Private(CheckpointFolder),
    /// `condemned/<epoch>-<uid>`.
    List(Epoch, Uid),
    /// `pins/<name>`.
    Pin(RefName),
    /// `refs/<name>`.
    Ref(RefName),
    /// `distrusted/<name>`.
    Distrust(DistrustName),
    /// `requests/<epoch>-<uid>`.
    Request(Epoch, Uid),
    /// `requests/<epoch>-<uid>.answer`.
    Answer(Epoch, Uid),
    /// `history/<epoch>-<number>`.
    History(Epoch, u64),
    /// Nothing that icecore writes: reported, never touched.
    Foreign,
}

impl Place {
    /// What `path` is, if it lies in the folder of `layout`'s job.
    pub fn of(layout: &JobLayout, path: &StorePath) -> Option<Self> {
        let below = path.below(layout.root())?;
        Some(Self::read(below).unwrap_or(Self::Foreign))
    }

    fn read(below: &str) -> Option<Self> {
        let (folder, rest) = below.split_once('/')?;
        Some(match folder {
            "epochs" => {
                let (epoch, name) = rest.split_once('/')?;
                let epoch = epoch.parse().ok()?;
                match name {
                    "claim" => Self::Claim(epoch),
                    "start" => Self::Start(epoch),
                    "end" => Self::End(epoch),
                    _ => return None,
                }
            }
            "shared" => Self::Shared(rest.parse().ok()?),
            "condemned" => {
                let (epoch, uid) = JobLayout::parse_condemned_name(rest).ok()?;
                Self::List(epoch, uid)
            }
            "history" => {
                let (epoch, number) = rest.rsplit_once('-')?;
                Self::History(epoch.parse().ok()?, parse_decimal(number)?)
            }
            "pins" => Self::Pin(RefName::from_str(rest).ok()?),
            "refs" => Self::Ref(RefName::from_str(rest).ok()?),
            "distrusted" => Self::Distrust(rest.parse().ok()?),
            "requests" => match rest.strip_suffix(".answer") {
                Some(name) => {
                    JobLayout::parse_condemned_name(name).ok().map(|(epoch, uid)| Self::Answer(epoch, uid))?
                }
                None => JobLayout::parse_condemned_name(rest).ok().map(|(epoch, uid)| Self::Request(epoch, uid))?,
            },
            _ => Self::read_in_checkpoint(folder.parse().ok()?, rest)?,
        })
    }

    fn read_in_checkpoint(folder: CheckpointFolder, rest: &str) -> Option<Self> {
        if rest == METADATA_NAME {
            return Some(Self::Metadata(folder));
        }
        let (operator, rest) = rest.strip_prefix("operator-")?.split_once('/')?;
        let (part, _file) = rest.split_once('/')?;
        let number = part.strip_prefix("subtask-").or_else(|| part.strip_prefix("keygroup-"))?;
        OperatorId::new(operator).ok()?;
        parse_decimal(number)?;
        Some(Self::Private(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::{CheckpointId, ContentHash, FileKind, JobId, Tag};

    fn place(layout: &JobLayout, below: &str) -> Option<Place> {
        Place::of(layout, &layout.root().join(below).unwrap())
    }

    #[test]
    fn every_path_that_icecore_composes_reads_back() {
        let layout = JobLayout::new(JobId::new("a").unwrap()).unwrap();
        let epoch = Epoch { counter: 3, uid: Uid(5) };
        let folder = CheckpointFolder { checkpoint: CheckpointId(7), epoch };
        let hold = RefName { folder, writer: epoch, uid: Uid(9) };
        let tag = Tag { epoch, generation: 1, checkpoint: CheckpointId(7), upload: Uid(8) };
        let shared = SharedName { hash: ContentHash::of(b"x"), tag, kind: FileKind::Sst };
        let distrust = DistrustName { object: shared, writer: epoch, uid: Uid(6) };
        let pairs = [
            (layout.claim(epoch), Place::Claim(epoch)),
            (layout.start(epoch), Place::Start(epoch)),
            (layout.end(epoch), Place::End(epoch)),
            (layout.shared_object(&shared), Place::Shared(shared)),
            (layout.metadata(folder), Place::Metadata(folder)),
            (layout.condemned_list(epoch, Uid(1)), Place::List(epoch, Uid(1))),
            (layout.history_chunk(epoch, 4), Place::History(epoch, 4)),
            (layout.pin(&hold), Place::Pin(hold)),
            (layout.reference(&hold), Place::Ref(hold)),
            (layout.distrust(&distrust), Place::Distrust(distrust)),
            (layout.request(epoch, Uid(2)), Place::Request(epoch, Uid(2))),
            (layout.answer(epoch, Uid(2)), Place::Answer(epoch, Uid(2))),
        ];
        for (path, expected) in pairs {
            assert_eq!(Place::of(&layout, &path.unwrap()), Some(expected));
        }
        for private in ["operator-count/subtask-0/MANIFEST-000004", "operator-count/keygroup-12/0.sst"] {
            assert_eq!(place(&layout, &format!("{folder}/{private}")), Some(Place::Private(folder)));
            let anew = crate::layout::place_anew(&StorePath::new(private).unwrap(), Uid(3)).unwrap();
            assert_eq!(anew.file_name(), private.rsplit_once('/').unwrap().1);
            assert_eq!(place(&layout, &format!("{folder}/{anew}")), Some(Place::Private(folder)));
        }
    }

    #[test]
    fn names_that_icecore_does_not_write_are_foreign_and_other_jobs_are_not_ours() {
        let layout = JobLayout::new(JobId::new("a").unwrap()).unwrap();
        for foreign in [
            "notes.txt",
            "shared/readme",
            "epochs/x/claim",
            "epochs/1-0000000000000001/lock",
            "condemned/x",
            "history/3-0000000000000005",
            "history/3-0000000000000005-04",
            "pins/mine",
            "distrusted/mine",
            "cp-1.1-0000000000000001/notes",
            "cp-1.1-0000000000000001/operator-a/subtask-x/f",
            "cp-1.1-0000000000000001/operator-a/f",
        ] {
            assert_eq!(place(&layout, foreign), Some(Place::Foreign), "{foreign}");
        }
        assert_eq!(Place::of(&layout, &StorePath::new("job-b/shared/x").unwrap()), None);
    }
}
