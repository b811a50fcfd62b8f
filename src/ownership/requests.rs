//! Requests of other processes to the living owner (4.8).
//!
//! A command that wants something changed does not touch the job: it leaves a request, addressed to
//! the epoch that owns the job now, and waits for the answer. No other owner ever acts on it, so a
//! command that gives up waiting and claims the job itself has withdrawn it by that claim. The
//! owner's sweep removes what is answered, and what was addressed to earlier epochs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::epochs::Epochs;
use super::reading::{is_missing, list_bounded, read_record};
use super::tenure::Tenure;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Epoch, JobLayout, Place, Uid};
use crate::metadata::{Answer, ControlRecord, Outcome, Request, RequestKind};
use crate::store::{Store, StorePath};

/// How long a command waits for an answer before it takes the job over, in milliseconds.
pub const DEFAULT_WAIT_MS: u64 = 30_000;
/// How often it looks for the answer, in milliseconds.
pub const POLL_INTERVAL_MS: u64 = 200;
/// How long an owner leaves an answer for its asker to read, in milliseconds of its own clock.
pub const ANSWER_KEPT_MS: u64 = 600_000;
/// The most requests and answers of one job that are looked at.
const MAX_REQUEST_OBJECTS: usize = 65_536;

/// A request that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The epoch it is addressed to.
    pub owner: Epoch,
    /// Its uid.
    pub uid: Uid,
}

/// Leaves a request for the job's living owner.
///
/// # Errors
/// [`ErrorKind::NotFound`] if no tenure is running (none began, or the last one has ended): claim the
/// job. Otherwise what the store says; the request may then be there all the same.
pub async fn ask(store: &dyn Store, layout: &JobLayout, env: &Env, kind: RequestKind, argument: &str) -> Result<Asked> {
    let owner = Epochs::list(store, layout).await?.living_owner().ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "ask a job's owner", "nobody runs the job")
            .with_object(layout.root())
            .with_advice("claim the job instead")
    })?;
    let uid = Uid::random(&*env.randomness);
    let created_at_unix_ms = env.clock.unix_time_ms();
    let request = Request { uid, kind, argument: argument.to_owned(), created_at_unix_ms };
    store.put(&layout.request(owner, uid)?, Bytes::from(request.encode()?)).await?;
    Ok(Asked { owner, uid })
}

/// Waits for the answer to a request, at most `wait`.
///
/// # Errors
/// [`ErrorKind::Cancelled`] if none came in time; [`ErrorKind::Fenced`] if the owner was superseded or
/// has ended, so that none will come. In both cases the owner may have done it, or be at it, until
/// the caller's own claim is visible. Otherwise what the store says.
pub async fn wait_for_answer(
    store: &dyn Store,
    layout: &JobLayout,
    env: &Env,
    asked: &Asked,
    wait: Duration,
) -> Result<Outcome> {
    let path = layout.answer(asked.owner, asked.uid)?;
    let deadline = env.clock.monotonic().saturating_add(wait);
    loop {
        let owner_is_there = Epochs::list(store, layout).await?.living_owner() == Some(asked.owner);
        // Read after the owner was looked for: an answer that came before its end is found.
        match read_record::<Answer>(store, &path).await {
            Ok(answer) if answer.uid == asked.uid => return Ok(answer.result),
            Ok(_) => return Err(Error::corrupt("read an answer", &path, "it answers another request")),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error),
        }
        if !owner_is_there {
            return Err(Error::new(ErrorKind::Fenced, "wait for the job's owner", "it ended before it answered")
                .with_object(layout.root())
                .with_advice("ask the new owner, or claim the job"));
        }
        let now = env.clock.monotonic();
        if now >= deadline {
            let message = format!("no answer within {} ms", wait.as_millis());
            return Err(Error::new(ErrorKind::Cancelled, "wait for the job's owner", message)
                .with_object(layout.root())
                .with_advice("claim the job with --take-over if its owner is dead"));
        }
        let pause = Duration::from_millis(POLL_INTERVAL_MS).min(deadline.saturating_sub(now));
        env.runtime.sleep(pause).await;
    }
}

/// The owner's side: what is asked of it, and which requests are done with.
#[derive(Debug, Default)]
pub struct Inbox {
    /// When each was answered; only those that are still listed.
    answered: Mutex<BTreeMap<Uid, Duration>>,
    /// What is done, and not answered yet.
    decided: Mutex<BTreeMap<Uid, Outcome>>,
}

