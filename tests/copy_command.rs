//! `icecore copy`: from the shell, beside owners, killed and interrupted.

mod cli_support;
mod rocksfolder_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use cli_support::{Bench, JOB, files_below, flip, local_store, scan};
use icecore::ErrorKind;
use icecore::coordinator::{Coordinator, CoordinatorOptions};
use icecore::env::Env;
use icecore::gc::SweepScope;
use icecore::layout::JobId;
use rocksfolder_support::{db_bench, have_rocksdb_tools};

const DAMAGED: i32 = 3;
const OTHER_OWNER: i32 = 4;
const KEPT: i32 = 5;
/// How often a copy is killed.
const KILLS: u64 = 25;

fn write(db: &Path, round: u64, keys: u32) {
    // After the third round everything is merged: what the second wrote is the second checkpoint's alone,
    // whenever RocksDB's own compactions run.
    let benchmarks = match round {
        0 => "--benchmarks=fillrandom",
        2 => "--benchmarks=overwrite,compact",
        _ => "--benchmarks=overwrite",
    };
    let (existing, seed) = (format!("--use_existing_db={}", u8::from(round > 0)), format!("--seed={round}"));
    let keys = format!("--num={keys}");
    let options = [benchmarks, &keys, "--compression_type=none", &existing, &seed];
    assert!(db_bench(db, &options).status().unwrap().success());
}

/// A store with three checkpoints, and what the database held at each; a place beside it to copy to.
struct Shop {
    bench: Bench,
    db: PathBuf,
    held: Vec<String>,
}

impl Shop {
    fn open(test: &str) -> Option<Self> {
        if !have_rocksdb_tools(test) {
            return None;
        }
        let bench = Bench::new();
        let db = bench.path("db");
        let mut shop = Self { bench, db, held: Vec::new() };
        for round in 0..3 {
            shop.snapshot(round);
        }
        Some(shop)
    }

    fn snapshot(&mut self, round: u64) {
        write(&self.db, round, 3000);
        self.bench.ok(&format!("snapshot {}", self.db.display()));
        let copy = self.bench.path(&format!("db-{round}"));
        cli_support::copy_folder(&self.db, &copy);
        self.held.push(scan(&copy));
    }

    fn copy(&self) -> String {
        format!("copy {} {}", self.bench.store().display(), self.backup().display())
    }

    fn backup(&self) -> PathBuf {
        self.bench.path("backup")
    }

    fn job(&self) -> PathBuf {
        self.backup().join(format!("job-{JOB}"))
    }

    /// A command on the backup.
    fn at_backup(&self, line: &str) -> String {
        self.bench.ok(&format!("{line} --store {}", self.backup().display()))
    }

    fn numbers(&self) -> Vec<u64> {
        let listed: serde_json::Value = serde_json::from_str(&self.at_backup("list --json")).unwrap();
        let checkpoints = listed["checkpoints"].as_array().unwrap();
        checkpoints.iter().map(|row| row["checkpoint"].as_u64().unwrap()).collect()
    }

    /// Every checkpoint of the backup restores to what the database held, and nothing else lies there.
    fn assert_copied(&self) {
        self.at_backup("verify --all");
        let all: Vec<u64> = (1..=self.held.len() as u64).collect();
        assert_eq!(self.numbers(), all);
        for (number, held) in all.iter().zip(&self.held) {
            let target = self.bench.path(&format!("restored-{number}"));
            let _ = std::fs::remove_dir_all(&target);
            self.at_backup(&format!("restore {number} {}", target.display()));
            assert!(scan(&target) == *held, "checkpoint {number} differs");
        }
        self.at_backup("gc");
        self.at_backup("gc");
        self.assert_only_referenced();
    }

    fn assert_only_referenced(&self) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let view = runtime.block_on(async {
            icecore::ownership::JobView::read(&*local_store(&self.backup()), &cli_support::layout()).await.unwrap()
        });
        let mut needed = std::collections::BTreeSet::new();
        for checkpoint in view.checkpoints.values() {
            let metadata = checkpoint.content.as_ref().unwrap();
            needed.insert(view.layout.metadata(checkpoint.folder).unwrap().to_string());
            needed.extend(view.references(metadata).map(|path| path.to_string()));
        }
        let mut there = files_below(&self.backup(), &self.backup());
        there.retain(|name| !name.contains("/epochs/"));
        assert_eq!(there, needed);
    }
}

