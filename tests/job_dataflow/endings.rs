//! A job comes to its end: by itself, by a stop with a savepoint, by cancelling.

use icecore::ErrorKind;
use icecore::job::Ending;
use icecore::metadata::CheckpointKind;
use icecore::store::StorePath;

use crate::dataflow::{assert_exact, committed, expected};
use crate::job::{Job, Settings, Turn, eventually};
use crate::job_process::signal;

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
    // It would go when somebody removes the one that is there.
    let error = job.manager.savepoint(&StorePath::new("savepoints/one/inner/a").unwrap()).await.unwrap_err();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_last_savepoint_cannot_be_taken_goes_on() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 10_000, 2_000);
    let job = Job::start(&settings).await;
    job.moves_on().await;
    let generation = job.generation();
    // While a worker stands still no checkpoint completes, so the savepoint's turn does not come.
    let stopped = job.process(0);
    signal(stopped, "STOP");
    let manager = job.manager.clone();
    let stopping = tokio::spawn(async move { manager.stop(Some(StorePath::new("kept/a").unwrap())).await });
    eventually("the order to stop", || async { job.manager.report().stopping }).await;
    let in_the_way = settings.root.join("store/kept/a");
    std::fs::create_dir_all(&in_the_way).unwrap();
    std::fs::write(in_the_way.join("something"), "else").unwrap();
    signal(stopped, "CONT");
    let error = stopping.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    job.moves_on().await;
    assert!(job.generation() > generation && !job.manager.report().stopping);
    assert_eq!(job.manager.report().failures, 0, "this is no failure");
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_behind_the_last_savepoint_keeps_no_job_from_stopping_and_nothing_is_read_beyond_it() {
    let folder = Turn::come().await;
    let mut settings = Settings::new(folder.path(), 20_000, 2_000);
    for round in 0..4_u64 {
        let job = Job::start(&settings).await;
        job.moves_on().await;
        let path = StorePath::new(format!("kept/{round}")).unwrap();
        let (manager, wanted) = (job.manager.clone(), path.clone());
        let worker = job.process(0);
        let stopping = tokio::spawn(async move { manager.stop(Some(wanted)).await });
        // In the first rounds anywhere on the way, in the last ones behind it.
        if round < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20 * (round + 1))).await;
        } else {
            let index = settings.root.join("store").join(path.as_str()).join("_metadata");
            eventually("the savepoint", || async { index.exists() }).await;
        }
        signal(worker, "KILL");
        match stopping.await.unwrap() {
            Ok(()) => settings.start_from = path.as_str().to_owned(),
            // A part of it lay there already: the job went on, and the next one goes on from its newest checkpoint.
            Err(error) => {
                assert!(round < 2 && error.kind() == ErrorKind::AlreadyExists, "round {round}: {error}");
                settings.start_from = String::new();
                job.manager.cancel();
            }
        }
        job.ended().await;
    }
    let job = Job::start(&settings).await;
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_goes_on_from_the_savepoint_of_another_job_under_greater_numbers_and_loses_no_output() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 20_000, 2_000);
    let job = Job::start(&settings).await;
    for _ in 0..4 {
        job.moves_on().await;
    }
    job.manager.stop(Some(StorePath::new("kept/a").unwrap())).await.unwrap();
    job.ended().await;
    let last = job.newest().unwrap();
    // As for a job that has had no checkpoint yet.
    std::fs::remove_dir_all(settings.root.join("store/job-count")).unwrap();
    let further = Settings { start_from: "kept/a".to_owned(), ..settings.clone() };
    let job = Job::start(&further).await;
    job.moves_on().await;
    assert!(job.newest().unwrap().checkpoint > last.checkpoint, "{:?}", job.newest());
    signal(job.process(0), "KILL");
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
}
