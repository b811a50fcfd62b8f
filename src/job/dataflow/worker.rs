//! A worker of a dataflow, from its start to its end.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use timely::dataflow::{ProbeHandle, Scope};
use timely::scheduling::Activator;
use timely::worker::Worker;

use super::control::CheckpointControl;
use crate::error::{Error, ErrorKind, Result};

/// How often a worker that is told nothing looks whether the job has failed: a worker that died tells nobody.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the sources and stateful operators of one dataflow on one worker share. [`run_worker`] makes it.
#[derive(Clone)]
pub struct Checkpoints {
    pub(super) control: Arc<dyn CheckpointControl>,
    /// How far the slowest of the stateful operators is: sources wait for that.
    pub(super) probe: ProbeHandle<u64>,
    /// Operators to be activated again, and how long that may take. Each at most once a step.
    asleep: Rc<RefCell<Vec<(Activator, Duration)>>>,
    sources: Rc<RefCell<Sources>>,
}

/// The sources of one worker.
#[derive(Default)]
struct Sources {
    /// How many there are.
    count: usize,
    /// Those that have no more records.
    drained: Vec<String>,
}

impl Checkpoints {
    fn new(control: Arc<dyn CheckpointControl>) -> Self {
        Self { control, probe: ProbeHandle::new(), asleep: Rc::default(), sources: Rc::default() }
    }

    /// There is one more source on this worker.
    pub(super) fn add_source(&self) {
        self.sources.borrow_mut().count += 1;
    }

    /// A source has no more records on this worker. The control is told when none has: it knows of sources only what it
    /// was told, and would take the first one's end for that of all.
    pub(super) fn note_drained(&self, source: &str, worker: usize, workers: usize) {
        let mut sources = self.sources.borrow_mut();
        sources.drained.push(source.to_owned());
        if sources.drained.len() == sources.count {
            sources.drained.iter().for_each(|source| self.control.note_drained(source, worker, workers));
        }
    }

    /// Through which operators learn of checkpoints.
    pub fn control(&self) -> &Arc<dyn CheckpointControl> {
        &self.control
    }

    /// Has an operator activated again after `pause`, or earlier if the worker has other work. Not timely's own
    /// `activate_after`: an operator that others wake, too, would have one more timer each time, for ever.
    pub(super) fn sleep(&self, operator: &Activator, pause: Duration) {
        if pause.is_zero() {
            operator.activate();
        } else {
            self.asleep.borrow_mut().push((operator.clone(), pause));
        }
    }

    /// One step of the worker, or a pause if there is nothing to do.
    fn step(&self, worker: &mut Worker) {
        let pause = self.asleep.borrow().iter().map(|(_, pause)| *pause).min();
        worker.step_or_park(Some(pause.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)));
        self.asleep.borrow_mut().drain(..).for_each(|(operator, _)| operator.activate());
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").field("control", &self.control).finish_non_exhaustive()
    }
}

/// Builds a dataflow on a worker and runs it to its end, or until any worker of the job has failed. Then everything
/// this worker has is dropped where it stands: the next run begins with the newest complete checkpoint.
///
/// It never fails itself: what `build` or an operator fails with, or a panic, is told to the control.
pub fn run_worker(
    worker: &mut Worker,
    control: Arc<dyn CheckpointControl>,
    build: impl FnOnce(Scope<'_, u64>, &Checkpoints) -> Result<()>,
) {
    let _tells = TellsOfPanic { control: control.clone(), worker: worker.index() };
    let checkpoints = Checkpoints::new(control.clone());
    if let Err(error) = worker.dataflow::<u64, _, _>(|scope| build(scope, &checkpoints)) {
        control.fail(error);
    }
    while worker.has_dataflows() && !control.orders().has_failed {
        checkpoints.step(worker);
    }
    // Progress of a worker that died never comes, so no dataflow would end by itself.
    for dataflow in worker.installed_dataflows() {
        worker.drop_dataflow(dataflow);
    }
}

/// Without it the other workers would wait for this one for ever.
struct TellsOfPanic {
    control: Arc<dyn CheckpointControl>,
    worker: usize,
}

impl Drop for TellsOfPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            let message = format!("worker {} panicked", self.worker);
            self.control.fail(Error::new(ErrorKind::Internal, "run a dataflow", message));
        }
    }
}
