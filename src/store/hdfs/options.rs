//! What an HDFS store can be told.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::store::{OptionSpec, REMOTE_OPTIONS, StoreOptions};

/// The options of an HDFS store, as `--store-option` takes them, besides those of every remote store
/// ([`REMOTE_OPTIONS`]). Each is a field of [`HdfsOptions`].
pub const HDFS_OPTIONS: &[OptionSpec] = &[
    option("configuration", "folder with core-site.xml and hdfs-site.xml; else HADOOP_CONF_DIR"),
    option("user", "on whose behalf; else HADOOP_USER_NAME, or the user of the process"),
    option("replication", "DataNodes that keep each object, 1 to 512; else the cluster's choice"),
    option("min-replication", "with how few an object may be begun while DataNodes fail; one less than replication"),
    option("block-size", "a multiple of 512 bytes; else the cluster's choice"),
    option("use-datanode-hostname", "true: DataNodes are called by their names; else what the site files say"),
    option("rpc-timeout", "how long the NameNode may take for one answer; 60s"),
    option(
        "socket-timeout",
        "how long a DataNode may be silent before another is asked; else what the site files say, or 60s",
    ),
    option("io-timeout", "how long a transfer may stand still, other DataNodes included; 5m"),
    option("write-patience", "how long an object that DataNodes fail to take is begun anew; 15m"),
];

const fn option(name: &'static str, meaning: &'static str) -> OptionSpec {
    OptionSpec { name, meaning }
}

/// The bounds of the time-outs. Whoever waits for longer than an hour is not waiting for an answer any more.
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// The bounds of `write-patience`.
const PATIENCE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 3600);
/// HDFS takes no larger blocks: their lengths would not fit where it keeps them.
const MAX_BLOCK_BYTES: u64 = 1 << 40;

/// Options of an [`super::HdfsStore`]. What is `None` is the cluster's own choice, or that of the site files.
#[derive(Clone, Debug)]
pub struct HdfsOptions {
    /// The folder with `core-site.xml` and `hdfs-site.xml`. `None`: `HADOOP_CONF_DIR`, or else `HADOOP_HOME/etc/hadoop`.
    pub configuration: Option<PathBuf>,
    /// On whose behalf the store is used. `None`: `HADOOP_USER_NAME`, or else the user of this process.
    pub user: Option<String>,
    /// How many DataNodes keep each object.
    pub replication: Option<u32>,
    /// How few DataNodes an object may have for the moment, if others fail while it is written; the NameNode makes the
    /// missing copies then. `None`: one less than its replication, at least one.
    pub min_replication: Option<u32>,
    /// The size of a block, in bytes; a multiple of 512.
    pub block_size_bytes: Option<u64>,
    /// How long the NameNode may take to answer one call.
    pub rpc_timeout: Duration,
    /// How long a DataNode may be silent, or take to be connected to, before another one is asked. `None`: what the
    /// site files say (`dfs.client.socket-timeout`), or else a minute.
    pub socket_timeout: Option<Duration>,
    /// How long a transfer to or from DataNodes may stand still, other DataNodes included.
    pub io_timeout: Duration,
    /// How long an object that DataNodes fail to take is begun anew, under fresh temporary names. Longer than the
    /// NameNode takes to declare a DataNode dead, which is 10.5 minutes unless the cluster is set up otherwise.
    pub write_patience: Duration,
    /// Whether DataNodes are called by their host names rather than by their addresses.
    pub use_datanode_hostname: Option<bool>,
}

impl Default for HdfsOptions {
    /// What the cluster chooses; a minute for the NameNode, five minutes for a transfer that stands still, a quarter
    /// of an hour for an object that DataNodes fail to take.
    fn default() -> Self {
        Self {
            configuration: None,
            user: None,
            replication: None,
            min_replication: None,
            block_size_bytes: None,
            rpc_timeout: Duration::from_secs(60),
            socket_timeout: None,
            io_timeout: Duration::from_secs(5 * 60),
            write_patience: Duration::from_secs(15 * 60),
            use_datanode_hostname: None,
        }
    }
}

/// What `dfs.namenode.fs-limits` and `dfs.replication.max` are at most.
const MAX_REPLICATION: u32 = 512;
/// Blocks hold whole checksummed chunks.
const CHUNK_BYTES: u64 = 512;

impl HdfsOptions {
    /// Reads the options of [`HDFS_OPTIONS`]; those of [`REMOTE_OPTIONS`] are for others, and let pass.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for an option that is not among them, and for a value that cannot be used.
    pub fn from_pairs(pairs: &StoreOptions) -> Result<Self> {
        pairs.check_known("of an HDFS", &[HDFS_OPTIONS, REMOTE_OPTIONS])?;
        let default = Self::default();
        let replication = |key: &str| {
            let number = pairs.number(key, 1..=u64::from(MAX_REPLICATION))?;
            Ok::<_, Error>(number.and_then(|number| u32::try_from(number).ok()))
        };
        Ok(Self {
            configuration: pairs.text("configuration")?.map(PathBuf::from),
            user: pairs.text("user")?.map(str::to_owned),
            replication: replication("replication")?,
            min_replication: replication("min-replication")?,
            block_size_bytes: pairs.size_bytes("block-size", CHUNK_BYTES..=MAX_BLOCK_BYTES)?,
            rpc_timeout: pairs.duration("rpc-timeout", TIMEOUTS)?.unwrap_or(default.rpc_timeout),
            socket_timeout: pairs.duration("socket-timeout", TIMEOUTS)?,
            io_timeout: pairs.duration("io-timeout", TIMEOUTS)?.unwrap_or(default.io_timeout),
            write_patience: pairs.duration("write-patience", PATIENCE)?.unwrap_or(default.write_patience),
            use_datanode_hostname: pairs.flag("use-datanode-hostname")?,
        })
    }

