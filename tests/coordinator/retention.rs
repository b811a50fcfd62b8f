//! Retention, drops, pins: what goes, and what must not.

use std::collections::BTreeSet;
use std::sync::Arc;

use icecore::ErrorKind;
use icecore::coordinator::{Coordinator, KeptBecause, RetentionPolicy};
use icecore::gc::SweepScope;
use icecore::layout::CheckpointFolder;
use icecore::metadata::CheckpointKind;
use icecore::store::StorePath;
use icecore::store::testing::{Fault, Rule, Step};

use crate::support::*;

async fn two_that_share_a_file_and_a_third() -> (World, Arc<Coordinator>, [CheckpointFolder; 2]) {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "of the first two");
    let two = [checkpoint(&coordinator, &[&task]).await, checkpoint(&coordinator, &[&task]).await];
    task.remove("1.sst");
    task.write("2.sst", "of the third");
    checkpoint(&coordinator, &[&task]).await;
    (world, coordinator, two)
}

#[tokio::test]
async fn dropping_the_oldest_deletes_exactly_its_unique_files() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "of the first alone");
    task.write("2.sst", "of both");
    let first = checkpoint(&coordinator, &[&task]).await;
    let unique = world.objects_of(first).await["1.sst"].clone();
    task.remove("1.sst");
    task.write("3.sst", "of the second alone");
    let second = checkpoint(&coordinator, &[&task]).await;
    let before: BTreeSet<StorePath> = world.objects().await.into_keys().collect();
    coordinator.drop_checkpoints(&asked(first), false).await.unwrap();
    let after: BTreeSet<StorePath> = world.objects().await.into_keys().collect();
    let gone: BTreeSet<_> = before.difference(&after).cloned().collect();
    assert_eq!(gone, BTreeSet::from([unique, world.layout.metadata(first).unwrap()]));
    assert_eq!(world.counting_ids().await, [second.checkpoint.0]);
    world.assert_sound("after the drop").await;
    world.assert_exact("after the drop").await;
}

#[tokio::test]
async fn the_newest_checkpoint_is_never_dropped() {
    let (world, coordinator, task) = one_task(keep(9)).await;
    let first = checkpoint(&coordinator, &[&task]).await;
    let second = checkpoint(&coordinator, &[&task]).await;
    let both = [asked(first), asked(second)].concat();
    let (plan, _) = coordinator.drop_checkpoints(&both, false).await.unwrap();
    assert_eq!(plan.refused.iter().map(|refused| refused.folder).collect::<Vec<_>>(), [second]);
    assert_eq!(world.counting_ids().await, [second.checkpoint.0]);
}

#[tokio::test]
async fn a_dry_run_plans_and_changes_nothing() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "a");
    let first = checkpoint(&coordinator, &[&task]).await;
    task.write("1.sst", "b");
    checkpoint(&coordinator, &[&task]).await;
    let before = world.objects().await;
    let (planned, _) = coordinator.drop_checkpoints(&asked(first), true).await.unwrap();
    let policy = RetentionPolicy::default();
    let (retention, by_policy, _) = coordinator.apply_retention(policy, true).await.unwrap();
    assert_eq!(retention.drop, [first]);
    assert_eq!(world.objects().await, before);
    assert_eq!(coordinator.completed().len(), 2);
    let (plan, report) = coordinator.drop_checkpoints(&asked(first), false).await.unwrap();
    assert_eq!((&plan.objects, &by_policy.objects), (&planned.objects, &planned.objects));
    assert_eq!(report.deleted_objects, planned.objects.len() as u64);
}

#[tokio::test]
async fn the_base_of_a_pending_checkpoint_is_not_dropped() {
    let (world, coordinator, mut task) = one_task(keep(1)).await;
    task.write("1.sst", "carried over");
    task.write("2.sst", "replaced");
    let base = checkpoint(&coordinator, &[&task]).await;
    let slow = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let quick = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    let later = coordinator.trigger(CheckpointKind::Incremental).unwrap();
    assert_eq!(slow.base, Some(base));
    // The later one builds on the base while the quick one, which has none of its files, completes.
    let handle = task.upload(&later).await.unwrap();
    task.remove("1.sst");
    task.remove("2.sst");
    finish(&coordinator, &[&task], &quick).await;
    assert_eq!(world.counting_ids().await, [base.checkpoint.0, quick.checkpoint.0], "retention kept the base");
    for dry_run in [true, false] {
        let (plan, _) = coordinator.drop_checkpoints(&asked(base), dry_run).await.unwrap();
        assert_eq!(plan.refused.len(), 1, "{plan}");
    }
    coordinator.acknowledge(handle).await.unwrap();
    assert_eq!(world.counting_ids().await, [later.checkpoint.0]);
    world.assert_sound("the later one is complete").await;
    world.assert_exact("the later one is complete").await;
}

