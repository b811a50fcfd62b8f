//! A sink whose outputs become visible once, and only with the checkpoint that they belong to.
//!
//! Outputs are written into the sink's own keyed state as they come, in a *transaction* that was opened by the last
//! checkpoint and is closed by the next. So the checkpoint itself holds every output that nobody has committed yet (the
//! pre-commit): nothing of it is lost if the process dies between a checkpoint's completion and the commit, and no
//! second store with transactions of its own is needed. When the sink hears that a checkpoint is complete, it hands the
//! transactions that it closed to the [`Committer`], part by part, and goes on with its records meanwhile.
//!
//! # When outputs are forgotten
//!
//! The committer works on a thread of its own. The sink deletes a part from its state when the commit of that part has
//! come through, not before. So a checkpoint that is frozen before holds the part still, although its commit may be
//! through by the time the checkpoint completes. That is what makes a crash harmless, wherever it comes:
//!
//! | the run ends | the newest complete checkpoint | the next run |
//! |---|---|---|
//! | before the checkpoint that closes it is complete | has some of its outputs, or none | makes the others again from the sources; the transaction is another one, or longer: nothing of it was committed |
//! | before or during the commit | holds the part | commits it again |
//! | after the commit, before a checkpoint that was frozen after the deletion is complete | holds the part | commits it again: nothing may change |
//! | after such a checkpoint is complete | does not hold it | knows nothing of it |
//!
//! A part is deleted between two records, so a frozen state holds it whole or not at all.
//!
//! # Names
//!
//! After a recovery all that the restored state holds is of a complete checkpoint, so it is handed over again, before
//! anything newer of its key group: hence the committer must be idempotent. What came after that checkpoint is gone with
//! the state, and the sources give it again.
//!
//! A transaction's name, and what is in it, is the same however often it is committed, and by whichever worker after a
//! rescale: it is that of the checkpoint that opened it and of a key group. No transaction of a run that failed can take
//! the name of one that was committed: a commit follows a complete checkpoint, and the next run opens its first
//! transaction by that one or a newer one, whatever it restores. A run that restores an older one puts out again, under new names, what was
//! committed since; a savepoint is committed by the run that restores it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use serde::Serialize;
use serde::de::DeserializeOwned;
use timely::ExchangeData;
use timely::scheduling::SyncActivator;

use super::commits::Commits;
use super::stage::{Beside, Stage, add_stage};
use super::stream::DataStream;
use super::worker::Checkpoints;
use crate::error::{Error, Result};
use crate::keygroup::{KeyGroup, KeyHash};
use crate::layout::CheckpointId;
use crate::metadata::{StateKind, StateSchema};
use crate::state::typed::{Codec, Postcard};
use crate::state::{RowBounds, StateId};
use crate::task::CheckpointedTask;

/// Outputs that one call of [`Committer::commit`] gets at most: a longer transaction comes in several parts.
pub const MAX_OUTPUTS_PER_COMMIT: u64 = 16_384;
/// How many checkpoints may complete while what is to be committed never gets done. Then the sink takes no more outputs in
/// until it is, which holds up the sources: a committer that is too slow must not fill the state.
pub const MAX_CHECKPOINTS_UNCOMMITTED: u64 = 8;
/// The state that holds outputs until they are committed. Its rows: key group | no key, no namespace | transaction, number.
const STATE: &str = "uncommitted-outputs";
const READ: &str = "read uncommitted outputs";

/// The name of a set of outputs. The same name always means the same outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Transaction {
    /// The checkpoint that opened it: its outputs came after that one. 0 before the first.
    pub after: CheckpointId,
    /// The key group of the outputs' keys.
    pub key_group: KeyGroup,
    /// The part of it, from 0 on, not without gaps.
    pub part: u64,
}

/// Where a job's outputs go to. It works on a thread of its own.
pub trait Committer: Send + 'static {
    /// What is put out.
    type Output: ExchangeData + Serialize + DeserializeOwned;
    /// What outputs are distributed by.
    type Key: KeyHash;

    /// The key of an output: the same on every worker and in every run. Of how many key groups the sink's task is decides
    /// into how many transactions, at most, the outputs of one checkpoint are divided.
    fn key(output: &Self::Output) -> Self::Key;

    /// Makes the outputs visible, durably, all or none of them. A transaction that was committed before changes nothing:
    /// it may come again after a failure, from another worker. Transactions of one key group come in the order of their
    /// names, outputs of one key in their own order.
    ///
    /// May take its time: the dataflow goes on meanwhile. But a worker does not end before the call has returned, so it
    /// must not wait for ever.
    ///
    /// # Errors
    /// Any one: the job's tasks have failed then, and the next run commits the transaction again.
    fn commit(&mut self, transaction: Transaction, outputs: Vec<Self::Output>) -> Result<()>;
}

