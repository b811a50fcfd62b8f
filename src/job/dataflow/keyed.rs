//! An operator with keyed state.

use timely::ExchangeData;
use timely::dataflow::StreamVec;

use super::stage::{Stage, add_stage};
use super::worker::Checkpoints;
use crate::error::Result;
use crate::keygroup::KeyHash;
use crate::state::typed::{Codec, KeyContext, Postcard};
use crate::task::CheckpointedTask;

/// What a keyed operator does with its records. `B` is where its state is.
pub trait KeyedOperator<B: CheckpointedTask>: 'static {
    /// What its state is keyed by.
    type Key: KeyHash + 'static;
    /// What comes in.
    type Input: ExchangeData;
    /// What goes out.
    type Output: Clone + 'static;

    /// The key of a record: the same on every worker and in every run.
    fn key(record: &Self::Input) -> Self::Key;

    /// Takes a record in. Its key is the current one.
    ///
    /// # Errors
    /// Any one: the job's tasks have failed then.
    fn record(
        &mut self,
        keys: &mut KeyContext<Self::Key, B>,
        record: Self::Input,
        output: &mut Vec<Self::Output>,
    ) -> Result<()>;
}

/// Runs an operator over a stream. Each record goes to the worker that owns its key group, which is the subtask of the
/// worker's number.
///
/// # Errors
/// [`crate::ErrorKind::InvalidInput`] if the task is not this worker's subtask.
pub fn keyed<'scope, B, P>(
    stream: StreamVec<'scope, u64, P::Input>,
    name: &str,
    operator: P,
    keys: KeyContext<P::Key, B>,
    checkpoints: &Checkpoints,
) -> Result<StreamVec<'scope, u64, P::Output>>
where
    B: CheckpointedTask + 'static,
    P: KeyedOperator<B>,
    Postcard: Codec<P::Key>,
{
    let groups = keys.backend().layout().max_parallelism();
    let route = move |record: &P::Input| groups.key_group_of(&P::key(record));
    add_stage(stream, name, Keyed { operator, keys }, route, checkpoints)
}

struct Keyed<P: KeyedOperator<B>, B: CheckpointedTask> {
    operator: P,
    keys: KeyContext<P::Key, B>,
}

impl<B, P> Stage for Keyed<P, B>
where
    B: CheckpointedTask + 'static,
    P: KeyedOperator<B>,
    Postcard: Codec<P::Key>,
{
    type Input = P::Input;
    type Output = P::Output;

    fn task(&mut self) -> &mut dyn CheckpointedTask {
        self.keys.backend_mut()
    }

    fn record(&mut self, record: P::Input, output: &mut Vec<P::Output>) -> Result<()> {
        self.keys.set_current_key(&P::key(&record))?;
        self.operator.record(&mut self.keys, record, output)
    }
}
