//! 4.7: a step that fails, whose answer is lost, or that lands late breaks nothing, wherever it is;
//! and what could not be deleted is deleted later.
#![cfg(feature = "test-support")]

mod ownership_support;

use icecore::ErrorKind;
use icecore::gc::SweepScope;
use icecore::store::testing::{Fault, FaultyStore, Rule, Step};
use ownership_support::{Style, World};

async fn run_one(step: Step, n: u64, fault: Fault) -> bool {
    let when = format!("{step:?} {n} {fault:?}");
    let world = World::new();
    world.party().await.live(Style::Keeping).await.unwrap();
    let store = FaultyStore::new(world.store());
    store.inject(Rule::on(step).nth(n), fault).unwrap();
    let first = world.party_on(store.clone()).await;
    if let Ok(first) = &first {
        let outcome = first.live(Style::Forgetting).await;
        assert!(outcome.is_ok() || store.fired() > 0, "{when}: {outcome:?}");
        if first.tenure.check().is_ok() {
            // The store works again: nothing may be left undone.
            let report = first.collector.work_off().await;
            assert!(report.is_finished(), "{when}: {report}");
        }
    }
    if store.fired() == 0 {
        return false;
    }
    world.assert_sound(&format!("{when}, failed")).await;
    let second = world.party().await;
    world.assert_sound(&format!("{when}, second claim")).await;
    for landed in store.land_late().await {
        landed.unwrap();
    }
    world.assert_sound(&format!("{when}, landed")).await;
    // A claim that lands late may be the greater one.
    if second.live(Style::Keeping).await.is_err() {
        assert!(second.tenure.check().is_err(), "{when}");
    }
    world.assert_sound(&format!("{when}, second life")).await;
    let last = world.party().await;
    last.live(Style::Keeping).await.unwrap();
    for _ in 0..2 {
        last.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    }
    world.assert_sound(&format!("{when}, the end")).await;
    world.assert_nothing_unreferenced().await;
    true
}

#[tokio::test]
async fn a_fault_at_any_step_of_claim_commit_delete_and_sweep_breaks_nothing() {
    let kind = ErrorKind::Io;
    let mut tried = 0;
    let changing = [Fault::Fail(kind), Fault::LoseAnswer(kind), Fault::LandLater(kind)];
    let reading = [Fault::Fail(kind), Fault::Fail(ErrorKind::Temporary)];
    let plans = [(Step::Put, &changing[..]), (Step::Delete, &changing[..])].into_iter().chain(
        [Step::Read, Step::Stat, Step::List, Step::ListItem, Step::ListChildren].map(|step| (step, &reading[..])),
    );
    for (step, faults) in plans {
        for fault in faults {
            for n in 1.. {
                if !run_one(step, n, *fault).await {
                    break;
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "only {tried} faults were tried");
}

#[tokio::test]
async fn failed_deletes_are_reported_stay_listed_and_are_tried_again() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    let first = party.checkpoint_reusing([].into()).await.unwrap();
    party.checkpoint_reusing([].into()).await.unwrap();
    store
        .inject(Rule::on(Step::Delete).path_contains("shared/").always(), Fault::Fail(ErrorKind::PermissionDenied))
        .unwrap();
    let report = party.drop_checkpoints(&[first]).await.unwrap();
    assert_eq!((report.failed.len(), report.pending_lists, report.pending_objects), (1, 1, 1), "{report}");
    assert!(report.stopped.is_none());
    assert!(world.mem.paths().iter().any(|path| path.contains("/condemned/")), "the list stays");
    world.assert_sound("while one delete is open").await;
    assert_eq!(party.collector.work_off().await.pending_lists, 1);
    store.heal();
    let report = party.collector.work_off().await;
    assert!(report.is_finished(), "{report}");
    assert_eq!(report.deleted_objects, 1);
    world.assert_nothing_unreferenced().await;
}

#[tokio::test]
async fn files_of_a_checkpoint_stay_while_its_index_cannot_be_deleted() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    let first = party.checkpoint_reusing([].into()).await.unwrap();
    party.checkpoint_reusing([].into()).await.unwrap();
    store.inject(Rule::on(Step::Delete).path_ends_with("_metadata"), Fault::Fail(ErrorKind::Io)).unwrap();
    let before = world.mem.paths().len();
    let report = party.drop_checkpoints(&[first]).await.unwrap();
    assert_eq!(report.deleted_objects, 0, "{report}");
    assert_eq!(world.mem.paths().len(), before + 1, "only the list came");
    assert!(party.collector.work_off().await.is_finished());
    world.assert_nothing_unreferenced().await;
}

#[tokio::test]
async fn a_look_that_fails_touches_nothing_and_a_later_one_finishes() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    let first = party.checkpoint_reusing([].into()).await.unwrap();
    party.checkpoint_reusing([].into()).await.unwrap();
    store.inject(Rule::on(Step::Stat).path_ends_with("claim"), Fault::Fail(ErrorKind::Temporary)).unwrap();
    let report = party.drop_checkpoints(&[first]).await.unwrap();
    assert_eq!(report.stopped.as_ref().map(icecore::Error::kind), Some(ErrorKind::Temporary));
    assert_eq!(report.deleted_objects, 0);
    assert!(world.mem.has(&world.layout.metadata(first).unwrap()));
    assert!(party.collector.work_off().await.is_finished());
    assert!(!world.mem.has(&world.layout.metadata(first).unwrap()));
}

