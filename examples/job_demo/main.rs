//! A job on Kafka, from its start to its end: NEXMark's hot items, two workers, one of which is killed; then three. What comes out is
//! compared with what a single thread computes from the same events.
//!
//! `make demo-job` runs it, beside a broker that it starts. By hand, with a broker and the command `icecore` built:
//!
//! ```text
//! cargo run --features rocksdb,job,kafka,cli --example job_demo -- story --bootstrap 127.0.0.1:9092 --icecore target/debug/icecore
//! ```
//!
//! The job is run by `icecore job run`, whose workers are this program with the word `worker`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod pipeline;
#[path = "../nexmark_queries/queries/mod.rs"]
#[allow(dead_code, unused_imports, reason = "three of the queries are run here")]
mod queries;
#[path = "../../tests/nexmark_queries/reference.rs"]
#[allow(dead_code, reason = "three of the queries are run here")]
mod reference;
#[path = "../nexmark_queries/source.rs"]
#[allow(dead_code, reason = "the events alone are needed")]
mod source;
mod story;
mod topics;
mod worker;

/// A job on Kafka that loses a worker, is rescaled, and gives each result once.
#[derive(Parser)]
#[command(name = "job_demo")]
struct Options {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Plays the whole story
    Story(StoryOptions),
    /// What `icecore job run` starts
    Worker(WorkerOptions),
}

#[derive(Args)]
struct StoryOptions {
    /// A Kafka broker
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: String,
    /// The command `icecore`, built
    #[arg(long, value_name = "FILE")]
    icecore: PathBuf,
    /// q5, q7 or q8
    #[arg(long, default_value = "q5")]
    query: String,
    /// How many events there are
    #[arg(long, default_value_t = 40_000)]
    events: u64,
    /// How many of them come in a second
    #[arg(long, default_value_t = 3_000)]
    per_second: u64,
    /// Where the page is served
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    http: String,
    /// End when the story is over, though somebody could look at the page
    #[arg(long)]
    no_wait: bool,
}

#[derive(Args)]
struct WorkerOptions {
    /// A Kafka broker
    #[arg(long)]
    bootstrap: String,
    /// The topic of the events
    #[arg(long)]
    events: String,
    /// The topic of the results
    #[arg(long)]
    results: String,
    /// q5, q7 or q8
    #[arg(long)]
    query: String,
    /// The store
    #[arg(long)]
    store: String,
    /// A folder for databases
    #[arg(long)]
    local: PathBuf,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.role {
        Role::Story(options) => story::play(&options),
        Role::Worker(options) => worker::work(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("job_demo: {error}");
            ExitCode::FAILURE
        }
    }
}
