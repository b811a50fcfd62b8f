//! The command killed, interrupted, and beside other owners of the job.

mod cli_support;
mod rocksfolder_support;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cli_support::{Bench, JOB, files_below, flip, local_store, scan};
use icecore::ErrorKind;
use icecore::coordinator::{Coordinator, CoordinatorOptions, MAX_REQUESTED_OBJECTS, OperatorDescription};
use icecore::env::Env;
use icecore::gc::SweepScope;
use icecore::layout::{JobId, OperatorId, SubtaskName};
use icecore::metadata::CheckpointKind;
use icecore::snapshot::{Snapshotter, SnapshotterOptions};
use icecore::store::StoreRef;
use icecore::store::testing::{FaultyStore, Rule, Step};
use icecore::task::{FolderOptions, freeze_folder};
use rocksfolder_support::{db_bench, have_rocksdb_tools};

const OTHER_OWNER: i32 = 4;
/// How long a command waits for an owner that answers at once, in seconds, on a machine however busy.
const WAIT_S: u32 = 10;
/// How often a snapshot is killed.
const KILLS: u64 = 25;

fn write(db: &Path, round: u64, keys: u32) {
    let benchmarks = if round == 0 { "--benchmarks=fillrandom" } else { "--benchmarks=overwrite" };
    let (existing, seed) = (format!("--use_existing_db={}", u8::from(round > 0)), format!("--seed={round}"));
    let keys = format!("--num={keys}");
    let options = [benchmarks, &keys, "--compression_type=none", &existing, &seed];
    assert!(db_bench(db, &options).status().unwrap().success());
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap().success());
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost_and_gc_leaves_no_orphan() {
    if !have_rocksdb_tools("kill -9") {
        return;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    let (mut killed, mut round) = (0, 0);
    // About as long as a snapshot takes: what ends before it is killed says that it is shorter.
    let mut life = Duration::from_millis(100);
    while killed < KILLS {
        assert!(round < 10 * KILLS, "only {killed} were killed before their end");
        write(&db, round, 6000);
        let before = if bench.job().exists() { bench.view().checkpoints.len() } else { 0 };
        let mut child = bench
            .command(&format!("snapshot {} --take-over", db.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Over the whole life of the process, in steps that never repeat.
        std::thread::sleep(life * (round * 37 % 91) as u32 / 91);
        let _ = child.kill();
        let status = child.wait().unwrap();
        let was_killed = status.signal() == Some(9);
        killed += u64::from(was_killed);
        life = if was_killed { life * 21 / 20 } else { life * 3 / 4 };
        round += 1;
        let after = if bench.job().exists() { bench.view().checkpoints.len() } else { 0 };
        assert!(after >= before, "a checkpoint was lost");
        assert!(status.code() != Some(0) || after > before, "told as taken, and not there");
    }
    bench.ok(&format!("snapshot {} --take-over", db.display()));
    bench.ok("verify --all");
    bench.ok("gc");
    bench.ok("gc");
    bench.assert_only_referenced();
    bench.ok("restore latest restored");
    assert_eq!(scan(&bench.path("restored")), scan(&db));
}

#[test]
fn sigterm_stops_a_snapshot_cleanly_and_the_next_needs_not_wait() {
    if !have_rocksdb_tools("SIGTERM") {
        return;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    write(&db, 0, 100_000);
    let mut interrupted = 0;
    for (round, name) in ["TERM", "INT"].into_iter().cycle().take(12).enumerate() {
        let job = format!("j{round}");
        let child = bench
            .command(&format!("snapshot {} --job {job}", db.display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let shared = bench.store().join(format!("job-{job}/shared"));
        bench.wait_for(|_| shared.exists());
        signal(child.id(), name);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => {}
            code => {
                assert_eq!(code, Some(if name == "TERM" { 143 } else { 130 }), "{said}");
                assert!(said.contains("no checkpoint was taken"), "{said}");
                interrupted += 1;
            }
        }
        // It ended its tenure: nobody waits, nobody is fenced.
        let output = bench.run(&format!("snapshot {} --job {job}", db.display()));
        assert!(output.status.success(), "{output:?}");
        assert!(!String::from_utf8(output.stderr).unwrap().contains("fences"));
        bench.ok(&format!("verify --job {job}"));
    }
    assert!(interrupted > 0, "every snapshot ended before it was interrupted");
}

/// An owner in this process, as an engine has one.
struct Owner {
    runtime: tokio::runtime::Runtime,
    coordinator: Arc<Coordinator>,
}

impl Owner {
    fn of(bench: &Bench) -> Self {
        Self::on(|| local_store(&bench.store()))
    }

    fn on(store: impl FnOnce() -> StoreRef) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let coordinator = runtime.block_on(async {
            let options = CoordinatorOptions { holder: "the engine".to_owned(), ..CoordinatorOptions::default() };
            let (store, job) = (store(), JobId::new(JOB).unwrap());
            Coordinator::start(store, job, vec![], Env::system().unwrap(), options, vec![]).await.unwrap()
        });
        Self { runtime, coordinator: Arc::new(coordinator) }
    }

    /// From now on it answers requests.
    fn serve(&self) {
        let coordinator = self.coordinator.clone();
        self.runtime.spawn(async move {
            while coordinator.serve_requests().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
}

fn three_checkpoints(test: &str) -> Option<(Bench, std::path::PathBuf)> {
    if !have_rocksdb_tools(test) {
        return None;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    for round in 0..3 {
        write(&db, round, 3000);
        bench.ok(&format!("snapshot {}", db.display()));
    }
    Some((bench, db))
}

fn numbers(bench: &Bench) -> Vec<u64> {
    bench.view().checkpoints.keys().map(|folder| folder.checkpoint.0).collect()
}

#[test]
fn a_living_owner_does_what_commands_ask_and_is_not_fenced() {
    let Some((bench, _)) = three_checkpoints("a living owner") else { return };
    let owner = Owner::of(&bench);
    owner.serve();
    let epoch = owner.coordinator.epoch();
    for line in ["pin 1 --reason mine", "gc", "drop 2", "unpin 1", "retain --keep-last 1"] {
        let report = bench.json(line);
        assert_eq!(report["done_by"], "the owner", "{line}: {report}");
    }
    assert_eq!(numbers(&bench), [3]);
    let said = bench.fails("drop 3", 5);
    assert!(said.contains("newest"), "{said}");
    // The same epoch all along, and it goes on working.
    assert_eq!(bench.view().epochs.living_owner(), Some(epoch));
    owner.runtime.block_on(owner.coordinator.collect(SweepScope::Everything, false)).unwrap();
}

#[test]
fn an_owner_that_takes_longer_than_the_wait_is_not_fenced_while_it_says_that_it_is_alive() {
    let Some((bench, _)) = three_checkpoints("a busy owner") else { return };
    let mut faulty = None;
    let owner = Owner::on(|| {
        let store = FaultyStore::new(local_store(&bench.store()));
        faulty = Some(Arc::clone(&store));
        store
    });
    let gate = faulty.unwrap().park(Rule::on(Step::Put).path_contains("/condemned/"));
    owner.serve();
    let child = bench.command("drop 1 --wait 2").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    owner.runtime.block_on(gate.reached());
    // Twice the wait, and then some.
    std::thread::sleep(Duration::from_secs(6));
    gate.release();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("alive") && !said.contains("this fences"), "{said}");
    assert_eq!(numbers(&bench), [2, 3]);
    assert_eq!(bench.view().epochs.living_owner(), Some(owner.coordinator.epoch()));
}

fn index_of(bench: &Bench, checkpoint: u64) -> std::path::PathBuf {
    let view = bench.view();
    let folder = view.checkpoints.keys().find(|folder| folder.checkpoint.0 == checkpoint).unwrap();
    bench.job().join(folder.to_string()).join("_metadata")
}

#[test]
fn a_living_owner_gives_up_a_checkpoint_that_it_cannot_read() {
    let Some((bench, _)) = three_checkpoints("a repair by the owner") else { return };
    flip(&index_of(&bench, 1));
    let owner = Owner::of(&bench);
    owner.serve();
    assert_eq!(bench.json("repair 1")["done_by"], "the owner");
    assert_eq!(numbers(&bench), [2, 3]);
    bench.ok("gc");
    bench.ok("verify --all");
}

#[test]
fn a_living_owner_does_not_give_up_a_checkpoint_that_it_has_read() {
    let Some((bench, _)) = three_checkpoints("a repair that is refused") else { return };
    let index = index_of(&bench, 1);
    let owner = Owner::of(&bench);
    owner.serve();
    flip(&index);
    assert!(bench.fails("repair 1", 5).contains("drop it instead"));
    flip(&index);
    assert_eq!(numbers(&bench), [1, 2, 3]);
    bench.ok("verify --all");
}

#[test]
fn a_living_owner_is_told_of_more_damage_than_one_request_names() {
    if !have_rocksdb_tools("damage and a living owner") {
        return;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    // How many tables are left is a matter of when compactions ran: twice as many as it takes.
    write(&db, 0, 40_000);
    bench.ok(&format!("snapshot {}", db.display()));
    let owner = Owner::of(&bench);
    owner.serve();
    let shared = bench.job().join("shared");
    let tables = files_below(&shared, &shared);
    assert!(tables.len() > MAX_REQUESTED_OBJECTS, "{} tables", tables.len());
    tables.iter().for_each(|table| std::fs::remove_file(shared.join(table)).unwrap());
    let report = bench.json("repair --objects latest --quick");
    assert_eq!((&report["done_by"], &report["marked"]), (&"the owner".into(), &tables.len().into()), "{report}");
    // The next owner knows it, too.
    owner.runtime.block_on(owner.coordinator.end()).unwrap();
    bench.ok(&format!("snapshot {}", db.display()));
    bench.ok("verify latest");
    bench.ok("restore latest restored");
    assert_eq!(scan(&bench.path("restored")), scan(&db));
}

#[test]
fn a_snapshot_that_waits_asks_its_owner_once() {
    let Some((bench, db)) = three_checkpoints("a snapshot that waits") else { return };
    let owner = Owner::of(&bench);
    owner.serve();
    bench.fails(&format!("snapshot {} --wait {WAIT_S}", db.display()), OTHER_OWNER);
    let requests = files_below(&bench.job().join("requests"), &bench.job());
    assert_eq!(requests.len(), 2, "more than a request and its answer: {requests:?}");
}

#[test]
fn a_signal_during_the_claim_leaves_no_tenure_that_looks_alive() {
    if !have_rocksdb_tools("a signal during the claim") {
        return;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    write(&db, 0, 100);
    let mut interrupted = 0;
    for round in 0..24 {
        let job = format!("j{round}");
        let mut child = bench
            .command(&format!("snapshot {} --job {job}", db.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let epochs = bench.store().join(format!("job-{job}/epochs"));
        while !epochs.exists() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        // Over the whole claim, which takes a few milliseconds.
        std::thread::sleep(Duration::from_micros(round % 8 * 500));
        signal(child.id(), "TERM");
        let status = child.wait().unwrap();
        interrupted += u64::from(status.code() == Some(143));
        let shown = bench.run(&format!("show --job {job} --json"));
        if shown.status.success() {
            let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
            assert!(shown["living_owner"].is_null(), "round {round}: {shown}");
        }
    }
    assert!(interrupted > 0, "every snapshot ended before it was interrupted");
}

#[test]
fn a_snapshot_does_not_push_aside_an_owner_that_answers() {
    let Some((bench, db)) = three_checkpoints("an owner that answers") else { return };
    let owner = Owner::of(&bench);
    owner.serve();
    let said = bench.fails(&format!("snapshot {} --wait {WAIT_S}", db.display()), OTHER_OWNER);
    assert!(said.contains("the engine") && said.contains("--take-over"), "{said}");
    assert_eq!(numbers(&bench), [1, 2, 3]);
    owner.runtime.block_on(owner.coordinator.collect(SweepScope::Records, false)).unwrap();
}

#[test]
fn an_owner_that_does_not_answer_is_fenced_after_the_wait_and_finds_out() {
    let Some((bench, _)) = three_checkpoints("an owner that does not answer") else { return };
    let owner = Owner::of(&bench);
    let output = bench.run("drop 1 --wait 1");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no answer within 1 s") && said.contains("the engine"), "{said}");
    assert_eq!(numbers(&bench), [2, 3]);
    let fenced = owner.runtime.block_on(owner.coordinator.collect(SweepScope::Everything, false));
    assert_eq!(fenced.unwrap_err().kind(), ErrorKind::Fenced);
}

#[test]
fn take_over_fences_at_once_and_says_whom() {
    let Some((bench, db)) = three_checkpoints("take over") else { return };
    let owner = Owner::of(&bench);
    owner.serve();
    let output = bench.run(&format!("snapshot {} --take-over", db.display()));
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("the engine"));
    assert_eq!(numbers(&bench), [1, 2, 3, 4]);
    let fenced = owner.runtime.block_on(owner.coordinator.collect(SweepScope::Everything, false));
    assert_eq!(fenced.unwrap_err().kind(), ErrorKind::Fenced);
}

#[test]
fn two_snapshots_at_once_make_two_sound_checkpoints_or_one_and_an_error() {
    let Some((bench, db)) = three_checkpoints("two snapshots at once") else { return };
    for round in 0..5 {
        let before = numbers(&bench).len();
        let start = || {
            let line = format!("snapshot {}", db.display());
            bench.command(&line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let both = [start(), start()].map(|child| child.wait_with_output().unwrap());
        let taken = both.iter().filter(|output| output.status.success()).count();
        for output in both.iter().filter(|output| !output.status.success()) {
            assert_eq!(output.status.code(), Some(OTHER_OWNER), "round {round}: {output:?}");
        }
        assert!(numbers(&bench).len() >= before + taken, "a checkpoint that was told as taken does not count");
        bench.ok("verify --all");
        bench.ok("gc --take-over");
    }
    bench.ok("gc");
    bench.assert_only_referenced();
    assert!(files_below(&bench.job(), &bench.job()).iter().all(|name| !name.contains(".tmp-")));
}

#[test]
fn what_an_aborted_attempt_sent_is_not_sent_by_the_next() {
    if !have_rocksdb_tools("a second attempt") {
        return;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    write(&db, 0, 6000);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (store, env, operator) =
            (local_store(&bench.store()), Env::system().unwrap(), OperatorId::new("db").unwrap());
        let description = OperatorDescription { operator: operator.clone(), parallelism: 1, max_parallelism: 1 };
        let options = CoordinatorOptions { tolerable_failures: 5, ..CoordinatorOptions::default() };
        let job = JobId::new(JOB).unwrap();
        let coordinator =
            Coordinator::start(store.clone(), job, vec![description], env.clone(), options, vec![]).await.unwrap();
        let mut sent = Vec::new();
        for _ in 0..2 {
            let trigger = coordinator.trigger(CheckpointKind::Incremental).unwrap();
            let subtask = SubtaskName { operator: operator.clone(), index: 0 };
            let options = SnapshotterOptions::default();
            let snapshotter = Snapshotter::new(subtask, store.clone(), env.clone(), coordinator.broker(), options);
            let frozen = freeze_folder(&db, FolderOptions::default()).unwrap();
            let handle = snapshotter.upload(&trigger, frozen).await.unwrap();
            sent.push(handle.stats.uploaded_bytes);
            coordinator.abort(trigger.checkpoint, "the folder changed");
        }
        // The second sends the files of the checkpoint's own only: the log, the MANIFEST and the like.
        let own: u64 = ["log", "MANIFEST", "CURRENT", "OPTIONS", "IDENTITY"]
            .iter()
            .flat_map(|part| files_below(&db, &db).into_iter().filter(move |name| name.contains(part)))
            .map(|name| std::fs::metadata(db.join(name)).unwrap().len())
            .sum();
        assert!(sent[1] <= own && sent[0] > own + 100_000, "sent {sent:?}, own {own}");
    });
}
