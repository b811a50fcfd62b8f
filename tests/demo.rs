//! `make demo`, small: the job is killed with a checkpoint in flight, restored at another
//! parallelism, and its final state equals that of an undisturbed run.

#[cfg(feature = "s3")]
mod services;

use std::path::PathBuf;
use std::process::{Command, Output};

/// The example's program, which cargo builds before the tests run.
fn demo() -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/nexmark_demo");
    assert!(path.exists(), "{} is not built; run `cargo build --example nexmark_demo` first", path.display());
    Command::new(path)
}

fn output(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output, text)
}

#[test]
fn a_killed_and_rescaled_job_ends_with_the_state_of_an_undisturbed_one() {
    for parallelism in ["2,3", "3,2"] {
        let folder = tempfile::tempdir().unwrap();
        let options = ["--events", "20000", "--checkpoint-every", "2000", "--parallelism", parallelism, "--dir"];
        let (output, text) = output(demo().args(options).arg(folder.path()));
        assert!(output.status.success(), "{text}");
        assert!(text.contains("in flight: 1 of"), "no checkpoint was in flight at the kill:\n{text}");
        assert!(text.contains("signal: 9"), "{text}");
        assert!(text.contains("checkpoint 5, the newest complete one"), "{text}");
        assert!(text.contains("EQUAL: all ") && !text.contains("NOT EQUAL"), "{text}");
        assert!(text.contains("the same ones"), "{text}");
        assert_eq!(text.matches("every byte hashed: sound").count(), 3, "{text}");
    }
}

#[cfg(feature = "s3")]
#[test]
fn the_same_holds_on_s3_and_a_place_with_content_is_refused() {
    let Some(s3) = services::shared_s3() else { return };
    let store = format!("s3://{}/{}", s3.bucket(), services::fresh_prefix("demo"));
    let on_s3 = || {
        let mut command = demo();
        command.args(["--events", "20000", "--checkpoint-every", "2000", "--store", &store]);
        command.env("AWS_ENDPOINT_URL_S3", s3.endpoint()).env("AWS_REGION", s3.region());
        command.env("AWS_ACCESS_KEY_ID", s3.access_key()).env("AWS_SECRET_ACCESS_KEY", s3.secret_key());
        command
    };
    let (finished, text) = output(&mut on_s3());
    assert!(finished.status.success(), "{text}");
    assert!(text.contains("EQUAL: all ") && !text.contains("NOT EQUAL"), "{text}");
    assert!(text.contains("the same ones"), "{text}");
    assert!(text.contains(&format!("Everything is kept in {store}")), "{text}");
    let (refused, text) = output(&mut on_s3());
    assert!(!refused.status.success() && text.contains("not empty"), "{text}");
}

#[test]
fn a_reference_that_lacks_one_event_is_noticed_and_the_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--events", "8000", "--checkpoint-every", "2000", "--spoil-reference", "5000", "--dir"];
    // Event 5000 is the registration of a person.
    let (output, text) = output(demo().args(options).arg(folder.path()));
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("NOT EQUAL. The first difference: state people.profile, key group"), "{text}");
    assert!(text.contains("key 1100: the reference does not have it"), "{text}");
}

#[test]
fn a_folder_with_content_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), b"x").unwrap();
    let (output, text) = output(demo().arg("--dir").arg(folder.path()));
    assert!(!output.status.success());
    assert!(text.contains("not empty"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
