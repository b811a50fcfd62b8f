//! Carrying plans out for one tenure: condemn, list, look, delete, confirm (D1-D5).
//!
//! The collector remembers every object from the moment it is condemned until its delete is
//! confirmed, so a write that failed, a store that is down for a while and a future that was dropped
//! on the way lose nothing: the next call goes on. Deletes may be repeated freely, since a name is
//! never used twice.
//!
//! Lists are published strictly in the order in which their objects were condemned, and none before
//! every index that an earlier one names is confirmed gone. So when a list frees a file, each
//! checkpoint that referenced it is named by the same list, or its index is gone (D1): a dropped
//! checkpoint whose list could not be written still counts for a successor, and keeps all its files.
//! A plan's indexes come first, so a long plan keeps this when it is split.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::holdings::Holdings;
use super::plan::{GcPlan, PlannedObject};
use super::report::{Failed, GcReport};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, Place, RefName, Uid};
use crate::metadata::{Condemned, ControlRecord};
use crate::ownership::{JobView, Tenure};
use crate::store::StorePath;

/// The most objects that one condemned list names. Longer plans become several lists, each with a
/// look of its own.
pub const CONDEMNED_BATCH_OBJECTS: usize = 4_096;
/// The most objects of one delete call; S3 takes a thousand.
pub const DELETE_BATCH_OBJECTS: usize = 1_000;

/// Deletes for one tenure. Calls may come from several tasks: what is condemned stands in one queue,
/// and one list of it is worked off at a time, by whoever has its turn. So nobody waits for more of
/// another's plan than the list in hand.
#[derive(Debug)]
pub struct Collector {
    tenure: Arc<Tenure>,
    holdings: Arc<dyn Holdings>,
    /// Held while one list is published, looked for and worked off.
    turn: tokio::sync::Mutex<()>,
    /// Locked before `pinned`: a checkpoint is being dropped or it is pinned, never both.
    pub(super) pending: Mutex<VecDeque<Batch>>,
    /// Pins that were published since the plans' views may have been read, and are not deleted again.
    pub(super) pinned: Mutex<BTreeMap<RefName, CheckpointFolder>>,
    failed_deletes: AtomicU64,
}

/// Objects that are condemned together.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    id: Uid,
    pub(super) dropped: Vec<CheckpointFolder>,
    /// Whether the drops were reported: a list names them, and a look was made after it.
    is_told: bool,
    /// Who condemned it went on: it is for whoever works something off.
    is_left: bool,
    /// Not yet confirmed gone, in the order of deletion.
    objects: Vec<PlannedObject>,
    /// The names under which a list was written, or may have been: a failed write can land later
    /// (A1). The last one is the list that is visible, if `is_listed`.
    lists: Vec<StorePath>,
    is_listed: bool,
}

/// One call's way through the queue.
#[derive(Debug, Default)]
struct Round {
    report: GcReport,
    /// The batches that it is for, besides those that others left.
    wanted: HashSet<Uid>,
    /// The batches that it has been at. What fails is tried once a call.
    tried: HashSet<Uid>,
    /// A record of an epoch was not confirmed gone: later ones wait for it (E1).
    epochs_stuck: bool,
}

impl Collector {
    /// A collector for `tenure`, with nothing pending.
    pub fn new(tenure: Arc<Tenure>, holdings: Arc<dyn Holdings>) -> Self {
        let (pending, pinned, failed_deletes) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        Self { tenure, holdings, turn: tokio::sync::Mutex::new(()), pending, pinned, failed_deletes }
    }

    /// Deletes that were not confirmed, so far. Each is tried again.
    pub fn failed_deletes(&self) -> u64 {
        self.failed_deletes.load(Ordering::Relaxed)
    }

    /// The tenure it deletes for.
    pub fn tenure(&self) -> &Arc<Tenure> {
        &self.tenure
    }

    /// How many lists are not finished.
    pub fn pending_lists(&self) -> usize {
        self.pending.lock().len()
    }

    /// Carries a plan out, after whatever is pending. Checks again what may have changed since the
    /// plan was made: objects that something holds by now stay, and a plan that drops a checkpoint
    /// that was pinned meanwhile is refused as a whole.
    ///
    /// A plan that drops nothing is condemned list by list, each when the one before it was worked
    /// off: what others condemn meanwhile comes in between. What is left of such a plan when it is
    /// stopped, or its future dropped, the next sweep finds again.
    pub async fn execute(&self, plan: GcPlan) -> GcReport {
        let mut round = Round::default();
        for part in parts_of(plan) {
            match self.begin(part) {
                Ok(kept) => round.report.kept.extend(kept),
                Err(error) => {
                    round.report.stopped = Some(error);
                    break;
                }
            }
            if !self.work_off_all(&mut round).await {
                break;
            }
        }
        self.counted(round)
    }

