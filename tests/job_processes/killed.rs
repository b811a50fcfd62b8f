//! Workers as processes.

use std::sync::Arc;
use std::time::Instant;

use icecore::job::worker::LEFT_EXIT_CODE;
use icecore::job::{HeartbeatOptions, ProcessLauncher};
use parking_lot::Mutex;

use crate::support::*;

fn process_of(launcher: &ProcessLauncher, generation: u64, worker: u32) -> u32 {
    let ids = launcher.process_ids(generation);
    ids.iter().find(|(number, _)| *number == worker).unwrap().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_is_noticed_at_once_and_the_job_goes_on_from_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 6_000);
    let launcher = Arc::new(processes(folder.path(), &counting));
    let job = Job::start(folder, counting, launcher.clone(), options(2)).await;
    for generation in 1..=2 {
        job.runs(generation).await;
        eventually("a checkpoint of this generation", || async {
            job.manager.coordinator().completed().len() >= generation as usize
        })
        .await;
        if generation == 1 {
            job.is_half_way().await;
        }
        let killed_at = Instant::now();
        signal(process_of(&launcher, generation, generation as u32 % 2), "KILL");
        job.runs(generation + 1).await;
        // The heartbeat's time-out is five minutes.
        assert!(killed_at.elapsed() < NEVER / 2);
        let why = job.manager.status().last_failure.unwrap();
        assert!(why.contains("connection") || why.contains("process ended"), "{why}");
    }
    job.is_done().await;
    job.is_exact(2).await;
    job.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_is_noticed_by_the_time_out_and_changes_nothing_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 6_000);
    let processes = processes(folder.path(), &counting);
    let launcher = Arc::new(Unreaching { processes, ended: Mutex::default() });
    let mut options = options(2);
    options.run.heartbeat = HeartbeatOptions { interval: ms(100), timeout: ms(3000) };
    let job = Job::start(folder, counting, launcher.clone(), options).await;
    job.runs(1).await;
    job.is_half_way().await;
    let stopped = process_of(&launcher.processes, 1, 0);
    signal(stopped, "STOP");
    job.runs(2).await;
    let why = job.manager.status().last_failure.unwrap();
    assert!(why.starts_with("worker 0: no heartbeat for"), "{why}");

    let before = job.manager.coordinator().completed().last().map(|done| done.folder);
    eventually("a checkpoint of the new generation", || async {
        job.manager.coordinator().completed().last().map(|done| done.folder) > before
    })
    .await;
    signal(stopped, "CONT");
    eventually("the stale worker leaves", || async {
        launcher.ended.lock().iter().any(|ended| (ended.generation, ended.worker) == (1, 0))
    })
    .await;
    let ended = launcher.ended.lock().clone();
    for ended in &ended {
        assert_eq!(ended.generation, 1, "{ended:?}");
        assert!(ended.how.ends_with(&format!("exit status: {LEFT_EXIT_CODE}")), "{ended:?}");
    }
    job.is_done().await;
    job.is_exact(2).await;
    assert_eq!(job.manager.status().generation, 2);
    job.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_slow_and_moves_has_not_failed() {
    let folder = tempfile::tempdir().unwrap();
    let mut counting = counting(folder.path(), 12);
    // A step every 400 ms, and a time-out of 3 s: it takes nearly twice as long as that.
    (counting.batch, counting.pause) = (1, ms(400));
    let launcher = Arc::new(processes(folder.path(), &counting));
    let mut options = options(1);
    options.run.heartbeat = HeartbeatOptions { interval: ms(100), timeout: ms(3000) };
    let job = Job::start(folder, counting, launcher, options).await;
    job.is_done().await;
    assert_eq!(job.manager.status().generation, 1, "{:?}", job.manager.status().last_failure);
    job.is_exact(1).await;
    job.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_become_more_and_fewer_count_every_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let counting = counting(folder.path(), 6_000);
    let launcher = Arc::new(processes(folder.path(), &counting));
    let job = Job::start(folder, counting, launcher.clone(), options(1)).await;
    for (generation, workers) in [(1, 1), (2, 2), (3, 1)] {
        job.runs(generation).await;
        assert_eq!(launcher.process_ids(generation).len(), workers);
        let before = job.manager.coordinator().completed().last().map(|done| done.folder);
        eventually("a checkpoint of this generation", || async {
            job.manager.coordinator().completed().last().map(|done| done.folder) > before
        })
        .await;
        if generation < 3 {
            job.manager.rescale(3 - workers as u32).unwrap();
        }
    }
    job.is_done().await;
    job.is_exact(1).await;
    job.end().await;
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_worker_that_leaves_while_databases_are_opened_ends_with_its_code_and_by_no_signal() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        let status = end_of_one_that_leaves_while_databases_open(folder.path());
        assert_eq!(status.code(), Some(LEFT_EXIT_CODE), "{status}");
    }
}
