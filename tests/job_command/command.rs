//! The command, on a job of its own.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::dataflow::{KEY_GROUPS, OPERATORS};
use crate::job::{Settings, eventually};
use crate::job_process::ManagerProcess;

/// `icecore` with the job's store named, in words.
pub fn icecore(settings: &Settings, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
    command.env("ICECORE_STORE", settings.root.join("store")).env("ICECORE_JOB", "count");
    command.args(words).stdin(Stdio::null());
    command
}

/// What it prints, when it is done.
pub fn said(settings: &Settings, words: &[&str]) -> Output {
    icecore(settings, words).output().unwrap()
}

/// What it prints as JSON.
#[track_caller]
pub fn json(settings: &Settings, words: &[&str]) -> Value {
    let output = said(settings, &[words, &["--json"]].concat());
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The one line of an error, and the exit code.
#[track_caller]
pub fn refused(settings: &Settings, words: &[&str]) -> (i32, String) {
    let output = said(settings, words);
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

/// `job run` with options, whose workers are those of `tests/job_dataflow`.
pub fn run_command(settings: &Settings, options: &[&str]) -> Command {
    let operators = OPERATORS.map(|operator| format!("{operator}:{KEY_GROUPS}"));
    let mut words = vec!["job", "run", "--interval", "100ms", "--heartbeat-interval", "100ms"];
    words.extend(["--tolerable-failures", "1000", "--keep-last", "3"]);
    for (name, value) in [("--restart", "fixed-delay,attempts=1000,delay=20ms"), ("--heartbeat-timeout", "10m")] {
        if !options.contains(&name) {
            words.extend([name, value]);
        }
    }
    operators.iter().for_each(|operator| words.extend(["--operator", operator.as_str()]));
    words.extend(options);
    words.push("--");
    let mut command = icecore(settings, &words);
    let worker = settings.worker();
    command.arg(worker.get_program()).args(worker.get_args());
    command.envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdout(std::fs::File::create(settings.root.join("stdout")).unwrap());
    command.stderr(std::fs::File::create(settings.root.join("stderr")).unwrap());
    command
}

pub fn run(settings: &Settings, options: &[&str]) -> ManagerProcess {
    ManagerProcess::start(run_command(settings, options))
}

/// `job status --json`; `Null` while nobody answers.
pub fn status(settings: &Settings) -> Value {
    let output = said(settings, &["job", "status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// Waits until the job's status is such.
pub async fn until(settings: &Settings, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    eventually(what, || {
        last = status(settings);
        let is_so = is_so(&last);
        async move { is_so }
    })
    .await;
    last
}

/// Waits until it runs and has completed a checkpoint after `before`.
pub async fn moves_on(settings: &Settings, before: u64) -> Value {
    until(settings, "a further checkpoint", |status| status["state"] == "running" && newest(status) > before).await
}

/// The number of its newest complete checkpoint.
pub fn newest(status: &Value) -> u64 {
    let all = status["checkpoints"].as_array().map(Vec::as_slice).unwrap_or_default();
    let complete = all.iter().filter(|one| one["status"] == "complete");
    complete.filter_map(|one| one["checkpoint"].as_u64()).max().unwrap_or(0)
}

/// Waits for the end of `job run`. Returns whether it was a good one.
pub async fn ended(run: &mut ManagerProcess) -> bool {
    let mut good = None;
    eventually("the end of `job run`", || {
        good = run.ended();
        let is_over = good.is_some();
        async move { is_over }
    })
    .await;
    tokio::time::sleep(Duration::ZERO).await;
    good.unwrap()
}
