//! A copy that ends anywhere: killed, cut off, fenced, out of room, with answers that get lost.

use std::sync::Arc;

use futures::FutureExt as _;
use icecore::copy::{CopyOptions, CopyPlan, copy_checkpoints};
use icecore::store::StoreRef;
use icecore::store::testing::{Fault, Rule, Step};
use icecore::transfer::{NoProgress, TransferLimits};
use icecore::{Error, ErrorKind};

use crate::cut_store::{CutStore, Death};
use crate::pair::{Pair, all, keep_all, stopped};

/// Small and with two checkpoints of which the second shares with the first: every request is tried.
async fn small_pair() -> Pair {
    let mut pair = Pair::new().await;
    pair.write(0, "1.sst", "one");
    pair.write(1, "2.sst", "two");
    pair.write(0, "private-a", "manifest 1");
    pair.checkpoint().await;
    pair.write(0, "3.sst", vec![3; 1_100_000]);
    pair.write(0, "private-a", "manifest 2");
    pair.checkpoint().await;
    pair
}

async fn copy_cut_at(requests: u64, death: Death) -> bool {
    let when = format!("dead {death:?} request {requests}");
    let pair = small_pair().await;
    let store = CutStore::new(Arc::clone(&pair.target.store) as StoreRef, requests, death);
    let report = pair.copy_to(Arc::clone(&store) as StoreRef, &CopyOptions::default()).await;
    pair.target.assert_sound(&when).await;
    let told = report.map_or(0, |report| report.copied.len());
    assert!(pair.target.counting_ids().await.len() >= told, "{when}: told as copied, and not there");
    if !store.is_dead() {
        return false;
    }
    // Begun anew, it completes, doubles nothing and keeps the numbers.
    let report = pair.copy(&CopyOptions::default()).await;
    assert!(stopped(&report).is_none(), "{when}: {report:?}");
    pair.assert_copied(&when).await;
    pair.collect_target(&when).await;
    true
}

#[tokio::test]
async fn killed_at_any_request_it_is_completed_by_the_next_copy_and_leaves_no_orphan() {
    for death in [Death::Before, Death::After] {
        let mut requests = 1;
        while copy_cut_at(requests, death).await {
            requests += 1;
        }
        assert!(requests > 40, "only {requests} requests were tried");
    }
}

/// A fault at one request only, after which the stores work again; `true` if it happened.
async fn copy_with(step: Step, n: u64, fault: Fault) -> bool {
    let when = format!("{step:?} {n} {fault:?}");
    let pair = small_pair().await;
    pair.target.store.inject(Rule::on(step).nth(n), fault).unwrap();
    let outcome = pair.copy_to(Arc::clone(&pair.target.store) as StoreRef, &CopyOptions::default()).await;
    if pair.target.store.fired() == 0 {
        assert!(outcome.is_ok_and(|report| report.stopped.is_none()), "{when}");
        return false;
    }
    pair.target.store.heal();
    pair.target.assert_sound(&when).await;
    let report = pair.copy_to(Arc::clone(&pair.target.store) as StoreRef, &CopyOptions::default()).await;
    // Whatever was on its way lands in the end.
    for landed in pair.target.store.land_late().await {
        landed.unwrap();
    }
    // A claim that lands late may be the greater one, and its epoch never starts.
    pair.target.assert_sound(&format!("{when}, landed")).await;
    drop(report);
    let report = pair.copy(&CopyOptions::default()).await;
    assert!(stopped(&report).is_none(), "{when}: {report:?}");
    pair.assert_copied(&when).await;
    pair.collect_target(&when).await;
    true
}