#[tokio::test]
async fn a_fenced_owner_that_condemned_already_touches_nothing() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    let first = party.checkpoint_reusing([].into()).await.unwrap();
    party.checkpoint_reusing([].into()).await.unwrap();
    let gate = store.park_after(Rule::on(Step::Put).path_contains("/condemned/"));
    let folders = [first];
    let dropping = party.drop_checkpoints(&folders);
    let claiming = async {
        gate.reached().await;
        let second = world.party().await;
        gate.release();
        second
    };
    let (report, second) = tokio::join!(dropping, claiming);
    let report = report.unwrap();
    assert_eq!(report.stopped.as_ref().map(icecore::Error::kind), Some(ErrorKind::Fenced));
    assert_eq!(report.deleted_objects, 0);
    assert!(world.mem.has(&world.layout.metadata(first).unwrap()));
    assert!(!second.adopted.checkpoints.contains_key(&first), "its list was visible to the claim: it is gone");
    second.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    world.assert_nothing_unreferenced().await;
}

#[tokio::test]
async fn objects_of_a_list_that_could_not_be_written_are_not_handed_out_again() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    let first = party.checkpoint_reusing([].into()).await.unwrap();
    party.checkpoint_reusing([].into()).await.unwrap();
    let freed = ownership_support::shared_of(
        &world.layout,
        party.view().await.unwrap().checkpoints[&first].content.as_ref().unwrap(),
    );
    store.inject(Rule::on(Step::Put).path_contains("/condemned/"), Fault::LandLater(ErrorKind::Io)).unwrap();
    let report = party.drop_checkpoints(&[first]).await.unwrap();
    assert!(report.stopped.is_some());
    assert_eq!(report.deleted_objects, 0);
    assert!(freed.iter().all(|name| !party.held.reusable().contains(name)));
    // The next attempt uses another list; the first one lands after it and is swept.
    assert!(party.collector.work_off().await.is_finished());
    for landed in store.land_late().await {
        landed.unwrap();
    }
    assert_eq!(world.view().await.lists.len(), 1);
    party.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    world.assert_nothing_unreferenced().await;
}

#[tokio::test]
async fn a_collection_whose_future_is_dropped_is_finished_by_the_next_call() {
    for step in [Step::Put, Step::List, Step::Stat, Step::Delete] {
        let world = World::new();
        let store = FaultyStore::new(world.store());
        let party = world.party_on(store.clone()).await.unwrap();
        let first = party.checkpoint_reusing([].into()).await.unwrap();
        party.checkpoint_reusing([].into()).await.unwrap();
        let view = party.view().await.unwrap();
        let plan = icecore::gc::plan_drop(party.store(), &view, &[(first, "asked for".to_owned())]).await.unwrap();
        let gate = store.park(Rule::on(step));
        {
            let execution = party.collector.execute(plan);
            tokio::pin!(execution);
            tokio::select! {
                _ = &mut execution => panic!("it did not stop at {step:?}"),
                () = gate.reached() => {}
            }
        }
        gate.release();
        assert!(party.collector.work_off().await.is_finished());
        world.assert_nothing_unreferenced().await;
    }
}

/// The model's first lesson: a checkpoint whose list could not be written counts for a successor, so
/// a file that it shares with another dropped checkpoint must wait for it.
#[tokio::test]
async fn a_file_shared_with_a_checkpoint_whose_list_failed_waits_for_that_list() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    let first = party.checkpoint().await.unwrap();
    let second = party.checkpoint().await.unwrap();
    party.checkpoint_reusing([].into()).await.unwrap();
    let lists = Rule::on(Step::Put).path_contains("/condemned/");
    store.inject(lists.clone().times(2), Fault::Fail(ErrorKind::Io)).unwrap();
    assert!(party.drop_checkpoints(&[second]).await.unwrap().stopped.is_some());
    // The registry holds what both shared for neither now.
    assert!(party.drop_checkpoints(&[first]).await.unwrap().stopped.is_some());
    world.dropped.lock().clear();
    world.assert_sound("two lists failed").await;
    let successor = world.party().await;
    assert_eq!(successor.adopted.checkpoints.len(), 3);
    assert!(!party.collector.work_off().await.is_finished());
    world.assert_sound("after the successor started").await;
}

#[tokio::test]
async fn a_pin_whose_writing_failed_holds_its_checkpoint_for_the_tenure() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    let first = party.checkpoint().await.unwrap();
    party.checkpoint().await.unwrap();
    store.inject(Rule::on(Step::Put).path_contains("/pins/"), Fault::LandLater(ErrorKind::Io)).unwrap();
    party.collector.pin(&party.view().await.unwrap(), first, "audit").await.unwrap_err();
    assert!(party.collector.is_pinned(first));
    let report = party.drop_checkpoints(&[first]).await.unwrap();
    assert_eq!(report.stopped.unwrap().kind(), ErrorKind::Changed);
    store.land_late().await.pop().unwrap().unwrap();
    assert_eq!(world.view().await.holds(first).count(), 1);
}