impl Inbox {
    /// The requests to this tenure that are not answered yet, in order of their names. One that
    /// cannot be read is refused at once, so that its asker need not wait.
    ///
    /// # Errors
    /// What the store says of the listing or of writing a refusal.
    pub async fn pending(&self, tenure: &Tenure) -> Result<Vec<Request>> {
        let layout = tenure.layout();
        // Taken before the listing, in which each of them is unless it has been removed.
        let known: Vec<Uid> = self.answered.lock().keys().chain(self.decided.lock().keys()).copied().collect();
        let (mut asked, mut answered) = (BTreeSet::new(), BTreeSet::new());
        for object in list_bounded(&**tenure.store(), &layout.requests()?, MAX_REQUEST_OBJECTS).await? {
            match Place::of(layout, &object.path) {
                Some(Place::Request(epoch, uid)) if epoch == tenure.epoch() => {
                    asked.insert(uid);
                }
                Some(Place::Answer(epoch, uid)) if epoch == tenure.epoch() => {
                    answered.insert(uid);
                }
                _ => {}
            }
        }
        for gone in known.iter().filter(|uid| !asked.contains(uid) && !answered.contains(uid)) {
            self.answered.lock().remove(gone);
            self.decided.lock().remove(gone);
        }
        answered.extend(self.answered.lock().keys().copied());
        let mut requests = Vec::new();
        for uid in asked.difference(&answered) {
            let path = layout.request(tenure.epoch(), *uid)?;
            match read_record::<Request>(&**tenure.store(), &path).await {
                Ok(request) if request.uid == *uid => requests.push(request),
                Ok(_) => {
                    self.answer(tenure, *uid, Outcome::Refused("it is a copy of another request".to_owned())).await?
                }
                Err(error) if error.is_retryable() || is_missing(&error) => {}
                Err(error) => self.answer(tenure, *uid, Outcome::Refused(error.to_string())).await?,
            }
        }
        Ok(requests)
    }

    /// Remembers what became of a request until it is answered, so that it is not carried out again if
    /// its answer has to be tried again.
    pub fn decide(&self, uid: Uid, result: Outcome) {
        self.decided.lock().insert(uid, result);
    }

    /// What became of a request that is not answered yet, if it was carried out already.
    pub fn decided(&self, uid: Uid) -> Option<Outcome> {
        self.decided.lock().get(&uid).cloned()
    }

    /// Whether the request was answered.
    pub fn is_answered(&self, uid: Uid) -> bool {
        self.answered.lock().contains_key(&uid)
    }

    /// Answers a request, once: looks first, since a fenced owner has nothing to promise. What is
    /// answered was made durable before, and looked for, by what did it.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] if the tenure is over; otherwise what the store says. The request counts
    /// as answered then, too: the answer may be there, and a name is never written twice.
    pub async fn answer(&self, tenure: &Tenure, uid: Uid, result: Outcome) -> Result<()> {
        tenure.look().await?;
        let path = tenure.layout().answer(tenure.epoch(), uid)?;
        let bytes = Answer { uid, result }.encode()?;
        {
            let mut answered = self.answered.lock();
            if answered.contains_key(&uid) {
                return Err(Error::invalid("answer a request", "it was answered already").with_object(&path));
            }
            answered.insert(uid, tenure.env().clock.monotonic());
        }
        self.decided.lock().remove(&uid);
        tenure.store().put(&path, Bytes::from(bytes)).await
    }

    /// Requests and answers that have been there for [`ANSWER_KEPT_MS`] since they were answered: the
    /// sweep may remove them.
    ///
    /// # Errors
    /// None in practice; names are valid by construction.
    pub fn done(&self, tenure: &Tenure) -> Result<BTreeSet<StorePath>> {
        let now = tenure.env().clock.monotonic();
        let kept = Duration::from_millis(ANSWER_KEPT_MS);
        let mut done = BTreeSet::new();
        for (uid, at) in self.answered.lock().iter() {
            if now.saturating_sub(*at) >= kept {
                done.insert(tenure.layout().request(tenure.epoch(), *uid)?);
                done.insert(tenure.layout().answer(tenure.epoch(), *uid)?);
            }
        }
        Ok(done)
    }
}
