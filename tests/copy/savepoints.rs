//! Savepoints: copied as savepoints, to a path.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use icecore::copy::{SavepointPlan, copy_savepoint};
use icecore::restore::{Checkpoint, read_checkpoint, verify_checkpoint};
use icecore::store::testing::{Fault, Rule, Step};
use icecore::store::{StorePath, StoreRef};
use icecore::transfer::{NoProgress, TransferLimits};
use icecore::{ErrorKind, Result};

use crate::cut_store::{CutStore, Death};
use crate::pair::Pair;
use crate::support::{Task, World, finish};

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

/// A job with a savepoint at `keep/one`.
async fn with_savepoint() -> Pair {
    let mut pair = Pair::new().await;
    pair.write(0, "1.sst", "one");
    pair.write(1, "2.sst", vec![2; 1_200_000]);
    pair.write(0, "private-a", "manifest");
    let trigger = pair.owner.trigger_savepoint(&path("keep/one")).await.unwrap();
    let tasks: Vec<&Task> = pair.tasks.iter().collect();
    finish(&pair.owner, &tasks, &trigger).await;
    pair
}

async fn source(pair: &Pair) -> Checkpoint {
    read_checkpoint(Arc::clone(&pair.source.store) as StoreRef, Some(path("keep/one"))).await.unwrap()
}

async fn copy_to(pair: &Pair, store: StoreRef, folder: &str) -> Result<SavepointPlan> {
    let source = source(pair).await;
    let plan = SavepointPlan::new(&source, &store, &path(folder)).await?;
    let env = &pair.target.env;
    copy_savepoint(env, &source, &store, &plan, TransferLimits::default(), &NoProgress).await?;
    Ok(plan)
}

async fn copy(pair: &Pair, folder: &str) -> Result<SavepointPlan> {
    copy_to(pair, Arc::clone(&pair.target.store) as StoreRef, folder).await
}

async fn below(world: &World, folder: &str) -> BTreeMap<String, Bytes> {
    let folder = path(folder);
    let mut found = BTreeMap::new();
    for object in world.objects().await.into_keys() {
        if let Some(name) = object.below(&folder) {
            found.insert(name.to_owned(), world.read(&object).await.unwrap());
        }
    }
    found
}

async fn assert_there(pair: &Pair, folder: &str) {
    assert_eq!(below(&pair.target, folder).await, below(&pair.source, "keep/one").await);
    let copy = read_checkpoint(Arc::clone(&pair.target.store) as StoreRef, Some(path(folder))).await.unwrap();
    let limits = TransferLimits::default();
    let report = verify_checkpoint(&pair.target.env, &copy, true, limits, &NoProgress).await.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[tokio::test]
async fn a_savepoint_arrives_byte_by_byte_at_its_path_or_another() {
    let pair = with_savepoint().await;
    for folder in ["keep/one", "other/place"] {
        let plan = copy(&pair, folder).await.unwrap();
        assert_eq!((plan.files, plan.send_files, plan.bytes), (3, 3, plan.send_bytes));
        assert_there(&pair, folder).await;
    }
    // No job came to be, and none was claimed.
    assert!(pair.target.objects().await.keys().all(|path| !path.as_str().starts_with("job-")));
}

#[tokio::test]
async fn a_second_copy_writes_nothing() {
    let pair = with_savepoint().await;
    copy(&pair, "keep/one").await.unwrap();
    pair.target.counting.reset();
    let plan = copy(&pair, "keep/one").await.unwrap();
    assert!(plan.is_there && plan.send_bytes == 0);
    assert_eq!(pair.target.counting.requests(Step::Put) + pair.target.counting.requests(Step::Create), 0);
}

#[tokio::test]
async fn killed_at_any_request_it_is_completed_by_the_next_and_never_half_there() {
    for death in [Death::Before, Death::After] {
        for requests in 1.. {
            let pair = with_savepoint().await;
            let store = CutStore::new(Arc::clone(&pair.target.store) as StoreRef, requests, death);
            let outcome = copy_to(&pair, Arc::clone(&store) as StoreRef, "keep/one").await;
            if below(&pair.target, "keep/one").await.contains_key("_metadata") {
                assert_there(&pair, "keep/one").await;
            }
            if !store.is_dead() {
                outcome.unwrap();
                assert!(requests > 8, "only {requests} requests were tried");
                break;
            }
            copy(&pair, "keep/one").await.unwrap();
            assert_there(&pair, "keep/one").await;
        }
    }
}

#[tokio::test]
async fn what_an_interrupted_copy_sent_is_proven_and_not_sent_again() {
    let pair = with_savepoint().await;
    let rule = Rule::on(Step::Put).path_ends_with("_metadata");
    pair.target.store.inject(rule, Fault::Fail(ErrorKind::Io)).unwrap();
    assert_eq!(copy(&pair, "keep/one").await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    pair.target.counting.reset();
    let plan = copy(&pair, "keep/one").await.unwrap();
    assert_eq!((plan.files, plan.send_files), (3, 0));
    assert_eq!(pair.target.counting.traffic("keep/one/operator-op/").objects_begun, 0);
    assert_there(&pair, "keep/one").await;
}

#[tokio::test]
async fn whatever_else_lies_there_stays_and_is_in_the_way() {
    let other = "keep/one/notes.txt";
    let same_length = "keep/one/operator-op/subtask-0/1.sst";
    for name in [other, same_length] {
        let pair = with_savepoint().await;
        pair.target.memory.put(&path(name), Bytes::from_static(b"abc")).await.unwrap();
        assert_eq!(copy(&pair, "keep/one").await.unwrap_err().kind(), ErrorKind::AlreadyExists, "{name}");
        assert_eq!(pair.target.read(&path(name)).await.unwrap(), "abc");
        assert!(!below(&pair.target, "keep/one").await.contains_key("_metadata"));
    }
    // Another savepoint, too.
    let pair = with_savepoint().await;
    copy(&pair, "keep/one").await.unwrap();
    let second = pair.owner.trigger_savepoint(&path("keep/two")).await.unwrap();
    let tasks: Vec<&Task> = pair.tasks.iter().collect();
    finish(&pair.owner, &tasks, &second).await;
    let source = read_checkpoint(Arc::clone(&pair.source.store) as StoreRef, Some(path("keep/two"))).await.unwrap();
    let store = Arc::clone(&pair.target.store) as StoreRef;
    let refused = SavepointPlan::new(&source, &store, &path("keep/one")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn a_job_s_folder_is_no_place_for_a_savepoint_and_a_checkpoint_is_none() {
    let pair = Pair::with_history().await;
    let folder = *pair.source.view().await.checkpoints.keys().next().unwrap();
    let checkpoint = pair.copy_source().await.checkpoint(folder).unwrap();
    let store = Arc::clone(&pair.target.store) as StoreRef;
    assert_eq!(
        SavepointPlan::new(&checkpoint, &store, &path("keep/one")).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let pair = with_savepoint().await;
    assert_eq!(copy(&pair, "job-j/cp-9").await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_damaged_savepoint_is_not_copied() {
    let pair = with_savepoint().await;
    let object = path("keep/one/operator-op/subtask-1/2.sst");
    pair.source.memory.delete(std::slice::from_ref(&object)).await.pop().unwrap().unwrap();
    pair.source.memory.put(&object, Bytes::from(vec![3; 1_200_000])).await.unwrap();
    let error = copy(&pair, "keep/one").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(object.as_str()), "{error}");
    assert!(!below(&pair.target, "keep/one").await.contains_key("_metadata"));
}
