//! The command on S3: the same lines as on a folder, and clear words for what is wrong.

mod cli_support;
mod rocksfolder_support;
mod s3_support;
mod services;

use std::process::Command;

use cli_support::{copy_folder, failed, scan, succeeded};
use rocksfolder_support::{db_bench, have_rocksdb_tools};
use services::S3Address;
use services::proxy::{Aim, Proxy};

const USAGE: i32 = 2;
const NO_ROOM: i32 = 8;

/// A place on the server, and the command working there.
struct Bench<'a> {
    s3: &'a S3Address,
    store: String,
    folder: tempfile::TempDir,
}

impl<'a> Bench<'a> {
    fn new(s3: &'a S3Address, test: &str) -> Self {
        let store = s3_support::url(s3, &services::fresh_prefix(test));
        Self { s3, store, folder: tempfile::tempdir().unwrap() }
    }

    /// `icecore` as a user runs it who has set the variables of AWS.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        for variable in ["RUST_LOG", "AWS_PROFILE", "AWS_ENDPOINT_URL", "ICECORE_STORE_OPTIONS"] {
            command.env_remove(variable);
        }
        command.args(line.split_whitespace()).current_dir(self.folder.path()).env("HOME", self.folder.path());
        command.env("ICECORE_STORE", &self.store).env("ICECORE_JOB", "a");
        command.env("AWS_ENDPOINT_URL_S3", self.s3.endpoint()).env("AWS_REGION", self.s3.region());
        command.env("AWS_ACCESS_KEY_ID", self.s3.access_key()).env("AWS_SECRET_ACCESS_KEY", self.s3.secret_key());
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    fn ok(&self, line: &str) -> String {
        succeeded(line, self.command(line).output().unwrap())
    }
}

#[test]
fn a_database_is_snapshotted_listed_verified_restored_and_collected_on_s3() {
    let Some(s3) = services::shared_s3() else { return };
    if !have_rocksdb_tools("the command on S3") {
        return;
    }
    let bench = Bench::new(s3, "cli");
    let db = bench.folder.path().join("db");
    assert!(db_bench(&db, &["--benchmarks=fillrandom", "--num=3000"]).status().unwrap().success());
    bench.ok("snapshot db");
    let as_it_was = bench.folder.path().join("as-it-was");
    copy_folder(&db, &as_it_was);
    let more = ["--benchmarks=overwrite", "--num=3000", "--use_existing_db=1"];
    assert!(db_bench(&db, &more).status().unwrap().success());
    let second = bench.ok("snapshot db --json");
    assert!(second.contains("\"checkpoint\":2") || second.contains("\"checkpoint\": 2"), "{second}");

    assert_eq!(bench.ok("list").lines().count(), 3);
    bench.ok("verify --all");
    bench.ok("restore 1 restored");
    assert_eq!(scan(&bench.folder.path().join("restored")), scan(&as_it_was));
    bench.ok("drop 1");
    bench.ok("gc");
    assert_eq!(bench.ok("list").lines().count(), 2);
    bench.ok("restore latest newest");
    assert_eq!(scan(&bench.folder.path().join("newest")), scan(&db));
}

#[test]
fn a_checkpoint_is_exported_to_s3_and_shown_verified_and_restored_from_there() {
    let Some(s3) = services::shared_s3() else { return };
    if !have_rocksdb_tools("an export to S3") {
        return;
    }
    let bench = Bench::new(s3, "cli-export");
    let db = bench.folder.path().join("db");
    assert!(db_bench(&db, &["--benchmarks=fillrandom", "--num=3000"]).status().unwrap().success());
    bench.ok("snapshot db --store local");
    let kept = s3_support::url(s3, &services::fresh_prefix("cli-kept"));
    let line = format!("export latest {kept} --store local");
    bench.ok(&line);
    failed(&bench.command(&line).output().unwrap(), 5);
    let shown = bench.ok(&format!("show --from {kept}"));
    assert!(shown.contains("savepoint"), "{shown}");
    bench.ok(&format!("verify --from {kept}"));
    bench.ok(&format!("restore --from {kept} restored"));
    assert_eq!(scan(&bench.folder.path().join("restored")), scan(&db));

    let nowhere = "--from-option endpoint=http://127.0.0.1:1";
    let said = failed(&bench.command(&format!("verify --from {kept} {nowhere}")).output().unwrap(), 1);
    assert!(said.contains("cannot be reached"), "{said}");
    let output = bench.command(&format!("verify latest {nowhere}")).output().unwrap();
    assert_eq!(output.status.code(), Some(USAGE), "{output:?}");
    let inside = format!("export latest {}/job-a/kept --store local", bench.store);
    let said = failed(&bench.command(&inside).output().unwrap(), USAGE);
    assert!(said.contains("retention rules"), "{said}");
    failed(&bench.command(&format!("verify --from {}", bench.store)).output().unwrap(), 6);
}

