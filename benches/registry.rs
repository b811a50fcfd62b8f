//! The registry against a bare `HashMap<[u8; 32], u32>` that does the same increments and decrements.
//!
//! ```text
//! cargo bench --bench registry                               # 10,000, 1 million and 10 million entries
//! ICECORE_BENCH_QUICK=1 cargo bench --bench registry         # without 10 million; seconds
//! ```
//! The table is printed first: both sides take turns, checkpoint by checkpoint, in one run, and the
//! medians are compared. Criterion then times one round at 10,000 entries, for its history.
//!
//! A round replaces `churn` random files of a live set of N: register the new ones and the loss of
//! the old ones, release the checkpoint before. The bare map does `+= 1` for each new and `-= 1`
//! for each lost one, removing zeros. "Whole life" adds what the registry does beside counting:
//! begin and complete each upload, hold, finish, condemn, forget.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion};
use icecore::layout::{CheckpointId, ContentHash, Epoch, FileKind, SharedName, Tag, Uid};
use icecore::registry::{Rebuilder, Registry, UploadDecision};

const SIZE_BYTES: u64 = 64 << 20;

/// Counts the bytes that are allocated now.
struct Counting;

static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

// An allocator cannot be written without `unsafe`; this one is the bench's alone and passes through.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        ALLOCATED_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATED_BYTES.fetch_add(size, Ordering::Relaxed);
        ALLOCATED_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The name of file number `number`: 32 bytes that look like a hash.
fn name(number: u64, checkpoint: u64) -> SharedName {
    let mut hash = [0; 32];
    for (part, bytes) in hash.chunks_mut(8).enumerate() {
        bytes.copy_from_slice(&mix(number * 4 + part as u64 + 1).to_le_bytes());
    }
    SharedName {
        hash: ContentHash(hash),
        tag: Tag {
            epoch: Epoch { counter: 1, uid: Uid(1) },
            generation: 0,
            checkpoint: CheckpointId(checkpoint),
            upload: Uid(mix(!number)),
        },
        kind: FileKind::Sst,
    }
}

/// A live set of files, and the next checkpoint's number.
struct Workload {
    live: Vec<(SharedName, CheckpointId)>,
    next_file: u64,
    next_checkpoint: u64,
    random: u64,
}

/// What one checkpoint changes.
struct Round {
    id: CheckpointId,
    added: Vec<SharedName>,
    removed: Vec<(SharedName, CheckpointId)>,
}

impl Workload {
    fn new(entries: u64, offset: u64) -> Self {
        let live = (0..entries).map(|number| (name(offset + number, 1), CheckpointId(1))).collect();
        Self { live, next_file: offset + entries, next_checkpoint: 2, random: offset + 7 }
    }

    fn round(&mut self, churn: usize) -> Round {
        let id = self.next_checkpoint;
        self.next_checkpoint += 1;
        // A run of places from a random start would be local; a stride that is prime to N is not.
        let length = self.live.len();
        self.random = mix(self.random.wrapping_add(0x9e37_79b9_7f4a_7c15));
        let (start, stride) = (self.random as usize % length, 1_000_003 % length | 1);
        let (mut added, mut removed) = (Vec::with_capacity(churn), Vec::with_capacity(churn));
        for step in 0..churn {
            let place = &mut self.live[(start + step * stride) % length];
            let new = name(self.next_file, id);
            self.next_file += 1;
            if place.1 == CheckpointId(id) {
                continue;
            }
            removed.push(std::mem::replace(place, (new, CheckpointId(id))));
            added.push(new);
        }
        Round { id: CheckpointId(id), added, removed }
    }
}

fn rebuild(workload: &Workload) -> Arc<Registry> {
    let mut rebuilder = Rebuilder::new();
    let files = workload.live.iter().enumerate().map(|(key, (name, _))| (key as u32, *name, SIZE_BYTES));
    rebuilder.add(CheckpointId(1), files).unwrap();
    rebuilder.finish().registry
}

type Bare = HashMap<[u8; 32], u32>;

fn bare_of(workload: &Workload) -> Bare {
    let mut bare = Bare::new();
    for (name, _) in &workload.live {
        *bare.entry(name.hash.0).or_insert(0) += 1;
    }
    bare
}

