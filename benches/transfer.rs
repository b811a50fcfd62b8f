//! Upload to, and restore from, a local folder, against copying the same files plainly.
//!
//! ```text
//! cargo bench --bench transfer                               # 1 GiB in files of 64 MiB, and 2,000 of 64 KiB
//! ICECORE_BENCH_QUICK=1 cargo bench --bench transfer         # 256 MiB, 400 files, fewer rounds
//! cargo bench --bench transfer -- KiB                        # the small files alone
//! ```
//! Two plain copies are raced. *One pass* is the strictest: each file is read once into a reused
//! buffer, hashed and written from there, synced; the folder is synced at the end. *Copy, then hash*
//! is what a script does (`cp`, `sync`, `sha256sum`). Each runs on one thread and on as many as icecore
//! has transfers at once. icecore's side is whole: plan, hash, ask the registry, write, sync, rename, sync the
//! folder, and for a restore fetch, hash, write, sync, publish the folder.
//!
//! All sides take turns within a round, in one order in even rounds and in the other in odd ones.
//! What counts is the median over rounds of plain time / icecore's time.

mod support;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use icecore::env::Env;
use icecore::layout::ContentHash;
use icecore::metadata::FileEntry;
use icecore::store::{LocalStore, StoreRef};
use sha2::{Digest as _, Sha256};
use support::Samples;
use support::chart::BarChart;
use support::moving::{Corpus, restore, upload};
use tokio::runtime::Runtime;

const LARGE_FILE_BYTES: usize = 64 << 20;
const TINY_FILE_BYTES: usize = 64 << 10;
const COPY_BUFFER_BYTES: usize = 1 << 20;

/// One pass: read, hash, write, sync.
fn copy_in_one_pass(from: &Path, to: &Path, buffer: &mut [u8]) -> ContentHash {
    let (mut source, mut target) = (File::open(from).unwrap(), File::create_new(to).unwrap());
    let mut hasher = Sha256::new();
    loop {
        let got = source.read(buffer).unwrap();
        if got == 0 {
            break;
        }
        hasher.update(&buffer[..got]);
        target.write_all(&buffer[..got]).unwrap();
    }
    target.sync_all().unwrap();
    ContentHash(hasher.finalize().into())
}

/// Two passes: the kernel's own copy and a sync, then SHA-256 of the source.
fn copy_then_hash(from: &Path, to: &Path, buffer: &mut [u8]) -> ContentHash {
    fs::copy(from, to).unwrap();
    File::open(to).unwrap().sync_all().unwrap();
    let mut source = File::open(from).unwrap();
    let mut hasher = Sha256::new();
    loop {
        let got = source.read(buffer).unwrap();
        if got == 0 {
            break;
        }
        hasher.update(&buffer[..got]);
    }
    ContentHash(hasher.finalize().into())
}

type CopyOne = fn(&Path, &Path, &mut [u8]) -> ContentHash;

fn copy_all(corpus: &Corpus, target: &Path, threads: usize, copy_one: CopyOne) -> Duration {
    let start = Instant::now();
    fs::create_dir(target).unwrap();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; COPY_BUFFER_BYTES];
                while let Some(name) = corpus.names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    std::hint::black_box(copy_one(&corpus.folder.join(name), &target.join(name), &mut buffer));
                }
            });
        }
    });
    File::open(target).unwrap().sync_all().unwrap();
    let time = start.elapsed();
    fs::remove_dir_all(target).unwrap();
    time
}

/// What icecore made of a corpus, to be restored.
struct Uploaded {
    store: StoreRef,
    root: PathBuf,
    files: Vec<FileEntry>,
}

const SIDES: [&str; 6] = [
    "one pass, parallel",
    "one pass, 1 thread",
    "copy then hash, parallel",
    "copy then hash, 1 thread",
    "icecore upload",
    "icecore restore",
];

