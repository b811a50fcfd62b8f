//! Names: the ids the crate speaks of, and where on the store everything lies.
//!
//! This module is the only one that composes or takes apart paths of a job's folder. Every name is
//! used once in the life of a store (design, section 3): a checkpoint's folder carries its epoch, an
//! uploaded object its [`Tag`], so a delete that arrives late can only hit what its sender meant.

mod ids;
mod job;
mod place;
mod tag;

pub(crate) use ids::check_name;
pub use ids::{CheckpointId, ContentHash, Epoch, JobId, OperatorId, Uid};
pub use job::{
    CheckpointFolder, JobLayout, METADATA_NAME, RefName, SubtaskName, key_group_folder, operator_folder, place_anew,
    subtask_folder,
};
pub use place::Place;
pub use tag::{DistrustName, FileKind, SharedName, Tag};
