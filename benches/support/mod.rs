//! What the benches share: repeated measurements, incompressible bytes, files to move, and charts.

#![allow(dead_code)]

pub mod chart;
pub mod moving;

use std::path::PathBuf;
use std::time::Duration;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// Whether `ICECORE_BENCH_QUICK` asks for less.
pub fn is_quick() -> bool {
    std::env::var_os("ICECORE_BENCH_QUICK").is_some()
}

/// `cargo test --benches` starts benches too, without `--bench`: then there is nothing to time.
pub fn is_bench_run() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// Where tables and charts go: `ICECORE_BENCH_OUT`, or a folder in the target folder.
pub fn output_folder() -> PathBuf {
    let folder = std::env::var_os("ICECORE_BENCH_OUT")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A folder for the bench's data, on the file system of the target folder, not on a memory disk.
pub fn work_folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Random bytes, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    ChaCha8Rng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// Times of one thing, measured again and again.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64());
    }

    pub fn push_number(&mut self, number: f64) {
        self.0.push(number);
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    pub fn median(&self) -> f64 {
        self.sorted().get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }

    pub fn min(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(f64::NAN)
    }

    pub fn max(&self) -> f64 {
        self.sorted().last().copied().unwrap_or(f64::NAN)
    }

    /// `other / self`, round by round: both sides of a round were measured next to each other, so the
    /// median of these ratios suffers less from what else the machine does than a ratio of medians.
    pub fn ratios_to(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(ours, theirs)| theirs / ours).collect())
    }
}
