//! Damaged objects: shared no further (X1-X4 of `docs/protocol.md`).
//!
//! A shared object that is damaged on the store would be shared for ever: tables are known by identity and
//! carried over unread, and equal content is not sent twice. Once the coordinator is told, it hands the
//! object out no more, and its next trigger names it, so that the content is sent again from the
//! subtask's own file. Nothing is deleted: older checkpoints still name the object, and are as damaged as
//! before.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;

use super::core::{Coordinator, State};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{DistrustName, SharedName, SubtaskName, Uid};
use crate::metadata::{CheckpointKind, ControlRecord, Distrust, FileEntry, Location};
use crate::ownership::JobView;
use crate::snapshot::{FileSet, lies_in};

/// The most distrust records of one job. Every claim reads their names.
pub const MAX_DISTRUST_RECORDS: usize = 16_384;
/// Records that are written at a time.
const WRITE_CONCURRENCY: usize = 8;
/// Why checkpoints in flight are given up.
const DAMAGED_MEANWHILE: &str = "a stored object that it may share was found damaged";

/// What became of objects that were said to be damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distrusted {
    /// No later checkpoint shares these, from now on.
    pub marked: Vec<SharedName>,
    /// That was so already.
    pub known: Vec<SharedName>,
    /// No checkpoint that counts has these: there is nothing to do.
    pub unneeded: Vec<SharedName>,
}

impl fmt::Display for Distrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (marked, known, unneeded) = (self.marked.len(), self.known.len(), self.unneeded.len());
        write!(f, "{marked} objects shared no more, {known} were so already, {unneeded} needed by no checkpoint")
    }
}

impl Coordinator {
    /// Shares these objects with no later checkpoint: the next one that has their content stores it anew,
    /// in objects of other names, and nothing else. For objects that are damaged on the store, or lost; to say it
    /// of a sound one costs an upload and no more. Checkpoints that name them are left as they are.
    ///
    /// It is durable when this returns: later owners know it, too. Incremental checkpoints in flight are
    /// given up, as they may share what is damaged; that counts as no failure.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] above [`MAX_DISTRUST_RECORDS`], and nothing is done; the tenure's end;
    /// what the store says of writing the records: then it holds for this tenure all the same, and may be
    /// asked for again.
    pub async fn distrust(&self, objects: &[SharedName], reason: &str) -> Result<Distrusted> {
        let no_commit = self.commits.lock().await;
        let _no_plan = self.plans.lock().await;
        self.tenure.check()?;
        let view = self.counting.now();
        let mut outcome = Distrusted::default();
        for object in needed(&view, objects) {
            match object {
                (name, false) => outcome.unneeded.push(name),
                (name, true) if view.is_distrusted(&name) => outcome.known.push(name),
                (name, true) => outcome.marked.push(name),
            }
        }
        if view.distrusted.len().saturating_add(outcome.marked.len()) > MAX_DISTRUST_RECORDS {
            let message = format!("a job may have {MAX_DISTRUST_RECORDS} records of damaged objects");
            return Err(Error::new(ErrorKind::LimitExceeded, "distrust objects", message)
                .with_object(self.layout.root())
                .with_advice("take checkpoints under another job: too much of this one is damaged"));
        }
        self.hand_out_no_more(outcome.marked.iter().chain(&outcome.known))?; // X1
        drop(no_commit);
        self.record_distrust(&outcome.marked, reason).await?; // X2
        self.tenure.look().await?;
        tracing::info!(job = %self.layout.job(), marked = outcome.marked.len(), reason, "damaged objects");
        Ok(outcome)
    }

