//! Removing what crashed writers left: temporary files, and folders that became empty.
//!
//! **Is that safe while a writer is alive elsewhere?** Yes, for the reason that `local::stale` gives: a writer's last
//! step is to rename its temporary file. If that is gone the rename finds nothing, and no temporary name is used
//! twice. The NameNode tells the writer even earlier: a deleted file can be neither extended, synced nor closed.
//!
//! This process knows which files it writes and leaves them alone. Those of others are told by their age: the NameNode
//! keeps when a file was begun.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use super::deleting::prune;
use super::walk::{Entry, Names};
use crate::error::Result;
use crate::store::StorePath;

const OPERATION: &str = "look for stale files";

/// Removes the temporary files below `prefix` that nobody here writes and that were begun `older_than` ago. Answers
/// how many.
pub(super) async fn remove_stale(
    cluster: &Arc<Cluster>,
    prefix: Option<&StorePath>,
    older_than: Duration,
) -> Result<u64> {
    let now_ms = cluster.env.clock.unix_time_ms();
    let mut removed = 0;
    let mut to_visit = vec![cluster.root.place_of_folder(prefix, OPERATION)?];
    while let Some(folder) = to_visit.pop() {
        let mut names = Names::of(cluster, folder.clone());
        let (mut is_empty, mut removed_here) = (true, 0);
        while let Some(entry) = names.next().await.map_err(|failure| failure.into_error(OPERATION, &folder))? {
            is_empty = false;
            if entry.status.isdir {
                to_visit.push(entry.status.path);
            } else if entry.is_temporary() && is_stale(cluster, &entry, older_than, now_ms) {
                removed_here += u64::from(remove(cluster, &entry).await?);
            }
        }
        removed += removed_here;
        if removed_here > 0 || is_empty {
            prune(cluster, &folder).await;
        }
    }
    Ok(removed)
}

fn is_stale(cluster: &Cluster, entry: &Entry, older_than: Duration, now_ms: u64) -> bool {
    let age_ms = now_ms.saturating_sub(entry.status.modification_time);
    u128::from(age_ms) >= older_than.as_millis() && !cluster.in_use.lock().contains(&entry.status.path)
}

async fn remove(cluster: &Cluster, entry: &Entry) -> Result<bool> {
    let place = entry.status.path.clone();
    cluster
        .name_node
        .call(|client| async move { client.delete(&place, false).await })
        .await
        .map_err(|failure| failure.into_error("remove a stale file", &entry.status.path))
}
