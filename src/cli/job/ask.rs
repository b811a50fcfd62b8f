//! The `job` commands that ask a running manager for something.

use serde::Serialize;

use super::ManagerArgs;
use super::list::ending_of;
use super::tenure::Tenure;
use crate::cli::output::{Done, one_line};
use crate::cli::place::{Job, Place};
use crate::cli::progress::Spinner;
use crate::cli::text::{count, time};
use crate::error::{Error, ErrorKind, Result};
use crate::job::http::{JobClient, Taken};
use crate::job::manager::last_event;
use crate::job::report::JobReport;
use crate::store::StorePath;

#[derive(Debug, Serialize)]
struct TakenNode {
    job: String,
    checkpoint: u64,
    folder: String,
}

#[derive(Debug, Serialize)]
struct RescaledNode {
    job: String,
    workers: u32,
    checkpoint: u64,
}

#[derive(Debug, Serialize)]
struct EndedNode {
    job: String,
    ending: &'static str,
    dry_run: bool,
    savepoint: Option<String>,
    /// Checkpoints that were, or would be, dropped.
    dropped: Vec<u64>,
    /// Those that stay, as somebody holds them.
    held: Vec<u64>,
}

/// The job, its manager as its claim on the store names it, and how the job is. Makes sure that the manager is this job's: the claim may
/// be an old one, and the port somebody else's by now.
///
/// # Errors
/// [`ErrorKind::NotFound`] if nobody runs it, or if who does serves no such port; [`ErrorKind::InvalidInput`] if another job's manager is
/// there; as [`JobClient::report`].
pub(super) async fn checked(place: &Place, args: ManagerArgs) -> Result<(Job, JobClient, JobReport)> {
    let job = place.job().await?;
    let tenure = Tenure::of(&job).await?;
    let address = match (args.manager, &tenure) {
        (Some(address), _) => address,
        (None, Some(Tenure { address: Some(address), .. })) => *address,
        (None, Some(Tenure { holder, .. })) => {
            return Err(nobody(&job, &format!("it is held by {holder}, which says no address"))
                .with_advice("give --manager IP:PORT, if it serves one"));
        }
        (None, None) => return Err(not_running(&job).await),
    };
    let client = JobClient::new(address, place.env.clone());
    let report = client.report().await.map_err(|error| match (error.kind(), args.manager) {
        (ErrorKind::Unreachable, None) => error
            .with_advice("its manager may be dead, or out of reach from here: `icecore job run` takes the job over"),
        (ErrorKind::Unreachable, Some(_)) => error.with_advice("look whether it runs, and at this address"),
        _ => error,
    })?;
    if tenure.is_some_and(|tenure| tenure.is_of(&job, &report)) {
        return Ok((job, client, report));
    }
    let message = format!("the manager there runs job {} on {}", report.job, report.store);
    Err(Error::invalid("ask the job manager", message)
        .with_object(format!("job {}", job.layout.job()))
        .with_advice("check --store, --job and --manager"))
}

fn nobody(job: &Job, message: &str) -> Error {
    Error::new(ErrorKind::NotFound, "find the job's manager", message).with_object(format!("job {}", job.layout.job()))
}

/// Says how the job ended, if that is known.
async fn not_running(job: &Job) -> Error {
    let last = last_event(&job.store, &job.layout).await.ok().flatten();
    let ended = last.as_ref().and_then(|last| Some((ending_of(last)?, last)));
    let message = match ended {
        Some(("failed", last)) => format!("nobody runs the job: at {} UTC it {}", time(last.at_unix_ms), last.text),
        Some((ending, last)) => format!("nobody runs the job: at {} UTC it was {ending}", time(last.at_unix_ms)),
        None => "nobody runs the job".to_owned(),
    };
    nobody(job, &one_line(&message)).with_advice("`icecore job run` runs it")
}

pub(super) async fn checkpoint(place: &Place, args: ManagerArgs, is_full: bool) -> Result<Done> {
    let (job, client, _) = checked(place, args).await?;
    let spinner = Spinner::new(place.output, "taking a checkpoint");
    let taken = client.checkpoint(is_full).await?;
    drop(spinner);
    done(&job, taken, "checkpoint")
}

