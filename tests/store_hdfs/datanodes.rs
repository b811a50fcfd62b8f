//! DataNodes that die or fall silent, before, during and after a write and a read. Files have two replicas here.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use icecore::store::hdfs::HdfsOptions;
use icecore::store::{HdfsStore, Store as _};

use super::services::breakable_hdfs;
use super::support::{Bench, MIB, content, eventually, expect_whole, path, read, stream};

/// The blocks of the objects here are as long as they are, as in most clusters: for each block the NameNode offers
/// DataNodes anew.
fn one_block() -> HdfsOptions {
    HdfsOptions { block_size_bytes: Some(128 << 20), ..HdfsOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_objects_avoid_a_datanode_that_just_died() {
    let Some(cluster) = breakable_hdfs().await else { return };
    let bench = Bench::new(cluster.address().host_and_port(), "dead", one_block());
    let bytes = content(MIB);
    bench.put("before", &bytes).await.unwrap();
    cluster.kill_datanode(0);
    // It is offered for new files until it is declared dead, 14 s from now.
    for round in 0..8 {
        bench.put(&format!("put-{round}"), &bytes).await.unwrap();
        stream(&bench.store, &format!("streamed-{round}"), &content(20 * MIB)).await.unwrap();
    }
    for round in 0..8 {
        expect_whole(&bench.store, &format!("put-{round}"), &bytes).await;
        expect_whole(&bench.store, &format!("streamed-{round}"), &content(20 * MIB)).await;
    }
    expect_whole(&bench.store, "before", &bytes).await;
    eventually("what failed was cleaned up", || async {
        bench.really_there().await.iter().all(|name| !name.contains(".tmp-"))
    })
    .await;
    cluster.start_datanode(0);
    cluster.wait_live_datanodes(3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_can_be_asked_for_while_one_of_three_datanodes_is_dead() {
    let Some(cluster) = breakable_hdfs().await else { return };
    let options = HdfsOptions { replication: Some(3), ..HdfsOptions::default() };
    let bench = Bench::new(cluster.address().host_and_port(), "small-cluster", options);
    cluster.kill_datanode(1);
    let bytes = content(MIB);
    bench.put("x", &bytes).await.unwrap();
    let status = bench.raw().get_file_info(&bench.place("x")).await.unwrap();
    assert_eq!(status.replication, Some(3), "the replica that cannot be made now is not asked for");
    expect_whole(&bench.store, "x", &bytes).await;
    cluster.start_datanode(1);
    cluster.wait_live_datanodes(3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_outlives_a_datanode_that_dies_under_it() {
    let Some(cluster) = breakable_hdfs().await else { return };
    let bench = Bench::new(cluster.address().host_and_port(), "during", one_block());
    let bytes = content(64 * MIB);
    for node in 0..3 {
        let name = format!("written-{node}");
        let mut writer = bench.store.create(&path(&name)).await.unwrap();
        writer.write(bytes.slice(..24 * MIB)).await.unwrap();
        cluster.kill_datanode(node);
        let rest = match writer.write(bytes.slice(24 * MIB..)).await {
            Ok(()) => writer.finish().await,
            failed => failed,
        };
        match rest {
            Ok(()) => expect_whole(&bench.store, &name, &bytes).await,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                assert!(bench.store.stat(&path(&name)).await.is_err(), "{name} is there after {error}");
                // As the uploader does: whole, under a fresh name.
                stream(&bench.store, &format!("{name}-again"), &bytes).await.unwrap();
                expect_whole(&bench.store, &format!("{name}-again"), &bytes).await;
            }
        }
        cluster.start_datanode(node);
        cluster.wait_live_datanodes(3);
    }
}

/// Each of its 16 blocks may be offered the dead one, which cannot be mended amid an object: it is written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_of_many_blocks_is_written_beside_a_dead_datanode_if_it_is_repeated() {
    let Some(cluster) = breakable_hdfs().await else { return };
    let bench = Bench::new(cluster.address().host_and_port(), "blocks", HdfsOptions::default());
    let (bytes, attempt) = (content(64 * MIB), AtomicU32::new(0));
    let name = || format!("attempt-{}", attempt.load(Ordering::Relaxed));
    cluster.kill_datanode(0);
    eventually("it is written", || async {
        attempt.fetch_add(1, Ordering::Relaxed);
        match stream(&bench.store, &name(), &bytes).await {
            Ok(()) => true,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                false
            }
        }
    })
    .await;
    expect_whole(&bench.store, &name(), &bytes).await;
    eventually("what failed was cleaned up", || async { bench.really_there().await == [name()] }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_from_another_replica() {
    let Some(cluster) = breakable_hdfs().await else { return };
    let impatient = HdfsOptions { socket_timeout: Some(Duration::from_secs(3)), ..HdfsOptions::default() };
    let bench = Bench::new(cluster.address().host_and_port(), "reads", impatient);
    let bytes = content(8 * MIB);
    for name in ["a", "b", "c", "d"] {
        bench.put(name, &bytes).await.unwrap();
    }
    for node in 0..3 {
        cluster.pause_datanode(node);
        for name in ["a", "b", "c", "d"] {
            expect_read(&bench.store, name, &bytes).await;
        }
        cluster.resume_datanode(node);
        cluster.kill_datanode(node);
        for name in ["a", "b", "c", "d"] {
            expect_read(&bench.store, name, &bytes).await;
        }
        cluster.start_datanode(node);
        cluster.wait_live_datanodes(3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_datanode_does_not_hold_up_a_writer_for_good() {
    let Some(cluster) = breakable_hdfs().await else { return };
    let impatient = HdfsOptions {
        socket_timeout: Some(Duration::from_secs(3)),
        io_timeout: Duration::from_secs(8),
        ..HdfsOptions::default()
    };
    let bench = Bench::new(cluster.address().host_and_port(), "silent", impatient);
    let bytes = content(2 * MIB);
    cluster.pause_datanode(2);
    for round in 0..4 {
        bench.put(&format!("{round}"), &bytes).await.unwrap();
    }
    cluster.resume_datanode(2);
    cluster.wait_live_datanodes(3);
    for round in 0..4 {
        expect_whole(&bench.store, &format!("{round}"), &bytes).await;
    }
}

/// The object can be read, if need be when the DataNode that was started before is back: until then both of its
/// replicas may be away, which is an error that passes.
async fn expect_read(store: &HdfsStore, name: &str, bytes: &Bytes) {
    eventually(&format!("{name} can be read"), || async {
        match read(store, name).await {
            Ok(read) => {
                assert!(read == *bytes, "{name} has other bytes");
                true
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                false
            }
        }
    })
    .await;
}
