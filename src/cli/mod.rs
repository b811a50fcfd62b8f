//! The `icecore` command: everything the library does for a person with a shell. `docs/cli.md` has
//! an example of every command, the exit codes and the fields of `--json`.
//!
//! Commands that only read (`list`, `show`, `verify`, `restore`, `diff`, `du`, `why`, `export`, every
//! `--dry-run`) claim nothing and change nothing in the store. Commands that change a job act as its
//! owner or ask the one that lives (`owner`, M1-M3 of `docs/protocol.md`).
//!
//! What a command prints is made whole before it is printed: a report a file, as a table for people
//! and as JSON for programs, from one value, so that the two cannot disagree.

mod args;
mod change;
mod copy;
mod copy_report;
mod diff;
mod du;
mod exit;
mod export;
#[cfg(feature = "job")]
mod job;
mod list;
mod output;
mod owner;
mod place;
mod progress;
mod repair;
mod restore;
mod select;
mod show;
mod show_job;
mod signals;
mod snapshot;
mod text;
mod verify;
mod why;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use output::{Done, Output};
use place::Place;
use signals::Signals;

use crate::error::{Error, ErrorKind, Result};

/// Runs the command with the process's own arguments.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs the command with `arguments`, the first being its own name. Prints, and returns the code to
/// exit with.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; clap prints them to stdout itself.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    start_logging(cli.verbose);
    let output = Output::new(cli.json);
    let outcome = start_runtime().and_then(|runtime| {
        let outcome = runtime.block_on(perform(cli, output));
        // Whatever still runs (a thread that waits for a signal) is of no use any more.
        runtime.shutdown_background();
        outcome
    });
    let code = match outcome {
        Ok(done) => output.print(&done),
        Err(error) => {
            output.print_error(&error);
            exit::code_of(&error)
        }
    };
    ExitCode::from(code)
}

fn start_runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("start", "the runtime", error))
}

/// Lines for people who look into something: by `-v`, or by `RUST_LOG`, which wins.
fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "icecore=info,warn",
        2 => "icecore=debug,info",
        _ => "trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let subscriber = subscriber.with_ansi(std::io::stderr().is_terminal());
    // Only a second call in one process can fail, and then lines are written already.
    let _ = subscriber.with_target(false).without_time().try_init();
}

async fn perform(cli: Cli, output: Output) -> Result<Done> {
    let Cli { store, store_option, job, limits, command, .. } = cli;
    if let Command::Completions { shell } = command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "icecore", &mut script);
        return Ok(Done::raw(script));
    }
    let signals = Signals::catch()?;
    let place = Place::new(store, &store_option, job, output, signals.clone())?.within(limits.limits());
    let work = async {
        match command {
            Command::Snapshot(args) => snapshot::run(&place, args).await,
            Command::List(args) => list::run(&place, args).await,
            Command::Show(args) => show::run(&place, args).await,
            Command::Verify(args) => verify::run(&place, args).await,
            Command::Restore(args) => restore::run(&place, args).await,
            Command::Diff(args) => diff::run(&place, args).await,
            Command::Du => du::run(&place).await,
            Command::Why(args) => why::run(&place, args).await,
            Command::Drop(args) => change::drop(&place, args).await,
            Command::Repair(args) => repair::run(&place, args).await,
            Command::Retain(args) => change::retain(&place, args).await,
            Command::Pin(args) => change::pin(&place, args).await,
            Command::Unpin(args) => change::unpin(&place, args).await,
            Command::Gc(args) => change::gc(&place, args).await,
            Command::Export(args) => export::run(&place, args).await,
            Command::Copy(args) => copy::run(&place, args).await,
            #[cfg(feature = "job")]
            Command::Job(args) => job::run(&place, args).await,
            Command::Completions { .. } => Err(Error::new(ErrorKind::Internal, "run", "completions were printed")),
        }
    };
    // Commands that have something to put in order when interrupted wait for the signal themselves,
    // and are given the time that takes.
    tokio::select! {
        biased;
        done = work => done,
        () = signals.received_and_not_awaited() => Err(signals.error("nothing in the store was left half done")),
    }
}
