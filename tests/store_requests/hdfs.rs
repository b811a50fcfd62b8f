//! Calls of HDFS's NameNode.

use icecore::env::Env;
use icecore::store::HdfsStore;
use icecore::store::hdfs::HdfsOptions;

use super::services::proxy::Proxy;
use super::*;

#[test]
fn a_checkpoint_takes_as_many_calls_of_the_name_node_whatever_the_number_of_unchanged_files() {
    let Some(hdfs) = services::shared_hdfs() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let of = |unchanged_files: u32| {
        let proxy = Proxy::hadoop_rpc(hdfs.host_and_port());
        let (authority, prefix) = (proxy.address().to_string(), services::fresh_prefix("requests"));
        runtime.block_on(async {
            let options = HdfsOptions::default();
            let store = HdfsStore::open(&authority, &prefix, options, Env::system().unwrap()).unwrap();
            let mut calls = requests(Arc::new(store), &proxy, unchanged_files, |seen| seen.name.clone()).await;
            // Those go by the clock: a file's end is asked for until enough DataNodes have reported its block.
            calls.remove("renewLease");
            assert!(calls.remove("complete") >= Some(CHANGED_FILES as usize + 2));
            calls
        })
    };
    let (few, many) = (of(5), of(300));
    println!("calls of the NameNode for a checkpoint with {CHANGED_FILES} changed files: {few:?}");
    assert_eq!(few, many);
    // Each changed file, the index and the list of what goes: nothing else is written, and each appears by its rename.
    let written = CHANGED_FILES as usize + 2;
    assert_eq!((few["create"], few["rename2"]), (written, written), "{few:?}");
}
