//! The manager's side of the calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::RwLock;
use tonic::Streaming;

use super::desk::Desk;
use super::history::History;
use super::outcomes::{Outcome, Outcomes};
use super::session::Seat;
use crate::coordinator::{CheckpointListener, Coordinator};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::job::splits;
use crate::job::wire::answers::{Acknowledgement, Decline};
use crate::job::wire::rpc::{Calls, Told, from_status};
use crate::job::wire::upload::{EndUpload, Place, Placed};
use crate::job::wire::{Damage, Pass, Say, Tell, shorten};
use crate::layout::{CheckpointFolder, CheckpointId, SubtaskName};
use crate::metadata::SourcePosition;
use crate::snapshot::{Placement, SubtaskHandle};

/// How the text of a failure begins that only says that a worker is not heard any more.
pub(super) const CONNECTION: &str = "its connection";
/// How long a connection may take to say who it is.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the sources stood, subtask by subtask, at the checkpoints in flight.
#[derive(Default)]
pub(super) struct Positions(Mutex<BTreeMap<CheckpointId, BTreeMap<SubtaskName, Vec<SourcePosition>>>>);

impl Positions {
    /// Adds one subtask's and tells the coordinator of all so far: both under one lock, so that none is lost.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if another subtask reads one of these splits, too.
    fn add(&self, coordinator: &Coordinator, handle: &SubtaskHandle, sources: Vec<SourcePosition>) -> Result<()> {
        let mut known = self.0.lock();
        let subtasks = known.entry(handle.checkpoint).or_default();
        let others = subtasks.iter().filter(|(subtask, _)| **subtask != handle.subtask);
        let known = others.flat_map(|(_, known)| known);
        splits::check_new(known, &sources, |twice| format!("split {} of {}", twice.split, twice.source))?;
        subtasks.entry(handle.subtask.clone()).or_insert(sources);
        coordinator.set_source_positions(handle.checkpoint, subtasks.values().flatten().cloned().collect());
        Ok(())
    }

    /// Those of a checkpoint that is complete or was given up. Not those before it: a savepoint may be among them.
    fn forget(&self, checkpoint: CheckpointId) {
        self.0.lock().remove(&checkpoint);
    }

    /// Those of checkpoints in flight that were given up with their generation.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

/// Tells the workers what became of each checkpoint.
pub(super) struct Notices {
    pub(super) desk: Arc<Desk>,
    pub(super) positions: Arc<Positions>,
    pub(super) outcomes: Arc<Outcomes>,
    pub(super) history: Arc<History>,
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notices")
    }
}

impl Notices {
    fn tell(&self, checkpoint: CheckpointId, tell: &Tell) {
        self.desk.forget(checkpoint);
        if let Err(error) = self.desk.tell_all(tell) {
            tracing::warn!(%checkpoint, %error, "workers do not hear what became of a checkpoint");
        }
    }
}

impl CheckpointListener for Notices {
    fn complete(&self, checkpoint: CheckpointFolder) {
        self.positions.forget(checkpoint.checkpoint);
        self.history.completed(checkpoint);
        self.outcomes.note(checkpoint.checkpoint, Outcome::Complete(checkpoint));
        self.tell(checkpoint.checkpoint, &Tell::Complete(checkpoint));
    }

    fn savepoint_complete(&self, savepoint: CheckpointFolder) {
        self.positions.forget(savepoint.checkpoint);
        self.history.completed(savepoint);
        self.outcomes.note(savepoint.checkpoint, Outcome::Complete(savepoint));
        self.tell(savepoint.checkpoint, &Tell::SavepointComplete(savepoint));
    }

    fn aborted(&self, checkpoint: CheckpointId, reason: &str) {
        self.positions.forget(checkpoint);
        self.history.aborted(checkpoint, reason);
        self.outcomes.note(checkpoint, Outcome::Aborted(reason.to_owned()));
        self.tell(checkpoint, &Tell::Aborted { checkpoint, reason: reason.to_owned() });
    }
}

pub(super) struct Service {
    pub(super) desk: Arc<Desk>,
    pub(super) coordinator: Arc<Coordinator>,
    pub(super) positions: Arc<Positions>,
    pub(super) outcomes: Arc<Outcomes>,
    pub(super) history: Arc<History>,
    /// Held for reading while an acknowledgement is taken in, and so while a checkpoint is committed; a new generation holds it for
    /// writing while it chooses what to restore: nothing of the old one becomes complete after that.
    pub(super) gate: Arc<RwLock<()>>,
    pub(super) env: Env,
}

#[async_trait]
impl Calls for Service {
    fn admits(&self, pass: &Pass) -> Result<()> {
        self.desk.check(pass)
    }

    async fn work(self: Arc<Self>, mut said: Streaming<Bytes>) -> Result<Told> {
        let first = tokio::select! {
            first = said.message() => first.map_err(|status| from_status(&status))?,
            () = self.env.runtime.sleep(REGISTER_TIMEOUT) => None,
        };
        let Some(Say::Register { pass, name, data_address }) = first.map(|bytes| Say::decode(&bytes)).transpose()?
        else {
            return Err(Error::invalid("register a worker", "its first word is not who it is"));
        };
        let Seat { pass, number, told, over } = self.desk.register(pass, name, data_address)?;
        let service = self.clone();
        self.env.runtime.spawn(Box::pin(async move {
            tokio::select! {
                why = service.listen(&pass, number, &mut said) => service.desk.lost(&pass, number, &why),
                _ = over => {}
            }
        }));
        let told = futures::stream::unfold(told, |mut told| async move { told.recv().await.map(|next| (next, told)) });
        Ok(told.map(Ok).boxed())
    }

