//! `job run`: the manager, in this process, until the job is over.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::RunArgs;
use super::tenure::Tenure;
use crate::cli::exit;
use crate::cli::output::{Done, one_line};
use crate::cli::owner::holder;
use crate::cli::place::{Job, Place};
use crate::coordinator::{CoordinatorOptions, RetentionPolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::job::http::HttpServer;
use crate::job::manager::{Manager, ManagerOptions, StartFrom};
use crate::job::report::EventRecord;
use crate::job::{Ending, HeartbeatOptions, LaunchOrder, ProcessLauncher, RunOptions};

/// Between two looks for what has happened.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Serialize)]
struct Outcome {
    job: String,
    ending: &'static str,
    reason: Option<String>,
    generation: u64,
    failures: u64,
    newest_checkpoint: Option<u64>,
}

pub(super) async fn run(place: &Place, args: RunArgs) -> Result<Done> {
    let job = place.new_job().await?;
    check_command(&args.command)?;
    // From here on a signal is waited for: dropped in the midst of its claim, a manager would leave a tenure that looks alive.
    place.signals.awaits();
    let server = HttpServer::bind(args.http, place.env.clone()).await?;
    let told = args.http_advertise.unwrap_or(server.address());
    if told.ip().is_unspecified() {
        return Err(Error::invalid("run a job", "the claim on the store cannot tell others an address to ask at")
            .with_object(told)
            .with_advice("say by --http-advertise IP:PORT how this machine is reached"));
    }
    if !args.take_over {
        check_free(place, &job).await?;
    }
    let page = format!("http://{told}");
    let options = options(&args, HttpServer::holder_at(&holder("job manager"), told))?;
    let launcher = launcher(&args);
    let is_named = args.from.is_some();
    let (store, id) = (job.store.clone(), job.layout.job().clone());
    let manager = Manager::start(store, id, Arc::new(launcher), place.env.clone(), options, Vec::new()).await?;
    place.output.note(&format!("job {}: {page} shows it; workers report to {}", job.layout.job(), manager.address()));
    let (ending, served) = tokio::join!(follow(place, &manager, is_named), server.serve(manager.clone()));
    if let Err(error) = served {
        tracing::warn!(%error, "the page was not served to the end");
    }
    outcome(&job, &manager, &ending)
}

/// A manager that runs the job and answers is not pushed aside.
async fn check_free(place: &Place, job: &Job) -> Result<()> {
    let tenure = match Tenure::of(job).await {
        Ok(Some(tenure)) => tenure,
        Ok(None) => return Ok(()),
        // A claim that cannot be believed, or names no address, may be that of one who died: it is fenced, and loses no checkpoint by that.
        Err(error) if is_unbelievable(error.kind()) => return Ok(()),
        // It may be there another time, or there is a newer one by now.
        Err(error) => return Err(error),
    };
    let Some(report) = tenure.report(job, &place.env).await else { return Ok(()) };
    let (message, advice) = match report.state.as_str() {
        "finished" | "cancelled" | "failed" => {
            (format!("{} is bringing it to its end", tenure.holder), "try again in a moment")
        }
        state => (
            format!("it is run by {}, which answers: {state}", tenure.holder),
            "stop that one first (`icecore job stop`), or take the job from it by --take-over",
        ),
    };
    Err(Error::new(ErrorKind::Fenced, "run a job", message)
        .with_object(format!("job {}", job.layout.job()))
        .with_advice(advice))
}

fn is_unbelievable(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::LimitExceeded)
}

/// Tells what happens, and cancels the job when a signal comes.
async fn follow(place: &Place, manager: &Manager, is_named: bool) -> Ending {
    let mut told: Option<EventRecord> = None;
    let ended = manager.ended();
    tokio::pin!(ended);
    let mut is_cancelled = false;
    loop {
        tokio::select! {
            ending = &mut ended => {
                tell_new(place, manager, &mut told);
                return ending;
            }
            () = place.signals.received(), if !is_cancelled => {
                is_cancelled = true;
                // Until it has a checkpoint it can be begun in the same way.
                let is_newer = is_named && manager.coordinator().view().newest().is_some();
                let without = if is_newer { " without --from" } else { "" };
                place.output.note(&format!(
                    "ending the workers; checkpoints stay, and the same command{without} goes on from the newest"
                ));
                manager.cancel();
            }
            () = place.env.runtime.sleep(LOOK) => {}
        }
        tell_new(place, manager, &mut told);
    }
}

