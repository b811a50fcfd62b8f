//! What may take long can be spawned on a runtime with many threads: its future is `Send` when it owns what it borrows.
//! Nothing here runs; it compiles or it does not.

use std::path::PathBuf;
use std::sync::Arc;

use icecore::coordinator::{Coordinator, CoordinatorOptions, RetentionPolicy};
use icecore::copy::{CopyOptions, CopyPlan, CopySource, SavepointPlan, copy_checkpoints, copy_savepoint};
use icecore::env::Env;
use icecore::layout::{JobId, JobLayout};
use icecore::metadata::FileEntry;
use icecore::ownership::JobView;
use icecore::restore::{
    Checkpoint, FetchOptions, RestorePlan, export_checkpoint, read_checkpoint, restore_folder, verify_checkpoint,
};
use icecore::snapshot::{LocalSnapshot, Snapshotter, Trigger};
use icecore::store::{StorePath, StoreRef};
use icecore::task::HeapTask;
use icecore::transfer::{NoProgress, TransferLimits};

fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) {
    drop(future);
}

#[allow(dead_code)]
fn restores(
    env: Env,
    checkpoint: Checkpoint,
    files: Vec<FileEntry>,
    target: PathBuf,
    plan: RestorePlan,
    with: Arc<Snapshotter>,
) {
    spawn({
        let (env, checkpoint, files, target) = (env.clone(), checkpoint.clone(), files.clone(), target.clone());
        async move { restore_folder(&env, &checkpoint, &files, &target, &FetchOptions::default()).await }
    });
    #[cfg(feature = "rocksdb")]
    spawn({
        let (env, checkpoint, plan, with) = (env.clone(), checkpoint.clone(), plan.clone(), with.clone());
        let options = icecore::state::rocksdb::RocksDbOptions::default();
        async move {
            let fetch = FetchOptions::default();
            icecore::task::RocksDbTask::restore(&plan, &checkpoint, &target, options, with, env, &fetch).await
        }
    });
    spawn(async move { HeapTask::restore(&plan, &checkpoint, with, env, &FetchOptions::default()).await });
}

#[allow(dead_code)]
fn reads(env: Env, store: StoreRef, folder: StorePath, checkpoint: Checkpoint, layout: JobLayout) {
    let limits = TransferLimits::default();
    spawn(read_checkpoint(store.clone(), Some(folder.clone())));
    spawn({
        let (env, checkpoint) = (env.clone(), checkpoint.clone());
        async move { verify_checkpoint(&env, &checkpoint, true, limits, &NoProgress).await }
    });
    spawn({
        let store = store.clone();
        async move { export_checkpoint(&env, &checkpoint, &store, Some(&folder), limits, &NoProgress).await }
    });
    spawn(async move { JobView::read(&*store, &layout).await });
}

#[allow(dead_code)]
fn snapshots(snapshotter: Snapshotter, trigger: Trigger, snapshot: LocalSnapshot) {
    spawn(async move { snapshotter.upload(&trigger, snapshot).await });
}

#[allow(dead_code)]
fn owning(store: StoreRef, job: JobId, env: Env, coordinator: Arc<Coordinator>, path: StorePath) {
    spawn(Coordinator::start(store, job, vec![], env, CoordinatorOptions::default(), vec![]));
    let owner = coordinator.clone();
    spawn(async move { owner.latest().await });
    let owner = coordinator.clone();
    spawn(async move { owner.trigger_savepoint(&path).await });
    let owner = coordinator.clone();
    spawn(async move { owner.apply_retention(RetentionPolicy::default(), false).await });
    spawn(async move { coordinator.end().await });
}

#[allow(dead_code)]
fn copies(env: Env, source: CopySource, plan: CopyPlan, target: Arc<Coordinator>) {
    spawn(async move {
        let mut never = futures::future::pending();
        copy_checkpoints(&env, &source, &plan, &target, &CopyOptions::default(), &NoProgress, &mut never).await
    });
}

#[allow(dead_code)]
fn copies_savepoints(env: Env, source: Checkpoint, target: StoreRef, path: StorePath) {
    spawn(async move {
        let plan = SavepointPlan::new(&source, &target, &path).await?;
        copy_savepoint(&env, &source, &target, &plan, TransferLimits::default(), &NoProgress).await
    });
}
