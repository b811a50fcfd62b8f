//! Workers are killed, stopped, and become more and fewer.

use icecore::job::Ending;

use crate::dataflow::assert_exact;
use crate::job::{Job, Settings, Turn, eventually, ms};
use crate::job_process::signal;

/// Long enough for what the tests do to it.
const END: u64 = 24_000;
const PER_SECOND: u64 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_happens_and_each_output_comes_out_once() {
    let folder = Turn::come().await;
    let settings = Settings { workers: 3, ..Settings::new(folder.path(), 20_000, 20_000) };
    let job = Job::start(&settings).await;
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
    assert_eq!(job.generation(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_with_state_in_rocksdb_are_killed_and_each_output_comes_out_once() {
    let folder = Turn::come().await;
    let settings = Settings { is_rocksdb: true, ..Settings::new(folder.path(), END / 2, PER_SECOND / 2) };
    killed(&settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_with_state_in_memory_are_killed_and_each_output_comes_out_once() {
    let folder = Turn::come().await;
    killed(&Settings::new(folder.path(), END, PER_SECOND)).await;
}

async fn killed(settings: &Settings) {
    let job = Job::start(settings).await;
    for worker in [0, 1, 1] {
        job.moves_on().await;
        job.moves_on().await;
        let generation = job.generation();
        signal(job.process(worker), "KILL");
        eventually("the next generation", || async { job.generation() > generation }).await;
    }
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_is_noticed_by_its_heartbeats_and_its_peers_do_not_wait_for_it() {
    let folder = Turn::come().await;
    let mut settings = Settings::new(folder.path(), END, PER_SECOND);
    settings.heartbeat_timeout_ms = 3_000;
    let job = Job::start(&settings).await;
    job.moves_on().await;
    let generation = job.generation();
    signal(job.process(1), "STOP");
    eventually("the next generation", || async { job.generation() > generation }).await;
    let why = job.manager.status().last_failure.unwrap();
    assert!(why.contains("worker 1: no heartbeat for"), "{why}");
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_becomes_larger_and_smaller_and_each_output_comes_out_once() {
    let folder = Turn::come().await;
    let settings = Settings { is_rocksdb: true, ..Settings::new(folder.path(), END / 2, PER_SECOND / 2) };
    let job = Job::start(&settings).await;
    for workers in [3, 1, 4] {
        job.moves_on().await;
        tokio::time::sleep(ms(200)).await;
        job.manager.rescale(workers).unwrap();
        job.moves_on().await;
        let metadata = job.manager.coordinator().latest().await.unwrap().unwrap().metadata;
        for operator in &metadata.operators {
            assert_eq!(operator.subtasks.len(), workers as usize);
            let groups: Vec<_> = operator.subtasks.iter().flat_map(|part| part.key_groups.unwrap().iter()).collect();
            assert_eq!(groups.len(), crate::dataflow::KEY_GROUPS as usize, "{groups:?}");
        }
        assert_eq!(metadata.sources.len(), crate::dataflow::SPLITS as usize, "{:?}", metadata.sources);
    }
    assert_eq!(job.ends().await, Ending::Finished);
    assert_exact(&settings.outputs(), settings.end);
}
