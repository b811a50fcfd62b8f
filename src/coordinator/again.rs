//! Claiming a job again, in the process whose tenure is over (M4, M5 of `docs/protocol.md`).
//!
//! The new tenure decides what nobody knew: a checkpoint of unknown outcome counts if its `start` adopted it,
//! and will never count otherwise. So listeners hear of each such checkpoint here, once, and the subtasks go
//! on with the state and the uploaders that they have.

use std::collections::{BTreeMap, BTreeSet};

use super::core::{Coordinator, State};
use super::pending::Pending;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId, Epoch};
use crate::ownership::{Epochs, Tenure, TenureEnd};

const CLAIM_AGAIN: &str = "claim a job again";
/// Why a checkpoint came to nothing.
const OVER: &str = "the tenure that took it is over";

/// What a coordinator knows of those after it.
#[derive(Debug, Default)]
pub(super) struct Succession {
    /// Epochs that this process claimed and gave up half-way; they never act.
    tried: BTreeSet<Epoch>,
    /// The epoch of the coordinator that goes on.
    successor: Option<Epoch>,
    /// It ended its tenure itself because it could not go on.
    pub(super) is_broken: bool,
}

/// A job that was claimed again.
#[derive(Debug)]
pub struct ClaimedAgain {
    /// Goes on, with the operators, options and listeners of the one before. Its subtasks' uploads need its
    /// broker.
    pub coordinator: Coordinator,
    /// Another owner took checkpoints meanwhile: the job's state is theirs, so restore the tasks from
    /// [`Coordinator::latest`] before the next trigger. Otherwise the tasks go on as they are.
    pub restore_first: bool,
}

impl Coordinator {
    /// Claims the job again once this coordinator's tenure is over. Refused if another owner may be alive: each
    /// would fence the other for ever.
    ///
    /// Listeners hear, before this returns and once: `complete` or `aborted` of each checkpoint whose outcome
    /// was unknown, `aborted` of those that were in flight, `subsumed` of complete ones that another owner
    /// dropped.
    ///
    /// Waits for a commit or a pin that this coordinator is at; deletes of a list in hand go on as a stalled owner's
    /// would (I4). May be tried again after an error.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the tenure is not over, or the job was claimed again already;
    /// [`ErrorKind::Fenced`] if an epoch that has not ended is above this one: nothing is claimed then, and
    /// when that has ended it may be tried again. Otherwise as [`Coordinator::start`].
    pub async fn claim_again(&self) -> Result<ClaimedAgain> {
        // Nothing is committed under the first, so what is undecided is all there.
        let _no_commit = self.commits.lock().await;
        let _no_plan = self.plans.lock().await;
        let refuse = |why: &str| Err(Error::invalid(CLAIM_AGAIN, why).with_object(self.layout.root()));
        if self.tenure.over().is_none() {
            return refuse("the tenure is not over");
        }
        if let Some(successor) = self.state.lock().succession.successor {
            return refuse(&format!("epoch {successor} goes on already"));
        }
        let epoch = self.next_epoch().await?;
        let (store, env) = (self.store.clone(), self.env.clone());
        let claimed =
            Tenure::claim_as(epoch, store.clone(), self.layout.clone(), env.clone(), &self.options.holder).await?;
        let adopted: BTreeSet<CheckpointFolder> = claimed.view.checkpoints.keys().copied().collect();
        let operators = self.state.lock().operators.clone();
        let (options, listeners) = (self.options.clone(), self.listeners.clone());
        let next = Self::begin_tenure(store, env, options, listeners, operators, claimed).await?;
        self.hand_over(&next, &adopted);
        // Those of earlier epochs were all adopted by this tenure's own start, or never counted; which of them
        // it meant to drop since, the store need not show.
        let restore_first = adopted.iter().any(|folder| folder.epoch > self.tenure.epoch());
        tracing::info!(job = %self.layout.job(), %epoch, restore_first, "the job was claimed again");
        Ok(ClaimedAgain { coordinator: next, restore_first })
    }

