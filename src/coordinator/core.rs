//! The coordinator's state, and its entry points.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;

use super::again::Succession;
use super::chain::{Chain, CompletedCheckpoint};
use super::collect::Leftovers;
use super::counting::Counting;
use super::distrust::DistrustState;
use super::listener::CheckpointListener;
use super::options::{CoordinatorOptions, MAX_CONCURRENT_CHECKPOINTS, OperatorDescription};
use super::pending::Pending;
use super::recover::{Recovered, recover};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::gc::Collector;
use crate::layout::{CheckpointFolder, CheckpointId, Epoch, JobId, JobLayout, METADATA_NAME, OperatorId};
use crate::metadata::{CheckpointKind, SourcePosition};
use crate::ownership::requests::Inbox;
use crate::ownership::{Claimed, JobView, Tenure, TenureEnd};
use crate::registry::Registry;
use crate::restore::{Checkpoint, read_checkpoint};
use crate::snapshot::{RegistryBroker, SnapshotStats, Trigger, UploadBroker};
use crate::store::{StorePath, StoreRef};

/// What an acknowledgement led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// Others are still awaited.
    Awaiting(usize),
    /// It was the last one, and the checkpoint is complete.
    Complete(CheckpointFolder, SnapshotStats),
    /// It changed nothing: late, doubled, or of another run.
    Discarded(&'static str),
}

/// What [`Coordinator::tick`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickReport {
    /// Checkpoints that took too long and were aborted.
    pub timed_out: Vec<CheckpointId>,
    /// A periodic checkpoint that is due: hand it to every subtask.
    pub triggered: Option<Trigger>,
    /// A periodic checkpoint is due, or there are none, and none will be triggered: more in a row have failed than are
    /// tolerated. Restart the job's tasks from the newest complete one, then call
    /// [`Coordinator::restart_tasks`].
    pub too_many_failures: bool,
}

/// Coordinates the checkpoints of one job. Cheap to share by [`Arc`].
pub struct Coordinator {
    pub(super) store: StoreRef,
    pub(super) layout: JobLayout,
    pub(super) env: Env,
    pub(super) options: CoordinatorOptions,
    pub(super) tenure: Arc<Tenure>,
    pub(super) registry: Arc<Registry>,
    pub(super) collector: Collector,
    pub(super) inbox: Inbox,
    pub(super) listeners: Vec<Arc<dyn CheckpointListener>>,
    pub(super) state: Mutex<State>,
    pub(super) counting: Counting,
    /// Held while a checkpoint is committed and registered: one after another, as their ids grow.
    pub(super) commits: tokio::sync::Mutex<()>,
    /// Held while it is decided what counts no longer, what is pinned, what is distrusted; not while
    /// something is deleted. Whoever wants both locks takes `commits` first.
    pub(super) plans: tokio::sync::Mutex<()>,
    /// Held for a sweep: a second one would find the same.
    pub(super) sweeps: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) operators: Vec<OperatorDescription>,
    pub(super) generation: u64,
    /// What the next trigger takes.
    pub(super) next_id: u64,
    /// The smallest id that a checkpoint of elsewhere may keep: above what counts, and above every one
    /// that this process has taken (R2).
    pub(super) least_id: u64,
    pub(super) pending: BTreeMap<CheckpointId, Pending>,
    pub(super) completed: BTreeMap<CheckpointFolder, CompletedCheckpoint>,
    pub(super) chain: Chain,
    /// Fully acknowledged and being committed, with the base that each builds on.
    pub(super) committing: BTreeMap<CheckpointId, Committing>,
    /// Of unknown outcome: the next tenure decides whether they count.
    pub(super) undecided: BTreeSet<CheckpointFolder>,
    /// What ended checkpoints left behind, to be deleted when the store is changed next.
    pub(super) leftovers: Leftovers,
    pub(super) distrust: DistrustState,
    pub(super) failures_in_a_row: u32,
    pub(super) last_end: Option<Duration>,
    pub(super) last_trigger: Option<Duration>,
    pub(super) succession: Succession,
}

/// A checkpoint that is being committed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committing {
    pub(super) base: Option<CheckpointFolder>,
    /// Its folder in the job's; `None` for a savepoint, which no tenure decides about.
    pub(super) folder: Option<CheckpointFolder>,
}

impl State {
    /// The checkpoints that checkpoints in flight build on. They are not dropped: what they hold is
    /// carried over without asking the registry (I1).
    pub(super) fn bases(&self) -> BTreeSet<CheckpointFolder> {
        let in_flight = self.pending.values().filter_map(|pending| pending.trigger.base);
        in_flight.chain(self.committing.values().filter_map(|committing| committing.base)).collect()
    }

