//! How a cluster is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::MetadataTopic;

use super::failure::failed;
use crate::error::{Error, ErrorKind, Result};

const REACH: &str = "reach a Kafka cluster";
/// The default of [`KafkaCluster::patience`].
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
pub(super) const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Events that are looked through for the reason of a failure.
const MAX_EVENTS: usize = 64;

/// How a Kafka cluster is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaCluster {
    /// Some of its brokers: `host:port`, separated by commas.
    pub bootstrap_servers: String,
    /// How long anything that is asked of the cluster may take, all tries together.
    pub patience: Duration,
    /// Further settings of librdkafka, by its names (`security.protocol`, say). Those that icecore sets itself are refused.
    /// TLS and SASL are there if your program's own dependency on `rdkafka` has the features `ssl` and `sasl`.
    pub settings: BTreeMap<String, String>,
}

impl KafkaCluster {
    /// The cluster that these brokers (`host:port`, separated by commas) belong to.
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self { bootstrap_servers: bootstrap_servers.into(), patience: DEFAULT_PATIENCE, settings: BTreeMap::new() }
    }

    /// The settings of a client, of which `own` are not the user's.
    pub(super) fn config(&self, own: &[(&str, String)]) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in own.chain([("bootstrap.servers", self.bootstrap_servers.as_str())]) {
            if self.settings.contains_key(name) {
                let message = format!("the setting `{name}` is icecore's own");
                return Err(Error::invalid("configure a Kafka client", message)
                    .with_advice("take it out of `settings`; if it is yours to choose, there is an option for it"));
            }
            config.set(name, value);
        }
        config.extend(self.settings.clone());
        Ok(config)
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline { until: Instant::now() + self.patience, patience: self.patience }
    }
}

/// Settings may be secrets.
impl fmt::Debug for KafkaCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaCluster")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("patience", &self.patience)
            .field("settings", &self.settings.keys())
            .finish()
    }
}

/// When patience ends. By the machine's own clock, as librdkafka's time-outs are: a test cannot simulate either.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    until: Instant,
    pub(super) patience: Duration,
}

impl Deadline {
    pub(super) fn remaining(self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// A pause before the next try. False if there is no time for one.
    pub(super) fn pause(self) -> bool {
        let remaining = self.remaining();
        thread::sleep(remaining.min(TRY_AGAIN_AFTER));
        remaining > TRY_AGAIN_AFTER
    }
}

/// What librdkafka says goes to `tracing`; the last reason why a broker was not reached is remembered for whoever has to
/// explain a time-out.
#[derive(Default)]
pub(super) struct Logging {
    reason: Mutex<Option<String>>,
}

impl ClientContext for Logging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
        match level {
            Emerg | Alert | Critical | Error => tracing::error!(target: "librdkafka", facility, "{message}"),
            Warning => tracing::warn!(target: "librdkafka", facility, "{message}"),
            Notice | Info => tracing::info!(target: "librdkafka", facility, "{message}"),
            Debug => tracing::debug!(target: "librdkafka", facility, "{message}"),
        }
    }

    /// Mostly of a broker that cannot be reached now: librdkafka goes on trying.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
        // That all brokers are down is the sum of the reasons before it.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            *self.reason.lock() = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Logging {}

pub(super) type Reader = BaseConsumer<Logging>;

/// A consumer that reads what is committed, and commits nothing by itself.
pub(super) fn reader(cluster: &KafkaCluster, group: &str, further: &[(&str, String)]) -> Result<Reader> {
    let mut own = vec![
        ("group.id", group.to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("enable.auto.offset.store", "false".to_owned()),
        ("auto.offset.reset", "error".to_owned()),
        ("isolation.level", "read_committed".to_owned()),
        ("allow.auto.create.topics", "false".to_owned()),
    ];
    own.extend_from_slice(further);
    cluster.config(&own)?.create_with_context(Logging::default()).map_err(|error| failed(REACH, error))
}

/// The partitions of a topic, in order. The first thing that is asked of a cluster, so it finds out whether that answers.
pub(super) fn partitions(reader: &Reader, topic: &str, deadline: Deadline) -> Result<Vec<i32>> {
    loop {
        let metadata = match reader.fetch_metadata(Some(topic), deadline.remaining()) {
            Ok(metadata) => metadata,
            Err(error) => return Err(unreachable(reader, error, deadline)),
        };
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.and_then(|found| found.error()).map(Code::from) {
            None => {
                if let Some(partitions) = found.and_then(all_led) {
                    return Ok(partitions);
                }
            }
            Some(Code::LeaderNotAvailable) => {}
            Some(code) => {
                let error = failed("look at a topic", KafkaError::MetadataFetch(code)).with_object(topic);
                return Err(error.with_advice("make the topic first; icecore makes none"));
            }
        }
        if !deadline.pause() {
            let message = format!("some partition had no leader for {:?}", deadline.patience);
            return Err(Error::new(ErrorKind::Temporary, "look at a topic", message).with_object(topic));
        }
    }
}

/// The partitions of a topic, if each has a leader.
fn all_led(topic: &MetadataTopic) -> Option<Vec<i32>> {
    let partitions = topic.partitions();
    let mut ids: Vec<i32> = partitions.iter().map(|partition| partition.id()).collect();
    ids.sort_unstable();
    (!ids.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0)).then_some(ids)
}

fn unreachable(reader: &Reader, error: KafkaError, deadline: Deadline) -> Error {
    // The reason lies in the events that nobody has looked at yet.
    for _ in 0..MAX_EVENTS {
        drop(reader.poll(Duration::ZERO));
    }
    let context: &Arc<Logging> = reader.context();
    let reason = context.reason.lock().clone().unwrap_or_else(|| error.to_string());
    let message = format!("no broker answered within {:?}: {reason}", deadline.patience);
    Error::new(ErrorKind::Unreachable, REACH, message)
        .with_advice("look at the bootstrap servers, and whether the brokers run")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_exactness_rests_on_is_refused() {
        let mut cluster = KafkaCluster::new("127.0.0.1:1");
        cluster.settings.insert("isolation.level".to_owned(), "read_uncommitted".to_owned());
        let error = reader(&cluster, "group", &[]).map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("isolation.level"), "{error}");
    }

    #[test]
    fn what_settings_hold_is_not_shown() {
        let mut cluster = KafkaCluster::new("127.0.0.1:1");
        cluster.settings.insert("sasl.password".to_owned(), "a secret".to_owned());
        let shown = format!("{cluster:?}");
        assert!(shown.contains("sasl.password") && !shown.contains("a secret"), "{shown}");
    }
}
