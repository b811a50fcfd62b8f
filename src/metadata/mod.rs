//! `_metadata`: the index of one checkpoint, whose appearance is the commit.
//!
//! The types here are plain values; `docs/format.md` describes their bytes. Everything decoded is
//! checked before it is believed (I8): paths cannot leave the root, lengths and counts are bounded,
//! ranges are not empty.

mod model;

pub use model::{
    Backend, CheckpointKind, CheckpointMetadata, Encoding, FileEntry, FileIdentity, Location, OperatorState,
    SourcePosition, StateKind, StateSchema, SubtaskState, TableInfo,
};
