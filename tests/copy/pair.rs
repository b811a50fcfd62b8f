//! A job with a history on one store, and another store to copy it to.

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore::coordinator::{Coordinator, CoordinatorOptions, RetentionPolicy};
use icecore::copy::{CopyOptions, CopyPlan, CopyReport, CopySource, copy_checkpoints};
use icecore::gc::SweepScope;
use icecore::layout::{CheckpointFolder, JobId, JobLayout};
use icecore::metadata::{CheckpointKind, CheckpointMetadata};
use icecore::ownership::JobView;
use icecore::store::StoreRef;
use icecore::transfer::NoProgress;
use icecore::{ErrorKind, Result};

use crate::support::{Task, World, checkpoint, checkpoint_of, job, sha256};

/// Larger than what is copied in one piece, in bytes.
pub const LARGE: usize = (5 << 20) + 17;

pub struct Pair {
    pub source: World,
    pub target: World,
    /// The owner of the source's job.
    pub owner: Coordinator,
    pub tasks: Vec<Task>,
}

pub fn keep_all() -> CoordinatorOptions {
    CoordinatorOptions {
        retention: RetentionPolicy { last: u32::MAX, ..RetentionPolicy::default() },
        ..CoordinatorOptions::default()
    }
}

impl Pair {
    /// Two subtasks, whose job has no checkpoint yet.
    pub async fn new() -> Self {
        let source = World::new();
        let target = source.beside();
        let owner = source.coordinator(2, keep_all()).await;
        let tasks = (0..2).map(|index| source.task(&owner, index, 2)).collect();
        Self { source, target, owner, tasks }
    }

    /// A file of one of the subtasks, as it is from now on.
    pub fn write(&mut self, subtask: usize, name: &str, content: impl AsRef<[u8]>) {
        self.tasks[subtask].write(name, content);
    }

    pub async fn checkpoint(&self) -> CheckpointFolder {
        let tasks: Vec<&Task> = self.tasks.iter().collect();
        checkpoint(&self.owner, &tasks).await
    }

    pub async fn full_checkpoint(&self) -> CheckpointFolder {
        let tasks: Vec<&Task> = self.tasks.iter().collect();
        checkpoint_of(&self.owner, &tasks, CheckpointKind::Full).await
    }

    /// Three checkpoints, each with files that are new, stay or go, shared by both subtasks, and private.
    pub async fn with_history() -> Self {
        let mut pair = Self::new().await;
        pair.write(0, "1.sst", "one");
        pair.write(0, "2.sst", "both");
        pair.write(1, "3.sst", "both");
        pair.write(0, "private-a", "manifest 1");
        pair.checkpoint().await;
        pair.write(1, "4.sst", vec![4; LARGE]);
        pair.write(0, "private-a", "manifest 2");
        pair.checkpoint().await;
        pair.tasks[0].remove("1.sst");
        pair.write(1, "5.sst", "five");
        pair.write(0, "6.sst", "");
        pair.checkpoint().await;
        pair
    }

    pub async fn copy_source(&self) -> CopySource {
        let store = Arc::clone(&self.source.store) as StoreRef;
        let view = JobView::read(&*store, &self.source.layout).await.unwrap();
        CopySource { store, view }
    }

    pub async fn plan(&self, options: &CopyOptions) -> CopyPlan {
        let source = self.copy_source().await;
        CopyPlan::new(&source.view, &all(&source.view), &self.target.view().await, options).unwrap()
    }

    /// One whole copy, by a tenure of its own on the target.
    pub async fn copy(&self, options: &CopyOptions) -> CopyReport {
        self.copy_to(Arc::clone(&self.target.store) as StoreRef, options).await.unwrap()
    }

    /// What a process does that copies to `store`; it may end anywhere.
    pub async fn copy_to(&self, store: StoreRef, options: &CopyOptions) -> Result<CopyReport> {
        let source = self.copy_source().await;
        let env = &self.target.env;
        let coordinator = Coordinator::start(store, job(), vec![], env.clone(), keep_all(), vec![]).await?;
        let plan = CopyPlan::new(&source.view, &all(&source.view), &coordinator.view(), options)?;
        let mut never = futures::future::pending();
        let report = copy_checkpoints(env, &source, &plan, &coordinator, options, &NoProgress, &mut never).await;
        let _ = coordinator.collect(SweepScope::Records, false).await;
        let _ = coordinator.end().await;
        Ok(report)
    }

    /// Two collections by an owner of the target, after which nothing is there that is not needed (I5).
    pub async fn collect_target(&self, when: &str) {
        let owner = self.target.coordinator(2, keep_all()).await;
        for _ in 0..2 {
            owner.collect(SweepScope::Everything, false).await.unwrap();
        }
        owner.end().await.unwrap();
        self.target.assert_sound(when).await;
        self.target.assert_exact(when).await;
    }

    /// The target holds what the source does, under the same numbers, and each exactly once.
    pub async fn assert_copied(&self, when: &str) {
        self.target.assert_sound(when).await;
        assert_eq!(self.target.counting_ids().await, self.source.counting_ids().await, "{when}");
        for (folder, checkpoint) in &self.source.view().await.checkpoints {
            let from = checkpoint.content.as_ref().unwrap();
            let view = self.target.view().await;
            let to = view.checkpoint(folder.checkpoint).unwrap().content.clone().unwrap();
            assert_eq!(to.identity(), from.identity(), "{when}");
            assert_eq!(contents(&self.target, &to).await, contents(&self.source, from).await, "{when}: {folder}");
            let bare = |metadata: &CheckpointMetadata| {
                let CheckpointMetadata { kind, triggered_at_unix_ms, max_parallelism, .. } = *metadata;
                let rest = (metadata.sources.clone(), metadata.properties.clone());
                (kind, triggered_at_unix_ms, max_parallelism, rest)
            };
            assert_eq!(bare(&to), bare(from), "{when}: {folder}");
        }
    }
}

pub fn all(view: &JobView) -> Vec<CheckpointFolder> {
    view.checkpoints.keys().copied().collect()
}

/// Every file of every subtask by name, with the hash of the bytes that are really there.
pub async fn contents(world: &World, metadata: &CheckpointMetadata) -> BTreeMap<(u32, String), [u8; 32]> {
    let layout = JobLayout::new(metadata.job.clone()).unwrap();
    let mut contents = BTreeMap::new();
    for part in metadata.operators.iter().flat_map(|operator| &operator.subtasks) {
        for file in &part.files {
            let path = match &file.location {
                icecore::metadata::Location::InRoot(path) => path.clone(),
                icecore::metadata::Location::InCheckpoint(path) => {
                    layout.checkpoint(metadata.folder()).unwrap().join(path.as_str()).unwrap()
                }
            };
            let bytes = world.read(&path).await.unwrap_or_else(|| panic!("{path} is gone"));
            contents.insert((part.index, file.local_name.to_string()), sha256(&bytes));
        }
    }
    contents
}

pub fn job_id(name: &str) -> JobId {
    JobId::new(name).unwrap()
}

/// The kind of what stopped a copy.
pub fn stopped(report: &CopyReport) -> Option<ErrorKind> {
    report.stopped.as_ref().map(icecore::Error::kind)
}
