//! What is planned to be deleted, what never is, and what the plan says to people.
#![cfg(feature = "test-support")]

mod ownership_support;

use std::collections::BTreeSet;

use bytes::Bytes;
use icecore::ErrorKind;
use icecore::gc::{
    Fate, Judge, Keep, Progress, Reason, SweepScope, explain, plan_drop, plan_listed, plan_repair, plan_sweep,
    plan_unpin,
};
use icecore::layout::{CheckpointId, Place, RefName, Uid};
use icecore::metadata::{ControlRecord, Ref};
use icecore::store::{ObjectMeta, Store, StorePath};
use ownership_support::{Party, World};

async fn three_checkpoints(world: &World) -> Party {
    let party = world.party().await;
    for _ in 0..3 {
        party.checkpoint().await.unwrap();
    }
    party
}

fn nth(party: &Party, id: u64) -> icecore::layout::CheckpointFolder {
    party.folder(CheckpointId(id))
}

#[tokio::test]
async fn dropping_frees_exactly_what_nothing_else_references() {
    let world = World::new();
    let party = world.party().await;
    let first = party.checkpoint().await.unwrap();
    let shared: BTreeSet<_> = party.held.reusable();
    let own = party.checkpoint_reusing([].into()).await.unwrap();
    party.checkpoint_reusing(shared.clone()).await.unwrap();
    let plan =
        plan_drop(&*world.mem, &world.view().await, &[(first, "old".into()), (own, "old".into())]).await.unwrap();
    let planned: Vec<_> = plan.objects.iter().map(|object| object.reason).collect();
    assert_eq!(planned.iter().filter(|reason| **reason == Reason::DroppedIndex).count(), 2);
    assert_eq!(planned[..2], [Reason::DroppedIndex; 2], "indexes go first");
    assert_eq!(planned.iter().filter(|reason| **reason == Reason::UnreferencedShared).count(), 1, "{plan}");
    party.drop_checkpoints(&[first, own]).await.unwrap().into_result().unwrap();
    world.assert_sound("after the drop").await;
    world.assert_nothing_unreferenced().await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_it_would_do() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let before = world.mem.paths();
    let plan =
        plan_drop(&*world.mem, &world.view().await, &[(nth(&party, 1), "not among the last 2".into())]).await.unwrap();
    assert_eq!(world.mem.paths(), before);
    let text = plan.to_string();
    assert!(text.contains("not among the last 2") && text.contains("index of a dropped checkpoint"), "{text}");
    assert!(
        text.ends_with(&format!("1 checkpoints dropped, 2 objects, {} bytes to delete", plan.total_bytes())),
        "{text}"
    );
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["objects"][0]["reason"], "dropped-index");
    assert_eq!(json["dropped"][0]["folder"], nth(&party, 1).to_string());
}

#[tokio::test]
async fn the_newest_checkpoint_is_never_dropped() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let plan = plan_drop(&*world.mem, &world.view().await, &[(nth(&party, 3), "asked for".into())]).await.unwrap();
    assert!(plan.is_empty());
    assert!(plan.refused[0].why.contains("newest"), "{plan}");
}

#[tokio::test]
async fn a_pinned_checkpoint_is_dropped_only_after_its_pins_are_gone() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let folder = nth(&party, 1);
    party.collector.pin(&world.view().await, folder, "audit").await.unwrap();
    let view = world.view().await;
    assert_eq!(view.holds(folder).next().unwrap().note, Ok("audit".to_owned()));
    let plan = plan_drop(&*world.mem, &view, &[(folder, "old".into())]).await.unwrap();
    assert!(plan.is_empty() && plan.refused[0].why.contains("pins/"), "{plan}");
    party.collector.note_view(&view);
    party.collector.execute(plan_unpin(&view, folder).unwrap()).await.into_result().unwrap();
    let plan = plan_drop(&*world.mem, &world.view().await, &[(folder, "old".into())]).await.unwrap();
    assert_eq!(plan.dropped.len(), 1);
}

#[tokio::test]
async fn a_plan_that_is_older_than_a_pin_is_refused() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let folder = nth(&party, 1);
    let view = world.view().await;
    let plan = plan_drop(&*world.mem, &view, &[(folder, "old".into())]).await.unwrap();
    party.collector.pin(&view, folder, "audit").await.unwrap();
    let report = party.collector.execute(plan).await;
    assert_eq!(report.stopped.unwrap().kind(), ErrorKind::Changed);
    assert!(world.mem.has(&world.layout.metadata(folder).unwrap()));
}

