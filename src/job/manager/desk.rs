//! Where workers report: who is here, what they are told, and what the life of the job asks for next.
//!
//! One lock, held for moments. Nothing is awaited under it, and no coordinator or registry is called: what a worker that is gone
//! leaves behind (the duty to upload something) is dropped after it is let go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::epochs::Epochs;
use super::plan::Admission;
use super::session::{Seat, Session};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::job::liveness::Heartbeat;
use crate::job::run::{Action, Ending, JobRun, Phase};
use crate::job::wire::{Pass, Tell, shorten};
use crate::layout::CheckpointId;
use crate::snapshot::{Trigger, UploadTicket};
use crate::store::StorePath;

const REGISTER: &str = "register a worker";
const HEAR: &str = "hear a worker";
const TELL: &str = "tell a worker";
const TRIGGER: &str = "trigger a checkpoint";
/// How many messages may wait for one worker: one that does not read them has failed.
pub const MAX_WAITING_MESSAGES: usize = 256;
/// How many changes of the workers may wait to be carried out.
const MAX_WAITING_ACTIONS: usize = 64;

pub(super) struct Desk {
    env: Env,
    state: Mutex<State>,
    /// Something is to be carried out.
    pub(super) changed: Notify,
}

struct State {
    run: JobRun,
    /// Who may register; `None`: nobody.
    admission: Option<Admission>,
    sessions: BTreeMap<u32, Session>,
    /// Those of the generation's dataflow.
    epochs: Epochs,
    /// The newest checkpoint that was handed out.
    newest_trigger: Option<CheckpointId>,
    /// The generation's sources have been told that no checkpoint comes any more, and do not say where they stand.
    is_closed: bool,
    /// What workers could not restore because it is damaged.
    damaged: BTreeSet<StorePath>,
    /// What workers have missed something of, which may be there all the same.
    missed: BTreeSet<StorePath>,
    next_seat: u64,
    next_ticket: u64,
    actions: VecDeque<Action>,
}

impl Desk {
    pub(super) fn new(env: Env, run: JobRun, actions: Vec<Action>) -> Self {
        let state = State {
            run,
            admission: None,
            sessions: BTreeMap::new(),
            epochs: Epochs::new(),
            newest_trigger: None,
            is_closed: false,
            damaged: BTreeSet::new(),
            missed: BTreeSet::new(),
            next_seat: 0,
            next_ticket: 0,
            actions: actions.into(),
        };
        Self { env, state: Mutex::new(state), changed: Notify::new() }
    }

    fn now(&self) -> Duration {
        self.env.clock.monotonic()
    }

    /// Changes the run. Workers of a generation that is over are out from this moment on, and told so.
    pub(super) fn change(&self, change: impl FnOnce(&mut JobRun, Duration) -> Vec<Action>) {
        let gone = {
            let mut state = self.state.lock();
            let actions = change(&mut state.run, self.now());
            state.take_in(actions)
        };
        // What they held is given up here, without the lock.
        drop(gone);
        self.changed.notify_one();
    }

    /// What is to be carried out next.
    pub(super) fn next_action(&self) -> Option<Action> {
        self.state.lock().actions.pop_front()
    }

    /// # Errors
    /// [`ErrorKind::LimitExceeded`] if the workers change faster than that can be carried out.
    pub(super) fn check_room(&self) -> Result<()> {
        let waiting = self.state.lock().actions.len();
        if waiting < MAX_WAITING_ACTIONS {
            return Ok(());
        }
        let message = format!("{waiting} changes of its workers wait to be carried out");
        Err(Error::new(ErrorKind::LimitExceeded, "change a job's workers", message).with_advice("try again later"))
    }

    /// Reads what is known.
    pub(super) fn read<T>(&self, read: impl FnOnce(&JobRun, &BTreeMap<u32, Session>) -> T) -> T {
        let state = self.state.lock();
        read(&state.run, &state.sessions)
    }

    /// Lets the workers of a generation register, if it is still the one that runs.
    pub(super) fn admit(&self, admission: Admission) -> bool {
        let mut state = self.state.lock();
        let is_current =
            admission.generation == state.run.generation() && matches!(state.run.phase(), Phase::Starting { .. });
        if is_current {
            state.admission = Some(admission);
            state.epochs = Epochs::new();
            state.is_closed = false;
        }
        is_current
    }