#[test]
fn every_checkpoint_of_a_database_restores_from_the_copy_key_by_key() {
    let Some(mut shop) = Shop::open("copies that restore") else { return };
    let before = files_below(&shop.bench.store(), &shop.bench.store());
    let dry = shop.bench.json(&format!("{} --dry-run", shop.copy()));
    assert!(!shop.backup().exists(), "a dry run made something");
    let report = shop.bench.json(&shop.copy());
    for field in ["sent_files", "sent_bytes"] {
        assert_eq!(dry[field], report[field], "what was planned is what was done: {field}");
    }
    assert!(report["checkpoints"].as_array().unwrap().iter().all(|row| row["result"] == "copied"), "{report}");
    assert_eq!(files_below(&shop.bench.store(), &shop.bench.store()), before, "the source was changed");
    shop.assert_copied();
    // The next one is a little, and one more copy is nothing: not even a claim.
    shop.snapshot(3);
    let report = shop.bench.json(&shop.copy());
    let results: Vec<_> = report["checkpoints"].as_array().unwrap().iter().map(|row| row["result"].clone()).collect();
    assert_eq!(results, ["there", "there", "there", "copied"]);
    shop.assert_copied();
    let before = files_below(&shop.backup(), &shop.backup());
    let again = shop.bench.json(&shop.copy());
    assert_eq!(again["sent_bytes"], 0);
    assert_eq!(files_below(&shop.backup(), &shop.backup()), before, "a copy with nothing to do changed something");
}

#[test]
fn one_checkpoint_and_another_job_s_name() {
    let Some(shop) = Shop::open("one checkpoint") else { return };
    let line = format!("{} --checkpoint latest --to-job b", shop.copy());
    let said = shop.bench.ok(&line);
    assert!(said.contains("1 checkpoint copied to job b"), "{said}");
    let target = shop.bench.path("restored");
    shop.at_backup(&format!("restore latest {} --job b", target.display()));
    assert!(scan(&target) == shop.held[2]);
    let shown = shop.at_backup("show latest --job b");
    assert!(shown.contains("copied from cp-3.") && shown.contains("of job a"), "{shown}");
    // An older one is not put above it, unless that is wanted.
    let said = shop.bench.fails(&format!("{} --checkpoint 1 --to-job b", shop.copy()), KEPT);
    assert!(said.is_empty(), "{said}");
    shop.bench.ok(&format!("{} --checkpoint 1 --to-job b --on-top", shop.copy()));
    let older = shop.bench.path("older");
    shop.at_backup(&format!("restore latest {} --job b", older.display()));
    assert!(scan(&older) == shop.held[0]);
}

#[test]
fn a_damaged_source_is_told_and_the_sound_ones_are_copied_if_asked() {
    let Some(shop) = Shop::open("a damaged source") else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let view = runtime.block_on(async {
        icecore::ownership::JobView::read(&*local_store(&shop.bench.store()), &cli_support::layout()).await.unwrap()
    });
    let second = view.checkpoints.values().nth(1).unwrap();
    let metadata = second.content.as_ref().unwrap();
    let own = |path: &icecore::store::StorePath| view.referenced_by(path).count() == 1;
    let object = view.references(metadata).find(|path| path.as_str().ends_with(".sst") && own(path)).unwrap();
    flip(&shop.bench.store().join(object.as_str()));
    let said = shop.bench.fails(&shop.copy(), DAMAGED);
    assert!(said.contains(object.as_str()) && said.contains("cp-2."), "{said}");
    assert!(said.contains("copied before that, and complete: 1"), "{said}");
    assert_eq!(shop.numbers(), [1]);
    let output = shop.bench.run(&format!("{} --keep-going", shop.copy()));
    assert_eq!(output.status.code(), Some(DAMAGED), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains(object.as_str()) && printed.contains("1 checkpoint copied"), "{printed}");
    assert_eq!(shop.numbers(), [1, 3]);
    shop.at_backup("gc");
    shop.assert_only_referenced();
}