#[tokio::test]
async fn a_full_checkpoint_does_not_let_the_incremental_one_go_that_the_next_builds_on() {
    let (world, coordinator, mut task) = one_task(keep(1)).await;
    task.write("1.sst", "a");
    task.write("2.sst", "b");
    let incremental = checkpoint(&coordinator, &[&task]).await;
    let full = checkpoint_of(&coordinator, &[&task], CheckpointKind::Full).await;
    assert_eq!(coordinator.completed().len(), 2);
    let (plan, _) = coordinator.drop_checkpoints(&asked(incremental), false).await.unwrap();
    assert_eq!(plan.refused.len(), 1);
    task.remove("2.sst");
    task.write("3.sst", "c");
    let next = checkpoint(&coordinator, &[&task]).await;
    assert_eq!(world.counting_ids().await, [next.checkpoint.0], "{full} and {incremental} are gone");
    world.assert_sound("the next incremental one").await;
    world.assert_exact("the next incremental one").await;
}

#[tokio::test]
async fn a_pin_survives_retention_a_restart_and_a_sweep_until_it_is_removed() {
    let (world, coordinator, mut task) = one_task(keep(1)).await;
    task.write("1.sst", "pinned");
    let pinned = checkpoint(&coordinator, &[&task]).await;
    coordinator.pin(pinned, "before the migration").await.unwrap();
    task.write("1.sst", "b");
    checkpoint(&coordinator, &[&task]).await;
    task.write("1.sst", "c");
    checkpoint(&coordinator, &[&task]).await;
    assert_eq!(world.counting_ids().await, [1, 3]);
    let (plan, _) = coordinator.drop_checkpoints(&asked(pinned), false).await.unwrap();
    assert_eq!(plan.refused.len(), 1);
    let second = world.coordinator(1, keep(1)).await;
    second.collect(SweepScope::Everything, false).await.unwrap();
    let mut task = world.task(&second, 0, 1);
    task.write("1.sst", "d");
    checkpoint(&second, &[&task]).await;
    assert_eq!(world.counting_ids().await, [1, 4]);
    world.assert_sound("with the pin").await;
    assert_eq!(second.unpin(pinned).await.unwrap(), 1);
    assert_eq!(second.unpin(pinned).await.unwrap_err().kind(), ErrorKind::NotFound);
    second.apply_retention(RetentionPolicy::default(), false).await.unwrap();
    assert_eq!(world.counting_ids().await, [4]);
    second.collect(SweepScope::Everything, false).await.unwrap();
    world.assert_exact("without the pin").await;
}

#[tokio::test]
async fn a_pin_whose_answer_was_lost_holds_all_the_same() {
    // Were the checkpoint taken for dropped here while it counts on the store, the next drop would
    // free the files that it shares with others.
    for fault in [Fault::LoseAnswer(ErrorKind::Temporary), Fault::LandLater(ErrorKind::Temporary)] {
        let (world, coordinator, mut task) = one_task(keep(1)).await;
        task.write("1.sst", "shared by the first two");
        let first = checkpoint(&coordinator, &[&task]).await;
        world.store.inject(Rule::on(Step::Put).path_contains("/pins/"), fault).unwrap();
        coordinator.pin(first, "kept").await.unwrap_err();
        for content in ["b", "c", "d"] {
            task.write("2.sst", content);
            if content == "c" {
                task.remove("1.sst");
            }
            checkpoint(&coordinator, &[&task]).await;
            world.assert_sound(content).await;
        }
        world.store.land_late().await;
        world.assert_sound("landed").await;
        assert_eq!(world.counting_ids().await, [1, 4], "{fault:?}");
    }
}

