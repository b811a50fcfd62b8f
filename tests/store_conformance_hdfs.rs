//! The HDFS store keeps the contract, on a real cluster.

#[path = "services/mod.rs"]
mod services;

use std::sync::Arc;

use icecore::env::Env;
use icecore::store::hdfs::HdfsOptions;
use icecore::store::testing::conformance::{self, Options};
use icecore::store::{HdfsStore, StoreRef};

fn store(authority: &str, prefix: &str) -> StoreRef {
    Arc::new(HdfsStore::open(authority, prefix, HdfsOptions::default(), Env::system().unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hdfs_store_keeps_the_contract() {
    let Some(hdfs) = services::shared_hdfs() else { return };
    let prefix = services::fresh_prefix("conformance");
    conformance::run(|| async { store(hdfs.host_and_port(), &prefix) }).await.assert_conforms();
}

#[tokio::test]
async fn the_hdfs_store_keeps_the_contract_on_one_thread() {
    let Some(hdfs) = services::shared_hdfs() else { return };
    let prefix = services::fresh_prefix("conformance-one-thread");
    let options = Options { listed_objects: 200, ..Options::default() };
    conformance::run_with(&options, || async { store(hdfs.host_and_port(), &prefix) }).await.assert_conforms();
}
