//! The world outside, which sees a job's outputs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use icecore::job::dataflow::{Committer, Transaction};
use icecore::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use crate::gate::Gate;
use crate::support::Counted;

/// What becomes of a commit, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// As if the process died before anything was visible.
    Before,
    /// As if it died when all was, but nobody had heard of it.
    After,
    Panic,
}

/// What was committed, by transaction: it outlives every run.
#[derive(Default)]
pub struct Outside {
    pub committed: Mutex<BTreeMap<Transaction, Vec<Counted>>>,
    /// In the order of commits that had an effect for the first time.
    pub order: Mutex<Vec<Transaction>>,
    /// Commits that have begun.
    pub begun: AtomicU64,
    /// Transactions that came again.
    pub again: AtomicU64,
    /// Shut, no commit goes on.
    pub gate: Gate,
    pub mishap: Mutex<Option<Mishap>>,
    wrong: Mutex<Vec<Transaction>>,
}

impl Outside {
    /// All outputs, in order.
    pub fn outputs(&self) -> Vec<Counted> {
        let wrong = self.wrong.lock();
        assert!(wrong.is_empty(), "{wrong:?} came again with other outputs");
        let mut all: Vec<Counted> = self.committed.lock().values().flatten().copied().collect();
        all.sort_unstable();
        all
    }

    pub fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst) > 0
    }

    fn commit(&self, transaction: Transaction, outputs: Vec<Counted>) {
        let mut committed = self.committed.lock();
        match committed.get(&transaction) {
            None => self.order.lock().push(transaction),
            Some(before) => {
                self.again.fetch_add(1, Ordering::SeqCst);
                if *before != outputs {
                    self.wrong.lock().push(transaction);
                }
            }
        }
        committed.insert(transaction, outputs);
    }
}

pub struct Outlet(pub Arc<Outside>);

impl Committer for Outlet {
    type Output = Counted;
    type Key = u64;

    fn key((split, ..): &Counted) -> u64 {
        u64::from(*split)
    }

    fn commit(&mut self, transaction: Transaction, outputs: Vec<Counted>) -> Result<()> {
        self.0.begun.fetch_add(1, Ordering::SeqCst);
        self.0.gate.pass();
        let mishap = self.0.mishap.lock().take();
        assert_ne!(mishap, Some(Mishap::Panic), "the test lets it panic");
        if mishap != Some(Mishap::Before) {
            self.0.commit(transaction, outputs);
        }
        match mishap {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::OutcomeUnknown, "put out", "the test lets it fail")),
        }
    }
}
