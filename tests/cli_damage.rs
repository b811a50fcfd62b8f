//! Damage on the store, and the command: `verify` finds it and says what to type, `repair --objects` marks
//! it, the next `snapshot` stores exactly that content anew, from the database, and restores it key by key.

mod cli_support;
mod rocksfolder_support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cli_support::{Bench, files_below, flip, scan};
use rocksfolder_support::{db_bench, have_rocksdb_tools};
use serde_json::Value;

const DAMAGED: i32 = 3;

#[derive(Clone, Copy, Debug)]
enum Damage {
    FlippedByte,
    Truncated,
    Deleted,
}

fn damage(file: &Path, how: Damage) {
    match how {
        Damage::FlippedByte => flip(file),
        Damage::Truncated => {
            let length = std::fs::metadata(file).unwrap().len();
            std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length / 2).unwrap();
        }
        Damage::Deleted => std::fs::remove_file(file).unwrap(),
    }
}

/// A database of several tables, and a checkpoint of it.
fn a_checkpoint(test: &str) -> Option<(Bench, PathBuf)> {
    if !have_rocksdb_tools(test) {
        return None;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    assert!(db_bench(&db, &["--benchmarks=fillrandom", "--num=3000"]).status().unwrap().success());
    bench.ok(&format!("snapshot {}", db.display()));
    Some((bench, db))
}

/// The tables of a checkpoint: object on the disk, object's path, size. Largest first.
fn tables(bench: &Bench, checkpoint: u64) -> Vec<(PathBuf, String, u64)> {
    let shown = bench.json(&format!("show {checkpoint}"));
    let mut tables = Vec::new();
    let mut look = |file: &Value| {
        if file["kind"] == "sst" {
            let object = file["object"].as_str().unwrap().to_owned();
            tables.push((bench.store().join(&object), object, file["size_bytes"].as_u64().unwrap()));
        }
    };
    for operator in shown["operators"].as_array().unwrap() {
        for subtask in operator["subtasks"].as_array().unwrap() {
            for group in subtask["groups"].as_array().unwrap() {
                group["files"].as_array().unwrap().iter().for_each(&mut look);
            }
            subtask["own_files"].as_array().into_iter().flatten().for_each(&mut look);
        }
    }
    tables.sort_by_key(|(_, _, size)| std::cmp::Reverse(*size));
    tables.dedup();
    tables
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The command after `next: icecore `, as `verify` prints it.
fn next_command(bench: &Bench, verify: &str) -> String {
    let verified = bench.run(verify);
    assert_eq!(verified.status.code(), Some(DAMAGED), "{verified:?}");
    let text = stdout(&verified);
    let line = text.lines().find_map(|line| line.strip_prefix("next: icecore "));
    line.unwrap_or_else(|| panic!("no next command: {text}")).to_owned()
}

fn shared_names(bench: &Bench) -> std::collections::BTreeSet<String> {
    let shared = bench.job().join("shared");
    files_below(&shared, &shared)
}

#[test]
fn what_verify_finds_is_repaired_by_the_command_that_it_prints() {
    for how in [Damage::FlippedByte, Damage::Truncated, Damage::Deleted] {
        let Some((bench, db)) = a_checkpoint("damage and repair") else { return };
        let snapshot = format!("snapshot {}", db.display());
        let (file, object, size) = tables(&bench, 1).remove(0);
        damage(&file, how);
        // Nobody notices: the table is known by its identity.
        let before = shared_names(&bench);
        bench.ok(&snapshot);
        assert_eq!(shared_names(&bench), before, "{how:?}");

        let next = next_command(&bench, "verify latest");
        assert_eq!(next, format!("repair --objects {object}"), "{how:?}");
        let planned = bench.json(&format!("{next} --dry-run"));
        assert_eq!((&planned["damaged"][0]["object"], &planned["marked"]), (&object.as_str().into(), &0.into()));
        assert!(!bench.job().join("distrusted").exists(), "a dry run writes nothing");
        let repaired = bench.json(&next);
        assert_eq!((&repaired["marked"], &repaired["done_by"]), (&1.into(), &"this command".into()), "{how:?}");
        assert_eq!(repaired["damaged"][0]["checkpoints"], serde_json::json!([1, 2]), "{how:?}");

        let before = shared_names(&bench);
        let taken = bench.json(&snapshot);
        let new: Vec<String> = shared_names(&bench).difference(&before).cloned().collect();
        let written: u64 = new.iter().map(|name| bench.job().join("shared").join(name).metadata().unwrap().len()).sum();
        assert_eq!((new.len(), written), (1, size), "{how:?}: exactly what was damaged");
        assert_eq!(taken["checkpoint"], 3);
        bench.ok("verify 3");
        bench.ok("restore 3 restored");
        bench.ok(&format!("snapshot {} --job other", db.display()));
        bench.ok("restore latest expected --job other");
        assert_eq!(scan(&bench.path("restored")), scan(&bench.path("expected")), "{how:?}");

        // The older ones stay damaged, and are said to be marked.
        let verified = bench.run("verify --all --json");
        assert_eq!(verified.status.code(), Some(DAMAGED));
        let report: Value = serde_json::from_slice(&verified.stdout).unwrap();
        let sound: Vec<bool> = report["checkpoints"].as_array().unwrap().iter().map(|r| r["sound"] == true).collect();
        assert_eq!(sound, [false, false, true], "{how:?}");
        assert_eq!(
            (&report["checkpoints"][0]["damaged"][0]["marked"], &report["next"]),
            (&true.into(), &serde_json::json!([]))
        );
        assert_eq!(bench.json(&next)["damaged"][0]["fate"], "known", "{how:?}: a second time there is nothing to do");
        let why = bench.ok(&format!("why {object}"));
        assert!(why.contains("is damaged, and so shared by no later checkpoint"), "{why}");
        assert!(bench.ok("show").contains("1 damaged object"));

        // When they go, the object goes, and the record of it.
        bench.ok("drop 1 2");
        bench.ok("gc");
        assert!(!file.exists(), "{how:?}");
        std::fs::remove_dir_all(bench.store().join("job-other")).unwrap();
        bench.assert_only_referenced();
        assert!(!bench.ok("show").contains("damaged object"));
    }
}

#[test]
fn a_newer_snapshot_that_changed_sends_what_changed_and_what_was_damaged() {
    let Some((bench, db)) = a_checkpoint("damage under change") else { return };
    let (file, object, _) = tables(&bench, 1).remove(0);
    damage(&file, Damage::FlippedByte);
    bench.ok(&format!("repair --objects {object}"));
    let overwrite = ["--benchmarks=overwrite", "--num=50", "--use_existing_db=1", "--seed=9"];
    assert!(db_bench(&db, &overwrite).status().unwrap().success());
    bench.ok(&format!("snapshot {}", db.display()));
    bench.ok("verify latest");
    let now: Vec<String> = tables(&bench, 2).into_iter().map(|(_, object, _)| object).collect();
    assert!(!now.contains(&object));
    bench.ok("restore latest restored");
    bench.ok(&format!("snapshot {} --job other", db.display()));
    bench.ok("restore latest expected --job other");
    assert_eq!(scan(&bench.path("restored")), scan(&bench.path("expected")));
}

#[test]
fn many_damaged_objects_are_named_by_their_checkpoints_and_found_quickly_where_they_are_missing() {
    let Some((bench, db)) = a_checkpoint("many damaged objects") else { return };
    let tables = tables(&bench, 1);
    assert!(tables.len() > 4, "{tables:?}");
    tables.iter().for_each(|(file, ..)| damage(file, Damage::Deleted));
    assert_eq!(next_command(&bench, "verify 1 --quick"), "repair --objects 1 --quick");
    assert_eq!(next_command(&bench, "verify --all"), "repair --objects all");
    let repaired = bench.json("repair --objects all --quick");
    assert_eq!(repaired["marked"].as_u64().unwrap(), tables.len() as u64);
    bench.ok(&format!("snapshot {}", db.display()));
    bench.ok("verify latest");
    bench.ok("restore latest restored");
}

#[test]
fn the_store_and_job_that_were_named_are_named_again() {
    let Some((bench, _)) = a_checkpoint("a store with a blank") else { return };
    let (file, object, _) = tables(&bench, 1).remove(0);
    damage(&file, Damage::Deleted);
    std::fs::rename(bench.store(), bench.path("my store")).unwrap();
    let mut command = bench.command("verify --job a --store");
    let verified = command.arg(bench.path("my store")).output().unwrap();
    let expected =
        format!("next: icecore --store '{}' --job a repair --objects {object}\n", bench.path("my store").display());
    assert!(stdout(&verified).contains(&expected), "{verified:?}");
}

#[test]
fn what_is_sound_or_no_ones_is_not_marked() {
    let Some((bench, _)) = a_checkpoint("what is sound") else { return };
    let (_, object, _) = tables(&bench, 1).remove(0);
    assert!(bench.ok(&format!("repair --objects {object}")).contains("nothing is damaged"));
    assert!(bench.ok("repair --objects latest").contains("nothing is damaged"));
    let name = object.rsplit('/').next().unwrap().replacen('0', "1", 1).replacen('f', "e", 1);
    bench.fails(&format!("repair --objects job-a/shared/{name}"), 6);
    bench.fails(&format!("repair --objects {object} 1"), 2);
    bench.fails("repair 1 1", 2);
    bench.fails("repair 1 --quick", 2);
    assert!(!bench.job().join("distrusted").exists());
}

#[test]
fn a_checkpoints_own_damaged_file_is_told_apart() {
    let Some((bench, _)) = a_checkpoint("a damaged file of one checkpoint") else { return };
    let folder = bench.job();
    let own =
        files_below(&folder, &folder).into_iter().find(|name| name.contains("operator-") && name.ends_with(".log"));
    let own =
        own.or_else(|| files_below(&folder, &folder).into_iter().find(|name| name.contains("operator-db"))).unwrap();
    std::fs::remove_file(folder.join(own)).unwrap();
    let verified = stdout(&bench.run("verify latest"));
    assert!(verified.contains("DAMAGED") && !verified.contains("next:"), "{verified}");
    let repaired = bench.json("repair --objects latest");
    assert_eq!((&repaired["damaged"][0]["fate"], &repaired["marked"]), (&"own".into(), &0.into()));
}

fn signal(process: u32, name: &str) {
    assert!(Command::new("kill").args([format!("-{name}"), process.to_string()]).status().unwrap().success());
}

#[test]
fn a_snapshot_under_way_begins_anew_when_it_is_told_of_damage() {
    let Some((bench, db)) = a_checkpoint("damage during a snapshot") else { return };
    let pipes = |mut command: Command| command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for round in 1..=10 {
        // So much that the snapshot is not done before it has looked at what is asked of it, on a busy machine, too.
        let large = ["--benchmarks=overwrite", "--num=250000", "--use_existing_db=1", "--compression_type=none"];
        let large = db_bench(&db, &large).args([&format!("--seed={round}"), "--write_buffer_size=16777216"]).status();
        assert!(large.unwrap().success());
        let (path, object, _) = tables(&bench, bench.view().newest().unwrap().folder.checkpoint.0).remove(0);
        damage(&path, Damage::Deleted);
        let before = bench.view().epochs.greatest();
        let snapshot = pipes(bench.command(&format!("snapshot {} --json", db.display())));
        bench.wait_for(|bench| bench.view().epochs.living_owner().is_some_and(|owner| Some(owner) > before));
        // It stands still while the request is left for it, and finds that when it goes on.
        signal(snapshot.id(), "STOP");
        let repair = pipes(bench.command(&format!("repair --objects {object} --quick --json")));
        bench.wait_for(|bench| {
            let is_asked = !files_below(&bench.job().join("requests"), &bench.job()).is_empty();
            is_asked || bench.view().epochs.living_owner().is_none()
        });
        signal(snapshot.id(), "CONT");
        let (snapshot, repair) = (snapshot.wait_with_output().unwrap(), repair.wait_with_output().unwrap());
        assert!(snapshot.status.success() && repair.status.success(), "{snapshot:?} {repair:?}");
        let taken: Value = serde_json::from_slice(&snapshot.stdout).unwrap();
        if taken["attempts"].as_u64().unwrap() > 1 {
            bench.ok("verify latest");
            bench.ok("restore latest restored");
            assert_eq!(scan(&bench.path("restored")), scan(&db));
            return;
        }
        // It was faster than the request: then the next one has the cure.
        bench.ok(&format!("snapshot {}", db.display()));
        bench.ok("verify latest");
    }
    panic!("every snapshot ended before it was told");
}
