//! A job of two subtasks on a store that fails, and what must be true of it at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::TryStreamExt as _;
use icecore::Result;
use icecore::coordinator::{Coordinator, CoordinatorOptions, RetentionPolicy};
use icecore::env::Env;
use icecore::gc::SweepScope;
use icecore::layout::{CheckpointFolder, JobLayout, Place};
use icecore::metadata::CheckpointKind;
use icecore::ownership::JobView;
use icecore::restore::{RestorePlan, read_checkpoint};
use icecore::snapshot::SnapshotterOptions;
use icecore::state::rocksdb::RocksDbOptions;
use icecore::store::{RetryPolicy, StorePath};

use super::{Patience, Remote};
use crate::state_model::{Model, Operation, Subject};
use crate::task_support::{Cluster, Dice, Kind, Setting, described, job, operator};

const KEY_GROUPS: u32 = 8;
const SUBTASKS: u32 = 2;
/// Onto so many subtasks checkpoints are restored at the end.
const RESTORED_SUBTASKS: u32 = 3;
const KEYS: u64 = 60;
/// Letters of large values: few enough to be text, many enough that compression leaves most of it.
const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

pub struct Job<'a, R: Remote> {
    remote: &'a R,
    kind: Kind,
    pub cluster: Cluster,
    dice: Dice,
    /// What the state was at each checkpoint that was tried.
    tried: BTreeMap<CheckpointFolder, Model>,
    /// Those that were acknowledged and must be there, whatever comes.
    acknowledged: BTreeSet<CheckpointFolder>,
}

fn options() -> CoordinatorOptions {
    // Everything is kept, so that at the end everything can be looked at.
    let retention = RetentionPolicy { last: 1_000, ..RetentionPolicy::default() };
    CoordinatorOptions { retention, tolerable_failures: u32::MAX, ..CoordinatorOptions::default() }
}

impl<'a, R: Remote> Job<'a, R> {
    /// With one acknowledged checkpoint.
    pub async fn start(remote: &'a R, kind: Kind, patience: Patience) -> Self {
        let retry = if patience.sends_again { RetryPolicy::OBJECTS } else { RetryPolicy::NEVER };
        let setting = Setting {
            coordinator: options(),
            snapshotter: SnapshotterOptions { retry, ..SnapshotterOptions::default() },
            database: RocksDbOptions::default(),
            ..Setting::on(remote.store(patience), Env::system().unwrap())
        };
        let cluster = Cluster::start_on(setting, kind, KEY_GROUPS, SUBTASKS).await;
        let (tried, acknowledged) = Default::default();
        let mut job = Self { remote, kind, cluster, dice: Dice(1), tried, acknowledged };
        job.churn(300);
        job.checkpoint().await.unwrap();
        job
    }

    pub fn churn(&mut self, operations: usize) {
        for _ in 0..operations {
            self.cluster.apply(&self.dice.operation(KEYS));
        }
    }

    /// So much that a file of it is sent in pieces.
    pub fn grow(&mut self, bytes: usize) {
        const VALUE_BYTES: usize = 1 << 20;
        for number in 0..bytes.div_ceil(VALUE_BYTES) {
            let letters = (0..VALUE_BYTES).map(|_| char::from(LETTERS[self.dice.roll(64) as usize]));
            let place = ("large".to_owned(), Vec::new());
            self.cluster.apply(&Operation::PutInMap(place, number as i16, letters.collect()));
        }
    }

    /// Takes a checkpoint. If that fails it is given up, as an engine does.
    pub async fn checkpoint(&mut self) -> Result<CheckpointFolder> {
        let trigger = self.cluster.coordinator.trigger(CheckpointKind::Incremental)?;
        let folder = trigger.checkpoint_folder();
        self.tried.insert(folder, self.cluster.model.clone());
        match self.cluster.try_complete(&trigger).await {
            Ok(_) => {
                self.acknowledged.insert(folder);
                Ok(folder)
            }
            Err(error) => {
                self.cluster.coordinator.abort(trigger.checkpoint, error.message());
                for task in &self.cluster.tasks {
                    task.context.backend().uploader().notify_aborted(trigger.checkpoint);
                }
                Err(error)
            }
        }
    }