/// The parts of a checkpoint, timed apart.
#[derive(Clone, Copy, Default)]
struct Times {
    upload: Duration,
    register: Duration,
    release: Duration,
    collect: Duration,
}

impl Times {
    fn counting(&self) -> Duration {
        self.register + self.release
    }

    fn whole_life(&self) -> Duration {
        self.upload + self.counting() + self.collect
    }
}

fn upload(registry: &Arc<Registry>, round: &Round) {
    registry.begin_pending(round.id).unwrap();
    for name in &round.added {
        match registry.begin_upload(round.id, name.hash, SIZE_BYTES, name.kind, || name.tag).unwrap() {
            UploadDecision::Upload(guard) => drop(guard.complete().unwrap()),
            other => panic!("{other:?}"),
        }
    }
}

fn register(registry: &Registry, round: &Round) {
    let added = round.added.iter().map(|name| (*name, SIZE_BYTES));
    registry.register(round.id, added, round.removed.iter().copied()).unwrap();
}

fn timed<T>(into: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = black_box(work());
    *into += start.elapsed();
    result
}

fn registry_round(registry: &Arc<Registry>, round: &Round) -> Times {
    let mut times = Times::default();
    timed(&mut times.upload, || upload(registry, round));
    timed(&mut times.register, || register(registry, round));
    timed(&mut times.collect, || registry.finish_pending(round.id).unwrap());
    let freed = timed(&mut times.release, || registry.release(CheckpointId(round.id.0 - 1)).unwrap());
    assert_eq!(freed.len(), round.removed.len());
    timed(&mut times.collect, || registry.forget(&registry.condemn(&freed).unwrap()).unwrap());
    times
}

fn bare_round(bare: &mut Bare, round: &Round) {
    for name in &round.added {
        *bare.entry(name.hash.0).or_insert(0) += 1;
    }
    for (name, _) in &round.removed {
        if let Some(count) = bare.get_mut(&name.hash.0) {
            *count -= 1;
            if *count == 0 {
                bare.remove(&name.hash.0);
            }
        }
    }
}

fn median<T: Copy>(values: &[T], key: impl Fn(&T) -> Duration) -> Duration {
    let mut durations: Vec<Duration> = values.iter().map(key).collect();
    durations.sort();
    durations[durations.len() / 2]
}

fn millions_per_second(changes: usize, time: Duration) -> f64 {
    changes as f64 / time.as_secs_f64() / 1e6
}

/// One thread: 5 % churn at `entries`, then 5,000 changes.
fn one_thread(entries: u64, rounds: usize) {
    let mut workload = Workload::new(entries, 0);
    let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
    let registry = rebuild(&workload);
    let registry_bytes = ALLOCATED_BYTES.load(Ordering::Relaxed) - before;
    let before = ALLOCATED_BYTES.load(Ordering::Relaxed);
    let mut bare = bare_of(&workload);
    let bare_bytes = ALLOCATED_BYTES.load(Ordering::Relaxed) - before;
    let churn = (entries / 20) as usize;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for at in 0..rounds + 2 {
        let round = workload.round(churn);
        let times = registry_round(&registry, &round);
        let mut time = Duration::ZERO;
        timed(&mut time, || bare_round(&mut bare, &round));
        // The first rounds grow the tables on both sides.
        if at >= 2 {
            ours.push(times);
            theirs.push(time);
        }
    }
    assert_eq!(bare.len() as u64, registry.stats().entries);
    let (counting, life) = (median(&ours, Times::counting), median(&ours, Times::whole_life));
    let theirs = median(&theirs, |time| *time);
    println!(
        "{entries:>10} {:>9.2} {:>9.2} {:>7.2} x {:>9.2} {:>7.2} x {:>9} {:>9} {:>9}",
        millions_per_second(churn, counting),
        millions_per_second(churn, theirs),
        theirs.as_secs_f64() / counting.as_secs_f64(),
        millions_per_second(churn, life),
        theirs.as_secs_f64() / life.as_secs_f64(),
        registry_bytes as u64 / entries,
        registry.stats().bytes_per_entry(),
        bare_bytes as u64 / entries,
    );
    small_checkpoints(&registry, &mut workload);
}

