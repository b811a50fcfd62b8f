//! What a copy holds, and what it costs.

use icecore::copy::{CopyOptions, Verdict};
use icecore::layout::Place;
use icecore::store::testing::Step;

use crate::pair::{LARGE, Pair, stopped};
use crate::support::keep;

#[tokio::test]
async fn every_checkpoint_arrives_with_its_number_and_content_and_the_source_is_only_read() {
    let pair = Pair::with_history().await;
    pair.full_checkpoint().await;
    let before = pair.source.objects().await;
    pair.source.counting.reset();
    let report = pair.copy(&CopyOptions::default()).await;
    assert!(stopped(&report).is_none() && report.damaged.is_empty(), "{report:?}");
    assert_eq!(report.copied.len(), 4);
    pair.assert_copied("copied").await;
    pair.collect_target("copied").await;
    for step in [Step::Put, Step::Create, Step::Write, Step::Finish, Step::Delete, Step::RemoveUnfinished] {
        assert_eq!(pair.source.counting.requests(step), 0, "{step:?} at the source");
    }
    assert_eq!(pair.source.objects().await, before);
    // The copies are the target's own: its epoch, its tags, nothing of the source's names.
    let owner = pair.owner.epoch();
    for path in pair.target.objects().await.into_keys() {
        assert!(!path.as_str().contains(&owner.to_string()), "{path}");
    }
}

#[tokio::test]
async fn a_content_is_sent_once_whichever_checkpoint_or_subtask_has_it() {
    let pair = Pair::with_history().await;
    let plan = pair.plan(&CopyOptions::default()).await;
    let report = pair.copy(&CopyOptions::default()).await;
    let mut shared = 0;
    for path in pair.target.shared().await.into_keys() {
        shared += 1;
        assert_eq!(pair.target.counting.traffic(path.as_str()).objects_begun, 1, "{path}");
    }
    // one, both, large, five, empty
    assert_eq!(shared, 5);
    let written = pair.target.counting.traffic("job-j/shared/").written_bytes;
    assert_eq!(written, ("one".len() + "both".len() + LARGE + "five".len()) as u64);
    // What was planned is what was done, to the byte.
    let told: u64 = report.copied.iter().map(|copied| copied.sent_files).sum();
    assert_eq!((plan.send_files(), plan.send_bytes()), (told, report.sent_bytes()));
    let own = pair.target.counting.traffic("job-j/cp-").written_bytes;
    let indexes: u64 = pair
        .target
        .objects()
        .await
        .iter()
        .filter(|(path, _)| matches!(Place::of(&pair.target.layout, path), Some(Place::Metadata(_))))
        .map(|(_, size)| *size)
        .sum();
    assert_eq!(written + own - indexes, report.sent_bytes());
}

#[tokio::test]
async fn a_second_copy_plans_nothing_and_sends_nothing() {
    let pair = Pair::with_history().await;
    pair.copy(&CopyOptions::default()).await;
    let plan = pair.plan(&CopyOptions::default()).await;
    assert!(plan.is_empty(), "{plan}");
    assert!(plan.steps.iter().all(|step| matches!(step.verdict, Verdict::There(_))), "{plan}");
    pair.target.counting.reset();
    pair.source.counting.reset();
    let report = pair.copy(&CopyOptions::default()).await;
    assert!(stopped(&report).is_none() && report.copied.is_empty(), "{report:?}");
    for prefix in ["job-j/shared/", "job-j/cp-"] {
        assert_eq!(pair.target.counting.traffic(prefix).objects_begun, 0, "{prefix}");
    }
    assert_eq!(pair.source.counting.traffic("job-j/shared/").reads, 0);
    pair.assert_copied("twice").await;
}

#[tokio::test]
async fn a_later_copy_sends_only_what_is_new() {
    let mut pair = Pair::with_history().await;
    pair.copy(&CopyOptions::default()).await;
    pair.write(0, "7.sst", "seven");
    pair.write(0, "private-a", "manifest 4");
    // Content that the target has, in a checkpoint that the source still retains.
    pair.write(1, "8.sst", "one");
    pair.checkpoint().await;
    pair.target.counting.reset();
    let report = pair.copy(&CopyOptions::default()).await;
    assert_eq!(report.copied.len(), 1);
    assert_eq!(pair.target.counting.traffic("job-j/shared/").written_bytes, "seven".len() as u64);
    assert_eq!(report.sent_bytes(), ("seven".len() + "manifest 4".len()) as u64);
    pair.assert_copied("incremental").await;
    pair.collect_target("incremental").await;
}

