//! A job that is run by the command, and asked by it.

use std::fs;

use crate::command::{ended, json, moves_on, newest, run, said, until};
use crate::dataflow::assert_exact;
use crate::job::{Settings, Turn};
use crate::job_process::signal;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_watched_loses_a_worker_is_rescaled_and_comes_to_its_end() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 40_000, 2_000);
    let mut job = run(&settings, &["--workers", "2"]);
    let status = moves_on(&settings, 0).await;
    assert_eq!((status["generation"].as_u64(), status["parallelism"].as_u64()), (Some(1), Some(2)));
    assert_eq!(status["restored_from"], serde_json::Value::Null);
    assert_eq!(status["operators"][0]["key_groups"], serde_json::json!([[0, 4], [5, 9]]));

    signal(job.workers()[0], "KILL");
    let status = until(&settings, "a restart", |status| status["restarts"] == 1 && status["state"] == "running").await;
    assert_eq!(status["failures"], 1);
    assert!(status["restored_from"]["checkpoint"].as_u64().unwrap() > 0, "{status}");
    let failed = status["events"].as_array().unwrap().iter().find(|event| event["kind"] == "failed").unwrap();
    // Its own end, its connection's, or a peer that noticed first: in each case a worker of that generation is named.
    assert!(failed["text"].as_str().unwrap().starts_with("worker "), "{failed}");

    let rescaled = json(&settings, &["job", "rescale", "3"]);
    assert_eq!(rescaled["workers"], 3);
    let status = moves_on(&settings, rescaled["checkpoint"].as_u64().unwrap()).await;
    assert_eq!((status["generation"].as_u64(), status["parallelism"].as_u64()), (Some(3), Some(3)));
    assert_eq!(status["failures"], 1, "to rescale is no failure");
    assert!(status["restored_from"]["checkpoint"].as_u64() >= rescaled["checkpoint"].as_u64(), "{status}");

    let full = json(&settings, &["job", "checkpoint", "--full"]);
    let status = moves_on(&settings, full["checkpoint"].as_u64().unwrap()).await;
    let record = |number: &serde_json::Value| {
        let all = status["checkpoints"].as_array().unwrap().iter();
        all.clone().find(|record| record["checkpoint"] == *number).unwrap().clone()
    };
    assert_eq!(record(&full["checkpoint"])["kind"], "full");
    assert_eq!(record(&full["checkpoint"])["generation"], 3, "the workers' generation");
    let status = until(&settings, "a record", |status| status["recovery"]["total_ms"].is_u64()).await;
    let recovery = &status["recovery"];
    assert!(recovery["total_ms"].as_u64() >= recovery["restore_ms"].as_u64(), "{recovery}");
    assert!(recovery["fetched_files"].as_u64().unwrap() > 0, "{recovery}");
    assert!(record(&full["checkpoint"])["uploaded_bytes"].as_u64().unwrap() > 0);

    let listed = json(&settings, &["job", "list"]);
    assert_eq!(
        (listed["jobs"][0]["state"].as_str(), listed["jobs"][0]["workers"].as_u64()),
        (Some("running"), Some(3))
    );
    let text = String::from_utf8(said(&settings, &["job", "status"]).stdout).unwrap();
    for part in [
        "to restore",
        "to the first record",
        "running, generation 3, 3 workers",
        "counts 0-3",
        "rescaled",
        "worker",
        "complete",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    settings.let_go();
    assert!(ended(&mut job).await);
    assert_exact(&settings.outputs(), settings.end);
    let told = fs::read_to_string(settings.root.join("stderr")).unwrap();
    assert!(
        told.contains("failed (generation 1): worker 0") || told.contains("failed (generation 1): worker 1"),
        "{told}"
    );
    assert!(fs::read_to_string(settings.root.join("stdout")).unwrap().contains("job count finished; failures: 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_stops_with_a_savepoint_and_goes_on_from_it_and_its_history_goes_on_too() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 20_000, 2_000);
    let mut first = run(&settings, &["--workers", "2"]);
    let before = moves_on(&settings, 0).await;
    let taken = json(&settings, &["job", "savepoint", "savepoints/a"]);
    assert_eq!(taken["folder"], "savepoints/a");
    assert!(settings.root.join("store/savepoints/a/_metadata").exists());
    let stopped = json(&settings, &["job", "stop", "--savepoint", "savepoints/b"]);
    assert_eq!(stopped["savepoint"], "savepoints/b");
    assert!(ended(&mut first).await);
    assert_eq!(json(&settings, &["job", "list"])["jobs"][0]["state"], "not running: finished");

    let mut second = run(&settings, &["--workers", "3", "--from", "savepoints/b"]);
    let after = moves_on(&settings, newest(&before)).await;
    assert_ne!(after["manager"]["epoch"], before["manager"]["epoch"]);
    let events = after["events"].as_array().unwrap();
    let kinds: Vec<&str> = events.iter().rev().map(|event| event["kind"].as_str().unwrap()).collect();
    assert!(
        kinds.starts_with(&["claimed", "started", "running", "resumed", "stopping", "finished", "claimed"]),
        "{kinds:?}"
    );
    let earlier =
        after["checkpoints"].as_array().unwrap().iter().filter(|one| one["epoch"] == before["manager"]["epoch"]);
    assert!(earlier.clone().any(|one| one["kind"] == "savepoint"));
    assert!(earlier.count() >= 3, "{after}");
    settings.let_go();
    assert!(ended(&mut second).await);
    assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_of_a_manager_that_was_killed_is_there_but_for_its_last_seconds() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 60_000, 1_000);
    let mut first = run(&settings, &["--workers", "1"]);
    moves_on(&settings, 0).await;
    let is_whole =
        |file: std::io::Result<fs::DirEntry>| !file.unwrap().file_name().to_str().unwrap().starts_with(".tmp-");
    let written = || fs::read_dir(settings.root.join("store/job-count/history")).is_ok_and(|mut all| all.any(is_whole));
    crate::job::eventually("a part of the history on the store", || async { written() }).await;
    first.kill();
    let mut second = run(&settings, &["--workers", "1"]);
    let after = moves_on(&settings, 0).await;
    let claimed = after["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "claimed").count();
    assert_eq!(claimed, 2, "{after}");
    settings.let_go();
    json(&settings, &["job", "cancel"]);
    assert!(ended(&mut second).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_jobs_of_one_store_do_not_disturb_each_other() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 10_000, 2_000);
    let root = folder.path().join("other");
    let other = Settings::new(&root, 10_000, 2_000);
    fs::create_dir_all(settings.root.join("store")).unwrap();
    std::os::unix::fs::symlink(settings.root.join("store"), root.join("store")).unwrap();
    let mut first = run(&settings, &["--workers", "2"]);
    let mut second = run(&other, &["--workers", "1", "--job", "other"]);
    let status = moves_on(&settings, 1).await;
    signal(second.workers()[0], "KILL");
    let listed = |name: &str| {
        let listed = json(&settings, &["job", "list"]);
        listed["jobs"].as_array().unwrap().iter().find(|job| job["job"] == name).cloned().unwrap_or_default()
    };
    until(&settings, "both", |_| listed("other")["newest_checkpoint"].as_u64() > Some(1)).await;
    assert_eq!(listed("count")["generation"], 1, "{status}");
    settings.let_go();
    other.let_go();
    assert!(ended(&mut first).await && ended(&mut second).await);
    assert_exact(&settings.outputs(), settings.end);
    assert_exact(&other.outputs(), other.end);
    assert_eq!(listed("other")["state"], "not running: finished");
}