/// The time of a checkpoint with 5,000 changes, or half of the entries if there are fewer.
fn small_checkpoints(registry: &Arc<Registry>, workload: &mut Workload) {
    let churn = 5_000.min(workload.live.len() / 2);
    let touched = registry.stats().touched;
    let mut times = Vec::new();
    for _ in 0..21 {
        let round = workload.round(churn);
        times.push(registry_round(registry, &round));
    }
    println!(
        "{:>10} {churn} changes: register {:.2} ms, release {:.2} ms, whole life {:.2} ms; {} entries touched",
        "",
        median(&times, |times| times.register).as_secs_f64() * 1e3,
        median(&times, |times| times.release).as_secs_f64() * 1e3,
        median(&times, Times::whole_life).as_secs_f64() * 1e3,
        (registry.stats().touched - touched) / 21,
    );
}

/// Two threads: one registers while the other releases the checkpoint before, in one registry; and
/// the same over one bare map behind a mutex, which each takes once a checkpoint.
fn two_threads(entries: u64, rounds: usize) {
    let mut workload = Workload::new(entries, 0);
    let registry = rebuild(&workload);
    let bare = Mutex::new(bare_of(&workload));
    let churn = (entries / 20) as usize;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut last = workload.round(churn);
    upload(&registry, &last);
    register(&registry, &last);
    registry.finish_pending(last.id).unwrap();
    for _ in 0..rounds {
        let round = workload.round(churn);
        upload(&registry, &round);
        let release = || registry.release(CheckpointId(last.id.0 - 1)).unwrap();
        let (freed, time) = both(|| register(&registry, &round), release);
        ours.push(time);
        registry.finish_pending(round.id).unwrap();
        registry.forget(&registry.condemn(&freed).unwrap()).unwrap();
        let add = || {
            let mut bare = bare.lock().unwrap();
            for name in &round.added {
                *bare.entry(name.hash.0).or_insert(0) += 1;
            }
        };
        let take = || {
            let mut bare = bare.lock().unwrap();
            for (name, _) in &last.removed {
                if let Some(count) = bare.get_mut(&name.hash.0) {
                    *count -= 1;
                    if *count == 0 {
                        bare.remove(&name.hash.0);
                    }
                }
            }
        };
        theirs.push(both(add, take).1);
        last = round;
    }
    let (ours, theirs) = (median(&ours, |time| *time), median(&theirs, |time| *time));
    println!(
        "{entries:>10} {:>9.2} {:>9.2} {:>7.2} x",
        millions_per_second(churn, ours),
        millions_per_second(churn, theirs),
        theirs.as_secs_f64() / ours.as_secs_f64()
    );
}

/// Runs `one` on another thread and `other` here, at once; the time until both are done.
fn both<T>(one: impl FnOnce() + Send, other: impl FnOnce() -> T) -> (T, Duration) {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            barrier.wait();
            one();
        });
        barrier.wait();
        let start = Instant::now();
        let result = black_box(other());
        thread.join().unwrap();
        (result, start.elapsed())
    })
}

fn main() {
    // `cargo test --benches` starts benches too, with another argument: then there is nothing to time.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let quick = std::env::var_os("ICECORE_BENCH_QUICK").is_some();
    let sizes: &[(u64, usize)] =
        if quick { &[(10_000, 101), (1_000_000, 9)] } else { &[(10_000, 501), (1_000_000, 15), (10_000_000, 7)] };
    println!("one thread, 5 % churn; millions of changes a second, and bytes per entry");
    println!("   entries  registry      bare     ratio whole life     ratio  measured estimated      bare");
    for (entries, rounds) in sizes {
        one_thread(*entries, *rounds);
    }
    println!("two threads: one registers while one releases; the bare map behind a mutex");
    println!("   entries  registry      bare     ratio");
    for (entries, rounds) in sizes {
        two_threads(*entries, *rounds);
    }
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mut workload = Workload::new(10_000, 0);
    let registry = rebuild(&workload);
    criterion.bench_function("registry/register+release/500 of 10000", |bencher| {
        bencher.iter_batched(
            || workload.round(500),
            |round| registry_round(&registry, &round),
            BatchSize::PerIteration,
        );
    });
    criterion.final_summary();
}
