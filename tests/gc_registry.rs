//! The collector with the real registry behind it.
#![cfg(feature = "test-support")]

mod ownership_support;

use std::collections::BTreeSet;
use std::sync::Arc;

use icecore::gc::{Collector, Holdings, Judge, Progress, SweepScope, plan_drop, plan_release, plan_sweep};
use icecore::layout::{CheckpointId, ContentHash, FileKind, SharedName, Tag, Uid};
use icecore::ownership::JobView;
use icecore::registry::{Registry, UploadDecision};
use ownership_support::{Party, World, shared_of};

/// A registry of what the view says, as a coordinator rebuilds it.
fn rebuilt(view: &JobView) -> Arc<Registry> {
    let files = |checkpoint: &icecore::ownership::CheckpointView| {
        let metadata = checkpoint.content.as_ref().ok()?;
        let files: Vec<_> = shared_of(&view.layout, metadata).into_iter().map(|name| (name.hash, name, 8)).collect();
        Some((checkpoint.folder.checkpoint, files))
    };
    Registry::rebuild(view.checkpoints.values().filter_map(files)).unwrap().registry
}

/// Three checkpoints; each has the file of the one before it, and one of its own.
async fn chain(world: &World) -> Party {
    let party = world.party().await;
    let mut last = BTreeSet::new();
    for id in 1..=3 {
        party.checkpoint_reusing(last).await.unwrap();
        last = party.held.by_checkpoint.lock()[&CheckpointId(id)]
            .iter()
            .filter(|name| name.tag.checkpoint == CheckpointId(id))
            .copied()
            .collect();
    }
    party
}

#[tokio::test]
async fn what_the_registry_frees_is_what_the_indexes_say() {
    let world = World::new();
    let party = chain(&world).await;
    let view = world.view().await;
    let registry = rebuilt(&view);
    let drops = [(party.folder(CheckpointId(1)), "old".to_owned()), (party.folder(CheckpointId(2)), "old".to_owned())];
    let by_view = plan_drop(&*world.mem, &view, &drops).await.unwrap();
    let by_registry = plan_release(&*world.mem, &view, &*registry, &drops).await.unwrap();
    assert_eq!(by_registry, by_view);
    let collector = Collector::new(Arc::clone(&party.tenure), registry.clone());
    collector.execute(by_registry).await.into_result().unwrap();
    assert_eq!(registry.checkpoints(), [CheckpointId(3)]);
    world.assert_nothing_unreferenced().await;
}

#[tokio::test]
async fn a_file_that_a_checkpoint_in_flight_was_given_survives_the_drop_of_its_last_checkpoint() {
    let world = World::new();
    let party = chain(&world).await;
    let view = world.view().await;
    let registry = rebuilt(&view);
    let only_in_first = *party.held.by_checkpoint.lock()[&CheckpointId(1)].first().unwrap();
    registry.begin_pending(CheckpointId(4)).unwrap();
    let answer = registry.begin_upload(CheckpointId(4), only_in_first.hash, 8, FileKind::Sst, || unreachable!());
    assert!(matches!(answer, Ok(UploadDecision::Stored(name)) if name == only_in_first));
    let drops = [1, 2].map(|id| (party.folder(CheckpointId(id)), "old".to_owned()));
    // A dry run does not know; the execution asks.
    let plan = plan_drop(&*world.mem, &view, &drops).await.unwrap();
    let collector = Collector::new(Arc::clone(&party.tenure), registry.clone());
    let report = collector.execute(plan).await;
    let path = world.layout.shared_object(&only_in_first).unwrap();
    assert_eq!(report.kept, std::slice::from_ref(&path));
    assert!(world.mem.has(&path));
    // The checkpoint in flight is given up: now it is an orphan, and the sweep takes it.
    registry.abort(CheckpointId(4)).unwrap();
    let progress = Progress { next: CheckpointId(5), in_flight: BTreeSet::new() };
    let (view, done) = (world.view().await, BTreeSet::new());
    let judge = Judge::new(&view, &*registry, party.tenure.epoch(), &progress, &done);
    let plan = plan_sweep(&*world.mem, &world.layout, &judge, SweepScope::Everything).await.unwrap();
    collector.execute(plan).await.into_result().unwrap();
    assert!(!world.mem.has(&path));
    world.assert_nothing_unreferenced().await;
}

#[tokio::test]
async fn a_sweep_spares_an_upload_in_flight_of_an_aborted_checkpoint_that_another_one_waits_for() {
    let world = World::new();
    let party = world.party().await;
    let registry = Registry::new();
    let hash = ContentHash::of(b"x");
    let tag = |id| Tag { epoch: party.tenure.epoch(), generation: 0, checkpoint: CheckpointId(id), upload: Uid(id) };
    for id in [1, 2] {
        registry.begin_pending(CheckpointId(id)).unwrap();
    }
    let first = registry.begin_upload(CheckpointId(1), hash, 1, FileKind::Sst, || tag(1)).unwrap();
    let second = registry.begin_upload(CheckpointId(2), hash, 1, FileKind::Sst, || tag(2)).unwrap();
    let (UploadDecision::Upload(guard), UploadDecision::InFlight(waiter)) = (first, second) else {
        panic!("one uploads, one waits");
    };
    let name: SharedName = *guard.name();
    party.upload(&name).await.unwrap();
    registry.abort(CheckpointId(1)).unwrap();
    let progress = Progress { next: CheckpointId(3), in_flight: [CheckpointId(2)].into() };
    let (view, done) = (world.view().await, BTreeSet::new());
    let judge = Judge::new(&view, &*registry, party.tenure.epoch(), &progress, &done);
    let plan = plan_sweep(&*world.mem, &world.layout, &judge, SweepScope::Everything).await.unwrap();
    assert!(plan.is_empty(), "{plan}");
    assert!(!Holdings::condemn(&*registry, &name), "nor by an older plan");
    guard.complete().unwrap();
    waiter.wait().await.unwrap();
}

#[tokio::test]
async fn an_index_that_was_unreadable_at_the_claim_keeps_its_files_once_it_is_readable() {
    let world = World::new();
    chain(&world).await;
    let second = world.view().await.checkpoints.keys().nth(1).copied().unwrap();
    let path = world.layout.metadata(second).unwrap();
    let sound = world.mem.remove(&path).unwrap();
    world.mem.overwrite(&path, b"torn");
    let owner = world.party().await;
    let registry = rebuilt(&owner.adopted);
    assert!(!registry.is_registered(second.checkpoint));
    world.mem.remove(&path);
    icecore::store::Store::put(&*world.mem, &path, sound).await.unwrap();
    let (view, first) = (world.view().await, *owner.adopted.checkpoints.keys().next().unwrap());
    let plan = plan_release(&*world.mem, &view, &*registry, &[(first, "old".to_owned())]).await.unwrap();
    assert!(plan.blocked.is_empty());
    world.dropped.lock().insert(first);
    Collector::new(Arc::clone(&owner.tenure), registry).execute(plan).await.into_result().unwrap();
    world.assert_sound("after the drop").await;
}
