//! A job comes to its end: by itself, by a stop with a savepoint, by cancelling.

use icecore::ErrorKind;
use icecore::job::Ending;
use icecore::metadata::CheckpointKind;
use icecore::store::StorePath;

use crate::dataflow::{assert_exact, committed, expected};
use crate::job::{Job, Settings, Turn};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_job_has_committed_all_that_it_read_and_goes_on_elsewhere_from_its_savepoint() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 20_000, 2_000);
    let job = Job::start(&settings).await;
    job.moves_on().await;
    let path = StorePath::new("savepoints/first").unwrap();
    job.manager.stop(Some(path.clone())).await.unwrap();
    assert_eq!(job.ends().await, Ending::Finished);

    let savepoint = icecore::restore::read_checkpoint(settings.store(), Some(path.clone())).await.unwrap();
    assert_eq!(savepoint.metadata.kind, CheckpointKind::Savepoint);
    let stood: u64 = savepoint
        .metadata
        .sources
        .iter()
        .map(|position| u64::from_be_bytes(position.position.as_slice().try_into().unwrap()))
        .sum();
    let before = committed(&settings.outputs());
    assert_eq!(before.len() as u64, stood, "what was read and what came out");
    assert!(before.len() < expected(settings.end).len(), "it was too fast");

    let further = Settings { workers: 3, start_from: path.as_str().to_owned(), ..settings.clone() };
    let job = Job::start(&further).await;
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_savepoint_beside_the_job_disturbs_nothing_and_is_refused_where_something_lies() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 20_000, 5_000);
    let job = Job::start(&settings).await;
    job.moves_on().await;
    let path = StorePath::new("savepoints/one").unwrap();
    let savepoint = job.manager.savepoint(&path).await.unwrap();
    let error = job.manager.savepoint(&path).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let error = job.manager.stop(Some(path.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    let read = icecore::restore::read_checkpoint(settings.store(), Some(path)).await.unwrap();
    assert_eq!(read.metadata.folder(), savepoint);
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
    assert_eq!(job.generation(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_keeps_its_checkpoints_and_the_next_one_goes_on_from_them() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 20_000, 5_000);
    let job = Job::start(&settings).await;
    job.moves_on().await;
    let error = job.manager.checkpoint(CheckpointKind::Savepoint).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    job.manager.cancel();
    assert_eq!(job.ends().await, Ending::Cancelled);
    let job = Job::start(&settings).await;
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
}
