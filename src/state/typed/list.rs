//! A list a key.
//!
//! The list is one row's value: its elements one after the other, each with its length before it. Adding
//! therefore appends bytes, which RocksDB does without reading the list.

use std::marker::PhantomData;

use super::{Codec, KeyContext, Postcard};
use crate::error::{Error, Result};
use crate::state::{KeyedBackend, StateId, varint};

/// A state of a list a key. An empty list is no list: it has no row.
#[derive(Debug)]
pub struct ListState<T, C = Postcard> {
    state: StateId,
    name: String,
    codec: C,
    element: PhantomData<fn() -> T>,
}

impl<T, C: Codec<T>> ListState<T, C> {
    pub(super) fn new((state, name): (StateId, String), codec: C) -> Self {
        Self { state, name, codec, element: PhantomData }
    }

    /// The current key's list, in the order in which it was added to.
    ///
    /// # Errors
    /// As [`KeyedBackend::read`]; [`crate::ErrorKind::Corrupt`] if the value is no list; what the codec
    /// fails with.
    pub fn get<K, B: KeyedBackend, D>(&self, context: &KeyContext<K, B, D>) -> Result<Vec<T>> {
        let mut elements = Vec::new();
        let mut decode = |mut bytes: &[u8]| {
            while !bytes.is_empty() {
                let element = varint::take_sized(&mut bytes)
                    .ok_or_else(|| Error::corrupt("read a list", &self.name, "an element's length is wrong"))?;
                elements.push(self.codec.decode(element)?);
            }
            Ok(())
        };
        let read = context.row().and_then(|row| context.backend().read(self.state, row, &mut decode));
        read.map(|_| elements).map_err(|error| error.with_object(&self.name))
    }

    /// Adds an element at the end of the current key's list.
    ///
    /// # Errors
    /// As [`KeyedBackend::append`]; what the codec fails with.
    pub fn add<K, B: KeyedBackend, D>(&self, context: &mut KeyContext<K, B, D>, element: &T) -> Result<()> {
        self.add_all(context, [element])
    }

    /// Adds elements at the end of the current key's list.
    ///
    /// # Errors
    /// As [`KeyedBackend::append`]; what the codec fails with. Nothing was added then.
    pub fn add_all<'a, K, B: KeyedBackend, D>(
        &self,
        context: &mut KeyContext<K, B, D>,
        elements: impl IntoIterator<Item = &'a T>,
    ) -> Result<()>
    where
        T: 'a,
    {
        let bytes = self.encode(elements)?;
        if bytes.is_empty() {
            return Ok(());
        }
        context.append(self.state, &bytes).map_err(|error| error.with_object(&self.name))
    }

    /// Replaces the current key's list.
    ///
    /// # Errors
    /// As [`KeyedBackend::put`]; what the codec fails with.
    pub fn set<'a, K, B: KeyedBackend, D>(
        &self,
        context: &mut KeyContext<K, B, D>,
        elements: impl IntoIterator<Item = &'a T>,
    ) -> Result<()>
    where
        T: 'a,
    {
        let bytes = self.encode(elements)?;
        if bytes.is_empty() {
            return self.clear(context);
        }
        context.put(self.state, &bytes).map_err(|error| error.with_object(&self.name))
    }

    /// Removes the current key's list.
    ///
    /// # Errors
    /// As [`KeyedBackend::delete`].
    pub fn clear<K, B: KeyedBackend, D>(&self, context: &mut KeyContext<K, B, D>) -> Result<()> {
        context.delete(self.state).map_err(|error| error.with_object(&self.name))
    }

    fn encode<'a>(&self, elements: impl IntoIterator<Item = &'a T>) -> Result<Vec<u8>>
    where
        T: 'a,
    {
        let (mut bytes, mut element_bytes) = (Vec::new(), Vec::new());
        for element in elements {
            element_bytes.clear();
            self.codec.encode(element, &mut element_bytes).map_err(|error| error.with_object(&self.name))?;
            varint::write_sized(&element_bytes, &mut bytes);
        }
        Ok(bytes)
    }
}
