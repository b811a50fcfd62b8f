//! Where everything of one job lies below the root.

use std::fmt;
use std::str::FromStr;

use super::ids::{parse_decimal, unreadable};
use super::{CheckpointId, DistrustName, Epoch, JobId, OperatorId, SharedName, Uid};
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::KeyGroup;
use crate::store::StorePath;

/// The file name of a checkpoint's index. Its appearance is the commit.
pub const METADATA_NAME: &str = "_metadata";

/// The folder of one checkpoint attempt: `cp-<n>.<epoch>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointFolder {
    /// The checkpoint's number.
    pub checkpoint: CheckpointId,
    /// The tenure that wrote it.
    pub epoch: Epoch,
}

impl fmt::Display for CheckpointFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cp-{}.{}", self.checkpoint, self.epoch)
    }
}

impl FromStr for CheckpointFolder {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = || unreadable("read a checkpoint folder's name", text);
        let (checkpoint, epoch) = text.strip_prefix("cp-").and_then(|rest| rest.split_once('.')).ok_or_else(fail)?;
        Ok(Self { checkpoint: CheckpointId(parse_decimal(checkpoint).ok_or_else(fail)?), epoch: epoch.parse()? })
    }
}

/// The name of a ref, pin or condemned list: whose tenure wrote it, what it is about, a fresh uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName {
    /// The checkpoint that is held.
    pub folder: CheckpointFolder,
    /// The tenure that wrote the hold: what decides whether it counts (design 4.1).
    pub writer: Epoch,
    /// Fresh for each.
    pub uid: Uid,
}

impl fmt::Display for RefName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.folder, self.writer, self.uid)
    }
}

impl FromStr for RefName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = || unreadable("read a hold's name", text);
        let (rest, uid) = text.rsplit_once('.').ok_or_else(fail)?;
        let (folder, writer) = rest.rsplit_once('.').ok_or_else(fail)?;
        Ok(Self { folder: folder.parse()?, writer: writer.parse()?, uid: uid.parse()? })
    }
}

/// One subtask of one operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubtaskName {
    /// The operator.
    pub operator: OperatorId,
    /// Which of its parallel instances, from 0.
    pub index: u32,
}

impl fmt::Display for SubtaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.operator, self.index)
    }
}

/// Composes the paths of one job. All names it makes are valid by construction, so it returns
/// errors only where a caller hands in a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLayout {
    job: JobId,
    root: StorePath,
}

impl JobLayout {
    /// The layout of `job` below the store's root.
    pub fn new(job: JobId) -> Result<Self> {
        let root = StorePath::new(format!("job-{job}"))?;
        Ok(Self { job, root })
    }

    /// The job's id.
    pub fn job(&self) -> &JobId {
        &self.job
    }

    /// `job-<id>`.
    pub fn root(&self) -> &StorePath {
        &self.root
    }

    /// The job a folder below the store's root belongs to, if it is a job's folder.
    pub fn job_of_folder(name: &str) -> Option<JobId> {
        JobId::new(name.strip_prefix("job-")?).ok()
    }

    /// `job-<id>/epochs`.
    pub fn epochs(&self) -> Result<StorePath> {
        self.root.join("epochs")
    }

    /// `job-<id>/epochs/<epoch>`.
    pub fn epoch(&self, epoch: Epoch) -> Result<StorePath> {
        self.root.join(&format!("epochs/{epoch}"))
    }

    /// `job-<id>/epochs/<epoch>/claim`.
    pub fn claim(&self, epoch: Epoch) -> Result<StorePath> {
        self.root.join(&format!("epochs/{epoch}/claim"))
    }

    /// `job-<id>/epochs/<epoch>/start`.
    pub fn start(&self, epoch: Epoch) -> Result<StorePath> {
        self.root.join(&format!("epochs/{epoch}/start"))
    }

    /// `job-<id>/epochs/<epoch>/end`.
    pub fn end(&self, epoch: Epoch) -> Result<StorePath> {
        self.root.join(&format!("epochs/{epoch}/end"))
    }

    /// `job-<id>/shared`.
    pub fn shared(&self) -> Result<StorePath> {
        self.root.join("shared")
    }

    /// `job-<id>/shared/<sha256>-<tag>.<kind>`.
    pub fn shared_object(&self, name: &SharedName) -> Result<StorePath> {
        self.root.join(&format!("shared/{name}"))
    }

    /// `job-<id>/cp-<n>.<epoch>`.
    pub fn checkpoint(&self, folder: CheckpointFolder) -> Result<StorePath> {
        self.root.join(&folder.to_string())
    }

    /// `job-<id>/cp-<n>.<epoch>/_metadata`.
    pub fn metadata(&self, folder: CheckpointFolder) -> Result<StorePath> {
        self.root.join(&format!("{folder}/{METADATA_NAME}"))
    }

    /// `job-<id>/condemned`.
    pub fn condemned(&self) -> Result<StorePath> {
        self.root.join("condemned")
    }

