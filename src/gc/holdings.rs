//! What collecting needs of the registry, and no more.

use std::fmt;

use crate::layout::{CheckpointId, SharedName};

/// The side of the shared-file registry that faces the collector.
pub trait Holdings: fmt::Debug + Send + Sync {
    /// Whether a registered checkpoint, one in flight or an upload under way needs `name`. An object
    /// for which this once was false is never handed out afterwards, unless it is uploaded still.
    fn holds(&self, name: &SharedName) -> bool;

    /// A checkpoint counts no longer. What only it held is held no more. Doing it twice is harmless.
    fn release(&self, checkpoint: CheckpointId);

    /// From now on, for the whole tenure, `name` is handed out to nobody (D1), unless something
    /// holds it. Returns whether it is condemned: `false` means that it must not be deleted.
    fn condemn(&self, name: &SharedName) -> bool;

    /// The delete of a condemned object was confirmed. Its name is never used again, so nothing need
    /// be remembered of it.
    fn forget(&self, name: &SharedName);
}

/// Nothing is held: for plans that no owner makes, and for jobs without shared files.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHoldings;

impl Holdings for NoHoldings {
    fn holds(&self, _name: &SharedName) -> bool {
        false
    }

    fn release(&self, _checkpoint: CheckpointId) {}

    fn condemn(&self, _name: &SharedName) -> bool {
        true
    }

    fn forget(&self, _name: &SharedName) {}
}