#[test]
fn what_is_wrong_with_keys_and_names_is_said_and_the_store_is_not_called_empty() {
    let Some(s3) = services::shared_s3() else { return };
    let bench = Bench::new(s3, "cli-wrong");
    for line in ["list", "restore latest x", "gc", "verify"] {
        let said = failed(&bench.command(line).env("AWS_ACCESS_KEY_ID", "AKIAWRONG").output().unwrap(), NO_ROOM);
        assert!(said.contains("AWS_ACCESS_KEY_ID"), "{said}");
        let said = failed(&bench.command(line).env("AWS_SECRET_ACCESS_KEY", "geheim").output().unwrap(), NO_ROOM);
        assert!(said.contains("AWS_SECRET_ACCESS_KEY") && !said.contains("geheim"), "{said}");
    }
    let said = failed(&bench.command("list --store s3://no-such-bucket/x").output().unwrap(), USAGE);
    assert!(said.contains("NoSuchBucket"), "{said}");
    let said = failed(&bench.command("list").env_remove("AWS_SECRET_ACCESS_KEY").output().unwrap(), NO_ROOM);
    assert!(said.contains("no AWS credentials were found"), "{said}");
    let said = failed(&bench.command("list --store-option endpoint=http://127.0.0.1:1").output().unwrap(), 1);
    assert!(said.contains("cannot be reached") && !said.contains("tried"), "{said}");
}

#[test]
fn a_service_that_asks_for_patience_gets_it_and_a_line_says_so_only_if_it_takes_long() {
    let Some(s3) = services::shared_s3() else { return };
    let proxy = Proxy::http(s3.host_and_port());
    let slow_down = "<Error><Code>SlowDown</Code></Error>";
    proxy.answer(Aim::at("GET", "").times(3), "503 Slow Down", slow_down);
    let bench = Bench::new(s3, "cli-patience");
    let line = format!("list --store-option endpoint={}", proxy.endpoint());
    // No such job: so the store was read in the end.
    failed(&bench.command(&line).output().unwrap(), 6);
    assert_eq!(proxy.hits(), 3);

    proxy.answer(Aim::at("GET", "").times(1_000), "503 Slow Down", slow_down);
    let output = bench.command(&format!("{line} --store-option retry-for=1s")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("SlowDown") && said.contains("tried"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn options_are_given_on_the_line_or_as_a_list() {
    let Some(s3) = services::shared_s3() else { return };
    let bench = Bench::new(s3, "cli-options");
    let said = failed(&bench.command("--store-option regoin=x list").output().unwrap(), USAGE);
    assert!(said.contains("regoin") && said.contains("part-size"), "{said}");
    // The line wins over the list, and a job that is not there is not found: so both were read.
    let line = format!("list --store-option endpoint={} --store-option part-size=16MiB", s3.endpoint());
    let list = "endpoint=http://127.0.0.1:1,connect-timeout=1s";
    let output = bench.command(&line).env("ICECORE_STORE_OPTIONS", list).output().unwrap();
    failed(&output, 6);
    let output = bench.command("list").env("ICECORE_STORE_OPTIONS", list).output().unwrap();
    failed(&output, 1);
}
