//! What a manager tells a worker on its stream.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{decoded, encoded, limits, messages, read, seal, shorten, text, unseal};
use crate::error::Result;
use crate::keygroup::{KeyGroupRange, MaxParallelism};
use crate::layout::{CheckpointFolder, CheckpointId, Epoch, JobId, OperatorId};
use crate::metadata::shared::{
    Checked, Fault, at_most, epoch, epoch_to_wire, folder, folder_to_wire, job, key_groups, key_groups_to_wire,
    name_fault, number, path, present, shared, value,
};
use crate::snapshot::Trigger;
use crate::store::StorePath;

/// From a manager to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// What it runs. Once, when all workers of its generation have registered.
    Deploy(Deployment),
    /// The answer to each heartbeat: the manager lives, too.
    Heard,
    /// Take part in a checkpoint.
    Trigger {
        /// Which.
        trigger: Trigger,
        /// The epoch of the dataflow that ends with it. No worker has left it.
        ends_epoch: u64,
    },
    /// How far the dataflow's epochs have come.
    Epochs(DataflowEpochs),
    /// Sources give nothing more in this run: a last checkpoint will come.
    Pause,
    /// No checkpoint will come any more, and the last one is complete: the dataflow comes to its end in good order.
    Close,
    /// A checkpoint is complete.
    Complete(CheckpointFolder),
    /// A savepoint is complete: nobody goes ahead by that.
    SavepointComplete(CheckpointFolder),
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

/// The epochs of a generation's dataflow. Each worker ends epochs by itself, up to the last, which only the manager ends: with a
/// checkpoint. So that never ends an epoch that some worker has left already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataflowEpochs {
    /// The newest one that any worker has gone on to. All others follow.
    pub current: u64,
    /// The one that no worker leaves by itself. It only grows.
    pub last: u64,
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
    /// The folder of the checkpoint or savepoint that is restored; `None`: it begins with nothing.
    pub restore: Option<StorePath>,
    /// The manager's tenure: with the generation it names this run among all that the job ever had.
    pub epoch: Epoch,
    /// Sources give nothing: the job is being stopped, and its last checkpoint is to come.
    pub is_pausing: bool,
    /// The newest checkpoint of the job that was ever complete, 0 if none was. It is not what is restored if that is damaged, or if
    /// somebody wants an older one.
    pub newest: CheckpointId,
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
    pub(super) const EPOCHS: u32 = 7;
    pub(super) const PAUSE: u32 = 8;
    pub(super) const CLOSE: u32 = 9;
    pub(super) const SAVEPOINT_COMPLETE: u32 = 10;
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
            Self::Trigger { trigger, ends_epoch } => seal(kind::TRIGGER, &trigger_to_wire(trigger, *ends_epoch)),
            Self::Epochs(DataflowEpochs { current, last }) => {
                seal(kind::EPOCHS, &messages::DataflowEpochs { current: *current, last: *last })
            }
            Self::Pause => seal(kind::PAUSE, &messages::Nothing {}),
            Self::Close => seal(kind::CLOSE, &messages::Nothing {}),
            Self::Complete(folder) => seal(kind::COMPLETE, &folder_to_wire(*folder)),
            Self::SavepointComplete(folder) => seal(kind::SAVEPOINT_COMPLETE, &folder_to_wire(*folder)),
            Self::Aborted { checkpoint, reason } => {
                seal(kind::ABORTED, &messages::Aborted { checkpoint: checkpoint.0, reason: shorten(reason) })
            }
            Self::Leave { why, is_end } => {
                let (text, is_end) = (shorten(why), *is_end);
                seal(
                    kind::LEAVE,
                    &messages::Text { text, is_end, is_damage: false, is_final: false, is_missing: false },
                )
            }
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
                kind::TRIGGER => {
                    let wire: messages::Trigger = read("a trigger", &body, limits::MAX_DISTRUSTED + SMALL)?;
                    Ok(Self::Trigger { ends_epoch: wire.ends_epoch, trigger: trigger(wire)? })
                }
                kind::EPOCHS => {
                    let wire: messages::DataflowEpochs = read("the epochs of a dataflow", &body, SMALL)?;
                    Ok(Self::Epochs(DataflowEpochs { current: wire.current, last: wire.last }))
                }
                kind::PAUSE => Ok(Self::Pause),
                kind::CLOSE => Ok(Self::Close),
                kind::COMPLETE => folder(read("a complete checkpoint", &body, SMALL)?).map(Self::Complete),
                kind::SAVEPOINT_COMPLETE => {
                    folder(read("a complete savepoint", &body, SMALL)?).map(Self::SavepointComplete)
                }
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
        restore: value.restore.as_ref().map(|folder| folder.as_str().to_owned()).unwrap_or_default(),
        epoch: Some(epoch_to_wire(value.epoch)),
        newest: value.newest.0,
        is_pausing: value.is_pausing,
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
        restore: Some(wire.restore).filter(|folder| !folder.is_empty()).map(path).transpose()?,
        epoch: epoch(wire.epoch)?,
        newest: CheckpointId(wire.newest),
        is_pausing: wire.is_pausing,
    })
}

fn trigger_to_wire(trigger: &Trigger, ends_epoch: u64) -> messages::Trigger {
    messages::Trigger {
        checkpoint: trigger.checkpoint.0,
        epoch: Some(epoch_to_wire(trigger.epoch)),
        generation: trigger.generation,
        kind: number(trigger.kind),
        base: trigger.base.map(folder_to_wire),
        distrusted: trigger.distrusted.iter().map(ToString::to_string).collect(),
        folder: trigger.folder.as_str().to_owned(),
        triggered_at_unix_ms: trigger.triggered_at_unix_ms,
        ends_epoch,
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