    /// Where the registry's chain ends, and what the next incremental checkpoint builds on. It is not
    /// dropped even if something newer is there: a full checkpoint, or one that cannot be read.
    pub(super) fn newest_incremental(&self) -> Option<&CompletedCheckpoint> {
        self.completed.values().rfind(|done| done.kind == CheckpointKind::Incremental)
    }
}

impl Coordinator {
    /// Claims the job, fencing whoever ran it before, and takes up what the store holds.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for options that cannot work, or another max parallelism than the job's
    /// newest checkpoint has; [`ErrorKind::Fenced`] if a greater
    /// claim is in sight; [`ErrorKind::Blocked`] or [`ErrorKind::Corrupt`] if what counts cannot be
    /// read; what the store says otherwise.
    pub async fn start(
        store: StoreRef,
        job: JobId,
        operators: Vec<OperatorDescription>,
        env: Env,
        options: CoordinatorOptions,
        listeners: Vec<Arc<dyn CheckpointListener>>,
    ) -> Result<Self> {
        options.check()?;
        operators.iter().try_for_each(OperatorDescription::check)?;
        let layout = JobLayout::new(job)?;
        let claimed = Tenure::claim(store.clone(), layout.clone(), env.clone(), &options.holder).await?;
        Self::begin_tenure(store, env, options, listeners, operators, claimed).await
    }

    /// A coordinator of a tenure that was just claimed.
    pub(super) async fn begin_tenure(
        store: StoreRef,
        env: Env,
        options: CoordinatorOptions,
        listeners: Vec<Arc<dyn CheckpointListener>>,
        operators: Vec<OperatorDescription>,
        claimed: Claimed,
    ) -> Result<Self> {
        let layout = claimed.tenure.layout().clone();
        let recovered = match take_up(&layout, &claimed.view, &operators) {
            Ok(recovered) => recovered,
            Err(error) => {
                // Nobody serves this tenure: without its end, commands would wait for it.
                if let Err(other) = claimed.tenure.end().await {
                    tracing::warn!(error = %other, "could not end a tenure that did not begin");
                }
                return Err(error);
            }
        };
        let tenure = Arc::new(claimed.tenure);
        let Recovered { registry, chain, completed, distrust } = recovered;
        let collector = Collector::new(tenure.clone(), registry.clone());
        let state = State {
            operators,
            generation: 1,
            next_id: tenure.next_checkpoint().0.max(1),
            least_id: tenure.least_checkpoint().0.max(1),
            pending: BTreeMap::new(),
            completed,
            chain,
            committing: BTreeMap::new(),
            undecided: BTreeSet::new(),
            leftovers: Leftovers::default(),
            distrust,
            failures_in_a_row: 0,
            last_end: None,
            last_trigger: None,
            succession: Succession::default(),
        };
        Ok(Self {
            store,
            layout,
            env,
            options,
            tenure,
            registry,
            collector,
            inbox: Inbox::default(),
            listeners,
            state: Mutex::new(state),
            counting: Counting::new(claimed.view),
            commits: tokio::sync::Mutex::default(),
            plans: tokio::sync::Mutex::default(),
            sweeps: tokio::sync::Mutex::default(),
        })
    }

    /// The tenure's epoch.
    pub fn epoch(&self) -> Epoch {
        self.tenure.epoch()
    }

    /// Why the tenure is over, if it is: then nothing more can be done by this coordinator, but
    /// [`Coordinator::claim_again`].
    pub fn over(&self) -> Option<TenureEnd> {
        self.tenure.over()
    }

    /// Looks at the store whether the tenure is over.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`]: it is. Any other: the look could not be made.
    pub async fn look(&self) -> Result<()> {
        self.tenure.look().await
    }

    /// The store that the job lies on.
    pub fn store(&self) -> &StoreRef {
        &self.store
    }

    /// Fails if the tenure is known to be over. Asks the store nothing.
    ///
    /// # Errors
    /// The tenure's end.
    pub fn check(&self) -> Result<()> {
        self.tenure.check()
    }

    /// Where the job's objects lie.
    pub fn layout(&self) -> &JobLayout {
        &self.layout
    }

    /// What counts, as this coordinator knows it: the store is not asked.
    pub fn view(&self) -> Arc<JobView> {
        self.counting.now()
    }

    /// The registry of shared files.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Deletes that the store has not confirmed, so far. Each is tried again.
    pub fn failed_deletes(&self) -> u64 {
        self.collector.failed_deletes()
    }

