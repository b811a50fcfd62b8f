//! What a manager tells a worker on its stream.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{decoded, encoded, limits, messages, read, seal, shorten, text, unseal};
use crate::error::Result;
use crate::keygroup::{KeyGroupRange, MaxParallelism};
use crate::layout::{CheckpointFolder, CheckpointId, JobId, OperatorId};
use crate::metadata::shared::{
    Checked, Fault, at_most, epoch, epoch_to_wire, folder, folder_to_wire, job, key_groups, key_groups_to_wire,
    name_fault, number, path, present, shared, value,
};
use crate::snapshot::Trigger;

/// From a manager to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// What it runs. Once, when all workers of its generation have registered.
    Deploy(Deployment),
    /// The answer to each heartbeat: the manager lives, too.
    Heard,
    /// Take part in a checkpoint.
    Trigger(Trigger),
    /// A checkpoint is complete.
    Complete(CheckpointFolder),
    /// A checkpoint was given up.
    Aborted {
        /// Which.
        checkpoint: CheckpointId,
        /// Why, for a person.
        reason: String,
    },
    /// It is not needed any more: it ends at once.
    Leave {
        /// Why, for a person.
        why: String,
        /// Whether the job came to an end that somebody wanted, and so no failure.
        is_end: bool,
    },
}

/// What one worker of a generation runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// The job.
    pub job: JobId,
    /// The generation of workers.
    pub generation: u64,
    /// Which of them this one is; it runs the subtask of this number of every operator.
    pub worker: u32,
    /// Where each worker of the generation is reached by its peers, in their order. As many as there are workers.
    pub peers: Vec<String>,
    /// The stateful operators.
    pub operators: Vec<DeployedOperator>,
    /// The checkpoint that is restored, in the job's folder; `None`: it begins with nothing.
    pub restore: Option<CheckpointFolder>,
}

/// An operator, as one worker runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeployedOperator {
    /// Its id.
    pub operator: OperatorId,
    /// Into how many key groups its keys are hashed.
    pub max_parallelism: MaxParallelism,
    /// Those that this worker's subtask owns.
    pub key_groups: KeyGroupRange,
}

impl Deployment {
    /// How many workers the generation has: every operator's parallelism.
    pub fn workers(&self) -> u32 {
        // Not more than `MAX_PEERS`.
        u32::try_from(self.peers.len()).unwrap_or(u32::MAX)
    }
}

mod kind {
    pub(super) const DEPLOY: u32 = 1;
    pub(super) const HEARD: u32 = 2;
    pub(super) const TRIGGER: u32 = 3;
    pub(super) const COMPLETE: u32 = 4;
    pub(super) const ABORTED: u32 = 5;
    pub(super) const LEAVE: u32 = 6;
}

impl Tell {
    /// Its bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::LimitExceeded`] if it is too large.
    pub fn encode(&self) -> Result<Bytes> {
        let bytes = match self {
            Self::Deploy(deployment) => seal(kind::DEPLOY, &deployment_to_wire(deployment)),
            Self::Heard => seal(kind::HEARD, &messages::Nothing {}),
            Self::Trigger(trigger) => seal(kind::TRIGGER, &trigger_to_wire(trigger)),
            Self::Complete(folder) => seal(kind::COMPLETE, &folder_to_wire(*folder)),
            Self::Aborted { checkpoint, reason } => {
                seal(kind::ABORTED, &messages::Aborted { checkpoint: checkpoint.0, reason: shorten(reason) })
            }
            Self::Leave { why, is_end } => seal(kind::LEAVE, &messages::Text { text: shorten(why), is_end: *is_end }),
        };
        encoded(at_most("a message to a worker, bytes", bytes.len(), limits::MAX_TELL_BYTES))?;
        Ok(bytes)
    }

