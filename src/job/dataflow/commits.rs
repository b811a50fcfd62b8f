//! A committer at work, beside its sink.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use timely::scheduling::SyncActivator;

use super::sink::{Committer, Transaction};
use crate::error::{Error, ErrorKind, Result};

const COMMIT: &str = "commit a transaction";

/// A committer and the thread that it works on, which begins with the first transaction. It has one part at a time: the
/// next one is taken from the state only when that is through, so no more than one is in memory.
///
/// The thread is no other than timely's own workers are, and ends before its worker does: once all workers of a run have
/// ended no commit of that run is under way, in the next run none meets its own repetition.
pub(super) struct Commits<C: Committer> {
    sink: String,
    /// Until there is anything to commit.
    idle: Option<C>,
    thread: Option<Thread<C::Output>>,
    /// Wakes the sink when a commit is through.
    waker: Option<SyncActivator>,
    under_way: Option<Transaction>,
}

struct Thread<T> {
    parts: SyncSender<(Transaction, Vec<T>)>,
    outcomes: Receiver<Result<()>>,
    handle: JoinHandle<()>,
}

impl<C: Committer> Commits<C> {
    pub(super) fn new(sink: &str, committer: C) -> Self {
        Self { sink: sink.to_owned(), idle: Some(committer), thread: None, waker: None, under_way: None }
    }

    pub(super) fn wake_by(&mut self, waker: SyncActivator) {
        self.waker = Some(waker);
    }

    /// Whether the next part may be handed over. Never again after a failure.
    pub(super) fn is_free(&self) -> bool {
        self.under_way.is_none()
    }

    /// Hands a part over, which [`Commits::is_free`] allows.
    pub(super) fn hand_over(&mut self, transaction: Transaction, outputs: Vec<C::Output>) -> Result<()> {
        if let Some(committer) = self.idle.take() {
            self.thread = Some(start(&self.sink, committer, self.waker.clone())?);
        }
        self.under_way = Some(transaction);
        // One that has panicked is found out by `committed`.
        self.thread.as_ref().map(|thread| thread.parts.send((transaction, outputs)));
        Ok(())
    }

    /// The transaction whose commit has come through, durably.
    pub(super) fn committed(&mut self) -> Result<Option<Transaction>> {
        let Some(thread) = &self.thread else { return Ok(None) };
        let failure = match thread.outcomes.try_recv() {
            Ok(Ok(())) => return Ok(self.under_way.take()),
            Err(TryRecvError::Empty) => return Ok(None),
            Ok(Err(error)) => error,
            Err(TryRecvError::Disconnected) => Error::new(ErrorKind::Internal, COMMIT, "the committer panicked"),
        };
        self.thread = None;
        Err(failure)
    }
}

fn start<C: Committer>(sink: &str, mut committer: C, waker: Option<SyncActivator>) -> Result<Thread<C::Output>> {
    let (parts, to_commit) = sync_channel::<(Transaction, Vec<C::Output>)>(1);
    let (answer, outcomes) = sync_channel(1);
    let work = move || {
        let wakes = WakesAtEnd(waker);
        // Gone before the sink is woken, should it panic.
        let answer = answer;
        for (transaction, outputs) in to_commit {
            if answer.send(committer.commit(transaction, outputs)).is_err() {
                return;
            }
            wakes.wake();
        }
    };
    let handle = thread::Builder::new()
        .name(format!("commits of {sink}"))
        .spawn(work)
        .map_err(|error| Error::io("start a committer's thread", sink, error))?;
    Ok(Thread { parts, outcomes, handle })
}

impl<C: Committer> Drop for Commits<C> {
    fn drop(&mut self) {
        if let Some(Thread { parts, handle, .. }) = self.thread.take() {
            drop(parts);
            // What a panic said it has said already.
            let _ = handle.join();
        }
    }
}

struct WakesAtEnd(Option<SyncActivator>);

impl WakesAtEnd {
    fn wake(&self) {
        // A worker that is gone needs no waking.
        self.0.as_ref().map(SyncActivator::activate);
    }
}

impl Drop for WakesAtEnd {
    fn drop(&mut self) {
        self.wake();
    }
}