/// An owner of the backup's job in this process, as an engine has one.
fn owner(shop: &Shop) -> (tokio::runtime::Runtime, std::sync::Arc<Coordinator>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let coordinator = runtime.block_on(async {
        let options = CoordinatorOptions { holder: "the engine".to_owned(), ..CoordinatorOptions::default() };
        let (store, job) = (local_store(&shop.backup()), JobId::new(JOB).unwrap());
        Coordinator::start(store, job, vec![], Env::system().unwrap(), options, vec![]).await.unwrap()
    });
    let coordinator = std::sync::Arc::new(coordinator);
    let serving = coordinator.clone();
    runtime.spawn(async move {
        while serving.serve_requests().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    (runtime, coordinator)
}

#[test]
fn a_target_with_a_living_owner_is_not_fenced_silently() {
    let Some(shop) = Shop::open("a living owner of the target") else { return };
    let (runtime, engine) = owner(&shop);
    let said = shop.bench.fails(&format!("{} --wait 1", shop.copy()), OTHER_OWNER);
    assert!(said.contains("the engine") && said.contains("--take-over"), "{said}");
    runtime.block_on(engine.collect(SweepScope::Records, false)).unwrap();
    let output = shop.bench.run(&format!("{} --take-over", shop.copy()));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("this fences"));
    let fenced = runtime.block_on(engine.collect(SweepScope::Everything, false));
    assert_eq!(fenced.unwrap_err().kind(), ErrorKind::Fenced);
    shop.assert_copied();
    // With nothing to copy nobody is asked, let alone fenced.
    let (runtime, engine) = owner(&shop);
    shop.bench.ok(&format!("{} --take-over", shop.copy()));
    runtime.block_on(engine.collect(SweepScope::Everything, false)).unwrap();
}

#[test]
fn killed_at_any_moment_the_same_copy_goes_on_and_doubles_nothing() {
    let Some(mut shop) = Shop::open("kill -9 of a copy") else { return };
    let mut killed = 0;
    for round in 0..KILLS {
        if round % 5 == 4 {
            shop.snapshot(3 + round / 5);
        }
        let mut child = shop
            .bench
            .command(&format!("{} --take-over", shop.copy()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Over the whole life of the process, in steps that never repeat.
        std::thread::sleep(Duration::from_micros(round * 3_700 % 61_000));
        let _ = child.kill();
        let status = child.wait().unwrap();
        killed += u64::from(std::os::unix::process::ExitStatusExt::signal(&status) == Some(9));
    }
    assert!(killed > KILLS / 3, "only {killed} were killed before their end");
    shop.bench.ok(&format!("{} --take-over", shop.copy()));
    shop.assert_copied();
    assert!(files_below(&shop.job(), &shop.job()).iter().all(|name| !name.contains(".tmp-")));
}

#[test]
fn sigterm_stops_a_copy_cleanly_and_the_next_needs_not_wait() {
    if !have_rocksdb_tools("SIGTERM of a copy") {
        return;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    write(&db, 0, 100_000);
    bench.ok(&format!("snapshot {}", db.display()));
    let mut interrupted = 0;
    for (round, name) in ["TERM", "INT"].into_iter().cycle().take(6).enumerate() {
        let backup = bench.path(&format!("backup-{round}"));
        let line = format!("copy {} {}", bench.store().display(), backup.display());
        let child = bench.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let shared = backup.join(format!("job-{JOB}/shared"));
        bench.wait_for(|_| shared.exists());
        assert!(Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => {}
            code => {
                assert_eq!(code, Some(if name == "TERM" { 143 } else { 130 }), "{said}");
                assert!(said.contains("the same copy goes on"), "{said}");
                interrupted += 1;
            }
        }
        // It ended its tenure: nobody waits, nobody is fenced.
        let output = bench.run(&line);
        assert!(output.status.success(), "{output:?}");
        assert!(!String::from_utf8(output.stderr).unwrap().contains("fences"));
        bench.ok(&format!("verify --store {}", backup.display()));
    }
    assert!(interrupted > 0, "every copy ended before it was interrupted");
}

#[test]
fn a_savepoint_is_copied_by_its_path() {
    let Some(shop) = Shop::open("a copied savepoint") else { return };
    shop.bench.ok(&format!("export 2 {}", shop.bench.store().join("kept/two").display()));
    let line = format!("{} --savepoint kept/two --to-path other/two", shop.copy());
    assert_eq!(shop.bench.json(&format!("{line} --dry-run"))["result"], "to-copy");
    assert!(!shop.backup().exists());
    assert!(shop.bench.ok(&line).contains("copied savepoint 2 of job a to other/two"));
    assert_eq!(shop.bench.json(&line)["result"], "there");
    let target = shop.bench.path("restored");
    shop.bench.ok(&format!("restore --from {} {}", shop.backup().join("other/two").display(), target.display()));
    assert!(scan(&target) == shop.held[1]);
    shop.bench.fails(&format!("{} --savepoint kept/none", shop.copy()), 6);
    shop.bench.fails(&format!("{} --savepoint kept/two --to-job b", shop.copy()), 2);
}

#[test]
fn nonsense_is_told() {
    let bench = Bench::new();
    let store = bench.store();
    bench.fails("copy", 2);
    bench.fails(&format!("copy {}", store.display()), 2);
    bench.fails(&format!("copy {} ftp://host/x", store.display()), 2);
    // No such job at the source; and nothing is made at the target.
    bench.fails(&format!("copy {} {}", store.display(), bench.path("to").display()), 6);
    assert!(!bench.path("to").exists());
    bench.fails(&format!("copy {} {} --to-path x", store.display(), bench.path("to").display()), 2);
}
