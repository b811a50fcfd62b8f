//! Claiming a job again when a tenure is over: who may, who may not, and what listeners and subtasks hear (M4, M5).

use std::sync::Arc;

use icecore::ErrorKind;
use icecore::coordinator::{CheckpointListener, Coordinator, CoordinatorOptions, KeptUp, RetentionPolicy, Supervisor};
use icecore::gc::SweepScope;
use icecore::layout::{CheckpointFolder, CheckpointId};
use icecore::metadata::CheckpointKind;
use icecore::store::StoreRef;
use icecore::store::testing::{Fault, Rule, Step};

use crate::support::*;

const GOES_ON: KeptUp = KeptUp::ClaimedAgain { restore_first: false };

/// An engine: a supervised coordinator whose listener writes down what it hears, and a task.
struct Engine {
    supervisor: Arc<Supervisor>,
    told: Arc<Told>,
    task: Task,
}

impl Engine {
    async fn start(world: &World, options: CoordinatorOptions) -> Self {
        let told: Arc<Told> = Arc::default();
        let listeners = vec![Arc::clone(&told) as Arc<dyn CheckpointListener>];
        let store = Arc::clone(&world.store) as StoreRef;
        let coordinator = world.coordinator_on(store, 1, options, listeners).await.unwrap();
        let supervisor = Supervisor::over(coordinator);
        let mut task = world.supervised_task(&supervisor, 0, 1);
        task.write("1.sst", "a");
        task.write("2.sst", "b");
        Self { supervisor, told, task }
    }

    fn coordinator(&self) -> Arc<Coordinator> {
        self.supervisor.coordinator()
    }

    async fn checkpoint(&self) -> CheckpointFolder {
        checkpoint(&self.coordinator(), &[&self.task]).await
    }

    /// The error of a checkpoint that ends the tenure.
    async fn failed_checkpoint(&self) -> ErrorKind {
        let trigger = self.coordinator().trigger(CheckpointKind::Incremental).unwrap();
        let handle = self.task.upload(&trigger).await.unwrap();
        self.coordinator().acknowledge(handle).await.unwrap_err().kind()
    }

    /// What was told since the last call.
    fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.0.lock())
    }
}

/// A command that became the owner.
async fn command(world: &World) -> Coordinator {
    let store = Arc::clone(&world.store) as StoreRef;
    Coordinator::start(store, job(), Vec::new(), world.env.clone(), keep(u32::MAX), Vec::new()).await.unwrap()
}

/// What `icecore gc --take-over` does beside a coordinator that runs.
async fn take_over(world: &World) {
    let command = command(world).await;
    command.collect(SweepScope::Everything, false).await.unwrap();
    command.end().await.unwrap();
}

