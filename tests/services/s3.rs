//! An S3 server (versitygw) with one bucket. What it acknowledged survives kill -9.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::supervised::{Facts, Supervised, Unavailable, fact, path_fact};

/// Where an S3 server listens, and what it lets in.
#[derive(Clone, Debug)]
pub struct S3Address {
    endpoint: String,
    bucket: String,
    region: String,
    access_key: String,
    secret_key: String,
}

impl S3Address {
    /// What `scripts/test` started for all tests.
    pub(super) fn from_environment() -> Option<Self> {
        let get = |name: &str| std::env::var(format!("ICECORE_TEST_S3_{name}")).ok();
        Some(Self {
            endpoint: get("ENDPOINT")?,
            bucket: get("BUCKET")?,
            region: get("REGION")?,
            access_key: get("ACCESS_KEY")?,
            secret_key: get("SECRET_KEY")?,
        })
    }

    fn new(facts: &Facts) -> Self {
        let get = |key| fact(facts, key);
        Self {
            endpoint: get("endpoint"),
            bucket: get("bucket"),
            region: get("region"),
            access_key: get("access_key"),
            secret_key: get("secret_key"),
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The same without the scheme: `127.0.0.1:PORT`.
    pub fn host_and_port(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// A bucket that exists.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    pub fn region(&self) -> &str {
        &self.region
    }

    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// The same server by another endpoint, a proxy's.
    pub fn through(&self, endpoint: &str) -> Self {
        Self { endpoint: endpoint.into(), ..self.clone() }
    }
}

/// A server of one's own; dropping it stops it and removes its data.
pub struct S3Server {
    supervised: Mutex<Supervised>,
    address: S3Address,
    data: PathBuf,
}

impl S3Server {
    pub fn start() -> Option<Self> {
        Self::try_start().inspect_err(Unavailable::skip).ok()
    }

    /// Keeps its data in this folder, of a small file system, say. It must have extended attributes.
    pub fn start_in(folder: &Path) -> Option<Self> {
        let folder = folder.to_str().expect("a folder with a plain name");
        Self::with(&["s3", "--data", folder]).inspect_err(Unavailable::skip).ok()
    }

    pub(super) fn try_start() -> Result<Self, Unavailable> {
        Self::with(&["s3"])
    }

    fn with(arguments: &[&str]) -> Result<Self, Unavailable> {
        let (supervised, facts) = Supervised::start(arguments)?;
        Ok(Self {
            supervised: Mutex::new(supervised),
            address: S3Address::new(&facts),
            data: path_fact(&facts, "data"),
        })
    }

    pub fn address(&self) -> &S3Address {
        &self.address
    }

    /// The folder with the bucket in it.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns when the process is gone.
    pub fn kill9(&self) {
        self.supervised.lock().ask("kill");
    }

    /// Starts it again after [`S3Server::kill9`], at the same address with the same data, and waits until it answers.
    pub fn restart(&self) {
        self.supervised.lock().ask("start");
    }

    /// Stops answering (SIGSTOP), with all connections open, until [`S3Server::resume`].
    pub fn pause(&self) {
        self.supervised.lock().ask("pause");
    }

    pub fn resume(&self) {
        self.supervised.lock().ask("resume");
    }

    /// As dropping it does.
    pub fn stop(self) {}

    /// The process whose input keeps the server alive.
    pub fn guard(&self) -> u32 {
        self.supervised.lock().guard()
    }
}
