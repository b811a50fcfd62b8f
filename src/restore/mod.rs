//! From a checkpoint back to state: choose files, fetch and verify them, hand them to a backend.
//!
//! A [`RestorePlan`] is a value made from `_metadata` alone: which subtask needs which files of
//! which earlier subtasks. Executing it fetches only those, in parallel, proves every hash (I8), and
//! lets the finished folder appear at once or not at all (I7). Rebuilding a state backend from
//! fetched files is the backend's own work (`crate::state`).

mod checkpoint;
mod export;
mod fetch;
mod plan;
mod staged;
mod verify;

pub use checkpoint::{Checkpoint, read_checkpoint};
pub use export::{ExportReport, export_checkpoint};
pub(crate) use export::{StandAlone, own_place, refuse_job_folder, stand_alone};
pub use fetch::{FetchOptions, FetchReport, fetch_files, fetch_to_memory, restore_folder};
pub use plan::{RestorePlan, RestoreSource};
pub use staged::StagedFolder;
#[cfg(feature = "cli")]
pub(crate) use staged::refuse_content;
pub use verify::{
    Damage, MAX_UNREADABLE_IN_A_ROW, VerifyReport, verify_checkpoint, verify_checkpoints, verify_objects,
};
