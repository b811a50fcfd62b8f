//! What checkpoints cost a dataflow: the time that NEXMark queries take over the same events, with a checkpoint a second and with none
//! but the last, in turns.
//!
//! `cargo bench --features rocksdb,timely --bench job_cost`; behind `--` a query and a backend, such as `q5 heap`, to run those only.

use std::time::{Duration, Instant};

#[path = "../examples/nexmark_queries/local_job.rs"]
mod local_job;
#[path = "../examples/nexmark_queries/queries/mod.rs"]
#[allow(dead_code, unused_imports, reason = "some of the queries are run here")]
mod queries;
#[path = "../examples/nexmark_queries/query_job.rs"]
#[allow(dead_code, reason = "results are not looked at")]
mod query_job;
#[path = "../examples/nexmark_queries/source.rs"]
#[allow(dead_code, reason = "no progress is shown")]
mod source;

use local_job::{Backend, LocalJob};
use queries::{Q5, Q8, Q20, Query};
use query_job::QueryJob;

const WORKERS: u32 = 2;
const EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(10);

struct Size {
    /// How long a run is to take, without checkpoints, at the least.
    seconds: f64,
    rounds: usize,
}

/// Seconds over so many events, and how many checkpoints there were besides the last.
fn run<Q: Query>(backend: Backend, events: u64, every: Option<Duration>) -> (f64, u32) {
    let folder = tempfile::tempdir().unwrap();
    let job = LocalJob::new(folder.path(), backend, QueryJob::<Q>::new(events));
    let measured = job.live(WORKERS, async |life| {
        let (began, mut last, mut count) = (Instant::now(), Instant::now(), 0);
        while !job.dataflow().events.are_given(events) {
            tokio::time::sleep(LOOK).await;
            life.control.outcome()?;
            if every.is_some_and(|every| last.elapsed() >= every) && !life.control.is_drained() {
                last = Instant::now();
                life.checkpoint().await?;
                count += 1;
            }
        }
        life.finish().await?;
        Ok((began.elapsed().as_secs_f64(), count))
    });
    measured.unwrap()
}

/// As many events as take long enough.
fn enough<Q: Query>(backend: Backend, size: &Size) -> u64 {
    let mut events = 100_000;
    loop {
        let (seconds, _) = run::<Q>(backend, events, None);
        if seconds >= size.seconds {
            return events;
        }
        events = (events as f64 * (size.seconds / seconds * 1.1).clamp(1.2, 8.0)) as u64;
    }
}

fn compare<Q: Query>(backend: Backend, size: &Size) {
    let events = enough::<Q>(backend, size);
    let mut ratios = Vec::new();
    let (mut without, mut count) = (Vec::new(), 0);
    for round in 0..size.rounds {
        let none = || run::<Q>(backend, events, None).0;
        let with = || run::<Q>(backend, events, Some(EVERY));
        // Each is the first in turn.
        let (plain, taken) = if round % 2 == 0 {
            let plain = none();
            (plain, with())
        } else {
            let taken = with();
            (none(), taken)
        };
        count += taken.1;
        without.push(plain);
        ratios.push(plain / taken.0);
    }
    ratios.sort_by(f64::total_cmp);
    without.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!(
        "{:<4} {backend:?}: {events} events, {:.0} a second without checkpoints; with one a second {:.1} % of that \
         (median of {}, {:.1} to {:.1}), {:.1} checkpoints a run",
        Q::NAME,
        events as f64 / without[without.len() / 2],
        100.0 * median,
        size.rounds,
        100.0 * ratios[0],
        100.0 * ratios[ratios.len() - 1],
        f64::from(count) / size.rounds as f64,
    );
}

fn compare_if<Q: Query>(backend: Backend, size: &Size, is_wanted: impl Fn(&str, Backend) -> bool) {
    if is_wanted(Q::NAME, backend) {
        compare::<Q>(backend, size);
    }
}

fn main() {
    let size = match std::env::var_os("ICECORE_BENCH_QUICK") {
        Some(_) => Size { seconds: 3.0, rounds: 1 },
        None => Size { seconds: 12.0, rounds: 9 },
    };
    // Cargo adds a flag of its own.
    let named: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let is_wanted = |query: &str, backend: Backend| {
        let backend = format!("{backend:?}").to_lowercase();
        named.iter().all(|word| [query, backend.as_str()].contains(&word.to_lowercase().as_str()))
    };
    for backend in [Backend::Heap, Backend::RocksDb] {
        compare_if::<Q5>(backend, &size, is_wanted);
        compare_if::<Q8>(backend, &size, is_wanted);
        compare_if::<Q20>(backend, &size, is_wanted);
    }
}
