//! A place in an HDFS, behind a network to its NameNode that fails as told. DataNodes are reached directly.

use icecore::env::Env;
use icecore::store::{StoreAddress, StoreOptions, StoreRef, open};
use tokio::sync::MutexGuard;

use crate::fault_scenarios::{Patience, Remote};
use crate::services::proxy::{Aim, Proxy};
use crate::services::{self, HdfsAddress, HdfsCluster};

pub struct Place {
    /// `None` where the cluster is shared with other tests, and may not be broken.
    cluster: Option<MutexGuard<'static, HdfsCluster>>,
    address: HdfsAddress,
    network: Proxy,
    prefix: String,
}

impl Place {
    /// In the cluster that all tests share.
    pub fn shared(test: &str) -> Option<Self> {
        Some(Self::at(services::shared_hdfs()?.clone(), None, test))
    }

    /// In the cluster that may be broken, which nobody else uses meanwhile.
    pub async fn own(test: &str) -> Option<Self> {
        let cluster = services::breakable_hdfs().await?;
        Some(Self::at(cluster.address().clone(), Some(cluster), test))
    }

    fn at(address: HdfsAddress, cluster: Option<MutexGuard<'static, HdfsCluster>>, test: &str) -> Self {
        let network = Proxy::hadoop_rpc(address.host_and_port());
        Self { cluster, address, network, prefix: services::fresh_prefix(test) }
    }

    pub fn cluster(&self) -> &HdfsCluster {
        self.cluster.as_ref().expect("a cluster of the test's own")
    }

    /// Starts a DataNode again that was killed, and waits until the NameNode knows.
    pub fn bring_back(&self, node: usize) {
        self.cluster().start_datanode(node);
        self.cluster().wait_live_datanodes(services::BREAKABLE_DATANODES);
    }

    /// `/prefix`.
    pub fn folder(&self) -> String {
        format!("/{}", self.prefix)
    }

    /// The place by way of this NameNode, or proxy.
    pub fn by_way_of(&self, authority: &str, options: &StoreOptions) -> StoreRef {
        let address = StoreAddress::parse(&format!("hdfs://{authority}/{}", self.prefix)).unwrap();
        let options = options.clone().with("configuration", self.address.configuration().to_str().unwrap());
        open(&address, &options, Env::system().unwrap()).unwrap()
    }
}

impl Remote for Place {
    fn store(&self, patience: Patience) -> StoreRef {
        let Patience { retry_for, silence, sends_again } = patience;
        let insists_for = if sends_again { "60s" } else { "0s" };
        let options = StoreOptions::new()
            .with("retry-for", retry_for)
            .with("rpc-timeout", silence)
            .with("write-patience", insists_for)
            .with("socket-timeout", "3s");
        self.by_way_of(&self.network.address().to_string(), &options)
    }

    fn witness(&self) -> StoreRef {
        self.by_way_of(self.address.host_and_port(), &StoreOptions::new())
    }

    fn network(&self) -> &Proxy {
        &self.network
    }

    fn write_of(&self, part: &str) -> Aim {
        Aim::at("rename2", part)
    }

    fn delete_of(&self, part: &str) -> Aim {
        Aim::at("delete", part)
    }

    fn has_sent_a_piece(&self) -> bool {
        self.network.count("addBlock", "") > 0
    }

    /// The NameNode.
    fn kill(&self) {
        self.cluster().kill_namenode();
    }

    fn restart(&self) {
        self.cluster().start_namenode();
        self.cluster().wait_live_datanodes(services::BREAKABLE_DATANODES);
    }
}
