//! Objects that are damaged on the store, under real state: found, shared no further, stored anew from the
//! live state and nothing else is, and restored key by key; older checkpoints stay damaged until they go.

mod state_model;
mod task_support;

use std::collections::BTreeSet;
use std::time::Duration;

use icecore::gc::SweepScope;
use icecore::layout::SharedName;
use icecore::metadata::{CheckpointKind, FileEntry, Location};
use icecore::restore::{Checkpoint, VerifyReport, verify_checkpoint};
use icecore::store::StorePath;
use icecore::transfer::{NoProgress, TransferLimits};
use task_support::test_store::{Damage, damage};
use task_support::{Cluster, Dice, Kind};

const KEYS: u64 = 3_000;
const SHARED: &str = "job-test/shared/";

fn shared_object(file: &FileEntry) -> Option<(&StorePath, SharedName)> {
    let Location::InRoot(object) = &file.location else { return None };
    Some((object, object.file_name().parse().unwrap()))
}

fn shared_objects(checkpoint: &Checkpoint) -> BTreeSet<StorePath> {
    checkpoint.metadata.files().filter_map(shared_object).map(|(object, _)| object.clone()).collect()
}

async fn verify(cluster: &Cluster, checkpoint: &Checkpoint) -> VerifyReport {
    verify_checkpoint(&cluster.env, checkpoint, true, TransferLimits::default(), &NoProgress).await.unwrap()
}

/// Takes an incremental checkpoint. Returns the bytes that it wrote into `shared/`.
async fn checkpoint(cluster: &mut Cluster) -> (u64, Checkpoint) {
    cluster.counting.reset();
    cluster.checkpoint(CheckpointKind::Incremental).await;
    let written = cluster.counting.traffic(SHARED).written_bytes;
    (written, cluster.coordinator.latest().await.unwrap().unwrap())
}

/// A job at rest: compactions are over, so that a checkpoint has nothing to send.
async fn at_rest(kind: Kind) -> (Cluster, Checkpoint) {
    let mut cluster = Cluster::start(kind, 16, 2).await;
    let mut dice = Dice(11);
    for _ in 0..6_000 {
        cluster.apply(&dice.operation(KEYS));
    }
    for _ in 0..100 {
        let (written, checkpoint) = checkpoint(&mut cluster).await;
        if written == 0 {
            return (cluster, checkpoint);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not come to rest");
}

async fn heals(kind: Kind, how: Damage) {
    let (mut cluster, sound) = at_rest(kind).await;
    let largest =
        sound.metadata.files().filter(|file| shared_object(file).is_some()).max_by_key(|file| file.size_bytes);
    let (object, name, size_bytes) = {
        let file = largest.unwrap();
        let (object, name) = shared_object(file).unwrap();
        (object.clone(), name, file.size_bytes)
    };
    damage(&cluster.store, &object, how).await;
    let old = cluster.coordinator.latest().await.unwrap().unwrap();
    let found = verify(&cluster, &old).await.damaged;
    assert_eq!(found.iter().map(|damage| &damage.object).collect::<Vec<_>>(), [&object], "{how:?}");
    cluster.coordinator.pin(old.metadata.folder(), "for the test").await.unwrap();

    let done = cluster.coordinator.distrust(&[name], &found[0].reason).await.unwrap();
    assert_eq!(done.marked, [name]);
    let (written, new) = checkpoint(&mut cluster).await;
    assert_eq!(written, size_bytes, "{how:?}: what is damaged, and nothing else");
    assert!(verify(&cluster, &new).await.is_sound(), "{how:?}");
    let (before, after) = (shared_objects(&old), shared_objects(&new));
    assert_eq!(before.difference(&after).collect::<Vec<_>>(), [&object], "{how:?}");
    assert_eq!(after.difference(&before).count(), 1, "{how:?}");
    let (written, _) = checkpoint(&mut cluster).await;
    assert_eq!(written, 0, "{how:?}: once is enough");

    // Key by key, at another parallelism (I10). The pinned one is as damaged as it was.
    cluster.restart(kind, 3).await;
    cluster.assert_equals_model(&format!("{how:?}"));
    assert_eq!(verify(&cluster, &old).await.damaged.len(), 1, "{how:?}");

    // Once it is let go, the damaged object goes, and the record of it (I5).
    cluster.coordinator.unpin(old.metadata.folder()).await.unwrap();
    let (_, last) = checkpoint(&mut cluster).await;
    cluster.coordinator.collect(SweepScope::Everything, false).await.unwrap();
    let there: BTreeSet<String> = names(&cluster, SHARED).await;
    let needed: BTreeSet<String> = shared_objects(&last).iter().map(|object| object.file_name().to_owned()).collect();
    assert_eq!(there, needed, "{how:?}");
    assert_eq!(names(&cluster, "job-test/distrusted").await.len(), 0, "{how:?}");
}

async fn names(cluster: &Cluster, folder: &str) -> BTreeSet<String> {
    let folder = StorePath::new(folder.trim_end_matches('/')).unwrap();
    let children = cluster.store.list_children(Some(&folder)).await.unwrap();
    children.into_iter().map(|child| child.name).collect()
}

#[tokio::test]
async fn damaged_chunks_of_a_heap_are_stored_anew() {
    for how in [Damage::FlippedByte, Damage::CutInTheMiddle, Damage::Deleted] {
        heals(Kind::Heap, how).await;
    }
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn damaged_tables_of_a_rocksdb_task_are_stored_anew() {
    for how in [Damage::FlippedByte, Damage::CutInTheMiddle, Damage::Deleted] {
        heals(Kind::RocksDb, how).await;
    }
}