#[tokio::test]
async fn a_coordinator_that_a_command_fenced_goes_on_with_the_tasks_as_they_are() {
    let world = World::new();
    let mut engine = Engine::start(&world, keep(9)).await;
    let first = engine.checkpoint().await;
    assert_eq!(engine.supervisor.keep_up().await.unwrap(), KeptUp::Running);
    let old = engine.coordinator();
    let in_flight = old.trigger(CheckpointKind::Incremental).unwrap();
    take_over(&world).await;
    engine.task.write("2.sst", "c");
    assert_eq!(engine.failed_checkpoint().await, ErrorKind::Fenced);
    assert_eq!(engine.told(), ["complete 1"]);

    assert_eq!(engine.supervisor.keep_up().await.unwrap(), GOES_ON);
    assert_eq!(engine.told(), ["aborted 2", "aborted 3"], "one was in flight, one of unknown outcome");
    assert_eq!(engine.coordinator().least_import(), CheckpointId(4), "a process uses a number once");
    assert!(!old.abort(in_flight.checkpoint, "again"), "nobody hears of it twice");
    let opened = engine.task.opened();
    let trigger = engine.coordinator().trigger(CheckpointKind::Incremental).unwrap();
    assert_eq!(trigger.base, Some(first));
    let second = finish(&engine.coordinator(), &[&engine.task], &trigger).await;
    assert_eq!(engine.task.opened() - opened, 1, "what the base has is neither read nor sent");
    assert_eq!(engine.told(), ["complete 4"]);
    assert_eq!(world.counting_ids().await, [1, 4]);
    assert_eq!(world.objects_of(first).await["1.sst"], world.objects_of(second).await["1.sst"]);
    engine.coordinator().collect(SweepScope::Everything, false).await.unwrap();
    world.assert_sound("claimed again").await;
    world.assert_exact("claimed again").await;
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_told_once_as_the_new_tenure_decides() {
    let lost = Fault::LoseAnswer(ErrorKind::Temporary);
    for (fault, heard, base) in [(lost, "complete 2", 2), (Fault::Fail(ErrorKind::Temporary), "aborted 2", 1)] {
        let world = World::new();
        let mut engine = Engine::start(&world, keep(9)).await;
        engine.checkpoint().await;
        engine.told();
        engine.task.write("3.sst", "c");
        world.store.inject(Rule::on(Step::Put).path_contains("/cp-2.").path_ends_with("_metadata"), fault).unwrap();
        assert_eq!(engine.failed_checkpoint().await, ErrorKind::OutcomeUnknown);
        assert!(engine.told().is_empty(), "nobody knows yet");
        assert_eq!(engine.supervisor.keep_up().await.unwrap(), GOES_ON, "{fault:?}");
        assert_eq!(engine.told(), [heard], "{fault:?}");
        assert_eq!(engine.supervisor.keep_up().await.unwrap(), KeptUp::Running);
        if heard == "aborted 2" {
            engine.task.snapshotter.notify_aborted(icecore::layout::CheckpointId(2));
        }
        let opened = engine.task.opened();
        let trigger = engine.coordinator().trigger(CheckpointKind::Incremental).unwrap();
        assert_eq!(trigger.base.map(|base| base.checkpoint.0), Some(base), "{fault:?}");
        finish(&engine.coordinator(), &[&engine.task], &trigger).await;
        assert_eq!(engine.task.opened() - opened, 2 - base, "{fault:?}: only what the base has not");
        assert_eq!(engine.told(), ["complete 3"]);
        engine.coordinator().collect(SweepScope::Everything, false).await.unwrap();
        world.assert_sound("claimed again").await;
        world.assert_exact("claimed again").await;
    }
}

#[tokio::test]
async fn one_that_a_living_owner_fenced_claims_nothing_until_that_has_ended() {
    let world = World::new();
    let engine = Engine::start(&world, keep(9)).await;
    engine.checkpoint().await;
    let other = world.coordinator(1, keep(9)).await;
    assert_eq!(engine.failed_checkpoint().await, ErrorKind::Fenced);
    let before = world.objects().await;
    for _ in 0..3 {
        assert_eq!(engine.supervisor.keep_up().await.unwrap(), KeptUp::Fenced(other.epoch()));
    }
    let error = engine.coordinator().claim_again().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert_eq!(world.objects().await, before, "nothing was claimed");
    assert!(other.tick().is_ok());
    other.end().await.unwrap();
    assert_eq!(engine.supervisor.keep_up().await.unwrap(), GOES_ON);
    engine.checkpoint().await;
}

#[tokio::test]
async fn of_two_that_one_command_fenced_one_goes_on_and_the_other_leaves_it_alone() {
    let world = World::new();
    let (one, other) = (Engine::start(&world, keep(9)).await, Engine::start(&world, keep(9)).await);
    take_over(&world).await;
    assert_eq!(one.failed_checkpoint().await, ErrorKind::Fenced);
    assert_eq!(other.failed_checkpoint().await, ErrorKind::Fenced);
    // Both look before either claims.
    let gate = world.store.park(Rule::on(Step::Put).path_ends_with("/claim"));
    let early = {
        let supervisor = Arc::clone(&one.supervisor);
        tokio::spawn(async move { supervisor.keep_up().await })
    };
    gate.reached().await;
    assert_eq!(other.supervisor.keep_up().await.unwrap(), GOES_ON);
    gate.release();
    let fate = early.await.unwrap();
    // Whoever has the greater uid is the owner; the other one sees that and does not claim again.
    let owner = if world.view().await.start.unwrap().epoch == one.coordinator().epoch() { &one } else { &other };
    assert!(owner.coordinator().tick().is_ok(), "{fate:?}");
    let epochs = world.view().await.epochs.known.len();
    for _ in 0..4 {
        for engine in [&one, &other] {
            if engine.coordinator().over().is_none() && engine.coordinator().epoch() != owner.coordinator().epoch() {
                engine.failed_checkpoint().await;
            }
            engine.supervisor.keep_up().await.unwrap();
        }
    }
    assert_eq!(world.view().await.epochs.known.len(), epochs, "nobody claimed any more");
    owner.checkpoint().await;
}

#[tokio::test]
async fn a_claim_that_fails_half_way_is_tried_again_and_is_no_stranger() {
    let faults = [Fault::Fail(ErrorKind::Temporary), Fault::LoseAnswer(ErrorKind::Temporary)];
    for (name, fault) in ["/claim", "/start"].into_iter().flat_map(|name| faults.map(|fault| (name, fault))) {
        let world = World::new();
        let engine = Engine::start(&world, keep(9)).await;
        engine.checkpoint().await;
        take_over(&world).await;
        engine.failed_checkpoint().await;
        engine.told();
        world.store.inject(Rule::on(Step::Put).path_ends_with(name), fault).unwrap();
        let error = engine.supervisor.keep_up().await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(engine.told().is_empty(), "{name} {fault:?}: it is not decided yet");
        assert_eq!(engine.supervisor.keep_up().await.unwrap(), GOES_ON, "{name} {fault:?}");
        assert_eq!(engine.told(), ["aborted 2"], "{name} {fault:?}");
        engine.checkpoint().await;
        world.assert_sound("after the second attempt").await;
    }
}

#[tokio::test]
async fn tasks_are_restored_first_if_another_owner_took_checkpoints() {
    let world = World::new();
    let engine = Engine::start(&world, keep(9)).await;
    engine.checkpoint().await;
    let other = world.coordinator(1, keep(9)).await;
    let task = world.task(&other, 0, 1);
    let theirs = checkpoint(&other, &[&task]).await;
    other.end().await.unwrap();
    engine.failed_checkpoint().await;
    assert_eq!(engine.supervisor.keep_up().await.unwrap(), KeptUp::ClaimedAgain { restore_first: true });
    let latest = engine.coordinator().latest().await.unwrap().unwrap();
    assert_eq!(latest.metadata.folder(), theirs);
}

#[tokio::test]
async fn a_checkpoint_whose_drop_never_reached_the_store_is_no_other_owners() {
    let world = World::new();
    // Both are of an earlier process.
    let before = Engine::start(&world, keep(9)).await;
    let dropped = before.checkpoint().await;
    before.checkpoint().await;
    let engine = Engine::start(&world, keep(9)).await;
    world.store.inject(Rule::on(Step::Put).path_contains("/condemned/"), Fault::Fail(ErrorKind::Temporary)).unwrap();
    engine.coordinator().drop_checkpoints(&asked(dropped), false).await.unwrap_err();
    assert_eq!(engine.coordinator().completed().len(), 1);
    take_over(&world).await;
    engine.failed_checkpoint().await;
    assert_eq!(engine.supervisor.keep_up().await.unwrap(), GOES_ON, "the tasks have what is newer than both");
    assert_eq!(engine.coordinator().completed().len(), 2, "nobody condemned it");
}

#[tokio::test]
async fn what_another_owner_dropped_is_told_to_be_subsumed() {
    let world = World::new();
    let engine = Engine::start(&world, keep(9)).await;
    for _ in 0..3 {
        engine.checkpoint().await;
    }
    engine.told();
    let command = command(&world).await;
    let policy = RetentionPolicy { last: 1, ..RetentionPolicy::default() };
    command.apply_retention(policy, false).await.unwrap();
    command.end().await.unwrap();
    engine.failed_checkpoint().await;
    assert_eq!(engine.supervisor.keep_up().await.unwrap(), GOES_ON);
    assert_eq!(engine.told(), ["aborted 4", "subsumed 1", "subsumed 2"]);
    engine.checkpoint().await;
    world.assert_sound("after a command's retention").await;
}

#[tokio::test]
async fn the_options_and_the_engines_own_end_are_obeyed() {
    let world = World::new();
    let engine = Engine::start(&world, CoordinatorOptions { claims_again: false, ..keep(9) }).await;
    take_over(&world).await;
    engine.failed_checkpoint().await;
    assert_eq!(engine.supervisor.keep_up().await.unwrap_err().kind(), ErrorKind::Fenced);
    drop(engine);
    let engine = Engine::start(&world, keep(9)).await;
    let error = engine.coordinator().claim_again().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "its tenure goes on: {error}");
    engine.coordinator().end().await.unwrap();
    assert_eq!(engine.supervisor.keep_up().await.unwrap_err().kind(), ErrorKind::Cancelled);
    // By hand it may be, and once.
    let ended = engine.coordinator();
    let again = ended.claim_again().await.unwrap();
    assert!(again.coordinator.tick().is_ok() && !again.restore_first);
    assert_eq!(ended.claim_again().await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn an_upload_for_the_old_tenure_is_refused_even_where_the_new_one_gives_its_number_again() {
    let world = World::new();
    let mut engine = Engine::start(&world, keep(9)).await;
    engine.checkpoint().await;
    let late = engine.coordinator().trigger(CheckpointKind::Incremental).unwrap();
    take_over(&world).await;
    engine.failed_checkpoint().await;
    engine.supervisor.keep_up().await.unwrap();
    engine.task.write("3.sst", "c");
    let error = engine.task.upload(&late).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    let next = engine.coordinator().trigger(CheckpointKind::Incremental).unwrap();
    assert!(next.checkpoint > late.checkpoint, "a process uses a number once");
    let acknowledged = finish(&engine.coordinator(), &[&engine.task], &next).await;
    assert_eq!(acknowledged.checkpoint, next.checkpoint);
    world.assert_sound("the late upload").await;
}

#[tokio::test]
async fn an_acknowledgement_that_waits_for_its_commit_is_told_of_once() {
    let world = World::new();
    let engine = Engine::start(&world, keep(9)).await;
    engine.checkpoint().await;
    let coordinator = engine.coordinator();
    let one = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let other = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let (one, other) = (engine.task.upload(&one).await.unwrap(), engine.task.upload(&other).await.unwrap());
    take_over(&world).await;
    engine.told();
    let spawn = |handle| {
        let coordinator = Arc::clone(&coordinator);
        tokio::spawn(async move { coordinator.acknowledge(handle).await })
    };
    // One commit stands still; behind it wait another, and the claim.
    let gate = world.store.park(Rule::on(Step::Put).path_ends_with("_metadata"));
    let one = spawn(one);
    gate.reached().await;
    let other = spawn(other);
    tokio::task::yield_now().await;
    let again = {
        let coordinator = Arc::clone(&coordinator);
        tokio::spawn(async move {
            while coordinator.over().is_none() {
                tokio::task::yield_now().await;
            }
            coordinator.claim_again().await
        })
    };
    tokio::task::yield_now().await;
    gate.release();
    assert_eq!(one.await.unwrap().unwrap_err().kind(), ErrorKind::Fenced);
    assert_eq!(other.await.unwrap().unwrap_err().kind(), ErrorKind::Fenced);
    let again = again.await.unwrap().unwrap();
    assert!(!again.restore_first);
    assert_eq!(engine.told(), ["aborted 2", "aborted 3"]);
}
