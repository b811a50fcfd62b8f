//! The job manager: owns a job's coordinator and its workers.
//!
//! It starts a generation of workers ([`Launcher`]), deploys to them once all have registered, watches them, has checkpoints
//! taken, and when one of them fails ends all and starts the next generation from the newest complete checkpoint. What decides
//! is [`JobRun`] and the [`Coordinator`]; here they are told what happens, and their decisions are carried out.
//!
//! **A worker that is out changes nothing.** Each generation has a cookie, drawn anew, without which nothing is heard. It becomes void
//! at the moment the generation fails, under the same lock that every word of a worker is judged under. An acknowledgement that was let in before
//! that is taken in to its end before the next generation chooses what to restore: none completes a checkpoint behind its
//! back.

mod chronicle;
mod desk;
mod drive;
mod end;
mod epochs;
mod history;
mod last;
mod options;
mod outcomes;
mod plan;
mod report;
mod restore;
mod service;
mod session;
mod upkeep;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{RwLock, watch};
use tonic::transport::Server;

use self::chronicle::Chronicle;
use self::desk::{Desk, comes_to_its_end};
use self::history::History;
use self::last::Stop;
use self::outcomes::Outcomes;
use self::service::{Notices, Positions, Service};
use super::launch::Launcher;
use super::port::Port;
use super::run::{Ending, JobRun};
use super::wire::rpc::JobService;
use crate::coordinator::{CheckpointListener, Coordinator};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId, JobId};
use crate::metadata::CheckpointKind;
use crate::snapshot::Trigger;
use crate::store::{StorePath, StoreRef};

pub use chronicle::last_event;
pub use desk::MAX_WAITING_MESSAGES;
pub use history::{MAX_REMEMBERED_CHECKPOINTS, MAX_REMEMBERED_EVENTS};
pub use options::{ManagerOptions, ManagerStatus, OnDamage, StartFrom, WorkerStatus};
pub use plan::ManagedOperator;
pub use session::MAX_UPLOADS;

/// Connections to the manager's port beyond those that workers need. Who is no worker can take all: it is not a port for strangers.
const STRANGERS: usize = 64;
/// A connection that has been silent for so long is asked whether it is there, and has so long to answer: one to a machine that is gone keeps
/// its place no longer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(120));
/// Calls of one connection that may be under way at once.
const MAX_CALLS_PER_CONNECTION: u32 = 2_048;

/// A running job. Cheap to share by [`Arc`].
pub struct Manager {
    desk: Arc<Desk>,
    coordinator: Arc<Coordinator>,
    positions: Arc<Positions>,
    outcomes: Arc<Outcomes>,
    history: Arc<History>,
    started_at_unix_ms: u64,
    /// What its first workers restore, if that was named.
    begins_with: Option<restore::Named>,
    /// What the newest generation has restored.
    restored: Mutex<Option<StorePath>>,
    /// The bytes that each complete checkpoint needs, as far as they were counted.
    sizes: Mutex<BTreeMap<CheckpointFolder, u64>>,
    /// That it is to stop in good order, once somebody has said so.
    stop: Mutex<Option<Stop>>,
    /// That its checkpoints go with it when it is cancelled.
    drops_checkpoints: AtomicBool,
    /// Why they could not be dropped.
    drop_failure: Mutex<Option<Error>>,
    /// How many failures the history has.
    noted_failures: AtomicU64,
    chronicle: tokio::sync::Mutex<Chronicle>,
    gate: Arc<RwLock<()>>,
    launcher: Arc<dyn Launcher>,
    options: ManagerOptions,
    address: SocketAddr,
    env: Env,
    ending: watch::Sender<Option<Ending>>,
}

