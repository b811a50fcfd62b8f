//! kill -9 of the NameNode, and its restart.

use crate::fault_scenarios::{Job, Patience, Remote as _, killed};
use crate::support::Place;
use crate::task_support::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_node_that_dies_under_an_upload_and_comes_back_is_waited_for() {
    let Some(place) = Place::own("nn-killed").await else { return };
    killed::in_the_middle_of_an_upload(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_node_that_stays_away_fails_checkpoints_and_nothing_of_them_is_left() {
    let Some(place) = Place::own("nn-away").await else { return };
    let mut job = Job::start(&place, Kind::Heap, Patience::NONE).await;
    job.churn(50);
    place.kill();
    for _ in 0..2 {
        let error = job.checkpoint().await.expect_err("there is no NameNode");
        assert!(error.is_retryable(), "{error}");
    }
    job.collect().await.expect_err("there is no NameNode");
    place.restart();
    job.settle().await;
}