    /// D1: condemns what a plan names. From here on none of it is handed out again, and
    /// [`Self::work_off`] deletes it; nothing is deleted yet. Returns the objects that stay, as
    /// something holds them by now.
    ///
    /// # Errors
    /// The tenure's end; [`ErrorKind::InvalidInput`] for another job's plan; [`ErrorKind::Changed`] if
    /// a checkpoint that it drops was pinned, or may have been. Nothing is condemned then.
    pub fn begin(&self, plan: GcPlan) -> Result<Vec<StorePath>> {
        self.tenure.check()?;
        let mut pending = self.pending.lock();
        self.admit(&plan)?;
        Ok(self.condemn(plan, &mut pending))
    }

    /// Goes on with whatever is condemned and not confirmed gone, also what earlier calls left.
    pub async fn work_off(&self) -> GcReport {
        let mut round = Round::default();
        self.work_off_all(&mut round).await;
        self.counted(round)
    }

    /// As [`Self::work_off`], but waits for nobody: whoever is at something goes on to this.
    pub async fn work_off_unless_busy(&self) -> GcReport {
        let mut round = Round::default();
        // Before it is known whether somebody is: who ends just now looks once more afterwards.
        self.pending.lock().iter_mut().for_each(|batch| batch.is_left = true);
        while let Some(id) = self.next_batch(&round) {
            let Ok(_turn) = self.turn.try_lock() else { break };
            if !self.take_turn(id, &mut round).await {
                break;
            }
        }
        self.counted(round)
    }

    /// Lists of this tenure that the view shows and nothing waits for: their writing failed, they
    /// landed late, and what they name was deleted by another list (A1). The sweep may remove them.
    pub fn stray_lists(&self, view: &JobView) -> impl Iterator<Item = StorePath> {
        let pending: BTreeSet<StorePath> =
            self.pending.lock().iter().flat_map(|batch| batch.lists.iter().cloned()).collect();
        let own = view.lists.iter().filter(|list| list.epoch == self.tenure.epoch());
        let strays: Vec<_> = own.map(|list| list.path.clone()).filter(|path| !pending.contains(path)).collect();
        strays.into_iter()
    }

    fn admit(&self, plan: &GcPlan) -> Result<()> {
        if plan.job != *self.tenure.layout().job() {
            return Err(Error::invalid("collect", format!("the plan is for job {}", plan.job)));
        }
        match plan.dropped.iter().find(|dropped| self.is_pinned(dropped.folder)) {
            None => Ok(()),
            Some(dropped) => Err(Error::new(
                ErrorKind::Changed,
                "drop a checkpoint",
                "it was pinned after the plan was made, or may have been",
            )
            .with_object(dropped.folder)
            .with_advice("make a new plan")),
        }
    }

    fn condemn(&self, plan: GcPlan, pending: &mut VecDeque<Batch>) -> Vec<StorePath> {
        for dropped in &plan.dropped {
            self.holdings.release(dropped.folder.checkpoint);
        }
        let mut kept = Vec::new();
        let mut objects = Vec::with_capacity(plan.objects.len());
        for object in plan.objects {
            match object.shared_name() {
                _ if !self.may_delete(&object) => kept.push(object.path),
                Some(name) if !self.holdings.condemn(name) => kept.push(object.path),
                _ => objects.push(object),
            }
        }
        // What stands in the queue already goes before this plan does.
        let mut named: HashSet<StorePath> = HashSet::with_capacity(objects.len());
        named.extend(pending.iter().flat_map(|batch| batch.objects.iter().map(|object| object.path.clone())));
        objects.retain(|object| named.insert(object.path.clone()));
        let mut dropped: Vec<_> = plan.dropped.iter().map(|dropped| dropped.folder).collect();
        dropped.sort();
        dropped.dedup();
        for chunk in objects.chunks(CONDEMNED_BATCH_OBJECTS) {
            pending.push_back(Batch {
                id: Uid::random(&*self.tenure.env().randomness),
                dropped: std::mem::take(&mut dropped),
                is_told: false,
                is_left: false,
                objects: chunk.to_vec(),
                lists: Vec::new(),
                is_listed: false,
            });
        }
        kept
    }

