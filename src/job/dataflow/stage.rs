//! What all stateful operators do: work off records epoch by epoch, and freeze their state between two epochs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, mpsc};

use timely::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::{Operator as _, OutputBuilderSession};
use timely::dataflow::operators::{Capability, Probe as _};
use timely::scheduling::SyncActivator;

use super::control::{CheckpointControl, Notification};
use super::stream::{DataStream, Element};
use super::watermark::{Watermarks, to_all};
use super::worker::Checkpoints;
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::KeyGroup;
use crate::layout::CheckpointId;
use crate::snapshot::{LocalSnapshot, Trigger};
use crate::task::{CheckpointedTask, Freeze};

const BUILD: &str = "build a dataflow";
/// After so many records and timers a worker has made a step, whether or not its loop has turned.
const WORK_A_STEP: u32 = 64;

/// How it is with what a stage does beside its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// There is nothing to do.
    Idle,
    /// It is under way; the operator must not end.
    UnderWay,
    /// It lags behind so far that no more records may be taken in until the stage wakes the operator.
    TooFarBehind,
}

/// What a kind of stateful operator adds.
pub(super) trait Stage: 'static {
    type Input: ExchangeData;
    type Output: Clone + 'static;

    /// Its state.
    fn task(&mut self) -> &mut dyn CheckpointedTask;

    /// Gets what wakes the operator from any thread.
    fn wake_by(&mut self, _waker: SyncActivator) {}

    /// Goes on with what it does beside its records. Called whenever the operator is woken.
    fn go_on(&mut self) -> Result<Beside> {
        Ok(Beside::Idle)
    }

    /// Takes a record in.
    fn record(&mut self, record: Self::Input, output: &mut Vec<Self::Output>) -> Result<()>;

    /// Event time has come so far. Whether timers may be due now.
    fn advance(&mut self, _watermark_ms: i64) -> bool {
        false
    }

    /// Fires the earliest timer that is due. False if there is none.
    fn fire(&mut self, _output: &mut Vec<Self::Output>) -> Result<bool> {
        Ok(false)
    }

    /// The state is about to be frozen for a checkpoint.
    fn freezing(&mut self) -> Result<()> {
        Ok(())
    }

    /// What is written from now on is not in a checkpoint, which may come to nothing still.
    fn frozen(&mut self, _checkpoint: CheckpointId) -> Result<()> {
        Ok(())
    }

    /// A checkpoint is complete for which this run has frozen the state.
    fn completed(&mut self, _checkpoint: CheckpointId) -> Result<()> {
        Ok(())
    }
}

/// Adds a stage to a dataflow. Each record goes to the worker that owns the key group that `route` says, which is the
/// subtask of the worker's number.
///
/// # Errors
/// [`crate::ErrorKind::InvalidInput`] if the task is not this worker's.
pub(super) fn add_stage<'scope, S: Stage>(
    stream: DataStream<'scope, S::Input>,
    name: &str,
    mut stage: S,
    route: impl Fn(&S::Input) -> KeyGroup + 'static,
    checkpoints: &Checkpoints,
) -> Result<DataStream<'scope, S::Output>> {
    let (stream, inputs) = stream.into_parts();
    let scope = stream.scope();
    let (worker, workers) = (scope.index() as u32, scope.peers() as u32);
    check_task(stage.task(), worker, workers).map_err(|error| error.with_object(name))?;
    let max_parallelism = stage.task().layout().max_parallelism();
    // Cannot fail: the number of workers was checked above.
    let owner = move |element: &Element<S::Input>| match element {
        Element::Record(record) => {
            u64::from(max_parallelism.subtask_of_group(route(record), workers).unwrap_or_default())
        }
        Element::Watermark(watermark) => u64::from(watermark.receiver),
    };
    let control = checkpoints.control.clone();
    let name = name.to_owned();
    let stream = stream.unary_frontier::<CapacityContainerBuilder<Vec<Element<S::Output>>>, _, _, _>(
        Exchange::new(owner),
        &name.clone(),
        move |capability, info| {
            let waker = || scope.worker().sync_activator_for(info.address.to_vec());
            let seen = control.watch(waker());
            stage.wake_by(waker());
            let (output, waiting, frozen) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
            let watermarks = Watermarks::new(inputs, workers);
            let (freezing, waker, has_resumed, worked) = (None, waker(), false, 0);
            let mut running = Running {
                stage,
                worker,
                workers,
                control,
                waker,
                seen,
                output,
                waiting,
                watermarks,
                freezing,
                frozen,
                has_resumed,
                worked,
            };
            let mut capability = Some(capability);
            move |(input, frontier), output| {
                let mut outcome = Ok(());
                // Not `for_each_stamp`, which sorts, and not stably: records of one sender are to keep their order.
                input.for_each(|stamp, batch| match stamp.least() {
                    Some(epoch) => running.waiting.entry(*epoch).or_default().append(batch),
                    None => outcome = Err(Error::invalid("take records in", "some came without an epoch")),
                });
                let frontier = frontier.frontier().as_option().copied();
                let outcome = outcome.and_then(|()| running.work(&mut capability, frontier, output));
                if let Err(error) = outcome {
                    running.control.fail(error.with_object(&name));
                }
                if running.control.orders().has_failed {
                    running.waiting.clear();
                    capability = None;
                }
            }
        },
    );
    Ok(DataStream::of_one(stream.probe_with(&checkpoints.probe)))
}

