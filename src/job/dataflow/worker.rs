//! A worker of a dataflow, from its start to its end.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use timely::dataflow::{ProbeHandle, Scope};
use timely::scheduling::Activator;
use timely::worker::Worker;

use super::control::CheckpointControl;
use crate::error::{Error, ErrorKind, Result};

/// How often a worker that is told nothing looks whether the job has failed: a worker that died tells nobody.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// An operator, and until when it sleeps.
struct Sleeper {
    operator: Activator,
    until: Option<Instant>,
}

/// What the sources and stateful operators of one dataflow on one worker share. [`run_worker`] makes it.
#[derive(Clone)]
pub struct Checkpoints {
    pub(super) control: Arc<dyn CheckpointControl>,
    /// How far the slowest of the stateful operators is: sources wait for that.
    pub(super) probe: ProbeHandle<u64>,
    /// The operators that want to be activated again by themselves.
    sleepers: Rc<RefCell<Vec<Sleeper>>>,
}

impl Checkpoints {
    fn new(control: Arc<dyn CheckpointControl>) -> Self {
        Self { control, probe: ProbeHandle::new(), sleepers: Rc::default() }
    }

    /// Through which operators learn of checkpoints.
    pub fn control(&self) -> &Arc<dyn CheckpointControl> {
        &self.control
    }

    /// An operator that will sleep. Returns its number, for [`Self::sleep`].
    pub(super) fn add_sleeper(&self, operator: Activator) -> usize {
        let mut sleepers = self.sleepers.borrow_mut();
        sleepers.push(Sleeper { operator, until: None });
        sleepers.len() - 1
    }

    /// Has an operator activated again after `pause`, unless it asks for another one before. Not timely's own
    /// `activate_after`: an operator that others wake, too, would have one more timer each time, for ever.
    pub(super) fn sleep(&self, sleeper: usize, pause: Duration) {
        if let Some(sleeper) = self.sleepers.borrow_mut().get_mut(sleeper) {
            if pause.is_zero() {
                sleeper.until = None;
                sleeper.operator.activate();
            } else {
                sleeper.until = Some(Instant::now() + pause);
            }
        }
    }

    /// One step of the worker, or a pause if there is nothing to do.
    fn step(&self, worker: &mut Worker) {
        let now = Instant::now();
        let mut pause = LOOK_EVERY;
        for sleeper in self.sleepers.borrow_mut().iter_mut() {
            match sleeper.until {
                Some(until) if until <= now => {
                    sleeper.until = None;
                    sleeper.operator.activate();
                }
                Some(until) => pause = pause.min(until - now),
                None => {}
            }
        }
        worker.step_or_park(Some(pause));
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
        control.note_turn();
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
