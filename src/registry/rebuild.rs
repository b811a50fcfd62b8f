//! A registry from the `_metadata` files, after a claim (design 4.1).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::Arc;

use super::Registry;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointId, SharedName};

/// Where a file lies, and since when.
#[derive(Clone, Copy, Debug)]
struct Tenant {
    object: SharedName,
    size_bytes: u64,
    born: CheckpointId,
}

/// Builds a registry, checkpoint by checkpoint. It frees the same objects at the same calls as one
/// that lived through the history of these checkpoints.
///
/// `K` tells the files of one checkpoint apart: operator, subtask and local name. Only the newest
/// checkpoint's files are kept in memory beside the registry.
#[derive(Debug)]
pub struct Rebuilder<K> {
    registry: Arc<Registry>,
    newest: HashMap<K, Tenant>,
}

/// A rebuilt registry, and what its owner needs to compute the next difference.
#[derive(Debug)]
pub struct Rebuilt<K> {
    /// The registry.
    pub registry: Arc<Registry>,
    /// The newest checkpoint's files: the object each lies in, and the checkpoint that first had it.
    pub newest: HashMap<K, (SharedName, CheckpointId)>,
}

impl<K: Eq + Hash> Rebuilder<K> {
    /// Begins with no checkpoints.
    pub fn new() -> Self {
        Self { registry: Registry::new(), newest: HashMap::new() }
    }

    /// Adds the next incremental checkpoint that counts: each of its files that lies in a shared
    /// object, with the object's name and size in bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if one file is listed twice or two sizes are given for one object;
    /// [`ErrorKind::AlreadyExists`] or [`ErrorKind::InvalidInput`] if the ids do not grow. The checkpoint is not
    /// added then.
    pub fn add(
        &mut self,
        checkpoint: CheckpointId,
        files: impl IntoIterator<Item = (K, SharedName, u64)>,
    ) -> Result<()> {
        let mut next: HashMap<K, Tenant> = HashMap::with_capacity(self.newest.len());
        for (key, object, size_bytes) in files {
            let Entry::Vacant(entry) = next.entry(key) else {
                return Err(Error::corrupt("rebuild the registry", object, "one file of a subtask is listed twice"));
            };
            let known = self.newest.get(entry.key()).filter(|tenant| tenant.object == object);
            if known.is_some_and(|tenant| tenant.size_bytes != size_bytes) {
                return Err(Error::corrupt("rebuild the registry", object, "two sizes are recorded for one object"));
            }
            let born = known.map_or(checkpoint, |tenant| tenant.born);
            entry.insert(Tenant { object, size_bytes, born });
        }
        let added = next.values().filter(|tenant| tenant.born == checkpoint);
        let stays = |key: &K, tenant: &Tenant| next.get(key).is_some_and(|now| now.object == tenant.object);
        let removed = self.newest.iter().filter(|(key, tenant)| !stays(key, tenant));
        self.registry.extend_chain(
            checkpoint,
            added.map(|tenant| (tenant.object, tenant.size_bytes)),
            removed.map(|(_, tenant)| (tenant.object, tenant.born)),
            true,
        )?;
        self.newest = next;
        Ok(())
    }

    /// The registry, ready for work.
    pub fn finish(self) -> Rebuilt<K> {
        let newest = self.newest.into_iter().map(|(key, tenant)| (key, (tenant.object, tenant.born))).collect();
        Rebuilt { registry: self.registry, newest }
    }
}

impl<K: Eq + Hash> Default for Rebuilder<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// A registry from all checkpoints that count, in id order; see [`Rebuilder`], which takes them
    /// one by one.
    ///
    /// # Errors
    /// As [`Rebuilder::add`].
    pub fn rebuild<K: Eq + Hash, F>(checkpoints: impl IntoIterator<Item = (CheckpointId, F)>) -> Result<Rebuilt<K>>
    where
        F: IntoIterator<Item = (K, SharedName, u64)>,
    {
        let mut rebuilder = Rebuilder::new();
        for (checkpoint, files) in checkpoints {
            rebuilder.add(checkpoint, files).map_err(|error| match error.kind() {
                ErrorKind::Corrupt => error.with_advice(format!("checkpoint {checkpoint} is damaged: verify it")),
                _ => error,
            })?;
        }
        Ok(rebuilder.finish())
    }
}
