//! Savepoints: the user's, self-contained, and none of retention's business.

use icecore::ErrorKind;
use icecore::gc::SweepScope;
use icecore::metadata::CheckpointKind;
use icecore::restore::read_checkpoint;
use icecore::store::StorePath;
use icecore::store::testing::{Fault, Rule, Step};

use crate::support::*;

#[tokio::test]
async fn a_savepoint_is_not_subsumed_and_not_retained_away_and_stands_on_its_own() {
    let (world, coordinator, mut task) = one_task(keep(1)).await;
    task.write("1.sst", "a");
    checkpoint(&coordinator, &[&task]).await;
    let path = StorePath::new("mine/savepoint-1").unwrap();
    let trigger = coordinator.trigger_savepoint(&path).await.unwrap();
    task.write("2.sst", "b");
    // Newer checkpoints complete while the savepoint is in flight, and after it.
    checkpoint(&coordinator, &[&task]).await;
    finish(&coordinator, &[&task], &trigger).await;
    task.write("1.sst", "c");
    checkpoint(&coordinator, &[&task]).await;
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    let savepoint = read_checkpoint(world.memory.clone(), Some(path)).await.unwrap();
    assert_eq!(savepoint.metadata.kind, CheckpointKind::Savepoint);
    for file in savepoint.metadata.files() {
        let stored = savepoint.stored_file(file).unwrap();
        assert!(stored.object.as_str().starts_with("mine/savepoint-1/"), "{stored:?}");
        assert_eq!(sha256(&world.read(&stored.object).await.unwrap()), file.sha256.0);
    }
    assert_eq!(savepoint.metadata.files().count(), 2);
    assert_eq!(coordinator.completed().len(), 1, "the checkpoints are retained without it");
}

#[tokio::test]
async fn a_savepoint_in_the_jobs_folder_is_refused() {
    let world = World::new();
    let coordinator = world.coordinator(1, keep(1)).await;
    assert_eq!(coordinator.trigger(CheckpointKind::Savepoint).unwrap_err().kind(), ErrorKind::InvalidInput);
    let inside = StorePath::new("job-j/mine").unwrap();
    assert_eq!(coordinator.trigger_savepoint(&inside).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_savepoint_at_a_path_that_is_taken_is_refused() {
    let (world, coordinator, task) = one_task(keep(1)).await;
    let path = StorePath::new("mine").unwrap();
    let trigger = coordinator.trigger_savepoint(&path).await.unwrap();
    let in_flight = coordinator.trigger_savepoint(&path).await.unwrap_err();
    assert_eq!(in_flight.kind(), ErrorKind::AlreadyExists, "another one is on its way there");
    finish(&coordinator, &[&task], &trigger).await;
    let before = world.objects().await;
    let there = coordinator.trigger_savepoint(&path).await.unwrap_err();
    assert_eq!(there.kind(), ErrorKind::AlreadyExists, "it is there");
    assert_eq!(world.objects().await, before);
    coordinator.trigger_savepoint(&StorePath::new("mine-2").unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_savepoint_that_cannot_be_written_leaves_the_job_as_it_was() {
    let (world, coordinator, mut task) = one_task(keep(3)).await;
    task.write("1.sst", "a");
    checkpoint(&coordinator, &[&task]).await;
    let fault = Fault::Fail(ErrorKind::StorageFull);
    world.store.inject(Rule::on(Step::Put).path_ends_with("mine/_metadata"), fault).unwrap();
    let trigger = coordinator.trigger_savepoint(&StorePath::new("mine").unwrap()).await.unwrap();
    coordinator.acknowledge(task.upload(&trigger).await.unwrap()).await.unwrap_err();
    checkpoint(&coordinator, &[&task]).await;
    assert_eq!(world.counting_ids().await.len(), 2);
    world.assert_sound("after the savepoint failed").await;
}
