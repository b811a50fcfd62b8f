//! A store that refuses: full, or not for us.

use icecore::coordinator::{Coordinator, CoordinatorOptions};
use icecore::env::Env;
use icecore::store::{Access, StoreRef};
use icecore::{Error, ErrorKind};

use super::{Job, Patience, Remote};
use crate::task_support::{Kind, described, job as job_id};

/// `fill` leaves no room, `free` makes it again.
pub async fn for_want_of_room(remote: &impl Remote, fill: impl Fn(), free: impl Fn()) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    fill();
    for _ in 0..2 {
        let error = job.checkpoint().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    }
    // What is there can be read all the same.
    job.assert_restorable().await;
    free();
    job.settle().await;
}

/// In the middle of a large file.
pub async fn in_the_middle_of_an_upload(remote: &impl Remote, bytes: usize, free: impl Fn()) {
    let mut job = Job::start(remote, Kind::RocksDb, Patience::DEFAULT).await;
    job.grow(bytes);
    let error = job.checkpoint().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    free();
    job.settle().await;
}

/// Whoever opens the place as `wrong` does hears `kind` and never that it is empty, and changes nothing.
pub async fn is_never_empty(remote: &impl Remote, wrong: &StoreRef, kind: ErrorKind) {
    let mut job = Job::start(remote, Kind::Heap, Patience::DEFAULT).await;
    job.churn(50);
    job.checkpoint().await.unwrap();
    for error in refusals(wrong).await {
        assert_eq!(error.kind(), kind, "{error}");
    }
    // Nobody was fenced, and nothing was written: the job goes on as if nobody had tried.
    job.checkpoint().await.unwrap();
    job.settle().await;
}

async fn refusals(wrong: &StoreRef) -> Vec<Error> {
    let start = Coordinator::start(
        wrong.clone(),
        job_id(),
        vec![described(8, 2)],
        Env::system().unwrap(),
        CoordinatorOptions::default(),
        Vec::new(),
    );
    vec![
        wrong.probe(Access::Read).await.unwrap_err(),
        wrong.probe(Access::Change).await.unwrap_err(),
        start.await.map(drop).unwrap_err(),
    ]
}
