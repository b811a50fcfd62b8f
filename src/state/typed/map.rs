//! A map a key: one row for each of its entries, so that one entry is read or written alone.

use std::marker::PhantomData;
use std::ops::ControlFlow;

use super::{Codec, KeyContext, Postcard};
use crate::error::Result;
use crate::state::{KeyedBackend, StateId};

/// A state of a map a key. Entries are visited in the order of their encoded user keys.
#[derive(Debug)]
pub struct MapState<U, V, C = Postcard, D = Postcard> {
    state: StateId,
    name: String,
    keys: C,
    values: D,
    entry: PhantomData<fn() -> (U, V)>,
}

impl<U, V, C: Codec<U>, D: Codec<V>> MapState<U, V, C, D> {
    pub(super) fn new((state, name): (StateId, String), keys: C, values: D) -> Self {
        Self { state, name, keys, values, entry: PhantomData }
    }

    /// The value of `user_key` in the current key's map.
    ///
    /// # Errors
    /// As [`KeyedBackend::read`]; what the codecs fail with.
    pub fn get<K, B: KeyedBackend, E>(&self, context: &KeyContext<K, B, E>, user_key: &U) -> Result<Option<V>> {
        let mut found = None;
        let mut decode = |bytes: &[u8]| {
            found = Some(self.values.decode(bytes)?);
            Ok(())
        };
        let read = self.row(context, user_key).and_then(|row| context.backend().read(self.state, &row, &mut decode));
        read.map(|_| found).map_err(|error| error.with_object(&self.name))
    }

    /// Whether the current key's map has an entry for `user_key`.
    ///
    /// # Errors
    /// As [`KeyedBackend::read`]; what the codec fails with.
    pub fn contains<K, B: KeyedBackend, E>(&self, context: &KeyContext<K, B, E>, user_key: &U) -> Result<bool> {
        let row = self.row(context, user_key);
        row.and_then(|row| context.backend().read(self.state, &row, &mut |_| Ok(())))
            .map_err(|error| error.with_object(&self.name))
    }

    /// Sets the value of `user_key` in the current key's map.
    ///
    /// # Errors
    /// As [`KeyedBackend::put`]; what the codecs fail with.
    pub fn put<K, B: KeyedBackend, E>(&self, context: &mut KeyContext<K, B, E>, user_key: &U, value: &V) -> Result<()> {
        let mut put = || {
            let row = self.row(context, user_key)?;
            let mut bytes = Vec::new();
            self.values.encode(value, &mut bytes)?;
            context.backend_mut().put(self.state, &row, &bytes)
        };
        put().map_err(|error| error.with_object(&self.name))
    }

    /// Removes the entry of `user_key` from the current key's map; it need not be there.
    ///
    /// # Errors
    /// As [`KeyedBackend::delete`]; what the codec fails with.
    pub fn remove<K, B: KeyedBackend, E>(&self, context: &mut KeyContext<K, B, E>, user_key: &U) -> Result<()> {
        let row = self.row(context, user_key);
        row.and_then(|row| context.backend_mut().delete(self.state, &row))
            .map_err(|error| error.with_object(&self.name))
    }

    /// Visits the entries of the current key's map until told to stop.
    ///
    /// # Errors
    /// As [`KeyedBackend::scan`]; what the codecs fail with and what `visit` returns.
    pub fn for_each<K, B: KeyedBackend, E>(
        &self,
        context: &KeyContext<K, B, E>,
        mut visit: impl FnMut(U, V) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let scan = context.row().and_then(|prefix| {
            context.backend().scan_prefix(self.state, prefix, &mut |row, value| {
                let user_key = context.backend().layout().parse_row(row)?.user_key;
                visit(self.keys.decode(user_key)?, self.values.decode(value)?)
            })
        });
        scan.map_err(|error| error.with_object(&self.name))
    }

    /// The entries of the current key's map.
    ///
    /// # Errors
    /// As [`MapState::for_each`].
    pub fn entries<K, B: KeyedBackend, E>(&self, context: &KeyContext<K, B, E>) -> Result<Vec<(U, V)>> {
        let mut entries = Vec::new();
        self.for_each(context, |user_key, value| {
            entries.push((user_key, value));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(entries)
    }

    /// Whether the current key's map has no entries.
    ///
    /// # Errors
    /// As [`KeyedBackend::scan`].
    pub fn is_empty<K, B: KeyedBackend, E>(&self, context: &KeyContext<K, B, E>) -> Result<bool> {
        let mut empty = true;
        let scan = context.row().and_then(|prefix| {
            context.backend().scan_prefix(self.state, prefix, &mut |_, _| {
                empty = false;
                Ok(ControlFlow::Break(()))
            })
        });
        scan.map(|()| empty).map_err(|error| error.with_object(&self.name))
    }

    /// Removes the current key's map.
    ///
    /// # Errors
    /// As [`KeyedBackend::delete_rows`].
    pub fn clear<K, B: KeyedBackend, E>(&self, context: &mut KeyContext<K, B, E>) -> Result<()> {
        context.delete_map(self.state).map_err(|error| error.with_object(&self.name))
    }

    fn row<K, B: KeyedBackend, E>(&self, context: &KeyContext<K, B, E>, user_key: &U) -> Result<Vec<u8>> {
        let mut encoded = Vec::new();
        self.keys.encode(user_key, &mut encoded)?;
        context.row_of(&encoded)
    }
}
