//! A store that counts what it is asked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use parking_lot::Mutex;

use super::rule::Step;
use crate::error::Result;
use crate::store::{Access, Child, ObjectMeta, ObjectWriter, ReadAhead, Store, StorePath, StoreRef};

/// Bytes that went through a [`CountingStore`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes handed to `put` and `write`, whether or not the object was finished.
    pub written_bytes: u64,
    /// Bytes that `read` answered.
    pub read_bytes: u64,
    /// Objects begun with `put` or `create`.
    pub objects_begun: u64,
    /// Calls of `read`.
    pub reads: u64,
}

/// Wraps a store and counts requests by kind, and bytes by object. Keeps one entry per object.
#[derive(Debug)]
pub struct CountingStore {
    inner: StoreRef,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: BTreeMap<Step, u64>,
    traffic: BTreeMap<StorePath, Traffic>,
}

impl Counts {
    fn request(&mut self, step: Step) {
        *self.requests.entry(step).or_default() += 1;
    }

    fn traffic(&mut self, path: &StorePath) -> &mut Traffic {
        self.traffic.entry(path.clone()).or_default()
    }
}

impl CountingStore {
    /// Counts what goes to `inner` from now on.
    pub fn new(inner: StoreRef) -> Arc<Self> {
        Arc::new(Self { inner, counts: Arc::default() })
    }

    /// How often a kind of call was made, failed calls included. A batch of deletes counts once per
    /// path, a listing once ([`Step::List`]) and once per object ([`Step::ListItem`]).
    pub fn requests(&self, step: Step) -> u64 {
        self.counts.lock().requests.get(&step).copied().unwrap_or(0)
    }

    /// All calls but probes, writes of a writer and objects of a listing: about what an object store bills.
    pub fn total_requests(&self) -> u64 {
        let counts = self.counts.lock();
        let free = [Step::Probe, Step::Write, Step::ListItem];
        counts.requests.iter().filter(|(step, _)| !free.contains(step)).map(|(_, count)| count).sum()
    }

    /// The bytes of all objects whose path begins with `prefix` (any text; `""` for all).
    pub fn traffic(&self, prefix: &str) -> Traffic {
        let mut sum = Traffic::default();
        for (_, one) in self.counts.lock().traffic.iter().filter(|(path, _)| path.as_str().starts_with(prefix)) {
            sum.written_bytes += one.written_bytes;
            sum.read_bytes += one.read_bytes;
            sum.objects_begun += one.objects_begun;
            sum.reads += one.reads;
        }
        sum
    }

    /// The objects that `read` was asked for, in order.
    pub fn objects_read(&self) -> Vec<StorePath> {
        self.counts.lock().traffic.iter().filter(|(_, one)| one.reads > 0).map(|(path, _)| path.clone()).collect()
    }

    /// Begins again at zero.
    pub fn reset(&self) {
        *self.counts.lock() = Counts::default();
    }

    fn count(&self, step: Step) {
        self.counts.lock().request(step);
    }
}

#[async_trait]
impl Store for CountingStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn read_ahead(&self) -> ReadAhead {
        self.inner.read_ahead()
    }

    async fn probe(&self, access: Access) -> Result<()> {
        self.count(Step::Probe);
        self.inner.probe(access).await
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        {
            let mut counts = self.counts.lock();
            counts.request(Step::Put);
            let traffic = counts.traffic(path);
            traffic.objects_begun += 1;
            traffic.written_bytes += bytes.len() as u64;
        }
        self.inner.put(path, bytes).await
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        {
            let mut counts = self.counts.lock();
            counts.request(Step::Create);
            counts.traffic(path).objects_begun += 1;
        }
        let inner = self.inner.create(path).await?;
        Ok(Box::new(CountingWriter { inner, path: path.clone(), counts: Arc::clone(&self.counts) }))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        {
            let mut counts = self.counts.lock();
            counts.request(Step::Read);
            counts.traffic(path).reads += 1;
        }
        let bytes = self.inner.read(path, range).await?;
        self.counts.lock().traffic(path).read_bytes += bytes.len() as u64;
        Ok(bytes)
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        self.count(Step::Stat);
        self.inner.stat(path).await
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.count(Step::List);
        self.inner.list(prefix).inspect(|_| self.count(Step::ListItem)).boxed()
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        self.count(Step::ListChildren);
        self.inner.list_children(prefix).await
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        for _ in paths {
            self.count(Step::Delete);
        }
        self.inner.delete(paths).await
    }

    async fn remove_unfinished(&self, prefix: Option<&StorePath>, older_than: Duration) -> Result<u64> {
        self.count(Step::RemoveUnfinished);
        self.inner.remove_unfinished(prefix, older_than).await
    }
}

struct CountingWriter {
    inner: Box<dyn ObjectWriter>,
    path: StorePath,
    counts: Arc<Mutex<Counts>>,
}

#[async_trait]
impl ObjectWriter for CountingWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        {
            let mut counts = self.counts.lock();
            counts.request(Step::Write);
            counts.traffic(&self.path).written_bytes += bytes.len() as u64;
        }
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.counts.lock().request(Step::Finish);
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.counts.lock().request(Step::Abort);
        self.inner.abort().await
    }
}