fn run_side(
    side: usize,
    runtime: &Runtime,
    corpus: &Corpus,
    work: &Path,
    parallelism: usize,
    last: &mut Option<Uploaded>,
) -> Duration {
    let target = work.join("target");
    match side {
        0 => copy_all(corpus, &target, parallelism, copy_in_one_pass),
        1 => copy_all(corpus, &target, 1, copy_in_one_pass),
        2 => copy_all(corpus, &target, parallelism, copy_then_hash),
        3 => copy_all(corpus, &target, 1, copy_then_hash),
        4 => {
            if let Some(old) = last.take() {
                fs::remove_dir_all(&old.root).unwrap();
            }
            let root = work.join("store");
            let store: StoreRef = Arc::new(LocalStore::open(&root, Env::system().unwrap()).unwrap());
            let (time, files) = upload(runtime, corpus, &store, "bench");
            *last = Some(Uploaded { store, root, files });
            time
        }
        _ => {
            let Uploaded { store, files, .. } = last.as_ref().unwrap();
            restore(runtime, store, files, &target)
        }
    }
}

fn race(runtime: &Runtime, corpus: &Corpus, work: &Path, rounds: usize) -> Vec<Samples> {
    let parallelism = corpus.parallelism();
    let mut samples = vec![Samples::default(); SIDES.len()];
    let mut last = None;
    // The first round warms caches up and is not counted; its restore needs an upload before it.
    for round in 0..=rounds {
        let order: Vec<usize> =
            if round % 2 == 0 { (0..SIDES.len()).collect() } else { (0..SIDES.len()).rev().collect() };
        for side in order {
            let time = run_side(side, runtime, corpus, work, parallelism, &mut last);
            if round > 0 {
                samples[side].push(time);
            }
        }
    }
    fs::remove_dir_all(last.unwrap().root).unwrap();
    samples
}

fn report(corpus: &Corpus, samples: &[Samples]) -> (String, Vec<f64>) {
    let megabytes = corpus.size_bytes() as f64 / 1e6;
    println!("\n{} {} ({megabytes:.0} MB), {} at once", corpus.names.len(), corpus.label, corpus.parallelism());
    println!("{:<26} {:>24} {:>8}", "", "ms: median (min-max)", "MB/s");
    for (side, times) in SIDES.iter().zip(samples) {
        let (median, min, max) = (times.median() * 1e3, times.min() * 1e3, times.max() * 1e3);
        let range = format!("{median:.0} ({min:.0}-{max:.0})");
        println!("{side:<26} {range:>24} {:>8.0}", megabytes / times.median());
    }
    for ours in [4, 5] {
        for theirs in 0..4 {
            let ratios = samples[ours].ratios_to(&samples[theirs]);
            let (median, min, max) = (ratios.median(), ratios.min(), ratios.max());
            println!("{:<16} / {:<26} {median:>5.2} x ({min:.2}-{max:.2})", SIDES[ours], SIDES[theirs]);
        }
    }
    (corpus.label.to_owned(), samples.iter().map(|times| megabytes / times.median()).collect())
}

fn main() {
    if !support::is_bench_run() {
        return;
    }
    let (large_files, small_files, rounds) = if support::is_quick() { (4, 400, 5) } else { (16, 2_000, 11) };
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let work = support::work_folder();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut groups = Vec::new();
    for (label, files, file_bytes, rounds) in [
        ("files of 64 MiB", large_files, LARGE_FILE_BYTES, rounds),
        ("files of 64 KiB", small_files, TINY_FILE_BYTES, rounds.min(5)),
    ] {
        if only.as_ref().is_some_and(|only| !label.contains(only.as_str())) {
            continue;
        }
        let corpus = Corpus::make(label, work.path().join("source"), files, file_bytes);
        let samples = race(&runtime, &corpus, work.path(), rounds);
        groups.push(report(&corpus, &samples));
        fs::remove_dir_all(&corpus.folder).unwrap();
    }
    let chart = BarChart {
        title: "Moving files to and from a local folder, synced and hashed",
        unit: "MB/s",
        series: &SIDES,
        groups,
    };
    chart.write(&support::output_folder().join("transfer.svg"));
}
