//! `icecore copy` from S3 to HDFS and back, between real servers.

mod cli_support;
mod rocksfolder_support;
mod s3_support;
mod services;

use std::path::Path;
use std::process::Command;

use cli_support::{copy_folder, scan, succeeded};
use rocksfolder_support::{db_bench, have_rocksdb_tools};
use services::{HdfsAddress, S3Address};

const CHECKPOINTS: usize = 3;

/// A store on a server: its address, and what lets us in.
struct Place {
    address: String,
    options: Vec<String>,
}

impl Place {
    fn on_s3(s3: &S3Address, test: &str) -> Self {
        let (endpoint, region) = (s3.endpoint(), s3.region());
        let (key, secret) = (s3.access_key(), s3.secret_key());
        let options =
            [("endpoint", endpoint), ("region", region), ("access-key-id", key), ("secret-access-key", secret)];
        let options = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        Self { address: s3_support::url(s3, &services::fresh_prefix(test)), options }
    }

    fn on_hdfs(hdfs: &HdfsAddress, test: &str) -> Self {
        let options = vec![format!("configuration={}", hdfs.configuration().display())];
        Self { address: format!("{}/{}", hdfs.url(), services::fresh_prefix(test)), options }
    }

    fn run(&self, line: &str) -> String {
        let mut command = icecore(line);
        command.args(["--store", &self.address]);
        add_options(&mut command, "--store-option", &self.options);
        succeeded(line, command.output().unwrap())
    }

    /// What a copy from here to there sent, in bytes, and how many checkpoints it made.
    fn copy_to(&self, there: &Self) -> (u64, usize) {
        let mut command = icecore(&format!("copy {} {} --json", self.address, there.address));
        add_options(&mut command, "--from-option", &self.options);
        add_options(&mut command, "--to-option", &there.options);
        let said: serde_json::Value = serde_json::from_str(&succeeded("copy", command.output().unwrap())).unwrap();
        let made = said["checkpoints"].as_array().unwrap().iter().filter(|row| row["result"] == "copied").count();
        (said["sent_bytes"].as_u64().unwrap(), made)
    }

    /// Every checkpoint restores to what the database held.
    fn assert_holds(&self, held: &[String], folder: &Path) {
        self.run("verify --all");
        for (number, held) in (1..).zip(held) {
            let target = folder.join(format!("restored-{number}"));
            let _ = std::fs::remove_dir_all(&target);
            self.run(&format!("restore {number} {}", target.display()));
            assert!(scan(&target) == *held, "checkpoint {number} differs");
        }
    }
}

fn add_options(command: &mut Command, flag: &str, options: &[String]) {
    for option in options {
        command.args([flag, option]);
    }
}

fn icecore(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
    for variable in ["RUST_LOG", "AWS_PROFILE", "HADOOP_CONF_DIR", "ICECORE_STORE", "ICECORE_STORE_OPTIONS"] {
        command.env_remove(variable);
    }
    command.args(line.split_whitespace()).env("ICECORE_JOB", "a").env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

#[test]
fn checkpoints_are_copied_from_s3_to_hdfs_and_back_and_only_once() {
    let (Some(s3), Some(hdfs)) = (services::shared_s3(), services::shared_hdfs()) else { return };
    if !have_rocksdb_tools("copies between servers") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("db");
    let (first, second, third) =
        (Place::on_s3(s3, "copy"), Place::on_hdfs(hdfs, "copy"), Place::on_s3(s3, "copy-back"));
    let mut held = Vec::new();
    for round in 0..CHECKPOINTS {
        let benchmark = if round == 0 { "--benchmarks=fillrandom" } else { "--benchmarks=overwrite" };
        let options = [benchmark, "--num=3000", &format!("--use_existing_db={}", u8::from(round > 0))];
        assert!(db_bench(&db, &options).status().unwrap().success());
        first.run(&format!("snapshot {}", db.display()));
        let as_it_was = folder.path().join(format!("db-{round}"));
        copy_folder(&db, &as_it_was);
        held.push(scan(&as_it_was));
    }
    for (from, to) in [(&first, &second), (&second, &third)] {
        let (sent_bytes, made) = from.copy_to(to);
        assert!(sent_bytes > 0);
        assert_eq!(made, CHECKPOINTS);
        to.assert_holds(&held, folder.path());
        assert_eq!(from.copy_to(to), (0, 0), "a second copy sent something");
    }
}
