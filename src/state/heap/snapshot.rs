//! A heap backend's state at one point, and the chunks it is written as.

use std::io;
use std::ops::ControlFlow;

use super::chunk::{ChunkSummary, ChunkWriter};
use super::table::Frozen;
use super::{ChunkName, Generation, visit_all};
use crate::error::{Error, Result};
use crate::keygroup::{KeyGroup, KeyGroupRange};
use crate::metadata::StateSchema;
use crate::state::{KeyLayout, RowBounds, RowVisitor};

/// The state of a [`HeapBackend`](super::HeapBackend) when the snapshot was taken. Later writes do not
/// show in it; it may be kept, sent to another thread and read there for as long as one likes. It
/// holds the memory of what has changed since.
#[derive(Clone, Debug)]
pub struct HeapSnapshot {
    layout: KeyLayout,
    key_groups: KeyGroupRange,
    generation: Generation,
    /// Sorted by name.
    tables: Vec<(StateSchema, Frozen)>,
}

/// A chunk that differs from its predecessor's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkChange {
    /// Which chunk.
    pub name: ChunkName,
    /// Whether it has any rows; if not, there is no such chunk any more.
    pub has_rows: bool,
}

impl HeapSnapshot {
    pub(super) fn new(
        layout: KeyLayout,
        key_groups: KeyGroupRange,
        generation: Generation,
        mut tables: Vec<(StateSchema, Frozen)>,
    ) -> Self {
        tables.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        Self { layout, key_groups, generation, tables }
    }

    /// The generation to name as the base of a later snapshot.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How row keys are composed.
    pub fn layout(&self) -> KeyLayout {
        self.layout
    }

    /// The key groups the backend owned.
    pub fn key_groups(&self) -> KeyGroupRange {
        self.key_groups
    }

    /// The states, sorted by name.
    pub fn states(&self) -> impl Iterator<Item = &StateSchema> {
        self.tables.iter().map(|(schema, _)| schema)
    }

    /// Every chunk that has rows, sorted by state and key group. The work is proportional to their
    /// number, not to the number of rows.
    pub fn chunks(&self) -> Vec<ChunkName> {
        let mut names = Vec::new();
        for (schema, table) in &self.tables {
            let mut group = Some(self.key_groups.first());
            while let Some(found) = group.and_then(|least| self.next_group_with_rows(table, least)) {
                names.push(ChunkName { key_group: found, state: schema.name.clone() });
                group = found.checked_add(1).filter(|next| self.key_groups.contains(*next));
            }
        }
        names
    }

    /// The chunks that differ from what a snapshot of generation `base` of the same backend gave (or,
    /// for [`Generation::RESTORED`], from what it was restored from), sorted by state and key group.
    /// The work is proportional to their number. A group that was changed and changed back counts.
    pub fn changed_since(&self, base: Generation) -> Vec<ChunkChange> {
        let mut changes = Vec::new();
        for (schema, table) in &self.tables {
            let mut groups: Vec<KeyGroup> = table.changed_since(base).collect();
            groups.sort_unstable();
            changes.extend(groups.into_iter().map(|key_group| ChunkChange {
                name: ChunkName { key_group, state: schema.name.clone() },
                has_rows: self.next_group_with_rows(table, key_group) == Some(key_group),
            }));
        }
        changes
    }

    /// Writes one chunk, as `docs/format-heap-chunk.md` describes it. Equal rows give equal bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] if there is no such state or the group is not one of
    /// [`HeapSnapshot::key_groups`]; what `output` fails with.
    pub fn write_chunk(&self, name: &ChunkName, output: &mut dyn io::Write) -> Result<ChunkSummary> {
        let mut writer = ChunkWriter::begin(output, self.layout, name);
        self.scan(&name.state, self.group_of(name)?, &mut |key, value| {
            writer.row(key, value).map(|()| ControlFlow::Continue(()))
        })?;
        writer.finish()
    }

    /// Whether the keys and values of a chunk have `limit_bytes` at most. Looks at no more rows than it takes to know.
    ///
    /// # Errors
    /// As [`HeapSnapshot::write_chunk`].
    pub fn has_at_most(&self, name: &ChunkName, limit_bytes: usize) -> Result<bool> {
        let mut size_bytes = 0;
        self.scan(&name.state, self.group_of(name)?, &mut |key, value| {
            size_bytes += key.len() + value.len();
            Ok(if size_bytes > limit_bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(size_bytes <= limit_bytes)
    }

    fn group_of(&self, name: &ChunkName) -> Result<KeyGroupRange> {
        KeyGroupRange::new(name.key_group, name.key_group)
            .filter(|_| self.key_groups.contains(name.key_group))
            .ok_or_else(|| self.not_here(name.to_string()))
    }

    /// Visits the rows of `groups` of a state in key order.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] if there is no such state; what `visit` returns.
    pub fn scan(&self, state: &str, groups: KeyGroupRange, visit: &mut RowVisitor<'_>) -> Result<()> {
        let (start, end) = self.layout.bounds_of_groups(groups);
        visit_all(self.table(state)?.rows(RowBounds { start: &start, end: Some(&end) }), visit)
    }

    fn next_group_with_rows(&self, table: &Frozen, least: KeyGroup) -> Option<KeyGroup> {
        let start = self.layout.group_prefix(least);
        let (key, _) = table.rows(RowBounds { start: &start, end: None }).next()?;
        // Every row's group was checked when it was put; one that cannot be read is not there.
        self.layout.key_group_of_row(key).ok()
    }

    fn table(&self, state: &str) -> Result<&Frozen> {
        let at = self.tables.binary_search_by(|(schema, _)| schema.name.as_str().cmp(state)).ok();
        at.and_then(|at| self.tables.get(at)).map(|(_, table)| table).ok_or_else(|| self.not_here(state.to_owned()))
    }

    fn not_here(&self, object: String) -> Error {
        let message = format!("not in this snapshot of the key groups {}", self.key_groups);
        Error::new(crate::ErrorKind::NotFound, "read a heap snapshot", message).with_object(object)
    }
}
