//! Which number a copy has at the target, and what is not copied because of numbers.

use icecore::coordinator::Coordinator;
use icecore::copy::{CopyOptions, CopyPlan, Refusal, Verdict};
use icecore::layout::{CheckpointFolder, CheckpointId, JobLayout};
use icecore::metadata::{CheckpointKind, CheckpointMetadata, encode};
use icecore::ownership::JobView;
use icecore::store::StoreRef;
use icecore::transfer::NoProgress;

use crate::pair::{Pair, all, job_id, keep_all, stopped};
use crate::support::{Task, checkpoint};

async fn native(pair: &Pair, content: &str) -> CheckpointFolder {
    let owner = pair.target.coordinator(1, keep_all()).await;
    let mut task: Task = pair.target.task(&owner, 0, 1);
    task.write("native.sst", content);
    let folder = checkpoint(&owner, &[&task]).await;
    owner.end().await.unwrap();
    folder
}

#[tokio::test]
async fn a_number_is_kept_even_if_an_interrupted_copy_has_left_a_folder_of_it() {
    let pair = Pair::with_history().await;
    // An owner of the target that began checkpoint 1, sent a file of its own, and vanished.
    let vanished = pair.target.coordinator(1, keep_all()).await;
    let mut task = pair.target.task(&vanished, 0, 1);
    task.write("private-x", "left behind");
    let trigger = vanished.trigger(CheckpointKind::Incremental).unwrap();
    task.upload(&trigger).await.unwrap();
    assert_eq!(pair.target.view().await.next_checkpoint(), CheckpointId(2));
    let report = pair.copy(&CopyOptions::default()).await;
    assert!(stopped(&report).is_none(), "{report:?}");
    pair.assert_copied("after an interrupted one").await;
    pair.collect_target("after an interrupted one").await;
}

#[tokio::test]
async fn a_checkpoint_goes_below_none_that_is_there_unless_it_is_put_on_top() {
    let pair = Pair::with_history().await;
    native(&pair, "a").await;
    native(&pair, "b").await;
    let plan = pair.plan(&CopyOptions::default()).await;
    let verdicts: Vec<_> = plan.steps.iter().map(|step| step.verdict.clone()).collect();
    let taken = Verdict::Refused(Refusal::NumberTaken(CheckpointId(3)));
    assert_eq!(verdicts, [taken.clone(), taken, Verdict::Send(CheckpointId(3))]);
    let report = pair.copy(&CopyOptions::default()).await;
    assert_eq!(report.copied.len(), 1);
    assert_eq!(pair.target.counting_ids().await, [1, 2, 3]);
    // On top the others get the next free numbers, and are known by their origin from then on.
    let options = CopyOptions { on_top: true, ..CopyOptions::default() };
    let report = pair.copy(&options).await;
    let numbers: Vec<_> =
        report.copied.iter().map(|copied| (copied.source.checkpoint.0, copied.target.checkpoint.0)).collect();
    assert_eq!(numbers, [(1, 4), (2, 5)]);
    assert!(pair.plan(&options).await.is_empty());
    // What is newest there now is older than checkpoint 3, so nobody says that all newer ones are there.
    pair.collect_target("on top").await;
}

#[tokio::test]
async fn an_older_state_on_top_does_not_pass_for_the_newest() {
    let mut pair = Pair::with_history().await;
    native(&pair, "a").await;
    native(&pair, "b").await;
    let options = CopyOptions { on_top: true, ..CopyOptions::default() };
    pair.copy(&options).await;
    assert_eq!(pair.target.counting_ids().await, [1, 2, 3, 4, 5]);
    // The copy of checkpoint 3 has number 5 there. Checkpoint 4 is newer than that, and must not be called older.
    pair.write(0, "7.sst", "seven");
    pair.checkpoint().await;
    let plan = pair.plan(&CopyOptions::default()).await;
    assert_eq!(plan.steps[3].verdict, Verdict::Refused(Refusal::NumberTaken(CheckpointId(6))), "{plan}");
}