    /// Whatever a plan says: nothing that icecore did not write, nothing of another job, and no record
    /// of this epoch or a greater one.
    fn may_delete(&self, object: &PlannedObject) -> bool {
        let place = Place::of(self.tenure.layout(), &object.path);
        place.as_ref() == Some(&object.place)
            && match object.place {
                Place::Foreign => false,
                Place::Claim(epoch) | Place::Start(epoch) | Place::End(epoch) => epoch < self.tenure.epoch(),
                _ => true,
            }
    }

    /// Batch after batch, in order: what is there when this is called, what stands before that, and what
    /// others leave meanwhile. Returns whether it got through: the first that cannot be listed or looked
    /// for, or that keeps an index, stops all (D1).
    async fn work_off_all(&self, round: &mut Round) -> bool {
        round.wanted.extend(self.pending.lock().iter().map(|batch| batch.id));
        loop {
            let turn = self.turn.lock().await;
            if let Some(id) = self.next_batch(round) {
                if !self.take_turn(id, round).await {
                    return false;
                }
                continue;
            }
            drop(turn);
            // Again, now that the turn is free: who came in between left it to this call.
            if self.next_batch(round).is_none() {
                return true;
            }
        }
    }

    /// The first batch that a call has not been at yet, if there is one that it should be at.
    fn next_batch(&self, round: &Round) -> Option<Uid> {
        let pending = self.pending.lock();
        let mut untried = pending.iter().filter(|batch| !round.tried.contains(&batch.id)).peekable();
        let first = untried.peek().map(|batch| batch.id)?;
        untried.any(|batch| batch.is_left || round.wanted.contains(&batch.id)).then_some(first)
    }

    /// One batch, by the caller who has the turn. Returns whether later ones may be tried now.
    async fn take_turn(&self, id: Uid, round: &mut Round) -> bool {
        round.tried.insert(id);
        match self.work_off_batch(id, round).await {
            // If not, the report has the delete that failed.
            Ok(every_index_is_gone) => every_index_is_gone,
            Err(error) => {
                round.report.stopped = Some(error);
                false
            }
        }
    }

    /// D2-D5 for one batch. Returns whether every index that it names is gone: only then may a later
    /// list free what those reference. An error, too, means that nothing more may be tried now.
    async fn work_off_batch(&self, id: Uid, round: &mut Round) -> Result<bool> {
        self.tenure.check()?;
        self.publish_list(id).await?; // D2
        self.tenure.look().await?; // D3
        let is_news = |batch: &mut Batch| !std::mem::replace(&mut batch.is_told, true);
        round.report.dropped.extend(
            self.change(id, |batch| is_news(batch).then(|| batch.dropped.clone())).flatten().unwrap_or_default(),
        );
        self.delete_objects(id, round).await; // D4
        self.remove_lists(id, &mut round.report).await; // D5
        let has_index = self.read(id, |batch| batch.objects.iter().any(is_index));
        Ok(!has_index.unwrap_or(false))
    }

    async fn publish_list(&self, id: Uid) -> Result<()> {
        let Some(batch) = self.read(id, Batch::clone) else {
            return Ok(());
        };
        if batch.is_listed {
            return Ok(());
        }
        let (epoch, uid) = (self.tenure.epoch(), Uid::random(&*self.tenure.env().randomness));
        let path = self.tenure.layout().condemned_list(epoch, uid)?;
        let objects = batch.objects.into_iter().map(|object| object.path).collect();
        let bytes = Condemned { epoch, uid, dropped: batch.dropped, objects }.encode()?;
        // Noted first: from here on the list may be there, whatever the answer is (A1).
        self.change(id, |batch| batch.lists.push(path.clone()));
        self.tenure.store().put(&path, Bytes::from(bytes)).await?;
        self.change(id, |batch| batch.is_listed = true);
        Ok(())
    }

    async fn delete_objects(&self, id: Uid, round: &mut Round) {
        let Round { report, epochs_stuck, .. } = round;
        let objects = self.read(id, |batch| batch.objects.clone()).unwrap_or_default();
        let (indexes, rest): (Vec<_>, Vec<_>) = objects.into_iter().partition(is_index);
        let (records, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_epoch_record);
        for chunk in indexes.chunks(DELETE_BATCH_OBJECTS) {
            // An index whose files are gone must not be left behind.
            if !self.delete_chunk(id, chunk, report).await {
                return;
            }
        }
        for chunk in rest.chunks(DELETE_BATCH_OBJECTS) {
            self.delete_chunk(id, chunk, report).await;
        }
        for record in records {
            // E1: each is confirmed before the next, so that a look cannot miss a greater claim.
            if *epochs_stuck || !self.delete_chunk(id, std::slice::from_ref(&record), report).await {
                *epochs_stuck = true;
                return;
            }
        }
    }

