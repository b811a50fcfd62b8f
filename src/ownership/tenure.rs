//! One tenure: claim, look, commit, end.

use std::fmt;

use bytes::Bytes;
use parking_lot::Mutex;

use std::time::Duration;

use super::epochs::Epochs;
use super::view::JobView;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, CheckpointId, Epoch, JobLayout, Uid};
use crate::metadata::{Claim, ControlRecord, End, Start};
use crate::store::{Access, StorePath, StoreRef};

/// How often a commit's look is tried when the store answers it with a passing error. The checkpoint
/// is not complete before one of them succeeds; after the last the tenure ends.
pub const LOOK_ATTEMPTS: u32 = 4;
/// The wait before the second of these attempts, in milliseconds; it doubles each time.
const LOOK_FIRST_WAIT_MS: u64 = 50;

/// Why a tenure is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TenureEnd {
    /// A greater claim was seen; `None`: the own claim was gone, so a greater one was there (E2).
    Fenced(Option<Epoch>),
    /// A write that others act upon may or may not have landed (A2).
    OutcomeUnknown(String),
    /// It published its `end`, or tried to.
    Ended,
}

/// A coordinator's hold on a job, from its claim until it is fenced or gives up.
///
/// Shared between the coordinator's parts; every method takes `&self`.
pub struct Tenure {
    store: StoreRef,
    layout: JobLayout,
    env: Env,
    epoch: Epoch,
    state: Mutex<State>,
}

struct State {
    over: Option<TenureEnd>,
    /// No smaller id may be used.
    least_checkpoint: CheckpointId,
    /// No smaller id was in sight at the claim.
    unseen_checkpoint: CheckpointId,
}

/// What a claim yields.
#[derive(Debug)]
pub struct Claimed {
    /// The right to work.
    pub tenure: Tenure,
    /// What was adopted, and what else was there.
    pub view: JobView,
}

/// A checkpoint is complete: durable, and no greater claim was in sight afterwards. Whoever holds
/// one of these may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The checkpoint.
    pub folder: CheckpointFolder,
}

impl Tenure {
    /// Claims the job and starts a tenure (C1-C9). `holder` names host and process, for people.
    /// Fences whoever else runs.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if a greater claim is in sight; [`ErrorKind::Blocked`] if the newest
    /// start, or a list that counts, cannot be read, so that nobody knows what may be adopted;
    /// otherwise what the store says. After an error nothing of this claim is used again; if the error
    /// [may pass](Error::is_retryable), the job can simply be claimed again.
    pub async fn claim(store: StoreRef, layout: JobLayout, env: Env, holder: &str) -> Result<Claimed> {
        // C1 would take a store that does not know us for an empty one.
        store.probe(Access::Change).await?;
        let seen = Epochs::list(&*store, &layout).await?; // C1
        let epoch = Self::next_epoch(&seen, &layout, &env)?;
        Self::claim_as(epoch, store, layout, env, holder).await
    }

    /// An epoch that nobody has, greater than all in sight.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] when there are no greater numbers.
    pub(crate) fn next_epoch(seen: &Epochs, layout: &JobLayout, env: &Env) -> Result<Epoch> {
        let counter = seen.greatest().map_or(Some(1), |epoch| epoch.counter.checked_add(1)).ok_or_else(|| {
            Error::new(ErrorKind::LimitExceeded, "claim a job", "its epochs are used up").with_object(layout.root())
        })?;
        Ok(Epoch { counter, uid: Uid::random(&*env.randomness) })
    }

    /// C2-C9 under an epoch of [`Tenure::next_epoch`], once.
    ///
    /// # Errors
    /// As [`Tenure::claim`].
    pub(crate) async fn claim_as(
        epoch: Epoch,
        store: StoreRef,
        layout: JobLayout,
        env: Env,
        holder: &str,
    ) -> Result<Claimed> {
        let claim = Claim {
            epoch,
            job: layout.job().clone(),
            claimed_at_unix_ms: env.clock.unix_time_ms(),
            holder: holder.to_owned(),
        };
        store.put(&layout.claim(epoch)?, Bytes::from(claim.encode()?)).await.map_err(claim_again)?; // C2

        let none = CheckpointId(0);
        let state = Mutex::new(State { over: None, least_checkpoint: none, unseen_checkpoint: none });
        let tenure = Self { store, layout, env, epoch, state };
        tenure.look().await?; // C3
        let mut view = JobView::read_for_claim(&*tenure.store, &tenure.layout, epoch).await?; // C4-C7
        if let Some(blocker) = view.blocks_everything() {
            return Err(Error::new(ErrorKind::Blocked, "claim a job", &*blocker.reason)
                .with_object(&blocker.object)
                .with_advice("what counts cannot be known without it; put back a sound copy of the object"));
        }
        let start = Start {
            epoch,
            adopted: view.checkpoints.keys().copied().collect(),
            refs: view.refs.keys().copied().collect(),
            pins: view.pins.keys().copied().collect(),
        };
        {
            let mut state = tenure.state.lock();
            state.least_checkpoint = view.least_checkpoint();
            state.unseen_checkpoint = view.next_checkpoint();
        }
        tenure.store.put(&tenure.layout.start(epoch)?, Bytes::from(start.encode()?)).await.map_err(claim_again)?; // C8
        tenure.look().await?; // C9
        view.adopt_as(start);
        Ok(Claimed { tenure, view })
    }

