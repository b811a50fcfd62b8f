//! Keyed state: what an engine's subtask reads and writes for every record, and what snapshots are of.
//!
//! From the bottom up: [`KeyLayout`] says what the bytes of a row's key mean; [`KeyedBackend`] is the
//! byte-level contract of a backend; [`heap`] keeps rows in memory, `rocksdb` (behind the feature of
//! that name) in a RocksDB; [`typed`] offers value, list, map, reducing and aggregating state and timers
//! on top, written once over the contract. `docs/state.md` tells it at length.
//!
//! A backend belongs to one subtask: one writer, no threads, no async. It knows the subtask's key groups
//! and refuses every other. Taking a snapshot is a call on the backend; writing it out is not
//! this module's business.

mod backend;
pub mod heap;
mod layout;
mod limits;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
mod schema;
pub mod typed;
mod varint;

pub(crate) use backend::delegate_keyed_backend;
pub use backend::{KeyedBackend, RowBounds, RowVisitor, StateId};
pub use layout::{KeyLayout, RowKey, TimerKey};
pub use limits::{MAX_ROW_KEY_BYTES, MAX_SERIALIZER_NAME_BYTES, MAX_STATES, MAX_VALUE_BYTES};
