//! An operator with keyed state.

use timely::ExchangeData;

use super::event_time::EventTimers;
use super::stage::{Stage, add_stage};
use super::stream::DataStream;
use super::worker::Checkpoints;
use crate::error::Result;
use crate::keygroup::KeyHash;
use crate::state::typed::{Codec, KeyContext, Postcard, Timer};
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

    /// Its event-time timers, if it has any.
    fn timers(&mut self) -> Option<&mut EventTimers> {
        None
    }

    /// A timer is due, and gone. Its key and namespace are the current ones. Due timers fire in the order of their times,
    /// those of one time in the order of key groups, then of encoded keys: the earliest is over before the next begins,
    /// and one that is registered now fires, too, if it is due. Watermarks go on downstream after all of them.
    ///
    /// # Errors
    /// Any one: the job's tasks have failed then.
    fn on_timer(
        &mut self,
        _keys: &mut KeyContext<Self::Key, B>,
        _timer: Timer<Self::Key>,
        _output: &mut Vec<Self::Output>,
    ) -> Result<()> {
        Ok(())
    }
}

/// Runs an operator over a stream. Each record goes to the worker that owns its key group, which is the subtask of the
/// worker's number.
///
/// # Errors
/// [`crate::ErrorKind::InvalidInput`] if the task is not this worker's subtask.
pub fn keyed<'scope, B, P>(
    stream: DataStream<'scope, P::Input>,
    name: &str,
    operator: P,
    keys: KeyContext<P::Key, B>,
    checkpoints: &Checkpoints,
) -> Result<DataStream<'scope, P::Output>>
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

    fn advance(&mut self, watermark_ms: i64) -> bool {
        self.operator.timers().is_some_and(|timers| timers.advance(watermark_ms))
    }

    fn fire(&mut self, output: &mut Vec<P::Output>) -> Result<bool> {
        let Some(timers) = self.operator.timers() else { return Ok(false) };
        let Some(timer) = timers.pop_due(&mut self.keys)? else { return Ok(false) };
        self.operator.on_timer(&mut self.keys, timer, output)?;
        Ok(true)
    }

    fn freezing(&mut self) -> Result<()> {
        self.operator.timers().map_or(Ok(()), |timers| timers.store(self.keys.backend_mut()))
    }
}