    /// `job-<id>/condemned/<epoch>-<uid>`.
    pub fn condemned_list(&self, epoch: Epoch, uid: Uid) -> Result<StorePath> {
        self.root.join(&format!("condemned/{epoch}-{uid}"))
    }

    /// Reads the name of a condemned list back.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if it is not one.
    pub fn parse_condemned_name(name: &str) -> Result<(Epoch, Uid)> {
        let (epoch, uid) = name.rsplit_once('-').ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "read a condemned list's name", "no uid").with_object(name)
        })?;
        Ok((epoch.parse()?, uid.parse()?))
    }

    /// `job-<id>/refs`: other jobs' holds on this job's checkpoints.
    pub fn refs(&self) -> Result<StorePath> {
        self.root.join("refs")
    }

    /// `job-<id>/pins`: people's holds on this job's checkpoints.
    pub fn pins(&self) -> Result<StorePath> {
        self.root.join("pins")
    }

    /// `job-<id>/pins/<cp>.<writer>.<uid>`.
    pub fn pin(&self, name: &RefName) -> Result<StorePath> {
        self.root.join(&format!("pins/{name}"))
    }

    /// `job-<id>/refs/<cp>.<writer>.<uid>`.
    pub fn reference(&self, name: &RefName) -> Result<StorePath> {
        self.root.join(&format!("refs/{name}"))
    }

    /// `job-<id>/distrusted`: shared objects that are known to be damaged.
    pub fn distrusted(&self) -> Result<StorePath> {
        self.root.join("distrusted")
    }

    /// `job-<id>/distrusted/<sha256>-<tag>.<kind>.<writer>.<uid>`.
    pub fn distrust(&self, name: &DistrustName) -> Result<StorePath> {
        self.root.join(&format!("distrusted/{name}"))
    }

    /// `job-<id>/requests/<epoch>-<uid>`: a request to the owner of that epoch, and to no other.
    pub fn request(&self, owner: Epoch, uid: Uid) -> Result<StorePath> {
        self.root.join(&format!("requests/{owner}-{uid}"))
    }

    /// `job-<id>/requests/<epoch>-<uid>.answer`.
    pub fn answer(&self, owner: Epoch, uid: Uid) -> Result<StorePath> {
        self.root.join(&format!("requests/{owner}-{uid}.answer"))
    }

    /// `job-<id>/history`: what became of the job's checkpoints and workers, for people.
    pub fn history(&self) -> Result<StorePath> {
        self.root.join("history")
    }

    /// `job-<id>/history/<epoch>-<number>`.
    pub fn history_chunk(&self, epoch: Epoch, number: u64) -> Result<StorePath> {
        self.root.join(&format!("history/{epoch}-{number}"))
    }

    /// `job-<id>/requests`.
    pub fn requests(&self) -> Result<StorePath> {
        self.root.join("requests")
    }
}

/// Where everything of one operator lies, below a checkpoint's folder.
pub fn operator_folder(operator: &OperatorId) -> String {
    format!("operator-{operator}")
}

/// Where the small files of one subtask of an incremental checkpoint lie, below its folder.
pub fn subtask_folder(subtask: &SubtaskName) -> String {
    format!("{}/subtask-{}", operator_folder(&subtask.operator), subtask.index)
}

/// The folder of one key group of a full checkpoint, below its operator's.
pub fn key_group_folder(key_group: KeyGroup) -> String {
    format!("keygroup-{key_group}")
}

/// Where a file of a checkpoint's own goes when an earlier place of it is spent, since a write there failed and may
/// land later (K2): beside it, in a folder of a fresh name.
pub fn place_anew(place: &StorePath, attempt: Uid) -> Result<StorePath> {
    let below = format!("again-{attempt}/{}", place.file_name());
    match place.parent() {
        Some(folder) => folder.join(&below),
        None => StorePath::new(below),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        let epoch = Epoch { counter: 3, uid: Uid(0xabc) };
        let folder = CheckpointFolder { checkpoint: CheckpointId(7), epoch };
        assert_eq!(folder.to_string(), "cp-7.3-0000000000000abc");
        assert_eq!(folder.to_string().parse::<CheckpointFolder>().unwrap(), folder);
        let pin = RefName { folder, writer: epoch, uid: Uid(1) };
        assert_eq!(pin.to_string().parse::<RefName>().unwrap(), pin);
        let layout = JobLayout::new(JobId::new("a").unwrap()).unwrap();
        let list = layout.condemned_list(epoch, Uid(9)).unwrap();
        assert_eq!(JobLayout::parse_condemned_name(list.file_name()).unwrap(), (epoch, Uid(9)));
        assert_eq!(JobLayout::job_of_folder("job-a").unwrap().as_str(), "a");
    }

    #[test]
    fn foreign_names_are_refused() {
        for hostile in
            ["cp-1", "cp-01.3-0000000000000abc", "cp-1.3-abc", "cp-.3-0000000000000abc", "xp-1.3-0000000000000abc"]
        {
            assert!(hostile.parse::<CheckpointFolder>().is_err(), "{hostile:?} was taken");
        }
    }
}
