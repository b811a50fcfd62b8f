//! Moving 1 GiB to HDFS and back needs less than 256 MiB. Its own program: the allocator counts.

#[path = "support/large_objects.rs"]
mod large_objects;
#[path = "support/peak_memory.rs"]
mod peak_memory;
mod services;

use std::sync::Arc;

use icecore::env::Env;
use icecore::store::hdfs::HdfsOptions;
use icecore::store::{HdfsStore, StoreRef};

#[global_allocator]
static COUNTING: peak_memory::Counting = peak_memory::Counting;

#[test]
fn four_large_objects_at_once_stay_within_256_mib_on_hdfs() {
    let Some(hdfs) = services::shared_hdfs() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _in_runtime = runtime.enter();
    let (authority, prefix) = (hdfs.host_and_port(), services::fresh_prefix("memory"));
    let store = HdfsStore::open(authority, &prefix, HdfsOptions::default(), Env::system().unwrap()).unwrap();
    let store: StoreRef = Arc::new(store);
    large_objects::assert_bounded(&runtime, &store);
}
