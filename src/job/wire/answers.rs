//! A worker's answers to a trigger: its part of the checkpoint, or that it cannot take part.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::{Pass, decoded, encoded, limits, messages, pass_of, pass_to_wire, read, shorten, text};
use crate::error::Result;
use crate::layout::{CheckpointId, JobId, OperatorId, SubtaskName};
use crate::metadata::limits::MAX_MAX_PARALLELISM;
use crate::metadata::shared::{Checked, Fault, at_most, folder, folder_to_wire, name_fault, path, present};
use crate::metadata::{self, CheckpointKind, CheckpointMetadata, OperatorState, SourcePosition, SubtaskState};
use crate::snapshot::{SnapshotStats, SubtaskHandle};

/// One subtask's part of a checkpoint, and where its sources stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// Who says so.
    pub pass: Pass,
    /// The subtask's part.
    pub handle: SubtaskHandle,
    /// Where the sources that this subtask reads stood.
    pub sources: Vec<SourcePosition>,
}

impl Acknowledgement {
    /// Its bytes, for a worker of `job`. Files, states and positions are sorted first: the receiver takes no others.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if it breaks a rule of a `_metadata`; [`crate::ErrorKind::LimitExceeded`] if
    /// more is new than one message holds.
    pub fn encode(self, job: &JobId) -> Result<Bytes> {
        let Self { pass, handle, sources } = self;
        let (generation, base) = (handle.generation, handle.base.map(folder_to_wire));
        let removed = handle.removed.iter().map(|name| name.as_str().to_owned()).collect();
        let stats = Some(stats_to_wire(handle.stats));
        let part = metadata::encode(&part_of(job, handle, sources))?;
        let wire =
            messages::Acknowledgement { pass: Some(pass_to_wire(&pass)), generation, base, removed, stats, part };
        let max = limits::MAX_ACKNOWLEDGEMENT_BYTES;
        encoded(at_most("an acknowledgement, bytes", wire.encoded_len(), max))
            .map_err(|error| error.with_advice("take checkpoints more often, or run more workers"))?;
        Ok(wire.encode_to_vec().into())
    }

    /// Reads one that is meant for `job`.
    ///
    /// # Errors
    /// As [`super::Say::decode`].
    pub fn decode(job: &JobId, bytes: &[u8]) -> Result<Self> {
        let max_fields = limits::MAX_FILES + limits::MAX_SMALL_FIELDS;
        let wire: messages::Acknowledgement = decoded(read("an acknowledgement", bytes, max_fields))?;
        let part = metadata::decode(&wire.part)?;
        decoded(acknowledgement(job, wire, part))
    }
}

/// A handle as the `_metadata` of a checkpoint that has this one subtask and the files that it adds: so one codec and one
/// set of rules serve both. What a handle does not know (parallelism, moment) has a value that says nothing.
fn part_of(job: &JobId, handle: SubtaskHandle, mut sources: Vec<SourcePosition>) -> CheckpointMetadata {
    let SubtaskHandle { checkpoint, epoch, subtask, key_groups, backend, mut states, added: mut files, .. } = handle;
    files.sort_by(|a, b| a.local_name.cmp(&b.local_name));
    states.sort_by(|a, b| a.name.cmp(&b.name));
    sources.sort_by(|a, b| (&a.source, &a.split).cmp(&(&b.source, &b.split)));
    let part = SubtaskState { index: subtask.index, key_groups, backend, files };
    let operator = OperatorState {
        operator: subtask.operator,
        parallelism: subtask.index.saturating_add(1),
        max_parallelism: MAX_MAX_PARALLELISM,
        states,
        subtasks: vec![part],
    };
    CheckpointMetadata {
        job: job.clone(),
        checkpoint,
        epoch,
        kind: CheckpointKind::Incremental,
        triggered_at_unix_ms: 0,
        max_parallelism: MAX_MAX_PARALLELISM,
        writer: String::new(),
        origin: None,
        operators: vec![operator],
        sources,
        properties: BTreeMap::new(),
    }
}

fn acknowledgement(job: &JobId, wire: messages::Acknowledgement, part: CheckpointMetadata) -> Checked<Acknowledgement> {
    at_most("files that are gone", wire.removed.len(), limits::MAX_FILES)?;
    if part.job != *job {
        return Err(Fault::bad(format!("it is of job {}, not of {job}", part.job)));
    }
    let mut operators = part.operators.into_iter();
    let (Some(operator), None) = (operators.next(), operators.next()) else {
        return Err(Fault::bad("a part has one operator"));
    };
    let mut subtasks = operator.subtasks.into_iter();
    let (Some(subtask), None) = (subtasks.next(), subtasks.next()) else {
        return Err(Fault::bad("a part has one subtask"));
    };
    let handle = SubtaskHandle {
        checkpoint: part.checkpoint,
        epoch: part.epoch,
        generation: wire.generation,
        subtask: SubtaskName { operator: operator.operator, index: subtask.index },
        key_groups: subtask.key_groups,
        backend: subtask.backend,
        states: operator.states,
        base: wire.base.map(folder).transpose()?,
        added: subtask.files,
        removed: wire.removed.into_iter().map(path).collect::<Checked<_>>()?,
        stats: stats(&present("what it took", wire.stats)?),
    };
    Ok(Acknowledgement { pass: pass_of(wire.pass)?, handle, sources: part.sources })
}

fn stats_to_wire(stats: SnapshotStats) -> messages::Stats {
    let SnapshotStats { sync_us, async_us, files, hashed_files, uploaded_files, uploaded_bytes, shared_bytes } = stats;
    messages::Stats { sync_us, async_us, files, hashed_files, uploaded_files, uploaded_bytes, shared_bytes }
}

fn stats(wire: &messages::Stats) -> SnapshotStats {
    let messages::Stats { sync_us, async_us, files, hashed_files, uploaded_files, uploaded_bytes, shared_bytes } =
        *wire;
    SnapshotStats { sync_us, async_us, files, hashed_files, uploaded_files, uploaded_bytes, shared_bytes }
}

/// A subtask cannot take part in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decline {
    /// Who says so. Its worker's number is the subtask's.
    pub pass: Pass,
    /// The checkpoint.
    pub checkpoint: CheckpointId,
    /// Whose subtask.
    pub operator: OperatorId,
    /// Why, for a person.
    pub reason: String,
}

impl Decline {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let wire = messages::Decline {
            pass: Some(pass_to_wire(&self.pass)),
            checkpoint: self.checkpoint.0,
            operator: self.operator.as_str().to_owned(),
            reason: shorten(&self.reason),
        };
        wire.encode_to_vec().into()
    }

    /// # Errors
    /// As [`super::Say::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let read = || {
            let wire: messages::Decline = read("a declined checkpoint", bytes, limits::MAX_SMALL_FIELDS)?;
            Ok(Self {
                pass: pass_of(wire.pass)?,
                checkpoint: CheckpointId(wire.checkpoint),
                operator: OperatorId::new(&wire.operator).map_err(|error| name_fault(&error).within("operator id"))?,
                reason: text("the reason of a decline", wire.reason)?,
            })
        };
        decoded(read())
    }
}