impl Manager {
    /// Claims the job, opens the port and starts the first workers. Goes on in the background until the job is over; must be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for options that cannot work; as [`Coordinator::start`]; what the operating system says of the port.
    pub async fn start(
        store: StoreRef,
        job: JobId,
        launcher: Arc<dyn Launcher>,
        env: Env,
        options: ManagerOptions,
        mut listeners: Vec<Arc<dyn CheckpointListener>>,
    ) -> Result<Arc<Self>> {
        plan::check_operators(&options.operators)?;
        let begins_with = restore::check_start(&store, &job, &options).await?;
        let (run, actions) = JobRun::start(options.run, options.workers, env.clock.monotonic())?;
        let descriptions = options.operators.iter().map(|operator| operator.description(options.workers)).collect();
        let desk = Arc::new(Desk::new(env.clone(), run, actions));
        // Bound first: a port that is taken is no reason to fence whoever runs the job.
        let port = Port::bind("open the job manager's port", options.listen, max_connections(&options), env.clone());
        let port = port.await?;
        let address = port.address();
        let (positions, outcomes) = (Arc::new(Positions::default()), Arc::new(Outcomes::new()));
        let history = Arc::new(History::new(env.clone()));
        listeners.push(Arc::new(Notices {
            desk: desk.clone(),
            positions: positions.clone(),
            outcomes: outcomes.clone(),
            history: history.clone(),
        }));
        let coordinator =
            Coordinator::start(store, job, descriptions, env.clone(), options.coordinator.clone(), listeners).await?;
        if let Some(named) = begins_with {
            coordinator.number_behind(named.checkpoint)?;
        }
        let chronicle = Chronicle::open(&coordinator, &history, &env).await;
        history.event("claimed", 0, &format!("by {}", options.coordinator.holder));
        let manager = Arc::new(Self {
            desk,
            coordinator: Arc::new(coordinator),
            positions,
            outcomes,
            history,
            started_at_unix_ms: env.clock.unix_time_ms(),
            begins_with,
            restored: Mutex::default(),
            sizes: Mutex::default(),
            stop: Mutex::default(),
            drops_checkpoints: AtomicBool::new(false),
            drop_failure: Mutex::default(),
            noted_failures: AtomicU64::new(0),
            chronicle: tokio::sync::Mutex::new(chronicle),
            gate: Arc::default(),
            launcher,
            options,
            address,
            env: env.clone(),
            ending: watch::Sender::new(None),
        });
        env.runtime.spawn(Box::pin(manager.clone().serve(port)));
        env.runtime.spawn(Box::pin(manager.clone().drive()));
        env.runtime.spawn(Box::pin(manager.clone().serve_commands()));
        env.runtime.spawn(Box::pin(manager.clone().keep_up()));
        env.runtime.spawn(Box::pin(manager.clone().keep_history()));
        Ok(manager)
    }

