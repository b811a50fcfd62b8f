//! The byte-level contract that every state backend keeps.
//!
//! A backend holds named states; a state holds rows: a key laid out by [`KeyLayout`] and a value. One
//! writer, no threads, no async: an engine's subtask owns its backend and calls it for every record.
//! The typed layer ([`crate::state::typed`]) is written once over this trait, so it behaves the same on
//! every backend. Whatever a backend does, rows are visited in the order of their key's bytes.

use std::fmt;
use std::ops::ControlFlow;

use super::layout::{KeyLayout, end_of_prefix};
use crate::error::Result;
use crate::keygroup::KeyGroupRange;
use crate::metadata::{Backend, StateSchema};

/// Names an open state of one backend. It means nothing to another backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateId(usize);

impl StateId {
    /// For implementors: the state number `index` of a backend.
    pub fn from_index(index: usize) -> Self {
        Self(index)
    }

    /// For implementors: the number given to [`StateId::from_index`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// Rows from `start` on, up to `end`, which is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowBounds<'a> {
    /// The least row key.
    pub start: &'a [u8],
    /// The least row key that is too great; `None`: no end.
    pub end: Option<&'a [u8]>,
}

/// Called with a row's key and value; says whether to go on.
pub type RowVisitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'a;

/// A subtask's keyed state, as bytes.
///
/// Reading and writing a single row fails with [`crate::ErrorKind::InvalidInput`] if its key's group is
/// not one of [`KeyedBackend::key_groups`] or the [`StateId`] is unknown, and with
/// [`crate::ErrorKind::LimitExceeded`] beyond [`MAX_ROW_KEY_BYTES`](super::MAX_ROW_KEY_BYTES) and
/// [`MAX_VALUE_BYTES`](super::MAX_VALUE_BYTES).
pub trait KeyedBackend: fmt::Debug + Send {
    /// Which backend this is.
    fn backend(&self) -> Backend;

    /// How row keys are composed.
    fn layout(&self) -> KeyLayout;

    /// The key groups this backend owns.
    fn key_groups(&self) -> KeyGroupRange;

    /// The states, sorted by name.
    fn states(&self) -> Vec<StateSchema>;

    /// Opens the state of that name, making it if it is not there.
    ///
    /// # Errors
    /// [`crate::ErrorKind::SchemaMismatch`] if it is there with another kind or other serializers;
    /// [`crate::ErrorKind::InvalidInput`] for a name that cannot be part of a file name.
    fn open_state(&mut self, schema: &StateSchema) -> Result<StateId>;