    /// The epoch of this tenure, which its tags, folders and lists carry.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The job's layout.
    pub fn layout(&self) -> &JobLayout {
        &self.layout
    }

    /// The store.
    pub fn store(&self) -> &StoreRef {
        &self.store
    }

    /// The doors to time and randomness.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Why the tenure is over, if it is.
    pub fn over(&self) -> Option<TenureEnd> {
        self.state.lock().over.clone()
    }

    /// The smallest checkpoint id that this tenure may still use (I3, C9).
    pub fn least_checkpoint(&self) -> CheckpointId {
        self.state.lock().least_checkpoint
    }

    /// The smallest of these that no folder in sight had, either: what a new checkpoint is best called.
    pub fn next_checkpoint(&self) -> CheckpointId {
        let state = self.state.lock();
        state.least_checkpoint.max(state.unseen_checkpoint)
    }

    /// Fails if the tenure is known to be over. Asks the store nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`], [`ErrorKind::OutcomeUnknown`] or [`ErrorKind::Cancelled`], as it ended.
    pub fn check(&self) -> Result<()> {
        match &self.state.lock().over {
            None => Ok(()),
            Some(end) => Err(self.error_of(end)),
        }
    }

    /// Looks at the claims: `Ok` means that everything published before this call was published by
    /// the job's owner.
    ///
    /// Lists, then reads the own claim (E2): a list is not atomic, and a greater claim can be removed
    /// by an even greater one while it runs; but epochs are removed in increasing order (E1), so then
    /// ours is gone, too.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`]: the tenure is over. Any other error: the look could not be made, and
    /// nothing is allowed that depends on it; it may be tried again.
    pub async fn look(&self) -> Result<()> {
        self.check()?;
        let epochs = Epochs::list(&*self.store, &self.layout).await?;
        if let Some(greater) = epochs.above(self.epoch) {
            return Err(self.finish(TenureEnd::Fenced(Some(greater))));
        }
        match self.store.stat(&self.layout.claim(self.epoch)?).await {
            Ok(_) => self.check(),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(self.finish(TenureEnd::Fenced(None))),
            Err(error) => Err(error),
        }
    }

    /// Publishes a checkpoint's `_metadata` and looks (K3-K5). Every object it names must be durable.
    ///
    /// A write that fails, a look that cannot be made and a future that is dropped on the way all end
    /// the tenure: the checkpoint may count for a successor, so nothing of it may be deleted or used
    /// again by this one (4.2, 4.7).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the folder is not of this tenure or its id was already passed
    /// (the tenure goes on); [`ErrorKind::Fenced`] or [`ErrorKind::OutcomeUnknown`] (it is over).
    pub async fn commit(&self, folder: CheckpointFolder, metadata: Bytes) -> Result<Committed> {
        let path = self.layout.metadata(folder)?;
        self.take_id(folder).map_err(|error| error.with_object(folder))?;
        let mut unknown = UnknownUnlessDone { tenure: self, what: path.to_string(), done: false };
        self.store.put(&path, metadata).await.map_err(|error| {
            self.finish(TenureEnd::OutcomeUnknown(path.to_string()));
            let message = format!("its write failed ({}); outcome unknown", error.message());
            Error::new(ErrorKind::OutcomeUnknown, "commit a checkpoint", message)
                .with_object(&path)
                .with_advice("claim the job again: the new tenure finds out whether the checkpoint counts")
                .with_source(error)
        })?;
        self.look_for_commit(&path).await?;
        unknown.done = true;
        Ok(Committed { folder })
    }

