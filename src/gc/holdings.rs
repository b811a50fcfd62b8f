//! What collecting needs of the registry, and no more.

use std::fmt;

use crate::layout::{CheckpointId, SharedName};
use crate::registry::Registry;

/// The side of the shared-file registry that faces the collector.
pub trait Holdings: fmt::Debug + Send + Sync {
    /// Whether a registered checkpoint, one in flight or an upload under way needs `name`. An object
    /// for which this once was false is never handed out afterwards, unless it is uploaded still.
    fn holds(&self, name: &SharedName) -> bool;

    /// Whether the references of `checkpoint` are counted here.
    fn is_registered(&self, checkpoint: CheckpointId) -> bool;

    /// A checkpoint counts no longer. Returns what nothing holds any more, with lengths in bytes.
    /// One that is not registered changes nothing.
    fn release(&self, checkpoint: CheckpointId) -> Vec<(SharedName, u64)>;

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

    fn is_registered(&self, _checkpoint: CheckpointId) -> bool {
        false
    }

    fn release(&self, _checkpoint: CheckpointId) -> Vec<(SharedName, u64)> {
        Vec::new()
    }

    fn condemn(&self, _name: &SharedName) -> bool {
        true
    }

    fn forget(&self, _name: &SharedName) {}
}

/// A broken registry (an error of the kind `Internal`) holds everything: nothing is deleted by it.
impl Holdings for Registry {
    fn holds(&self, name: &SharedName) -> bool {
        self.status(name).map_or(true, |status| status.is_needed())
    }

    fn is_registered(&self, checkpoint: CheckpointId) -> bool {
        Registry::is_registered(self, checkpoint)
    }

    fn release(&self, checkpoint: CheckpointId) -> Vec<(SharedName, u64)> {
        let freed = Registry::release(self, checkpoint).unwrap_or_default();
        freed.into_iter().filter_map(|name| Some((name, self.size_bytes(&name).ok()??))).collect()
    }

    fn condemn(&self, name: &SharedName) -> bool {
        Registry::condemn(self, &[*name]).is_ok_and(|condemned| !condemned.is_empty())
    }

    fn forget(&self, name: &SharedName) {
        // An error says that it was not known or never condemned: then there is nothing to forget.
        let _ = Registry::forget(self, &[*name]);
    }
}
