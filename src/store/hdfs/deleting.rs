//! Deleting, and pruning folders that became empty.
//!
//! Every delete says `recursive = false`, so the NameNode itself refuses to take a folder that has something in it,
//! whatever was believed of the path: there is no call in this store that could take a tree. Naming a folder deletes
//! nothing and is no error, as the contract wants; at most an empty folder goes, which is nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;

use super::errors::Cause;
use super::{Cluster, MAX_CONCURRENT_REQUESTS};
use crate::error::Result;
use crate::store::StorePath;

/// Deletes `paths`; one answer each, in order.
pub(super) async fn delete(cluster: &Arc<Cluster>, paths: &[StorePath]) -> Vec<Result<()>> {
    let requests: Vec<_> = paths.iter().map(|path| delete_one(cluster, path)).collect();
    let answers: Vec<Result<Option<String>>> = stream::iter(requests).buffered(MAX_CONCURRENT_REQUESTS).collect().await;
    let folders: BTreeSet<&str> =
        answers.iter().filter_map(|answer| cluster.root.parent(answer.as_ref().ok()?.as_deref()?)).collect();
    // Children sort behind their parents, so backwards means deepest first.
    let prunings: Vec<_> = folders.iter().rev().map(|folder| prune(cluster, folder)).collect();
    stream::iter(prunings).buffered(MAX_CONCURRENT_REQUESTS).collect::<()>().await;
    answers.into_iter().map(|answer| answer.map(drop)).collect()
}

/// Deletes one object. Answers its place if something was there.
async fn delete_one(cluster: &Cluster, path: &StorePath) -> Result<Option<String>> {
    let operation = "delete an object";
    let place = cluster.root.place(path, operation)?;
    let named = place.clone();
    match cluster.name_node.call(|client| async move { client.delete(&named, false).await }).await {
        Ok(removed) => Ok(removed.then_some(place)),
        Err(failure) => match failure.cause() {
            Cause::Missing | Cause::NotAFolder | Cause::NotEmpty => Ok(None),
            _ => Err(failure.into_error(operation, path)),
        },
    }
}

/// Removes the folder `place` and those above it as far as they are empty; never the store's own.
///
/// Whoever writes into one meanwhile is safe: the NameNode makes a temporary file and its missing folders in one step,
/// and takes no folder with something in it. That it is a folder is asked first, since a delete cannot say so: an
/// object that took the name of a folder pruned by someone else must not go.
pub(super) async fn prune(cluster: &Cluster, place: &str) {
    let mut next = cluster.root.contains(place).then_some(place);
    while let Some(folder) = next {
        let place = folder.to_owned();
        let removed = cluster
            .name_node
            .call(|client| async move {
                match client.get_file_info(&place).await {
                    Ok(status) if status.isdir => client.delete(&place, false).await,
                    Ok(_) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await;
        match removed {
            Ok(true) => next = cluster.root.parent(folder),
            // Not empty, or gone, or not to be had now: then it stays, and listings do not show it.
            _ => return,
        }
    }
}
