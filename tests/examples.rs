//! Every example runs to its end; `cargo test` has built them beside the tests.

use std::path::PathBuf;
use std::process::Command;

/// The folder in which cargo puts examples: `target/<profile>/examples`.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

fn runs(name: &str, says: &str) {
    let program = built(name);
    assert!(program.exists(), "{} is not built: run `cargo test`, or `scripts/examples`", program.display());
    let output = Command::new(program).output().unwrap();
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
