//! Which files a subtask needs, decided from `_metadata` alone.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroupRange, MaxParallelism};
use crate::layout::{FileKind, OperatorId};
use crate::metadata::{Backend, CheckpointMetadata, FileEntry, OperatorState, StateSchema, SubtaskState, total_bytes};

/// What one subtask fetches, and from whose part of the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// The operator.
    pub operator: OperatorId,
    /// The subtask that is restored.
    pub subtask: u32,
    /// Of how many.
    pub parallelism: u32,
    /// The key groups it will own; `None` for a RocksDB folder of unknown keys.
    pub key_groups: Option<KeyGroupRange>,
    /// Into how many key groups the operator's keys are hashed.
    pub max_parallelism: u32,
    /// The states' schemas.
    pub states: Vec<StateSchema>,
    /// Earlier subtasks whose state overlaps, in order of their key groups.
    pub sources: Vec<RestoreSource>,
}

/// One earlier subtask's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreSource {
    /// The earlier subtask.
    pub subtask: u32,
    /// Where it kept its state.
    pub backend: Backend,
    /// The key groups that it owned.
    pub key_groups: Option<KeyGroupRange>,
    /// Those of them that are wanted.
    pub wanted: Option<KeyGroupRange>,
    /// The files to fetch.
    pub files: Vec<FileEntry>,
    /// Files of this source that are not needed.
    pub skipped_files: u64,
}

impl RestoreSource {
    /// Whether everything that this source held is wanted.
    pub fn is_whole(&self) -> bool {
        self.wanted == self.key_groups
    }
}

impl RestorePlan {
    /// Plans subtask `subtask` of `parallelism` of `operator`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the checkpoint has no such operator;
    /// [`ErrorKind::InvalidInput`] if the parallelism exceeds the number of key groups, or differs
    /// from the checkpoint's where the keys are unknown; [`ErrorKind::Corrupt`] if no subtask had
    /// some of the key groups.
    pub fn new(metadata: &CheckpointMetadata, operator: &OperatorId, subtask: u32, parallelism: u32) -> Result<Self> {
        let state = find_operator(metadata, operator)?;
        let is_opaque = state.subtasks.iter().any(|part| part.backend == Backend::RocksDbFolder);
        let (key_groups, sources) = if is_opaque {
            (None, vec![opaque_source(state, subtask, parallelism)?])
        } else {
            let range = MaxParallelism::new(state.max_parallelism)?.range_of_subtask(subtask, parallelism)?;
            let sources = overlapping_sources(state, range);
            check_covered(operator, range, &sources)?;
            (Some(range), sources)
        };
        Ok(Self {
            operator: operator.clone(),
            subtask,
            parallelism,
            key_groups,
            max_parallelism: state.max_parallelism,
            states: state.states.clone(),
            sources,
        })
    }

    /// The one source, if it is this very subtask with the same key groups, and wanted whole: only then
    /// may the next checkpoint build on its files.
    pub fn unchanged_source(&self) -> Option<&RestoreSource> {
        match self.sources.as_slice() {
            [only] if only.is_whole() && only.subtask == self.subtask && only.key_groups == self.key_groups => {
                Some(only)
            }
            _ => None,
        }
    }

    /// How many files are fetched.
    pub fn file_count(&self) -> u64 {
        self.sources.iter().map(|source| source.files.len() as u64).sum()
    }

    /// How many bytes are fetched.
    pub fn size_bytes(&self) -> u64 {
        total_bytes(self.sources.iter().flat_map(|source| &source.files).map(|file| file.size_bytes))
    }
}

impl fmt::Display for RestorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operator, subtask, parallelism, .. } = self;
        write!(f, "subtask {subtask} of {parallelism} of operator {operator}")?;
        if let Some(range) = self.key_groups {
            write!(f, ", key groups {range}")?;
        }
        writeln!(f, ": {} files, {} bytes", self.file_count(), self.size_bytes())?;
        for source in &self.sources {
            write!(f, "  from subtask {}: {} files", source.subtask, source.files.len())?;
            match source.wanted {
                Some(wanted) if !source.is_whole() => write!(f, ", key groups {wanted} only")?,
                _ => {}
            }
            writeln!(f, ", {} not needed", source.skipped_files)?;
        }
        Ok(())
    }
}

fn find_operator<'a>(metadata: &'a CheckpointMetadata, operator: &OperatorId) -> Result<&'a OperatorState> {
    metadata.operators.iter().find(|state| state.operator == *operator).ok_or_else(|| {
        let known: Vec<&str> = metadata.operators.iter().map(|state| state.operator.as_str()).collect();
        Error::new(ErrorKind::NotFound, "plan a restore", "the checkpoint has no such operator")
            .with_object(operator)
            .with_advice(format!("it has: {}", known.join(", ")))
    })
}

fn opaque_source(state: &OperatorState, subtask: u32, parallelism: u32) -> Result<RestoreSource> {
    if parallelism != state.parallelism {
        return Err(Error::invalid(
            "plan a restore",
            format!("a RocksDB folder of unknown keys cannot be rescaled from {} to {parallelism}", state.parallelism),
        )
        .with_object(&state.operator)
        .with_advice("restore it at the parallelism it was taken at"));
    }
    let part = state.subtasks.iter().find(|part| part.index == subtask).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "plan a restore", format!("the checkpoint has no subtask {subtask}"))
            .with_object(&state.operator)
    })?;
    Ok(RestoreSource {
        subtask,
        backend: part.backend,
        key_groups: None,
        wanted: None,
        files: part.files.clone(),
        skipped_files: 0,
    })
}

fn overlapping_sources(state: &OperatorState, range: KeyGroupRange) -> Vec<RestoreSource> {
    let mut sources: Vec<RestoreSource> =
        state.subtasks.iter().filter_map(|part| overlapping_source(part, range)).collect();
    sources.sort_by_key(|source| source.key_groups);
    sources
}

/// Refuses a checkpoint that says nothing of some key groups: their state would be empty, silently (I10).
fn check_covered(operator: &OperatorId, range: KeyGroupRange, sources: &[RestoreSource]) -> Result<()> {
    let missing = |group: u32| {
        let message = format!("no subtask of the checkpoint has key group {group}");
        Err(Error::corrupt("plan a restore", operator, message))
    };
    // The sources are in order and do not overlap.
    let mut next = u32::from(range.first());
    for wanted in sources.iter().filter_map(|source| source.wanted) {
        if u32::from(wanted.first()) > next {
            return missing(next);
        }
        next = u32::from(wanted.last()) + 1;
    }
    if next <= u32::from(range.last()) { missing(next) } else { Ok(()) }
}

fn overlapping_source(part: &SubtaskState, range: KeyGroupRange) -> Option<RestoreSource> {
    let owned = part.key_groups?;
    let wanted = owned.intersection(range)?;
    let is_needed = |file: &&FileEntry| match file.key_groups {
        Some(groups) => groups.intersection(wanted).is_some(),
        // A write-ahead log may hold rows of any key group; the small files are always needed.
        None => true,
    };
    let files: Vec<FileEntry> = part.files.iter().filter(is_needed).cloned().collect();
    let skipped_files = (part.files.len() - files.len()) as u64;
    Some(RestoreSource {
        subtask: part.index,
        backend: part.backend,
        key_groups: Some(owned),
        wanted: Some(wanted),
        files,
        skipped_files,
    })
}

/// Whether a file never changes once RocksDB has written it, so that folders may share it by a
/// hard link.
pub(super) fn is_immutable(kind: FileKind) -> bool {
    matches!(kind, FileKind::Sst | FileKind::Blob)
}