    /// Shared objects that ended checkpoints left and whose deletion is not planned yet. What earlier tenures left a sweep finds.
    pub fn orphans(&self) -> u64 {
        self.state.lock().leftovers.objects() as u64
    }

    /// The broker that subtasks in this process upload through.
    pub fn broker(&self) -> Arc<dyn UploadBroker> {
        Arc::new(RegistryBroker::new(self.registry.clone(), self.layout.clone(), self.env.clone()))
    }

    /// Complete checkpoints and savepoints, oldest first.
    pub fn completed(&self) -> Vec<CompletedCheckpoint> {
        self.state.lock().completed.values().cloned().collect()
    }

    /// The newest complete checkpoint, read and decoded: what a recovery restores.
    ///
    /// # Errors
    /// As [`read_checkpoint`]; [`ErrorKind::Blocked`] if what counts is not known. One that is damaged
    /// is never passed over in silence: the advice names the newest that is sound. `Ok(None)` if there
    /// is none yet.
    pub async fn latest(&self) -> Result<Option<Checkpoint>> {
        loop {
            let Some(folder) = self.newest()? else { return Ok(None) };
            let error = match read_checkpoint(self.store.clone(), Some(self.layout.checkpoint(folder)?)).await {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) => error,
            };
            if self.newest()? != Some(folder) {
                // Newer ones were completed while it was read, and it may have been dropped.
                continue;
            }
            let sound = self.state.lock().completed.keys().next_back().copied().filter(|sound| *sound != folder);
            return Err(match sound {
                Some(sound) => error.with_advice(format!("the newest checkpoint that can be read is {sound}")),
                None => error,
            });
        }
    }

    fn newest(&self) -> Result<Option<CheckpointFolder>> {
        let view = self.counting.now();
        if view.start.is_none() {
            // Nothing counts in such a view, which is not to say that there is nothing.
            return Err(Error::new(ErrorKind::Blocked, "find the newest checkpoint", "what counts is not known")
                .with_object(self.layout.root())
                .with_advice("claim the job again"));
        }
        Ok(view.newest().map(|checkpoint| checkpoint.folder))
    }

    /// Begins a new run of the job's tasks, with these operators. Checkpoints in flight are aborted;
    /// acknowledgements of earlier runs change nothing from here on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an operator's parallelism that does not fit, or for another max
    /// parallelism than it had.
    pub fn restart_tasks(&self, operators: Vec<OperatorDescription>) -> Result<u64> {
        operators.iter().try_for_each(OperatorDescription::check)?;
        let (generation, in_flight) = {
            let mut state = self.state.lock();
            let known = state.operators.iter().map(|known| (&known.operator, known.max_parallelism));
            check_unchanged(&operators, known)?;
            state.operators = operators;
            state.generation += 1;
            (state.generation, std::mem::take(&mut state.pending))
        };
        for (checkpoint, pending) in in_flight {
            self.given_up(checkpoint, &pending, "the job's tasks were restarted", false);
        }
        self.state.lock().failures_in_a_row = 0;
        Ok(generation)
    }

    /// Begins a checkpoint in the job's folder. Hand the trigger to every subtask.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a savepoint, which needs a place of its own
    /// ([`Coordinator::trigger_savepoint`]); [`ErrorKind::LimitExceeded`] if as many as allowed are in flight, or too many in a row have
    /// failed; the tenure's end.
    pub fn trigger(&self, kind: CheckpointKind) -> Result<Trigger> {
        if kind == CheckpointKind::Savepoint {
            // In the job's folder it would count as a checkpoint does, whatever its id.
            return Err(Error::invalid("trigger a checkpoint", "a savepoint does not lie in the job's folder")
                .with_advice("name a path, with trigger_savepoint"));
        }
        let folder = |folder: CheckpointFolder| self.layout.checkpoint(folder);
        self.begin(kind, folder)
    }

    /// Gives every further checkpoint a greater number than this one: for tasks that are restored from a savepoint, or from a checkpoint of
    /// another job, whose number may be that of none here. Sinks name transactions after checkpoints, in their order.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if no number is greater.
    pub fn number_behind(&self, checkpoint: CheckpointId) -> Result<()> {
        let next = checkpoint.0.checked_add(1).filter(|next| *next < u64::MAX).ok_or_else(|| {
            Error::invalid("number checkpoints", "no checkpoint could follow it").with_object(checkpoint)
        })?;
        let mut state = self.state.lock();
        state.next_id = state.next_id.max(next);
        Ok(())
    }

    /// Begins a savepoint at `path` on the same store, outside any job's folder.
    ///
    /// # Errors
    /// As [`Coordinator::trigger`]; [`ErrorKind::InvalidInput`] for a path inside a job's folder;
    /// [`ErrorKind::AlreadyExists`] if anything lies at the path, or another savepoint is on its way
    /// there: no object is written twice; what the store says of the listing.
    pub async fn trigger_savepoint(&self, path: &StorePath) -> Result<Trigger> {
        self.check_savepoint_path(path).await?;
        self.begin(CheckpointKind::Savepoint, |_| Ok(path.clone()))
    }

    /// Whether a savepoint may be written to `path`, as [`Coordinator::trigger_savepoint`] looks.
    pub(crate) async fn check_savepoint_path(&self, path: &StorePath) -> Result<()> {
        if path.as_str().starts_with("job-") {
            return Err(Error::invalid(
                "trigger a savepoint",
                "the path lies in a job's folder, where retention rules",
            )
            .with_object(path)
            .with_advice("name a path that does not begin with `job-`"));
        }
        let object = self.store.list(Some(path)).next().await.transpose()?;
        if object.is_some() {
            return Err(occupied(path, "something lies there"));
        }
        // Whoever removes a savepoint removes its folder.
        let names = path.as_str().match_indices('/').filter_map(|(end, _)| path.as_str().get(..end));
        for parent in names {
            match self.store.stat(&StorePath::new(parent)?.join(METADATA_NAME)?).await {
                Ok(_) => {
                    let inside =
                        Error::new(ErrorKind::AlreadyExists, "trigger a savepoint", "it is inside another savepoint");
                    return Err(inside.with_object(path).with_advice(format!("name a path outside `{parent}`")));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if path.file_name() == METADATA_NAME {
            let message = "a savepoint's own index is called so";
            return Err(Error::invalid("trigger a savepoint", message).with_object(path));
        }
        Ok(())
    }

    fn begin(
        &self,
        kind: CheckpointKind,
        place: impl FnOnce(CheckpointFolder) -> Result<StorePath>,
    ) -> Result<Trigger> {
        self.tenure.check()?;
        let mut state = self.state.lock();
        self.check_limits(&state, kind)?;
        let checkpoint = CheckpointId(state.next_id);
        let folder = place(CheckpointFolder { checkpoint, epoch: self.tenure.epoch() })?;
        if state.pending.values().any(|pending| pending.trigger.folder == folder) {
            return Err(occupied(&folder, "another savepoint is on its way there"));
        }
        let base = match kind {
            CheckpointKind::Incremental => state.newest_incremental(),
            _ => None,
        };
        let base_files = base.map(|done| done.files.clone()).unwrap_or_default();
        let trigger = Trigger {
            checkpoint,
            epoch: self.tenure.epoch(),
            generation: state.generation,
            kind,
            base: base.map(|done| done.folder),
            distrusted: if base.is_some() { state.distrust.in_base.clone() } else { Arc::default() },
            folder,
            triggered_at_unix_ms: self.env.clock.unix_time_ms(),
        };
        let (operators, changes) = (state.operators.clone(), state.distrust.changes);
        let pending = |deadline| Pending::new(trigger.clone(), operators, deadline, base_files, changes);
        self.admit(&mut state, &trigger, pending)?;
        Ok(trigger)
    }

    /// K1: takes the trigger's id, which is used for nothing else from here on (R2).
    pub(super) fn admit(
        &self,
        state: &mut State,
        trigger: &Trigger,
        pending: impl FnOnce(Duration) -> Pending,
    ) -> Result<()> {
        let (checkpoint, now) = (trigger.checkpoint, self.env.clock.monotonic());
        let after = checkpoint.0.saturating_add(1);
        state.next_id = state.next_id.max(after);
        state.least_id = state.least_id.max(after);
        self.registry.begin_pending(checkpoint)?;
        state.pending.insert(checkpoint, pending(now.saturating_add(self.options.timeout)));
        state.last_trigger = Some(now);
        Ok(())
    }

    fn check_limits(&self, state: &State, kind: CheckpointKind) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::LimitExceeded, "trigger a checkpoint", message));
        if self.has_too_many_failures(state) {
            let message = format!(
                "{} checkpoints in a row failed, {} are tolerated",
                state.failures_in_a_row, self.options.tolerable_failures
            );
            return refuse(message).map_err(|error: Error| error.with_advice("restart the job's tasks"));
        }
        check_room(state)?;
        let in_flight = state.pending.values().filter(|p| p.trigger.kind != CheckpointKind::Savepoint).count();
        if kind != CheckpointKind::Savepoint && in_flight >= self.options.max_concurrent {
            return refuse(format!("{in_flight} are in flight, no more are allowed"));
        }
        Ok(())
    }

    /// Notes where the sources stand at a checkpoint in flight.
    pub fn set_source_positions(&self, checkpoint: CheckpointId, positions: Vec<SourcePosition>) {
        if let Some(pending) = self.state.lock().pending.get_mut(&checkpoint) {
            pending.sources = positions;
        }
    }

    /// What the clock asks for: aborts checkpoints that take too long, and triggers a periodic one if
    /// it is due. Call it often; nothing happens between calls.
    ///
    /// # Errors
    /// The tenure's end.
    pub fn tick(&self) -> Result<TickReport> {
        let (mut report, now) = self.tick_without_trigger()?;
        report.too_many_failures &= self.options.interval.is_none() || self.is_due(now);
        if self.is_due(now) {
            // Otherwise as many as are allowed may be in flight: it stays due.
            report.triggered = self.trigger(CheckpointKind::Incremental).ok();
        }
        Ok(report)
    }

    /// As [`Coordinator::tick`], for a time without periodic checkpoints. And what time it is.
    pub(crate) fn tick_without_trigger(&self) -> Result<(TickReport, Duration)> {
        self.tenure.check()?;
        let now = self.env.clock.monotonic();
        let late: Vec<CheckpointId> = {
            let state = self.state.lock();
            state.pending.iter().filter(|(_, pending)| pending.deadline <= now).map(|(id, _)| *id).collect()
        };
        let timed_out: Vec<CheckpointId> =
            late.into_iter().filter(|id| self.abort(*id, "it took longer than its timeout")).collect();
        let too_many_failures = self.has_too_many_failures(&self.state.lock());
        Ok((TickReport { timed_out, too_many_failures, ..TickReport::default() }, now))
    }

    fn has_too_many_failures(&self, state: &State) -> bool {
        state.failures_in_a_row > self.options.tolerable_failures
    }

    fn is_due(&self, now: Duration) -> bool {
        let Some(interval) = self.options.interval else { return false };
        let state = self.state.lock();
        let since = |moment: Option<Duration>| moment.map(|moment| now.saturating_sub(moment));
        since(state.last_trigger).is_none_or(|passed| passed >= interval)
            && since(state.last_end).is_none_or(|passed| passed >= self.options.min_pause)
    }

    /// Ends the tenure in good order: the next coordinator need not wait for this one. A commit or a pin
    /// under way comes to its end first. A collection stops at its next list; deletes of the list in
    /// hand may still be under way, which harms nobody (names are never used twice).
    ///
    /// # Errors
    /// The tenure was over already, or the store failed.
    pub async fn end(&self) -> Result<()> {
        let _no_commit = self.commits.lock().await;
        let _no_plan = self.plans.lock().await;
        self.tenure.end().await
    }
}

