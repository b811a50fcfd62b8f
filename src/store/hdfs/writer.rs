//! Writing one object: a draft, and another one if DataNodes fail.
//!
//! After a DataNode has died the NameNode goes on offering it for new files until it declares it dead (10.5 minutes by
//! default), `hdfs-native` cannot ask to be spared it, and a file that is begun on it fails. So the first
//! [`HEAD_BYTES`] of an object (all of it in a `put`, where the bytes are at hand anyway) are kept until DataNodes have
//! acknowledged them, and the object is begun anew with them, under a fresh temporary name: on other DataNodes, by chance.
//! On a cluster with few DataNodes no choice may be without the dead one; then a file is begun with fewer
//! replicas and the NameNode asked to make the others. That is what Hadoop's own client comes to as well.
//!
//! A larger object that fails later is an error that is worth repeating, and whoever has its bytes repeats it under a
//! fresh name.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

use super::Cluster;
use super::draft::{Draft, Replicas};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Backoff, ObjectWriter, StorePath, UnnamedWriter};

/// Up to so many bytes of a streamed object are kept to begin it anew. The client has 200 packets of 64 KiB under way
/// at most, 12.5 MiB: when it has taken more than that, DataNodes have acknowledged the first ones.
const HEAD_BYTES: usize = 16 << 20;
/// Bytes go to the client in pieces of at most this size, and the limit of time is one for each.
const PIECE_BYTES: usize = 4 << 20;
/// Smaller pieces are gathered up to this size.
const GATHER_BYTES: usize = 128 << 10;
/// So many drafts are begun with all replicas before one is left out, and as many before the next. With two replicas
/// on three DataNodes of which one is dead, a draft succeeds one time in three: twelve fail one time in 130.
const ATTEMPTS_PER_REPLICATION: u32 = 12;

/// Whether the first bytes can be had again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// They are all at hand.
    Whole,
    /// They come piece by piece.
    Stream,
}

/// An object that is being written.
pub(super) struct Writing {
    cluster: Arc<Cluster>,
    folder: String,
    object: StorePath,
    source: Source,
    /// `None` after a failure, until the next one is begun.
    draft: Option<Draft>,
    /// What was written so far; `None` when that is too much.
    head: Option<Vec<Bytes>>,
    head_bytes: usize,
    trouble: Option<Trouble>,
    _permit: OwnedSemaphorePermit,
}

/// What the first failure begins.
struct Trouble {
    backoff: Backoff,
    failed: u32,
    /// How many replicas it is to have.
    chosen: Option<u32>,
    /// The cluster refuses files with fewer.
    is_minimum: bool,
}

impl Writing {
    /// Begins the object `object` in the folder `folder`. An error of the first call comes back at once: nothing has
    /// been written yet.
    pub(super) async fn begin(
        cluster: Arc<Cluster>,
        folder: String,
        object: StorePath,
        source: Source,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self> {
        let replicas = Replicas { at_first: cluster.options.replication, finally: None };
        let mut writing = Self {
            cluster,
            folder,
            object,
            source,
            draft: None,
            head: Some(Vec::new()),
            head_bytes: 0,
            trouble: None,
            _permit: permit,
        };
        match writing.begin_draft(replicas).await {
            Ok(()) => {}
            Err(error) if error.kind() != ErrorKind::Unreachable && error.is_retryable() => {
                writing.begin_anew(error).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(writing)
    }

    async fn begin_draft(&mut self, replicas: Replicas) -> Result<()> {
        self.draft = Some(Draft::begin(&self.cluster, &self.folder, &self.object, replicas).await?);
        Ok(())
    }

    /// Appends `bytes`.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let piece = left.split_to(left.len().min(PIECE_BYTES));
            self.keep(&piece);
            if let Err(error) = self.draft()?.write(piece).await {
                self.begin_anew(error).await?;
            }
        }
        Ok(())
    }

    /// Makes the object durable and lets it appear as `target`.
    pub(super) async fn finish(mut self, target: &str, object: &StorePath) -> Result<()> {
        self.object = object.clone();
        while let Err(error) = self.draft()?.seal().await {
            self.begin_anew(error).await?;
        }
        match self.draft.take() {
            Some(draft) => draft.publish(target, object).await,
            None => Err(self.used_up()),
        }
    }

    fn keep(&mut self, piece: &Bytes) {
        self.head_bytes = self.head_bytes.saturating_add(piece.len());
        if self.source == Source::Stream && self.head_bytes > HEAD_BYTES {
            self.head = None;
        }
        if let Some(head) = &mut self.head {
            head.push(piece.clone());
        }
    }

    fn draft(&mut self) -> Result<&mut Draft> {
        let error = self.used_up();
        self.draft.as_mut().ok_or(error)
    }

    fn used_up(&self) -> Error {
        Error::invalid("write an object", "an earlier call on this writer failed").with_object(&self.object)
    }

    /// Begins the object anew, under a fresh temporary name, and writes what was written so far, until it works or
    /// the patience ends. `error` says why.
    async fn begin_anew(&mut self, mut error: Error) -> Result<()> {
        loop {
            let failed = self.draft.take();
            if !error.is_retryable() || self.head.is_none() {
                return Err(error);
            }
            let replicas = match self.next_replicas(failed.as_ref(), &error).await {
                Some(replicas) => replicas,
                None => return Err(error),
            };
            drop(failed);
            tracing::debug!(object = %self.object, %error, "begun anew under another temporary name");
            match self.try_anew(replicas).await {
                Ok(()) => return Ok(()),
                // Not an error of the caller's: the cluster wants more replicas than we tried to do with.
                Err(refused) if refused.kind() == ErrorKind::InvalidInput && replicas.finally.is_some() => {
                    if let Some(trouble) = &mut self.trouble {
                        trouble.is_minimum = true;
                    }
                }
                Err(next) => error = next,
            }
        }
    }

    async fn try_anew(&mut self, replicas: Replicas) -> Result<()> {
        self.begin_draft(replicas).await?;
        let head = self.head.clone().unwrap_or_default();
        for piece in head {
            self.draft()?.write(piece).await?;
        }
        Ok(())
    }

    /// Waits, and says with how many replicas to begin next; `None` when the patience has ended.
    async fn next_replicas(&mut self, failed: Option<&Draft>, error: &Error) -> Option<Replicas> {
        let options = &self.cluster.options;
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            backoff: self.cluster.rewrites.begin(),
            failed: 0,
            chosen: options.replication,
            is_minimum: false,
        });
        if let (None, Some(draft)) = (trouble.chosen, failed) {
            trouble.chosen = draft.chosen_replication().await;
        }
        // A file that could not even be begun tells nothing about DataNodes.
        trouble.failed += u32::from(failed.is_some());
        trouble.backoff.may_try_again(error).await.then(|| replicas(trouble, options.min_replication))
    }
}

