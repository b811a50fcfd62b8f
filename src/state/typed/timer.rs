//! Registered timers: rows that are found by time.
//!
//! A timer is one row without a value, its timestamp right behind the key group
//! ([`KeyLayout::timer_key`](crate::state::KeyLayout::timer_key)): the first row of a group is its earliest
//! timer. The service remembers, for each group, a row key below which it has no timer. With that it
//! finds the earliest timer of all groups without scanning each, and never scans again over rows it has
//! deleted (which RocksDB keeps as tombstones for a while). As in Flink, due timers of a subtask fire in
//! the order of their timestamps, whatever their groups.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::{Codec, KeyContext};
use crate::error::Result;
use crate::keygroup::KeyGroup;
use crate::state::{KeyLayout, KeyedBackend, RowBounds, StateId, TimerKey};

/// A timer that was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer<K> {
    /// The key for which it was registered.
    pub key: K,
    /// The namespace in which it was registered; mostly empty.
    pub namespace: Vec<u8>,
    /// When it was due, in milliseconds of its time domain.
    pub timestamp_ms: i64,
}

/// The timers of one time domain (event time or processing time; an engine has a service for each).
#[derive(Debug)]
pub struct TimerService {
    state: StateId,
    layout: KeyLayout,
    first_group: KeyGroup,
    /// By group, counted from the first: no timer of the group has a lesser row key.
    bounds: Vec<Vec<u8>>,
    /// The groups that may have timers, by a timestamp that none of theirs is earlier than.
    queue: BTreeSet<(i64, KeyGroup)>,
    /// By group: the timestamp under which it stands in the queue.
    queued_at: Vec<Option<i64>>,
}

impl TimerService {
    pub(super) fn new(state: StateId, backend: &impl KeyedBackend) -> Self {
        let (layout, owned) = (backend.layout(), backend.key_groups());
        Self {
            state,
            layout,
            first_group: owned.first(),
            bounds: owned.iter().map(|group| layout.group_prefix(group)).collect(),
            queue: owned.iter().map(|group| (i64::MIN, group)).collect(),
            queued_at: vec![Some(i64::MIN); owned.len() as usize],
        }
    }

    /// Registers a timer for the current key and namespace. Registering it again changes nothing.
    ///
    /// # Errors
    /// As [`KeyedBackend::put`].
    pub fn register<K, B: KeyedBackend, C>(
        &mut self,
        context: &mut KeyContext<K, B, C>,
        timestamp_ms: i64,
    ) -> Result<()> {
        let (key_group, row) = self.row(context, timestamp_ms)?;
        context.backend_mut().put(self.state, &row, &[])?;
        let at = self.slot(key_group);
        if let Some(bound) = self.bounds.get_mut(at).filter(|bound| row < **bound) {
            *bound = row;
        }
        let queued_at = self.queued_at.get(at).copied().flatten();
        if queued_at.is_none_or(|queued| timestamp_ms < queued) {
            self.requeue(key_group, Some(timestamp_ms));
        }
        Ok(())
    }

    /// Deletes a timer of the current key and namespace; it need not be there.
    ///
    /// # Errors
    /// As [`KeyedBackend::delete`].
    pub fn delete<K, B: KeyedBackend, C>(
        &mut self,
        context: &mut KeyContext<K, B, C>,
        timestamp_ms: i64,
    ) -> Result<()> {
        let (_, row) = self.row(context, timestamp_ms)?;
        context.backend_mut().delete(self.state, &row)
    }

    /// When the earliest timer is due, in milliseconds of its time domain.
    ///
    /// # Errors
    /// As [`KeyedBackend::scan`].
    pub fn next_due_ms<K, B: KeyedBackend, C>(&mut self, context: &KeyContext<K, B, C>) -> Result<Option<i64>> {
        Ok(self.earliest(context.backend(), i64::MAX)?.map(|(timestamp_ms, _, _)| timestamp_ms))
    }