pub(super) async fn savepoint(place: &Place, args: ManagerArgs, path: &StorePath) -> Result<Done> {
    let (job, client, _) = checked(place, args).await?;
    let spinner = Spinner::new(place.output, "taking a savepoint");
    let taken = client.savepoint(path.as_str()).await?;
    drop(spinner);
    done(&job, taken, "savepoint")
}

fn done(job: &Job, taken: Taken, what: &str) -> Result<Done> {
    let node = TakenNode { job: job.layout.job().to_string(), checkpoint: taken.checkpoint, folder: taken.folder };
    Done::new(one_line(&format!("{what} {} is complete: {}", node.checkpoint, node.folder)), &node)
}

pub(super) async fn rescale(place: &Place, args: ManagerArgs, workers: u32) -> Result<Done> {
    let (job, client, _) = checked(place, args).await?;
    let spinner = Spinner::new(place.output, "taking a checkpoint");
    let taken = client.rescale(workers).await?;
    drop(spinner);
    let node = RescaledNode { job: job.layout.job().to_string(), workers, checkpoint: taken.checkpoint };
    let text = format!(
        "job {} goes on with {} from checkpoint {}",
        node.job,
        count(workers.into(), "worker"),
        node.checkpoint
    );
    Done::new(text, &node)
}

pub(super) async fn stop(place: &Place, args: ManagerArgs, savepoint: Option<&StorePath>) -> Result<Done> {
    let (job, client, _) = checked(place, args).await?;
    let savepoint = savepoint.map(StorePath::as_str);
    let spinner = Spinner::new(place.output, "stopping");
    client.stop(savepoint).await?;
    drop(spinner);
    let node = EndedNode {
        job: job.layout.job().to_string(),
        ending: "finished",
        dry_run: false,
        savepoint: savepoint.map(str::to_owned),
        dropped: Vec::new(),
        held: Vec::new(),
    };
    let savepoint = savepoint.map(|path| format!("; savepoint: {path}")).unwrap_or_default();
    Done::new(format!("job {} has stopped in good order{savepoint}", node.job), &node)
}

pub(super) async fn cancel(place: &Place, args: ManagerArgs, drops: bool, dry_run: bool) -> Result<Done> {
    let (job, client, _) = checked(place, args).await?;
    let (mut dropped, mut held) = (Vec::new(), Vec::new());
    if drops {
        let view = job.view().await?;
        for folder in view.checkpoints.keys() {
            let is_held = view.holds(*folder).next().is_some();
            if is_held { held.push(folder.checkpoint.0) } else { dropped.push(folder.checkpoint.0) }
        }
    }
    if !dry_run {
        let spinner = Spinner::new(place.output, "ending the workers");
        client.cancel(drops).await?;
        drop(spinner);
        if drops {
            let view = job.view().await?;
            dropped.retain(|known| !view.checkpoints.keys().any(|folder| folder.checkpoint.0 == *known));
        }
    }
    let node =
        EndedNode { job: job.layout.job().to_string(), ending: "cancelled", dry_run, savepoint: None, dropped, held };
    let numbers = |numbers: &[u64]| match numbers {
        [] => "none".to_owned(),
        numbers => numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
    };
    let kept = if node.held.is_empty() { String::new() } else { format!("; held, and kept: {}", numbers(&node.held)) };
    let again =
        "; started again it begins with nothing, and puts out again what it did: give its sinks another place or id";
    let text = match (dry_run, drops) {
        (true, true) => {
            format!(
                "job {} would be cancelled, and its checkpoints dropped: {}{kept}",
                node.job,
                numbers(&node.dropped)
            )
        }
        (true, false) => format!("job {} would be cancelled; its checkpoints stay", node.job),
        (false, true) => format!("job {} is cancelled; dropped: {}{kept}{again}", node.job, numbers(&node.dropped)),
        (false, false) => format!("job {} is cancelled; its checkpoints stay", node.job),
    };
    Done::new(text, &node)
}