    /// Refuses what cannot work.
    pub(super) fn check(&self) -> Result<()> {
        let invalid =
            |message: &str, advice: &str| Err(Error::invalid("open an HDFS store", message).with_advice(advice));
        for (name, replication) in [("replication", self.replication), ("min-replication", self.min_replication)] {
            if replication.is_some_and(|replication| !(1..=MAX_REPLICATION).contains(&replication)) {
                return invalid(&format!("the option {name} is out of bounds"), "give a number from 1 to 512");
            }
        }
        match self.block_size_bytes {
            Some(size) if size < CHUNK_BYTES || !size.is_multiple_of(CHUNK_BYTES) => {
                return invalid("the option block-size is no multiple of 512 bytes", "give one, such as 128MiB");
            }
            _ => {}
        }
        let limits = [Some(self.rpc_timeout), Some(self.io_timeout), self.socket_timeout];
        if limits.into_iter().flatten().any(|limit| limit.as_millis() == 0) {
            return invalid(
                "a time-out is zero",
                "give rpc-timeout, io-timeout and socket-timeout a duration, such as 60s",
            );
        }
        Ok(())
    }

    /// The settings that go to the client on top of the site files.
    pub(super) fn client_settings(&self, authority: &str) -> Vec<(String, String)> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        // An observer NameNode may answer with a past state, and then a look would miss a greater claim (K4, D3).
        let provider = "org.apache.hadoop.hdfs.server.namenode.ha.ConfiguredFailoverProxyProvider";
        let mut settings = vec![(format!("dfs.client.failover.proxy.provider.{host}"), provider.to_owned())];
        if host != authority {
            // There is nothing to fail over to, and whoever retries wants to know at once that nobody is there.
            settings.push(("dfs.client.failover.max.attempts".to_owned(), "0".to_owned()));
        }
        if let Some(by_name) = self.use_datanode_hostname {
            settings.push(("dfs.client.use.datanode.hostname".to_owned(), by_name.to_string()));
        }
        if let Some(limit) = self.socket_timeout {
            settings.push(("dfs.client.socket-timeout".to_owned(), limit.as_millis().to_string()));
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_cannot_work_is_refused() {
        HdfsOptions::default().check().unwrap();
        for options in [
            HdfsOptions { replication: Some(0), ..HdfsOptions::default() },
            HdfsOptions { replication: Some(513), ..HdfsOptions::default() },
            HdfsOptions { min_replication: Some(0), ..HdfsOptions::default() },
            HdfsOptions { block_size_bytes: Some(1000), ..HdfsOptions::default() },
            HdfsOptions { block_size_bytes: Some(0), ..HdfsOptions::default() },
            HdfsOptions { rpc_timeout: Duration::ZERO, ..HdfsOptions::default() },
        ] {
            assert_eq!(options.check().unwrap_err().kind(), ErrorKind::InvalidInput, "{options:?}");
        }
    }

    #[test]
    fn every_option_is_read_from_pairs_and_unknown_ones_are_refused() {
        let read = |list: &str| {
            let mut pairs = StoreOptions::new();
            pairs.add_list(list).unwrap();
            HdfsOptions::from_pairs(&pairs)
        };
        let named = "configuration=/etc/hadoop,user=engine,replication=3,min-replication=1,block-size=64MiB,\
                     use-datanode-hostname=true,rpc-timeout=1s,socket-timeout=2s,io-timeout=3s,write-patience=4s";
        assert!(HDFS_OPTIONS.iter().all(|option| named.contains(&format!("{}=", option.name))));
        let HdfsOptions {
            configuration,
            user,
            replication,
            min_replication,
            block_size_bytes,
            rpc_timeout,
            socket_timeout,
            io_timeout,
            write_patience,
            use_datanode_hostname,
        } = read(named).unwrap();
        assert_eq!((configuration, user), (Some("/etc/hadoop".into()), Some("engine".to_owned())));
        assert_eq!((replication, min_replication, block_size_bytes), (Some(3), Some(1), Some(64 << 20)));
        assert_eq!((rpc_timeout, socket_timeout), (Duration::from_secs(1), Some(Duration::from_secs(2))));
        assert_eq!((io_timeout, write_patience), (Duration::from_secs(3), Duration::from_secs(4)));
        assert_eq!(use_datanode_hostname, Some(true));

        let default = read("").unwrap();
        assert_eq!((default.replication, default.rpc_timeout), (None, HdfsOptions::default().rpc_timeout));
        for bad in ["replicaton=3", "replication=0", "replication=513", "block-size=2TiB", "rpc-timeout=60", "user="] {
            assert_eq!(read(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }

    #[test]
    fn no_read_goes_to_an_observer_whatever_the_site_files_say() {
        for authority in ["nameservice", "host:8020"] {
            let settings = HdfsOptions::default().client_settings(authority);
            let provider = settings.iter().find(|(key, _)| key.starts_with("dfs.client.failover.proxy.provider."));
            assert!(provider.is_some_and(|(_, value)| value.ends_with(".ConfiguredFailoverProxyProvider")));
        }
    }
}
