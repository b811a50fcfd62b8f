//! Claims do not pile up, and removing them never hides a greater one (E1, E2).
#![cfg(feature = "test-support")]

mod ownership_support;

use icecore::ErrorKind;
use icecore::gc::SweepScope;
use icecore::store::testing::{Fault, FaultyStore, Rule, Step};
use ownership_support::World;

#[tokio::test]
async fn one_shot_claims_leave_at_most_three_epoch_folders() {
    let rounds = if std::env::var_os("ICECORE_LONG").is_some() { 10_000 } else { 1_000 };
    let world = World::new();
    for round in 0..rounds {
        let party = world.party().await;
        if round % 100 == 0 {
            party.checkpoint_reusing([].into()).await.unwrap();
        }
        party.sweep(SweepScope::Records).await.unwrap().into_result().unwrap();
        party.tenure.end().await.unwrap();
        let folders = world.view().await.epochs.known.len();
        assert!(folders <= 3, "{folders} epoch folders after {round} claims");
    }
    world.assert_sound("after all").await;
    let epochs = world.view().await.epochs;
    assert_eq!(epochs.greatest().unwrap().counter, rounds, "counters never go back");
}

#[tokio::test]
async fn epochs_go_in_increasing_order_and_the_greater_ones_wait_for_the_lesser() {
    let world = World::new();
    let mut old = Vec::new();
    for _ in 0..4 {
        old.push(world.party().await.tenure.epoch());
    }
    let store = FaultyStore::new(world.store());
    let owner = world.party_on(store.clone()).await.unwrap();
    let stuck = world.layout.claim(old[1]).unwrap();
    store.inject(Rule::on(Step::Delete).path_contains(stuck.as_str()).times(2), Fault::Fail(ErrorKind::Io)).unwrap();
    for _ in 0..2 {
        owner.sweep(SweepScope::Records).await.unwrap();
        let known: Vec<_> = world.view().await.epochs.known.into_keys().collect();
        assert_eq!(known, [old[1], old[2], old[3], owner.tenure.epoch()], "only the first one is gone");
    }
    let report = owner.collector.work_off().await;
    assert!(report.is_finished(), "{report}");
    assert_eq!(world.view().await.epochs.known.into_keys().collect::<Vec<_>>(), [owner.tenure.epoch()]);
}

/// A look lists in pages. Two later owners follow each other while it is between two pages, so that
/// it sees neither: the lesser was removed before its page was read, and the greater, whose name
/// sorts before, appeared after its page was.
#[tokio::test]
async fn a_look_that_lists_across_two_changes_of_owner_still_says_fenced() {
    let world = World::new();
    // Counter 9 sorts behind counter 10.
    for _ in 0..7 {
        world.party().await;
    }
    let store = FaultyStore::new(world.store());
    let stalled = world.party_on(store.clone()).await.unwrap();
    assert_eq!(stalled.tenure.epoch().counter, 8);
    let ninth = world.party().await;
    assert_eq!(ninth.tenure.epoch().counter, 9);
    // The first page (what sorts before the own claim) is read; the second is not.
    let gate = store.park(Rule::on(Step::ListItem).path_contains("/epochs/8-"));
    let look = stalled.tenure.look();
    let owners = async {
        gate.reached().await;
        let tenth = world.party().await;
        assert_eq!(tenth.tenure.epoch().counter, 10);
        tenth.sweep(SweepScope::Records).await.unwrap().into_result().unwrap();
        assert_eq!(world.view().await.epochs.known.len(), 1, "the ninth and the eighth are gone");
        gate.release();
    };
    let (looked, ()) = tokio::join!(look, owners);
    assert_eq!(looked.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn a_sweep_of_records_does_not_list_the_shared_files() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    party.checkpoint().await.unwrap();
    store.inject(Rule::on(Step::ListItem).path_contains("/shared/"), Fault::Fail(ErrorKind::Io)).unwrap();
    party.sweep(SweepScope::Records).await.unwrap().into_result().unwrap();
    assert_eq!(store.fired(), 0);
    assert!(party.sweep(SweepScope::Everything).await.is_err(), "a listing that breaks off plans nothing");
}

#[tokio::test]
async fn a_claim_that_lands_late_waits_for_a_lesser_one_that_an_earlier_plan_could_not_remove() {
    let world = World::new();
    let old = world.party().await.tenure.epoch();
    let store = FaultyStore::new(world.store());
    let owner = world.party_on(store.clone()).await.unwrap();
    let stuck = world.layout.claim(old).unwrap();
    store.inject(Rule::on(Step::Delete).path_contains(stuck.as_str()).times(2), Fault::Fail(ErrorKind::Io)).unwrap();
    owner.sweep(SweepScope::Records).await.unwrap();
    let late = icecore::layout::Epoch { counter: old.counter, uid: icecore::layout::Uid(u64::MAX) };
    assert!(old < late && late < owner.tenure.epoch());
    world.mem.overwrite(&world.layout.claim(late).unwrap(), b"late");
    let report = owner.sweep(SweepScope::Records).await.unwrap();
    assert_eq!(report.failed.len(), 1, "{report}");
    assert!(world.mem.has(&world.layout.claim(late).unwrap()), "E1");
    assert!(owner.collector.work_off().await.is_finished());
    assert_eq!(world.view().await.epochs.known.len(), 1);
}
