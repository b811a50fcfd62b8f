//! A store in a fresh folder, what really lies there, and objects to put into it.

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdfs_native::{Client, ClientBuilder};
use icecore::Result;
use icecore::env::Env;
use icecore::store::hdfs::HdfsOptions;
use icecore::store::{HdfsStore, Store as _, StorePath};

use super::services;

/// What the background has to do within this time, on a machine that may be busy.
const SOON: Duration = Duration::from_secs(60);

pub const MIB: usize = 1 << 20;

/// A store in a folder of its own.
pub struct Bench {
    pub store: HdfsStore,
    pub authority: String,
    pub prefix: String,
    raw: Client,
}

impl Bench {
    pub fn new(authority: &str, test: &str, options: HdfsOptions) -> Self {
        let prefix = services::fresh_prefix(test);
        let store = open(authority, &prefix, options);
        let raw = ClientBuilder::new().with_url(format!("hdfs://{authority}")).build().unwrap();
        Self { store, authority: authority.to_owned(), prefix, raw }
    }

    /// In the cluster that nobody breaks.
    pub fn shared(test: &str) -> Option<Self> {
        Self::shared_with(test, HdfsOptions::default())
    }

    pub fn shared_with(test: &str, options: HdfsOptions) -> Option<Self> {
        Some(Self::new(services::shared_hdfs()?.host_and_port(), test, options))
    }

    /// The same folder, as another process sees it.
    pub fn other_process(&self) -> HdfsStore {
        open(&self.authority, &self.prefix, HdfsOptions::default())
    }

    /// The same folder through another address, such as a proxy's.
    pub fn through(&self, authority: &str, options: HdfsOptions) -> HdfsStore {
        open(authority, &self.prefix, options)
    }

    /// An ordinary client of HDFS, that knows nothing of icecore.
    pub fn raw(&self) -> &Client {
        &self.raw
    }

    pub fn place(&self, name: &str) -> String {
        format!("/{}/{name}", self.prefix)
    }

    /// Every file and every folder (with a slash) that really lies in the store's folder.
    pub async fn really_there(&self) -> Vec<String> {
        let root = format!("/{}/", self.prefix);
        let all = match self.raw.list_status(&root, true).await {
            Err(hdfs_native::HdfsError::FileNotFound(_)) => return Vec::new(),
            all => all.unwrap(),
        };
        let mut names: Vec<String> = all
            .into_iter()
            .map(|status| format!("{}{}", status.path.trim_start_matches(&root), if status.isdir { "/" } else { "" }))
            .collect();
        names.sort();
        names
    }

    /// Waits until exactly these files and folders lie there.
    pub async fn expect_really_there(&self, names: &[&str]) {
        eventually(&format!("{names:?} lie in the folder and nothing else"), || async {
            self.really_there().await == names
        })
        .await;
    }

    pub async fn put(&self, name: &str, bytes: &Bytes) -> Result<()> {
        self.store.put(&path(name), bytes.clone()).await
    }
}

pub fn open(authority: &str, prefix: &str, options: HdfsOptions) -> HdfsStore {
    HdfsStore::open(authority, prefix, options, Env::system().unwrap()).unwrap()
}

pub fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

/// Bytes that follow from their number, so that a piece in a wrong place is seen.
pub fn content(size: usize) -> Bytes {
    (0..size as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Streams an object in pieces of 1 MiB.
pub async fn stream(store: &HdfsStore, name: &str, bytes: &Bytes) -> Result<()> {
    let mut writer = store.create(&path(name)).await?;
    for at in (0..bytes.len()).step_by(MIB) {
        writer.write(bytes.slice(at..bytes.len().min(at + MIB))).await?;
    }
    writer.finish().await
}

pub async fn read(store: &HdfsStore, name: &str) -> Result<Bytes> {
    let size = store.stat(&path(name)).await?.size_bytes;
    store.read(&path(name), 0..size).await
}

/// The object is there, byte by byte.
pub async fn expect_whole(store: &HdfsStore, name: &str, bytes: &Bytes) {
    let read = read(store, name).await.unwrap();
    assert!(read == *bytes, "{name} has {} bytes, or others than the {} that were written", read.len(), bytes.len());
}

/// Waits for what happens in the background.
pub async fn eventually<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let until = Instant::now() + SOON;
    while !holds().await {
        assert!(Instant::now() < until, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
