//! What a checkpoint sends on workload W, and how long it holds the writer up.
//!
//! ```text
//! cargo bench --features rocksdb,test-support --bench snapshot                          # 1,000,000 keys
//! ICECORE_BENCH_QUICK=1 cargo bench --features rocksdb,test-support --bench snapshot    # 100,000 keys
//! ```
//! Workload W: 1,000,000 keys of 8 bytes with values of 100 incompressible bytes are loaded and
//! checkpointed, then 9 rounds of 100,000 updates and a checkpoint each. In one run, each on a
//! database of its own that gets the same writes: icecore's incremental checkpoints, full ones, RocksDB's
//! `BackupEngine`, and the raw changed bytes. icecore's
//! bytes are counted by the store, the backup's by looking at its folder. When compactions run is a
//! matter of timing, so every shape is run several times (`ICECORE_BENCH_RUNS`, 3).
//!
//! The pause is measured against `Checkpoint::create_checkpoint` alone, which flushes by itself, on the same
//! database, by turns.

#[path = "../tests/support/workload_w.rs"]
mod workload_w;

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use icecore::metadata::CheckpointKind;
use icecore::state::rocksdb::RocksDbOptions;
use rocksdb::backup::{BackupEngine, BackupEngineOptions};
use rocksdb::checkpoint::Checkpoint;
use support::Samples;
use support::chart::BarChart;
use tokio::runtime::Runtime;
use workload_w::{KEY_BYTES, Keys, State, Uploader, VALUE_BYTES, sizes};

const ROUNDS: usize = 9;
const SMALL_BYTES: usize = 4 << 20;
const SIDES: [&str; 4] = ["raw change", "icecore", "BackupEngine", "full"];

/// How much of workload W.
struct Scale {
    keys: u64,
    updates: u64,
    runs: u64,
    pauses: usize,
}

fn scale() -> Scale {
    match support::is_quick() {
        true => Scale { keys: 100_000, updates: 10_000, runs: 1, pauses: 11 },
        false => Scale { keys: 1_000_000, updates: 100_000, runs: runs().unwrap_or(3), pauses: 41 },
    }
}

/// How often every shape is run, if `ICECORE_BENCH_RUNS` says so.
fn runs() -> Option<u64> {
    std::env::var("ICECORE_BENCH_RUNS").ok()?.parse().ok()
}

/// Buffers and files of 4 MB, or the default ones; smaller by the same factor as the state.
fn options(is_small: bool, scale: &Scale) -> RocksDbOptions {
    let divisor = (1_000_000 / scale.keys).max(1) as usize;
    let default = RocksDbOptions::default();
    let (buffer, file) = match is_small {
        true => (SMALL_BYTES, SMALL_BYTES as u64),
        false => (default.write_buffer_bytes, default.target_file_bytes),
    };
    RocksDbOptions { write_buffer_bytes: buffer / divisor, target_file_bytes: file / divisor as u64, ..default }
}

/// Bytes of every round (the first checkpoint is round 0), one column a side.
type Table = Vec<[u64; SIDES.len()]>;

/// Every side has a database of its own and does the same to it, so that none waits for another: when a
/// compaction ends decides what a checkpoint finds.
fn run(runtime: &Runtime, work: &Path, keys: &Keys, options: &RocksDbOptions, scale: &Scale, seed: u64) -> Table {
    let side = |side| run_side(side, runtime, work, keys, options.clone(), scale, seed);
    let (ours, backup, full) = (side(1), side(2), side(3));
    let raw = (0..=ROUNDS).map(|round| if round == 0 { scale.keys } else { scale.updates });
    let raw = raw.map(|changed| changed * (KEY_BYTES + VALUE_BYTES));
    raw.zip(ours).zip(backup).zip(full).map(|(((raw, ours), backup), full)| [raw, ours, backup, full]).collect()
}

