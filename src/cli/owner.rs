//! Changing a job: ask the owner that lives, or become the owner (M1-M3 of `docs/protocol.md`).
//!
//! A job whose newest epoch has ended is claimed at once. Otherwise its owner may be alive: it is
//! asked and given time, and asked whether it is alive if that time was not enough. One that answers
//! neither is fenced, and so is, at once, one that `--take-over` names; the user is told whom that hits. Being wrong about that costs the fenced
//! owner its tenure and nobody a checkpoint: fencing, not this politeness, keeps the job sound (I4).

use std::time::Duration;

use super::args::OwnerArgs;
use super::place::{Job, Place};
use crate::coordinator::{Coordinator, CoordinatorOptions, OperatorDescription, RetentionPolicy, Wish};
use crate::error::{Error, ErrorKind, Result};
use crate::gc::SweepScope;
use crate::layout::Epoch;
use crate::metadata::{Claim, Outcome};
use crate::ownership::requests::{Asked, POLL_INTERVAL_MS, ask, wait_for_answer};
use crate::ownership::{Epochs, read_record};

/// A checkpoint taken by a command has no time-out of its own: whoever started it can stop it.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// How often owners may follow each other while a command waits for one of them.
const MAX_OWNERS_ASKED: u32 = 5;
/// Keeps everything: dropping is done by word of a person only.
const KEEP_ALL: RetentionPolicy = RetentionPolicy { last: u32::MAX, hourly: 0, daily: 0, weekly: 0 };

/// How a wish was met.
pub(super) enum Reply {
    /// The living owner did it, and said this.
    Answered(String),
    /// Nobody else owns the job now: do it yourself, then [`release`].
    Owner(Box<Coordinator>),
}

/// What a command brings along when it becomes the owner.
#[derive(Debug, Default)]
pub(super) struct Claimant {
    /// The operators of the job, for a command that takes checkpoints.
    pub(super) operators: Vec<OperatorDescription>,
    /// Which checkpoints stay when a new one is complete; `None`: all.
    pub(super) retention: Option<RetentionPolicy>,
    /// How many checkpoints in a row may fail.
    pub(super) tolerable_failures: u32,
}

/// Lets the living owner do what is wished, or claims the job.
///
/// # Errors
/// [`ErrorKind::Blocked`] if the owner refuses; as [`Coordinator::start`] for a claim.
pub(super) async fn ask_or_claim(place: &Place, job: &Job, wish: &Wish, args: OwnerArgs) -> Result<Reply> {
    match ask_owner(place, job, wish, args).await? {
        Some(text) => Ok(Reply::Answered(text)),
        None => Ok(Reply::Owner(Box::new(claim(place, job, Claimant::default()).await?))),
    }
}

/// Claims the job for a command that no owner does in its stead, once none is alive: one that answers is waited for.
///
/// # Errors
/// [`ErrorKind::Fenced`] if the owner is alive still after `args.wait`; as [`Coordinator::start`].
pub(super) async fn claim_when_free(
    place: &Place,
    job: &Job,
    args: OwnerArgs,
    claimant: Claimant,
) -> Result<Coordinator> {
    let deadline = place.env.clock.monotonic().saturating_add(Duration::from_secs(args.wait));
    let mut answered = None;
    while let Some(owner) = Epochs::list(&*job.store, &job.layout).await?.living_owner() {
        // Once an owner: every question is an object that it has to answer and to remove.
        if answered != Some(owner) {
            if ask_owner(place, job, &Wish::Ping, args).await?.is_none() {
                break;
            }
            answered = Some(owner);
        }
        if place.env.clock.monotonic() >= deadline {
            let message = format!("its owner is alive: {}", describe(job, owner).await);
            return Err(Error::new(ErrorKind::Fenced, "claim the job", message)
                .with_object(format!("job {}", job.layout.job()))
                .with_advice("wait until it ends; --take-over fences it"));
        }
        place.env.runtime.sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
    }
    claim(place, job, claimant).await
}

