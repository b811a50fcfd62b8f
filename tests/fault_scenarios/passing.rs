//! Networks that are slow, break, or are away for a while.

use std::time::Duration;

use super::{Job, Patience, Remote};
use crate::services::proxy::Rule;
use crate::task_support::Kind;

pub async fn delays(remote: &impl Remote) {
    remote.network().set(Rule::Delay(Duration::from_millis(15)));
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    job.checkpoint().await.expect("it is slow and no more");
    job.settle().await;
}

/// Connections break in the middle of what is sent: of the first files, so that none is left for the index, whose outcome nobody would know.
pub async fn cut_uploads(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    let before = remote.network().cuts();
    job.churn(50);
    remote.network().set(Rule::CutUp { after: 1_500, times: 3 });
    job.checkpoint().await.expect("what broke is sent again");
    remote.network().set(Rule::Pass);
    assert!(remote.network().cuts() > before, "nothing was cut");
    job.settle().await;
}

/// A large file, which is sent in pieces.
pub async fn a_large_upload_that_is_cut(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::RocksDb, Patience::DEFAULT).await;
    job.grow(16 << 20);
    remote.network().set(Rule::CutUp { after: 3 << 20, times: 3 });
    job.checkpoint().await.expect("what broke is sent again");
    remote.network().set(Rule::Pass);
    assert!(remote.network().cuts() > 0, "nothing was cut");
    job.settle().await;
}

/// Connections break in the middle of what a restore reads.
pub async fn cut_restores(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    let newest = job.cluster.coordinator.latest().await.unwrap().unwrap();
    let before = remote.network().cuts();
    remote.network().set(Rule::CutDown { after: 4_000, times: 8 });
    job.cluster.restart_from(&newest, Kind::Heap, 3).await;
    job.cluster.assert_equals_model("restored through a network that breaks");
    remote.network().set(Rule::Pass);
    assert!(remote.network().cuts() > before, "nothing was cut");
    job.cluster.restart_from(&newest, Kind::Heap, 2).await;
    job.settle().await;
}

/// An endpoint that nobody listens at for a moment: the checkpoint waits for it.
pub async fn a_short_outage(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    remote.network().set(Rule::Refuse);
    let back = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        remote.network().set(Rule::Pass);
    };
    let (outcome, ()) = tokio::join!(job.checkpoint(), back);
    outcome.expect("the outage is bridged");
    job.settle().await;
}

/// One that nobody listens at for longer than a job is patient: checkpoints fail, and the job goes on.
pub async fn a_long_outage(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::NONE).await;
    job.churn(50);
    remote.network().set(Rule::Refuse);
    for _ in 0..2 {
        let error = job.checkpoint().await.unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }
    job.collect().await.expect_err("nobody is there");
    remote.network().set(Rule::Pass);
    job.settle().await;
}

/// A service that takes connections and says nothing. What it was sent may land when it wakes up, and does.
pub async fn silence(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience { silence: "3s", ..Patience::NONE }).await;
    job.churn(50);
    remote.network().set(Rule::Stall);
    let error = job.checkpoint().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    remote.network().set(Rule::Pass);
    // In this tenure or, if a slow machine ended that, in another one.
    if job.checkpoint().await.is_err() {
        job.restart().await;
    }
    job.settle().await;
}