    /// # Errors
    /// As [`super::Say::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const SMALL: usize = limits::MAX_SMALL_FIELDS;
        let read = || {
            let (kind, body) = unseal(bytes)?;
            match kind {
                kind::DEPLOY => {
                    let fields = limits::MAX_PEERS + limits::MAX_OPERATORS + SMALL;
                    deployment(read("a deployment", &body, fields)?).map(Self::Deploy)
                }
                kind::HEARD => Ok(Self::Heard),
                kind::TRIGGER => trigger(read("a trigger", &body, limits::MAX_DISTRUSTED + SMALL)?).map(Self::Trigger),
                kind::COMPLETE => folder(read("a complete checkpoint", &body, SMALL)?).map(Self::Complete),
                kind::ABORTED => {
                    let wire: messages::Aborted = read("an aborted checkpoint", &body, SMALL)?;
                    let reason = text("the reason of an abort", wire.reason)?;
                    Ok(Self::Aborted { checkpoint: CheckpointId(wire.checkpoint), reason })
                }
                kind::LEAVE => {
                    let wire: messages::Text = read("an order to leave", &body, SMALL)?;
                    Ok(Self::Leave { why: text("the reason to leave", wire.text)?, is_end: wire.is_end })
                }
                unknown => Err(Fault::unknown(format!("a manager says a word of the unknown number {unknown}"))),
            }
        };
        decoded(read())
    }
}

fn deployment_to_wire(value: &Deployment) -> messages::Deployment {
    let operator = |operator: &DeployedOperator| messages::Operator {
        operator: operator.operator.as_str().to_owned(),
        max_parallelism: operator.max_parallelism.get(),
        key_groups: Some(key_groups_to_wire(operator.key_groups)),
    };
    messages::Deployment {
        job: value.job.as_str().to_owned(),
        generation: value.generation,
        worker: value.worker,
        peers: value.peers.clone(),
        operators: value.operators.iter().map(operator).collect(),
        restore: value.restore.map(folder_to_wire),
    }
}

fn deployment(wire: messages::Deployment) -> Checked<Deployment> {
    at_most("peers", wire.peers.len(), limits::MAX_PEERS)?;
    at_most("operators", wire.operators.len(), limits::MAX_OPERATORS)?;
    if wire.worker as usize >= wire.peers.len() {
        return Err(Fault::bad(format!("worker {} of {}", wire.worker, wire.peers.len())));
    }
    for peer in &wire.peers {
        at_most("a peer's address, bytes", peer.len(), limits::MAX_ADDRESS_BYTES)?;
    }
    let operator = |wire: messages::Operator| {
        let operator = OperatorId::new(&wire.operator).map_err(|error| name_fault(&error).within("operator id"))?;
        let max_parallelism = MaxParallelism::new(wire.max_parallelism).map_err(|error| name_fault(&error))?;
        let key_groups = key_groups(present("an operator's key groups", wire.key_groups)?)?;
        if u32::from(key_groups.last()) >= wire.max_parallelism {
            return Err(Fault::bad(format!("key groups {key_groups}, of which there are {max_parallelism}")));
        }
        Ok(DeployedOperator { operator, max_parallelism, key_groups })
    };
    Ok(Deployment {
        job: job(&wire.job)?,
        generation: wire.generation,
        worker: wire.worker,
        peers: wire.peers,
        operators: wire.operators.into_iter().map(operator).collect::<Checked<_>>()?,
        restore: wire.restore.map(folder).transpose()?,
    })
}

fn trigger_to_wire(trigger: &Trigger) -> messages::Trigger {
    messages::Trigger {
        checkpoint: trigger.checkpoint.0,
        epoch: Some(epoch_to_wire(trigger.epoch)),
        generation: trigger.generation,
        kind: number(trigger.kind),
        base: trigger.base.map(folder_to_wire),
        distrusted: trigger.distrusted.iter().map(ToString::to_string).collect(),
        folder: trigger.folder.as_str().to_owned(),
        triggered_at_unix_ms: trigger.triggered_at_unix_ms,
    }
}

fn trigger(wire: messages::Trigger) -> Checked<Trigger> {
    at_most("damaged objects", wire.distrusted.len(), limits::MAX_DISTRUSTED)?;
    let distrusted = wire.distrusted.iter().map(|name| shared(name)).collect::<Checked<BTreeSet<_>>>()?;
    Ok(Trigger {
        checkpoint: CheckpointId(wire.checkpoint),
        epoch: epoch(wire.epoch)?,
        generation: wire.generation,
        kind: value(wire.kind)?,
        base: wire.base.map(folder).transpose()?,
        distrusted: Arc::new(distrusted),
        folder: path(wire.folder)?,
        triggered_at_unix_ms: wire.triggered_at_unix_ms,
    })
}