/// Ends a stream in a committer. Whatever the restored `task` holds is committed first.
///
/// Checkpoints of the run must have greater numbers than `newest`; behind a savepoint, or a checkpoint of another job, say so to the
/// coordinator ([`Coordinator::number_behind`](crate::coordinator::Coordinator::number_behind)).
///
/// `newest`: the newest checkpoint that was complete when the run began, `None` if none was. Mostly the task was restored from that; after a
/// damaged one it was restored from an older one, and takes names behind all that may have been committed.
///
/// # Errors
/// [`crate::ErrorKind::InvalidInput`] if the task is not this worker's subtask, or is of another checkpoint;
/// [`crate::ErrorKind::SchemaMismatch`] if the restored outputs are of another type.
pub fn sink<C: Committer, B: CheckpointedTask + 'static>(
    stream: DataStream<'_, C::Output>,
    name: &str,
    committer: C,
    mut task: B,
    newest: Option<CheckpointId>,
    checkpoints: &Checkpoints,
) -> Result<()> {
    let codec = Postcard::default();
    let schema = StateSchema {
        name: STATE.to_owned(),
        kind: StateKind::Map,
        key_serializer: "none".to_owned(),
        value_serializer: Codec::<C::Output>::name(&codec).into_owned(),
    };
    let state = task.open_state(&schema)?;
    let after = newest.unwrap_or(CheckpointId(0));
    let (due, next) = (task.key_groups().iter().collect(), task.key_groups().first());
    let commits = Commits::new(name, committer);
    let written = BTreeMap::new();
    let sinking = Sinking { commits, task, state, codec, after, written, closed_by: after, due, next, waiting: 0 };
    sinking.check_restored().map_err(|error| error.with_object(name))?;
    let groups = sinking.task.layout().max_parallelism();
    let route = move |output: &C::Output| groups.key_group_of(&C::key(output));
    add_stage(stream, name, sinking, route, checkpoints).map(drop)
}

struct Sinking<C: Committer, B> {
    commits: Commits<C>,
    task: B,
    state: StateId,
    codec: Postcard,
    /// The checkpoint that opened the current transactions.
    after: CheckpointId,
    /// How many outputs the current transactions have.
    written: BTreeMap<KeyGroup, u64>,
    /// A complete checkpoint: the transactions opened before it are to be committed, as all of them were closed by it, or
    /// earlier.
    closed_by: CheckpointId,
    /// The key groups that may have any of those.
    due: BTreeSet<KeyGroup>,
    /// The key group whose turn it is, or of the next that is due: one that always has some must not starve the others.
    next: KeyGroup,
    /// How many checkpoints have completed since nothing was to be committed.
    waiting: u64,
}

impl<C: Committer, B: CheckpointedTask> Sinking<C, B> {
    /// The row of a transaction's output. In byte order rows are in the order of transactions, then of numbers.
    fn row(&self, key_group: KeyGroup, after: CheckpointId, number: u64) -> Vec<u8> {
        let mut row = self.task.layout().row_key(key_group, &[], &[]);
        row.extend_from_slice(&after.0.to_be_bytes());
        row.extend_from_slice(&number.to_be_bytes());
        row
    }

    /// No state has transactions that its own checkpoint opened: new outputs would be written over theirs.
    fn check_restored(&self) -> Result<()> {
        for key_group in self.task.key_groups().iter() {
            let (start, end) = (self.row(key_group, self.after, 0), self.row(key_group, CheckpointId(u64::MAX), 0));
            let mut found = None;
            self.task.scan(self.state, RowBounds { start: &start, end: Some(&end) }, &mut |row, _| {
                found = Some(self.transaction_of(row)?);
                Ok(ControlFlow::Break(()))
            })?;
            if let Some(Transaction { after, .. }) = found {
                let message = format!("its task has outputs that came after checkpoint {after}");
                return Err(Error::invalid("build a dataflow", message)
                    .with_advice("say which checkpoint the task was restored from"));
            }
        }
        Ok(())
    }