    /// X1. To be called while nothing is committed.
    fn hand_out_no_more<'a>(&self, objects: impl Iterator<Item = &'a SharedName>) -> Result<()> {
        let (fresh, base) = {
            let state = self.state.lock();
            let fresh = objects.filter(|name| !state.distrust.known.contains(name));
            (
                fresh.copied().collect::<BTreeSet<SharedName>>(),
                state.newest_incremental().map(|done| done.files.clone()),
            )
        };
        if fresh.is_empty() {
            return Ok(());
        }
        // First of all: what is triggered from here on is answered without them.
        let names: Vec<SharedName> = fresh.iter().copied().collect();
        self.registry.distrust(&names)?;
        let in_base = found_in(&fresh, base.iter().flatten());
        let in_flight = {
            let mut state = self.state.lock();
            state.distrust.note(fresh, in_base);
            let incremental: Vec<_> = state
                .pending
                .iter()
                .filter(|(_, pending)| pending.trigger.kind == CheckpointKind::Incremental)
                .map(|(id, _)| *id)
                .collect();
            let taken = incremental.into_iter().filter_map(|id| Some((id, state.pending.remove(&id)?)));
            taken.collect::<Vec<_>>()
        };
        for (checkpoint, pending) in in_flight {
            self.given_up(checkpoint, &pending, DAMAGED_MEANWHILE, false);
        }
        Ok(())
    }

    /// X2: a record each. Those that are confirmed are noted, whatever becomes of the others.
    async fn record_distrust(&self, objects: &[SharedName], reason: &str) -> Result<()> {
        let (writer, created_at_unix_ms) = (self.tenure.epoch(), self.env.clock.unix_time_ms());
        let mut writes = Vec::with_capacity(objects.len());
        for object in objects {
            let name = DistrustName { object: *object, writer, uid: Uid::random(&*self.env.randomness) };
            let record = Distrust { name, reason: reason.to_owned(), created_at_unix_ms };
            writes.push((name, self.layout.distrust(&name)?, Bytes::from(record.encode()?)));
        }
        let store = &self.store;
        let mut written = futures::stream::iter(writes)
            .map(|(name, path, bytes)| async move { (name, store.put(&path, bytes).await) })
            .buffer_unordered(WRITE_CONCURRENCY);
        let mut first_error = None;
        while let Some((name, result)) = written.next().await {
            match result {
                Ok(()) => {
                    self.counting.note(|view| view.distrusted.insert(name));
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(()), |error| {
            Err(error.with_advice("ask again: it holds until this owner's end, and a later one may not know it"))
        })
    }
}

/// What a tenure knows of damaged objects.
#[derive(Debug, Default)]
pub(super) struct DistrustState {
    /// All that it was told of, and what it found recorded.
    known: BTreeSet<SharedName>,
    /// Those that the newest incremental checkpoint has: the next trigger names them.
    pub(super) in_base: Arc<BTreeSet<SharedName>>,
    /// How often something was added.
    pub(super) changes: u64,
}

impl DistrustState {
    /// What a claim found: `base` is the newest incremental checkpoint.
    pub(super) fn recovered(view: &JobView, base: Option<&BTreeMap<SubtaskName, FileSet>>) -> Self {
        let known: BTreeSet<SharedName> = view.distrusted.iter().map(|record| record.object).collect();
        let in_base = Arc::new(found_in(&known, base.into_iter().flatten()));
        Self { known, in_base, changes: 0 }
    }

    /// Every damaged object that is known.
    pub(super) fn known(&self) -> impl Iterator<Item = &SharedName> {
        self.known.iter()
    }

    fn note(&mut self, fresh: BTreeSet<SharedName>, in_base: BTreeSet<SharedName>) {
        self.known.extend(fresh);
        Arc::make_mut(&mut self.in_base).extend(in_base);
        self.changes = self.changes.saturating_add(1);
    }
}

impl State {
    /// Refuses a checkpoint that was triggered before damage was found: it may share what is damaged.
    pub(super) fn check_distrust(&self, triggered_after_changes: u64) -> Result<()> {
        if self.distrust.changes == triggered_after_changes {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Changed, "commit a checkpoint", DAMAGED_MEANWHILE)
            .with_advice("take the next one: it stores the content anew"))
    }
}

/// Those of `objects` that some of these files lie in.
fn found_in<'a>(
    objects: &BTreeSet<SharedName>,
    files: impl Iterator<Item = (&'a SubtaskName, &'a FileSet)>,
) -> BTreeSet<SharedName> {
    if objects.is_empty() {
        return BTreeSet::new();
    }
    let entries = files.flat_map(|(_, files)| files.entries()).filter(|entry| lies_in(entry, objects));
    entries.filter_map(|entry| object_name(entry)?.parse().ok()).collect()
}

/// Each of `objects` once, and whether a checkpoint that counts needs it, or may need it: one whose index
/// cannot be read may need anything.
fn needed(view: &JobView, objects: &[SharedName]) -> Vec<(SharedName, bool)> {
    let asked: BTreeMap<SharedName, String> = objects.iter().map(|name| (*name, name.to_string())).collect();
    let texts: HashSet<&str> = asked.values().map(String::as_str).collect();
    let mut found: HashSet<&str> = HashSet::new();
    let mut anything = false;
    for checkpoint in view.checkpoints.values() {
        match &checkpoint.content {
            Ok(metadata) => found.extend(metadata.files().filter_map(object_name).filter(|name| texts.contains(name))),
            Err(_) => anything = true,
        }
    }
    asked.iter().map(|(name, text)| (*name, anything || found.contains(text.as_str()))).collect()
}

/// The last part of the path of the object that a file lies in, if others may share it.
fn object_name(entry: &FileEntry) -> Option<&str> {
    match &entry.location {
        Location::InRoot(path) => Some(path.file_name()),
        Location::InCheckpoint(_) => None,
    }
}
