//! The current key, and the states opened for it.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{
    AggregateFunction, AggregatingState, Codec, ListState, MapState, Postcard, ReduceFunction, ReducingState,
    TimerService, ValueState,
};
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroup, KeyHash};
use crate::metadata::{StateKind, StateSchema};
use crate::state::layout::not_owned;
use crate::state::{KeyedBackend, StateId};

/// A backend together with the key whose state is being read and written.
///
/// `K` is the type of keys, `B` the backend, `C` the codec of keys.
pub struct KeyContext<K, B, C = Postcard> {
    backend: B,
    key_codec: C,
    current: Option<Current>,
    /// A timer service knows where its earliest timers are, so there may be only one a state.
    timer_services: BTreeSet<String>,
    key: PhantomData<fn(&K)>,
}

pub(super) struct Current {
    pub(super) key_group: KeyGroup,
    pub(super) key: Vec<u8>,
    pub(super) namespace: Vec<u8>,
    /// The row key that the parts make up.
    row: Vec<u8>,
}

impl<K, B: KeyedBackend> KeyContext<K, B> {
    /// A context over `backend`, with keys encoded by [`Postcard`].
    pub fn new(backend: B) -> Self {
        Self::with_key_codec(backend, Postcard::default())
    }
}

impl<K, B: KeyedBackend, C> KeyContext<K, B, C> {
    /// A context over `backend`, with keys encoded by `key_codec`.
    pub fn with_key_codec(backend: B, key_codec: C) -> Self {
        Self { backend, key_codec, current: None, timer_services: BTreeSet::new(), key: PhantomData }
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The backend, to take a snapshot of, say.
    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Gives the backend back.
    pub fn into_backend(self) -> B {
        self.backend
    }

    /// Chooses the namespace (the window, say) of the calls that follow, until the current key is set
    /// again, which makes it empty. A state's rows of one key in different namespaces are different.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is no current key.
    pub fn set_namespace(&mut self, namespace: &[u8]) -> Result<()> {
        let layout = self.backend.layout();
        let current = self.current.as_mut().ok_or_else(no_key)?;
        current.namespace = namespace.to_vec();
        current.row = layout.row_key(current.key_group, &current.key, &current.namespace);
        Ok(())
    }

    /// The key group of the current key.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there is no current key.
    pub fn current_key_group(&self) -> Result<KeyGroup> {
        Ok(self.current()?.key_group)
    }

    pub(super) fn current(&self) -> Result<&Current> {
        self.current.as_ref().ok_or_else(no_key)
    }

    /// The row key of the current key and namespace.
    pub(super) fn row(&self) -> Result<&[u8]> {
        Ok(&self.current()?.row)
    }

    /// The row key of `user_key` in a map of the current key and namespace.
    pub(super) fn row_of(&self, user_key: &[u8]) -> Result<Vec<u8>> {
        Ok([self.row()?, user_key].concat())
    }

    /// Puts the value of the current key's row.
    pub(super) fn put(&mut self, state: StateId, value: &[u8]) -> Result<()> {
        let current = self.current.as_ref().ok_or_else(no_key)?;
        self.backend.put(state, &current.row, value)
    }

    /// Appends to the value of the current key's row.
    pub(super) fn append(&mut self, state: StateId, suffix: &[u8]) -> Result<()> {
        let current = self.current.as_ref().ok_or_else(no_key)?;
        self.backend.append(state, &current.row, suffix)
    }

    /// Deletes the current key's row.
    pub(super) fn delete(&mut self, state: StateId) -> Result<()> {
        let current = self.current.as_ref().ok_or_else(no_key)?;
        self.backend.delete(state, &current.row)
    }

    /// Deletes the current key's row and all rows of its map.
    pub(super) fn delete_map(&mut self, state: StateId) -> Result<()> {
        let current = self.current.as_ref().ok_or_else(no_key)?;
        self.backend.delete_prefix(state, &current.row)
    }

    /// Makes a stored key the current one.
    pub(super) fn set_stored_key(&mut self, key_group: KeyGroup, key: Vec<u8>, namespace: Vec<u8>) {
        let row = self.backend.layout().row_key(key_group, &key, &namespace);
        self.current = Some(Current { key_group, key, namespace, row });
    }

    pub(super) fn key_codec(&self) -> &C {
        &self.key_codec
    }
}

impl<K, B, C> KeyContext<K, B, C>
where
    K: KeyHash,
    B: KeyedBackend,
    C: Codec<K>,
{
    /// Makes `key` the key whose state is read and written, in the empty namespace.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if its key group is not one of the backend's; what the codec fails
    /// with. The key before stays the current one then.
    pub fn set_current_key(&mut self, key: &K) -> Result<()> {
        let key_group = self.backend.layout().max_parallelism().key_group_of(key);
        let owned = self.backend.key_groups();
        if !owned.contains(key_group) {
            return Err(not_owned("set the current key", key_group, owned));
        }
        let mut encoded = Vec::new();
        self.key_codec.encode(key, &mut encoded)?;
        self.set_stored_key(key_group, encoded, Vec::new());
        Ok(())
    }

    /// Opens a state of one value a key.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn value_state<T: Serialize + DeserializeOwned>(&mut self, name: &str) -> Result<ValueState<T>> {
        self.value_state_with(name, Postcard::default())
    }

