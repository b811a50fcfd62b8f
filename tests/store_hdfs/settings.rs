//! Options reach the cluster, and objects of many blocks are whole.

use icecore::store::Store as _;
use icecore::store::hdfs::HdfsOptions;

use super::services;
use super::support::{Bench, MIB, content, expect_whole, open, path, stream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_many_blocks_is_read_as_it_was_written() {
    let options = HdfsOptions { block_size_bytes: Some(MIB as u64), ..HdfsOptions::default() };
    let Some(bench) = Bench::shared_with("blocks", options) else { return };
    for size in [MIB - 1, MIB, MIB + 1, 5 * MIB, 5 * MIB + 77] {
        let bytes = content(size);
        bench.put(&format!("put-{size}"), &bytes).await.unwrap();
        expect_whole(&bench.store, &format!("put-{size}"), &bytes).await;
        stream(&bench.store, &format!("streamed-{size}"), &bytes).await.unwrap();
        expect_whole(&bench.store, &format!("streamed-{size}"), &bytes).await;
    }
    let bytes = content(5 * MIB + 77);
    let name = path(&format!("put-{}", bytes.len()));
    for range in [MIB - 1..MIB + 1, MIB..2 * MIB, 10..4 * MIB + 10, 5 * MIB..5 * MIB + 77] {
        let read = bench.store.read(&name, range.start as u64..range.end as u64).await.unwrap();
        assert!(read == bytes.slice(range.clone()), "{range:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn block_size_replication_and_site_files_are_used() {
    let Some(address) = services::shared_hdfs() else { return };
    let options = HdfsOptions {
        block_size_bytes: Some(2 * MIB as u64),
        replication: Some(1),
        configuration: Some(address.configuration().to_owned()),
        ..HdfsOptions::default()
    };
    let bench = Bench::shared_with("settings", options).unwrap();
    bench.put("x", &content(10)).await.unwrap();
    let status = bench.raw().get_file_info(&bench.place("x")).await.unwrap();
    assert_eq!((status.replication, status.blocksize), (Some(1), Some(2 * MIB as u64)));
    bench.through(&bench.authority, HdfsOptions::default()).put(&path("y"), content(10)).await.unwrap();
    let status = bench.raw().get_file_info(&bench.place("y")).await.unwrap();
    assert_eq!((status.replication, status.blocksize), (Some(2), Some(4 * MIB as u64)), "the cluster's own choice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nameservice_is_known_from_site_files() {
    let Some(address) = services::shared_hdfs() else { return };
    let folder = tempfile::tempdir().unwrap();
    let property = |name: &str, value: &str| format!("<property><name>{name}</name><value>{value}</value></property>");
    let site = [
        property("dfs.nameservices", "lake"),
        property("dfs.ha.namenodes.lake", "gone,there"),
        property("dfs.namenode.rpc-address.lake.gone", "127.0.0.1:1"),
        property("dfs.namenode.rpc-address.lake.there", address.host_and_port()),
        // Would be asked for reads, were it not for us.
        property(
            "dfs.client.failover.proxy.provider.lake",
            "org.apache.hadoop.hdfs.server.namenode.ha.ObserverReadProxyProvider",
        ),
    ]
    .concat();
    std::fs::write(folder.path().join("hdfs-site.xml"), format!("<configuration>{site}</configuration>")).unwrap();
    let options = HdfsOptions { configuration: Some(folder.path().to_owned()), ..HdfsOptions::default() };
    let store = open("lake", &services::fresh_prefix("nameservice"), options);
    assert!(store.describe().starts_with("hdfs://lake/nameservice-"), "{}", store.describe());
    let bytes = content(1000);
    store.put(&path("a/x"), bytes.clone()).await.unwrap();
    expect_whole(&store, "a/x", &bytes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tiny_and_uneven_pieces_make_the_object_that_they_are() {
    let Some(bench) = Bench::shared("pieces") else { return };
    let bytes = content(700_001);
    let mut writer = bench.store.create(&path("x")).await.unwrap();
    let mut at = 0;
    for length in [1, 0, 3, 200_000, 1, 127, 131_072].into_iter().cycle() {
        let end = (at + length).min(bytes.len());
        writer.write(bytes.slice(at..end)).await.unwrap();
        at = end;
        if at == bytes.len() {
            break;
        }
    }
    writer.finish().await.unwrap();
    expect_whole(&bench.store, "x", &bytes).await;
}
