//! NEXMark's queries as timely dataflows with checkpoints, event time and exactly one result for each question, whatever
//! crashes in between.
//!
//! ```text
//! cargo run --features timely,cli --example nexmark_queries -- q5
//! cargo run --features timely,cli --example nexmark_queries -- q5 --crash --then-workers 3
//! ```
//! With `--crash` the workers end in the middle, where they stand; others, as many as you like, go on from the last
//! complete checkpoint. What was put out is then compared with a run that nothing disturbed.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use icecore::{Error, Result};

#[allow(dead_code, reason = "the tests run on RocksDB, too")]
mod local_job;
#[allow(unused_imports, reason = "the tests of the queries name their results")]
mod queries;
mod query_job;
mod source;

use local_job::{Backend, Life, LocalJob};
use queries::{Q3, Q4, Q5, Q6, Q7, Q8, Q9, Q11, Q17, Q18, Q19, Q20, Query};
use query_job::QueryJob;

/// How often the progress line is drawn, and a checkpoint taken.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Runs one of NEXMark's queries.
#[derive(Parser)]
#[command(name = "nexmark_queries")]
struct Options {
    /// q3, q4, q5, q6, q7, q8, q9, q11, q17, q18, q19 or q20
    query: String,
    /// How many events there are
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Threads that work on it
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    workers: u32,
    /// Let it crash in the middle, and go on from the last checkpoint
    #[arg(long)]
    crash: bool,
    /// Threads after the crash
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=16))]
    then_workers: u32,
    /// How many of the results are shown
    #[arg(long, default_value_t = 10)]
    top: usize,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let ran = match options.query.as_str() {
        Q3::NAME => run::<Q3>(&options),
        Q4::NAME => run::<Q4>(&options),
        Q5::NAME => run::<Q5>(&options),
        Q6::NAME => run::<Q6>(&options),
        Q7::NAME => run::<Q7>(&options),
        Q8::NAME => run::<Q8>(&options),
        Q9::NAME => run::<Q9>(&options),
        Q11::NAME => run::<Q11>(&options),
        Q17::NAME => run::<Q17>(&options),
        Q18::NAME => run::<Q18>(&options),
        Q19::NAME => run::<Q19>(&options),
        Q20::NAME => run::<Q20>(&options),
        _ => Err(Error::invalid("choose a query", "there is none of that name").with_object(&options.query)),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run<Q: Query>(options: &Options) -> Result<()> {
    println!("{}: {}", Q::NAME, Q::ABOUT);
    let results = lives::<Q>(options, options.crash)?;
    println!("\n{} results; the last of them:", results.len());
    results.iter().rev().take(options.top).rev().for_each(|result| println!("  {result}"));
    if options.crash {
        println!("\nThe same without a crash:");
        if lives::<Q>(options, false)? != results {
            let message = "the results differ from those of a run without a crash";
            return Err(Error::new(icecore::ErrorKind::Internal, "compare results", message));
        }
        println!("\nthe same {} results, each exactly once", results.len());
    }
    Ok(())
}

/// The results of all lives, in order.
fn lives<Q: Query>(options: &Options, crashes: bool) -> Result<Vec<Q::Output>> {
    let folder = tempfile::tempdir().map_err(|error| Error::io("make a folder", "temporary", error))?;
    live::<Q>(folder.path(), options, crashes)
}

fn live<Q: Query>(folder: &Path, options: &Options, crashes: bool) -> Result<Vec<Q::Output>> {
    let job = LocalJob::new(folder, Backend::Heap, QueryJob::<Q>::new(options.events));
    let started = Instant::now();
    if crashes {
        let middle = options.events / 2;
        job.dataflow().events.limit.store(middle, Ordering::SeqCst);
        job.live(options.workers, async |life| {
            until_given(&job, life, middle * 3 / 4, started).await?;
            let checkpoint = life.checkpoint().await?;
            until_given(&job, life, middle, started).await?;
            println!(
                "\ncrash: all since checkpoint {checkpoint} is lost; {} workers go on from it",
                options.then_workers
            );
            Ok(())
        })?;
        job.dataflow().events.limit.store(u64::MAX, Ordering::SeqCst);
    }
    let workers = if crashes { options.then_workers } else { options.workers };
    job.live(workers, async |life| {
        until_given(&job, life, options.events, started).await?;
        let last = life.finish().await?;
        draw(&job, started);
        println!("\ncheckpoint {last} is the last");
        Ok(())
    })?;
    Ok(job.dataflow().results.all())
}

/// Shows how far it is and takes checkpoints, until the events up to `limit` were given.
async fn until_given<Q: Query>(job: &LocalJob<QueryJob<Q>>, life: &Life, limit: u64, started: Instant) -> Result<()> {
    while !job.dataflow().events.are_given(limit) {
        draw(job, started);
        tokio::time::sleep(PROGRESS_EVERY).await;
        life.control.outcome()?;
        if !life.control.is_drained() {
            life.checkpoint().await?;
        }
    }
    draw(job, started);
    Ok(())
}

fn draw<Q: Query>(job: &LocalJob<QueryJob<Q>>, started: Instant) {
    use std::io::Write as _;
    let QueryJob { events, results, .. } = job.dataflow();
    let (given, seconds) = (events.given(), started.elapsed().as_secs_f64());
    print!("\r{given:>9} of {} events  {:>8} results committed  {seconds:>6.1} s ", events.end, results.count());
    std::io::stdout().flush().ok();
}