#[tokio::test]
async fn another_job_s_state_is_not_mixed_with_unless_asked() {
    let pair = Pair::with_history().await;
    let source = pair.copy_source().await;
    let other = JobLayout::new(job_id("k")).unwrap();
    let store = pair.target.store.clone() as StoreRef;
    let start = || {
        let (store, env) = (store.clone(), pair.target.env.clone());
        Coordinator::start(store, job_id("k"), crate::support::operators(1), env, keep_all(), vec![])
    };
    let owner = start().await.unwrap();
    let mut task = pair.target.task(&owner, 0, 1);
    task.write("1.sst", "k's own");
    let own = checkpoint(&owner, &[&task]).await;
    owner.end().await.unwrap();
    let view = JobView::read(&*store, &other).await.unwrap();
    // Its only checkpoint is numbered 1, so that 2 and 3 had room above it.
    let plan = CopyPlan::new(&source.view, &all(&source.view), &view, &CopyOptions::default()).unwrap();
    let refused = Verdict::Refused(Refusal::OtherJob(own, job_id("k")));
    assert!(plan.steps.iter().all(|step| step.verdict == refused), "{plan}");
    let options = CopyOptions { on_top: true, ..CopyOptions::default() };
    let owner = start().await.unwrap();
    let plan = CopyPlan::new(&source.view, &all(&source.view), &owner.view(), &options).unwrap();
    let mut never = futures::future::pending();
    let env = &pair.target.env;
    let report = icecore::copy::copy_checkpoints(env, &source, &plan, &owner, &options, &NoProgress, &mut never).await;
    assert!(stopped(&report).is_none(), "{report:?}");
    let numbers: Vec<u64> = owner.completed().iter().map(|done| done.folder.checkpoint.0).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_copy_under_another_job_id_is_the_same_state() {
    let pair = Pair::with_history().await;
    let source = pair.copy_source().await;
    let (store, env) = (pair.target.store.clone() as StoreRef, pair.target.env.clone());
    let owner = Coordinator::start(store.clone(), job_id("k"), vec![], env.clone(), keep_all(), vec![]).await.unwrap();
    let options = CopyOptions::default();
    let plan = CopyPlan::new(&source.view, &all(&source.view), &owner.view(), &options).unwrap();
    let mut never = futures::future::pending();
    let report = icecore::copy::copy_checkpoints(&env, &source, &plan, &owner, &options, &NoProgress, &mut never).await;
    assert_eq!(report.copied.len(), 3, "{report:?}");
    let view = JobView::read(&*store, &JobLayout::new(job_id("k")).unwrap()).await.unwrap();
    for (folder, checkpoint) in &view.checkpoints {
        let copy = checkpoint.content.clone().unwrap();
        let original = source.view.checkpoint(folder.checkpoint).unwrap().content.clone().unwrap();
        assert_eq!(copy.job, job_id("k"));
        assert_eq!(copy.identity(), original.identity());
        assert_eq!(
            crate::pair::contents(&pair.target, &copy).await,
            crate::pair::contents(&pair.source, &original).await
        );
    }
    // Both names of the job are one lineage: more of it may follow.
    let plan = CopyPlan::new(&source.view, &all(&source.view), &view, &options).unwrap();
    assert!(plan.is_empty(), "{plan}");
}

/// Puts a `_metadata` into the source that its owner never wrote.
async fn forge(pair: &Pair, change: impl FnOnce(&mut CheckpointMetadata)) -> CheckpointFolder {
    let view = pair.source.view().await;
    let mut metadata = (*view.newest().unwrap().content.clone().unwrap()).clone();
    metadata.checkpoint = CheckpointId(4);
    change(&mut metadata);
    let path = pair.source.layout.metadata(metadata.folder()).unwrap();
    pair.source.memory.put(&path, encode(&metadata).unwrap().into()).await.unwrap();
    metadata.folder()
}

#[tokio::test]
async fn the_greatest_number_and_a_savepoint_in_a_job_s_folder_are_refused() {
    let pair = Pair::with_history().await;
    forge(&pair, |metadata| metadata.kind = CheckpointKind::Savepoint).await;
    forge(&pair, |metadata| {
        (metadata.kind, metadata.checkpoint) = (CheckpointKind::Incremental, CheckpointId(u64::MAX));
    })
    .await;
    let plan = pair.plan(&CopyOptions::default()).await;
    assert_eq!(plan.steps[3].verdict, Verdict::Refused(Refusal::Savepoint), "{plan}");
    assert_eq!(plan.steps[4].verdict, Verdict::Refused(Refusal::LastNumber), "{plan}");
    let report = pair.copy(&CopyOptions { on_top: true, ..CopyOptions::default() }).await;
    assert!(stopped(&report).is_none(), "{report:?}");
    assert_eq!(report.copied.len(), 3);
}

#[tokio::test]
async fn one_that_only_says_it_is_the_same_is_refused() {
    let pair = Pair::with_history().await;
    pair.copy(&CopyOptions::default()).await;
    let known = pair.source.view().await.newest().unwrap().content.clone().unwrap();
    let folder = forge(&pair, |metadata| {
        metadata.origin = Some(known.identity());
        metadata.triggered_at_unix_ms += 1;
    })
    .await;
    let plan = pair.plan(&CopyOptions::default()).await;
    let step = plan.steps.iter().find(|step| step.source == folder).unwrap();
    assert!(matches!(step.verdict, Verdict::Refused(Refusal::OtherContent(_))), "{plan}");
}

#[tokio::test]
async fn an_import_is_refused_a_number_that_was_taken() {
    let pair = Pair::with_history().await;
    let owner = pair.target.coordinator(1, keep_all()).await;
    let import = owner.begin_import(CheckpointId(5), CheckpointKind::Incremental).unwrap();
    assert_eq!(owner.least_import(), CheckpointId(6));
    drop(import);
    // Given up is taken all the same (R2).
    for taken in [0, 4, 5, u64::MAX] {
        assert!(owner.begin_import(CheckpointId(taken), CheckpointKind::Incremental).is_err(), "{taken}");
    }
    assert!(owner.begin_import(CheckpointId(6), CheckpointKind::Savepoint).is_err());
    // The job's own checkpoints go on above it.
    assert_eq!(owner.trigger(CheckpointKind::Incremental).unwrap().checkpoint, CheckpointId(6));
}