#[tokio::test]
async fn a_drop_whose_folder_cannot_be_listed_changes_nothing_and_can_be_repeated() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    task.write("1.sst", "a");
    let first = checkpoint(&coordinator, &[&task]).await;
    task.write("1.sst", "b");
    checkpoint(&coordinator, &[&task]).await;
    let stats = coordinator.registry().stats();
    let fault = Fault::Fail(ErrorKind::Temporary);
    world.store.inject(Rule::on(Step::List).path_contains("cp-1"), fault).unwrap();
    coordinator.drop_checkpoints(&asked(first), false).await.unwrap_err();
    assert_eq!(coordinator.registry().stats().checkpoints, stats.checkpoints);
    assert_eq!(coordinator.completed().len(), 2);
    coordinator.drop_checkpoints(&asked(first), false).await.unwrap();
    world.assert_exact("the second time").await;
}

#[tokio::test]
async fn a_checkpoint_whose_list_failed_keeps_what_it_shares_with_the_next_to_be_dropped() {
    // D1: the second drop must not free a file of the first, which still counts for a successor.
    for fault in [Fault::Fail(ErrorKind::Temporary), Fault::LandLater(ErrorKind::Temporary)] {
        let (world, coordinator, [first, second]) = two_that_share_a_file_and_a_third().await;
        world.store.inject(Rule::on(Step::Put).path_contains("/condemned/").times(2), fault).unwrap();
        for folder in [first, second] {
            let outcome = coordinator.drop_checkpoints(&asked(folder), false).await;
            assert!(outcome.is_err());
            world.assert_sound("a list failed").await;
        }
        coordinator.collect(SweepScope::Everything, false).await.unwrap();
        world.assert_sound("collected").await;
        world.store.land_late().await;
        world.assert_sound("landed").await;
        let successor = world.coordinator(1, keep(9)).await;
        for _ in 0..2 {
            successor.collect(SweepScope::Everything, false).await.unwrap();
        }
        world.assert_sound("the successor").await;
        world.assert_exact("the successor").await;
    }
}

#[tokio::test]
async fn no_later_list_frees_a_file_while_an_index_that_names_it_may_be_there() {
    // D1, across two drops: the first checkpoint's index cannot be deleted.
    let (world, coordinator, [first, second]) = two_that_share_a_file_and_a_third().await;
    let file = world.objects_of(first).await["1.sst"].clone();
    let rule = Rule::on(Step::Delete).path_contains("cp-1").path_ends_with("_metadata").always();
    world.store.inject(rule, Fault::Fail(ErrorKind::PermissionDenied)).unwrap();
    for folder in [first, second] {
        let (_, report) = coordinator.drop_checkpoints(&asked(folder), false).await.unwrap();
        assert!(!report.is_finished(), "{report}");
    }
    assert!(world.shared().await.contains_key(&file), "the first's index is there, and so is its file");
    world.store.heal();
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    world.assert_exact("in the end").await;
}

#[tokio::test]
async fn a_plan_of_several_lists_deletes_no_shared_file_before_every_index_is_gone() {
    let (world, coordinator, mut task) = one_task(keep(9)).await;
    let many = icecore::gc::CONDEMNED_BATCH_OBJECTS + 10;
    for number in 0..many {
        task.write(&format!("{number}.sst"), number.to_le_bytes());
    }
    let first = checkpoint(&coordinator, &[&task]).await;
    task.files.clear();
    checkpoint(&coordinator, &[&task]).await;
    let rule = Rule::on(Step::Delete).path_ends_with("_metadata").always();
    world.store.inject(rule, Fault::Fail(ErrorKind::PermissionDenied)).unwrap();
    coordinator.drop_checkpoints(&asked(first), false).await.unwrap();
    assert_eq!(world.shared().await.len(), many, "the index is there, and so is every file");
    world.store.heal();
    coordinator.collect(SweepScope::Everything, false).await.unwrap();
    world.assert_exact("in the end").await;
}

#[tokio::test]
async fn the_policy_says_why_each_checkpoint_is_kept() {
    let (world, coordinator, task) = one_task(keep(9)).await;
    let first = checkpoint(&coordinator, &[&task]).await;
    let second = checkpoint(&coordinator, &[&task]).await;
    coordinator.pin(first, "kept").await.unwrap();
    let plan = coordinator.retention_plan(RetentionPolicy::default(), &world.view().await);
    assert_eq!(plan.keep[&first], BTreeSet::from([KeptBecause::Held]));
    assert_eq!(plan.keep[&second], BTreeSet::from([KeptBecause::Newest, KeptBecause::Last]));
}
