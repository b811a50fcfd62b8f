//! Checkpoints that must not be begun, and a stop that cannot be had.

use super::*;

/// In which a manager finds out that too many checkpoints have failed.
const A_FEW_TICKS: Duration = Duration::from_secs(1);

#[tokio::test]
async fn no_checkpoint_is_begun_behind_the_last_one_as_sources_say_no_more_where_they_stand() {
    let (_folder, orders, manager) = manager(1).await;
    let mut worker = only_worker(&orders, &manager, &job()).await;
    worker.said.send(Say::Drained.encode()).await.unwrap();
    let last = worker.hears_a_trigger().await;
    worker.acknowledges(&last).await.unwrap();
    while worker.hears().await.expect("the last checkpoint is complete") != Tell::Close {}
    let kept = StorePath::new("kept/a").unwrap();
    assert_eq!(manager.savepoint(&kept).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(manager.trigger(CheckpointKind::Incremental).await.unwrap_err().kind(), ErrorKind::Cancelled);
    // One that was begun at the same moment.
    let trigger = manager.coordinator().trigger(CheckpointKind::Incremental).unwrap();
    let number = trigger.checkpoint;
    assert_eq!(manager.hand_out(trigger).unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(manager.outcome_of(number).await.unwrap_err().kind(), ErrorKind::Cancelled);
    // That is no failure of the job's.
    tokio::time::sleep(A_FEW_TICKS).await;
    worker.said.send(Say::Finished.encode()).await.unwrap();
    assert_eq!(manager.ended().await, Ending::Finished);
    assert_eq!(manager.status().generation, 1);
}

#[tokio::test]
async fn a_checkpoint_is_not_handed_out_behind_a_later_one() {
    let (_folder, orders, manager) = manager(1).await;
    let mut worker = only_worker(&orders, &manager, &job()).await;
    let slow = manager.coordinator().trigger(CheckpointKind::Incremental).unwrap();
    let number = slow.checkpoint;
    let quick = manager.coordinator().trigger_savepoint(&StorePath::new("kept/a").unwrap()).await.unwrap();
    let quick = manager.hand_out(quick).unwrap();
    assert!(number < quick);
    assert_eq!(manager.hand_out(slow).unwrap_err().kind(), ErrorKind::Temporary);
    assert_eq!(manager.outcome_of(number).await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(worker.hears_a_trigger().await.checkpoint, quick);
    tokio::time::sleep(A_FEW_TICKS).await;
    assert_eq!(manager.status().generation, 1, "that is no failure of the workers");
}

#[tokio::test]
async fn a_stop_whose_savepoint_fails_again_and_again_is_given_up_and_the_job_goes_on() {
    let (_folder, orders, manager) = manager(1).await;
    let mut worker = only_worker(&orders, &manager, &job()).await;
    let stops = tokio::spawn({
        let manager = manager.clone();
        async move { manager.stop(Some(StorePath::new("kept/a").unwrap())).await }
    });
    let last = worker.hears_a_trigger().await;
    worker.acknowledges(&last).await.unwrap();
    for _ in 0..last::MAX_FAILED_SAVEPOINTS {
        let savepoint = worker.hears_a_trigger().await;
        assert_eq!(savepoint.kind, CheckpointKind::Savepoint);
        let decline = Decline {
            pass: worker.pass,
            checkpoint: savepoint.checkpoint,
            operator: counts().operator,
            reason: "nothing can be written there".to_owned(),
        };
        worker.client.ask(&worker.pass, calls::DECLINE, decline.encode()).await.unwrap();
    }
    let error = tokio::time::timeout(PATIENCE, stops).await.unwrap().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.to_string().contains("savepoints could not be taken"), "{error}");
    let mut next = Puppet::register(&orders.number(1).await).await.unwrap();
    next.is_deployed().await;
}
