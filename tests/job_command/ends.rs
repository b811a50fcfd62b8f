//! How a job ends by word of a person.

use std::fs;

use crate::command::{ended, json, moves_on, newest, run};
use crate::dataflow::{assert_exact, committed};
use crate::job::{Settings, Turn, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_keeps_its_checkpoints_and_goes_on_from_them() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 10_000, 2_000);
    let mut first = run(&settings, &["--workers", "2"]);
    let before = newest(&moves_on(&settings, 0).await);
    assert_eq!(json(&settings, &["job", "cancel", "--dry-run"])["dry_run"], true);
    moves_on(&settings, before).await;
    json(&settings, &["job", "cancel"]);
    assert!(ended(&mut first).await);
    let mut second = run(&settings, &["--workers", "2"]);
    let status = moves_on(&settings, before).await;
    assert!(status["restored_from"]["checkpoint"].as_u64().unwrap() > before, "{status}");
    settings.let_go();
    assert!(ended(&mut second).await);
    assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_checkpoints_are_dropped_leaves_no_state_and_begins_with_nothing() {
    let folder = Turn::come().await;
    let settings = Settings { is_rocksdb: true, ..Settings::new(folder.path(), 10_000, 2_000) };
    let mut first = run(&settings, &["--workers", "2"]);
    let before = newest(&moves_on(&settings, 1).await);
    let would = json(&settings, &["job", "cancel", "--drop-checkpoints", "--dry-run"]);
    assert!(!would["dropped"].as_array().unwrap().is_empty(), "{would}");
    moves_on(&settings, before).await;
    let dropped = json(&settings, &["job", "cancel", "--drop-checkpoints"]);
    assert!(!dropped["dropped"].as_array().unwrap().is_empty(), "{dropped}");
    assert!(ended(&mut first).await);
    let listed = json(&settings, &["list"]);
    let left = listed["checkpoints"].as_array().unwrap();
    assert_eq!((left.len(), left[0]["total_bytes"].as_u64()), (1, Some(0)), "{listed}");
    let shared = fs::read_dir(settings.root.join("store/job-count/shared")).into_iter().flatten();
    let names = shared.map(|file| file.unwrap().file_name().into_string().unwrap());
    // What a worker was writing when it was killed has no name yet.
    let left: Vec<String> = names.filter(|name| !name.starts_with(".tmp-")).collect();
    assert!(left.is_empty(), "{left:?}");

    // From the start: what came out before comes out again.
    fs::remove_dir_all(settings.outputs()).unwrap();
    fs::create_dir_all(settings.outputs()).unwrap();
    let mut second = run(&settings, &["--workers", "3"]);
    eventually("outputs", || async { !committed(&settings.outputs()).is_empty() }).await;
    settings.let_go();
    assert!(ended(&mut second).await);
    assert_exact(&settings.outputs(), settings.end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_ends_the_workers_and_the_same_command_goes_on() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 10_000, 2_000);
    let mut first = run(&settings, &["--workers", "2"]);
    let before = newest(&moves_on(&settings, 0).await);
    first.signal("INT");
    assert!(ended(&mut first).await);
    let told = fs::read_to_string(settings.root.join("stdout")).unwrap();
    assert!(told.contains("job count cancelled"), "{told}");
    let mut second = run(&settings, &["--workers", "1"]);
    moves_on(&settings, before).await;
    settings.let_go();
    assert!(ended(&mut second).await);
    assert_exact(&settings.outputs(), settings.end);
}
