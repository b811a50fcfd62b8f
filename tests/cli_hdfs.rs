//! The command on HDFS: the same lines as on a folder, and clear words for what is wrong.

mod cli_support;
mod rocksfolder_support;
mod services;

use std::process::Command;

use cli_support::{copy_folder, failed, scan, succeeded};
use rocksfolder_support::{db_bench, have_rocksdb_tools};
use services::HdfsAddress;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 6;
const NO_ROOM: i32 = 8;

/// A folder of the cluster, and the command working there.
struct Bench {
    store: String,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(hdfs: &HdfsAddress, test: &str) -> Self {
        let store = format!("{}/{}", hdfs.url(), services::fresh_prefix(test));
        Self { store, folder: tempfile::tempdir().unwrap() }
    }

    /// `icecore` as a user runs it who has set nothing but the address.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        for variable in ["RUST_LOG", "HADOOP_CONF_DIR", "HADOOP_HOME", "HADOOP_USER_NAME", "ICECORE_STORE_OPTIONS"] {
            command.env_remove(variable);
        }
        command.args(line.split_whitespace()).current_dir(self.folder.path());
        command.env("ICECORE_STORE", &self.store).env("ICECORE_JOB", "a");
        command
    }

    fn ok(&self, line: &str) -> String {
        succeeded(line, self.command(line).output().unwrap())
    }
}

#[test]
fn a_database_is_snapshotted_listed_verified_restored_and_collected_on_hdfs() {
    let Some(hdfs) = services::shared_hdfs() else { return };
    if !have_rocksdb_tools("the command on HDFS") {
        return;
    }
    let bench = Bench::new(hdfs, "cli");
    let db = bench.folder.path().join("db");
    assert!(db_bench(&db, &["--benchmarks=fillrandom", "--num=3000"]).status().unwrap().success());
    bench.ok("snapshot db");
    let as_it_was = bench.folder.path().join("as-it-was");
    copy_folder(&db, &as_it_was);
    let more = ["--benchmarks=overwrite", "--num=3000", "--use_existing_db=1"];
    assert!(db_bench(&db, &more).status().unwrap().success());
    bench.ok("snapshot db");

    assert_eq!(bench.ok("list").lines().count(), 3);
    // Others may read, and are told what they may not.
    for line in ["list", "drop 1"] {
        for output in [
            bench.command(line).env("HADOOP_USER_NAME", "alice").output().unwrap(),
            bench.command(&format!("{line} --store-option user=alice")).output().unwrap(),
        ] {
            match line {
                "list" => assert!(output.status.success(), "{output:?}"),
                _ => assert!(failed(&output, NO_ROOM).contains("check HADOOP_USER_NAME"), "{output:?}"),
            }
        }
    }
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
fn what_is_wrong_is_said_in_a_line() {
    let Some(hdfs) = services::shared_hdfs() else { return };
    let bench = Bench::new(hdfs, "cli-wrong");
    failed(&bench.command("list").output().unwrap(), NOT_FOUND);
    let said = failed(&bench.command("list --store hdfs://127.0.0.1:1/x").output().unwrap(), FAILED);
    assert!(said.contains("that the NameNode runs"), "{said}");
    let said = failed(&bench.command("list --store hdfs://nobody/x").output().unwrap(), USAGE);
    assert!(said.contains("HADOOP_CONF_DIR"), "{said}");
    let said = failed(&bench.command("list --store-option replicaton=2").output().unwrap(), USAGE);
    assert!(said.contains("replicaton") && said.contains("min-replication"), "{said}");
    let said = failed(&bench.command("list --store-option rpc-timeout=60").output().unwrap(), USAGE);
    assert!(said.contains("rpc-timeout") && said.contains("30s"), "{said}");
}

#[test]
fn a_nameservice_of_the_site_files_is_a_store() {
    let Some(hdfs) = services::shared_hdfs() else { return };
    let bench = Bench::new(hdfs, "cli-nameservice");
    let properties = [
        ("dfs.ha.namenodes.lake", "gone,there"),
        ("dfs.namenode.rpc-address.lake.gone", "127.0.0.1:1"),
        ("dfs.namenode.rpc-address.lake.there", hdfs.url().trim_start_matches("hdfs://")),
    ]
    .map(|(name, value)| format!("<property><name>{name}</name><value>{value}</value></property>"));
    let conf = bench.folder.path().join("conf");
    std::fs::create_dir(&conf).unwrap();
    std::fs::write(conf.join("hdfs-site.xml"), format!("<configuration>{}</configuration>", properties.concat()))
        .unwrap();
    let line = "list --store hdfs://lake/nothing-there";
    let by_environment = bench.command(line).env("HADOOP_CONF_DIR", &conf).output().unwrap();
    failed(&by_environment, NOT_FOUND);
    let by_option = bench.command(&format!("{line} --store-option configuration=conf")).output().unwrap();
    failed(&by_option, NOT_FOUND);
}
