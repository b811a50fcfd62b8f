//! `icecore snapshot` on databases that RocksDB's own `db_bench` writes (Debian's, an older RocksDB), in
//! several shapes. Each is snapshotted again and again while it changes; every retained checkpoint is
//! restored and read key by key by RocksDB's own `ldb`, against a copy taken when the snapshot was.

mod cli_support;
mod rocksfolder_support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use cli_support::{Bench, copy_folder};
use rocksfolder_support::{db_bench, have_rocksdb_tools};

/// How often each database changes and is snapshotted.
const ROUNDS: usize = 4;

struct Shape {
    /// What the first round runs, and what all others run.
    first: &'static str,
    then: &'static str,
    options: &'static [&'static str],
    families: u32,
    /// How `ldb` prints it all: `scan` gives what a reader sees; `idump` every version of every key,
    /// which needs no merge operator.
    read: &'static str,
}

const PLAIN: Shape =
    Shape { first: "fillrandom", then: "overwrite", options: &["--num=3000"], families: 1, read: "scan" };

fn write(db: &Path, shape: &Shape, round: usize) {
    let benchmarks = format!("--benchmarks={}", if round == 0 { shape.first } else { shape.then });
    let (seed, existing) = (format!("--seed={}", round + 1), format!("--use_existing_db={}", u8::from(round > 0)));
    let families = format!("--num_column_families={}", shape.families);
    let mut command = db_bench(db, &[&benchmarks, &existing, &families]);
    // Given last, they win.
    command.args(shape.options).arg(seed);
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// All that `ldb` reads in every column family.
fn read(db: &Path, shape: &Shape) -> Vec<String> {
    let family = |index| match index {
        0 => "default".to_owned(),
        _ => format!("column_family_name_{index:06}"),
    };
    let names = (0..shape.families).map(family);
    names
        .map(|name| {
            let mut command = Command::new("ldb");
            command.arg(format!("--db={}", db.display()));
            if shape.families > 1 {
                // `idump` finds nothing in a family that it is told by name, so it is only told where it must be.
                command.arg(format!("--column_family={name}"));
            }
            let output = command.args([shape.read, "--hex"]).output().unwrap();
            assert!(output.status.success(), "{command:?}: {output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.lines().count() > 100, "too little to compare: {text}");
            text
        })
        .collect()
}

/// The whole life: change, snapshot, change; then every checkpoint restored; then retention and gc.
fn every_checkpoint_restores(shape: &Shape) -> Bench {
    let bench = Bench::on_any_store();
    let db = bench.path("db");
    let mut expected = Vec::new();
    for round in 0..ROUNDS {
        write(&db, shape, round);
        let copy = bench.path(&format!("copy-{round}"));
        copy_folder(&db, &copy);
        let report = bench.json(&format!("snapshot {}", db.display()));
        assert_eq!(report["checkpoint"], round + 1);
        assert_eq!(report["attempts"], 1);
        expected.push(read(&copy, shape));
    }
    assert!(expected.windows(2).all(|two| two[0] != two[1]), "the database did not change between snapshots");
    for (round, expected) in expected.iter().enumerate() {
        let target = bench.path(&format!("restored-{round}"));
        bench.ok(&format!("restore {} {}", round + 1, target.display()));
        assert!(read(&target, shape) == *expected, "checkpoint {} differs", round + 1);
    }
    bench.ok("retain --keep-last 2");
    bench.ok("gc");
    bench.assert_only_referenced();
    bench.ok("verify --all");
    for (round, expected) in expected.iter().enumerate().skip(ROUNDS - 2) {
        let target = bench.path(&format!("retained-{round}"));
        bench.ok(&format!("restore {} {}", round + 1, target.display()));
        assert!(read(&target, shape) == *expected, "checkpoint {} differs after gc", round + 1);
    }
    bench
}

#[test]
fn overwritten_keys_restore_as_they_were_at_each_checkpoint() {
    if have_rocksdb_tools("overwrites") {
        every_checkpoint_restores(&PLAIN);
    }
}

#[test]
fn deleted_keys_stay_deleted() {
    if have_rocksdb_tools("deletes") {
        every_checkpoint_restores(&Shape { then: "deleterandom,overwrite", ..PLAIN });
    }
}

#[test]
fn merge_operands_restore_without_the_merge_operator() {
    if have_rocksdb_tools("merges") {
        let options = &["--num=2000", "--merge_operator=stringappend", "--merge_keys=500"];
        let shape = Shape { first: "mergerandom", then: "mergerandom", options, read: "idump", ..PLAIN };
        every_checkpoint_restores(&shape);
    }
}

#[test]
fn several_column_families_with_blob_files_restore_at_one_point() {
    if have_rocksdb_tools("column families and blob files") {
        let options = &["--num=3000", "--enable_blob_files=1", "--min_blob_size=50", "--blob_file_size=65536"];
        let bench = every_checkpoint_restores(&Shape { families: 3, options, ..PLAIN });
        let listed = bench.json("show latest").to_string();
        assert!(listed.contains("\"kind\":\"blob\""), "the shape has no blob files");
    }
}

#[test]
fn compressed_tables_restore() {
    for compression in ["none", "snappy", "lz4", "zstd", "zlib"] {
        if have_rocksdb_tools(compression) {
            let option = format!("--compression_type={compression}");
            let options: &'static [&'static str] =
                Box::leak(Box::new(["--num=2000", Box::leak(option.into_boxed_str())]));
            every_checkpoint_restores(&Shape { options, ..PLAIN });
        }
    }
}

#[test]
fn what_is_only_in_the_write_ahead_log_is_restored() {
    if have_rocksdb_tools("write-ahead log") {
        // A buffer that is never full: all is in the log, over several closes and openings.
        let options = &["--num=1000", "--write_buffer_size=67108864", "--avoid_flush_during_recovery=1"];
        let bench = every_checkpoint_restores(&Shape { options, ..PLAIN });
        let shown = bench.json("show 3");
        let files = shown["operators"][0]["subtasks"][0]["own_files"].as_array().unwrap().clone();
        let log_bytes: u64 =
            files.iter().filter(|file| file["kind"] == "log").map(|file| file["size_bytes"].as_u64().unwrap()).sum();
        assert!(log_bytes > 100_000, "the shape has no log to speak of: {log_bytes} bytes");
    }
}

#[test]
fn a_thousand_tables_are_shared_and_only_new_ones_read() {
    if !have_rocksdb_tools("a thousand tables") {
        return;
    }
    let bench = Bench::on_any_store();
    let db = bench.path("db");
    let options: [&str; 5] = [
        "--benchmarks=fillrandom,compact",
        "--num=40000",
        "--target_file_size_base=2048",
        "--block_size=512",
        "--compression_type=none",
    ];
    assert!(db_bench(&db, &options).status().unwrap().success());
    let first = bench.json(&format!("snapshot {}", db.display()));
    let tables = first["files"].as_u64().unwrap();
    assert!(tables >= 1000, "only {tables} files");
    assert_eq!(first["uploaded_files"], tables);

    // Nothing changed: only the few small files of the checkpoint's own are read and sent.
    let second = bench.json(&format!("snapshot {}", db.display()));
    assert_eq!(second["files"], tables);
    assert!(second["hashed_files"].as_u64().unwrap() < 10, "{second}");
    assert!(second["uploaded_files"].as_u64().unwrap() < 10, "{second}");

    let target = bench.path("restored");
    bench.ok(&format!("restore latest {}", target.display()));
    assert!(read(&target, &PLAIN) == read(&db, &PLAIN));
}

/// A running program that is killed when the test is done with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_database_that_is_being_written_restores_to_one_moment() {
    if !have_rocksdb_tools("a running database") {
        return;
    }
    let bench = Bench::on_any_store();
    let db = bench.path("db");
    // Keys are written in order, so that every moment's state is a beginning of the whole, without gaps.
    let options = ["--benchmarks=fillseq", "--num=60000000", "--benchmark_write_rate_limit=2000000", "--batch_size=1"];
    let mut command = db_bench(&db, &options);
    let _running = Running(command.stdout(Stdio::null()).spawn().unwrap());
    bench.wait_for(|_| db.join("CURRENT").exists() && cli_support::files_below(&db, &db).len() > 12);
    let mut counts = Vec::new();
    for round in 0..4 {
        bench.ok(&format!("snapshot {} --attempts 50", db.display()));
        let target = bench.path(&format!("live-{round}"));
        bench.ok(&format!("restore latest {}", target.display()));
        let text = cli_support::scan(&target);
        let keys: Vec<u64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("0x"))
            .map(|line| u64::from_str_radix(&line[..16], 16).unwrap())
            .collect();
        assert!(keys.iter().copied().eq(0..keys.len() as u64), "checkpoint {} has gaps", round + 1);
        counts.push(keys.len());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(counts[0] > 0 && counts.windows(2).all(|two| two[0] < two[1]), "it did not grow: {counts:?}");
    bench.ok("verify --all");
}
