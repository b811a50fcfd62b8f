//! Bad input to the command: a clear error, the documented exit code, and nothing lost.

mod cli_support;
mod rocksfolder_support;

use std::path::{Path, PathBuf};
use std::process::Command;

use cli_support::{Bench, files_below, flip, scan};
use rocksfolder_support::{db_bench, have_rocksdb_tools};
use sha2::{Digest, Sha256};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const DAMAGED: i32 = 3;
const KEPT: i32 = 5;
const NOT_FOUND: i32 = 6;
const NO_ROOM: i32 = 8;
const UNSUPPORTED: i32 = 9;

/// A database with two checkpoints taken of it; `None` without RocksDB's programs.
fn two_checkpoints(test: &str) -> Option<(Bench, PathBuf)> {
    if !have_rocksdb_tools(test) {
        return None;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    for round in 0..2 {
        write(&db, round);
        bench.ok(&format!("snapshot {}", db.display()));
    }
    Some((bench, db))
}

fn write(db: &Path, round: u32) {
    let benchmarks = if round == 0 { "--benchmarks=fillrandom" } else { "--benchmarks=overwrite" };
    let (existing, seed) = (format!("--use_existing_db={}", u8::from(round > 0)), format!("--seed={round}"));
    assert!(db_bench(db, &[benchmarks, "--num=3000", &existing, &seed]).status().unwrap().success());
}

fn first_with_ending(folder: &Path, ending: &str) -> PathBuf {
    let names = files_below(folder, folder);
    folder.join(names.iter().find(|name| name.ends_with(ending)).unwrap())
}

/// A shared table that checkpoint 2 needs and checkpoint 1 does not.
fn table_of_the_second_alone(bench: &Bench) -> PathBuf {
    let diff = bench.json("diff 1 2");
    let added = diff["added"].as_array().unwrap();
    let hash = added.iter().find(|file| file["kind"] == "sst").unwrap()["sha256"].as_str().unwrap().to_owned();
    let shared = bench.job().join("shared");
    let names = files_below(&shared, &shared);
    shared.join(names.iter().find(|name| name.starts_with(&hash)).unwrap())
}

fn metadata_of(bench: &Bench, checkpoint: u64) -> PathBuf {
    let list = bench.json("list");
    let all = list["checkpoints"].as_array().unwrap();
    let row = all.iter().find(|row| row["checkpoint"] == checkpoint).unwrap();
    bench.job().join(row["folder"].as_str().unwrap()).join("_metadata")
}

#[test]
fn a_folder_that_is_no_rocksdb_is_refused_and_no_job_is_made() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("empty")).unwrap();
    for folder in ["empty", "missing"] {
        let said = bench.fails(&format!("snapshot {folder}"), NOT_FOUND);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("CURRENT"), "{said}");
    }
    assert!(!bench.store().exists());
}

#[test]
fn a_damaged_database_is_refused_and_the_next_snapshot_works() {
    let Some((bench, db)) = two_checkpoints("a damaged database") else { return };
    let manifest = db.join(std::fs::read_to_string(db.join("CURRENT")).unwrap().trim());
    let sound = std::fs::read(&manifest).unwrap();
    flip(&manifest);
    bench.fails(&format!("snapshot {}", db.display()), DAMAGED);
    std::fs::write(&manifest, sound).unwrap();

    write(&db, 2);
    let copy = bench.path("copy");
    cli_support::copy_folder(&db, &copy);
    // A new table, which no checkpoint knows yet, is cut short.
    let known = bench.ok("show latest");
    let names = files_below(&db, &db);
    let table = db.join(names.iter().find(|name| name.ends_with(".sst") && !known.contains(*name)).unwrap());
    let length = std::fs::metadata(&table).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&table).unwrap().set_len(length / 2).unwrap();
    let said = bench.fails(&format!("snapshot {}", db.display()), DAMAGED);
    assert!(said.contains(table.file_name().unwrap().to_str().unwrap()), "{said}");
    assert_eq!(bench.json("list")["checkpoints"].as_array().unwrap().len(), 2);

    bench.ok(&format!("snapshot {}", copy.display()));
    bench.ok("verify --all");
}

