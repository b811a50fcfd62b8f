//! The one client of the crate `hdfs-native`, and a bound on how long it is waited for.
//!
//! `hdfs-native` waits for the NameNode as long as the connection stands, and a connection that a firewall has
//! forgotten stands for a quarter of an hour. So every call has a limit, and after the first that passed it, later calls
//! go through a new client, which connects anew. Its first connection is waited for in the background without a limit
//! of ours: with two NameNodes, of which the first has lost its power, only a connection attempt that ran its
//! full course (two minutes) makes the client try the second.
//!
//! Files that are being written stay with the client that began them: it is that client which renews their leases.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::future::{Either, select};
use hdfs_native::{Client, ClientBuilder, HdfsError};
use parking_lot::Mutex;

use super::errors::Failure;
use super::options::HdfsOptions;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// A connection to a NameNode, or to the active one of a nameservice. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct NameNode {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    env: Env,
    settings: Settings,
    rpc_timeout: Duration,
    current: Mutex<Current>,
}

/// What a client is built from.
#[derive(Clone, Debug)]
struct Settings {
    url: String,
    configuration: Option<PathBuf>,
    user: Option<String>,
    pairs: Vec<(String, String)>,
    runtime: tokio::runtime::Handle,
}

#[derive(Debug)]
struct Current {
    client: Client,
    generation: u64,
    /// A new client is on its way to its first answer.
    is_connecting: bool,
}

impl NameNode {
    /// Reads the configuration. Nothing is sent yet.
    pub(super) fn new(authority: &str, options: &HdfsOptions, env: Env) -> Result<Self> {
        // `hdfs-native` would start threads of its own otherwise.
        let runtime = tokio::runtime::Handle::try_current().map_err(|error| {
            Error::invalid("open an HDFS store", error.to_string())
                .with_advice("call this inside `tokio::runtime::Runtime::block_on` or an async main")
        })?;
        let settings = Settings {
            url: format!("hdfs://{authority}"),
            configuration: options.configuration.clone(),
            user: options.user.clone(),
            pairs: options.client_settings(authority),
            runtime,
        };
        let current = Current { client: settings.client()?, generation: 0, is_connecting: false };
        let rpc_timeout = options.rpc_timeout;
        Ok(Self { shared: Arc::new(Shared { env, settings, rpc_timeout, current: Mutex::new(current) }) })
    }

    /// One exchange with the NameNode. Not for what waits for DataNodes.
    pub(super) async fn call<T, F>(&self, exchange: impl FnOnce(Client) -> F) -> std::result::Result<T, Failure>
    where
        F: Future<Output = std::result::Result<T, HdfsError>>,
    {
        let (client, generation) = {
            let current = self.shared.current.lock();
            (current.client.clone(), current.generation)
        };
        self.bounded(generation, exchange(client)).await
    }

    /// The client and its number, for exchanges that go on: each is [`Self::bounded`] by its own.
    pub(super) fn client(&self) -> (Client, u64) {
        let current = self.shared.current.lock();
        (current.client.clone(), current.generation)
    }

    /// Waits for an exchange of the client with this number.
    pub(super) async fn bounded<T>(
        &self,
        generation: u64,
        exchange: impl Future<Output = std::result::Result<T, HdfsError>>,
    ) -> std::result::Result<T, Failure> {
        match within(&self.shared.env, self.shared.rpc_timeout, exchange).await {
            Some(answer) => answer.map_err(Failure::Answer),
            None => {
                self.connect_anew(generation);
                Err(Failure::Silence(self.shared.rpc_timeout))
            }
        }
    }

    /// Later calls use a new client, unless that was seen to already.
    fn connect_anew(&self, generation: u64) {
        {
            let mut current = self.shared.current.lock();
            if current.generation != generation || current.is_connecting {
                return;
            }
            current.is_connecting = true;
        }
        let shared = Arc::clone(&self.shared);
        self.shared.env.runtime.spawn(Box::pin(async move {
            let settings = shared.settings.clone();
            // Reads the site files and may look up names.
            let built = shared.env.blocking(move || settings.client()).await.and_then(|client| client);
            match built {
                Ok(client) => {
                    {
                        let mut current = shared.current.lock();
                        current.client = client.clone();
                        current.generation += 1;
                    }
                    let answer = client.get_file_info("/").await;
                    tracing::debug!(answered = answer.is_ok(), "a new connection to the NameNode");
                }
                Err(error) => tracing::warn!(%error, "no new connection to a silent NameNode; the old one stays"),
            }
            shared.current.lock().is_connecting = false;
        }));
    }
}

impl Settings {
    fn client(&self) -> Result<Client> {
        let mut builder = ClientBuilder::new()
            .with_url(self.url.as_str())
            .with_config(self.pairs.clone())
            .with_io_runtime(self.runtime.clone());
        if let Some(folder) = &self.configuration {
            builder = builder.with_config_dir(folder.to_string_lossy());
        }
        if let Some(user) = &self.user {
            builder = builder.with_user(user.as_str());
        }
        builder.build().map_err(|error| {
            let advice = "give host and port (hdfs://host:8020/folder), or a nameservice and the folder of its \
                          core-site.xml and hdfs-site.xml (HADOOP_CONF_DIR)";
            Error::new(ErrorKind::InvalidInput, "open an HDFS store", error.to_string())
                .with_object(&self.url)
                .with_advice(advice)
                .with_source(error)
        })
    }
}

/// Waits for `work`, but no longer than `limit`.
pub(super) async fn within<T>(env: &Env, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    // Most of what a listing or a stream gives lies ready: no clock is set for that.
    if let Poll::Ready(done) = futures::poll!(work.as_mut()) {
        return Some(done);
    }
    match select(work, env.runtime.sleep(limit)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