/// State of other key groups would be read and written by nobody, or by two.
fn check_task(task: &dyn CheckpointedTask, worker: u32, workers: u32) -> Result<()> {
    let owned = task.layout().max_parallelism().range_of_subtask(worker, workers)?;
    if task.key_groups() != owned {
        let message =
            format!("its task has the key groups {}, worker {worker} of {workers} owns {owned}", task.key_groups());
        return Err(Error::invalid(BUILD, message));
    }
    let subtask = task.snapshotter().subtask();
    if subtask.index != worker {
        return Err(Error::invalid(BUILD, format!("its task is {subtask}, on worker {worker}"))
            .with_advice("give each worker the subtask of its own number"));
    }
    Ok(())
}

struct Running<S: Stage> {
    stage: S,
    worker: u32,
    workers: u32,
    control: Arc<dyn CheckpointControl>,
    /// Wakes the operator.
    waker: SyncActivator,
    /// How many notifications were heard.
    seen: u64,
    output: Vec<S::Output>,
    /// Records and watermarks by epoch: those of later ones came early. Bounded as sources are.
    waiting: BTreeMap<u64, Vec<Element<S::Input>>>,
    watermarks: Watermarks,
    /// What is being frozen on another thread.
    freezing: Option<Freezing>,
    /// The checkpoints that this run has frozen its state for, or is at it, and that have not ended.
    frozen: BTreeSet<CheckpointId>,
    /// Whether it has processed a record.
    has_resumed: bool,
    /// How many records and timers it has worked off.
    worked: u32,
}

/// A freeze on another thread.
struct Freezing {
    trigger: Trigger,
    /// Whether what is written meanwhile is not in it. Otherwise nothing may be written.
    is_cut: bool,
    /// Gets what it comes to.
    outcome: mpsc::Receiver<Result<LocalSnapshot>>,
}

/// Wakes an operator when it is dropped.
struct WakesInTheEnd(SyncActivator);

impl Drop for WakesInTheEnd {
    fn drop(&mut self) {
        // One that cannot be woken has ended.
        let _ = self.0.activate();
    }
}

type Output<'a, T> = OutputBuilderSession<'a, u64, CapacityContainerBuilder<Vec<Element<T>>>>;

impl<S: Stage> Running<S> {
    /// Works off what has come, up to the epoch of the frontier: records of that one may still come, of an earlier one
    /// none, anywhere. `None`: of no epoch.
    fn work(
        &mut self,
        capability: &mut Option<Capability<u64>>,
        frontier: Option<u64>,
        output: &mut Output<'_, S::Output>,
    ) -> Result<()> {
        self.hear_of_freeze()?;
        // Whatever else there is to do may write.
        if self.must_not_write() {
            return Ok(());
        }
        self.hear()?;
        let beside = self.stage.go_on()?;
        let Some(held) = capability.as_mut().filter(|_| beside != Beside::TooFarBehind) else { return Ok(()) };
        while let Some((epoch, trigger)) = self.next_ended(*held.time()..frontier.unwrap_or(u64::MAX)) {
            if trigger.is_some() && self.freezing.is_some() {
                return Ok(());
            }
            held.downgrade(&epoch);
            self.run(held, output)?;
            if let Some(trigger) = trigger {
                self.freeze(trigger)?;
            }
            // Also while it is frozen elsewhere: those downstream have the epoch's end, and freeze in the meantime.
            held.downgrade(&epoch.saturating_add(1));
            if self.must_not_write() {
                return Ok(());
            }
        }
        match frontier {
            Some(current) => {
                if *held.time() < current {
                    held.downgrade(&current);
                }
                self.run(held, output)
            }
            None => {
                if beside == Beside::Idle && self.freezing.is_none() {
                    *capability = None;
                }
                Ok(())
            }
        }
    }

    /// Whether the state is being frozen, and what was written now would be in it.
    fn must_not_write(&self) -> bool {
        self.freezing.as_ref().is_some_and(|freezing| !freezing.is_cut)
    }

    /// The first of the ended epochs in which there is anything to do, with its checkpoint.
    fn next_ended(&self, epochs: Range<u64>) -> Option<(u64, Option<Trigger>)> {
        if epochs.is_empty() {
            return None;
        }
        let trigger = self.control.next_trigger(epochs.clone());
        let waiting = self.waiting.range(epochs).next().map(|(epoch, _)| *epoch);
        match (waiting, trigger) {
            (Some(waiting), Some((epoch, _))) if waiting < epoch => Some((waiting, None)),
            (_, Some((epoch, trigger))) => Some((epoch, Some(trigger))),
            (waiting, None) => Some((waiting?, None)),
        }
    }