    /// Answers workers until the job is over.
    async fn serve(self: Arc<Self>, port: Port) {
        let service = Service {
            desk: self.desk.clone(),
            coordinator: self.coordinator.clone(),
            positions: self.positions.clone(),
            outcomes: self.outcomes.clone(),
            history: self.history.clone(),
            gate: self.gate.clone(),
            env: self.env.clone(),
        };
        let server = Server::builder()
            .max_concurrent_streams(Some(MAX_CALLS_PER_CONNECTION))
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1));
        let served = tokio::select! {
            served = server.serve_with_incoming(JobService::new(Arc::new(service)), port.incoming()) => served,
            // Connections of workers that are cut off may stand for long: nobody waits for them.
            _ = self.ended() => Ok(()),
        };
        if let Err(error) = served {
            tracing::error!(%error, "the job manager's port is closed");
            self.desk.change(|run, _| run.give_up(format!("its port is closed: {error}")));
        }
    }

    /// Where workers report.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn env(&self) -> &Env {
        &self.env
    }

    /// Since when it manages the job.
    pub fn started_at_unix_ms(&self) -> u64 {
        self.started_at_unix_ms
    }

    /// The job's coordinator: what is complete, retained, collected. Its `tick` and `serve_requests` are
    /// the manager's to call.
    pub fn coordinator(&self) -> &Arc<Coordinator> {
        &self.coordinator
    }

    /// How the job is.
    pub fn status(&self) -> ManagerStatus {
        self.desk.read(|run, sessions| {
            let status =
                |session: &session::Session| WorkerStatus { name: session.name.clone(), heartbeat: session.heartbeat };
            ManagerStatus {
                generation: run.generation(),
                workers: run.workers(),
                phase: run.phase().clone(),
                last_failure: run.last_failure().map(str::to_owned),
                registered: sessions.iter().map(|(worker, session)| (*worker, status(session))).collect(),
            }
        })
    }

    /// Begins a checkpoint now, beside the periodic ones.
    ///
    /// # Errors
    /// [`ErrorKind::Temporary`] while not all workers run, if one has finished, or if a later one was begun at the same moment;
    /// [`ErrorKind::Cancelled`] if the job comes to its end; as [`Coordinator::trigger`].
    pub async fn trigger(&self, kind: CheckpointKind) -> Result<CheckpointId> {
        // No generation begins meanwhile, so the trigger goes to the workers that it is for, or to none.
        let _gate = self.gate.read().await;
        self.check_running()?;
        self.hand_out(self.coordinator.trigger(kind)?)
    }

    /// Hands a trigger to every worker, or withdraws its checkpoint. Returns that.
    fn hand_out(&self, trigger: Trigger) -> Result<CheckpointId> {
        let checkpoint = trigger.checkpoint;
        self.history.triggered(&trigger, self.desk.read(|run, _| run.generation()));
        self.desk.hand_out(trigger).inspect_err(|error| {
            self.coordinator.withdraw(checkpoint, error.message());
        })?;
        Ok(checkpoint)
    }

    fn check_running(&self) -> Result<()> {
        if self.stop.lock().is_some() {
            // Behind the savepoint that it is stopped with it would seem to have gone on.
            return Err(comes_to_its_end("it is being stopped"));
        }
        self.desk.check_open()?;
        if self.desk.can_checkpoint() {
            return Ok(());
        }
        let message = "not all of the job's workers run: some are still to restore their state, or have finished";
        Err(Error::new(ErrorKind::Temporary, "trigger a checkpoint", message)
            .with_advice("try again when `icecore job status` says that it runs"))
    }

    /// Whether the job may have so many workers.
    ///
    /// # Errors
    /// As [`Manager::rescale`].
    pub fn check_workers(&self, workers: u32) -> Result<()> {
        super::run::check_workers(workers)?;
        self.options.operators.iter().try_for_each(|operator| operator.description(workers).check())
    }

    /// Goes on with another number of workers, from the newest complete checkpoint: take one first.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a number that cannot be, or more than some operator has key groups; [`ErrorKind::LimitExceeded`] if
    /// earlier changes still wait.
    pub fn rescale(&self, workers: u32) -> Result<()> {
        self.check_workers(workers)?;
        self.desk.check_room()?;
        let mut refused = None;
        let before = self.desk.read(|run, _| run.workers());
        self.desk.change(|run, now| {
            run.rescale(workers, now).unwrap_or_else(|error| {
                refused = Some(error);
                Vec::new()
            })
        });
        refused.map_or(Ok(()), Err)?;
        let generation = self.desk.read(|run, _| run.generation());
        self.history.event("rescaled", generation, &format!("from {before} to {workers} workers"));
        Ok(())
    }

    /// Ends the job. Its checkpoints stay.
    pub fn cancel(&self) {
        self.desk.change(|run, _| run.cancel());
    }

    /// Ends the job, and drops its checkpoints, but for those that somebody holds. What is left is a last one, of no state: if the
    /// job is started again it begins with nothing.
    pub fn cancel_and_drop(&self) {
        self.drops_checkpoints.store(true, Ordering::SeqCst);
        self.cancel();
    }

    /// Waits until the job is over.
    pub async fn ended(&self) -> Ending {
        let mut ending = self.ending.subscribe();
        match ending.wait_for(Option::is_some).await.map(|ending| ending.clone()) {
            Ok(Some(ending)) => ending,
            // The sender lives as long as this manager.
            _ => Ending::Failed("the manager is gone".to_owned()),
        }
    }
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").field("address", &self.address).field("status", &self.status()).finish()
    }
}

/// How many connections workers and strangers may have at once: those of two generations, the larger for which there are key groups.
fn max_connections(options: &ManagerOptions) -> usize {
    let most = options.operators.iter().map(|operator| operator.max_parallelism.get()).min();
    2 * most.unwrap_or(options.workers) as usize + STRANGERS
}

/// Whether an error says that the tenure is over: there is nothing to restart then.
fn ends_the_job(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Fenced | ErrorKind::OutcomeUnknown)
}
