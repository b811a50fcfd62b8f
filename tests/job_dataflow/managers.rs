//! The manager itself is killed, and stopped.

use std::fs;

use crate::dataflow::{assert_exact, committed};
use crate::job::{Settings, Turn, eventually, ms, start_manager};
use crate::job_process::wish;

/// Waits until more came out than there was.
async fn more_comes_out(settings: &Settings) {
    let before = committed(&settings.outputs()).len();
    eventually("further outputs", || async { committed(&settings.outputs()).len() > before }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_manager_s_successor_takes_the_job_over_and_each_output_comes_out_once() {
    let folder = Turn::come().await;
    let settings = Settings { is_rocksdb: true, ..Settings::new(folder.path(), 10_000, 2_000) };
    let mut manager = start_manager(&settings);
    for _ in 0..2 {
        more_comes_out(&settings).await;
        manager.kill();
        manager = start_manager(&settings);
    }
    more_comes_out(&settings).await;
    wish(&settings.root, "workers", "3");
    settings.let_go();
    eventually("the end of the job", || {
        let ended = manager.ended();
        async move { ended == Some(true) }
    })
    .await;
    assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_manager_that_goes_on_beside_its_successor_changes_nothing() {
    let folder = Turn::come().await;
    let settings =
        Settings { heartbeat_timeout_ms: 3_000, is_rocksdb: true, ..Settings::new(folder.path(), 24_000, 2_000) };
    let mut first = start_manager(&settings);
    more_comes_out(&settings).await;
    first.signal("STOP");
    let mut second = start_manager(&settings);
    more_comes_out(&settings).await;
    tokio::time::sleep(ms(500)).await;
    first.signal("CONT");
    eventually("the end of the first manager", || {
        let ended = first.ended();
        async move { ended == Some(false) }
    })
    .await;
    // Workers of its would have fenced the sinks of the other's.
    let runs = fs::read_dir(settings.root.join("local/count")).unwrap().map(|run| run.unwrap().file_name());
    let of_first: Vec<_> = runs.filter(|run| run.to_str().unwrap().starts_with("1-")).collect();
    assert!(of_first.iter().all(|run| run.to_str().unwrap().ends_with("-1")), "{of_first:?}");
    settings.let_go();
    eventually("the end of the job", || {
        let ended = second.ended();
        async move { ended == Some(true) }
    })
    .await;
    assert_exact(&settings.outputs(), settings.end);
}
