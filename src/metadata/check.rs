//! The rules of a `_metadata`'s value. A writer breaks none; a reader believes nothing that does.

use super::fault::{Checked, Fault, ascending, at_most};
use super::limits::{
    MAX_FILES, MAX_KEY_BYTES, MAX_MAX_PARALLELISM, MAX_OPERATORS, MAX_POSITION_BYTES, MAX_PROPERTIES,
    MAX_PROPERTY_BYTES, MAX_SOURCE_POSITIONS, MAX_STATES_PER_OPERATOR, MAX_TEXT_BYTES,
};
use super::model::{
    Backend, CheckpointMetadata, Encoding, FileEntry, Location, OperatorState, SourcePosition, SubtaskState,
};
use super::names::in_a_job;
use crate::keygroup::KeyGroupRange;
use crate::layout::METADATA_NAME;

/// Checks every rule.
pub(super) fn checkpoint(value: &CheckpointMetadata) -> Checked {
    max_parallelism(value.max_parallelism)?;
    text("the writer", &value.writer)?;
    at_most("operators", value.operators.len(), MAX_OPERATORS)?;
    ascending("operators", &value.operators, |operator| operator.operator.as_str())?;
    total_files(value.operators.iter().flat_map(|operator| &operator.subtasks).map(|subtask| subtask.files.len()))?;
    for item in &value.operators {
        operator(item).map_err(|fault| fault.within(format_args!("operator `{}`", item.operator)))?;
    }
    at_most("source positions", value.sources.len(), MAX_SOURCE_POSITIONS)?;
    ascending("source positions", &value.sources, |source| (source.source.as_str(), source.split.as_str()))?;
    value.sources.iter().try_for_each(source)?;
    at_most("properties", value.properties.len(), MAX_PROPERTIES)?;
    for (key, value) in &value.properties {
        text("a property's key", key)?;
        at_most("a property's value, bytes", value.len(), MAX_PROPERTY_BYTES)?;
    }
    Ok(())
}

fn total_files(counts: impl Iterator<Item = usize>) -> Checked {
    at_most("files", counts.fold(0, usize::saturating_add), MAX_FILES)
}

fn text(what: &str, text: &str) -> Checked {
    at_most(&format!("{what}, bytes"), text.len(), MAX_TEXT_BYTES)
}

fn max_parallelism(groups: u32) -> Checked {
    if groups == 0 {
        return Err(Fault::bad("the max parallelism is 0"));
    }
    at_most("the max parallelism", groups as usize, MAX_MAX_PARALLELISM as usize)
}

fn source(source: &SourcePosition) -> Checked {
    text("a source's name", &source.source)?;
    text("a split's name", &source.split)?;
    at_most("a source's position, bytes", source.position.len(), MAX_POSITION_BYTES)
}

fn operator(operator: &OperatorState) -> Checked {
    max_parallelism(operator.max_parallelism)?;
    if operator.parallelism == 0 || operator.parallelism > operator.max_parallelism {
        let (parallelism, max) = (operator.parallelism, operator.max_parallelism);
        return Err(Fault::bad(format!("its parallelism is {parallelism}, which is not between 1 and {max}")));
    }
    at_most("states", operator.states.len(), MAX_STATES_PER_OPERATOR)?;
    ascending("states", &operator.states, |state| state.name.as_str())?;
    for state in &operator.states {
        text("a state's name", &state.name)?;
        text("a key serialiser's name", &state.key_serializer)?;
        text("a value serialiser's name", &state.value_serializer)?;
    }
    ascending("subtasks", &operator.subtasks, |subtask| subtask.index)?;
    for item in &operator.subtasks {
        subtask(operator, item).map_err(|fault| fault.within(format_args!("subtask {}", item.index)))?;
    }
    disjoint(&operator.subtasks)
}

/// No key group belongs to two subtasks: a restore would otherwise read its keys twice.
fn disjoint(subtasks: &[SubtaskState]) -> Checked {
    let mut ranges: Vec<KeyGroupRange> = subtasks.iter().filter_map(|subtask| subtask.key_groups).collect();
    ranges.sort_unstable();
    for (left, right) in ranges.iter().zip(ranges.iter().skip(1)) {
        if left.intersection(*right).is_some() {
            return Err(Fault::bad(format!("the key groups {left} of one subtask and {right} of another overlap")));
        }
    }
    Ok(())
}

fn subtask(operator: &OperatorState, subtask: &SubtaskState) -> Checked {
    if subtask.index >= operator.parallelism {
        return Err(Fault::bad(format!("there are only {} subtasks, counted from 0", operator.parallelism)));
    }
    match (subtask.backend, subtask.key_groups) {
        (Backend::RocksDbFolder, Some(_)) => return Err(Fault::bad("a folder of foreign keys has no key groups")),
        (Backend::Heap | Backend::RocksDb, None) => return Err(Fault::bad("its key groups are not there")),
        _ => {}
    }
    if let Some(range) = subtask.key_groups.filter(|range| u32::from(range.last()) >= operator.max_parallelism) {
        return Err(Fault::bad(format!("key groups {range}, of which there are {}", operator.max_parallelism)));
    }
    ascending("files", &subtask.files, |file| file.local_name.as_str())?;
    for item in &subtask.files {
        file(subtask, item).map_err(|fault| fault.within(format_args!("file `{}`", item.local_name)))?;
    }
    Ok(())
}

fn file(subtask: &SubtaskState, file: &FileEntry) -> Checked {
    match &file.location {
        Location::InRoot(path) => in_a_job(path)?,
        Location::InCheckpoint(path) if path.as_str() == METADATA_NAME => {
            return Err(Fault::bad("it claims to lie in the `_metadata` itself"));
        }
        Location::InCheckpoint(_) => {}
    }
    if file.offset_bytes.checked_add(file.stored_size_bytes).is_none() {
        return Err(Fault::bad("its offset and stored length are too large together"));
    }
    if file.encoding == Encoding::Plain && file.stored_size_bytes != file.size_bytes {
        let (stored, size) = (file.stored_size_bytes, file.size_bytes);
        return Err(Fault::bad(format!("it is stored plainly in {stored} bytes but has {size}")));
    }
    if let Some(range) = file.key_groups {
        let inside = subtask.key_groups.and_then(|own| own.intersection(range)) == Some(range);
        if !inside {
            return Err(Fault::bad(format!("its key groups {range} are not all its subtask's")));
        }
    }
    if file.identity.is_some_and(|identity| identity.size_bytes != file.size_bytes) {
        return Err(Fault::bad("its identity is of a file of another length"));
    }
    if let Some(table) = &file.table {
        text("a column family's name", &table.column_family)?;
        at_most("the smallest key, bytes", table.smallest_key.len(), MAX_KEY_BYTES)?;
        at_most("the largest key, bytes", table.largest_key.len(), MAX_KEY_BYTES)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_over_all_subtasks() {
        assert!(total_files([MAX_FILES - 1, 1].into_iter()).is_ok());
        assert!(total_files([MAX_FILES, 1].into_iter()).is_err());
        assert!(total_files([usize::MAX, 2].into_iter()).is_err());
    }
}