    /// The next part to be committed.
    fn next_part(&mut self) -> Result<Option<(Transaction, Vec<C::Output>)>> {
        while let Some(key_group) = self.due.range(self.next..).chain(&self.due).next().copied() {
            // Beyond the last one it begins anew.
            self.next = key_group.saturating_add(1);
            if let Some(part) = self.first_part(key_group, self.closed_by)? {
                return Ok(Some(part));
            }
            self.due.remove(&key_group);
        }
        Ok(None)
    }

    /// Deletes what was committed.
    fn forget(&mut self, transaction: Transaction) -> Result<()> {
        let Transaction { after, key_group, part } = transaction;
        let start = self.row(key_group, after, part.saturating_mul(MAX_OUTPUTS_PER_COMMIT));
        let end = self.row(key_group, after, part.saturating_add(1).saturating_mul(MAX_OUTPUTS_PER_COMMIT));
        self.task.delete_rows(self.state, RowBounds { start: &start, end: Some(&end) })
    }

    /// The first part of the first transaction of a key group that was opened before `checkpoint`.
    fn first_part(
        &self,
        key_group: KeyGroup,
        checkpoint: CheckpointId,
    ) -> Result<Option<(Transaction, Vec<C::Output>)>> {
        let (start, end) = (self.row(key_group, CheckpointId(0), 0), self.row(key_group, checkpoint, 0));
        let mut found: Option<(Transaction, Vec<C::Output>)> = None;
        self.task.scan(self.state, RowBounds { start: &start, end: Some(&end) }, &mut |row, value| {
            let transaction = self.transaction_of(row)?;
            let (first, outputs) = found.get_or_insert_with(|| (transaction, Vec::new()));
            if *first != transaction {
                return Ok(ControlFlow::Break(()));
            }
            outputs.push(self.codec.decode(value)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    fn transaction_of(&self, row: &[u8]) -> Result<Transaction> {
        let parts = self.task.layout().parse_row(row)?;
        let corrupt = || Error::corrupt(READ, STATE, "the row of an output is no transaction and number");
        let (after, number) = parts.user_key.split_first_chunk::<8>().ok_or_else(corrupt)?;
        let number: [u8; 8] = number.try_into().map_err(|_| corrupt())?;
        let part = u64::from_be_bytes(number) / MAX_OUTPUTS_PER_COMMIT;
        Ok(Transaction { after: CheckpointId(u64::from_be_bytes(*after)), key_group: parts.key_group, part })
    }
}

impl<C: Committer, B: CheckpointedTask + 'static> Stage for Sinking<C, B> {
    type Input = C::Output;
    type Output = ();

    fn task(&mut self) -> &mut dyn CheckpointedTask {
        &mut self.task
    }

    fn record(&mut self, record: C::Output, _output: &mut Vec<()>) -> Result<()> {
        let key_group = self.task.layout().max_parallelism().key_group_of(&C::key(&record));
        let written = self.written.entry(key_group).or_default();
        let number = *written;
        *written += 1;
        let mut value = Vec::new();
        self.codec.encode(&record, &mut value)?;
        let row = self.row(key_group, self.after, number);
        self.task.put(self.state, &row, &value)
    }

    fn frozen(&mut self, checkpoint: CheckpointId) -> Result<()> {
        if checkpoint <= self.after {
            // Its transactions would be named as others are, or before them: lost, or committed too early.
            let message = format!("checkpoint {checkpoint} is not behind checkpoint {}, which came before", self.after);
            return Err(Error::invalid("freeze a sink", message)
                .with_advice("let the coordinator number behind what was restored: `Coordinator::number_behind`"));
        }
        self.after = checkpoint;
        self.written.clear();
        Ok(())
    }

    fn completed(&mut self, checkpoint: CheckpointId) -> Result<()> {
        self.closed_by = self.closed_by.max(checkpoint);
        self.due.extend(self.task.key_groups().iter());
        self.waiting += 1;
        Ok(())
    }

    fn wake_by(&mut self, waker: SyncActivator) {
        self.commits.wake_by(waker);
    }

    fn go_on(&mut self) -> Result<Beside> {
        if let Some(transaction) = self.commits.committed()? {
            self.forget(transaction)?;
        }
        if self.commits.is_free() {
            match self.next_part()? {
                Some((transaction, outputs)) => self.commits.hand_over(transaction, outputs)?,
                None => self.waiting = 0,
            }
        }
        Ok(match self.waiting {
            _ if self.commits.is_free() => Beside::Idle,
            ..=MAX_CHECKPOINTS_UNCOMMITTED => Beside::UnderWay,
            _ => Beside::TooFarBehind,
        })
    }
}