fn run_side(
    side: usize,
    runtime: &Runtime,
    work: &Path,
    keys: &Keys,
    options: RocksDbOptions,
    scale: &Scale,
    seed: u64,
) -> Vec<u64> {
    fs::create_dir(work).unwrap();
    let _inside = runtime.enter();
    let kind = if side == 3 { CheckpointKind::Full } else { CheckpointKind::Incremental };
    let mut uploader = Uploader::new(&work.join("store"), kind);
    let mut state = State::create(&work.join("db"), scale.keys, options, &uploader, seed);
    let backup_folder = work.join("backup");
    let environment = rocksdb::Env::new().unwrap();
    let mut backup = BackupEngine::open(&BackupEngineOptions::new(&backup_folder).unwrap(), &environment).unwrap();
    let (mut bytes, mut backed_up) = (Vec::new(), sizes(&backup_folder).values().sum::<u64>());
    state.load();
    for round in 0..=ROUNDS {
        if round > 0 {
            state.update(keys, scale.updates);
        }
        if side == 2 {
            backup.create_new_backup_flush(state.task.backend().db(), true).unwrap();
            let stored = sizes(&backup_folder).values().sum::<u64>();
            bytes.push(stored - backed_up);
            backed_up = stored;
        } else {
            let frozen = state.freeze(&uploader.trigger());
            bytes.push(runtime.block_on(uploader.upload(frozen)).bytes());
        }
    }
    drop((state, backup));
    fs::remove_dir_all(work).unwrap();
    bytes
}

fn upload_bytes(runtime: &Runtime, work: &Path, scale: &Scale) {
    let mut csv = String::from("keys,sizes,run,round,raw_bytes,icecore_bytes,backup_bytes,full_bytes\n");
    let mut groups = Vec::new();
    println!(
        "bytes sent, MB: the first checkpoint, the {ROUNDS} rounds together and the largest of them; x = of the raw change"
    );
    println!("{:<22} {:<13} {:>7} {:>9} {:>9} {:>6}", "", "", "first", "rounds", "largest", "x");
    for (label, keys) in [("uniform", Keys::Uniform), ("zipf 0.99", Keys::zipf(scale.keys, 0.99))] {
        for (sizes, is_small) in [("default", false), ("4 MB", true)] {
            let mut sums = Vec::new();
            for seed in 0..scale.runs {
                let table = run(runtime, &work.join("w"), &keys, &options(is_small, scale), scale, seed);
                for (round, [raw, ours, backup, full]) in table.iter().enumerate() {
                    let _ = writeln!(csv, "{label},{sizes},{seed},{round},{raw},{ours},{backup},{full}");
                }
                print_run(&format!("{label}, {sizes}, run {}", seed + 1), &table);
                sums.push(table);
            }
            groups.push((format!("{label}, {sizes}"), medians(&sums)));
            if let Some(table) = sums.first() {
                chart_rounds(label, sizes, table);
            }
        }
    }
    let path = support::output_folder().join("upload-bytes.csv");
    fs::write(&path, csv).unwrap();
    println!("table: {}", path.display());
    let title = format!("Bytes sent in {ROUNDS} rounds of {} updates, median of {} runs", scale.updates, scale.runs);
    let chart = BarChart { title: &title, unit: "MB", series: &SIDES, groups };
    chart.write(&support::output_folder().join("upload-bytes.svg"));
}

fn print_run(label: &str, table: &Table) {
    let raw: u64 = table.iter().skip(1).map(|row| row[0]).sum();
    for (side, name) in SIDES.iter().enumerate() {
        let rounds = || table.iter().skip(1).map(|row| row[side]);
        let (first, sum, largest) = (table[0][side], rounds().sum::<u64>(), rounds().max().unwrap_or_default());
        let shown = if side == 0 { label } else { "" };
        let [first, sum, largest] = [first, sum, largest].map(megabytes);
        let factor = sum / megabytes(raw);
        println!("{shown:<22} {name:<13} {first:>7.1} {sum:>9.1} {largest:>9.1} {factor:>6.2}");
    }
}