    /// Takes the earliest timer that is due at `now_ms` (the watermark, or the time) away, and makes
    /// its key and namespace the current ones; `None` if no timer is due.
    ///
    /// # Errors
    /// As [`KeyedBackend::scan`] and [`KeyedBackend::delete`]; what the codec of keys fails with.
    pub fn pop_due<K, B: KeyedBackend, C: Codec<K>>(
        &mut self,
        context: &mut KeyContext<K, B, C>,
        now_ms: i64,
    ) -> Result<Option<Timer<K>>> {
        let Some((timestamp_ms, key_group, row)) = self.earliest(context.backend(), now_ms)? else {
            return Ok(None);
        };
        let parts = self.layout.parse_timer(&row)?;
        let (key, namespace) = (parts.key.to_vec(), parts.namespace.to_vec());
        let timer = Timer { key: context.key_codec().decode(&key)?, namespace: namespace.clone(), timestamp_ms };
        context.backend_mut().delete(self.state, &row)?;
        let at = self.slot(key_group);
        if let Some(bound) = self.bounds.get_mut(at) {
            // The least key beyond the deleted one.
            *bound = row;
            bound.push(0);
        }
        context.set_stored_key(key_group, key, namespace);
        Ok(Some(timer))
    }

    /// Fires every timer that is due at `now_ms`, the earliest first: hands it to `on_timer`, with its
    /// key and namespace as the current ones. Timers that `on_timer` registers fire too if they are due;
    /// one that always registers another due one keeps this from returning.
    ///
    /// # Errors
    /// As [`TimerService::pop_due`]; what `on_timer` returns. The timer it was called for is gone then.
    pub fn advance<K, B: KeyedBackend, C: Codec<K>>(
        &mut self,
        context: &mut KeyContext<K, B, C>,
        now_ms: i64,
        mut on_timer: impl FnMut(&mut Self, &mut KeyContext<K, B, C>, Timer<K>) -> Result<()>,
    ) -> Result<()> {
        while let Some(timer) = self.pop_due(context, now_ms)? {
            on_timer(self, context, timer)?;
        }
        Ok(())
    }

    /// The earliest timer, if it is due at `now_ms`. What it learns about groups it remembers.
    fn earliest(&mut self, backend: &impl KeyedBackend, now_ms: i64) -> Result<Option<(i64, KeyGroup, Vec<u8>)>> {
        while let Some((not_before_ms, key_group)) = self.queue.first().copied() {
            if not_before_ms > now_ms {
                return Ok(None);
            }
            let Some(row) = self.first_row(backend, key_group)? else {
                self.requeue(key_group, None);
                continue;
            };
            let timestamp_ms = self.layout.parse_timer(&row)?.timestamp_ms;
            if timestamp_ms == not_before_ms {
                return Ok(Some((timestamp_ms, key_group, row)));
            }
            let at = self.slot(key_group);
            if let Some(bound) = self.bounds.get_mut(at) {
                *bound = row;
            }
            self.requeue(key_group, Some(timestamp_ms));
        }
        Ok(None)
    }

    fn first_row(&self, backend: &impl KeyedBackend, key_group: KeyGroup) -> Result<Option<Vec<u8>>> {
        let start = self.bounds.get(self.slot(key_group)).map(Vec::as_slice).unwrap_or_default();
        let end = self.layout.group_prefix(key_group.saturating_add(1));
        let mut first = None;
        backend.scan(self.state, RowBounds { start, end: Some(&end) }, &mut |row, _| {
            first = Some(row.to_vec());
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first)
    }

    fn requeue(&mut self, key_group: KeyGroup, timestamp_ms: Option<i64>) {
        let at = self.slot(key_group);
        let Some(queued_at) = self.queued_at.get_mut(at) else { return };
        if let Some(before) = std::mem::replace(queued_at, timestamp_ms) {
            self.queue.remove(&(before, key_group));
        }
        self.queue.extend(timestamp_ms.map(|timestamp| (timestamp, key_group)));
    }

    fn slot(&self, key_group: KeyGroup) -> usize {
        usize::from(key_group.saturating_sub(self.first_group))
    }

    fn row<K, B: KeyedBackend, C>(
        &self,
        context: &KeyContext<K, B, C>,
        timestamp_ms: i64,
    ) -> Result<(KeyGroup, Vec<u8>)> {
        let current = context.current()?;
        let (key_group, key, namespace) = (current.key_group, &current.key, &current.namespace);
        Ok((key_group, self.layout.timer_key(TimerKey { key_group, timestamp_ms, key, namespace })))
    }
}