fn tell_new(place: &Place, manager: &Manager, told: &mut Option<EventRecord>) {
    let since = manager.started_at_unix_ms();
    let events = manager.newest_events();
    let new: Vec<&EventRecord> =
        events.iter().take_while(|event| told.as_ref() != Some(*event) && event.at_unix_ms >= since).collect();
    for event in new.iter().rev() {
        let generation =
            if event.generation > 0 { format!(" (generation {})", event.generation) } else { String::new() };
        place.output.note(&format!("{}{generation}: {}", event.kind, event.text));
    }
    *told = events.first().cloned().or_else(|| told.take());
}

fn outcome(job: &Job, manager: &Manager, ending: &Ending) -> Result<Done> {
    let report = manager.report();
    let outcome = Outcome {
        job: job.layout.job().to_string(),
        ending: ending.name(),
        reason: report.reason,
        generation: report.generation,
        failures: report.failures,
        newest_checkpoint: manager.coordinator().view().newest().map(|newest| newest.folder.checkpoint.0),
    };
    let newest = outcome.newest_checkpoint.map_or_else(|| "none".to_owned(), |newest| newest.to_string());
    let text = format!("job {} {ending}; failures: {}; newest checkpoint: {newest}", outcome.job, outcome.failures);
    let code = if matches!(ending, Ending::Failed(_)) { exit::FAILED } else { exit::OK };
    Ok(Done::new(one_line(&text), &outcome)?.with_code(code))
}

fn options(args: &RunArgs, holder: String) -> Result<ManagerOptions> {
    let keep = args.keep;
    let named = [keep.keep_last, keep.keep_hourly, keep.keep_daily, keep.keep_weekly];
    let retention = match named.iter().any(Option::is_some) {
        true => RetentionPolicy {
            last: keep.keep_last.unwrap_or(0),
            hourly: keep.keep_hourly.unwrap_or(0),
            daily: keep.keep_daily.unwrap_or(0),
            weekly: keep.keep_weekly.unwrap_or(0),
        },
        false => RetentionPolicy::default(),
    };
    let heartbeat = HeartbeatOptions { interval: args.heartbeat_interval, timeout: args.heartbeat_timeout };
    Ok(ManagerOptions {
        listen: args.listen,
        workers: args.workers,
        operators: args.operator.clone(),
        run: RunOptions { heartbeat, restart: args.restart, startup_timeout: args.startup_timeout },
        coordinator: CoordinatorOptions {
            interval: args.interval.0,
            min_pause: args.min_pause,
            timeout: args.timeout,
            tolerable_failures: args.tolerable_failures,
            retention,
            holder,
            ..CoordinatorOptions::default()
        },
        start_from: match &args.from {
            Some(path) if args.rewind => StartFrom::Rewind(path.clone()),
            Some(path) => StartFrom::Folder(path.clone()),
            None => StartFrom::Newest,
        },
        on_damage: args.on_damage.into(),
        allow_non_restored_state: args.allow_non_restored_state,
    })
}

/// Each worker by the same command.
fn launcher(args: &RunArgs) -> ProcessLauncher {
    let words = args.command.clone();
    ProcessLauncher::new(move |_: &LaunchOrder| {
        let mut words = words.iter();
        // `check_command` has seen that there is one.
        let mut command = Command::new(words.next().map(String::as_str).unwrap_or_default());
        command.args(words);
        command
    })
}

/// Whether there is such a program: a job whose workers cannot be started would try again and again.
fn check_command(words: &[String]) -> Result<()> {
    let program = words.first().map(String::as_str).unwrap_or_default();
    let is_file = |path: std::path::PathBuf| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let is_there = match program.contains('/') {
        true => is_file(program.into()),
        false => std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| is_file(folder.join(program)))),
    };
    if is_there {
        return Ok(());
    }
    Err(Error::invalid("run a job", "there is no such program to run a worker, or it may not be run")
        .with_object(program)
        .with_advice("name the worker's command behind `--`"))
}