    async fn acknowledge(&self, bytes: Bytes) -> Result<()> {
        let job = self.coordinator.layout().job().clone();
        let read = self.env.blocking(move || Acknowledgement::decode(&job, &bytes)).await?;
        let Acknowledgement { pass, handle, sources } = read?;
        if handle.subtask.index != pass.worker {
            return Err(Error::invalid(
                "acknowledge a checkpoint",
                format!("worker {} has not this part", pass.worker),
            )
            .with_object(&handle.subtask));
        }
        let gate = self.gate.clone().read_owned().await;
        // From here until the gate is free again no new generation begins.
        self.desk.check(&pass)?;
        let (coordinator, positions) = (self.coordinator.clone(), self.positions.clone());
        self.history.acknowledged(handle.checkpoint, handle.stats);
        let (checkpoint, outcomes, history) = (handle.checkpoint, self.outcomes.clone(), self.history.clone());
        let (answer, answered) = tokio::sync::oneshot::channel();
        // Not in this call, which ends with the worker's connection: a commit comes to its end.
        self.env.runtime.spawn(Box::pin(async move {
            let noted = match handle.epoch == coordinator.epoch() {
                true => positions.add(&coordinator, &handle, sources),
                false => Ok(()),
            };
            let acknowledged = match noted {
                Ok(()) => coordinator.acknowledge(handle).await,
                Err(error) => {
                    coordinator.abort(handle.checkpoint, error.message());
                    Err(error)
                }
            };
            // Of a savepoint: the tenure goes on, and nobody else tells those who wait for it.
            if let Err(error) = &acknowledged
                && error.kind() == ErrorKind::OutcomeUnknown
                && coordinator.over().is_none()
            {
                history.aborted(checkpoint, error.message());
                outcomes.note(checkpoint, Outcome::Unknown(error.message().to_owned()));
            }
            drop(gate);
            // Nobody waits, if the worker is gone.
            let _ = answer.send(acknowledged.map(|_| ()));
        }));
        let gone = || Error::new(ErrorKind::Internal, "acknowledge a checkpoint", "it came to no end");
        answered.await.map_err(|_| gone())?
    }

    async fn decline(&self, bytes: Bytes) -> Result<()> {
        let Decline { pass, checkpoint, operator, reason } = Decline::decode(&bytes)?;
        let _gate = self.gate.read().await;
        self.desk.check(&pass)?;
        self.coordinator.decline(checkpoint, &SubtaskName { operator, index: pass.worker }, &reason);
        Ok(())
    }

    async fn place(&self, bytes: Bytes) -> Result<Bytes> {
        let Place { pass, request } = Place::decode(&bytes)?;
        self.desk.check(&pass)?;
        let (epoch, _, checkpoint) = request.trigger;
        if epoch != self.coordinator.epoch() {
            let message = format!("epoch {epoch}, which triggered it, is over");
            return Err(Error::new(ErrorKind::Cancelled, "begin an upload", message).with_object(checkpoint));
        }
        let placed = match self.coordinator.broker().place(request).await? {
            Placement::Stored(object) => Placed { object, ticket: None },
            Placement::Upload(ticket) => {
                let object = ticket.object().clone();
                Placed { object, ticket: Some(self.desk.keep_ticket(&pass, checkpoint, ticket)?) }
            }
        };
        Ok(placed.encode())
    }

    async fn end_upload(&self, bytes: Bytes) -> Result<()> {
        let EndUpload { pass, ticket, is_durable } = EndUpload::decode(&bytes)?;
        match self.desk.take_ticket(&pass, ticket)? {
            Some(ticket) if is_durable => ticket.completed().await,
            None if is_durable => {
                Err(Error::new(ErrorKind::Cancelled, "end an upload", "the checkpoint that it is for has ended"))
            }
            _ => Ok(()),
        }
    }
}

impl Service {
    /// Listens until the worker is gone or says what it may not. Returns why.
    async fn listen(&self, pass: &Pass, seat: u64, said: &mut Streaming<Bytes>) -> String {
        loop {
            let word = match said.message().await {
                Ok(Some(bytes)) => Say::decode(&bytes),
                Ok(None) => return format!("{CONNECTION} ended"),
                Err(status) => {
                    tracing::debug!(worker = pass.worker, %status, "a worker's connection broke");
                    return format!("{CONNECTION} broke");
                }
            };
            let heard = match word {
                Ok(Say::Heartbeat { generation, heartbeat }) => self.desk.heard(pass, seat, generation, heartbeat),
                Ok(Say::Finished) => {
                    self.desk.change(|run, now| run.finished(pass.worker, pass.generation, now));
                    Ok(())
                }
                Ok(Say::Epoch(epoch)) => self.desk.reached(pass, epoch),
                Ok(Say::Drained) => self.desk.drained(pass),
                Ok(Say::Restored(files)) => {
                    self.desk.moved_on(pass, |run, now| run.restored(pass.worker, pass.generation, files, now))
                }
                Ok(Say::Resumed) => self.desk.moved_on(pass, |run, now| run.resumed(pass.worker, pass.generation, now)),
                Ok(Say::Failed { why, damage, is_final }) => {
                    match damage {
                        Some(Damage::Wrong) => self.desk.damaged(pass),
                        Some(Damage::Missing) => self.desk.missed(pass),
                        None => {}
                    }
                    if is_final {
                        let why = shorten(&why);
                        let randomness = self.env.randomness.clone();
                        self.desk.change(|run, now| {
                            run.failed_for_good(pass.worker, pass.generation, &why, now, &*randomness)
                        });
                    }
                    return why;
                }
                Ok(Say::Register { .. }) => Err(Error::invalid("hear a worker", "it registers twice")),
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                return error.to_string();
            }
        }
    }
}
