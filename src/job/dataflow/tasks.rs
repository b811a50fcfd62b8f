//! The tasks of one worker: empty, or restored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::folders::RunFolder;
use super::run::{AnyTask, DataflowOptions, StateBackend};
use crate::env::Env;
use crate::error::Result;
use crate::job::run::RestoredFiles;
use crate::job::wire::{DeployedOperator, Deployment};
use crate::layout::{OperatorId, SubtaskName};
use crate::restore::{Checkpoint, FetchOptions, RestorePlan};
use crate::snapshot::{Snapshotter, UploadBroker};
use crate::store::StoreRef;
use crate::task::HeapTask;
#[cfg(feature = "rocksdb")]
use crate::task::RocksDbTask;
use crate::transfer::Progress;

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
    /// The task of an operator, and which files were brought here for it. Each of them was verified by its hash.
    pub(super) async fn task(&self, operator: &DeployedOperator) -> Result<(OperatorId, AnyTask, RestoredFiles)> {
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
        let all = plan.as_ref().map_or((0, 0), |(plan, _)| (plan.file_count(), plan.size_bytes()));
        let linked = Arc::new(Linked::default());
        let fetch = FetchOptions {
            limits: self.options.restore_limits,
            local_folders: self.folder.left_by_others(&id),
            progress: linked.clone(),
        };
        let task = match &self.options.backend {
            StateBackend::Heap => self.heap(operator, plan, snapshotter, &fetch).await?,
            #[cfg(feature = "rocksdb")]
            StateBackend::RocksDb(_) => self.database(operator, plan, snapshotter, &fetch).await?,
        };
        let (took, files) = (self.env.clock.monotonic().saturating_sub(began), linked.of(all));
        tracing::info!(operator = %id, worker = index, took_ms = took.as_millis() as u64, %files, "a task is open");
        Ok((id, task, files))
    }

    async fn heap(
        &self,
        operator: &DeployedOperator,
        plan: Option<(RestorePlan, &Checkpoint)>,
        snapshotter: Arc<Snapshotter>,
        fetch: &FetchOptions,
    ) -> Result<AnyTask> {
        let env = self.env.clone();
        Ok(match plan {
            None => Box::new(HeapTask::new(operator.max_parallelism, operator.key_groups, snapshotter, env)?),
            Some((plan, from)) => Box::new(HeapTask::restore(&plan, from, snapshotter, env, fetch).await?),
        })
    }

    #[cfg(feature = "rocksdb")]
    async fn database(
        &self,
        operator: &DeployedOperator,
        plan: Option<(RestorePlan, &Checkpoint)>,
        snapshotter: Arc<Snapshotter>,
        fetch: &FetchOptions,
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
                Box::new(RocksDbTask::restore(&plan, from, &folder, options, snapshotter, env, fetch).await?)
            }
        })
    }
}

/// Counts what need not be fetched.
#[derive(Debug, Default)]
struct Linked {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Linked {
    /// What was fetched and linked of so many files and bytes in all.
    fn of(&self, (files, bytes): (u64, u64)) -> RestoredFiles {
        let (linked_files, linked_bytes) = (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        RestoredFiles {
            fetched_files: files.saturating_sub(linked_files),
            fetched_bytes: bytes.saturating_sub(linked_bytes),
            linked_files,
            linked_bytes,
        }
    }
}

impl Progress for Linked {
    fn expect(&self, _files: u64, _bytes: u64) {}

    fn advance(&self, _bytes: u64) {}

    fn linked(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn file_done(&self) {}
}
