//! What a checkpoint asks of a server, request by request as a real one sees them, does not depend on how much has not
//! changed.

#![cfg(any(feature = "s3", feature = "hdfs"))]

#[path = "../coordinator/support.rs"]
mod support;

#[cfg(feature = "s3")]
#[path = "../s3_support/mod.rs"]
mod s3_support;
#[path = "../services/mod.rs"]
mod services;

#[cfg(feature = "hdfs")]
mod hdfs;
#[cfg(feature = "s3")]
mod s3;

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore::store::StoreRef;
use services::proxy::{Proxy, Seen};
use support::*;

const CHANGED_FILES: u32 = 3;

/// Requests by kind.
type Requests = BTreeMap<String, usize>;

/// Counts the requests of a second checkpoint through the proxy that the store uses: it sends what changed, commits,
/// drops the one before and deletes what that alone had.
async fn requests(store: StoreRef, proxy: &Proxy, unchanged_files: u32, kind: fn(&Seen) -> String) -> Requests {
    let world = World::new();
    let coordinator = world.coordinator_on(Arc::clone(&store), 1, keep(1), Vec::new()).await.unwrap();
    let mut task = world.task_on(store, &coordinator, 0, 1);
    for number in 0..unchanged_files {
        task.write(&format!("unchanged-{number}.sst"), format!("of {number}"));
    }
    let change = |task: &mut Task, round: u32| {
        for number in 0..CHANGED_FILES {
            task.write(&format!("{number}.sst"), format!("{number} in round {round}"));
        }
    };
    change(&mut task, 0);
    checkpoint(&coordinator, &[&task]).await;
    change(&mut task, 1);
    let before = proxy.seen().len();
    checkpoint(&coordinator, &[&task]).await;
    let mut requests = Requests::new();
    for seen in &proxy.seen()[before..] {
        *requests.entry(kind(seen)).or_default() += 1;
    }
    requests
}
