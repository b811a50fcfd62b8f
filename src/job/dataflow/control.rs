//! What the operators of a dataflow and whoever triggers its checkpoints tell each other.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use timely::scheduling::SyncActivator;

use crate::error::Error;
use crate::layout::{CheckpointId, SubtaskName};
use crate::metadata::SourcePosition;
use crate::snapshot::{LocalSnapshot, Snapshotter, Trigger};

/// How many notifications are remembered for operators that have not heard them. One that missed an older one does as
/// well with the newest: what is complete includes what was before it.
pub const MAX_REMEMBERED_NOTIFICATIONS: usize = 256;

/// What became of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// It is complete.
    Complete(CheckpointId),
    /// It was given up.
    Aborted {
        /// Which one.
        checkpoint: CheckpointId,
        /// Why, for a person.
        reason: Arc<str>,
    },
}

/// What sources and operators are to do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// The epoch that sources are to be in: all before it have ended.
    pub epoch: u64,
    /// Sources are to give nothing more in this run: a last checkpoint is on its way, or will be.
    pub is_pausing: bool,
    /// Sources are to end, whatever they have left.
    pub is_closing: bool,
    /// Some operator cannot go on: all are to end at once.
    pub has_failed: bool,
}

/// How sources and operators learn of checkpoints, and answer. Calls come from timely's threads and return at once.
///
/// Orders may come from another process (`RemoteControl`): then each process may end epochs by itself, up to one that it
/// must not leave before it is told, and checkpoints end only those. So a checkpoint never ends an epoch that a source
/// somewhere has left already.
///
/// **The order that the cut rests on:** a process that sees [`Orders::epoch`] at `e + 1` finds the trigger of `e`, if it
/// has one, in [`CheckpointControl::next_trigger`]. Every worker has every source, and no operator's frontier leaves `e`
/// before the source of its own worker has left it, so no operator can miss a trigger. Likewise a process that sees
/// [`Orders::is_closing`] finds the checkpoints that were complete before among the notifications: a sink commits what they
/// closed before it ends.
pub trait CheckpointControl: fmt::Debug + Send + Sync + 'static {
    /// What is to be done now.
    fn orders(&self) -> Orders;

    /// Each of the dataflow's `workers` has a source of this name. Called before any of the worker's sources is asked for
    /// records.
    fn add_source(&self, source: &str, workers: usize);

    /// Ends `epoch` without a checkpoint, if it is the current one and may be left: a source has given all that it may
    /// in it.
    fn end_epoch(&self, epoch: u64);

    /// The first of `epochs` that ends with a checkpoint, and that checkpoint. One that was given up is none.
    fn next_trigger(&self, epochs: Range<u64>) -> Option<(u64, Trigger)>;

    /// Where some splits of a source stand at the end of each of `epochs`: it gave nothing since the first one's end.
    /// Called before the source leaves them.
    fn note_positions(&self, epochs: Range<u64>, positions: Vec<SourcePosition>);

    /// A source has no more records on worker `worker`. It takes part in checkpoints still.
    fn note_drained(&self, source: &str, worker: usize);

    /// A worker's loop has turned: it is not stuck in an operator.
    fn note_turn(&self) {}

    /// An operator of this worker has processed its first record.
    fn note_resumed(&self) {}

    /// Uploads a subtask's part in the background and acknowledges it, or declines it.
    fn upload(&self, snapshotter: Arc<Snapshotter>, trigger: Trigger, frozen: LocalSnapshot);

    /// Runs what blocks on another thread.
    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>);

    /// A subtask cannot take part. The checkpoint is given up, the job goes on.
    fn decline(&self, checkpoint: CheckpointId, subtask: &SubtaskName, error: &Error);

    /// An operator cannot go on: the job's tasks have failed.
    fn fail(&self, error: Error);

    /// Wakes an operator whenever [`CheckpointControl::orders`] or the notifications change. Returns how many
    /// notifications there were before, for [`CheckpointControl::notifications`].
    fn watch(&self, waker: SyncActivator) -> u64;

    /// What became of checkpoints since `seen` notifications, oldest first; moves `seen` on.
    fn notifications(&self, seen: &mut u64) -> Vec<Notification>;
}
