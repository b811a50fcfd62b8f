//! What a generation of workers is to run.

use std::collections::BTreeSet;

use crate::coordinator::OperatorDescription;
use crate::error::{Error, Result};
use crate::job::wire::{Cookie, DeployedOperator, Deployment};
use crate::keygroup::MaxParallelism;
use crate::layout::{CheckpointId, Epoch, JobId, OperatorId};
use crate::store::StorePath;

/// A stateful operator of the job, whose parallelism is the number of workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedOperator {
    /// Its id, the same for the whole life of the job.
    pub operator: OperatorId,
    /// Into how many key groups its keys are hashed: the same for the whole life of the job.
    pub max_parallelism: MaxParallelism,
}

impl ManagedOperator {
    /// As the coordinator is told.
    pub(super) fn description(&self, workers: u32) -> OperatorDescription {
        OperatorDescription {
            operator: self.operator.clone(),
            parallelism: workers,
            max_parallelism: self.max_parallelism.get(),
        }
    }
}

/// # Errors
/// [`crate::ErrorKind::InvalidInput`] if an operator is named twice.
pub(super) fn check_operators(operators: &[ManagedOperator]) -> Result<()> {
    let mut known = BTreeSet::new();
    match operators.iter().find(|operator| !known.insert(&operator.operator)) {
        None => Ok(()),
        Some(twice) => Err(Error::invalid("run a job", "an operator is named twice").with_object(&twice.operator)),
    }
}

/// Which workers may register, and what they will run.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    pub(super) generation: u64,
    pub(super) cookie: Cookie,
    pub(super) job: JobId,
    pub(super) operators: Vec<ManagedOperator>,
    pub(super) restore: Option<StorePath>,
    pub(super) epoch: Epoch,
    pub(super) newest: CheckpointId,
    pub(super) is_pausing: bool,
}

impl Admission {
    /// What `worker` runs, of as many as there are `peers`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for more workers than key groups.
    pub(super) fn deployment(&self, worker: u32, peers: &[String]) -> Result<Deployment> {
        let workers = u32::try_from(peers.len()).unwrap_or(u32::MAX);
        let operator = |operator: &ManagedOperator| {
            Ok(DeployedOperator {
                operator: operator.operator.clone(),
                max_parallelism: operator.max_parallelism,
                key_groups: operator.max_parallelism.range_of_subtask(worker, workers)?,
            })
        };
        Ok(Deployment {
            job: self.job.clone(),
            generation: self.generation,
            worker,
            peers: peers.to_vec(),
            operators: self.operators.iter().map(operator).collect::<Result<_>>()?,
            restore: self.restore.clone(),
            epoch: self.epoch,
            newest: self.newest,
            is_pausing: self.is_pausing,
        })
    }
}
