//! Keyed state in memory, with snapshots that hold the writer up for one pointer per state.
//!
//! Each named state is a persistent sorted map from row key to value (`table.rs`). A snapshot is a clone
//! of those maps' roots; it can be sent to another thread and written out there, one chunk a state and
//! key group (`chunk.rs`), while the backend goes on writing. Rows are written in key order and nothing
//! else enters a chunk, so a group that did not change gives the same bytes and the same hash; and the
//! backend knows which groups changed since which snapshot, so such a group need not even be written
//! again to find that out.

mod chunk;
mod name;
mod restore;
mod row;
mod snapshot;
mod table;

use std::ops::ControlFlow;

pub use chunk::{CHUNK_FORMAT_VERSION, ChunkReader, ChunkSummary};
pub use name::ChunkName;
pub use restore::HeapRestore;
pub use snapshot::{ChunkChange, HeapSnapshot};

use super::backend::{KeyedBackend, RowBounds, RowVisitor, StateId};
use super::layout::KeyLayout;
use super::limits::check_value;
use super::schema::{Schemas, unknown_state};
use crate::error::Result;
use crate::keygroup::{KeyGroup, KeyGroupRange, MaxParallelism};
use crate::metadata::{Backend, StateSchema};
use table::Table;

/// Counts the snapshots of one backend: what was written between two of them bears the later one's
/// generation. It means nothing to another backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u64);

impl Generation {
    /// What a backend restored from chunks began with. Groups that changed after this one differ from
    /// the chunks they were restored from; the others would give those very chunks again.
    pub const RESTORED: Self = Self(0);

    pub(super) const FIRST: Self = Self(1);

    fn next(self) -> Self {
        // 2^64 snapshots are not taken; saturating merely avoids a panic path.
        Self(self.0.saturating_add(1))
    }
}

/// Keyed state in memory.
#[derive(Debug)]
pub struct HeapBackend {
    layout: KeyLayout,
    owned: KeyGroupRange,
    schemas: Schemas,
    /// By state id.
    tables: Vec<Table>,
    generation: Generation,
}

impl HeapBackend {
    /// An empty backend that owns `key_groups` of `max_parallelism` many.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if the range goes beyond the max parallelism.
    pub fn new(max_parallelism: MaxParallelism, key_groups: KeyGroupRange) -> Result<Self> {
        max_parallelism.check_group("make a heap backend", key_groups.last())?;
        Ok(Self {
            layout: KeyLayout::new(max_parallelism),
            owned: key_groups,
            schemas: Schemas::default(),
            tables: Vec::new(),
            generation: Generation::FIRST,
        })
    }

    /// The state as it is now, cut off from later writes: one pointer is copied per state. Everything
    /// else a snapshot does can be done elsewhere.
    pub fn snapshot(&mut self) -> HeapSnapshot {
        let tables = self.schemas.iter().zip(&self.tables).map(|(schema, table)| (schema.clone(), table.now().clone()));
        let snapshot = HeapSnapshot::new(self.layout, self.owned, self.generation, tables.collect());
        self.generation = self.generation.next();
        snapshot
    }

    fn table(&self, state: StateId) -> Result<&Table> {
        self.tables.get(state.index()).ok_or_else(|| unknown_state(state))
    }

    fn table_mut(&mut self, state: StateId) -> Result<&mut Table> {
        self.tables.get_mut(state.index()).ok_or_else(|| unknown_state(state))
    }

    /// The table and the checked group of a row that is to be written.
    fn row_mut(&mut self, operation: &'static str, state: StateId, key: &[u8]) -> Result<(KeyGroup, &mut Table)> {
        let group = self.layout.check_owned(operation, key, self.owned)?;
        Ok((group, self.table_mut(state)?))
    }

    /// Puts a row as of `generation`: only a restore says another than the current one.
    fn put_as_of(&mut self, generation: Generation, state: StateId, key: &[u8], value: &[u8]) -> Result<()> {
        const OPERATION: &str = "put a row";
        let (group, table) = self.row_mut(OPERATION, state, key)?;
        check_value(OPERATION, value.len())?;
        table.put(group, key, value, generation);
        Ok(())
    }
}

impl KeyedBackend for HeapBackend {
    fn backend(&self) -> Backend {
        Backend::Heap
    }

    fn layout(&self) -> KeyLayout {
        self.layout
    }

    fn key_groups(&self) -> KeyGroupRange {
        self.owned
    }

    fn states(&self) -> Vec<StateSchema> {
        self.schemas.sorted()
    }

    fn open_state(&mut self, schema: &StateSchema) -> Result<StateId> {
        if let Some(known) = self.schemas.find(schema)? {
            return Ok(known);
        }
        let id = self.schemas.add(schema)?;
        self.tables.push(Table::new(self.owned));
        Ok(id)
    }

    fn read(&self, state: StateId, key: &[u8], visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        self.layout.check_owned("read a row", key, self.owned)?;
        match self.table(state)?.now().get(key) {
            Some(value) => visit(value).map(|()| true),
            None => Ok(false),
        }
    }

    fn put(&mut self, state: StateId, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_as_of(self.generation, state, key, value)
    }

    fn delete(&mut self, state: StateId, key: &[u8]) -> Result<()> {
        let generation = self.generation;
        let (group, table) = self.row_mut("delete a row", state, key)?;
        table.delete(group, key, generation);
        Ok(())
    }

    fn append(&mut self, state: StateId, key: &[u8], suffix: &[u8]) -> Result<()> {
        const OPERATION: &str = "append to a row";
        let generation = self.generation;
        let (group, table) = self.row_mut(OPERATION, state, key)?;
        let present = table.now().get(key).map_or(0, <[u8]>::len);
        check_value(OPERATION, present.saturating_add(suffix.len()))?;
        table.append(group, key, suffix, generation);
        Ok(())
    }

    fn scan(&self, state: StateId, bounds: RowBounds<'_>, visit: &mut RowVisitor<'_>) -> Result<()> {
        visit_all(self.table(state)?.now().rows(bounds), visit)
    }

    fn delete_rows(&mut self, state: StateId, bounds: RowBounds<'_>) -> Result<()> {
        let (generation, layout) = (self.generation, self.layout);
        let table = self.table_mut(state)?;
        for key in table.keys(bounds) {
            table.delete(layout.key_group_of_row(&key)?, &key, generation);
        }
        Ok(())
    }
}

/// Visits rows until told to stop.
fn visit_all<'a>(rows: impl Iterator<Item = (&'a [u8], &'a [u8])>, visit: &mut RowVisitor<'_>) -> Result<()> {
    for (key, value) in rows {
        if let ControlFlow::Break(()) = visit(key, value)? {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
