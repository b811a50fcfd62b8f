//! Of all candidates of a group in a window, those of the highest measure: the step that q5 and q7 share.

use icecore::Result;
use icecore::job::dataflow::{EventTimers, KeyedOperator};
use icecore::state::typed::{KeyContext, Timer, ValueState};
use icecore::task::CheckpointedTask;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use timely::ExchangeData;

use super::window::Window;

/// Something that is compared with others of its group and window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Candidate<T> {
    pub group: u64,
    pub window_end_ms: i64,
    pub measure: u64,
    pub item: T,
}

/// Lets those of the highest measure through, at the end of the window.
pub struct Highest<T> {
    /// The highest measure yet, and what has it.
    leaders: ValueState<(u64, Vec<T>)>,
    timers: EventTimers,
}

impl<T: Serialize + DeserializeOwned> Highest<T> {
    pub fn open<B: CheckpointedTask>(keys: &mut KeyContext<(u64, i64), B>) -> Result<Self> {
        Ok(Self { leaders: keys.value_state("leaders")?, timers: EventTimers::open(keys, "window-ends")? })
    }
}

impl<T, B> KeyedOperator<B> for Highest<T>
where
    T: ExchangeData + Clone + Serialize + DeserializeOwned,
    B: CheckpointedTask,
{
    type Key = (u64, i64);
    type Input = Candidate<T>;
    type Output = Candidate<T>;

    fn key(candidate: &Candidate<T>) -> (u64, i64) {
        (candidate.group, candidate.window_end_ms)
    }

    fn record(
        &mut self,
        keys: &mut KeyContext<(u64, i64), B>,
        candidate: Candidate<T>,
        _output: &mut Vec<Candidate<T>>,
    ) -> Result<()> {
        let window = Window { end_ms: candidate.window_end_ms };
        if self.timers.has_passed(window.last_ms()) {
            return Ok(());
        }
        let (highest, mut items) = self.leaders.get(keys)?.unwrap_or_default();
        if items.is_empty() {
            self.timers.register(keys, window.last_ms())?;
        } else if candidate.measure < highest {
            return Ok(());
        } else if candidate.measure > highest {
            items.clear();
        }
        items.push(candidate.item);
        self.leaders.set(keys, &(candidate.measure, items))
    }

    fn timers(&mut self) -> Option<&mut EventTimers> {
        Some(&mut self.timers)
    }

    fn on_timer(
        &mut self,
        keys: &mut KeyContext<(u64, i64), B>,
        timer: Timer<(u64, i64)>,
        output: &mut Vec<Candidate<T>>,
    ) -> Result<()> {
        let (group, window_end_ms) = timer.key;
        let (measure, items) = self.leaders.get(keys)?.unwrap_or_default();
        self.leaders.clear(keys)?;
        output.extend(items.into_iter().map(|item| Candidate { group, window_end_ms, measure, item }));
        Ok(())
    }
}
