//! A task is the backend it holds, so that typed state (`state::typed`) is written over the task and
//! the task can still be frozen: `context.backend_mut().freeze(..)`.

use super::HeapTask;
#[cfg(feature = "rocksdb")]
use super::RocksDbTask;
use crate::error::Result;
use crate::keygroup::KeyGroupRange;
use crate::metadata::{Backend, StateSchema};
use crate::state::{KeyLayout, KeyedBackend, RowBounds, RowVisitor, StateId};

macro_rules! hand_on_to_backend {
    ($task:ty) => {
        impl KeyedBackend for $task {
            fn backend(&self) -> Backend {
                self.backend.backend()
            }

            fn layout(&self) -> KeyLayout {
                self.backend.layout()
            }

            fn key_groups(&self) -> KeyGroupRange {
                self.backend.key_groups()
            }

            fn states(&self) -> Vec<StateSchema> {
                self.backend.states()
            }

            fn open_state(&mut self, schema: &StateSchema) -> Result<StateId> {
                self.backend.open_state(schema)
            }

            fn read(&self, state: StateId, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
                self.backend.read(state, key, visit)
            }

            fn put(&mut self, state: StateId, key: &[u8], value: &[u8]) -> Result<()> {
                self.backend.put(state, key, value)
            }

            fn delete(&mut self, state: StateId, key: &[u8]) -> Result<()> {
                self.backend.delete(state, key)
            }

            fn append(&mut self, state: StateId, key: &[u8], suffix: &[u8]) -> Result<()> {
                self.backend.append(state, key, suffix)
            }

            fn scan(&self, state: StateId, bounds: RowBounds<'_>, visit: &mut RowVisitor<'_>) -> Result<()> {
                self.backend.scan(state, bounds, visit)
            }

            fn delete_rows(&mut self, state: StateId, bounds: RowBounds<'_>) -> Result<()> {
                self.backend.delete_rows(state, bounds)
            }
        }
    };
}

hand_on_to_backend!(HeapTask);
#[cfg(feature = "rocksdb")]
hand_on_to_backend!(RocksDbTask);
