//! From acknowledged parts to a `_metadata`.

use std::collections::BTreeMap;

use super::pending::{Part, Pending};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{JobId, SubtaskName};
use crate::metadata::{CheckpointMetadata, OperatorState, StateSchema, SubtaskState};

/// What this build calls itself in the checkpoints it writes.
pub const WRITER: &str = concat!("icecore ", env!("CARGO_PKG_VERSION"));

/// The `_metadata` of a fully acknowledged checkpoint.
///
/// # Errors
/// [`ErrorKind::SchemaMismatch`] if two subtasks of one operator disagree about a state.
pub(super) fn assemble(job: &JobId, pending: &Pending) -> Result<CheckpointMetadata> {
    let mut operators = Vec::with_capacity(pending.operators.len());
    for description in &pending.operators {
        let parts: Vec<&Part> =
            pending.parts.values().filter(|part| part.handle.subtask.operator == description.operator).collect();
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
