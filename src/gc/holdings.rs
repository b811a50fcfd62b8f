//! What collecting needs of the registry, and no more.

use std::fmt;

use crate::error::ErrorKind;
use crate::layout::{CheckpointId, SharedName};
use crate::registry::{ObjectStatus, Registry};

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

impl Holdings for Registry {
    fn holds(&self, name: &SharedName) -> bool {
        // A registry that cannot tell holds it: nothing is deleted on a guess.
        self.status(name).map_or(true, ObjectStatus::is_needed)
    }

    fn release(&self, checkpoint: CheckpointId) {
        match Registry::release(self, checkpoint) {
            Ok(_) => {}
            // Released before, or never registered, as full checkpoints are.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, %checkpoint, "registry"),
        }
    }

    fn condemn(&self, name: &SharedName) -> bool {
        Registry::condemn(self, &[*name]).is_ok_and(|condemned| condemned.contains(name))
    }

    fn forget(&self, name: &SharedName) {
        if let Err(error) = Registry::forget(self, &[*name]) {
            // Objects that it never knew, such as orphans of other tenures, are the usual case.
            tracing::debug!(%error, %name, "registry");
        }
    }
}