/// How many there may be in flight, of whatever kind.
pub(super) fn check_room(state: &State) -> Result<()> {
    let all = state.pending.len();
    if all < MAX_CONCURRENT_CHECKPOINTS {
        return Ok(());
    }
    let message = format!("{all} are in flight, savepoints included, no more are allowed");
    Err(Error::new(ErrorKind::LimitExceeded, "trigger a checkpoint", message))
}

fn occupied(path: &StorePath, why: &str) -> Error {
    Error::new(ErrorKind::AlreadyExists, "trigger a savepoint", why)
        .with_object(path)
        .with_advice("name a path at which nothing is")
}

/// What the store holds, if these operators can go on with it.
fn take_up(layout: &JobLayout, view: &JobView, operators: &[OperatorDescription]) -> Result<Recovered> {
    if let Some(newest) = view.checkpoints.values().rev().find_map(|known| known.content.as_ref().ok()) {
        let known = newest.operators.iter().map(|known| (&known.operator, known.max_parallelism));
        check_unchanged(operators, known)?;
    }
    recover(layout, view)
}

fn check_unchanged<'a>(
    operators: &[OperatorDescription],
    mut known: impl Iterator<Item = (&'a OperatorId, u32)>,
) -> Result<()> {
    known.try_for_each(|(operator, max_parallelism)| {
        operators.iter().try_for_each(|described| described.check_unchanged(operator, max_parallelism))
    })
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator").field("job", self.layout.job()).field("epoch", &self.epoch()).finish()
    }
}
