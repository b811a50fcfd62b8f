//! The small records by which coordinators and commands see each other (design 4).
//!
//! Each is one object, written once under a name of its own and never changed. They are plain
//! values here; `ownership` and `gc` decide when they are written and what they mean.

use super::frame::Format;
use crate::error::Result;
use crate::layout::{CheckpointFolder, DistrustName, Epoch, JobId, RefName, Uid};
use crate::store::StorePath;

/// A record with bytes of its own kind.
pub trait ControlRecord: Sized {
    /// Its magic, version and limits.
    const FORMAT: Format;

    /// The object's bytes. The same value always gives the same bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if the value breaks one of its rules,
    /// [`crate::ErrorKind::LimitExceeded`] if it is too large.
    fn encode(&self) -> Result<Vec<u8>>;

    /// Reads an object. Callers add its path to the error.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`], [`crate::ErrorKind::Unsupported`] or
    /// [`crate::ErrorKind::LimitExceeded`].
    fn decode(object: &[u8]) -> Result<Self>;

    /// Reads a body whose frame was checked already. For the fuzzer, which cannot guess a SHA-256.
    #[doc(hidden)]
    fn decode_body(body: &[u8]) -> Result<Self>;
}

/// `epochs/<epoch>/claim`: a coordinator wants the job (design 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The epoch that is claimed.
    pub epoch: Epoch,
    /// The job.
    pub job: JobId,
    /// When, in milliseconds since 1970 UTC. For people; nothing rests on it.
    pub claimed_at_unix_ms: u64,
    /// Who: host and process, for people. At most [`super::limits::MAX_CONTROL_TEXT_BYTES`].
    pub holder: String,
}

/// `epochs/<epoch>/start`: what a tenure adopted of its predecessors (design 4.1). All three lists
/// are sorted and without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The tenure.
    pub epoch: Epoch,
    /// The checkpoints that count from now on.
    pub adopted: Vec<CheckpointFolder>,
    /// The refs that count from now on.
    pub refs: Vec<RefName>,
    /// The pins that count from now on.
    pub pins: Vec<RefName>,
}

/// `epochs/<epoch>/end`: a tenure ended by itself; nobody has to be fenced to go on (design 4.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The tenure.
    pub epoch: Epoch,
}

/// `condemned/<epoch>-<uid>`: objects that their owner is about to delete (design 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// The tenure that deletes.
    pub epoch: Epoch,
    /// Fresh for each list.
    pub uid: Uid,
    /// The checkpoints that stop counting with this list, sorted.
    pub dropped: Vec<CheckpointFolder>,
    /// What is deleted, in that order: a dropped checkpoint's `_metadata` first. Paths below the
    /// root, each inside some job's folder, none twice.
    pub objects: Vec<StorePath>,
}

/// `pins/<name>`: a person's hold on a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// What is held, and whose tenure wrote it.
    pub name: RefName,
    /// Why, for people. At most [`super::limits::MAX_CONTROL_TEXT_BYTES`].
    pub reason: String,
    /// When, in milliseconds since 1970 UTC. For people.
    pub created_at_unix_ms: u64,
}

/// `refs/<name>`: another job's hold on a checkpoint (design 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ref {
    /// What is held, and whose tenure wrote it.
    pub name: RefName,
    /// The job that holds it.
    pub holder: JobId,
    /// When, in milliseconds since 1970 UTC. For people.
    pub created_at_unix_ms: u64,
}

/// `distrusted/<name>`: a shared object that is known to be damaged, so that no later checkpoint may
/// share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distrust {
    /// The object, and whose tenure wrote the record.
    pub name: DistrustName,
    /// What is wrong with it, for people. At most [`super::limits::MAX_CONTROL_TEXT_BYTES`].
    pub reason: String,
    /// When, in milliseconds since 1970 UTC. For people.
    pub created_at_unix_ms: u64,
}

/// What a command asks of the living owner (design 4.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestKind {
    /// Collect what nothing references.
    Gc,
    /// Drop the checkpoint that the argument names.
    Drop,
    /// Apply the retention policy in the argument.
    Retain,
    /// Pin the checkpoint that the argument names.
    Pin,
    /// Remove the pin that the argument names.
    Unpin,
    /// Let another job hold a checkpoint.
    Fork,
    /// Remove what damaged objects block.
    Repair,
    /// Take a savepoint at the path in the argument.
    Savepoint,
    /// Share the damaged objects that the argument names no more.
    Distrust,
}

/// `requests/<uid>`: a command's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Fresh for each.
    pub uid: Uid,
    /// What is asked.
    pub kind: RequestKind,
    /// What it is asked about, in the form that the kind says. At most
    /// [`super::limits::MAX_CONTROL_TEXT_BYTES`].
    pub argument: String,
    /// When, in milliseconds since 1970 UTC. For people.
    pub created_at_unix_ms: u64,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done; what is to be told, often nothing.
    Done(String),
    /// It was not done, and why.
    Refused(String),
}

/// The owner's answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's uid.
    pub uid: Uid,
    /// How it ended. Its text is at most [`super::limits::MAX_CONTROL_TEXT_BYTES`].
    pub result: Outcome,
}
