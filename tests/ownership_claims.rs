//! Claims, fencing and what counts.
#![cfg(feature = "test-support")]

mod ownership_support;

use bytes::Bytes;
use icecore::ErrorKind;
use icecore::gc::SweepScope;
use icecore::layout::CheckpointId;
use icecore::ownership::{NotCounting, TenureEnd};
use icecore::store::testing::{Fault, FaultyStore, Rule, Step};
use icecore::store::{Store, StorePath};
use ownership_support::World;

#[tokio::test]
async fn the_first_claim_adopts_nothing_and_numbers_checkpoints_from_one() {
    let world = World::new();
    let claimed = world.claim(world.store()).await.unwrap();
    assert_eq!(claimed.tenure.epoch().counter, 1);
    assert!(claimed.view.checkpoints.is_empty());
    assert_eq!(claimed.tenure.next_checkpoint(), CheckpointId(1));
    assert_eq!(world.mem.paths().len(), 2, "a claim and a start: {:?}", world.mem.paths());
}

#[tokio::test]
async fn a_store_that_does_not_let_us_in_is_not_claimed_however_empty_it_looks() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    store.inject(Rule::on(Step::Probe), Fault::Fail(ErrorKind::PermissionDenied)).unwrap();
    assert_eq!(world.claim(store).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(world.mem.paths().is_empty(), "{:?}", world.mem.paths());
}

#[tokio::test]
async fn a_later_claim_adopts_what_was_complete_and_goes_on_with_higher_numbers() {
    let world = World::new();
    let first = world.party().await;
    let folder = first.checkpoint().await.unwrap();
    let second = world.party().await;
    assert!(second.tenure.epoch() > first.tenure.epoch());
    assert!(second.adopted.checkpoints.contains_key(&folder));
    assert_eq!(second.tenure.next_checkpoint(), CheckpointId(2));
    world.assert_sound("after the second claim").await;
}