    /// Another process claims the job, and restores it from the newest checkpoint that counts.
    pub async fn restart(&mut self) -> CheckpointFolder {
        let (store, env) = (self.cluster.store.clone(), self.cluster.env.clone());
        let operators = vec![described(KEY_GROUPS, SUBTASKS)];
        self.cluster.coordinator =
            Coordinator::start(store, job(), operators, env, options(), Vec::new()).await.unwrap();
        let newest = self.cluster.coordinator.latest().await.unwrap().expect("a checkpoint counts");
        let folder = newest.metadata.folder();
        self.cluster.at_checkpoint = self.tried[&folder].clone();
        self.cluster.restart_from(&newest, self.kind, SUBTASKS).await;
        self.cluster.assert_equals_model("restored by another process");
        folder
    }

    /// Drops a checkpoint and what it alone needs.
    pub async fn drop_checkpoint(&mut self, folder: CheckpointFolder) -> Result<()> {
        self.acknowledged.remove(&folder);
        let drops = [(folder, "asked for".to_owned())];
        self.cluster.coordinator.drop_checkpoints(&drops, false).await.map(drop)
    }

    /// As the command `gc` does it.
    pub async fn collect(&self) -> Result<()> {
        self.cluster.coordinator.collect(SweepScope::Everything, false).await?;
        let root = self.cluster.coordinator.layout().root().clone();
        self.cluster.store.remove_unfinished(Some(&root), Duration::ZERO).await?;
        Ok(())
    }

    /// What must hold once nothing fails any more.
    pub async fn settle(mut self) {
        if self.cluster.coordinator.check().is_err() {
            self.restart().await;
        }
        self.churn(60);
        self.checkpoint().await.expect("nothing fails any more");
        self.assert_restorable().await;
        self.collect().await.unwrap();
        self.collect().await.unwrap();
        self.assert_exact().await;
        self.assert_restorable().await;
    }

    /// Every acknowledged checkpoint holds what the state was, key by key, and restores on any number of subtasks.
    pub async fn assert_restorable(&mut self) {
        let witness = self.remote.witness();
        let view = JobView::read(&*witness, self.cluster.coordinator.layout()).await.unwrap();
        for folder in self.acknowledged.clone() {
            assert!(view.checkpoints.contains_key(&folder), "{folder} was acknowledged and does not count");
            let at = view.layout.checkpoint(folder).unwrap();
            let checkpoint = read_checkpoint(witness.clone(), Some(at)).await.unwrap();
            let mut found = Model::default();
            for index in 0..RESTORED_SUBTASKS {
                let plan = RestorePlan::new(&checkpoint.metadata, &operator(), index, RESTORED_SUBTASKS).unwrap();
                let task = self.cluster.restored_task(self.kind, &plan, &checkpoint).await.unwrap();
                found.merge(Subject::over(task).unwrap().read().unwrap());
            }
            assert!(found == self.tried[&folder], "{folder} holds other state than there was");
        }
    }

    /// I5: what lies there is what the checkpoints that count need, and the records of one owner.
    pub async fn assert_exact(&self) {
        let witness = self.remote.witness();
        let layout: &JobLayout = self.cluster.coordinator.layout();
        let view = JobView::read(&*witness, layout).await.unwrap();
        let mut needed: BTreeSet<StorePath> = BTreeSet::new();
        for (folder, checkpoint) in &view.checkpoints {
            needed.insert(layout.metadata(*folder).unwrap());
            needed.extend(view.references(checkpoint.content.as_ref().unwrap()));
        }
        let epoch = self.cluster.coordinator.epoch();
        let is_record = |path: &StorePath| match Place::of(layout, path) {
            Some(Place::Claim(of) | Place::Start(of) | Place::End(of)) => of == epoch,
            // A probe whose delete was lost; a later probe takes it along.
            None => path.as_str().starts_with(".icecore-probe/"),
            _ => false,
        };
        let there: Vec<StorePath> = witness.list(None).map_ok(|object| object.path).try_collect().await.unwrap();
        let there: BTreeSet<StorePath> = there.into_iter().filter(|path| !is_record(path)).collect();
        let surplus: Vec<_> = there.difference(&needed).collect();
        let missing: Vec<_> = needed.difference(&there).collect();
        assert!(surplus.is_empty() && missing.is_empty(), "surplus {surplus:#?}, missing {missing:#?}");
        let unfinished = witness.remove_unfinished(None, Duration::ZERO).await.unwrap();
        assert_eq!(unfinished, 0, "uploads that nobody finishes were left");
    }
}
