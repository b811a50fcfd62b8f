//! One value a key.

use std::marker::PhantomData;

use super::{Codec, KeyContext, Postcard};
use crate::error::Result;
use crate::state::{KeyedBackend, StateId};

/// A state of one value a key.
#[derive(Debug)]
pub struct ValueState<T, C = Postcard> {
    state: StateId,
    name: String,
    codec: C,
    value: PhantomData<fn() -> T>,
}

impl<T, C: Codec<T>> ValueState<T, C> {
    pub(super) fn new((state, name): (StateId, String), codec: C) -> Self {
        Self { state, name, codec, value: PhantomData }
    }

    /// The current key's value, if it has one.
    ///
    /// # Errors
    /// As [`KeyedBackend::read`]; what the codec fails with.
    pub fn get<K, B: KeyedBackend, D>(&self, context: &KeyContext<K, B, D>) -> Result<Option<T>> {
        let mut found = None;
        let mut decode = |bytes: &[u8]| {
            found = Some(self.codec.decode(bytes)?);
            Ok(())
        };
        let read = context.row().and_then(|row| context.backend().read(self.state, row, &mut decode));
        read.map(|_| found).map_err(|error| error.with_object(&self.name))
    }

    /// Sets the current key's value.
    ///
    /// # Errors
    /// As [`KeyedBackend::put`]; what the codec fails with.
    pub fn set<K, B: KeyedBackend, D>(&self, context: &mut KeyContext<K, B, D>, value: &T) -> Result<()> {
        let mut bytes = Vec::new();
        let encoded = self.codec.encode(value, &mut bytes);
        encoded.and_then(|()| context.put(self.state, &bytes)).map_err(|error| error.with_object(&self.name))
    }

    /// Removes the current key's value.
    ///
    /// # Errors
    /// As [`KeyedBackend::delete`].
    pub fn clear<K, B: KeyedBackend, D>(&self, context: &mut KeyContext<K, B, D>) -> Result<()> {
        context.delete(self.state).map_err(|error| error.with_object(&self.name))
    }
}
