//! A heap backend from the chunks of a checkpoint, taken at any parallelism.

use std::collections::BTreeSet;
use std::io::Read;

use super::{ChunkName, ChunkReader, Generation, HeapBackend};
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroupRange, MaxParallelism};
use crate::metadata::StateSchema;
use crate::state::KeyedBackend;

const RESTORE: &str = "restore heap state";

/// Builds a [`HeapBackend`] chunk by chunk; [`HeapRestore::finish`] hands it out only if every chunk was
/// sound (I7).
#[derive(Debug)]
pub struct HeapRestore {
    backend: HeapBackend,
    loaded: BTreeSet<ChunkName>,
    failed: bool,
}

impl HeapRestore {
    /// Begins with no rows: `states` as the checkpoint's `_metadata` gives them, `key_groups` as the
    /// new subtask owns them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the range goes beyond the max parallelism or a schema is no valid
    /// one.
    pub fn new(max_parallelism: MaxParallelism, key_groups: KeyGroupRange, states: &[StateSchema]) -> Result<Self> {
        let mut backend = HeapBackend::new(max_parallelism, key_groups)?;
        for schema in states {
            backend.open_state(schema)?;
        }
        Ok(Self { backend, loaded: BTreeSet::new(), failed: false })
    }

    /// Takes in the rows of a chunk; returns how many, or `None` if its key group is not wanted here
    /// (it is not read to its end then).
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the chunk is damaged, holds a row of another group, came twice, or is
    /// of a state that is not in the schema; [`ErrorKind::InvalidInput`] if it was written with
    /// another max parallelism. The whole restore has failed then.
    pub fn add_chunk(&mut self, input: impl Read) -> Result<Option<u64>> {
        let outcome = self.try_add_chunk(input);
        self.failed |= outcome.is_err();
        outcome
    }

    /// Takes in one row from elsewhere than a chunk (a savepoint's table, say); false if its key group
    /// is not wanted here. Such rows count as changed since [`Generation::RESTORED`].
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the key is no row key, or of a state that is not in the schema. The
    /// whole restore has failed then.
    pub fn add_row(&mut self, state: &str, key: &[u8], value: &[u8]) -> Result<bool> {
        let outcome = self.try_add_row(state, key, value);
        self.failed |= outcome.is_err();
        outcome
    }

    /// The restored backend.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if taking in anything has failed.
    pub fn finish(self) -> Result<HeapBackend> {
        if self.failed {
            return Err(Error::new(ErrorKind::Corrupt, RESTORE, "a part of the state could not be taken in"));
        }
        Ok(self.backend)
    }

    fn try_add_chunk(&mut self, input: impl Read) -> Result<Option<u64>> {
        let mut reader = ChunkReader::open(input)?;
        let name = reader.name().clone();
        if reader.layout() != self.backend.layout() {
            let (theirs, ours) = (reader.layout().max_parallelism(), self.backend.layout().max_parallelism());
            let message = format!("it was written with max parallelism {theirs}, the restore is for {ours}");
            return Err(Error::invalid(RESTORE, message)
                .with_object(&name)
                .with_advice("restore with the max parallelism of the checkpoint; it cannot change"));
        }
        let state = self.state(&name.state).map_err(|error| error.with_object(&name))?;
        if !self.backend.key_groups().contains(name.key_group) {
            return Ok(None);
        }
        if !self.loaded.insert(name.clone()) {
            return Err(Error::corrupt(RESTORE, &name, "two chunks hold this group of this state"));
        }
        let (mut key, mut value, mut rows) = (Vec::new(), Vec::new(), 0);
        while reader.next_row(&mut key, &mut value)? {
            self.backend.put_as_of(Generation::RESTORED, state, &key, &value)?;
            rows += 1;
        }
        Ok(Some(rows))
    }

    fn try_add_row(&mut self, state: &str, key: &[u8], value: &[u8]) -> Result<bool> {
        let id = self.state(state)?;
        let group = self.backend.layout().key_group_of_row(key).map_err(|error| error.with_object(state))?;
        let wanted = self.backend.key_groups().contains(group);
        if wanted {
            self.backend.put(id, key, value)?;
        }
        Ok(wanted)
    }

    fn state(&self, name: &str) -> Result<crate::state::StateId> {
        let known = self.backend.schemas.id_of(name);
        known.ok_or_else(|| Error::corrupt(RESTORE, name, "the checkpoint's schema names no such state"))
    }
}