#[test]
fn a_restore_never_touches_a_folder_with_content() {
    let Some((bench, _)) = two_checkpoints("a restore target with content") else { return };
    let target = bench.path("target");
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), "mine").unwrap();
    let said = bench.fails("restore latest target", KEPT);
    assert!(said.contains("not empty"), "{said}");
    assert_eq!(files_below(&target, &target).len(), 1);
    std::fs::write(bench.path("file"), "mine").unwrap();
    assert_ne!(bench.run("restore latest file").status.code(), Some(0));
    assert_eq!(std::fs::read(bench.path("file")).unwrap(), b"mine");
}

#[test]
fn a_damaged_newest_checkpoint_names_its_files_and_the_newest_sound_one() {
    let Some((bench, db)) = two_checkpoints("a damaged checkpoint") else { return };
    bench.ok("restore 1 expected");
    let object = table_of_the_second_alone(&bench);
    flip(&object);
    let said = bench.fails("restore latest target", DAMAGED);
    assert!(said.contains(".sst") && said.contains("newest sound older checkpoint is 1"), "{said}");
    assert!(!bench.path("target").exists());
    // Not a trace of the attempt lies beside it.
    let beside = std::fs::read_dir(bench.folder.path()).unwrap().filter_map(Result::ok);
    assert!(beside.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("restoring")));

    let verified = bench.run("verify --all");
    assert_eq!(verified.status.code(), Some(DAMAGED));
    let text = String::from_utf8(verified.stdout).unwrap();
    assert!(text.contains(object.file_name().unwrap().to_str().unwrap()), "{text}");

    let report = bench.json("restore latest target --fall-back");
    assert_eq!((&report["checkpoint"], &report["fell_back_from"]), (&1.into(), &2.into()));
    assert_eq!(scan(&bench.path("target")), scan(&bench.path("expected")));

    // The database is sound still, and another job shares nothing of this one. (`cli_damage` has what this
    // job does about it.)
    bench.ok(&format!("snapshot {} --job b", db.display()));
    bench.ok("verify --job b");
}

#[test]
fn a_missing_object_is_damage_even_to_the_quick_look() {
    let Some((bench, _)) = two_checkpoints("a missing object") else { return };
    std::fs::remove_file(table_of_the_second_alone(&bench)).unwrap();
    assert_eq!(bench.run("verify latest --quick").status.code(), Some(DAMAGED));
    bench.ok("verify 1 --quick");
}

/// The frame's checksum made right again, as whoever is hostile would.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body_end = bytes.len() - 32;
    let hash = Sha256::digest(&bytes[..body_end]);
    bytes[body_end..].copy_from_slice(&hash);
    bytes
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    let mut changed = bytes.to_vec();
    changed[at..at + to.len()].copy_from_slice(to);
    changed
}

#[test]
fn a_hostile_index_is_refused_blocks_deletion_and_costs_no_other_checkpoint() {
    let Some((bench, _)) = two_checkpoints("a hostile index") else { return };
    let index = metadata_of(&bench, 2);
    let sound = std::fs::read(&index).unwrap();
    let mut newer_version = sound.clone();
    newer_version[8] = 99;
    let mut long_body = sound.clone();
    long_body[12..20].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut flipped = sound.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let hostile: [(&str, Vec<u8>, i32); 6] = [
        ("a flipped bit", flipped, DAMAGED),
        ("an unknown version", resealed(newer_version), UNSUPPORTED),
        ("a length that lies", resealed(long_body), DAMAGED),
        (
            "a path that leaves the root",
            resealed(replaced(&sound, b"operator-db/subtask-0/", b"../../../../../../etc/")),
            DAMAGED,
        ),
        ("a name that leaves the target", resealed(replaced(&sound, b"CURRENT", b"../x/y/")), DAMAGED),
        ("nothing at all", Vec::new(), DAMAGED),
    ];
    for (what, bytes, code) in hostile {
        std::fs::write(&index, &bytes).unwrap();
        let said = bench.fails("restore latest target", code);
        assert!(said.contains("newest sound older checkpoint is 1"), "{what}: {said}");
        assert!(bench.ok("list").contains("UNREADABLE"), "{what}");
        assert_eq!(bench.run("verify latest").status.code(), Some(DAMAGED), "{what}");
        let before = files_below(&bench.job().join("shared"), &bench.store());
        bench.run("gc");
        assert_eq!(files_below(&bench.job().join("shared"), &bench.store()), before, "{what}: gc deleted shared files");
        bench.ok("restore 1 sound");
        std::fs::remove_dir_all(bench.path("sound")).unwrap();
        std::fs::remove_dir_all(bench.path("target")).unwrap_or_default();
    }
    std::fs::write(&index, sound).unwrap();
    bench.ok("restore latest target");
}

