//! From acknowledged parts to a `_metadata`.

use std::collections::BTreeMap;

use super::pending::{Part, Pending};
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::KeyGroupRange;
use crate::layout::{JobId, OperatorId, SubtaskName};
use crate::metadata::{CheckpointMetadata, OperatorState, StateSchema, SubtaskState};

/// What this build calls itself in the checkpoints it writes.
pub const WRITER: &str = concat!("icecore ", env!("CARGO_PKG_VERSION"));

/// The `_metadata` of a fully acknowledged checkpoint.
///
/// # Errors
/// [`ErrorKind::SchemaMismatch`] if two subtasks of one operator disagree about a state;
/// [`ErrorKind::InvalidInput`] if they do not have all of its key groups between them.
pub(super) fn assemble(job: &JobId, pending: &Pending) -> Result<CheckpointMetadata> {
    let mut operators = Vec::with_capacity(pending.operators.len());
    for description in &pending.operators {
        let parts: Vec<&Part> =
            pending.parts.values().filter(|part| part.handle.subtask.operator == description.operator).collect();
        let ranges = parts.iter().map(|part| part.handle.key_groups);
        check_covered(&description.operator, description.max_parallelism, ranges)?;
        operators.push(OperatorState {
            operator: description.operator.clone(),
            parallelism: description.parallelism,
            max_parallelism: description.max_parallelism,
            states: agreed_states(&parts)?,
            subtasks: parts.into_iter().map(subtask_state).collect(),
        });
    }
    operators.sort_by(|a, b| a.operator.cmp(&b.operator));
    let mut sources = pending.sources.clone();
    sources.sort_by(|a, b| (&a.source, &a.split).cmp(&(&b.source, &b.split)));
    Ok(CheckpointMetadata {
        job: job.clone(),
        checkpoint: pending.trigger.checkpoint,
        epoch: pending.trigger.epoch,
        kind: pending.trigger.kind,
        triggered_at_unix_ms: pending.trigger.triggered_at_unix_ms,
        max_parallelism: pending.operators.iter().map(|operator| operator.max_parallelism).max().unwrap_or(1),
        writer: WRITER.to_owned(),
        origin: None,
        operators,
        sources,
        properties: BTreeMap::new(),
    })
}

/// Refuses a checkpoint of elsewhere that leaves out a key group, as one that is taken here would be.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] if the subtasks of an operator do not have all of its key groups between them.
pub(crate) fn check_key_groups(metadata: &CheckpointMetadata) -> Result<()> {
    metadata.operators.iter().try_for_each(|operator| {
        let ranges = operator.subtasks.iter().map(|part| part.key_groups);
        check_covered(&operator.operator, operator.max_parallelism, ranges)
    })
}

/// Refuses parts that leave out a key group, as a restore would (I2): a subtask was made with another
/// range than its operator's description gives it. That none is there twice the encoding checks.
fn check_covered(
    operator: &OperatorId,
    max_parallelism: u32,
    parts: impl ExactSizeIterator<Item = Option<KeyGroupRange>>,
) -> Result<()> {
    let refuse = |message: String| {
        let error = Error::new(ErrorKind::InvalidInput, "assemble a checkpoint", message);
        Err(error.with_object(format!("operator {operator}")))
    };
    let count = parts.len();
    let mut ranges: Vec<_> = parts.flatten().collect();
    if ranges.is_empty() {
        return Ok(());
    }
    if ranges.len() < count {
        return refuse("some of its subtasks have key groups and some are folders of unknown keys".to_owned());
    }
    ranges.sort_unstable();
    let mut next = 0;
    for range in ranges {
        if u32::from(range.first()) > next {
            break;
        }
        next = u32::from(range.last()) + 1;
    }
    if next < max_parallelism {
        return refuse(format!("none of its subtasks has key group {next}"));
    }
    Ok(())
}

/// The union of the subtasks' states: one that has met no key yet may lack a state.
fn agreed_states(parts: &[&Part]) -> Result<Vec<StateSchema>> {
    let mut states: BTreeMap<&str, (&StateSchema, &SubtaskName)> = BTreeMap::new();
    for part in parts {
        for state in &part.handle.states {
            let (known, subtask) = *states.entry(&state.name).or_insert((state, &part.handle.subtask));
            if known != state {
                return Err(Error::new(
                    ErrorKind::SchemaMismatch,
                    "assemble a checkpoint",
                    format!("{subtask} has it as {known:?}, {} as {state:?}", part.handle.subtask),
                )
                .with_object(&state.name));
            }
        }
    }
    Ok(states.into_values().map(|(state, _)| state.clone()).collect())
}

fn subtask_state(part: &Part) -> SubtaskState {
    SubtaskState {
        index: part.handle.subtask.index,
        key_groups: part.handle.key_groups,
        backend: part.handle.backend,
        files: part.files.entries().map(|entry| (**entry).clone()).collect(),
    }
}
