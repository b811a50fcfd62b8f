//! A job whose workers cannot do what they are to: one clear line, and what to look at.

use std::process::{Command, Output};

use tempfile::TempDir;

use crate::kafka::Topic;
use crate::pipeline::Question;
use crate::processes::Settings;
use crate::queries::{Q5, Query as _};
use crate::services::kafka::KafkaBroker;

fn settings(folder: &TempDir, bootstrap: &str, events: &str, results: &str) -> Settings {
    Settings {
        root: folder.path().to_owned(),
        store: folder.path().join("store").to_str().unwrap().to_owned(),
        store_options: Vec::new(),
        is_rocksdb: false,
        question: Q5::NAME.to_owned(),
        bootstrap: bootstrap.to_owned(),
        events: events.to_owned(),
        results: results.to_owned(),
        workers: 1,
    }
}

/// `icecore job run` with these workers, to its end. `key_groups`: of each operator.
fn run(settings: &Settings, operators: &[String], restart: &str) -> Output {
    std::fs::create_dir_all(&settings.store).unwrap();
    let worker = settings.child("child_that_is_a_worker");
    let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
    command.args(["job", "run", "--store", &settings.store, "--job", "refused", "--restart", restart]);
    operators.iter().for_each(|operator| {
        command.args(["--operator", operator]);
    });
    command.arg("--").arg(worker.get_program()).args(worker.get_args());
    command.envs(worker.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.output().unwrap()
}

fn operators(settings: &Settings) -> Vec<String> {
    settings.question().operators().iter().map(|operator| format!("{operator}:12")).collect()
}

/// It failed, and one line says why.
#[track_caller]
fn assert_line(output: &Output, parts: &[&str]) {
    let told = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    let failed: Vec<&str> = told.lines().filter(|line| line.starts_with("icecore: failed (generation 1)")).collect();
    assert_eq!(failed.len(), 1, "{told}");
    assert!(parts.iter().all(|part| failed[0].contains(part)), "{parts:?}: {}", failed[0]);
    // Beside what the worker's test harness says.
    let result = String::from_utf8(output.stdout.clone()).unwrap();
    let result: Vec<&str> = result.lines().filter(|line| line.starts_with("job refused failed: ")).collect();
    assert_eq!(result.len(), 1, "{result:?}");
    assert!(parts.iter().all(|part| result[0].contains(part)), "{parts:?}: {}", result[0]);
}

#[test]
fn a_topic_that_is_not_there_and_a_broker_that_cannot_be_reached_are_named_in_one_line() {
    let Some(broker) = KafkaBroker::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let there = Topic::new(broker.bootstrap(), "there", 1);

    let no_events = settings(&folder, broker.bootstrap(), "no-such-events", &there.name);
    assert_line(
        &run(&no_events, &operators(&no_events), "none"),
        &["worker 0", "no-such-events", "make the topic first"],
    );
    let no_results = settings(&folder, broker.bootstrap(), &there.name, "no-such-results");
    assert_line(
        &run(&no_results, &operators(&no_results), "none"),
        &["worker 0", "no-such-results", "make the topic first"],
    );
    let no_broker = settings(&folder, "127.0.0.1:1", &there.name, &there.name);
    assert_line(
        &run(&no_broker, &operators(&no_broker), "none"),
        &["worker 0", "127.0.0.1:1", "look at the bootstrap servers"],
    );
}

#[test]
fn an_operator_that_the_manager_does_not_know_ends_the_job_whatever_its_restart_strategy() {
    let Some(broker) = KafkaBroker::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let there = Topic::new(broker.bootstrap(), "there", 1);
    let settings = settings(&folder, broker.bootstrap(), &there.name, &there.name);
    let unknown = Question::HotItems.operators()[0].to_string();
    let others: Vec<String> = operators(&settings).into_iter().filter(|known| !known.starts_with(&unknown)).collect();
    let output = run(&settings, &others, "exponential-delay");
    assert_line(&output, &["worker 0", "the job has no such operator", &unknown]);
}