    /// Deletes and notes what is confirmed. Returns whether all of it is.
    async fn delete_chunk(&self, id: Uid, chunk: &[PlannedObject], report: &mut GcReport) -> bool {
        let paths: Vec<_> = chunk.iter().map(|object| object.path.clone()).collect();
        let results = self.tenure.store().delete(&paths).await;
        let mut confirmed = HashSet::new();
        let mut results = results.into_iter();
        for object in chunk {
            match results.next() {
                Some(Ok(())) => {
                    report.deleted_objects += 1;
                    report.deleted_bytes = report.deleted_bytes.saturating_add(object.size_bytes);
                    confirmed.insert(&object.path);
                }
                Some(Err(error)) => report.failed.push(Failed { path: object.path.clone(), reason: error.to_string() }),
                None => {
                    let reason = "the store gave no answer for it".to_owned();
                    report.failed.push(Failed { path: object.path.clone(), reason });
                }
            }
        }
        self.failed_deletes.fetch_add(chunk.len().saturating_sub(confirmed.len()) as u64, Ordering::Relaxed);
        for name in
            chunk.iter().filter(|object| confirmed.contains(&object.path)).filter_map(PlannedObject::shared_name)
        {
            self.holdings.forget(name);
        }
        for object in chunk.iter().filter(|object| confirmed.contains(&object.path)) {
            if let Place::Pin(name) = object.place {
                self.pinned.lock().remove(&name);
            }
        }
        self.change(id, |batch| batch.objects.retain(|object| !confirmed.contains(&object.path)));
        confirmed.len() == chunk.len()
    }

    /// Removes the lists of a batch once nothing of it is left, and forgets the batch.
    async fn remove_lists(&self, id: Uid, report: &mut GcReport) {
        let Some(lists) = self.read(id, |batch| batch.objects.is_empty().then(|| batch.lists.clone())).flatten() else {
            return;
        };
        let results = self.tenure.store().delete(&lists).await;
        let all_answered = results.len() == lists.len();
        let mut all_gone = all_answered;
        for (path, result) in lists.into_iter().zip(results) {
            if let Err(error) = result {
                all_gone = false;
                report.failed.push(Failed { path, reason: error.to_string() });
            }
        }
        if all_gone {
            self.pending.lock().retain(|batch| batch.id != id);
        }
    }

    fn read<T>(&self, id: Uid, read: impl FnOnce(&Batch) -> T) -> Option<T> {
        self.pending.lock().iter().find(|batch| batch.id == id).map(read)
    }

    fn change<T>(&self, id: Uid, change: impl FnOnce(&mut Batch) -> T) -> Option<T> {
        self.pending.lock().iter_mut().find(|batch| batch.id == id).map(change)
    }

    /// The report of a call, with what is left.
    fn counted(&self, round: Round) -> GcReport {
        let pending = self.pending.lock();
        GcReport {
            pending_lists: pending.len() as u64,
            pending_objects: pending.iter().map(|batch| batch.objects.len() as u64).sum(),
            ..round.report
        }
    }
}

/// A plan as it is condemned: at once if it drops a checkpoint, whose index and files belong together
/// (D1); otherwise a list at a time.
fn parts_of(mut plan: GcPlan) -> impl Iterator<Item = GcPlan> {
    let is_one = !plan.dropped.is_empty() || plan.objects.len() <= CONDEMNED_BATCH_OBJECTS;
    let length = if is_one { usize::MAX } else { CONDEMNED_BATCH_OBJECTS };
    let mut objects = std::mem::take(&mut plan.objects).into_iter();
    let first = objects.by_ref().take(length).collect();
    let empty = GcPlan::empty(plan.job.clone());
    let first = GcPlan { objects: first, ..plan };
    let rest = std::iter::from_fn(move || {
        let objects: Vec<_> = objects.by_ref().take(length).collect();
        (!objects.is_empty()).then(|| GcPlan { objects, ..empty.clone() })
    });
    std::iter::once(first).chain(rest)
}

fn is_index(object: &PlannedObject) -> bool {
    matches!(object.place, Place::Metadata(_))
}

fn is_epoch_record(object: &PlannedObject) -> bool {
    matches!(object.place, Place::Claim(_) | Place::Start(_) | Place::End(_))
}
