//! `_metadata`, the index of one checkpoint, whose appearance is the commit; and the small control
//! records beside it.
//!
//! The types of `model` and `control` are plain values; `docs/format.md` describes their bytes.
//! Everything decoded is checked before it is believed (I8): paths cannot leave the root, lengths
//! and counts are bounded, ranges are not empty, lists are sorted. What a reader accepts is what a
//! writer may write: both obey the rules of one module (`check`).
//!
//! A `_metadata` body is one protobuf message whose fields are written and read one after the
//! other, so that neither side ever holds a second copy of a long file list.

mod check;
mod codec;
mod control;
mod control_codec;
mod fault;
mod file;
mod frame;
pub mod limits;
mod model;
mod names;
mod numbers;
#[cfg(test)]
mod tests;
mod wire;

/// What another message format of this crate (the job manager's) shares with this one.
#[cfg(feature = "job")]
pub(crate) mod shared {
    pub(crate) use super::fault::{Checked, Fault, at_most};
    pub(crate) use super::names::{
        epoch, epoch_to_wire, folder, folder_to_wire, hash, job, key_groups, key_groups_to_wire, name_fault, path,
        present, shared,
    };
    pub(crate) use super::numbers::{number, value};
    pub(crate) use super::wire::{Epoch, Folder, KeyGroups, decode};
}

#[doc(hidden)]
pub use codec::decode_body;
pub use codec::{decode, encode};
pub use control::{
    Answer, Claim, Condemned, ControlRecord, Distrust, End, Outcome, Pin, Ref, Request, RequestKind, Start,
};
pub use frame::{Format, HEADER_BYTES, TRAILER_BYTES};
pub(crate) use model::total_bytes;
pub use model::{
    Backend, CheckpointKind, CheckpointMetadata, Encoding, FileEntry, FileIdentity, Location, OperatorState, Origin,
    SourcePosition, StateKind, StateSchema, SubtaskState, TableInfo,
};