/// With how many replicas the next draft is begun.
fn replicas(trouble: &Trouble, min_replication: Option<u32>) -> Replicas {
    let Some(chosen) = trouble.chosen else { return Replicas::default() };
    let floor = min_replication.unwrap_or(chosen.saturating_sub(1)).clamp(1, chosen.max(1));
    let left_out = if trouble.is_minimum { 0 } else { trouble.failed / ATTEMPTS_PER_REPLICATION };
    let at_first = chosen.saturating_sub(left_out).max(floor);
    Replicas { at_first: Some(at_first), finally: (at_first < chosen).then_some(chosen) }
}

/// Streams one object into an [`super::HdfsStore`].
pub(super) struct HdfsWriter {
    /// `None` after a failure, or a call that was dropped half-way: bytes may be missing then.
    writing: Option<Writing>,
    gathered: BytesMut,
    object: StorePath,
    target: String,
}

impl HdfsWriter {
    pub(super) fn new(writing: Writing, object: StorePath, target: String) -> Self {
        Self { writing: Some(writing), gathered: BytesMut::new(), object, target }
    }

    /// The object as far as it was written, gathered bytes included.
    async fn take(&mut self) -> Result<Writing> {
        let gathered = self.gathered.split().freeze();
        let Some(mut writing) = self.writing.take() else {
            return Err(
                Error::invalid("write an object", "an earlier call on this writer failed").with_object(&self.object)
            );
        };
        writing.write(gathered).await?;
        Ok(writing)
    }
}

#[async_trait]
impl ObjectWriter for HdfsWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if self.writing.is_some() && self.gathered.len() + bytes.len() < GATHER_BYTES {
            self.gathered.extend_from_slice(&bytes);
            return Ok(());
        }
        let mut writing = self.take().await?;
        writing.write(bytes).await?;
        self.writing = Some(writing);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        self.take().await?.finish(&self.target, &self.object).await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        // Deleted in the background; no listing shows it meanwhile.
        drop(self.writing.take());
        Ok(())
    }
}

/// Streams one object whose name is said last.
pub(super) struct HdfsUnnamed {
    pub(super) writer: HdfsWriter,
    pub(super) folder: StorePath,
}

#[async_trait]
impl ObjectWriter for HdfsUnnamed {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.writer.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Err(Error::invalid("finish an object", "it has no name yet").with_object(&self.folder))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Box::new(self.writer).abort().await
    }
}

#[async_trait]
impl UnnamedWriter for HdfsUnnamed {
    async fn finish_as(mut self: Box<Self>, path: &StorePath) -> Result<()> {
        let operation = "finish an object";
        if path.parent().as_ref() != Some(&self.folder) {
            let message = format!("it was begun in the folder {}", self.folder);
            return Err(Error::invalid(operation, message).with_object(path));
        }
        let mut writing = self.writer.take().await?;
        let target = writing.cluster.root.place(path, operation)?;
        writing.object = path.clone();
        writing.finish(&target, path).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::store::{Retries, RetryPolicy};

    #[tokio::test]
    async fn a_replica_is_left_out_only_after_many_failures_and_asked_for_again() {
        let trouble = |failed, chosen, is_minimum| Trouble {
            backoff: Retries::new(RetryPolicy::NEVER, Env::system().unwrap()).begin(),
            failed,
            chosen,
            is_minimum,
        };
        let next = |trouble: &Trouble, min| {
            let replicas = replicas(trouble, min);
            (replicas.at_first, replicas.finally)
        };
        assert_eq!(next(&trouble(1, Some(3), false), None), (Some(3), None));
        assert_eq!(next(&trouble(ATTEMPTS_PER_REPLICATION, Some(3), false), None), (Some(2), Some(3)));
        assert_eq!(next(&trouble(100, Some(3), false), None), (Some(2), Some(3)), "one less is the default");
        assert_eq!(next(&trouble(100, Some(3), false), Some(1)), (Some(1), Some(3)));
        assert_eq!(next(&trouble(100, Some(3), false), Some(3)), (Some(3), None));
        assert_eq!(next(&trouble(100, Some(3), true), None), (Some(3), None), "the cluster refused fewer");
        assert_eq!(next(&trouble(100, Some(1), false), None), (Some(1), None));
        assert_eq!(next(&trouble(100, None, false), None), (None, None), "the cluster's choice is not known");
    }
}
