//! HTTP requests of S3.

use super::services::proxy::{Proxy, Seen};
use super::*;

fn kind(seen: &Seen) -> String {
    let kind = match seen.name.as_str() {
        "GET" if seen.path.contains("list-type=2") => "LIST",
        "POST" if seen.path.contains("delete") => "batch DELETE",
        name @ ("GET" | "HEAD" | "PUT" | "DELETE") => name,
        _ => "other",
    };
    kind.to_owned()
}

#[test]
fn a_checkpoint_takes_as_many_requests_of_s3_whatever_the_number_of_unchanged_files() {
    let Some(s3) = services::shared_s3() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let of = |unchanged_files: u32| {
        let proxy = Proxy::http(s3.host_and_port());
        let (through, prefix) = (s3.through(&proxy.endpoint()), services::fresh_prefix("requests"));
        runtime.block_on(async {
            let store = s3_support::store_at(&through, &prefix, &s3_support::options(&through));
            requests(store, &proxy, unchanged_files, kind).await
        })
    };
    let (few, many) = (of(5), of(1_000));
    println!("requests of S3 for a checkpoint with {CHANGED_FILES} changed files: {few:?}");
    assert_eq!(few, many);
    // Each changed file, the index and the list of what goes: nothing else is written.
    assert_eq!(few["PUT"], CHANGED_FILES as usize + 2);
    assert!(!few.contains_key("other"), "{few:?}");
}
