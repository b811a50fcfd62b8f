//! Checkpoints of a running job, a kill -9 in the middle, and the proof that nothing was lost.
//!
//! NEXMark events (people register, open auctions and bid) go through two keyed operators on the
//! RocksDB backend, with an incremental checkpoint every so many. A process of its own runs the job;
//! the demo kills it while a checkpoint is in flight, restores the newest complete one in a new
//! process at another parallelism, lets that go on to the end, and compares every row of the final
//! state with a run in memory that nothing disturbed. Then it collects, verifies what is retained,
//! and shows what incremental checkpoints saved.
//!
//! Run it: `make demo`, or
//! `cargo run --features rocksdb,cli --example nexmark_demo -- --help`
//!
//! Where to look: `job.rs` is what an engine's author writes (coordinator, tasks, barriers, restore),
//! `operators.rs` is typed keyed state, `story.rs` is the demo itself.

mod aftermath;
mod dump;
mod job;
mod operators;
mod options;
mod pipeline;
mod process;
mod protocol;
mod screen;
mod source;
mod story;

use std::process::ExitCode;

use clap::Parser;
use icecore::{Error, ErrorKind, Result};

use options::Options;
use protocol::{JOB_VARIABLE, JobConfig, Report, end_with_parent, say};

fn main() -> ExitCode {
    match std::env::var(JOB_VARIABLE) {
        Ok(config) => match run_job(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                say(&Report::Failed { error: error.to_string() });
                ExitCode::FAILURE
            }
        },
        Err(_) => match Options::parse().check().and_then(|options| story::tell(&options)) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("nexmark_demo: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run_job(config: &str) -> Result<()> {
    let config: JobConfig = serde_json::from_str(config).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, "read the job's configuration", error.to_string()).with_object(JOB_VARIABLE)
    })?;
    end_with_parent();
    job::run(&config, &new_runtime()?)
}

/// The runtime that icecore's background work runs on.
fn new_runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::io("start the runtime", "tokio", error))
}
