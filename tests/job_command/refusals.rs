//! What cannot be gets one clear line.

use crate::command::{ended, json, moves_on, newest, refused, run, run_command};
use crate::job::{Settings, Turn};

#[track_caller]
fn one_line(text: &str, parts: &[&str]) {
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn run_refused(settings: &Settings, options: &[&str]) -> (i32, String) {
    assert!(!run_command(settings, options).status().unwrap().success());
    let output = run_command(settings, options).status().unwrap();
    (output.code().unwrap(), std::fs::read_to_string(settings.root.join("stderr")).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_options_of_a_job_are_refused_before_anything_is_claimed() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 1_000, 1_000);
    let (code, text) = run_refused(&settings, &["--restart", "sometimes"]);
    assert_eq!(code, 2);
    assert!(text.contains("there is no `sometimes`") && text.contains("exponential-delay"), "{text}");
    let (code, text) = run_refused(&settings, &["--workers", "11"]);
    assert_eq!(code, 2);
    one_line(&text, &["11", "counts"]);
    let (code, text) = run_refused(&settings, &["--workers", "0"]);
    assert_eq!(code, 2);
    one_line(&text, &["0 workers"]);
    let (code, text) = run_refused(&settings, &["--heartbeat-timeout", "50ms"]);
    assert_eq!(code, 2);
    one_line(&text, &["timeout must be longer than its interval"]);
    let (code, text) = run_refused(&settings, &["--operator", "more"]);
    assert_eq!(code, 2);
    assert!(text.contains("count:128"), "{text}");
    let words = ["job", "run", "--operator", "count:4", "--", "no-such-program-anywhere"];
    let (code, text) = refused(&settings, &words);
    assert_eq!(code, 2);
    one_line(&text, &["no-such-program-anywhere", "behind `--`"]);
    let (code, text) = run_refused(&settings, &["--operator", "counts:4"]);
    assert_eq!(code, 2);
    one_line(&text, &["counts", "named twice"]);
    assert!(!settings.root.join("store/job-count").exists(), "something was claimed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_runs_is_not_taken_from_its_manager_unless_that_is_said() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 100_000, 1_000);
    let mut first = run(&settings, &["--workers", "1"]);
    let before = newest(&moves_on(&settings, 0).await);
    let other = Settings { root: folder.path().join("other"), ..settings.clone() };
    std::fs::create_dir_all(&other.root).unwrap();
    std::os::unix::fs::symlink(settings.root.join("store"), other.root.join("store")).unwrap();
    let (code, text) = run_refused(&other, &["--workers", "1"]);
    assert_eq!(code, 4);
    one_line(&text, &["which answers: running", "--take-over"]);
    moves_on(&settings, before).await;
    assert_eq!(first.ended(), None, "the job was taken from it");
    let _second = run(&other, &["--workers", "1", "--take-over"]);
    assert!(!ended(&mut first).await);
    moves_on(&settings, before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_job_has_gone_on_from_is_restored_only_if_somebody_says_rewind() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 100_000, 1_000);
    let (code, text) = run_refused(&settings, &["--from", "nowhere"]);
    assert_eq!(code, 6);
    one_line(&text, &["nowhere", "there is no checkpoint or savepoint"]);
    assert!(!settings.root.join("store/job-count").exists(), "something was claimed");
    let mut first = run(&settings, &["--workers", "1"]);
    let before = newest(&moves_on(&settings, 0).await);
    json(&settings, &["job", "savepoint", "kept/early"]);
    moves_on(&settings, before + 2).await;
    json(&settings, &["job", "cancel"]);
    assert!(ended(&mut first).await);
    let (code, text) = run_refused(&settings, &["--from", "kept/early/"]);
    assert_eq!(code, 2);
    one_line(&text, &["kept/early", "the job has gone on to checkpoint", "--rewind"]);
    let (code, text) = refused(&settings, &["job", "status"]);
    assert_eq!(code, 6);
    one_line(&text, &["it was cancelled", "icecore job run"]);
    let mut again = run(&settings, &["--workers", "1", "--from", "kept/early", "--rewind"]);
    let status = moves_on(&settings, before + 2).await;
    assert_eq!(status["restored_from"]["path"], "kept/early");
    again.signal("INT");
    assert!(ended(&mut again).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_does_not_run_is_not_asked() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 1_000, 1_000);
    let (code, text) = refused(&settings, &["job", "status"]);
    assert_eq!(code, 6);
    one_line(&text, &["nobody runs the job", "icecore job run"]);
    let (code, text) = refused(&settings, &["job", "status", "--manager", "127.0.0.1:1"]);
    assert_eq!(code, 1);
    one_line(&text, &["127.0.0.1:1", "efused"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_running_job_refuses_is_said_in_one_line() {
    let folder = Turn::come().await;
    let settings = Settings::new(folder.path(), 100_000, 1_000);
    let _job = run(&settings, &["--workers", "2"]);
    moves_on(&settings, 0).await;
    let (code, text) = refused(&settings, &["job", "rescale", "11"]);
    assert_eq!(code, 2);
    one_line(&text, &["11"]);
    let (code, text) = refused(&settings, &["job", "rescale", "2"]);
    assert_eq!(code, 2);
    one_line(&text, &["as many workers already"]);
    let (code, text) = refused(&settings, &["job", "savepoint", "job-count/x"]);
    assert_eq!(code, 2);
    one_line(&text, &["does not begin with `job-`"]);
    let other = Settings { root: folder.path().join("other"), ..settings.clone() };
    let status = crate::command::status(&settings);
    let holder = status["manager"]["holder"].as_str().unwrap();
    let address = holder.rsplit("http://").next().unwrap();
    std::fs::create_dir_all(other.root.join("store")).unwrap();
    let (code, text) = refused(&other, &["job", "cancel", "--manager", address]);
    assert_eq!(code, 2);
    one_line(&text, &["the manager there runs job count"]);
}
