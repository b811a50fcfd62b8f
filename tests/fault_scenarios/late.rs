//! Writes that land long after their writer gave them up.

use icecore::ErrorKind;

use super::{Job, Patience, Remote};
use crate::task_support::Kind;

/// Files that were sent again under other names land when everything was collected already: they are found by the
/// next collection.
pub async fn uploads(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    remote.network().hold(remote.write_of("/shared/").times(3));
    job.checkpoint().await.expect("what failed is sent again");
    job.collect().await.unwrap();
    job.collect().await.unwrap();
    job.assert_exact().await;
    let landed = remote.network().release();
    assert!(landed.len() == 3 && landed.iter().all(|status| status == "200"), "{landed:?}");
    job.settle().await;
}

/// The index of a checkpoint lands under a successor that did not see it: it never counts, and goes.
pub async fn a_commit(remote: &impl Remote) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    remote.network().hold(remote.write_of("_metadata"));
    let error = job.checkpoint().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert_eq!(job.restart().await.checkpoint.0, 1);
    job.churn(50);
    let newest = job.checkpoint().await.unwrap();
    assert_eq!(remote.network().release(), ["200"]);
    assert_eq!(job.restart().await, newest, "what landed late counts for somebody");
    job.settle().await;
}