    /// A worker reports. The last one of its generation brings the deployment to all.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] for one that does not belong to the generation that starts.
    pub(super) fn register(&self, pass: Pass, name: String, data_address: String) -> Result<Seat> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.check_admitted(&pass, REGISTER)?;
        if !state.run.registered(pass.worker, pass.generation, self.now()) {
            return Err(Error::new(ErrorKind::Fenced, REGISTER, "there is one of this number, or it is not awaited")
                .with_object(format!("worker {} of generation {}", pass.worker, pass.generation)));
        }
        state.next_seat += 1;
        let (outbox, told) = mpsc::channel(MAX_WAITING_MESSAGES);
        let (alive, over) = oneshot::channel();
        tracing::info!(worker = pass.worker, generation = pass.generation, name, "worker registered");
        let session = Session::new(state.next_seat, name, data_address, outbox, alive);
        state.sessions.insert(pass.worker, session);
        let seat = Seat { pass, number: state.next_seat, told, over };
        let failed = state.deploy();
        drop(guard);
        self.fail_all(failed);
        Ok(seat)
    }

    /// A heartbeat; it is answered.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] for a worker of another generation, or one that was ended.
    pub(super) fn heard(&self, pass: &Pass, seat: u64, generation: u64, heartbeat: Heartbeat) -> Result<()> {
        let bytes = Tell::Heard.encode()?;
        let mut state = self.state.lock();
        state.check_admitted(pass, HEAR)?;
        let now = self.now();
        let is_known = state.run.heard(pass.worker, generation, heartbeat, now);
        let session = state.sessions.get_mut(&pass.worker).filter(|session| session.seat == seat);
        let Some(session) = session else {
            return Err(fenced(HEAR, pass, "its connection was given up"));
        };
        // One that has finished is watched no more, and is answered all the same.
        if generation != pass.generation {
            return Err(fenced(HEAR, pass, "its heartbeat is of another generation"));
        }
        if is_known {
            session.heartbeat = heartbeat;
        }
        // One answer more or less: a worker that reads none is told nothing else either, and fails by that.
        let _ = session.outbox.try_send(bytes);
        Ok(())
    }

    /// Whether a worker belongs to the generation that runs, and has registered.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] otherwise.
    pub(super) fn check(&self, pass: &Pass) -> Result<()> {
        let state = self.state.lock();
        state.check_admitted(pass, HEAR)?;
        if state.sessions.contains_key(&pass.worker) {
            return Ok(());
        }
        Err(fenced(HEAR, pass, "it has not registered"))
    }

    /// A worker's connection ended, or what it said cannot be understood.
    pub(super) fn lost(&self, pass: &Pass, seat: u64, why: &str) {
        let is_own = self.read(|_, sessions| sessions.get(&pass.worker).is_some_and(|session| session.seat == seat));
        if is_own {
            self.failed(pass.worker, pass.generation, why);
        }
    }

    /// A worker failed.
    pub(super) fn failed(&self, worker: u32, generation: u64, why: &str) {
        let randomness = self.env.randomness.clone();
        self.change(|run, now| run.failed(worker, generation, &shorten(why), now, &*randomness));
    }

    /// A generation cannot go on, through no single worker's fault.
    pub(super) fn interrupted(&self, generation: u64, why: &str) {
        let randomness = self.env.randomness.clone();
        self.change(|run, now| run.interrupted(generation, &shorten(why), now, &*randomness));
    }

    fn fail_all(&self, failed: Vec<(u32, u64, String)>) {
        for (worker, generation, why) in failed {
            self.failed(worker, generation, &why);
        }
    }

    /// Tells every worker that runs. One that does not read what it is told has failed.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] for a message that is too long: nobody is told.
    pub(super) fn tell_all(&self, tell: &Tell) -> Result<()> {
        let bytes = tell.encode()?;
        let failed = self.state.lock().tell_deployed(&bytes);
        self.fail_all(failed);
        Ok(())
    }

    /// Tells every worker that no checkpoint comes any more.
    ///
    /// # Errors
    /// As [`Desk::tell_all`].
    pub(super) fn close(&self) -> Result<()> {
        let bytes = Tell::Close.encode()?;
        let failed = {
            let mut state = self.state.lock();
            state.is_closed = true;
            state.tell_deployed(&bytes)
        };
        self.fail_all(failed);
        Ok(())
    }

    /// Hands a trigger to every worker: the last epoch of the dataflow ends with it.
    ///
    /// # Errors
    /// [`ErrorKind::Temporary`] if a later one was handed out before it, as numbers grow with epochs; as [`Desk::check_open`] and
    /// [`Desk::tell_all`].
    pub(super) fn hand_out(&self, trigger: Trigger) -> Result<()> {
        let failed = {
            let mut state = self.state.lock();
            state.check_turn(trigger.checkpoint)?;
            let mut epochs = state.epochs;
            let checkpoint = trigger.checkpoint;
            let bytes = Tell::Trigger { trigger, ends_epoch: epochs.end_last() }.encode()?;
            let then = Tell::Epochs(epochs.now()).encode()?;
            state.epochs = epochs;
            state.newest_trigger = Some(checkpoint);
            let mut failed = state.tell_deployed(&bytes);
            failed.extend(state.tell_deployed(&then));
            failed
        };
        self.fail_all(failed);
        Ok(())
    }

    /// A worker's dataflow has gone on to an epoch.
    ///
    /// # Errors
    /// As [`Desk::check`]; [`ErrorKind::InvalidInput`] for an epoch that it may not be in.
    pub(super) fn reached(&self, pass: &Pass, epoch: u64) -> Result<()> {
        let failed = {
            let mut state = self.state.lock();
            state.check_admitted(pass, HEAR)?;
            if !state.epochs.reached(epoch)? {
                return Ok(());
            }
            let bytes = Tell::Epochs(state.epochs.now()).encode()?;
            state.tell_deployed(&bytes)
        };
        self.fail_all(failed);
        Ok(())
    }

    /// A worker has come a step further on its way to its first record. `note` says whether that is news.
    ///
    /// # Errors
    /// As [`Desk::check`].
    pub(super) fn moved_on(&self, pass: &Pass, note: impl FnOnce(&mut JobRun, Duration) -> bool) -> Result<()> {
        let is_news = {
            let mut state = self.state.lock();
            state.check_admitted(pass, HEAR)?;
            note(&mut state.run, self.now())
        };
        if is_news {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// A worker has no more input.
    ///
    /// # Errors
    /// As [`Desk::check`].
    pub(super) fn drained(&self, pass: &Pass) -> Result<()> {
        let mut state = self.state.lock();
        state.check_admitted(pass, HEAR)?;
        if let Some(session) = state.sessions.get_mut(&pass.worker) {
            session.is_drained = true;
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Whether no worker has more input.
    pub(super) fn is_drained(&self) -> bool {
        self.state.lock().sessions.values().all(|session| session.is_drained)
    }

    /// What a worker was to restore is damaged.
    pub(super) fn damaged(&self, pass: &Pass) {
        let mut state = self.state.lock();
        // As many as there are checkpoints to fall back on.
        let restored = state.restored_by(pass);
        state.damaged.extend(restored);
    }

    /// A worker misses something of what it was to restore.
    pub(super) fn missed(&self, pass: &Pass) {
        let mut state = self.state.lock();
        let restored = state.restored_by(pass);
        state.missed.extend(restored);
    }

    /// What was missed since the last time.
    pub(super) fn take_missed(&self) -> BTreeSet<StorePath> {
        std::mem::take(&mut self.state.lock().missed)
    }

    /// What is in this folder is damaged, as was found out.
    pub(super) fn note_damage(&self, folder: StorePath) {
        self.state.lock().damaged.insert(folder);
    }

    /// What workers could not restore.
    pub(super) fn known_damage(&self) -> BTreeSet<StorePath> {
        self.state.lock().damaged.clone()
    }

    /// Whether a checkpoint can be taken: all workers have restored their state, and none has come to its end.
    pub(super) fn can_checkpoint(&self) -> bool {
        let state = self.state.lock();
        *state.run.phase() == Phase::Running && !state.run.has_finished_workers()
    }

    /// # Errors
    /// [`ErrorKind::Cancelled`] if the workers have been told that no checkpoint comes any more.
    pub(super) fn check_open(&self) -> Result<()> {
        self.state.lock().check_open()
    }

    /// Keeps a worker's duty to upload something, until it says how that ended, is gone, or the checkpoint ends.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if the worker is gone; [`ErrorKind::LimitExceeded`] if it has too many.
    pub(super) fn keep_ticket(
        &self,
        pass: &Pass,
        checkpoint: CheckpointId,
        ticket: Box<dyn UploadTicket>,
    ) -> Result<u64> {
        let mut state = self.state.lock();
        state.check_admitted(pass, TELL)?;
        state.next_ticket += 1;
        let number = state.next_ticket;
        let session = state.sessions.get_mut(&pass.worker).ok_or_else(|| fenced(TELL, pass, "it is gone"))?;
        let kept = session.keep(number, checkpoint, ticket);
        drop(state);
        // A ticket that was not kept is dropped here, without the lock.
        kept.map(|()| number).map_err(|(error, _ticket)| error)
    }

    /// Takes a duty back.
    pub(super) fn take_ticket(&self, pass: &Pass, number: u64) -> Result<Option<Box<dyn UploadTicket>>> {
        let mut state = self.state.lock();
        state.check_admitted(pass, HEAR)?;
        Ok(state.sessions.get_mut(&pass.worker).and_then(|session| session.tickets.remove(&number)).map(|held| held.1))
    }

    /// No duty of a checkpoint that ended is left.
    pub(super) fn forget(&self, checkpoint: CheckpointId) {
        let forgotten: Vec<_> = {
            let mut state = self.state.lock();
            state.sessions.values_mut().flat_map(|session| session.forget(checkpoint)).collect()
        };
        drop(forgotten);
    }

    /// What time asks for.
    pub(super) fn tick(&self) {
        let randomness = self.env.randomness.clone();
        self.change_quietly(|run, now| run.tick(now, &*randomness));
    }

    /// As [`Self::change`], for the one that carries actions out: it need not be woken.
    fn change_quietly(&self, change: impl FnOnce(&mut JobRun, Duration) -> Vec<Action>) {
        let gone = {
            let mut state = self.state.lock();
            let actions = change(&mut state.run, self.now());
            state.take_in(actions)
        };
        drop(gone);
    }
}

impl State {
    /// Queues what is to be carried out; what must hold at once is done here. Returns the workers that are out.
    fn take_in(&mut self, actions: Vec<Action>) -> Vec<Session> {
        let is_end = actions.iter().any(|action| matches!(action, Action::Over(Ending::Finished | Ending::Cancelled)));
        let mut gone = Vec::new();
        for action in &actions {
            let why = match action {
                Action::EndWorkers { why, .. } => why.clone(),
                Action::Over(ending) => ending.to_string(),
                Action::StartWorkers { .. } => continue,
            };
            self.admission = None;
            self.is_closed = false;
            let leave = Tell::Leave { why, is_end }.encode();
            for (_, session) in std::mem::take(&mut self.sessions) {
                if let Ok(leave) = &leave {
                    // Its connection ends in any case, and what it says is not heard any more.
                    let _ = session.outbox.try_send(leave.clone());
                }
                gone.push(session);
            }
        }
        self.actions.extend(actions);
        gone
    }

    fn check_open(&self) -> Result<()> {
        if self.is_closed { Err(comes_to_its_end("its last checkpoint is complete")) } else { Ok(()) }
    }

    fn check_turn(&self, checkpoint: CheckpointId) -> Result<()> {
        self.check_open()?;
        match self.newest_trigger {
            Some(newest) if newest >= checkpoint => {
                let message = format!("checkpoint {newest} was begun at the same moment");
                Err(Error::new(ErrorKind::Temporary, TRIGGER, message).with_object(checkpoint).with_advice("try again"))
            }
            _ => Ok(()),
        }
    }

    /// What a worker was to restore.
    fn restored_by(&self, pass: &Pass) -> Option<StorePath> {
        self.check_admitted(pass, HEAR).ok()?;
        self.admission.as_ref()?.restore.clone()
    }

    fn check_admitted(&self, pass: &Pass, operation: &'static str) -> Result<()> {
        let is_admitted = self
            .admission
            .as_ref()
            .is_some_and(|admission| admission.generation == pass.generation && admission.cookie == pass.cookie);
        if is_admitted {
            return Ok(());
        }
        Err(fenced(operation, pass, &format!("the job's workers are of generation {}", self.run.generation())))
    }

    /// Deploys, if all workers are here and were not deployed. Returns those that cannot be told.
    fn deploy(&mut self) -> Vec<(u32, u64, String)> {
        let Some(admission) = &self.admission else { return Vec::new() };
        if !matches!(self.run.phase(), Phase::Restoring { .. })
            || self.sessions.values().any(|session| session.is_deployed)
        {
            return Vec::new();
        }
        let peers: Vec<String> = self.sessions.values().map(|session| session.data_address.clone()).collect();
        let mut failed = Vec::new();
        for (worker, session) in &mut self.sessions {
            let told = admission.deployment(*worker, &peers).and_then(|deployment| Tell::Deploy(deployment).encode());
            let sent = told.and_then(|bytes| session.tell(bytes));
            let sent = sent.and_then(|()| session.tell(Tell::Epochs(self.epochs.now()).encode()?));
            session.is_deployed = true;
            if let Err(error) = sent {
                failed.push((*worker, admission.generation, error.to_string()));
            }
        }
        failed
    }

    fn tell_deployed(&mut self, bytes: &Bytes) -> Vec<(u32, u64, String)> {
        let generation = self.run.generation();
        let deployed = self.sessions.iter().filter(|(_, session)| session.is_deployed);
        let told = deployed.map(|(worker, session)| (*worker, session.tell(bytes.clone())));
        told.filter_map(|(worker, told)| Some((worker, generation, told.err()?.to_string()))).collect()
    }
}

pub(super) fn comes_to_its_end(why: &str) -> Error {
    Error::new(ErrorKind::Cancelled, TRIGGER, format!("the job comes to its end: {why}"))
        .with_advice("its last checkpoint has all: `icecore export latest` copies it")
}

fn fenced(operation: &'static str, pass: &Pass, why: &str) -> Error {
    Error::new(ErrorKind::Fenced, operation, why)
        .with_object(format!("worker {} of generation {}", pass.worker, pass.generation))
        .with_advice("it must leave")
}
