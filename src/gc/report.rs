//! What an execution did.

use std::fmt;

use serde::Serialize;

use super::plan::{all_as_text, as_text};
use crate::error::{Error, Result};
use crate::layout::CheckpointFolder;
use crate::store::StorePath;

/// What the execution of plans did. What is not confirmed stays condemned and listed, and the next
/// execution or [`super::Collector::work_off`] goes on with it.
#[derive(Debug, Default, Serialize)]
pub struct GcReport {
    /// Checkpoints that count no longer: a list that names them is published, and no greater claim was
    /// in sight afterwards (D3). Also those of other plans that this execution went on with.
    #[serde(serialize_with = "all_as_text")]
    pub dropped: Vec<CheckpointFolder>,
    /// Objects whose delete was confirmed.
    pub deleted_objects: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// Objects of the plan that something held by now.
    #[serde(serialize_with = "all_as_text")]
    pub kept: Vec<StorePath>,
    /// Deletes that were not confirmed.
    pub failed: Vec<Failed>,
    /// Objects that are condemned and not yet confirmed gone, lists not counted.
    pub pending_objects: u64,
    /// Lists that are not finished.
    pub pending_lists: u64,
    /// What stopped the execution before its end: the list could not be written, the look failed or
    /// found a greater claim. What the report says was done, was done.
    #[serde(serialize_with = "as_optional_text")]
    pub stopped: Option<Error>,
}

/// A delete that was not confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// The object.
    #[serde(serialize_with = "as_text")]
    pub path: StorePath,
    /// What the store said.
    pub reason: String,
}

impl GcReport {
    /// Whether everything that was planned is gone.
    pub fn is_finished(&self) -> bool {
        self.stopped.is_none() && self.failed.is_empty() && self.pending_lists == 0
    }

    /// The report, unless the execution was stopped.
    ///
    /// # Errors
    /// What stopped it.
    pub fn into_result(mut self) -> Result<Self> {
        match self.stopped.take() {
            None => Ok(self),
            Some(error) => Err(error),
        }
    }
}

impl fmt::Display for GcReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failed in &self.failed {
            writeln!(f, "not deleted: {} ({})", failed.path, failed.reason)?;
        }
        for kept in &self.kept {
            writeln!(f, "kept: {kept} (in use by now)")?;
        }
        if let Some(error) = &self.stopped {
            writeln!(f, "stopped: {error}")?;
        }
        if self.pending_lists > 0 {
            let (objects, lists) = (self.pending_objects, self.pending_lists);
            writeln!(f, "{objects} objects in {lists} lists wait for another attempt")?;
        }
        write!(f, "{} objects deleted, {} bytes", self.deleted_objects, self.deleted_bytes)
    }
}

fn as_optional_text<S: serde::Serializer>(value: &Option<Error>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(error) => serializer.serialize_some(&error.to_string()),
        None => serializer.serialize_none(),
    }
}
