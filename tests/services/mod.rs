//! Real servers for tests: an S3 server, HDFS clusters and Kafka on free loopback ports of this machine.
//!
//! The servers are started by `scripts/services`, which holds all that is known about them; here is what
//! drives them. Two ways to have one:
//!
//! - [`shared_s3`], [`shared_hdfs`], [`shared_kafka`]: one server for the whole run (`scripts/test` starts it and gives its
//!   address in the environment), or else one for this test binary. Use a [`fresh_prefix`], never kill it.
//! - [`S3Server`], [`HdfsCluster`], [`kafka::KafkaBroker`]: your own, to be killed, paused and filled;
//!   [`breakable_hdfs`]: one such cluster for all tests of a binary in turn.
//!
//! Where a server cannot be had, all of them answer `None` after saying so loudly; with `CI` set they panic.
//! Everything ends with this process, however that ends: the servers hang on a pipe that it holds.
//! All calls but [`breakable_hdfs`] block, and need no runtime.
#![allow(dead_code)] // each test binary uses some of it

mod hdfs;
pub mod kafka;
pub mod proxy;
mod s3;
mod supervised;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use kafka::KafkaBroker;
use parking_lot::Mutex;
use supervised::Unavailable;

pub use hdfs::{HdfsAddress, HdfsCluster};
pub use s3::{S3Address, S3Server};

/// DataNodes of a cluster that only this test binary shares: as many as replicas are kept.
const SHARED_DATANODES: usize = 2;

/// DataNodes of [`breakable_hdfs`]; files have two replicas.
pub const BREAKABLE_DATANODES: usize = 3;

/// The S3 server that all tests of this run share.
pub fn shared_s3() -> Option<&'static S3Address> {
    static SHARED: OnceLock<Result<S3Address, Unavailable>> = OnceLock::new();
    static OWN: Mutex<Option<S3Server>> = Mutex::new(None); // never dropped: it ends with the process
    let start = || {
        let server = S3Server::try_start()?;
        let address = server.address().clone();
        *OWN.lock() = Some(server);
        Ok(address)
    };
    SHARED
        .get_or_init(|| S3Address::from_environment().map_or_else(start, Ok))
        .as_ref()
        .inspect_err(|why| why.skip())
        .ok()
}

/// The HDFS cluster that all tests of this run share; files have two replicas.
pub fn shared_hdfs() -> Option<&'static HdfsAddress> {
    static SHARED: OnceLock<Result<HdfsAddress, Unavailable>> = OnceLock::new();
    static OWN: Mutex<Option<HdfsCluster>> = Mutex::new(None);
    let start = || {
        let cluster = HdfsCluster::try_start(SHARED_DATANODES)?;
        let address = cluster.address().clone();
        *OWN.lock() = Some(cluster);
        Ok(address)
    };
    SHARED
        .get_or_init(|| HdfsAddress::from_environment().map_or_else(start, Ok))
        .as_ref()
        .inspect_err(|why| why.skip())
        .ok()
}

/// The cluster of [`BREAKABLE_DATANODES`] that the tests of this binary may break, one after the other: each gets it
/// whole, whatever the one before left.
pub async fn breakable_hdfs() -> Option<tokio::sync::MutexGuard<'static, HdfsCluster>> {
    static OWN: OnceLock<Option<tokio::sync::Mutex<HdfsCluster>>> = OnceLock::new();
    let start = || HdfsCluster::start(BREAKABLE_DATANODES).map(tokio::sync::Mutex::new);
    let cluster = OWN.get_or_init(start).as_ref()?.lock().await;
    cluster.make_whole();
    Some(cluster)
}

/// What clients of the Kafka broker that all tests of this run share call `bootstrap.servers`.
pub fn shared_kafka() -> Option<&'static str> {
    static SHARED: OnceLock<Result<String, Unavailable>> = OnceLock::new();
    static OWN: Mutex<Option<KafkaBroker>> = Mutex::new(None);
    let start = || {
        let broker = KafkaBroker::try_start()?;
        let bootstrap = broker.bootstrap().to_owned();
        *OWN.lock() = Some(broker);
        Ok(bootstrap)
    };
    SHARED
        .get_or_init(|| KafkaBroker::shared_from_environment().map_or_else(start, Ok))
        .as_ref()
        .inspect_err(|why| why.skip())
        .ok()
        .map(String::as_str)
}

/// `<test>-<something new>`, a folder or prefix that no other test, process or earlier run uses.
pub fn fresh_prefix(test: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("{test}-{}-{since:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
