//! Every example runs to its end and says what it should.

use std::process::Command;

/// Runs an example as a reader would. It was built with these very features, so nothing is built anew
/// after a `cargo test`.
fn runs(name: &str, says: &str) {
    runs_with(name, &[], says);
}

fn runs_with(name: &str, arguments: &[&str], says: &str) {
    let mut features = vec!["rocksdb", "test-support"];
    features.extend(cfg!(feature = "memory").then_some("memory"));
    features.extend(cfg!(feature = "s3").then_some("s3"));
    features.extend(cfg!(feature = "hdfs").then_some("hdfs"));
    features.extend(cfg!(feature = "job").then_some("job"));
    features.extend(cfg!(feature = "timely").then_some("timely"));
    features.extend(cfg!(feature = "kafka").then_some("kafka"));
    features.extend(cfg!(feature = "cli").then_some("cli"));
    let mut command = Command::new(env!("CARGO"));
    // Cargo tells a test's process of its package. Some build scripts (ring's) ask to run again when that changes, and then most of the
    // library would be built anew, twice.
    let told = |name: &str| ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_"].iter().any(|told| name.starts_with(told));
    std::env::vars().filter(|(name, _)| told(name)).for_each(|(name, _)| {
        command.env_remove(name);
    });
    let output = command
        .args(["run", "--quiet", "--features", &features.join(","), "--example", name, "--"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(says), "{text}");
}

#[test]
fn a_writer_with_its_own_database_checkpoints_crashes_and_goes_on() {
    runs("rocksdb_writer", "went on to 40000 orders");
}

#[test]
fn a_heap_engine_goes_on_with_three_subtasks_as_if_nothing_had_happened() {
    runs("heap_engine", "as if nothing had happened");
}

#[test]
fn a_store_of_one_s_own_conforms() {
    runs("custom_store", "");
}

#[cfg(feature = "timely")]
#[test]
fn a_timely_dataflow_puts_every_count_out_once_although_it_crashes() {
    runs("timely_word_count", "every count was put out exactly once");
}

#[cfg(all(feature = "timely", feature = "cli"))]
#[test]
fn a_nexmark_query_that_crashes_gives_the_same_results() {
    runs_with("nexmark_queries", &["q5", "--events", "40000", "--crash"], "each exactly once");
}
