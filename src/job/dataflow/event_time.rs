//! The event time of an operator: its timers, and how far time has come for it.

use crate::error::Result;
use crate::keygroup::KeyHash;
use crate::metadata::{StateKind, StateSchema};
use crate::state::typed::{Codec, KeyContext, Postcard, Timer, TimerService};
use crate::state::{KeyedBackend, StateId};

use super::watermark::{END_OF_TIME_MS, NO_WATERMARK_MS};

/// An operator's event-time timers, and the event time that it has come to. Both are state, so they are in checkpoints.
///
/// **After a restore** time stands where it stood at the checkpoint, until all senders have said something later. A
/// checkpoint's cut goes through what each sender has said at the same place for every receiver, so all subtasks had come
/// to the same time there, and any other number of them can begin with it. Were it left to the senders to say it again,
/// a record that was late in the run before might come in before they do, be taken for one in time, and make a window
/// that was put out and forgotten begin anew.
#[derive(Debug)]
pub struct EventTimers {
    service: TimerService,
    /// Rows: key group | no key, no namespace.
    time: StateId,
    codec: Postcard,
    watermark_ms: i64,
    /// The time that the state holds.
    stored_ms: i64,
}

impl EventTimers {
    /// Opens the timers of this name, and the time they had come to if the state was restored.
    ///
    /// # Errors
    /// As [`KeyContext::timer_service`], [`KeyedBackend::open_state`] and [`KeyedBackend::read`];
    /// [`crate::ErrorKind::Corrupt`] if what is stored is no time.
    pub fn open<K, B>(keys: &mut KeyContext<K, B>, name: &str) -> Result<Self>
    where
        K: KeyHash,
        B: KeyedBackend,
        Postcard: Codec<K>,
    {
        let service = keys.timer_service(name)?;
        let codec = Postcard::default();
        let schema = StateSchema {
            name: format!("{name}-event-time"),
            kind: StateKind::Value,
            key_serializer: "none".to_owned(),
            value_serializer: Codec::<i64>::name(&codec).into_owned(),
        };
        let time = keys.backend_mut().open_state(&schema)?;
        let mut timers = Self { service, time, codec, watermark_ms: NO_WATERMARK_MS, stored_ms: NO_WATERMARK_MS };
        timers.stored_ms = timers.restored_ms(keys.backend()).map_err(|error| error.with_object(schema.name))?;
        timers.watermark_ms = timers.stored_ms;
        Ok(timers)
    }

    /// How far event time has come: a record of this time or an earlier one is late. [`NO_WATERMARK_MS`] if nobody has
    /// said anything yet.
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// Whether event time has come to `timestamp_ms` or further: a timer of it would have fired.
    pub fn has_passed(&self, timestamp_ms: i64) -> bool {
        self.watermark_ms >= timestamp_ms
    }

    /// Registers a timer for the current key and namespace. Registering it again changes nothing. It fires when event
    /// time comes to it; one for a time that has passed, when event time next comes further.
    ///
    /// # Errors
    /// As [`TimerService::register`].
    pub fn register<K, B: KeyedBackend>(&mut self, keys: &mut KeyContext<K, B>, timestamp_ms: i64) -> Result<()> {
        self.service.register(keys, timestamp_ms)
    }

    /// Deletes a timer of the current key and namespace; it need not be there.
    ///
    /// # Errors
    /// As [`TimerService::delete`].
    pub fn delete<K, B: KeyedBackend>(&mut self, keys: &mut KeyContext<K, B>, timestamp_ms: i64) -> Result<()> {
        self.service.delete(keys, timestamp_ms)
    }

    /// Event time has come to `watermark_ms`. False if it had come so far in the run before.
    pub(super) fn advance(&mut self, watermark_ms: i64) -> bool {
        let is_news = watermark_ms > self.watermark_ms;
        self.watermark_ms = watermark_ms.max(self.watermark_ms);
        is_news
    }

    /// Takes the earliest timer that is due away, and makes its key and namespace the current ones.
    pub(super) fn pop_due<K, B: KeyedBackend>(&mut self, keys: &mut KeyContext<K, B>) -> Result<Option<Timer<K>>>
    where
        Postcard: Codec<K>,
    {
        self.service.pop_due(keys, self.watermark_ms)
    }

