//! What a checkpoint on S3 asks of the server, request by request as a real one sees them.

#[path = "coordinator/support.rs"]
mod support;

mod s3_support;
mod services;

use std::collections::BTreeMap;
use std::sync::Arc;

use icecore::store::StoreRef;
use services::proxy::{Proxy, Seen};
use support::*;

const CHANGED_FILES: u32 = 3;

/// Requests by kind.
fn kinds(seen: &[Seen]) -> BTreeMap<&'static str, usize> {
    let mut kinds = BTreeMap::new();
    for Seen { name, path } in seen {
        let kind = match name.as_str() {
            "GET" if path.contains("list-type=2") => "LIST",
            "GET" => "GET",
            "HEAD" => "HEAD",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            "POST" if path.contains("delete") => "batch DELETE",
            _ => "other",
        };
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

#[test]
fn a_checkpoint_takes_as_many_requests_whatever_the_number_of_unchanged_files() {
    let Some(s3) = services::shared_s3() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let of = |unchanged_files: u32| {
        let proxy = Proxy::http(s3.host_and_port());
        let (through, prefix) = (s3.through(&proxy.endpoint()), services::fresh_prefix("requests"));
        runtime.block_on(async {
            let store: StoreRef = s3_support::store_at(&through, &prefix, &s3_support::options(&through));
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
            // Sends what changed, commits, drops the one before and deletes what that alone had.
            checkpoint(&coordinator, &[&task]).await;
            kinds(&proxy.seen()[before..])
        })
    };
    let (few, many) = (of(5), of(1_000));
    println!("requests of one checkpoint with {CHANGED_FILES} changed files: {few:?}");
    assert_eq!(few, many);
    // Each changed file, the index and the list of what goes: nothing else is written.
    assert_eq!(few["PUT"], CHANGED_FILES as usize + 2);
    assert!(!few.contains_key("other"), "{few:?}");
}