    /// Shows the value of a row to `visit`; false if there is no such row.
    ///
    /// # Errors
    /// See the trait; and what `visit` returns.
    fn read(&self, state: StateId, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool>;

    /// Sets a row's value.
    ///
    /// # Errors
    /// See the trait.
    fn put(&mut self, state: StateId, key: &[u8], value: &[u8]) -> Result<()>;

    /// Removes a row; it need not be there.
    ///
    /// # Errors
    /// See the trait.
    fn delete(&mut self, state: StateId, key: &[u8]) -> Result<()>;

    /// Appends `suffix` to a row's value; a row that is not there counts as an empty one. RocksDB does
    /// this by a merge operator, without reading, and so cannot see a value grow too long.
    ///
    /// # Errors
    /// See the trait.
    fn append(&mut self, state: StateId, key: &[u8], suffix: &[u8]) -> Result<()>;

    /// Visits the rows within `bounds` in key order.
    ///
    /// # Errors
    /// See the trait; and what `visit` returns.
    fn scan(&self, state: StateId, bounds: RowBounds<'_>, visit: &mut RowVisitor<'_>) -> Result<()>;

    /// Removes the rows within `bounds`.
    ///
    /// # Errors
    /// See the trait.
    fn delete_rows(&mut self, state: StateId, bounds: RowBounds<'_>) -> Result<()>;

    /// A row's value, copied.
    ///
    /// # Errors
    /// See the trait.
    fn get(&self, state: StateId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        self.read(state, key, &mut |value| {
            found = Some(value.to_vec());
            Ok(())
        })?;
        Ok(found)
    }

    /// Visits the rows whose keys begin with `prefix`.
    ///
    /// # Errors
    /// As [`KeyedBackend::scan`].
    fn scan_prefix(&self, state: StateId, prefix: &[u8], visit: &mut RowVisitor<'_>) -> Result<()> {
        let end = end_of_prefix(prefix);
        self.scan(state, RowBounds { start: prefix, end: end.as_deref() }, visit)
    }

    /// Visits the rows of `groups`.
    ///
    /// # Errors
    /// As [`KeyedBackend::scan`].
    fn scan_key_groups(&self, state: StateId, groups: KeyGroupRange, visit: &mut RowVisitor<'_>) -> Result<()> {
        let (start, end) = self.layout().bounds_of_groups(groups);
        self.scan(state, RowBounds { start: &start, end: Some(&end) }, visit)
    }

    /// Removes the rows whose keys begin with `prefix`.
    ///
    /// # Errors
    /// As [`KeyedBackend::delete_rows`].
    fn delete_prefix(&mut self, state: StateId, prefix: &[u8]) -> Result<()> {
        let end = end_of_prefix(prefix);
        self.delete_rows(state, RowBounds { start: prefix, end: end.as_deref() })
    }
}

/// The methods of [`KeyedBackend`] for a type that holds a backend: `$backend` is where, seen from `$self`.
macro_rules! delegate_keyed_backend {
    ($self:ident => $backend:expr) => {
        fn backend(&$self) -> $crate::metadata::Backend {
            $crate::state::KeyedBackend::backend(&$backend)
        }

        fn layout(&$self) -> $crate::state::KeyLayout {
            $crate::state::KeyedBackend::layout(&$backend)
        }

        fn key_groups(&$self) -> $crate::keygroup::KeyGroupRange {
            $crate::state::KeyedBackend::key_groups(&$backend)
        }

        fn states(&$self) -> Vec<$crate::metadata::StateSchema> {
            $crate::state::KeyedBackend::states(&$backend)
        }

        fn open_state(&mut $self, schema: &$crate::metadata::StateSchema) -> $crate::Result<$crate::state::StateId> {
            $crate::state::KeyedBackend::open_state(&mut $backend, schema)
        }

        fn read(
            &$self,
            state: $crate::state::StateId,
            key: &[u8],
            visit: &mut dyn FnMut(&[u8]) -> $crate::Result<()>,
        ) -> $crate::Result<bool> {
            $crate::state::KeyedBackend::read(&$backend, state, key, visit)
        }

        fn put(&mut $self, state: $crate::state::StateId, key: &[u8], value: &[u8]) -> $crate::Result<()> {
            $crate::state::KeyedBackend::put(&mut $backend, state, key, value)
        }

        fn delete(&mut $self, state: $crate::state::StateId, key: &[u8]) -> $crate::Result<()> {
            $crate::state::KeyedBackend::delete(&mut $backend, state, key)
        }

        fn append(&mut $self, state: $crate::state::StateId, key: &[u8], suffix: &[u8]) -> $crate::Result<()> {
            $crate::state::KeyedBackend::append(&mut $backend, state, key, suffix)
        }

        fn scan(
            &$self,
            state: $crate::state::StateId,
            bounds: $crate::state::RowBounds<'_>,
            visit: &mut $crate::state::RowVisitor<'_>,
        ) -> $crate::Result<()> {
            $crate::state::KeyedBackend::scan(&$backend, state, bounds, visit)
        }

        fn delete_rows(
            &mut $self,
            state: $crate::state::StateId,
            bounds: $crate::state::RowBounds<'_>,
        ) -> $crate::Result<()> {
            $crate::state::KeyedBackend::delete_rows(&mut $backend, state, bounds)
        }
    };
}
pub(crate) use delegate_keyed_backend;

/// An engine may choose its backend at run time.
impl<B: KeyedBackend + ?Sized> KeyedBackend for Box<B> {
    delegate_keyed_backend!(self => **self);
}
