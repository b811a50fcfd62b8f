//! kill -9 of one DataNode of three: before, during and after what is written and what is read.

use std::time::Duration;

use crate::fault_scenarios::{Job, Patience, Remote as _, until};
use crate::support::Place;
use crate::task_support::Kind;

const LARGE_BYTES: usize = 16 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datanode_that_died_before_a_checkpoint_is_gone_around() {
    let Some(place) = Place::own("dead-before").await else { return };
    let mut job = Job::start(&place, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    // It is offered for new files until it is declared dead.
    place.cluster().kill_datanode(0);
    job.checkpoint().await.expect("two of three are there");
    job.settle().await;
    place.bring_back(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datanode_that_dies_under_a_checkpoint_does_not_fail_it() {
    let Some(place) = Place::own("dead-during").await else { return };
    let mut job = Job::start(&place, Kind::RocksDb, Patience::DEFAULT).await;
    job.grow(LARGE_BYTES);
    let begun = place.network().count("addBlock", "");
    let killing = async {
        until(|| place.network().count("addBlock", "") > begun).await;
        place.cluster().kill_datanode(1);
    };
    let (outcome, ()) = tokio::join!(job.checkpoint(), killing);
    outcome.expect("what its death broke is sent again");
    job.settle().await;
    place.bring_back(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datanode_that_dies_after_a_checkpoint_or_under_a_restore_takes_nothing_along() {
    let Some(place) = Place::own("dead-after").await else { return };
    let mut job = Job::start(&place, Kind::RocksDb, Patience::DEFAULT).await;
    job.grow(LARGE_BYTES);
    job.checkpoint().await.unwrap();
    place.cluster().kill_datanode(2);
    job.assert_restorable().await;
    place.bring_back(2);
    let killing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        place.cluster().kill_datanode(0);
    };
    tokio::join!(job.assert_restorable(), killing);
    job.settle().await;
    place.bring_back(0);
}
