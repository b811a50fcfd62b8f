//! Taking up what an earlier tenure left: registry, file lists, the chain.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chain::{Chain, CompletedCheckpoint, Tenant, files_of, shared_name};
use super::distrust::DistrustState;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CheckpointFolder, JobLayout, SubtaskName};
use crate::metadata::CheckpointKind;
use crate::ownership::JobView;
use crate::registry::{Rebuilder, Registry};
use crate::snapshot::{FileSet, SnapshotStats};

/// What a coordinator starts with.
pub(super) struct Recovered {
    pub(super) registry: Arc<Registry>,
    pub(super) chain: Chain,
    pub(super) completed: BTreeMap<CheckpointFolder, CompletedCheckpoint>,
    pub(super) distrust: DistrustState,
}

/// Rebuilds the registry and the file lists from the checkpoints that count, oldest first.
///
/// A checkpoint whose `_metadata` cannot be read takes no part, and blocks every deletion of shared
/// files for as long as that is so (4.6). If it is the newest, its id is not used again.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if two checkpoints contradict each other.
pub(super) fn recover(layout: &JobLayout, view: &JobView) -> Result<Recovered> {
    let mut rebuilder: Rebuilder<Tenant> = Rebuilder::new();
    let mut head: BTreeMap<SubtaskName, FileSet> = BTreeMap::new();
    let mut completed = BTreeMap::new();
    for (folder, checkpoint) in &view.checkpoints {
        let metadata = match &checkpoint.content {
            Ok(metadata) => metadata,
            Err(unreadable) => {
                tracing::warn!(checkpoint = %folder, reason = %unreadable.reason, "a checkpoint cannot be read");
                continue;
            }
        };
        if metadata.folder() != *folder {
            return Err(Error::new(ErrorKind::Corrupt, "recover a job", "its _metadata is of another checkpoint")
                .with_object(folder));
        }
        let files = files_of(metadata, &head);
        if metadata.kind == CheckpointKind::Incremental {
            let tenants = files.iter().flat_map(|(subtask, files)| {
                files.entries().filter_map(|entry| {
                    let name = shared_name(layout, entry)?;
                    Some(((subtask.clone(), entry.local_name.clone()), name, entry.stored_size_bytes))
                })
            });
            rebuilder.add(folder.checkpoint, tenants).map_err(|error| error.with_object(folder))?;
            head = files.clone();
        }
        let done = CompletedCheckpoint {
            folder: *folder,
            kind: metadata.kind,
            triggered_at_unix_ms: metadata.triggered_at_unix_ms,
            stats: SnapshotStats::default(),
            files,
        };
        completed.insert(*folder, done);
    }
    let newest: Option<&CompletedCheckpoint> =
        completed.values().rfind(|done: &&CompletedCheckpoint| done.kind == CheckpointKind::Incremental);
    let distrust = DistrustState::recovered(view, newest.map(|done| &done.files));
    let rebuilt = rebuilder.finish();
    let damaged: Vec<_> = distrust.known().copied().collect();
    rebuilt.registry.distrust(&damaged)?; // X3
    let since = rebuilt.newest.into_iter().map(|(tenant, (_, born))| (tenant, born)).collect();
    Ok(Recovered { registry: rebuilt.registry, chain: Chain::new(head, since), completed, distrust })
}