    /// Opens a state of one value a key, encoded by `codec`.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn value_state_with<T, V: Codec<T>>(&mut self, name: &str, codec: V) -> Result<ValueState<T, V>> {
        Ok(ValueState::new(self.open(name, StateKind::Value, &codec.name())?, codec))
    }

    /// Opens a state of a list a key.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn list_state<T: Serialize + DeserializeOwned>(&mut self, name: &str) -> Result<ListState<T>> {
        self.list_state_with(name, Postcard::default())
    }

    /// Opens a state of a list a key, its elements encoded by `codec`.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn list_state_with<T, V: Codec<T>>(&mut self, name: &str, codec: V) -> Result<ListState<T, V>> {
        Ok(ListState::new(self.open(name, StateKind::List, &codec.name())?, codec))
    }

    /// Opens a state of a map a key.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn map_state<U, V>(&mut self, name: &str) -> Result<MapState<U, V>>
    where
        U: Serialize + DeserializeOwned,
        V: Serialize + DeserializeOwned,
    {
        self.map_state_with(name, Postcard::default(), Postcard::default())
    }

    /// Opens a state of a map a key, its keys and values encoded by the codecs.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn map_state_with<U, V, D, E>(&mut self, name: &str, keys: D, values: E) -> Result<MapState<U, V, D, E>>
    where
        D: Codec<U>,
        E: Codec<V>,
    {
        let serializer = format!("map<{}, {}>", keys.name(), values.name());
        Ok(MapState::new(self.open(name, StateKind::Map, &serializer)?, keys, values))
    }

    /// Opens a state of one value a key, into which added values are folded by `function`.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn reducing_state<T, F>(&mut self, name: &str, function: F) -> Result<ReducingState<T, F>>
    where
        T: Serialize + DeserializeOwned,
        F: ReduceFunction<T>,
    {
        self.reducing_state_with(name, function, Postcard::default())
    }

    /// As [`KeyContext::reducing_state`], with values encoded by `codec`.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn reducing_state_with<T, F, V>(&mut self, name: &str, function: F, codec: V) -> Result<ReducingState<T, F, V>>
    where
        F: ReduceFunction<T>,
        V: Codec<T>,
    {
        let state = self.open(name, StateKind::Reducing, &codec.name())?;
        Ok(ReducingState::new(ValueState::new(state, codec), function))
    }

    /// Opens a state of one accumulator a key, into which `function` folds what is added.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn aggregating_state<A>(&mut self, name: &str, function: A) -> Result<AggregatingState<A>>
    where
        A: AggregateFunction,
        A::Accumulator: Serialize + DeserializeOwned,
    {
        self.aggregating_state_with(name, function, Postcard::default())
    }

    /// As [`KeyContext::aggregating_state`], with accumulators encoded by `codec`.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`].
    pub fn aggregating_state_with<A, V>(&mut self, name: &str, function: A, codec: V) -> Result<AggregatingState<A, V>>
    where
        A: AggregateFunction,
        V: Codec<A::Accumulator>,
    {
        let state = self.open(name, StateKind::Aggregating, &codec.name())?;
        Ok(AggregatingState::new(ValueState::new(state, codec), function))
    }

    /// Opens a state of timers. There can be one service a state and context.
    ///
    /// # Errors
    /// As [`KeyedBackend::open_state`]; [`ErrorKind::AlreadyExists`] if this context has opened it before.
    pub fn timer_service(&mut self, name: &str) -> Result<TimerService> {
        if self.timer_services.contains(name) {
            let message = "this context has a service for these timers already";
            return Err(Error::new(ErrorKind::AlreadyExists, "open a timer service", message).with_object(name));
        }
        let (state, _) = self.open(name, StateKind::Timer, "none")?;
        self.timer_services.insert(name.to_owned());
        Ok(TimerService::new(state, &self.backend))
    }

    fn open(&mut self, name: &str, kind: StateKind, value_serializer: &str) -> Result<(StateId, String)> {
        let schema = StateSchema {
            name: name.to_owned(),
            kind,
            key_serializer: self.key_codec.name().into_owned(),
            value_serializer: value_serializer.to_owned(),
        };
        Ok((self.backend.open_state(&schema)?, schema.name))
    }
}

impl<K, B: fmt::Debug, C> fmt::Debug for KeyContext<K, B, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyContext").field("backend", &self.backend).finish_non_exhaustive()
    }
}

fn no_key() -> Error {
    Error::invalid("use keyed state", "there is no current key").with_advice("call `set_current_key` first")
}
