//! Requests that were carried out and whose answers are lost, and requests that are lost.

use icecore::ErrorKind;

use super::{Job, Patience, Remote};
use crate::task_support::Kind;

/// A file's upload is answered with an error: it is sent again under another name, and the first goes.
pub async fn answers_to_uploads(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    remote.network().lose_answer(remote.write_of("/shared/").times(4));
    job.checkpoint().await.expect("what failed is sent again");
    assert_eq!(remote.network().hits(), 4);
    job.settle().await;
}

pub async fn uploads(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    remote.network().lose_request(remote.write_of("/shared/").times(4));
    job.checkpoint().await.expect("what failed is sent again");
    assert_eq!(remote.network().hits(), 4);
    job.settle().await;
}

/// The commit landed, so it counts for whoever comes next; nobody was told before.
pub async fn the_answer_to_a_commit(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    remote.network().lose_answer(remote.write_of("_metadata"));
    let error = job.checkpoint().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert!(job.checkpoint().await.is_err(), "the tenure is over");
    assert_eq!(job.restart().await.checkpoint.0, 2, "it is there");
    job.settle().await;
}

/// The commit did not land, so it does not count for whoever comes next.
pub async fn a_commit(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    remote.network().lose_request(remote.write_of("_metadata"));
    let error = job.checkpoint().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert_eq!(job.restart().await.checkpoint.0, 1, "it is not there");
    job.settle().await;
}

/// Deletes whose answers are lost, and deletes that are lost, are sent again.
pub async fn deletes_and_their_answers(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    let mut dropped = Vec::new();
    for _ in 0..2 {
        job.churn(300);
        dropped.push(job.checkpoint().await.unwrap());
    }
    job.churn(300);
    job.checkpoint().await.unwrap();
    let before = remote.network().hits();
    remote.network().lose_answer(remote.delete_of("").times(2));
    job.drop_checkpoint(dropped[0]).await.unwrap();
    remote.network().lose_request(remote.delete_of("").times(2));
    job.drop_checkpoint(dropped[1]).await.unwrap();
    assert_eq!(remote.network().hits(), before + 4);
    job.settle().await;
}
