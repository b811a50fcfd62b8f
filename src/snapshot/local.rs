//! What a state backend hands over after its synchronous part.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::keygroup::KeyGroupRange;
use crate::layout::{CheckpointFolder, FileKind};
use crate::metadata::{Backend, FileIdentity, StateSchema, TableInfo};
use crate::store::StorePath;

/// One subtask's frozen state.
#[derive(Debug)]
pub struct LocalSnapshot {
    /// Where the subtask keeps its state.
    pub backend: Backend,
    /// The key groups it owns.
    pub key_groups: Option<KeyGroupRange>,
    /// Its named states.
    pub states: Vec<StateSchema>,
    /// The frozen files.
    pub files: Vec<LocalFile>,
    /// Finds or makes the rest of them, in the background: reading a MANIFEST, say. Blocks.
    pub prepare: Option<Prepare>,
    /// How long freezing held the subtask up, in microseconds.
    pub sync_us: u64,
    /// How long it went on beside the subtask's work, in microseconds.
    pub beside_us: u64,
    /// Keeps the frozen files alive (a folder of hard links, say) until the snapshot is dropped.
    pub hold: Option<Hold>,
}

/// Work that yields frozen files and may block.
pub struct Prepare(Box<dyn FnOnce() -> Result<Vec<LocalFile>> + Send>);

impl Prepare {
    /// Wraps `work`.
    pub fn new(work: impl FnOnce() -> Result<Vec<LocalFile>> + Send + 'static) -> Self {
        Self(Box::new(work))
    }

    /// Does it.
    ///
    /// # Errors
    /// What the work fails with.
    pub fn run(self) -> Result<Vec<LocalFile>> {
        (self.0)()
    }
}

impl fmt::Debug for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepare")
    }
}

/// Anything whose drop releases what a snapshot holds.
pub struct Hold(#[allow(dead_code)] Box<dyn Any + Send + Sync>);

impl Hold {
    /// Holds `what` until the snapshot is dropped.
    pub fn new(what: impl Any + Send + Sync) -> Self {
        Self(Box::new(what))
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hold")
    }
}

/// One frozen file.
#[derive(Clone, Debug)]
pub struct LocalFile {
    /// Its path in the restored folder.
    pub local_name: StorePath,
    /// What it is.
    pub kind: FileKind,
    /// Where its bytes come from.
    pub source: FileSource,
    /// Whether later checkpoints may share it.
    pub placing: Placing,
    /// What is known of its content without reading it.
    pub known: Known,
    /// The key groups for which its rows are valid; `None`: all of the subtask's.
    pub key_groups: Option<KeyGroupRange>,
    /// What RocksDB's MANIFEST says of it, if it is a table.
    pub table: Option<TableInfo>,
}

/// Where a file's bytes come from.
#[derive(Clone)]
pub enum FileSource {
    /// The first `size_bytes` bytes of a file.
    Path {
        /// The file.
        path: PathBuf,
        /// How much of it.
        size_bytes: u64,
    },
    /// Bytes that are made when they are needed, the same at every call.
    Made(Arc<dyn Fn() -> Result<Bytes> + Send + Sync>),
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path, size_bytes } => write!(f, "{} ({size_bytes} bytes)", path.display()),
            Self::Made(_) => f.write_str("made on demand"),
        }
    }
}

/// Where the file's object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// Into `shared/`, by content hash.
    Shared,
    /// Into the checkpoint's own folder: small, and different every time.
    Private,
}

/// What is known of a file's content without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it must be read.
    No,
    /// RocksDB's identity of it: equal identities mean equal bytes.
    Identity(FileIdentity),
    /// The backend itself knows that it has not changed since this checkpoint.
    UnchangedSince(CheckpointFolder),
}
