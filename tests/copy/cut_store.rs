//! A party that dies at its n-th request: from then on none of its requests does anything.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use icecore::store::{Child, ObjectMeta, ObjectWriter, Store, StorePath, StoreRef};
use icecore::{Error, ErrorKind, Result};

/// Whether the last request, at which the party dies, does what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    Before,
    After,
}

#[derive(Debug)]
struct Life {
    left: AtomicU64,
    death: Death,
}

impl Life {
    /// Does the request's work while there is life; the last answer is lost.
    async fn live<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let dead = || Err(Error::new(ErrorKind::Io, "call the store", "the party is dead"));
        match self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Err(_) => dead(),
            Ok(1) => {
                if self.death == Death::After {
                    let _ = work.await;
                }
                dead()
            }
            Ok(_) => work.await,
        }
    }
}

/// Passes the first `requests - 1` requests on, and then none.
#[derive(Debug)]
pub struct CutStore {
    inner: StoreRef,
    life: Arc<Life>,
}

impl CutStore {
    pub fn new(inner: StoreRef, requests: u64, death: Death) -> Arc<Self> {
        Arc::new(Self { inner, life: Arc::new(Life { left: AtomicU64::new(requests), death }) })
    }

    pub fn is_dead(&self) -> bool {
        self.life.left.load(Ordering::SeqCst) == 0
    }
}

#[async_trait]
impl Store for CutStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        self.life.live(self.inner.put(path, bytes)).await
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        let inner = self.life.live(self.inner.create(path)).await?;
        Ok(Box::new(CutWriter { inner, life: Arc::clone(&self.life) }))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        self.life.live(self.inner.read(path, range)).await
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        self.life.live(self.inner.stat(path)).await
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        let prefix = prefix.cloned();
        let listed = async move {
            let all = async { Ok(self.inner.list(prefix.as_ref()).collect::<Vec<_>>().await) };
            match self.life.live(all).await {
                Ok(all) => all,
                Err(error) => vec![Err(error)],
            }
        };
        stream::once(listed).flat_map(stream::iter).boxed()
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        self.life.live(self.inner.list_children(prefix)).await
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        let mut answers = Vec::with_capacity(paths.len());
        for path in paths {
            let one = async {
                let mut answers = self.inner.delete(std::slice::from_ref(path)).await;
                answers.pop().unwrap()
            };
            answers.push(self.life.live(one).await);
        }
        answers
    }

    async fn remove_unfinished(&self, prefix: Option<&StorePath>, older_than: Duration) -> Result<u64> {
        self.life.live(self.inner.remove_unfinished(prefix, older_than)).await
    }
}

struct CutWriter {
    inner: Box<dyn ObjectWriter>,
    life: Arc<Life>,
}

#[async_trait]
impl ObjectWriter for CutWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.life.live(self.inner.write(bytes)).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let Self { inner, life } = *self;
        life.live(inner.finish()).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { inner, life } = *self;
        life.live(inner.abort()).await
    }
}