#[test]
fn an_exported_checkpoint_stands_alone_and_its_damage_is_found() {
    let Some((bench, _)) = two_checkpoints("an export") else { return };
    bench.ok("restore 2 expected");
    bench.ok("export 2 kept");
    bench.fails("export 2 kept", KEPT);
    bench.fails("export 2 store/job-a/inside", USAGE);
    // Moved, and the job is gone.
    std::fs::rename(bench.path("kept"), bench.path("moved")).unwrap();
    std::fs::remove_dir_all(bench.store()).unwrap();
    bench.ok("verify --from moved");
    bench.ok("restore --from moved target");
    assert_eq!(scan(&bench.path("target")), scan(&bench.path("expected")));
    flip(&first_with_ending(&bench.path("moved"), ".sst"));
    assert_eq!(bench.run("verify --from moved").status.code(), Some(DAMAGED));
    bench.fails("restore --from moved other", DAMAGED);
    assert!(!bench.path("other").exists());
}

#[test]
fn an_export_of_a_damaged_checkpoint_leaves_nothing() {
    let Some((bench, _)) = two_checkpoints("an export of a damaged checkpoint") else { return };
    flip(&table_of_the_second_alone(&bench));
    bench.fails("export 2 kept", DAMAGED);
    assert!(files_below(&bench.path("kept"), bench.folder.path()).is_empty());
}

#[test]
fn a_job_of_something_else_is_not_overwritten() {
    let Some((bench, db)) = two_checkpoints("a job of something else") else { return };
    let said = bench.fails(&format!("snapshot {} --operator other", db.display()), USAGE);
    assert!(said.contains("--job"), "{said}");
    assert_eq!(bench.json("list")["checkpoints"].as_array().unwrap().len(), 2);
}

#[test]
fn what_does_not_exist_is_named_with_what_does() {
    let Some((bench, _)) = two_checkpoints("what does not exist") else { return };
    bench.fails("show 9", NOT_FOUND);
    bench.fails("show nonsense", USAGE);
    assert!(bench.fails("restore 2 target --operator x", NOT_FOUND).contains("it has: db"));
    bench.fails("restore 2 target --subtask 7", NOT_FOUND);
    bench.fails("list --job other", NOT_FOUND);
    bench.fails("why nothing-by-that-name", NOT_FOUND);
    // Nobody listens there; a build without the feature does not even ask.
    bench.fails("list --store hdfs://127.0.0.1:1/x", if cfg!(feature = "hdfs") { FAILED } else { UNSUPPORTED });
    bench.fails("retain", USAGE);
    bench.fails("retain --keep-last 0", USAGE);
    bench.fails("frobnicate", USAGE);
    let error: serde_json::Value = serde_json::from_str(&bench.fails("show 9 --json", NOT_FOUND)).unwrap();
    assert_eq!((&error["error"]["kind"], &error["error"]["exit_code"]), (&"not-found".into(), &NOT_FOUND.into()));
}

#[test]
fn the_newest_and_pinned_checkpoints_are_not_dropped() {
    let Some((bench, db)) = two_checkpoints("drops that are refused") else { return };
    assert_eq!(bench.run("drop latest").status.code(), Some(KEPT));
    bench.ok("pin 1 --reason mine");
    assert_eq!(bench.run("drop 1").status.code(), Some(KEPT));
    assert_eq!(bench.run("drop 1 --dry-run").status.code(), Some(KEPT));
    write(&db, 2);
    bench.ok(&format!("snapshot {} --keep-last 1", db.display()));
    let list = bench.json("list");
    let left: Vec<u64> =
        list["checkpoints"].as_array().unwrap().iter().map(|row| row["checkpoint"].as_u64().unwrap()).collect();
    assert_eq!(left, [1, 3], "retention keeps the pinned one and drops the other");
    bench.ok("unpin 1");
    let planned = bench.json("drop 1 --dry-run");
    assert!(planned["plan"]["objects"].as_array().unwrap().len() > 1);
    assert_eq!(bench.json("list")["checkpoints"].as_array().unwrap().len(), 2);
    bench.ok("drop 1");
    bench.ok("gc");
    bench.assert_only_referenced();
}