#[tokio::test]
async fn a_checkpoint_that_was_dropped_cannot_be_pinned_by_an_older_view() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let view = world.view().await;
    party.drop_checkpoints(&[nth(&party, 1)]).await.unwrap().into_result().unwrap();
    let error = party.collector.pin(&view, nth(&party, 1), "too late").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn pins_outlive_their_tenure_and_a_zombies_pin_does_not_count() {
    let world = World::new();
    let first = three_checkpoints(&world).await;
    let folder = nth(&first, 1);
    first.collector.pin(&world.view().await, folder, "audit").await.unwrap();
    let second = world.party().await;
    assert_eq!(second.adopted.pins.len(), 1);
    let error = first.collector.pin(&first.adopted, folder, "late").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Fenced));
    let late = RefName { folder: nth(&first, 2), writer: first.tenure.epoch(), uid: Uid(7) };
    world.mem.overwrite(&world.layout.pin(&late).unwrap(), b"whatever");
    assert_eq!(world.view().await.pins.len(), 1, "a superseded epoch wrote it after the start");
    second.sweep(SweepScope::Records).await.unwrap().into_result().unwrap();
    assert!(!world.mem.has(&world.layout.pin(&late).unwrap()));
    assert_eq!(world.view().await.pins.len(), 1);
}

#[tokio::test]
async fn another_jobs_ref_keeps_a_checkpoint_even_if_its_body_cannot_be_read() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    for (id, is_readable) in [(1, true), (2, false)] {
        let name = RefName { folder: nth(&party, id), writer: party.tenure.epoch(), uid: Uid(id) };
        let holder = icecore::layout::JobId::new("other").unwrap();
        let bytes = Ref { name, holder, created_at_unix_ms: 0 }.encode().unwrap();
        let path = world.layout.reference(&name).unwrap();
        match is_readable {
            true => world.mem.put(&path, Bytes::from(bytes)).await.unwrap(),
            false => world.mem.overwrite(&path, b"torn"),
        }
    }
    let drops = [(nth(&party, 1), "old".into()), (nth(&party, 2), "old".into())];
    let plan = plan_drop(&*world.mem, &world.view().await, &drops).await.unwrap();
    assert!(plan.is_empty());
    assert_eq!(plan.refused.len(), 2);
    let second = world.party().await;
    assert_eq!(second.adopted.refs.len(), 2, "both are adopted");
    second.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    assert_eq!(world.view().await.refs.len(), 2);
}

#[tokio::test]
async fn an_unreadable_index_keeps_every_shared_file_and_is_named() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let damaged = world.layout.metadata(nth(&party, 2)).unwrap();
    let only_there = party.fresh_name(CheckpointId(2));
    party.upload(&only_there).await.unwrap();
    world.mem.overwrite(&damaged, b"torn");
    let report = party.sweep(SweepScope::Everything).await.unwrap();
    assert!(report.is_finished() && report.deleted_objects == 0, "{report}");
    assert!(world.mem.has(&world.layout.shared_object(&only_there).unwrap()));
    let view = world.view().await;
    let (progress, done) = (party.progress(), BTreeSet::new());
    let judge = Judge::new(&view, &*party.held, party.tenure.epoch(), &progress, &done);
    let plan = plan_sweep(&*world.mem, &world.layout, &judge, SweepScope::Everything).await.unwrap();
    assert_eq!((plan.blocked.len(), plan.blocked_objects), (1, 1));
    assert_eq!(plan.blocked[0].object, damaged);
    assert!(plan.to_string().contains(&format!("blocked by {damaged}: shared files stays")), "{plan}");
    let plan = plan_drop(&*world.mem, &view, &[(nth(&party, 2), "old".into())]).await.unwrap();
    assert!(plan.is_empty() && plan.refused[0].why.contains("repair"), "{plan}");
}

#[tokio::test]
async fn repair_gives_an_unreadable_checkpoint_up_and_the_next_sweep_frees_what_only_it_had() {
    let world = World::new();
    let party = world.party().await;
    let damaged = party.checkpoint_reusing([].into()).await.unwrap();
    let sound = party.checkpoint_reusing([].into()).await.unwrap();
    world.mem.overwrite(&world.layout.metadata(damaged).unwrap(), b"torn");
    let owner = world.party().await;
    assert!(!plan_repair(&*world.mem, &world.view().await, sound).await.unwrap().refused.is_empty());
    let plan = plan_repair(&*world.mem, &world.view().await, damaged).await.unwrap();
    world.dropped.lock().insert(damaged);
    owner.collector.execute(plan).await.into_result().unwrap();
    owner.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    world.assert_sound("after repair").await;
    world.assert_nothing_unreferenced().await;
}

