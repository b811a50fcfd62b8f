//! A query as a job: NEXMark's events in, and what the query says of them into a place that outlives every run.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use icecore::Result;
use icecore::job::dataflow::{Checkpoints, Committer, Transaction, sink, source};
use parking_lot::Mutex;
use timely::dataflow::Scope;

use crate::local_job::{Dataflow, Start};
use crate::queries::{Query, Tasks};
use crate::source::{Events, SOURCE};

const RESULTS: &str = "results";

/// What was committed, by transaction.
pub struct Results<T>(Arc<Mutex<BTreeMap<Transaction, Vec<T>>>>);

impl<T: Clone + Ord> Results<T> {
    /// All of it, in order.
    pub fn all(&self) -> Vec<T> {
        let mut all: Vec<T> = self.0.lock().values().flatten().cloned().collect();
        all.sort_unstable();
        all
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }
}

/// The dataflow of a query.
pub struct QueryJob<Q: Query> {
    pub events: Events,
    pub results: Results<Q::Output>,
    query: PhantomData<fn() -> Q>,
}

impl<Q: Query> QueryJob<Q> {
    /// The query over the first `end` events.
    pub fn new(end: u64) -> Self {
        Self { events: Events::new(end), results: Results(Arc::default()), query: PhantomData }
    }
}

impl<Q: Query> Dataflow for QueryJob<Q> {
    fn operators(&self) -> Vec<&'static str> {
        Q::OPERATORS.iter().copied().chain([RESULTS]).collect()
    }

    fn build(&self, scope: Scope<'_, u64>, start: Start, checkpoints: &Checkpoints) -> Result<()> {
        let splits = self.events.splits(start.worker, start.workers, &start.positions)?;
        let mut tasks = Tasks::new(start.tasks);
        let events = source(scope, SOURCE, splits, checkpoints);
        let results = Q::build(events, &mut tasks, checkpoints)?;
        let outlet = Outlet::<Q>(self.results.0.clone());
        sink(results, RESULTS, outlet, tasks.take(RESULTS)?, start.restored, checkpoints)
    }
}

struct Outlet<Q: Query>(Arc<Mutex<BTreeMap<Transaction, Vec<Q::Output>>>>);

impl<Q: Query> Committer for Outlet<Q> {
    type Output = Q::Output;
    type Key = u64;

    fn key(output: &Q::Output) -> u64 {
        Q::key(output)
    }

    fn commit(&mut self, transaction: Transaction, outputs: Vec<Q::Output>) -> Result<()> {
        // By its name: one that comes again after a crash is the same.
        self.0.lock().insert(transaction, outputs);
        Ok(())
    }
}
