//! Upload to, and restore from, real S3 and HDFS servers, against each store's own best client.
//!
//! ```text
//! scripts/services fetch s3 hdfs s5cmd
//! scripts/services run s3 hdfs -- cargo bench --features s3,hdfs --bench remote
//! scripts/services run s3 -- cargo bench --features s3 --bench remote -- s3       # one store alone
//! ICECORE_BENCH_QUICK=1 ...                                                       # 256 MiB, 500 files, fewer rounds
//! ```
//! S3 is raced against `s5cmd cp` with its own defaults. It does not hash; so SHA-256 of the same files is taken
//! beside its upload by another thread, and after its download, whose files are synced as well, on as many threads
//! as there are cores. HDFS is raced against one warm JVM with Hadoop's client (`support/HdfsCopy.java`): create, write,
//! hsync, close, rename, on as many threads as icecore moves files at once, hashed on the way.
//!
//! icecore's side is whole, as in the bench `transfer`. All sides take turns, in one order in even rounds and in the other
//! in odd ones; what counts is the median over rounds of their time / icecore's time.

mod support;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use icecore::env::Env;
use icecore::metadata::FileEntry;
use icecore::store::{StoreAddress, StoreOptions, StoreRef, open};
use sha2::{Digest as _, Sha256};
use support::Samples;
use support::chart::BarChart;
use support::moving::{Corpus, remove, restore, upload};
use tokio::runtime::Runtime;

const BUFFER_BYTES: usize = 1 << 20;
const SIDES: [&str; 4] = ["their upload", "icecore upload", "their restore", "icecore restore"];

/// The other client.
trait Rival {
    fn upload(&mut self, corpus: &Corpus, prefix: &str) -> Duration;
    /// Into a folder that does not exist yet, and is removed again.
    fn restore(&mut self, corpus: &Corpus, prefix: &str, target: &Path) -> Duration;
    fn remove(&mut self, prefix: &str);
}

fn hash_all(folder: &Path, names: &[String], threads: usize, is_synced: bool) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; BUFFER_BYTES];
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut file = File::open(folder.join(name)).unwrap();
                    let mut hasher = Sha256::new();
                    loop {
                        match file.read(&mut buffer).unwrap() {
                            0 => break,
                            got => hasher.update(&buffer[..got]),
                        }
                    }
                    std::hint::black_box(hasher.finalize());
                    if is_synced {
                        file.sync_all().unwrap();
                    }
                }
            });
        }
    });
}

struct S5cmd {
    program: PathBuf,
    bucket: String,
}

