//! Which named states a backend holds, and what a name and a schema must be.

use std::collections::BTreeMap;

use super::backend::StateId;
use super::limits::{MAX_SERIALIZER_NAME_BYTES, MAX_STATES};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::check_name;
use crate::metadata::StateSchema;

const OPEN_STATE: &str = "open a state";
/// RocksDB's own column family, in which icecore keeps nothing.
const RESERVED_NAME: &str = "default";

/// The states of one backend, in the order in which they were opened.
#[derive(Clone, Debug, Default)]
pub(super) struct Schemas {
    by_id: Vec<StateSchema>,
    ids: BTreeMap<String, StateId>,
}

impl Schemas {
    /// The id of the state, if it is known; the schemas are compared then.
    pub(super) fn find(&self, schema: &StateSchema) -> Result<Option<StateId>> {
        check_schema(schema)?;
        let Some(id) = self.ids.get(&schema.name).copied() else { return Ok(None) };
        check_same(self.get(id)?, schema)?;
        Ok(Some(id))
    }

    /// Refuses one state too many.
    pub(super) fn check_room(&self, schema: &StateSchema) -> Result<()> {
        if self.by_id.len() >= MAX_STATES {
            let message = format!("a backend holds at most {MAX_STATES} named states");
            return Err(Error::new(ErrorKind::LimitExceeded, OPEN_STATE, message).with_object(&schema.name));
        }
        Ok(())
    }

    /// Adds a state that [`Schemas::find`] did not know.
    pub(super) fn add(&mut self, schema: &StateSchema) -> Result<StateId> {
        check_schema(schema)?;
        self.check_room(schema)?;
        let id = StateId::from_index(self.by_id.len());
        self.by_id.push(schema.clone());
        self.ids.insert(schema.name.clone(), id);
        Ok(id)
    }

    pub(super) fn get(&self, id: StateId) -> Result<&StateSchema> {
        self.by_id.get(id.index()).ok_or_else(|| unknown_state(id))
    }

    /// All of them, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = &StateSchema> {
        self.by_id.iter()
    }

    pub(super) fn id_of(&self, name: &str) -> Option<StateId> {
        self.ids.get(name).copied()
    }

    /// All of them, sorted by name.
    pub(super) fn sorted(&self) -> Vec<StateSchema> {
        self.ids.values().filter_map(|id| self.by_id.get(id.index())).cloned().collect()
    }
}

/// Refuses an id that this backend never gave out.
pub(super) fn unknown_state(id: StateId) -> Error {
    Error::invalid("find a state", format!("this backend has no state number {}", id.index()))
        .with_advice("use a state only with the backend that opened it")
}

/// Checks the name, which becomes a column family and a part of file names, and the lengths.
pub(super) fn check_schema(schema: &StateSchema) -> Result<()> {
    check_state_name(&schema.name)?;
    for serializer in [&schema.key_serializer, &schema.value_serializer] {
        if serializer.len() > MAX_SERIALIZER_NAME_BYTES {
            let message = format!("a serializer's name is longer than {MAX_SERIALIZER_NAME_BYTES} bytes");
            return Err(Error::new(ErrorKind::LimitExceeded, OPEN_STATE, message).with_object(&schema.name));
        }
    }
    Ok(())
}

/// A state's name becomes a column family and a part of file names: the rules of job and operator ids
/// hold, and `default` is RocksDB's.
pub(super) fn check_state_name(name: &str) -> Result<()> {
    check_name("check a state name", name)?;
    if name == RESERVED_NAME {
        return Err(Error::invalid("check a state name", "RocksDB keeps this name for itself").with_object(name));
    }
    Ok(())
}

/// Refuses to read a state's rows by another kind or other serializers than they were written by.
///
/// # Errors
/// [`ErrorKind::SchemaMismatch`], naming the state and both schemas.
pub(super) fn check_same(stored: &StateSchema, asked: &StateSchema) -> Result<()> {
    if stored == asked {
        return Ok(());
    }
    let message = format!("the state holds {}, asked for is {}", describe(stored), describe(asked));
    Err(Error::new(ErrorKind::SchemaMismatch, OPEN_STATE, message)
        .with_object(&stored.name)
        .with_advice("declare the state as it was stored, or give the new state another name"))
}

fn describe(schema: &StateSchema) -> String {
    format!("{:?}(keys `{}`, values `{}`)", schema.kind, schema.key_serializer, schema.value_serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::StateKind;

    fn schema(name: &str, kind: StateKind) -> StateSchema {
        StateSchema { name: name.into(), kind, key_serializer: "bytes".into(), value_serializer: "bytes".into() }
    }

    #[test]
    fn a_mismatch_names_the_state_and_both_schemas() {
        let mut schemas = Schemas::default();
        schemas.add(&schema("bids", StateKind::Value)).unwrap();
        let asked = StateSchema { value_serializer: "postcard:u64".into(), ..schema("bids", StateKind::List) };
        let error = schemas.find(&asked).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch);
        let text = error.to_string();
        for part in ["`bids`", "Value(keys `bytes`, values `bytes`)", "List(keys `bytes`, values `postcard:u64`)"] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }

    #[test]
    fn names_that_no_file_or_column_family_may_have_are_refused() {
        for hostile in ["", "..", "a/b", "default", "a b", ".a"] {
            assert!(Schemas::default().add(&schema(hostile, StateKind::Value)).is_err(), "{hostile:?} was taken");
        }
    }

    #[test]
    fn states_are_listed_by_name() {
        let mut schemas = Schemas::default();
        for name in ["b", "a", "c"] {
            schemas.add(&schema(name, StateKind::Value)).unwrap();
        }
        let names: Vec<_> = schemas.sorted().into_iter().map(|schema| schema.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
    }
}