#[tokio::test]
async fn a_fenced_tenure_is_over_for_good_even_when_the_greater_claim_is_gone_again() {
    let world = World::new();
    let first = world.party().await;
    let second = world.party().await;
    assert_eq!(first.tenure.look().await.unwrap_err().kind(), ErrorKind::Fenced);
    world.mem.remove(&world.layout.claim(second.tenure.epoch()).unwrap());
    world.mem.remove(&world.layout.start(second.tenure.epoch()).unwrap());
    assert_eq!(first.tenure.look().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(first.tenure.over(), Some(TenureEnd::Fenced(Some(second.tenure.epoch()))));
}

#[tokio::test]
async fn a_look_that_does_not_find_the_own_claim_says_fenced() {
    let world = World::new();
    let party = world.party().await;
    world.mem.remove(&world.layout.claim(party.tenure.epoch()).unwrap());
    assert_eq!(party.tenure.look().await.unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(party.tenure.over(), Some(TenureEnd::Fenced(None)));
}

#[tokio::test]
async fn a_look_that_cannot_be_made_is_an_error_and_does_not_end_the_tenure() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    for step in [Step::List, Step::ListItem, Step::Stat] {
        store.inject(Rule::on(step), Fault::Fail(ErrorKind::Temporary)).unwrap();
        assert_eq!(party.tenure.look().await.unwrap_err().kind(), ErrorKind::Temporary, "{step:?}");
        party.tenure.look().await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_beside_a_greater_claim_says_that_its_outcome_is_unknown() {
    let world = World::new();
    let first = world.party().await;
    world.party().await;
    let error = first.checkpoint().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.message().contains("outcome unknown"), "{error}");
    assert!(error.advice().is_some());
}

#[tokio::test]
async fn a_commit_whose_look_fails_for_a_moment_is_complete_after_another_look() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    store.inject(Rule::on(Step::List).times(2), Fault::Fail(ErrorKind::Temporary)).unwrap();
    party.checkpoint().await.unwrap();
    assert_eq!(store.fired(), 2);
}

#[tokio::test]
async fn a_commit_that_cannot_look_ends_the_tenure() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    store.inject(Rule::on(Step::List).always(), Fault::Fail(ErrorKind::Temporary)).unwrap();
    assert_eq!(party.checkpoint().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    store.heal();
    assert_eq!(party.tenure.look().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn a_commit_whose_future_is_dropped_ends_the_tenure() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let party = world.party_on(store.clone()).await.unwrap();
    let gate = store.park(Rule::on(Step::Put).path_ends_with("_metadata"));
    {
        let commit = party.checkpoint();
        tokio::pin!(commit);
        tokio::select! {
            _ = &mut commit => panic!("it did not stop"),
            () = gate.reached() => {}
        }
    }
    assert!(matches!(party.tenure.over(), Some(TenureEnd::OutcomeUnknown(_))));
    assert_eq!(party.tenure.look().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn no_checkpoint_id_is_committed_twice_in_a_tenure() {
    let world = World::new();
    let party = world.party().await;
    let folder = party.checkpoint().await.unwrap();
    let error = party.tenure.commit(folder, Bytes::from_static(b"other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    party.tenure.look().await.unwrap();
    let other = world.party().await;
    let error = other.tenure.commit(folder, Bytes::from_static(b"other")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "a folder of another epoch");
}

#[tokio::test]
async fn an_unreadable_newest_start_forbids_the_claim_and_names_itself() {
    let world = World::new();
    let first = world.party().await;
    first.checkpoint().await.unwrap();
    let start = world.layout.start(first.tenure.epoch()).unwrap();
    world.mem.overwrite(&start, b"torn");
    let error = world.claim(world.store()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked);
    assert_eq!(error.object(), Some(start.as_str()));
    let view = world.view().await;
    assert!(view.checkpoints.is_empty());
    assert!(view.uncounted.values().all(|uncounted| uncounted.why == NotCounting::Unknown));
}

#[tokio::test]
async fn an_unreadable_start_that_is_not_the_newest_does_not_matter() {
    let world = World::new();
    let first = world.party().await;
    let folder = first.checkpoint().await.unwrap();
    world.party().await;
    world.mem.overwrite(&world.layout.start(first.tenure.epoch()).unwrap(), b"torn");
    let third = world.party().await;
    assert!(third.adopted.checkpoints.contains_key(&folder));
}

#[tokio::test]
async fn an_unreadable_list_that_counts_forbids_the_claim_and_a_void_one_does_not() {
    let world = World::new();
    let first = world.party().await;
    let second = world.party().await;
    let void = world.layout.condemned_list(first.tenure.epoch(), icecore::layout::Uid(1)).unwrap();
    world.mem.overwrite(&void, b"torn");
    let third = world.party().await;
    let counting = world.layout.condemned_list(third.tenure.epoch(), icecore::layout::Uid(1)).unwrap();
    world.mem.overwrite(&counting, b"torn");
    let error = world.claim(world.store()).await.unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::Blocked, Some(counting.as_str())));
    drop(second);
}

#[tokio::test]
async fn a_checkpoint_with_an_unreadable_index_is_adopted_and_stays() {
    let world = World::new();
    let first = world.party().await;
    let folder = first.checkpoint().await.unwrap();
    world.mem.overwrite(&world.layout.metadata(folder).unwrap(), b"torn");
    let second = world.party().await;
    let checkpoint = second.adopted.checkpoints.get(&folder).unwrap();
    assert_eq!(checkpoint.content.as_ref().unwrap_err().kind, ErrorKind::Corrupt);
    second.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    assert!(world.view().await.checkpoints.contains_key(&folder));
}

#[tokio::test]
async fn an_index_that_was_copied_from_another_checkpoint_is_not_believed() {
    let world = World::new();
    let party = world.party().await;
    let first = party.checkpoint().await.unwrap();
    let second = party.checkpoint().await.unwrap();
    let bytes = world.mem.remove(&world.layout.metadata(first).unwrap()).unwrap();
    let path = world.layout.metadata(second).unwrap();
    world.mem.remove(&path);
    world.mem.put(&path, bytes).await.unwrap();
    let view = world.view().await;
    assert_eq!(view.checkpoints[&second].content.as_ref().unwrap_err().kind, ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_checkpoint_that_lands_after_its_successor_started_does_not_count() {
    let world = World::new();
    let store = FaultyStore::new(world.store());
    let first = world.party_on(store.clone()).await.unwrap();
    store.inject(Rule::on(Step::Put).path_ends_with("_metadata"), Fault::LandLater(ErrorKind::Temporary)).unwrap();
    assert_eq!(first.checkpoint().await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    let second = world.party().await;
    for landed in store.land_late().await {
        landed.unwrap();
    }
    let view = world.view().await;
    assert!(view.checkpoints.is_empty());
    assert_eq!(view.uncounted.values().next().unwrap().why, NotCounting::NotAdopted);
    second.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
    world.assert_nothing_unreferenced().await;
}

#[tokio::test]
async fn a_claim_of_unknown_outcome_says_that_the_job_can_be_claimed_again_and_it_can() {
    for record in ["claim", "start"] {
        for fault in [Fault::LoseAnswer(ErrorKind::Temporary), Fault::LandLater(ErrorKind::Temporary)] {
            let world = World::new();
            world.party().await.checkpoint().await.unwrap();
            let store = FaultyStore::new(world.store());
            store.inject(Rule::on(Step::Put).path_ends_with(record), fault).unwrap();
            let error = world.party_on(store.clone()).await.err().unwrap();
            assert!(error.is_retryable(), "{record}: {error}");
            assert!(error.advice().is_some_and(|advice| advice.contains("claim the job again")), "{error}");
            for landed in store.land_late().await {
                landed.unwrap();
            }
            world.party_on(store).await.unwrap().checkpoint().await.unwrap();
            assert_eq!(world.view().await.checkpoints.len(), 2, "{record}");
        }
    }
}

#[tokio::test]
async fn an_ended_tenure_is_over_and_nobody_lives_in_the_job() {
    let world = World::new();
    let party = world.party().await;
    assert_eq!(world.view().await.epochs.living_owner(), Some(party.tenure.epoch()));
    party.tenure.end().await.unwrap();
    let view = world.view().await;
    assert_eq!(view.epochs.living_owner(), None);
    let least = icecore::layout::Epoch { counter: 0, uid: icecore::layout::Uid(0) };
    assert_eq!(view.epochs.living_above(least, |_| false), None);
    assert_eq!(party.tenure.look().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(party.checkpoint().await.is_err());
}

#[tokio::test]
async fn a_job_that_is_not_there_reads_as_absent_and_names_of_others_are_reported() {
    let world = World::new();
    assert!(world.view().await.is_absent());
    let foreign = StorePath::new("job-j/notes.txt").unwrap();
    world.mem.overwrite(&foreign, b"mine");
    let view = world.view().await;
    assert!(view.is_absent());
    assert_eq!(view.foreign, [foreign]);
}

#[tokio::test]
async fn a_reader_that_is_overtaken_by_a_new_owner_and_its_sweep_reads_anew() {
    let world = World::new();
    let first = world.party().await;
    let folder = first.checkpoint().await.unwrap();
    let store = FaultyStore::new(world.store());
    let gate = store.park(Rule::on(Step::Read).path_ends_with("/start"));
    let reading = icecore::ownership::JobView::read(&*store, &world.layout);
    let overtaking = async {
        gate.reached().await;
        let second = world.party().await;
        second.sweep(SweepScope::Everything).await.unwrap().into_result().unwrap();
        gate.release();
        second.tenure.epoch()
    };
    let (view, second) = tokio::join!(reading, overtaking);
    let view = view.unwrap();
    assert_eq!(view.epochs.newest_start(), Some(second));
    assert!(view.blockers.is_empty() && view.checkpoints.contains_key(&folder));
}