#[tokio::test]
async fn an_unreadable_list_of_the_owner_blocks_every_deletion() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let list = world.layout.condemned_list(party.tenure.epoch(), Uid(5)).unwrap();
    world.mem.overwrite(&list, b"torn");
    let plan = plan_drop(&*world.mem, &world.view().await, &[(nth(&party, 1), "old".into())]).await.unwrap();
    assert!(plan.is_empty() && plan.refused[0].why.contains(list.as_str()), "{plan}");
    let orphan = party.fresh_name(CheckpointId(2));
    party.upload(&orphan).await.unwrap();
    assert_eq!(party.sweep(SweepScope::Everything).await.unwrap().deleted_objects, 0);
    assert!(world.mem.has(&world.layout.shared_object(&orphan).unwrap()));
}

#[tokio::test]
async fn an_index_of_a_version_that_is_not_known_blocks_like_a_damaged_one() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let path = world.layout.metadata(nth(&party, 1)).unwrap();
    let mut bytes = world.mem.remove(&path).unwrap().to_vec();
    bytes[8] = 99;
    let body = bytes.len() - 32;
    let hash = icecore::layout::ContentHash::of(&bytes[..body]);
    bytes[body..].copy_from_slice(&hash.0);
    world.mem.put(&path, Bytes::from(bytes)).await.unwrap();
    let view = world.view().await;
    assert_eq!(view.checkpoints[&nth(&party, 1)].content.as_ref().unwrap_err().kind, ErrorKind::Unsupported);
    assert_eq!(view.all_blockers().len(), 1);
    let plan = plan_drop(&*world.mem, &view, &[(nth(&party, 2), "old".into())]).await.unwrap();
    assert!(plan.objects.iter().all(|object| !matches!(object.place, Place::Shared(_))));
}

#[tokio::test]
async fn a_zombies_late_upload_goes_with_the_next_sweep_and_an_upload_in_flight_stays() {
    let world = World::new();
    let zombie = three_checkpoints(&world).await;
    let mut owner = world.party().await;
    owner.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    let late = zombie.fresh_name(CheckpointId(4));
    zombie.upload(&late).await.unwrap();
    zombie.upload_private(nth(&zombie, 4)).await.unwrap();
    let id = owner.tenure.next_checkpoint();
    owner.in_flight.insert(id);
    let young = owner.fresh_name(id);
    owner.upload(&young).await.unwrap();
    let report = owner.sweep(SweepScope::Everything).await.unwrap();
    assert_eq!(report.deleted_objects, 2, "{report}");
    assert!(world.mem.has(&world.layout.shared_object(&young).unwrap()));
    assert!(!world.mem.has(&world.layout.shared_object(&late).unwrap()));
    // Once that checkpoint is given up, its file is an orphan like any other.
    owner.in_flight.clear();
    let folder = owner.folder(id);
    owner.tenure.commit(owner.folder(CheckpointId(id.0 + 1)), Bytes::from_static(b"x")).await.unwrap();
    world.mem.remove(&world.layout.metadata(owner.folder(CheckpointId(id.0 + 1))).unwrap());
    owner.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    assert!(!world.mem.has(&world.layout.shared_object(&young).unwrap()), "{folder}");
}

#[tokio::test]
async fn an_abort_deletes_what_that_checkpoint_alone_created() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let before = world.mem.paths();
    let (aborted, used) = (nth(&party, 4), *party.held.reusable().first().unwrap());
    let created = party.fresh_name(CheckpointId(4));
    party.upload(&created).await.unwrap();
    party.upload_private(aborted).await.unwrap();
    let (view, done) = (world.view().await, BTreeSet::new());
    let progress = Progress { next: CheckpointId(5), in_flight: BTreeSet::new() };
    let judge = Judge::new(&view, &*party.held, party.tenure.epoch(), &progress, &done);
    // Whoever lists them may be wrong: a file that others hold is among them.
    let new = world.mem.paths().into_iter().filter(|path| !before.contains(path));
    let new = new.map(|path| StorePath::new(path).unwrap());
    let listed = new.chain([world.layout.shared_object(&used).unwrap()]);
    let plan = plan_listed(&world.layout, &judge, listed.map(|path| ObjectMeta { path, size_bytes: 0 }));
    assert_eq!(plan.objects.len(), 2, "{plan}");
    let report = party.collector.execute(plan).await;
    assert!(report.is_finished(), "{report}");
    assert_eq!(world.mem.paths(), before);
}