/// Per side the median over runs of what all rounds sent, in MB.
fn medians(runs: &[Table]) -> Vec<f64> {
    let sum = |table: &Table, side: usize| megabytes(table.iter().skip(1).map(|row| row[side]).sum());
    let median = |side| {
        let mut samples = Samples::default();
        runs.iter().for_each(|table| samples.push_number(sum(table, side)));
        samples.median()
    };
    (0..SIDES.len()).map(median).collect()
}

fn chart_rounds(label: &str, sizes: &str, table: &Table) {
    let rounds = table.iter().enumerate().skip(1);
    let groups = rounds.map(|(round, row)| (format!("{round}"), row.map(megabytes).to_vec())).collect();
    let title = format!("Bytes sent per checkpoint, {label} updates, {sizes} buffers and files (one run)");
    let chart = BarChart { title: &title, unit: "MB", series: &SIDES, groups };
    let name = format!("upload-bytes-{label}-{sizes}.svg").replace([' ', '.'], "").replace("svg", ".svg");
    chart.write(&support::output_folder().join(name));
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The synchronous part against RocksDB's checkpoint alone, after equal writes, by turns.
fn pause(runtime: &Runtime, work: &Path, scale: &Scale) {
    let _inside = runtime.enter();
    println!("\nsynchronous pause, ms: median (min-max), {} pairs", scale.pauses);
    let mut groups = Vec::new();
    for (sizes, is_small, updates) in [("default sizes", false, scale.updates), ("4 MB", true, scale.updates / 10)] {
        let folder = work.join("pause");
        fs::create_dir(&folder).unwrap();
        let uploader = Uploader::new(&folder.join("store"), CheckpointKind::Incremental);
        let trigger = uploader.trigger();
        let mut state = State::create(&folder.join("db"), scale.keys, options(is_small, scale), &uploader, 1);
        state.load();
        let (mut ours, mut theirs) = (Samples::default(), Samples::default());
        let frozen = work.join("frozen");
        for pair in 0..=scale.pauses {
            for turn in 0..2 {
                state.update(&Keys::Uniform, updates);
                let is_ours = (pair + turn) % 2 == 0;
                let start = Instant::now();
                let time = if is_ours {
                    let snapshot = state.freeze(&trigger);
                    let time = start.elapsed();
                    drop(snapshot);
                    time
                } else {
                    Checkpoint::new(state.task.backend().db()).unwrap().create_checkpoint(&frozen).unwrap();
                    let time = start.elapsed();
                    fs::remove_dir_all(&frozen).unwrap();
                    time
                };
                // The first pair warms up.
                if pair > 0 {
                    if is_ours { &mut ours } else { &mut theirs }.push(time);
                }
            }
        }
        let show = |samples: &Samples| {
            let [median, min, max] = [samples.median(), samples.min(), samples.max()].map(|time| time * 1e3);
            format!("{median:.1} ({min:.1}-{max:.1})")
        };
        println!(
            "{sizes}, {updates} updates between: icecore {}, create_checkpoint {}, ratio of medians {:.2}, of fastest {:.2}",
            show(&ours),
            show(&theirs),
            ours.median() / theirs.median(),
            ours.min() / theirs.min()
        );
        groups.push((format!("{sizes}, {updates} updates"), vec![ours.median() * 1e3, theirs.median() * 1e3]));
        drop(state);
        fs::remove_dir_all(&folder).unwrap();
    }
    let series = ["icecore's synchronous part", "create_checkpoint alone"];
    let chart =
        BarChart { title: "How long a snapshot holds the writer up, median", unit: "ms", series: &series, groups };
    chart.write(&support::output_folder().join("pause.svg"));
}

fn main() {
    if !support::is_bench_run() {
        return;
    }
    let scale = scale();
    let work = support::work_folder();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let is_wanted = |name: &str| only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    if is_wanted("bytes") {
        upload_bytes(&runtime, work.path(), &scale);
    }
    if is_wanted("pause") {
        pause(&runtime, work.path(), &scale);
    }
}