impl S5cmd {
    fn run(&self, arguments: &[&str]) {
        let variable = |name: &str| std::env::var(format!("ICECORE_TEST_S3_{name}")).unwrap();
        let output = Command::new(&self.program)
            .args(["--endpoint-url", &variable("ENDPOINT")])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", variable("ACCESS_KEY"))
            .env("AWS_SECRET_ACCESS_KEY", variable("SECRET_KEY"))
            .env("AWS_REGION", variable("REGION"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Rival for S5cmd {
    fn upload(&mut self, corpus: &Corpus, prefix: &str) -> Duration {
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| hash_all(&corpus.folder, &corpus.names, 1, false));
            self.run(&["cp", &format!("{}/", corpus.folder.display()), &format!("s3://{}/{prefix}/", self.bucket)]);
        });
        start.elapsed()
    }

    fn restore(&mut self, corpus: &Corpus, prefix: &str, target: &Path) -> Duration {
        let start = Instant::now();
        self.run(&["cp", &format!("s3://{}/{prefix}/*", self.bucket), &format!("{}/", target.display())]);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        hash_all(target, &corpus.names, threads, true);
        File::open(target).unwrap().sync_all().unwrap();
        let time = start.elapsed();
        fs::remove_dir_all(target).unwrap();
        time
    }

    fn remove(&mut self, prefix: &str) {
        self.run(&["rm", &format!("s3://{}/{prefix}/*", self.bucket)]);
    }
}

/// A JVM that stays.
struct Jvm {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Jvm {
    /// `None` without Java's compiler.
    fn start(classes: &Path) -> Option<Self> {
        let jars = std::env::var("ICECORE_TEST_HDFS_JARS").unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/support/HdfsCopy.java");
        let class_path = format!("{jars}/*");
        let compiled = Command::new("javac").args(["-cp", &class_path, "-d"]).arg(classes).arg(source).status();
        if !compiled.is_ok_and(|status| status.success()) {
            return None;
        }
        let configuration = std::env::var("ICECORE_TEST_HDFS_CONFIGURATION").unwrap();
        let mut child = Command::new("java")
            .args(["-Xmx1g", "-cp", &format!("{}:{configuration}:{class_path}", classes.display()), "HdfsCopy"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (requests, answers) = (child.stdin.take()?, BufReader::new(child.stdout.take()?));
        Some(Self { child, requests, answers })
    }

    fn ask(&mut self, request: &str) -> Duration {
        writeln!(self.requests, "{request}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let milliseconds = answer.trim().strip_prefix("ok ").unwrap_or_else(|| panic!("{request}: {answer}"));
        Duration::from_secs_f64(milliseconds.parse::<f64>().unwrap() / 1e3)
    }
}

impl Rival for Jvm {
    fn upload(&mut self, corpus: &Corpus, prefix: &str) -> Duration {
        self.ask(&format!("put {} /{prefix} {}", corpus.folder.display(), corpus.parallelism()))
    }

    fn restore(&mut self, corpus: &Corpus, prefix: &str, target: &Path) -> Duration {
        let time = self.ask(&format!("get /{prefix} {} {}", target.display(), corpus.parallelism()));
        fs::remove_dir_all(target).unwrap();
        time
    }

    fn remove(&mut self, prefix: &str) {
        self.ask(&format!("remove /{prefix}"));
    }
}

impl Drop for Jvm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What both sides put where, and take back.
struct Race<'a> {
    runtime: &'a Runtime,
    store: StoreRef,
    rival: Box<dyn Rival>,
    corpus: &'a Corpus,
    work: &'a Path,
    theirs: Option<String>,
    ours: Option<Vec<FileEntry>>,
}

impl Race<'_> {
    fn run(&mut self, side: usize, round: usize) -> Duration {
        let (name, target) = (format!("bench-{}-{round}", self.corpus.file_bytes), self.work.join("target"));
        match side {
            0 => {
                let time = self.rival.upload(self.corpus, &name);
                self.theirs = Some(name);
                time
            }
            1 => {
                let (time, files) = upload(self.runtime, self.corpus, &self.store, &name);
                self.ours = Some(files);
                time
            }
            2 => self.rival.restore(self.corpus, self.theirs.as_ref().unwrap(), &target),
            _ => restore(self.runtime, &self.store, self.ours.as_ref().unwrap(), &target),
        }
    }

    /// What a round put on the store would fill the disk, round by round.
    fn clear(&mut self) {
        if let Some(prefix) = self.theirs.take() {
            self.rival.remove(&prefix);
        }
        if let Some(files) = self.ours.take() {
            remove(self.runtime, &self.store, &files);
        }
    }

    fn samples(&mut self, rounds: usize) -> Vec<Samples> {
        let mut samples = vec![Samples::default(); SIDES.len()];
        // The first round warms both sides up and is not counted. A restore needs an upload before it.
        for round in 0..=rounds {
            let order = if round % 2 == 0 { [0, 1, 2, 3] } else { [1, 0, 3, 2] };
            for side in order {
                let time = self.run(side, round);
                if round > 0 {
                    samples[side].push(time);
                }
            }
            self.clear();
        }
        samples
    }
}

fn report(store: &str, corpus: &Corpus, samples: &[Samples]) -> (String, Vec<f64>) {
    let megabytes = corpus.size_bytes() as f64 / 1e6;
    println!("\n{store}: {} {} ({megabytes:.0} MB)", corpus.names.len(), corpus.label);
    for (side, times) in SIDES.iter().zip(samples) {
        let (median, min, max) = (times.median() * 1e3, times.min() * 1e3, times.max() * 1e3);
        println!("{side:<16} {median:>8.0} ms ({min:.0}-{max:.0}) {:>6.0} MB/s", megabytes / times.median());
    }
    for (what, theirs, ours) in [("upload", 0, 1), ("restore", 2, 3)] {
        let ratios = samples[ours].ratios_to(&samples[theirs]);
        println!("{what}: {:.2} x ({:.2}-{:.2})", ratios.median(), ratios.min(), ratios.max());
    }
    (format!("{store}, {}", corpus.label), samples.iter().map(|times| megabytes / times.median()).collect())
}

/// The store's address and options, and who else knows it.
fn side_by_side(kind: &str, classes: &Path) -> Result<(StoreAddress, StoreOptions, Box<dyn Rival>), String> {
    let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set: run scripts/services"));
    let address = |text: String| StoreAddress::parse(&text).map_err(|error| error.to_string());
    if kind == "s3" {
        let bucket = variable("ICECORE_TEST_S3_BUCKET")?;
        let options = StoreOptions::new()
            .with("endpoint", variable("ICECORE_TEST_S3_ENDPOINT")?)
            .with("region", variable("ICECORE_TEST_S3_REGION")?)
            .with("access-key-id", variable("ICECORE_TEST_S3_ACCESS_KEY")?)
            .with("secret-access-key", variable("ICECORE_TEST_S3_SECRET_KEY")?);
        let program = variable("ICECORE_TEST_S5CMD")?.into();
        return Ok((address(format!("s3://{bucket}/icecore"))?, options, Box::new(S5cmd { program, bucket })));
    }
    let url = variable("ICECORE_TEST_HDFS")?;
    let options = StoreOptions::new().with("configuration", variable("ICECORE_TEST_HDFS_CONFIGURATION")?);
    let jvm = Jvm::start(classes).ok_or("there is no javac")?;
    Ok((address(format!("{url}/icecore"))?, options, Box::new(jvm)))
}

fn main() {
    if !support::is_bench_run() {
        return;
    }
    let (large_files, small_files, rounds) = if support::is_quick() { (4, 500, 3) } else { (16, 5_000, 5) };
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut groups = Vec::new();
    for kind in ["s3", "hdfs"] {
        if !only.is_empty() && only.iter().all(|only| only != kind) {
            continue;
        }
        for (label, files, file_bytes) in
            [("files of 64 MiB", large_files, 64 << 20), ("files of 64 KiB", small_files, 64 << 10)]
        {
            let work = support::work_folder();
            let opened = side_by_side(kind, &work.path().join("classes")).and_then(|(address, options, rival)| {
                let _in_runtime = runtime.enter();
                let store = open(&address, &options, Env::system().unwrap()).map_err(|error| error.to_string())?;
                Ok((store, rival))
            });
            let (store, rival) = match opened {
                Ok(opened) => opened,
                Err(why) => {
                    println!("\nSKIPPED: {kind}: {why}");
                    break;
                }
            };
            let corpus = Corpus::make(label, work.path().join("source"), files, file_bytes);
            let (corpus, work) = (&corpus, work.path());
            let mut race = Race { runtime: &runtime, store, rival, corpus, work, theirs: None, ours: None };
            // Thousands of small files take HDFS a minute and more.
            let rounds = if kind == "hdfs" && file_bytes < 1 << 20 { rounds.min(3) } else { rounds };
            groups.push(report(kind, corpus, &race.samples(rounds)));
        }
    }
    let title = "Moving files to and from S3 and HDFS, hashed";
    BarChart { title, unit: "MB/s", series: &SIDES, groups }.write(&support::output_folder().join("remote.svg"));
}
