//! What DataNodes are asked for before an object appears.

use std::sync::Arc;

use icecore::store::hdfs::HdfsOptions;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::services::breakable_hdfs;
use super::support::{Bench, MIB, content, expect_whole, stream};

/// Out of the header of a packet that is the last of its block, and so has no data: `lastPacketInBlock = true`,
/// `dataLen = 0`.
const LAST_PACKET: &[u8] = &[0x18, 1, 0x25, 0, 0, 0, 0];
/// The same with `syncBlock = true` behind it.
const SYNCED_LAST_PACKET: &[u8] = &[0x18, 1, 0x25, 0, 0, 0, 0, 0x28, 1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_block_is_to_be_synced_before_its_end_is_acknowledged() {
    let Some(cluster) = breakable_hdfs().await else { return };
    let mut recorders = Vec::new();
    for node in 0..3 {
        recorders.push(Recorder::before(&cluster.datanode_alias(node), &cluster.datanode(node)).await);
    }
    let options =
        HdfsOptions { use_datanode_hostname: Some(true), block_size_bytes: Some(MIB as u64), ..HdfsOptions::default() };
    let bench = Bench::new(cluster.address().host_and_port(), "synced", options);
    let bytes = content(3 * MIB - 7);
    bench.put("put", &bytes).await.unwrap();
    stream(&bench.store, "streamed", &bytes).await.unwrap();
    let count = |part: &[u8]| recorders.iter().map(|recorder| recorder.count(part)).sum::<usize>();
    // Two objects of three blocks, and what was begun anew if a DataNode was not back from an earlier test.
    let (ends, synced) = (count(LAST_PACKET), count(SYNCED_LAST_PACKET));
    assert!(ends >= 6 && synced == ends, "{synced} of {ends} blocks");
    expect_whole(&bench.store, "put", &bytes).await;
}

/// Stands before a DataNode, where a client that goes by names finds it, and keeps what is sent to it.
struct Recorder {
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    async fn before(listen: &str, upstream: &str) -> Self {
        let listener = TcpListener::bind(listen).await.unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (kept, upstream) = (Arc::clone(&connections), upstream.to_owned());
        tokio::spawn(async move {
            while let Ok((down, _)) = listener.accept().await {
                let number = {
                    let mut kept = kept.lock();
                    kept.push(Vec::new());
                    kept.len() - 1
                };
                tokio::spawn(relay(down, upstream.clone(), Arc::clone(&kept), number));
            }
        });
        Self { connections }
    }

    fn count(&self, part: &[u8]) -> usize {
        let connections = self.connections.lock();
        connections.iter().flat_map(|sent| sent.windows(part.len())).filter(|window| *window == part).count()
    }
}

async fn relay(down: TcpStream, upstream: String, kept: Arc<Mutex<Vec<Vec<u8>>>>, number: usize) {
    let Ok(up) = TcpStream::connect(&upstream).await else { return };
    let (mut from_client, mut to_client) = down.into_split();
    let (mut from_node, mut to_node) = up.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_node, &mut to_client).await });
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
        kept.lock()[number].extend_from_slice(&buffer[..length]);
        if to_node.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
}
