//! What a `_metadata` says, as Rust values.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::keygroup::KeyGroupRange;
use crate::layout::{CheckpointFolder, CheckpointId, ContentHash, Epoch, FileKind, JobId, OperatorId};
use crate::store::StorePath;

/// How a checkpoint was written, and who may delete it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckpointKind {
    /// Every byte written for this checkpoint, a folder a key group.
    Full,
    /// Only files that no earlier checkpoint stored; the rest is referenced.
    Incremental,
    /// A full checkpoint that the user owns; retention never deletes it.
    Savepoint,
}

/// Where a subtask kept its keyed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// icecore's in-memory backend.
    Heap,
    /// icecore's RocksDB backend: keys prefixed by their key group.
    RocksDb,
    /// A RocksDB folder whose keys icecore knows nothing of; restored as it was, never rescaled.
    RocksDbFolder,
}

/// Which checkpoint of which job a state was taken for. The random uid in its epoch makes it another than
/// every checkpoint that was ever taken elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The job.
    pub job: JobId,
    /// The checkpoint, and the tenure that took it.
    pub folder: CheckpointFolder,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of job {}", self.folder, self.job)
    }
}

/// Everything about one checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointMetadata {
    /// The job it belongs to.
    pub job: JobId,
    /// Its number.
    pub checkpoint: CheckpointId,
    /// The tenure that wrote it.
    pub epoch: Epoch,
    /// How it was written.
    pub kind: CheckpointKind,
    /// When it was triggered, in milliseconds since 1970 UTC. For people and retention by age.
    pub triggered_at_unix_ms: u64,
    /// Number of key groups of the job's operators, unless an operator says otherwise.
    pub max_parallelism: u32,
    /// The writer's name and version, such as `icecore 0.1.0`.
    pub writer: String,
    /// Of a copy: the checkpoint whose state this is. `None`: the state was taken for this very one.
    pub origin: Option<Origin>,
    /// The state, operator by operator, sorted by id.
    pub operators: Vec<OperatorState>,
    /// Where every source stood, sorted by source and split.
    pub sources: Vec<SourcePosition>,
    /// What else the engine wants kept with the checkpoint.
    pub properties: BTreeMap<String, Vec<u8>>,
}

impl CheckpointMetadata {
    /// The folder this checkpoint's `_metadata` lies in.
    pub fn folder(&self) -> CheckpointFolder {
        CheckpointFolder { checkpoint: self.checkpoint, epoch: self.epoch }
    }

    /// The checkpoint for which this state was taken: the same for every copy of it, on whatever store.
    pub fn identity(&self) -> Origin {
        self.origin.clone().unwrap_or_else(|| Origin { job: self.job.clone(), folder: self.folder() })
    }

    /// Every file of every subtask.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        self.operators.iter().flat_map(OperatorState::files)
    }
}

/// The sum of sizes that a `_metadata` tells. Each may be any number, so that together they need not
/// fit (I8): a sum that is too large stays at the greatest there is.
pub(crate) fn total_bytes(sizes: impl IntoIterator<Item = u64>) -> u64 {
    sizes.into_iter().fold(0, u64::saturating_add)
}

/// The state of one operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorState {
    /// The operator.
    pub operator: OperatorId,
    /// How many subtasks it had.
    pub parallelism: u32,
    /// Into how many key groups its keys are hashed.
    pub max_parallelism: u32,
    /// Its named states, sorted by name.
    pub states: Vec<StateSchema>,
    /// Its subtasks, sorted by index.
    pub subtasks: Vec<SubtaskState>,
}

impl OperatorState {
    /// Every file of its subtasks.
    pub fn files(&self) -> impl Iterator<Item = &FileEntry> {
        self.subtasks.iter().flat_map(|subtask| subtask.files.iter())
    }
}

/// What a named state holds. A restore compares it with what the program asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StateSchema {
    /// The state's name: its RocksDB column family.
    pub name: String,
    /// Its kind.
    pub kind: StateKind,
    /// Names the encoding of keys, such as `postcard:alloc::string::String`.
    pub key_serializer: String,
    /// Names the encoding of values.
    pub value_serializer: String,
}

/// The kinds of keyed state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum StateKind {
    /// One value a key.
    Value,
    /// A list a key, appended to.
    List,
    /// A map a key.
    Map,
    /// One value a key, into which added values are folded.
    Reducing,
    /// One accumulator a key, of another type than what is added.
    Aggregating,
    /// Registered timers.
    Timer,
    /// A column family whose content icecore knows nothing of.
    Opaque,
}

/// One subtask's part of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubtaskState {
    /// Which of the operator's subtasks.
    pub index: u32,
    /// The key groups it owned; `None` for [`Backend::RocksDbFolder`].
    pub key_groups: Option<KeyGroupRange>,
    /// Where it kept its state.
    pub backend: Backend,
    /// Its files, sorted by local name.
    pub files: Vec<FileEntry>,
}

/// One file of a subtask, and the stored object that holds its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its path in the restored folder, such as `000012.sst` or `7.bids.state`. Clean and relative.
    pub local_name: StorePath,
    /// What it is.
    pub kind: FileKind,
    /// The object its bytes lie in.
    pub location: Location,
    /// Where in the object its stored bytes begin.
    pub offset_bytes: u64,
    /// How many stored bytes there are.
    pub stored_size_bytes: u64,
    /// How they are stored.
    pub encoding: Encoding,
    /// Length of the file itself.
    pub size_bytes: u64,
    /// SHA-256 of the file itself.
    pub sha256: ContentHash,
    /// The key groups for which this file's rows are valid; `None`: all its subtask's.
    pub key_groups: Option<KeyGroupRange>,
    /// What RocksDB knows of a table.
    pub table: Option<TableInfo>,
    /// What tells the file apart without reading it.
    pub identity: Option<FileIdentity>,
}

/// Which object a file's bytes lie in. Relative, so that a copied root restores as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Location {
    /// Relative to the folder of the `_metadata` that names it.
    InCheckpoint(StorePath),
    /// Relative to the store's root.
    InRoot(StorePath),
}

/// How a file's bytes are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Encoding {
    /// As they are.
    Plain,
}

/// What RocksDB's MANIFEST says of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Name of the column family it belongs to; one allocation for all tables of a family.
    pub column_family: Arc<str>,
    /// Its level in the tree.
    pub level: u32,
    /// Smallest user key.
    pub smallest_key: Vec<u8>,
    /// Largest user key.
    pub largest_key: Vec<u8>,
    /// Smallest sequence number.
    pub smallest_sequence: u64,
    /// Largest sequence number.
    pub largest_sequence: u64,
}

/// What tells an SST apart without reading it: RocksDB derives the unique id from database id,
/// session id and original file number (`GetSstInternalUniqueId`) and keeps it in the MANIFEST. The
/// sequence numbers are part of it because ingestion can write one into a file in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// RocksDB's unique id, first and second half.
    pub unique_id: [u64; 2],
    /// Length of the file.
    pub size_bytes: u64,
    /// Smallest and largest sequence number.
    pub sequences: [u64; 2],
}

/// Where one split of one source stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// The source.
    pub source: String,
    /// The split (a Kafka partition, say).
    pub split: String,
    /// The position, in the source's own encoding.
    pub position: Vec<u8>,
}