/// Makes the record unreadable that says which checkpoints count.
fn flip_starts(bench: &Bench) {
    let epochs = bench.job().join("epochs");
    let names = files_below(&epochs, &epochs);
    let starts: Vec<_> = names.iter().filter(|name| name.ends_with("/start")).collect();
    assert!(!starts.is_empty());
    starts.into_iter().for_each(|name| flip(&epochs.join(name)));
}

#[test]
fn an_unreadable_start_is_told_and_not_taken_for_an_empty_job() {
    let Some((bench, _)) = two_checkpoints("an unreadable start") else { return };
    flip_starts(&bench);
    for line in [
        "list",
        "verify",
        "verify --all",
        "restore latest target",
        "restore 2 target",
        "du",
        "diff 1 2",
        "export latest kept",
    ] {
        let said = bench.fails(line, KEPT);
        assert!(said.contains("/start"), "{line}: {said}");
    }
    assert!(!bench.path("target").exists() && files_below(&bench.path("kept"), &bench.path("kept")).is_empty());
    flip_starts(&bench);
    bench.ok("verify --all");
}

#[test]
fn with_an_unreadable_start_a_checkpoint_is_restored_and_exported_by_its_full_name() {
    let Some((bench, _)) = two_checkpoints("a checkpoint by its full name") else { return };
    bench.ok("restore 2 expected");
    flip_starts(&bench);
    let listed = bench.run("list --all --json");
    assert_eq!(listed.status.code(), Some(KEPT));
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let folder = listed["uncounted"][1]["folder"].as_str().unwrap().to_owned();
    for line in [format!("restore {folder} target"), format!("export {folder} kept")] {
        let output = bench.run(&line);
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("warning"), "{line}");
    }
    assert_eq!(scan(&bench.path("target")), scan(&bench.path("expected")));
    bench.ok("verify --from kept");
}

#[test]
fn a_checkpoint_whose_index_is_lost_is_given_up_by_repair_and_blocks_nothing_more() {
    let Some((bench, _)) = two_checkpoints("repair") else { return };
    let index = metadata_of(&bench, 1);
    flip(&index);
    assert_eq!(bench.run("gc").status.code(), Some(KEPT));
    let refused = bench.run("drop 1");
    assert_eq!(refused.status.code(), Some(KEPT));
    assert!(String::from_utf8(refused.stdout).unwrap().contains("icecore repair"));
    assert_eq!(bench.json("repair 1 --dry-run")["plan"]["dropped"].as_array().unwrap().len(), 1);
    assert!(index.exists(), "a dry run deleted it");
    bench.ok("repair 1");
    assert!(!index.exists());
    bench.ok("gc");
    bench.ok("gc");
    bench.assert_only_referenced();
    bench.ok("verify --all");
}

#[test]
fn repair_refuses_what_can_be_read_and_the_newest_checkpoint() {
    let Some((bench, _)) = two_checkpoints("what repair refuses") else { return };
    let newest = metadata_of(&bench, 2);
    flip(&newest);
    for line in ["repair 1", "repair 2", "repair 2 --dry-run"] {
        assert_eq!(bench.run(line).status.code(), Some(KEPT), "{line}");
    }
    flip(&newest);
    bench.ok("verify --all");
}

/// A file system of one megabyte.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&at).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_fails_snapshot_and_restore_and_leaves_nothing_half_done() {
    if !have_rocksdb_tools("a full disk") {
        return;
    }
    let bench = Bench::new();
    let db = bench.path("db");
    let options = ["--benchmarks=fillrandom", "--num=20000", "--compression_type=none"];
    assert!(db_bench(&db, &options).status().unwrap().success());
    let Some(disk) = SmallDisk::mount(bench.path("small")) else {
        let line = "\n*** SKIPPED a full disk: no file system can be mounted here ***\n";
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        return;
    };
    let small = disk.0.display();
    let said = bench.fails(&format!("snapshot {} --store {small}/store", db.display()), NO_ROOM);
    assert_eq!(said.lines().filter(|line| line.starts_with("icecore:")).count(), 1, "{said}");
    let listed = bench.ok(&format!("list --store {small}/store"));
    assert!(listed.contains("no checkpoint"), "{listed}");
    std::fs::remove_dir_all(disk.0.join("store")).unwrap();

    bench.ok(&format!("snapshot {}", db.display()));
    bench.fails(&format!("restore latest {small}/target"), NO_ROOM);
    assert!(files_below(&disk.0, &disk.0).is_empty());
    bench.ok("restore latest target");
}