#[tokio::test]
async fn names_that_icecore_did_not_write_are_reported_and_left_alone() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let foreign: Vec<_> = ["notes.txt", "shared/README", "epochs/old/claim", "cp-1.x/y", "pins/mine"]
        .iter()
        .map(|name| StorePath::new(format!("job-j/{name}")).unwrap())
        .chain([world.layout.checkpoint(nth(&party, 1)).unwrap().join("notes.txt").unwrap()])
        .collect();
    foreign.iter().for_each(|path| world.mem.overwrite(path, b"mine"));
    party.drop_checkpoints(&[nth(&party, 1)]).await.unwrap().into_result().unwrap();
    let owner = world.party().await;
    owner.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    assert!(foreign.iter().all(|path| world.mem.has(path)));
    let (view, progress, done) = (world.view().await, owner.progress(), BTreeSet::new());
    let judge = Judge::new(&view, &*owner.held, owner.tenure.epoch(), &progress, &done);
    let plan = plan_sweep(&*world.mem, &world.layout, &judge, SweepScope::Everything).await.unwrap();
    assert_eq!(plan.foreign_objects, foreign.len() as u64);
}

#[tokio::test]
async fn a_plan_for_another_job_or_with_made_up_objects_deletes_nothing() {
    let world = World::new();
    let party = three_checkpoints(&world).await;
    let before = world.mem.paths();
    let mut plan = plan_drop(&*world.mem, &world.view().await, &[(nth(&party, 1), "old".into())]).await.unwrap();
    plan.job = icecore::layout::JobId::new("other").unwrap();
    assert_eq!(party.collector.execute(plan.clone()).await.stopped.unwrap().kind(), ErrorKind::InvalidInput);
    plan.job = world.layout.job().clone();
    plan.dropped.clear();
    plan.objects.truncate(1);
    plan.objects[0].path = world.layout.claim(party.tenure.epoch()).unwrap();
    let mut newest = plan.objects[0].clone();
    newest.place = Place::Claim(party.tenure.epoch());
    plan.objects.push(newest);
    let report = party.collector.execute(plan).await;
    assert_eq!(report.kept.len(), 2);
    assert_eq!(world.mem.paths(), before);
}

#[tokio::test]
async fn why_names_the_checkpoints_that_need_a_file_or_the_rule_that_deletes_it() {
    let world = World::new();
    let zombie = three_checkpoints(&world).await;
    let mut owner = world.party().await;
    let needed = *zombie.held.by_checkpoint.lock()[&CheckpointId(1)].first().unwrap();
    let orphan = zombie.fresh_name(CheckpointId(9));
    let id = owner.tenure.next_checkpoint();
    owner.in_flight.insert(id);
    let young = owner.fresh_name(id);
    let (view, progress, done) = (world.view().await, owner.progress(), BTreeSet::new());
    let judge = Judge::new(&view, &*owner.held, owner.tenure.epoch(), &progress, &done);
    let of = |name| explain(&view, &judge, &world.layout.shared_object(name).unwrap());
    let why = of(&needed);
    assert_eq!(why.referenced_by, [nth(&zombie, 1), nth(&zombie, 2), nth(&zombie, 3)]);
    assert!(!why.goes && why.to_string().contains(&format!("referenced by {}", nth(&zombie, 2))), "{why}");
    let why = of(&orphan);
    assert!(why.goes && why.because.contains("superseded"), "{why}");
    let why = of(&young);
    assert!(!why.goes && why.because.contains("in flight"), "{why}");
    let foreign = StorePath::new("job-other/x").unwrap();
    assert!(!explain(&view, &judge, &foreign).goes);
    assert_eq!(judge.fate(&foreign, &Place::Foreign), Fate::Kept(Keep::Foreign));
    let own = world.layout.claim(owner.tenure.epoch()).unwrap();
    assert!(!explain(&view, &judge, &own).goes);
    let old = world.layout.claim(zombie.tenure.epoch()).unwrap();
    assert!(explain(&view, &judge, &old).goes);
}

#[test]
fn an_unfinished_checkpoint_is_in_flight_and_those_before_it_are_finished() {
    let progress = Progress { next: CheckpointId(5), in_flight: [CheckpointId(3)].into() };
    let finished: Vec<_> = (1..=6).filter(|id| progress.is_finished(CheckpointId(*id))).collect();
    assert_eq!(finished, [1, 2, 4]);
}

#[tokio::test]
async fn nothing_of_a_newer_epoch_is_touched_by_an_older_judge() {
    let world = World::new();
    let old = three_checkpoints(&world).await;
    let (view, progress, done) = (world.view().await, Progress::all_finished(), BTreeSet::new());
    let newer = world.party().await;
    newer.checkpoint().await.unwrap();
    let name = newer.fresh_name(CheckpointId(4));
    newer.upload(&name).await.unwrap();
    let judge = Judge::new(&view, &*old.held, old.tenure.epoch(), &progress, &done);
    let shared = world.layout.shared_object(&name).unwrap();
    assert_eq!(judge.fate(&shared, &Place::Shared(name)), Fate::Kept(Keep::NewerEpoch));
    let plan = plan_sweep(&*world.mem, &world.layout, &judge, SweepScope::Everything).await.unwrap();
    assert!(plan.is_empty(), "{plan}");
}
