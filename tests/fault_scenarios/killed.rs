//! kill -9 of the server.

use super::{Job, Patience, Remote, until};
use crate::services::proxy::Rule;
use crate::task_support::Kind;

/// So slow that a large file is under way for a while, and the test sees it.
const SLOW: Rule = Rule::Rate { bytes_per_second: 4 << 20 };
const LARGE_BYTES: usize = 16 << 20;

/// It is there again soon, so the checkpoint is late and no more.
pub async fn in_the_middle_of_an_upload(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::RocksDb, Patience::DEFAULT).await;
    job.grow(LARGE_BYTES);
    remote.network().set(SLOW);
    let killing = async {
        until(|| remote.has_sent_a_piece()).await;
        remote.kill();
        remote.restart();
        remote.network().set(Rule::Pass);
    };
    let (outcome, ()) = tokio::join!(job.checkpoint(), killing);
    outcome.expect("the restart is bridged");
    job.settle().await;
}

/// It stays away until the checkpoint has failed, and takes what was sent of the upload with it.
pub async fn and_away_until_the_checkpoint_has_failed(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::RocksDb, Patience::NONE).await;
    job.grow(LARGE_BYTES);
    remote.network().set(SLOW);
    let killing = async {
        until(|| remote.has_sent_a_piece()).await;
        remote.kill();
    };
    let (outcome, ()) = tokio::join!(job.checkpoint(), killing);
    let error = outcome.expect_err("there was no server");
    assert!(error.is_retryable(), "{error}");
    job.churn(50);
    job.checkpoint().await.expect_err("there is no server");
    job.collect().await.expect_err("there is no server");
    remote.restart();
    remote.network().set(Rule::Pass);
    job.settle().await;
}

/// It has the index of a checkpoint, and dies before anybody hears of it.
pub async fn behind_a_commit_that_nobody_heard_of(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    remote.network().lose_answer(remote.write_of("_metadata"));
    let hits = remote.network().hits();
    let killing = async {
        until(|| remote.network().hits() > hits).await;
        remote.kill();
        remote.restart();
    };
    let (outcome, ()) = tokio::join!(job.checkpoint(), killing);
    let error = outcome.expect_err("nobody heard of it");
    assert_eq!(error.kind(), icecore::ErrorKind::OutcomeUnknown, "{error}");
    job.settle().await;
}
