//! The state restored from a copy is the state of the original, key by key, on any number of subtasks (I10).

mod state_model;
mod task_support;

use std::sync::Arc;

use icecore::coordinator::{Coordinator, CoordinatorOptions, RetentionPolicy};
use icecore::copy::{CopyOptions, CopyPlan, CopySource, SavepointPlan, copy_checkpoints, copy_savepoint};
use icecore::layout::{JobId, JobLayout};
use icecore::metadata::CheckpointKind;
use icecore::ownership::JobView;
use icecore::restore::read_checkpoint;
use icecore::store::{OpendalStore, StorePath, StoreRef};
use icecore::transfer::{NoProgress, TransferLimits};
use task_support::{Cluster, Dice, Kind};

fn layout() -> JobLayout {
    JobLayout::new(JobId::new("test").unwrap()).unwrap()
}

/// Copies what the cluster retains to `target`, and tells how many bytes were sent.
async fn copy(cluster: &Cluster, target: &StoreRef) -> u64 {
    let view = JobView::read(&*cluster.store, &layout()).await.unwrap();
    let source = CopySource { store: cluster.store.clone(), view };
    let retention = RetentionPolicy { last: u32::MAX, ..RetentionPolicy::default() };
    let options = CoordinatorOptions { retention, ..CoordinatorOptions::default() };
    let (job, env) = (layout().job().clone(), cluster.env.clone());
    let owner = Coordinator::start(target.clone(), job, vec![], env.clone(), options, vec![]).await.unwrap();
    let chosen: Vec<_> = source.view.checkpoints.keys().copied().collect();
    let options = CopyOptions::default();
    let plan = CopyPlan::new(&source.view, &chosen, &owner.view(), &options).unwrap();
    let mut never = futures::future::pending();
    let report = copy_checkpoints(&env, &source, &plan, &owner, &options, &NoProgress, &mut never).await;
    owner.end().await.unwrap();
    report.into_result().unwrap().sent_bytes()
}

async fn restores_from_the_copy(kind: Kind) {
    let mut cluster = Cluster::start(kind, 128, 2).await;
    let target: StoreRef = Arc::new(OpendalStore::memory(cluster.env.clone()).unwrap());
    let mut dice = Dice(5);
    let mut sent = Vec::new();
    for round in 0..4 {
        // Of few keys later, as small chunks of neighbouring key groups share a file.
        let (operations, keys) = if round == 0 { (3_000, 400) } else { (100, 3) };
        for _ in 0..operations {
            cluster.apply(&dice.operation(keys));
        }
        let checkpoint = if round == 2 { CheckpointKind::Full } else { CheckpointKind::Incremental };
        cluster.checkpoint(checkpoint).await;
        sent.push(copy(&cluster, &target).await);
        let newest = JobView::read(&*target, &layout()).await.unwrap().newest().unwrap().folder;
        let folder = Some(layout().checkpoint(newest).unwrap());
        let from = read_checkpoint(target.clone(), folder).await.unwrap();
        assert_eq!(from.metadata.kind, checkpoint);
        for (to, parallelism) in [(kind, 2), (kind, 3), (kind, 1)] {
            // A full checkpoint is read by either backend; what is restored goes on at the original's side.
            cluster.restart_from(&from, to, parallelism).await;
            cluster.assert_equals_model(&format!("{kind:?}, checkpoint {}, on {parallelism}", round + 1));
        }
        cluster.restart(kind, 2).await;
    }
    assert!(sent.iter().all(|bytes| *bytes > 0));
    // The second sends what a hundred operations changed.
    assert!(sent[1] < sent[0], "{sent:?}");
}

#[tokio::test]
async fn heap_state_restores_from_a_copy_as_from_the_original() {
    restores_from_the_copy(Kind::Heap).await;
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn rocksdb_state_restores_from_a_copy_as_from_the_original() {
    restores_from_the_copy(Kind::RocksDb).await;
}

#[tokio::test]
async fn a_copied_savepoint_restores() {
    let mut cluster = Cluster::start(Kind::Heap, 128, 2).await;
    let target: StoreRef = Arc::new(OpendalStore::memory(cluster.env.clone()).unwrap());
    let mut dice = Dice(9);
    for _ in 0..500 {
        cluster.apply(&dice.operation(60));
    }
    cluster.savepoint("kept/one").await;
    let source = cluster.open_savepoint("kept/one").await;
    let path = StorePath::new("kept/one").unwrap();
    let plan = SavepointPlan::new(&source, &target, &path).await.unwrap();
    let limits = TransferLimits::default();
    copy_savepoint(&cluster.env, &source, &target, &plan, limits, &NoProgress).await.unwrap();
    let from = read_checkpoint(target, Some(path)).await.unwrap();
    cluster.restart_from(&from, Kind::Heap, 3).await;
    cluster.assert_equals_model("a copied savepoint");
}
