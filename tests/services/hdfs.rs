//! HDFS: a NameNode and some DataNodes, each a process that can be killed by itself.
//!
//! Files have two replicas. A DataNode that says nothing is avoided after 3 s and declared dead after 14 s.

use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;

use super::supervised::{Facts, Supervised, Unavailable, fact, path_fact};

/// Time until the cluster must be as asked for: a dead DataNode is noticed in 14 s, a started one is a JVM's
/// start away, on a machine that may be busy.
const LIVE_WITHIN: Duration = Duration::from_secs(150);

/// Where a NameNode listens.
#[derive(Clone, Debug)]
pub struct HdfsAddress {
    url: String,
    configuration: PathBuf,
}

impl HdfsAddress {
    /// What `scripts/test` started for all tests.
    pub(super) fn from_environment() -> Option<Self> {
        let url = std::env::var("ICECORE_TEST_HDFS").ok()?;
        let configuration = std::env::var_os("ICECORE_TEST_HDFS_CONFIGURATION")?.into();
        Some(Self { url, configuration })
    }

    fn new(facts: &Facts) -> Self {
        Self { url: fact(facts, "url"), configuration: path_fact(facts, "configuration") }
    }

    /// `hdfs://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same without the scheme: `127.0.0.1:PORT`.
    pub fn host_and_port(&self) -> &str {
        self.url.trim_start_matches("hdfs://")
    }

    /// A folder with `core-site.xml` and `hdfs-site.xml`, as HADOOP_CONF_DIR names one.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }
}

/// A cluster of one's own; dropping it stops it and removes its data.
pub struct HdfsCluster {
    supervised: Mutex<Supervised>,
    address: HdfsAddress,
    datanodes: Vec<u16>,
}

impl HdfsCluster {
    /// Takes 10 to 60 s, and 200 MB of memory for each of the `datanodes` (1 to 9) and the NameNode.
    pub fn start(datanodes: usize) -> Option<Self> {
        Self::try_start(datanodes).inspect_err(Unavailable::skip).ok()
    }

    pub(super) fn try_start(datanodes: usize) -> Result<Self, Unavailable> {
        let (supervised, facts) = Supervised::start(&["hdfs", &datanodes.to_string()])?;
        let datanodes = (0..datanodes).map(|node| fact(&facts, &format!("dn{node}")).parse().unwrap()).collect();
        Ok(Self { supervised: Mutex::new(supervised), address: HdfsAddress::new(&facts), datanodes })
    }

    pub fn address(&self) -> &HdfsAddress {
        &self.address
    }

    /// `hdfs://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        self.address.url()
    }

    pub fn configuration(&self) -> &Path {
        self.address.configuration()
    }

    /// Where a DataNode takes and gives blocks: `127.0.0.1:PORT`.
    ///
    /// It is known to the NameNode by the name 127.0.0.2, too, where nothing listens: a client with
    /// `dfs.client.use.datanode.hostname=true` goes to [`HdfsCluster::datanode_alias`], so a proxy there is in its way.
    pub fn datanode(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.datanodes[node])
    }

    pub fn datanode_alias(&self, node: usize) -> String {
        format!("127.0.0.2:{}", self.datanodes[node])
    }

    fn ask(&self, command: &str) {
        self.supervised.lock().ask(command);
    }

    /// kill -9; returns when the process is gone. The NameNode notices later: [`HdfsCluster::wait_live_datanodes`].
    pub fn kill_datanode(&self, node: usize) {
        self.ask(&format!("kill dn{node}"));
    }

    /// Starts it again at the same addresses with its blocks; does not wait until it is in service:
    /// [`HdfsCluster::wait_live_datanodes`].
    pub fn start_datanode(&self, node: usize) {
        self.ask(&format!("start dn{node}"));
    }

    /// Stops answering (SIGSTOP), with all connections open, until [`HdfsCluster::resume_datanode`].
    pub fn pause_datanode(&self, node: usize) {
        self.ask(&format!("pause dn{node}"));
    }

    pub fn resume_datanode(&self, node: usize) {
        self.ask(&format!("resume dn{node}"));
    }

    pub fn kill_namenode(&self) {
        self.ask("kill nn");
    }

    /// Starts it after [`HdfsCluster::kill_namenode`], at the same address with its names; does not wait until it is
    /// in service: [`HdfsCluster::wait_live_datanodes`].
    pub fn start_namenode(&self) {
        self.ask("start nn");
    }

    /// kill -9 and start; does not wait until it is in service.
    pub fn restart_namenode(&self) {
        self.kill_namenode();
        self.start_namenode();
    }

    /// Waits until the NameNode is out of its safe mode and counts exactly this many DataNodes alive, and until each
    /// that was started has told it of its blocks: for 14 s after a kill the NameNode's count says nothing.
    ///
    /// # Panics
    /// If that takes too long, with the end of the NameNode's log.
    pub fn wait_live_datanodes(&self, count: usize) {
        self.ask(&format!("ready {count} {}", LIVE_WITHIN.as_secs()));
    }

    /// Resumes what is paused, starts what was killed, and waits until all nodes are in service.
    ///
    /// # Panics
    /// If that takes too long, with the end of the NameNode's log.
    pub fn make_whole(&self) {
        self.ask(&format!("whole {}", LIVE_WITHIN.as_secs()));
    }

    /// What may lie below this folder, all replicas counted.
    pub fn set_space_quota(&self, folder: &str, bytes: u64) {
        self.admin(&["-setSpaceQuota", &bytes.to_string(), folder]);
    }

    pub fn clear_space_quota(&self, folder: &str) {
        self.admin(&["-clrSpaceQuota", folder]);
    }

    /// `hdfs dfsadmin <arguments>`: about 3 s.
    ///
    /// # Panics
    /// If it fails.
    pub fn admin(&self, arguments: &[&str]) {
        self.ask(&format!("admin {}", arguments.join(" ")));
    }

    /// `hdfs dfs <arguments>`, Hadoop's own client: about 3 s.
    ///
    /// # Panics
    /// If it fails.
    pub fn shell(&self, arguments: &[&str]) {
        self.ask(&format!("shell {}", arguments.join(" ")));
    }

    /// The same for what may fail: its last output is the error.
    pub fn try_shell(&self, arguments: &[&str]) -> Result<(), String> {
        self.supervised.lock().try_ask(&format!("shell {}", arguments.join(" "))).map(drop)
    }

    /// As dropping it does.
    pub fn stop(self) {}

    /// The process whose input keeps the servers alive.
    pub fn guard(&self) -> u32 {
        self.supervised.lock().guard()
    }
}
