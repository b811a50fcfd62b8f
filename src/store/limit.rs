//! So many bytes a second, and no more.
//!
//! Each direction has a schedule: the moment from which the line is free. A piece that wants to go takes its place
//! behind the pieces that came before, waits for its turn, and moves the moment on by what it takes. Pieces are
//! served in the order in which they come, and a transfer asks for its next piece when it has moved the last, so
//! transfers that run side by side get turns in turn. Nothing is saved up while the line is idle: after a pause one
//! piece goes at once, and the next one waits.
//!
//! Pieces have [`PIECE_BYTES`] at most, with one exception: an object that is written with `put` goes in one request,
//! and so in one piece ([`crate::transfer::READ_ONCE_BYTES`] at most, where icecore writes files).

use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use parking_lot::Mutex;

use super::{Access, Child, ObjectMeta, ObjectWriter, ReadAhead, Store, StorePath, StoreRef, UnnamedWriter};
use crate::env::Env;
use crate::error::Result;

/// What goes at a time. See the module's text.
pub const PIECE_BYTES: usize = 1 << 20;

/// How many bytes a second may go each way; `None`: as many as can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// To stores, in bytes a second.
    pub upload_bytes_per_s: Option<NonZeroU64>,
    /// From stores, in bytes a second.
    pub download_bytes_per_s: Option<NonZeroU64>,
}

impl RateLimits {
    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits in use. Clones share them, and so do all the stores that were given one.
#[derive(Clone, Debug)]
pub struct RateLimiter(Arc<Limiter>);

#[derive(Debug)]
struct Limiter {
    env: Env,
    upload: Option<Line>,
    download: Option<Line>,
}

impl RateLimiter {
    /// Limits that begin now.
    pub fn new(limits: RateLimits, env: Env) -> Self {
        let line = |bytes_per_s: NonZeroU64| Line { bytes_per_s, free_at: Mutex::default() };
        let (upload, download) = (limits.upload_bytes_per_s.map(line), limits.download_bytes_per_s.map(line));
        Self(Arc::new(Limiter { env, upload, download }))
    }

    /// `store`, within these limits; itself if there are none.
    pub fn limit(&self, store: StoreRef) -> StoreRef {
        if self.0.upload.is_none() && self.0.download.is_none() {
            return store;
        }
        Arc::new(RateLimitedStore::new(store, self.clone()))
    }

    async fn upload(&self, bytes: usize) {
        self.wait(self.0.upload.as_ref(), bytes as u64).await;
    }

    async fn download(&self, bytes: u64) {
        self.wait(self.0.download.as_ref(), bytes).await;
    }

    async fn wait(&self, line: Option<&Line>, bytes: u64) {
        let Some(line) = line else { return };
        let wait = line.take_turn(self.0.env.clock.monotonic(), bytes);
        if !wait.is_zero() {
            self.0.env.runtime.sleep(wait).await;
        }
    }
}

/// One direction.
#[derive(Debug)]
struct Line {
    bytes_per_s: NonZeroU64,
    free_at: Mutex<Duration>,
}

impl Line {
    /// Gives out the next turn, for `bytes`; how long to wait for it. Who gives up waiting leaves a gap, no more.
    fn take_turn(&self, now: Duration, bytes: u64) -> Duration {
        let mut free_at = self.free_at.lock();
        let begin = now.max(*free_at);
        *free_at = begin.saturating_add(self.takes(bytes));
        begin - now
    }

    fn takes(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_s.get());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Wraps a store and slows what is read from it and written to it.
///
/// Put it inside a [`super::RetryingStore`], so that what is sent twice counts twice.
#[derive(Debug)]
pub struct RateLimitedStore {
    inner: StoreRef,
    limiter: RateLimiter,
}

impl RateLimitedStore {
    /// Slows `inner` by `limiter`.
    pub fn new(inner: StoreRef, limiter: RateLimiter) -> Self {
        Self { inner, limiter }
    }
}

#[async_trait]
impl Store for RateLimitedStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    /// What is limited needs no large requests, and reads whole pieces.
    fn read_ahead(&self) -> ReadAhead {
        let inner = self.inner.read_ahead();
        match self.limiter.0.download {
            Some(_) => ReadAhead { request_bytes: inner.request_bytes.min(PIECE_BYTES as u64), ..inner },
            None => inner,
        }
    }

    async fn probe(&self, access: Access) -> Result<()> {
        self.inner.probe(access).await
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        self.limiter.upload(bytes.len()).await;
        self.inner.put(path, bytes).await
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        let inner = self.inner.create(path).await?;
        Ok(Box::new(LimitedWriter { inner, limiter: self.limiter.clone() }))
    }

    async fn create_unnamed(&self, folder: &StorePath) -> Result<Option<Box<dyn UnnamedWriter>>> {
        let Some(inner) = self.inner.create_unnamed(folder).await? else { return Ok(None) };
        Ok(Some(Box::new(LimitedWriter { inner, limiter: self.limiter.clone() })))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        const PIECE: u64 = PIECE_BYTES as u64;
        let length = range.end.saturating_sub(range.start);
        if self.limiter.0.download.is_none() || length <= PIECE {
            self.limiter.download(length).await;
            return self.inner.read(path, range).await;
        }
        let mut bytes = BytesMut::new();
        let mut start = range.start;
        while start < range.end {
            let piece = start..range.end.min(start.saturating_add(PIECE));
            start = piece.end;
            self.limiter.download(piece.end - piece.start).await;
            // Grows with what is really there: a length is not believed before (I8).
            bytes.extend_from_slice(&self.inner.read(path, piece).await?);
        }
        Ok(bytes.freeze())
    }

    /// `None` where reading is limited: what comes that way would not be slowed.
    async fn open_file(&self, path: &StorePath) -> Result<Option<File>> {
        match self.limiter.0.download {
            Some(_) => Ok(None),
            None => self.inner.open_file(path).await,
        }
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        self.inner.stat(path).await
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        self.inner.list_children(prefix).await
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        self.inner.delete(paths).await
    }

    async fn remove_unfinished(&self, prefix: Option<&StorePath>, older_than: Duration) -> Result<u64> {
        self.inner.remove_unfinished(prefix, older_than).await
    }
}

struct LimitedWriter<W: ?Sized> {
    limiter: RateLimiter,
    inner: Box<W>,
}

#[async_trait]
impl<W: ObjectWriter + ?Sized> ObjectWriter for LimitedWriter<W> {
    async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        if self.limiter.0.upload.is_none() {
            return self.inner.write(bytes).await;
        }
        while bytes.len() > PIECE_BYTES {
            self.limiter.upload(PIECE_BYTES).await;
            self.inner.write(bytes.split_to(PIECE_BYTES)).await?;
        }
        self.limiter.upload(bytes.len()).await;
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.inner.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        self.inner.abort().await
    }
}

#[async_trait]
impl UnnamedWriter for LimitedWriter<dyn UnnamedWriter> {
    async fn finish_as(self: Box<Self>, path: &StorePath) -> Result<()> {
        self.inner.finish_as(path).await
    }
}
