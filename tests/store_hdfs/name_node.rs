//! A NameNode that is restarted, says nothing, or is cut off.

use std::time::Duration;

use icecore::ErrorKind;
use icecore::store::Store as _;
use icecore::store::hdfs::HdfsOptions;

use super::services;
use super::services::proxy::{Proxy, Rule};
use super::support::{Bench, MIB, content, eventually, expect_whole, path};

/// A limit that a test can wait for.
const SHORT: Duration = Duration::from_secs(2);

fn short() -> HdfsOptions {
    HdfsOptions { rpc_timeout: SHORT, ..HdfsOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_outlive_a_restart_of_the_name_node() {
    let Some(cluster) = services::breakable_hdfs().await else { return };
    let bench = Bench::new(cluster.address().host_and_port(), "restart", HdfsOptions::default());
    let bytes = content(3 * MIB);
    let mut writer = bench.store.create(&path("a/streamed")).await.unwrap();
    writer.write(bytes.slice(..MIB)).await.unwrap();
    cluster.kill_namenode();
    let error = bench.put("a/during", &bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    let error = bench.store.stat(&path("a/during")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    writer.write(bytes.slice(MIB..)).await.unwrap();
    // It comes back while the writer insists.
    let finishing = tokio::spawn(async move { writer.finish().await });
    cluster.start_namenode();
    finishing.await.unwrap().unwrap();
    cluster.wait_live_datanodes(3);
    expect_whole(&bench.store, "a/streamed", &bytes).await;
    bench.put("a/after", &bytes).await.unwrap();
    expect_whole(&bench.store, "a/after", &bytes).await;
    bench.store.remove_unfinished(None, Duration::ZERO).await.unwrap();
    bench.expect_really_there(&["a/", "a/after", "a/streamed"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_node_that_says_nothing_is_waited_for_as_long_as_the_option_says() {
    let Some(address) = services::shared_hdfs() else { return };
    let proxy = Proxy::hadoop_rpc(address.host_and_port());
    let bench = Bench::new(address.host_and_port(), "silent", HdfsOptions::default());
    let impatient = HdfsOptions { write_patience: SHORT, ..short() };
    let store = bench.through(&proxy.address().to_string(), impatient);
    let bytes = content(1000);
    store.put(&path("a/x"), bytes.clone()).await.unwrap();
    proxy.set(Rule::Stall);
    for error in [
        store.stat(&path("a/x")).await.unwrap_err(),
        store.read(&path("a/x"), 0..1).await.unwrap_err(),
        store.list_children(None).await.unwrap_err(),
        store.delete(&[path("a/x")]).await.remove(0).unwrap_err(),
        store.put(&path("a/y"), bytes.clone()).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
        assert!(error.to_string().contains("did not answer within 2s"), "{error}");
    }
    proxy.set(Rule::Pass);
    store.put(&path("a/z"), bytes.clone()).await.unwrap();
    expect_whole(&store, "a/z", &bytes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_silently_forgotten_costs_one_limit_and_is_replaced() {
    let Some(address) = services::shared_hdfs() else { return };
    let bench = Bench::new(address.host_and_port(), "forgotten", HdfsOptions::default());
    let black_hole = BlackHole::before(address.host_and_port()).await;
    let store = bench.through(&black_hole.address, short());
    let bytes = content(1000);
    store.put(&path("a/x"), bytes.clone()).await.unwrap();
    black_hole.forget_open_connections();
    let error = store.stat(&path("a/x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    eventually("the dead connection is no longer used", || async { store.stat(&path("a/x")).await.is_ok() }).await;
    store.put(&path("a/y"), bytes.clone()).await.unwrap();
    expect_whole(&store, "a/y", &bytes).await;
}

/// A firewall that loses its memory: bytes of the connections it has forgotten go nowhere, and nobody is told.
struct BlackHole {
    address: String,
    generation: tokio::sync::watch::Sender<u64>,
}

impl BlackHole {
    async fn before(upstream: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (generation, forgotten) = tokio::sync::watch::channel(0);
        let upstream = upstream.to_owned();
        tokio::spawn(async move {
            while let Ok((mut down, _)) = listener.accept().await {
                let (upstream, mut forgotten) = (upstream.clone(), forgotten.clone());
                forgotten.mark_unchanged();
                tokio::spawn(async move {
                    let mut up = tokio::net::TcpStream::connect(&upstream).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut down, &mut up) => {}
                        // Both ends stay open, and hear nothing from each other.
                        _ = forgotten.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, generation }
    }

    fn forget_open_connections(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }
}
