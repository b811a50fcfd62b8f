//! The tasks of one worker: empty, or restored.

use std::sync::Arc;

use super::folders::RunFolder;
use super::run::{AnyTask, DataflowOptions, StateBackend};
use crate::env::Env;
use crate::error::Result;
use crate::job::wire::{DeployedOperator, Deployment};
use crate::layout::{OperatorId, SubtaskName};
use crate::restore::{Checkpoint, FetchOptions, RestorePlan};
use crate::snapshot::{Snapshotter, UploadBroker};
use crate::store::StoreRef;
use crate::task::HeapTask;
#[cfg(feature = "rocksdb")]
use crate::task::RocksDbTask;

/// What opening tasks needs.
pub(super) struct Opening<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) checkpoint: Option<&'a Checkpoint>,
    pub(super) store: StoreRef,
    pub(super) broker: Arc<dyn UploadBroker>,
    pub(super) env: Env,
    pub(super) options: &'a DataflowOptions,
    pub(super) folder: &'a RunFolder,
}

impl Opening<'_> {
    /// The task of an operator. Each of its files was verified by its hash.
    pub(super) async fn task(&self, operator: &DeployedOperator) -> Result<(OperatorId, AnyTask)> {
        let (index, workers) = (self.deployment.worker, self.deployment.workers());
        let id = operator.operator.clone();
        let subtask = SubtaskName { operator: id.clone(), index };
        let (store, env, broker) = (self.store.clone(), self.env.clone(), self.broker.clone());
        let options = self.options.snapshotter.clone();
        let snapshotter = Arc::new(Snapshotter::new(subtask, store, env, broker, options));
        let plan = match self.checkpoint {
            // An operator that is new in this version of the job begins with nothing.
            Some(from) if from.metadata.operators.iter().any(|known| known.operator == id) => {
                Some((RestorePlan::new(&from.metadata, &id, index, workers)?, from))
            }
            _ => None,
        };
        let began = self.env.clock.monotonic();
        let task = match &self.options.backend {
            StateBackend::Heap => self.heap(operator, plan, snapshotter).await?,
            #[cfg(feature = "rocksdb")]
            StateBackend::RocksDb(_) => self.database(operator, plan, snapshotter).await?,
        };
        let took = self.env.clock.monotonic().saturating_sub(began);
        tracing::info!(operator = %id, worker = index, took_ms = took.as_millis() as u64, "a task is open");
        Ok((id, task))
    }

    fn fetch(&self, operator: &OperatorId) -> FetchOptions {
        let local_folders = self.folder.left_by_others(operator);
        FetchOptions { limits: self.options.restore_limits, local_folders, ..FetchOptions::default() }
    }

    async fn heap(
        &self,
        operator: &DeployedOperator,
        plan: Option<(RestorePlan, &Checkpoint)>,
        snapshotter: Arc<Snapshotter>,
    ) -> Result<AnyTask> {
        let env = self.env.clone();
        Ok(match plan {
            None => Box::new(HeapTask::new(operator.max_parallelism, operator.key_groups, snapshotter, env)?),
            Some((plan, from)) => {
                let fetch = self.fetch(&operator.operator);
                Box::new(HeapTask::restore(&plan, from, snapshotter, env, &fetch).await?)
            }
        })
    }

    #[cfg(feature = "rocksdb")]
    async fn database(
        &self,
        operator: &DeployedOperator,
        plan: Option<(RestorePlan, &Checkpoint)>,
        snapshotter: Arc<Snapshotter>,
    ) -> Result<AnyTask> {
        let StateBackend::RocksDb(options) = &self.options.backend else {
            return Err(crate::error::Error::invalid("open a task", "its state is not in RocksDB"));
        };
        let (options, env) = (options.clone(), self.env.clone());
        let folder = self.folder.of_operator(&operator.operator);
        let DeployedOperator { max_parallelism, key_groups, .. } = *operator;
        Ok(match plan {
            None => {
                let new = move || RocksDbTask::new(&folder, max_parallelism, key_groups, options, snapshotter, env);
                Box::new(self.env.blocking(new).await??)
            }
            Some((plan, from)) => {
                let fetch = self.fetch(&operator.operator);
                Box::new(RocksDbTask::restore(&plan, from, &folder, options, snapshotter, env, &fetch).await?)
            }
        })
    }
}