    /// Publishes `end` and ends the tenure: the next coordinator need not wait for this one (4.8).
    ///
    /// # Errors
    /// The tenure was over already, or the write failed; it is over in either case.
    pub async fn end(&self) -> Result<()> {
        self.check()?;
        self.finish(TenureEnd::Ended);
        let record = End { epoch: self.epoch };
        self.store.put(&self.layout.end(self.epoch)?, Bytes::from(record.encode()?)).await
    }

    /// Every id is committed at most once a tenure, and ids grow, so that of all checkpoints with one
    /// id at most one is ever complete (I3).
    fn take_id(&self, folder: CheckpointFolder) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(end) = &state.over {
            return Err(self.error_of(end));
        }
        if folder.epoch != self.epoch {
            return Err(Error::invalid("commit a checkpoint", format!("this tenure's epoch is {}", self.epoch)));
        }
        if folder.checkpoint < state.least_checkpoint {
            let message = format!("ids below {} are taken", state.least_checkpoint);
            return Err(Error::invalid("commit a checkpoint", message));
        }
        let next =
            folder.checkpoint.0.checked_add(1).ok_or_else(|| {
                Error::new(ErrorKind::LimitExceeded, "commit a checkpoint", "checkpoint ids are used up")
            })?;
        state.least_checkpoint = CheckpointId(next);
        Ok(())
    }

    async fn look_for_commit(&self, path: &StorePath) -> Result<()> {
        let mut wait_ms = LOOK_FIRST_WAIT_MS;
        for attempt in 1..=LOOK_ATTEMPTS {
            let error = match self.look().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.kind() == ErrorKind::Fenced {
                return Err(Error::new(
                    ErrorKind::Fenced,
                    "commit a checkpoint",
                    "outcome unknown: ".to_owned() + error.message(),
                )
                .with_object(path)
                .with_advice("the successor decides whether the checkpoint counts"));
            }
            if attempt == LOOK_ATTEMPTS || !error.is_retryable() {
                self.finish(TenureEnd::OutcomeUnknown(path.to_string()));
                let message = format!("it is written, but the claims could not be read ({})", error.message());
                return Err(Error::new(ErrorKind::OutcomeUnknown, "commit a checkpoint", message)
                    .with_object(path)
                    .with_advice("claim the job again: the new tenure finds out whether the checkpoint counts")
                    .with_source(error));
            }
            self.env.runtime.sleep(Duration::from_millis(wait_ms)).await;
            wait_ms *= 2;
        }
        Err(Error::new(ErrorKind::Internal, "commit a checkpoint", "no look was made"))
    }

    /// Ends the tenure (the first reason stays) and returns the error that says so.
    fn finish(&self, end: TenureEnd) -> Error {
        let mut state = self.state.lock();
        let end = state.over.get_or_insert(end);
        self.error_of(end)
    }

    fn error_of(&self, end: &TenureEnd) -> Error {
        let (kind, message) = match end {
            TenureEnd::Fenced(Some(greater)) => (ErrorKind::Fenced, format!("epoch {greater} has claimed the job")),
            TenureEnd::Fenced(None) => (ErrorKind::Fenced, "a later owner has removed this tenure's claim".to_owned()),
            TenureEnd::OutcomeUnknown(what) => {
                (ErrorKind::OutcomeUnknown, format!("the outcome of writing {what} is unknown, so the tenure is over"))
            }
            TenureEnd::Ended => (ErrorKind::Cancelled, "the tenure has ended".to_owned()),
        };
        Error::new(kind, "act as the job's owner", message)
            .with_object(format!("{} (epoch {})", self.layout.root(), self.epoch))
            .with_advice("claim the job again to go on")
    }
}

/// This claim is over, since what failed may land later; the next one has a name of its own.
fn claim_again(error: Error) -> Error {
    match error.is_retryable() {
        true => error.with_advice("claim the job again once the store answers; this claim is given up"),
        false => error,
    }
}

/// A commit whose future is dropped between its write and its look has an unknown outcome.
struct UnknownUnlessDone<'a> {
    tenure: &'a Tenure,
    what: String,
    done: bool,
}

impl Drop for UnknownUnlessDone<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.tenure.finish(TenureEnd::OutcomeUnknown(std::mem::take(&mut self.what)));
        }
    }
}

impl fmt::Debug for Tenure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tenure({} epoch {}, over: {:?})", self.layout.root(), self.epoch, self.over())
    }
}