#[tokio::test]
async fn a_copy_goes_on_from_what_the_target_retains() {
    let mut pair = Pair::with_history().await;
    pair.copy(&CopyOptions::default()).await;
    let owner = pair.target.coordinator(2, keep(1)).await;
    owner.apply_retention(keep(1).retention, false).await.unwrap();
    owner.end().await.unwrap();
    assert_eq!(pair.target.counting_ids().await, [3]);
    pair.write(0, "7.sst", "seven");
    pair.checkpoint().await;
    let plan = pair.plan(&CopyOptions::default()).await;
    // The older ones were dropped there, and are not brought back above the newest.
    assert!(matches!(plan.steps[0].verdict, Verdict::Older(newer) if newer.checkpoint.0 == 3), "{plan}");
    assert!(matches!(plan.steps[2].verdict, Verdict::There(_)), "{plan}");
    pair.target.counting.reset();
    pair.copy(&CopyOptions::default()).await;
    assert_eq!(pair.target.counting.traffic("job-j/shared/").written_bytes, "seven".len() as u64);
    assert_eq!(pair.target.counting_ids().await, [3, 4]);
    pair.collect_target("after retention").await;
}

#[tokio::test]
async fn a_copy_of_a_copy_is_known_for_the_same_checkpoint() {
    let pair = Pair::with_history().await;
    pair.copy(&CopyOptions::default()).await;
    // Back from where it came: all is there.
    let back = Pair { source: pair.target, target: pair.source, owner: pair.owner, tasks: Vec::new() };
    let plan = back.plan(&CopyOptions::default()).await;
    assert!(plan.is_empty() && plan.steps.len() == 3, "{plan}");
    // To a third store, from the copy and then from the original: nothing is doubled.
    let third = back.target.beside();
    let from_copy = Pair { source: back.source, target: third, owner: back.owner, tasks: Vec::new() };
    assert_eq!(from_copy.copy(&CopyOptions::default()).await.copied.len(), 3);
    from_copy.assert_copied("a copy of a copy").await;
    let from_original = Pair { source: back.target, ..from_copy };
    assert!(from_original.plan(&CopyOptions::default()).await.is_empty());
}

#[tokio::test]
async fn pins_are_set_only_if_asked_and_only_once() {
    let pair = Pair::with_history().await;
    let pinned = *pair.source.view().await.checkpoints.keys().nth(1).unwrap();
    pair.owner.pin(pinned, "before the upgrade").await.unwrap();
    let plan = pair.plan(&CopyOptions::default()).await;
    assert!(plan.steps[1].is_pinned && !plan.steps[1].sets_pin, "{plan}");
    pair.copy(&CopyOptions::default()).await;
    assert!(pair.target.view().await.pins.is_empty());
    // The copies are there already, and still get their pins.
    let options = CopyOptions { pins: true, ..CopyOptions::default() };
    let report = pair.copy(&options).await;
    assert_eq!(report.pinned.len(), 1, "{report:?}");
    let view = pair.target.view().await;
    let (name, hold) = view.pins.first_key_value().unwrap();
    assert_eq!((name.folder.checkpoint, hold.note.clone()), (pinned.checkpoint, Ok("before the upgrade".to_owned())));
    assert!(pair.plan(&options).await.is_empty());
}

#[tokio::test]
async fn what_the_owner_drops_while_it_is_copied_is_gone_and_not_damaged() {
    let mut pair = Pair::with_history().await;
    let source = pair.copy_source().await;
    let first = *source.view.checkpoints.keys().next().unwrap();
    pair.owner.drop_checkpoints(&[(first, "asked for".to_owned())], false).await.unwrap();
    let env = pair.target.env.clone();
    let options = CopyOptions::default();
    let target = pair.target.coordinator(2, crate::pair::keep_all()).await;
    let chosen = crate::pair::all(&source.view);
    let plan = icecore::copy::CopyPlan::new(&source.view, &chosen, &target.view(), &options).unwrap();
    let mut never = futures::future::pending();
    let progress = icecore::transfer::NoProgress;
    let report = icecore::copy::copy_checkpoints(&env, &source, &plan, &target, &options, &progress, &mut never).await;
    target.end().await.unwrap();
    assert!(stopped(&report).is_none() && report.damaged.is_empty(), "{report:?}");
    assert_eq!(report.gone, [first]);
    assert_eq!(report.copied.len(), 2);
    pair.tasks.clear();
    pair.assert_copied("without what was dropped").await;
    pair.collect_target("without what was dropped").await;
}