#[tokio::test]
async fn a_fault_at_any_write_or_delete_doubles_nothing_and_loses_nothing() {
    let kind = ErrorKind::Io;
    let mut tried = 0;
    for step in [Step::Put, Step::Finish, Step::Delete] {
        for fault in [Fault::Fail(kind), Fault::LoseAnswer(kind), Fault::LandLater(kind)] {
            for n in 1.. {
                if !copy_with(step, n, fault).await {
                    break;
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 25, "only {tried} faults were tried");
}

#[tokio::test]
async fn a_passing_error_is_tried_again_under_a_fresh_name() {
    for (step, fault) in [
        (Step::Put, Fault::Fail(ErrorKind::Temporary)),
        (Step::Put, Fault::LoseAnswer(ErrorKind::Temporary)),
        (Step::Finish, Fault::LandLater(ErrorKind::Temporary)),
    ] {
        for place in ["shared/", "operator-op/"] {
            let pair = small_pair().await;
            let rule = Rule::on(step).path_contains(place);
            pair.target.store.inject(rule, fault).unwrap();
            let report = pair.copy(&CopyOptions::default()).await;
            if step == Step::Put || place == "shared/" {
                assert_eq!(pair.target.store.fired(), 1, "{step:?} {fault:?} {place}");
            }
            assert!(stopped(&report).is_none(), "{report:?}");
            assert_eq!(report.copied.len(), 2);
            for landed in pair.target.store.land_late().await {
                landed.unwrap();
            }
            pair.assert_copied("after a passing error").await;
            pair.collect_target("after a passing error").await;
        }
    }
}

#[tokio::test]
async fn a_full_target_stops_it_with_nothing_half_and_it_goes_on_once_there_is_room() {
    for nth in [1, 2, 3, 4] {
        let pair = small_pair().await;
        let full = Fault::Fail(ErrorKind::StorageFull);
        for (step, place) in [(Step::Put, "shared/"), (Step::Put, "operator-op/"), (Step::Write, "shared/")] {
            let rule = Rule::on(step).path_contains(place);
            pair.target.store.inject(rule.nth(nth).always(), full).unwrap();
        }
        let report = pair.copy(&CopyOptions { keep_going: true, ..CopyOptions::default() }).await;
        if pair.target.store.fired() == 0 {
            break;
        }
        assert_eq!(stopped(&report), Some(ErrorKind::StorageFull), "{nth}: {report:?}");
        // What was sent in vain is gone at once, so that there is room for the next attempt.
        pair.target.assert_exact("out of room").await;
        assert_eq!(pair.target.counting_ids().await.len(), report.copied.len());
        pair.target.store.heal();
        pair.copy(&CopyOptions::default()).await;
        pair.assert_copied("room again").await;
        pair.collect_target("room again").await;
    }
}

#[tokio::test]
async fn one_that_is_fenced_while_it_sends_completes_nothing_more() {
    let pair = small_pair().await;
    let gate = pair.target.store.park(Rule::on(Step::Put).path_contains("shared/").nth(2));
    let options = CopyOptions::default();
    let copying = pair.copy(&options);
    let fencing = async {
        gate.reached().await;
        let other = pair.target.coordinator_on(pair.target.memory.clone(), 2, keep_all(), vec![]).await.unwrap();
        gate.release();
        other
    };
    let (report, other) = futures::join!(copying, fencing);
    assert_eq!(stopped(&report), Some(ErrorKind::Fenced), "{report:?}");
    assert!(report.copied.is_empty());
    assert!(other.completed().is_empty());
    other.end().await.unwrap();
    pair.copy(&CopyOptions::default()).await;
    pair.assert_copied("after being fenced").await;
    pair.collect_target("after being fenced").await;
}

#[tokio::test]
async fn one_that_is_told_to_stop_gives_up_files_under_way_and_can_be_repeated() {
    let pair = small_pair().await;
    let source = pair.copy_source().await;
    let target = pair.target.coordinator(2, keep_all()).await;
    let options =
        CopyOptions { limits: TransferLimits { parallelism: 1, small_parallelism: 1 }, ..CopyOptions::default() };
    let plan = CopyPlan::new(&source.view, &all(&source.view), &target.view(), &options).unwrap();
    // Held for ever: only the stop ends it.
    let gate = pair.target.store.park(Rule::on(Step::Put).path_contains("shared/").nth(2));
    let mut stop = async {
        gate.reached().await;
        Error::new(ErrorKind::Cancelled, "test", "stop it")
    }
    .boxed();
    let env = &pair.target.env;
    let report = copy_checkpoints(env, &source, &plan, &target, &options, &NoProgress, &mut stop).await;
    assert_eq!(stopped(&report), Some(ErrorKind::Cancelled), "{report:?}");
    assert_eq!(report.stopped.unwrap().message(), "stop it");
    drop(stop);
    drop(gate);
    // The tenure goes on, and nothing is in flight in it.
    target.check().unwrap();
    pair.target.assert_exact("stopped").await;
    let plan = CopyPlan::new(&source.view, &all(&source.view), &target.view(), &options).unwrap();
    // This tenure has begun checkpoint 1, so it has to take another number for it (R2).
    let mut never = futures::future::pending();
    let report = copy_checkpoints(env, &source, &plan, &target, &options, &NoProgress, &mut never).await;
    assert_eq!(stopped(&report), Some(ErrorKind::InvalidInput), "{report:?}");
    target.end().await.unwrap();
    pair.copy(&CopyOptions::default()).await;
    pair.assert_copied("stopped and repeated").await;
    pair.collect_target("stopped and repeated").await;
}

#[tokio::test]
async fn a_commit_under_way_is_waited_for_when_it_is_told_to_stop() {
    let pair = small_pair().await;
    let source = pair.copy_source().await;
    let target = pair.target.coordinator(2, keep_all()).await;
    let options = CopyOptions::default();
    let plan = CopyPlan::new(&source.view, &all(&source.view), &target.view(), &options).unwrap();
    let gate = pair.target.store.park_after(Rule::on(Step::Put).path_ends_with("_metadata"));
    let mut stop = async {
        gate.reached().await;
        gate.release();
        Error::new(ErrorKind::Cancelled, "test", "stop it")
    }
    .boxed();
    let env = &pair.target.env;
    let report = copy_checkpoints(env, &source, &plan, &target, &options, &NoProgress, &mut stop).await;
    assert_eq!(report.copied.len(), 1, "{report:?}");
    assert_eq!(report.stopped.unwrap().message(), "stop it");
    target.end().await.unwrap();
    assert_eq!(pair.target.counting_ids().await, [1]);
}