/// The living owner's answer; `None` if there is no such owner, or none that answers.
async fn ask_owner(place: &Place, job: &Job, wish: &Wish, args: OwnerArgs) -> Result<Option<String>> {
    let (store, layout, env) = (&*job.store, &job.layout, &place.env);
    for _ in 0..MAX_OWNERS_ASKED {
        let Some(owner) = Epochs::list(store, layout).await?.living_owner() else { return Ok(None) };
        if args.take_over {
            place.output.note(&format!("taking the job over; this fences {}", describe(job, owner).await));
            return Ok(None);
        }
        let asked = match ask(store, layout, env, wish.kind(), &wish.to_string()).await {
            Ok(asked) => asked,
            // It ended between the two looks.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match wait_while_alive(place, job, wish, &asked, args).await {
            Ok(Outcome::Done(text)) => return Ok(Some(text)),
            Ok(Outcome::Refused(text)) => {
                return Err(Error::new(ErrorKind::Blocked, "ask the job's owner", format!("it refused: {text}"))
                    .with_object(format!("job {}", layout.job())));
            }
            // It ended, or was superseded, before it answered: look who is there now.
            Err(error) if error.kind() == ErrorKind::Fenced => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                let who = describe(job, asked.owner).await;
                place.output.note(&format!("no answer within {} s; this fences {who}", args.wait));
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(ErrorKind::Fenced, "ask the job's owner", "its owner changed at every attempt")
        .with_object(format!("job {}", layout.job()))
        .with_advice("try again"))
}

/// Waits for the answer to a wish for as long as its owner, asked again and again, says that it is alive.
async fn wait_while_alive(place: &Place, job: &Job, wish: &Wish, asked: &Asked, args: OwnerArgs) -> Result<Outcome> {
    let (store, layout, env) = (&*job.store, &job.layout, &place.env);
    let wait = Duration::from_secs(args.wait);
    loop {
        let silence = match wait_for_answer(store, layout, env, asked, wait).await {
            Err(error) if error.kind() == ErrorKind::Cancelled && *wish != Wish::Ping => error,
            outcome => return outcome,
        };
        let ping = match ask(store, layout, env, Wish::Ping.kind(), &Wish::Ping.to_string()).await {
            Ok(ping) if ping.owner == asked.owner => ping,
            // Another one owns the job, or nobody: what was asked will not be answered any more.
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match wait_for_answer(store, layout, env, &ping, wait).await {
            Ok(_) => place.output.note("the owner is alive and at something; waiting (--take-over fences it)"),
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(silence),
            Err(error) => return Err(error),
        }
    }
}

/// Claims the job. From here on the caller ends the tenure, also when a signal comes.
async fn claim(place: &Place, job: &Job, claimant: Claimant) -> Result<Coordinator> {
    // Before the claim: dropped between its steps, it would leave a tenure that looks alive.
    place.signals.awaits();
    let options = CoordinatorOptions {
        timeout: CHECKPOINT_TIMEOUT,
        tolerable_failures: claimant.tolerable_failures,
        retention: claimant.retention.unwrap_or(KEEP_ALL),
        holder: holder("icecore command"),
        ..CoordinatorOptions::default()
    };
    let (store, id) = (job.store.clone(), job.layout.job().clone());
    let coordinator = Coordinator::start(store, id, claimant.operators, place.env.clone(), options, Vec::new()).await?;
    if place.signals.has_come() {
        release(&coordinator).await;
        return Err(place.signals.error("the job was claimed, and nothing in it changed"));
    }
    Ok(coordinator)
}

/// Does `work` as the owner and ends the tenure, whether it succeeded or a signal came.
///
/// # Errors
/// Those of the work; [`ErrorKind::Cancelled`] for a signal.
pub(super) async fn perform<T>(
    place: &Place,
    coordinator: &Coordinator,
    work: impl AsyncFnOnce(&Coordinator) -> Result<T>,
) -> Result<T> {
    let outcome = tokio::select! {
        biased;
        outcome = work(coordinator) => outcome,
        () = place.signals.received() => {
            Err(place.signals.error("what was begun stays announced; `icecore gc` goes on with it"))
        }
    };
    release(coordinator).await;
    outcome
}

/// Removes what earlier epochs left behind and ends the tenure, so that the next owner need not wait.
/// Failures are told and change nothing: the next owner does it.
pub(super) async fn release(coordinator: &Coordinator) {
    let swept = coordinator.collect(SweepScope::Records, false).await;
    let ended = match swept {
        Ok(_) => coordinator.end().await,
        // The tenure is over, or the store fails: `end` finds out by itself.
        Err(error) => {
            tracing::warn!(%error, "could not remove the records of earlier epochs");
            coordinator.end().await
        }
    };
    if let Err(error) = ended {
        tracing::warn!(%error, "could not end the tenure; the next owner waits for it");
    }
}

/// Answers other commands while this one works as the owner. Ends with the tenure only.
pub(super) async fn serve(place: &Place, coordinator: &Coordinator) -> Error {
    loop {
        place.env.runtime.sleep(Duration::from_millis(POLL_INTERVAL_MS)).await;
        match coordinator.serve_requests().await {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Fenced | ErrorKind::OutcomeUnknown) => return error,
            Err(error) => tracing::warn!(%error, "could not answer a request"),
        }
    }
}

/// An epoch and who holds it, as far as its claim tells.
async fn describe(job: &Job, owner: Epoch) -> String {
    match read_claim(job, owner).await {
        Ok(claim) => format!("epoch {owner}, held by {}", claim.holder),
        Err(_) => format!("epoch {owner}"),
    }
}

pub(super) async fn read_claim(job: &Job, owner: Epoch) -> Result<Claim> {
    read_record(&*job.store, &job.layout.claim(owner)?).await
}

/// What this process calls itself in its claim, `what` being what it does.
pub(super) fn holder(what: &str) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "an unknown host" } else { host };
    format!("{what}, process {} on {host}", std::process::id())
}