    /// The epoch of the owner above this one that may be alive, if there is one.
    ///
    /// # Errors
    /// What the store says of listing the claims.
    pub(super) async fn living_above(&self) -> Result<Option<Epoch>> {
        let seen = Epochs::list(&*self.store, &self.layout).await?;
        let state = self.state.lock();
        Ok(seen.living_above(self.tenure.epoch(), |epoch| state.succession.tried.contains(&epoch)))
    }

    /// Whether the tenure ended because its engine said so.
    pub(super) fn was_ended(&self) -> bool {
        self.tenure.over() == Some(TenureEnd::Ended) && !self.state.lock().succession.is_broken
    }

    async fn next_epoch(&self) -> Result<Epoch> {
        let seen = Epochs::list(&*self.store, &self.layout).await?;
        let mut state = self.state.lock();
        let tried = &mut state.succession.tried;
        if let Some(other) = seen.living_above(self.tenure.epoch(), |epoch| tried.contains(&epoch)) {
            return Err(Error::new(ErrorKind::Fenced, CLAIM_AGAIN, format!("epoch {other} may be alive"))
                .with_object(self.layout.root())
                .with_advice("try again when it has ended, or stop: another owner runs the job"));
        }
        let epoch = Tenure::next_epoch(&seen, &self.layout, &self.env)?;
        // Noted first: whatever becomes of the claim, it is no stranger's.
        tried.insert(epoch);
        Ok(epoch)
    }

    /// What went on goes on, and listeners hear what became of everything that this tenure left open, in the
    /// order of its numbers.
    fn hand_over(&self, next: &Self, adopted: &BTreeSet<CheckpointFolder>) {
        let (open, dropped) = {
            let (mut old, mut new) = (self.state.lock(), next.state.lock());
            old.succession.successor = Some(next.epoch());
            // A process uses a number once, whatever became of the checkpoint.
            new.next_id = new.next_id.max(old.next_id);
            new.least_id = new.least_id.max(old.least_id);
            new.generation = old.generation;
            new.failures_in_a_row = old.failures_in_a_row;
            (new.last_trigger, new.last_end) = (old.last_trigger, old.last_end);
            (take_open(&mut old), dropped_meanwhile(&old, adopted))
        };
        for (checkpoint, open) in open {
            match open {
                Open::InFlight(pending) => self.given_up(checkpoint, &pending, OVER, false),
                Open::Undecided(folder) if adopted.contains(&folder) => {
                    tracing::info!(job = %self.layout.job(), %folder, "checkpoint complete: the new tenure adopted it");
                    self.listeners.iter().for_each(|listener| listener.complete(folder));
                }
                Open::Undecided(folder) => {
                    tracing::info!(job = %self.layout.job(), %folder, "checkpoint aborted: it does not count");
                    self.listeners.iter().for_each(|listener| listener.aborted(checkpoint, OVER));
                }
            }
        }
        for folder in dropped {
            self.listeners.iter().for_each(|listener| listener.subsumed(folder));
        }
    }
}

/// A checkpoint that neither was complete nor had been given up when the tenure was over.
enum Open {
    InFlight(Box<Pending>),
    Undecided(CheckpointFolder),
}

/// Takes them all, so that nobody hears of one twice. A savepoint that waits for its commit stays: the
/// error of its acknowledgement says what there is to say.
fn take_open(state: &mut State) -> BTreeMap<CheckpointId, Open> {
    let in_flight = std::mem::take(&mut state.pending).into_iter();
    let mut open: BTreeMap<_, _> = in_flight.map(|(id, pending)| (id, Open::InFlight(Box::new(pending)))).collect();
    // Nothing is committed under the lock, so those that wait for it only have their error to come.
    let waiting: Vec<CheckpointFolder> = state.committing.values().filter_map(|waiting| waiting.folder).collect();
    state.committing.retain(|_, waiting| waiting.folder.is_none());
    let undecided = std::mem::take(&mut state.undecided).into_iter().chain(waiting);
    open.extend(undecided.map(|folder| (folder.checkpoint, Open::Undecided(folder))));
    open
}

/// Complete ones that another owner dropped.
fn dropped_meanwhile(state: &State, adopted: &BTreeSet<CheckpointFolder>) -> Vec<CheckpointFolder> {
    state.completed.keys().filter(|folder| !adopted.contains(folder)).copied().collect()
}