    /// Takes in what became of checkpoints.
    fn hear(&mut self) -> Result<()> {
        for notification in self.control.notifications(&mut self.seen) {
            match notification {
                Notification::Complete(checkpoint) => {
                    self.stage.task().notify_complete(checkpoint);
                    // One that the run before took part in may be completed only now: it has nothing of this run.
                    if self.frozen.contains(&checkpoint) {
                        self.stage.completed(checkpoint)?;
                    }
                    self.frozen = self.frozen.split_off(&CheckpointId(checkpoint.0.saturating_add(1)));
                }
                Notification::Aborted { checkpoint, .. } => {
                    self.frozen.remove(&checkpoint);
                    self.stage.task().notify_aborted(checkpoint);
                }
            }
        }
        Ok(())
    }

    /// A record, or a timer, is next. An epoch may have so many that the worker's loop does not turn for long.
    fn note_work(&mut self) {
        self.worked = self.worked.wrapping_add(1);
        if self.worked.is_multiple_of(WORK_A_STEP) {
            self.control.note_turn();
        }
    }

    /// Works off what has come of the capability's epoch. When event time has come further, first what is due fires, then
    /// the watermark goes on downstream.
    fn run(&mut self, held: &Capability<u64>, output: &mut Output<'_, S::Output>) -> Result<()> {
        let Some(elements) = self.waiting.remove(held.time()) else { return Ok(()) };
        let mut session = output.session(held);
        for element in elements {
            match element {
                Element::Record(record) => {
                    self.note_work();
                    self.stage.record(record, &mut self.output)?;
                    if !self.has_resumed {
                        self.has_resumed = true;
                        self.control.note_resumed();
                    }
                    session.give_iterator(self.output.drain(..).map(Element::Record));
                }
                Element::Watermark(watermark) => {
                    let Some(common_ms) = self.watermarks.take(watermark)? else { continue };
                    let mut may_be_due = self.stage.advance(common_ms);
                    while may_be_due {
                        self.note_work();
                        may_be_due = self.stage.fire(&mut self.output)?;
                        session.give_iterator(self.output.drain(..).map(Element::Record));
                    }
                    session.give_iterator(to_all(common_ms, self.worker, self.workers).map(Element::Watermark));
                }
            }
        }
        Ok(())
    }

    /// The part of this subtask in the checkpoint that the epoch just worked off ends with.
    fn freeze(&mut self, trigger: Trigger) -> Result<()> {
        match self.stage.freezing().and_then(|()| self.stage.task().begin_freeze(&trigger)) {
            Ok(Freeze::Done(frozen)) => {
                self.note_cut(trigger.checkpoint)?;
                self.hand_over(trigger, Ok(frozen));
            }
            Ok(Freeze::Elsewhere { rest, is_cut }) => {
                let (sender, outcome) = mpsc::sync_channel(1);
                let wakes = WakesInTheEnd(self.waker.clone());
                self.control.spawn_blocking(Box::new(move || {
                    // The sender goes first, also if the rest panics.
                    let (_wakes, sender) = (wakes, sender);
                    // There is room; who does not listen has ended.
                    let _ = sender.send(rest());
                }));
                if is_cut {
                    self.note_cut(trigger.checkpoint)?;
                }
                self.freezing = Some(Freezing { trigger, is_cut, outcome });
            }
            Err(error) => self.hand_over(trigger, Err(error)),
        }
        Ok(())
    }

    /// Takes in what was frozen on another thread, once it is.
    fn hear_of_freeze(&mut self) -> Result<()> {
        let Some(Freezing { trigger, is_cut, outcome }) = self.freezing.take() else { return Ok(()) };
        let frozen = match outcome.try_recv() {
            Ok(frozen) => frozen,
            Err(mpsc::TryRecvError::Empty) => {
                self.freezing = Some(Freezing { trigger, is_cut, outcome });
                return Ok(());
            }
            Err(mpsc::TryRecvError::Disconnected) => {
                Err(Error::new(ErrorKind::Internal, "freeze a task", "the thread that did it has panicked"))
            }
        };
        if !is_cut && frozen.is_ok() {
            self.note_cut(trigger.checkpoint)?;
        } else if is_cut && !self.frozen.contains(&trigger.checkpoint) {
            // It was given up meanwhile.
            return Ok(());
        }
        self.hand_over(trigger, frozen);
        Ok(())
    }

    /// What is written from now on is not in the checkpoint.
    fn note_cut(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.frozen.insert(checkpoint);
        self.stage.frozen(checkpoint)
    }

    fn hand_over(&mut self, trigger: Trigger, frozen: Result<LocalSnapshot>) {
        let snapshotter = self.stage.task().snapshotter().clone();
        match frozen {
            Ok(frozen) => self.control.upload(snapshotter, trigger, frozen),
            Err(error) => self.control.decline(trigger.checkpoint, snapshotter.subtask(), &error),
        }
    }
}