    /// Writes the time into the state, for the checkpoint that is about to be taken. Not the end of time, which is none:
    /// a job that has come to the end of what there was may go on when there is more.
    pub(super) fn store(&mut self, backend: &mut impl KeyedBackend) -> Result<()> {
        if self.watermark_ms == self.stored_ms || self.watermark_ms == END_OF_TIME_MS {
            return Ok(());
        }
        let mut value = Vec::new();
        self.codec.encode(&self.watermark_ms, &mut value)?;
        // For each key group: whoever owns some of them next finds it.
        for key_group in backend.key_groups().iter() {
            let row = backend.layout().row_key(key_group, &[], &[]);
            backend.put(self.time, &row, &value)?;
        }
        self.stored_ms = self.watermark_ms;
        Ok(())
    }

    /// The time in the state. All key groups have the same one.
    fn restored_ms(&self, backend: &impl KeyedBackend) -> Result<i64> {
        let mut least_ms = END_OF_TIME_MS;
        for key_group in backend.key_groups().iter() {
            let row = backend.layout().row_key(key_group, &[], &[]);
            let mut stored_ms = NO_WATERMARK_MS;
            backend.read(self.time, &row, &mut |value| {
                stored_ms = self.codec.decode(value)?;
                Ok(())
            })?;
            least_ms = least_ms.min(stored_ms);
        }
        Ok(least_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keygroup::MaxParallelism;
    use crate::state::heap::HeapBackend;

    type Keys = KeyContext<u64, HeapBackend>;

    fn empty() -> Keys {
        let groups = MaxParallelism::new(8).unwrap();
        KeyContext::new(HeapBackend::new(groups, groups.all_groups()).unwrap())
    }

    fn register(timers: &mut EventTimers, keys: &mut Keys, key: u64, timestamp_ms: i64) {
        keys.set_current_key(&key).unwrap();
        timers.register(keys, timestamp_ms).unwrap();
    }

    fn due(timers: &mut EventTimers, keys: &mut Keys) -> Vec<i64> {
        std::iter::from_fn(|| timers.pop_due(keys).unwrap()).map(|timer| timer.timestamp_ms).collect()
    }

    /// Opens the timers anew, as a restore does.
    fn reopened(keys: Keys) -> (EventTimers, Keys) {
        let mut keys = KeyContext::new(keys.into_backend());
        (EventTimers::open(&mut keys, "ends").unwrap(), keys)
    }

    #[test]
    fn timers_are_due_in_the_order_of_their_times_when_event_time_has_come_to_them() {
        let (mut timers, mut keys) = reopened(empty());
        for (key, timestamp_ms) in [(1, 30), (2, 10), (3, 20), (1, 31)] {
            register(&mut timers, &mut keys, key, timestamp_ms);
        }
        assert!(due(&mut timers, &mut keys).is_empty());
        assert!(timers.advance(30));
        assert_eq!(due(&mut timers, &mut keys), [10, 20, 30]);
        assert!(timers.has_passed(30) && !timers.has_passed(31));
    }

    #[test]
    fn event_time_stands_after_a_restore_where_it_stood() {
        let (mut timers, mut keys) = reopened(empty());
        timers.advance(30);
        timers.store(keys.backend_mut()).unwrap();
        timers.advance(40);
        let (mut timers, mut keys) = reopened(keys);
        assert_eq!(timers.watermark_ms(), 30);
        // A late one, as it would be without the restore: it waits for the next time that is news.
        register(&mut timers, &mut keys, 1, 20);
        assert!(!timers.advance(25), "it had come to that before");
        assert!(!timers.advance(30));
        assert!(timers.advance(31));
        assert_eq!(due(&mut timers, &mut keys), [20]);
    }

    #[test]
    fn the_end_of_time_is_not_kept() {
        let (mut timers, mut keys) = reopened(empty());
        timers.advance(30);
        timers.store(keys.backend_mut()).unwrap();
        timers.advance(END_OF_TIME_MS);
        timers.store(keys.backend_mut()).unwrap();
        assert_eq!(reopened(keys).0.watermark_ms(), 30);
    }

    #[test]
    fn what_is_stored_and_no_time_is_an_error() {
        let (timers, mut keys) = reopened(empty());
        let row = keys.backend().layout().row_key(3, &[], &[]);
        let time = timers.time;
        keys.backend_mut().put(time, &row, b"no time at all").unwrap();
        let error = EventTimers::open(&mut KeyContext::<u64, _>::new(keys.into_backend()), "ends").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Corrupt);
    }
}
