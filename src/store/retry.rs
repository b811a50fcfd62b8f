//! A store whose passing failures are mostly not seen.
//!
//! **A name is never used twice** (K2), so what may be repeated is decided here, once for all stores, and by
//! nothing below: not by a client's own retries, not by a layer of a library.
//!
//! | call | repeated |
//! |---|---|
//! | `read`, `open_file`, `stat`, `list`, `list_children` | on every error that may pass. A listing that breaks goes on behind the last path it gave |
//! | `probe` | on errors that may pass, for [`PROBE_PATIENCE`], but not on [`ErrorKind::Unreachable`]: that is more often a wrong name than a restart, and somebody waits. Each attempt writes a fresh name |
//! | `delete` | on every error that may pass, for those paths that failed. A delete that lands twice hits nothing new |
//! | `put`, `create` | only if the store certainly did nothing: [`ErrorKind::RateLimited`], [`ErrorKind::Unreachable`] |
//! | `write`, `finish` of a writer | never here |
//! | `create_unnamed`, `remove_unfinished` | never here |
//!
//! Why not every write. A `put` whose answer was lost may land at any time. Suppose it is sent again under its name:
//! the second one succeeds, the object is committed, dropped and deleted, and then the first one lands. What was
//! deleted is there again, and nobody looks for it any more. With one attempt a name this cannot be: whoever got the
//! error knows that the name is spent, and writes the bytes under a new one ([`crate::snapshot`]), or ends
//! its tenure (`docs/protocol.md`, A2).
//!
//! A writer is passed through as it is: its earlier pieces are gone when a later one fails, and what failed may have
//! been an earlier piece. A store that sends objects in parts repeats a part by itself, since a part belongs to
//! one upload and not to a name. All else is the object's, and begins with a new name.

use std::fs::File;
use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::backoff::{Backoff, Retries, RetryPolicy};
use super::{Access, Child, ObjectMeta, ObjectWriter, ReadAhead, Store, StorePath, StoreRef, UnnamedWriter};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// How long a probe is repeated after its first failure, if the policy does not give up earlier. A probe comes first,
/// and somebody waits for it: what does not pass soon is more often a wrong setting than a fault.
pub const PROBE_PATIENCE: Duration = Duration::from_secs(10);

/// Wraps a store and repeats what may be repeated, by a [`RetryPolicy`]. See the module's text.
#[derive(Debug)]
pub struct RetryingStore {
    inner: StoreRef,
    retries: Retries,
    probes: Retries,
}

impl RetryingStore {
    /// Repeats calls on `inner`, waiting by `env`.
    pub fn new(inner: StoreRef, policy: RetryPolicy, env: Env) -> Self {
        let probing = policy.giving_up_after(policy.give_up_after.min(PROBE_PATIENCE));
        Self { inner, retries: Retries::new(policy, env.clone()), probes: Retries::new(probing, env) }
    }
}

/// Whether a write that was answered so was certainly not done, now or later.
fn was_not_done(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::RateLimited | ErrorKind::Unreachable)
}

#[async_trait]
impl Store for RetryingStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn read_ahead(&self) -> ReadAhead {
        self.inner.read_ahead()
    }

    async fn probe(&self, access: Access) -> Result<()> {
        let mut backoff = self.probes.begin();
        loop {
            match self.inner.probe(access).await {
                Err(error) if error.kind() != ErrorKind::Unreachable => backoff.after(error).await?,
                outcome => return outcome,
            }
        }
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        let mut backoff = self.retries.begin();
        loop {
            match self.inner.put(path, bytes.clone()).await {
                Err(error) if was_not_done(&error) => backoff.after(error).await?,
                outcome => return outcome,
            }
        }
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        let mut backoff = self.retries.begin();
        loop {
            match self.inner.create(path).await {
                Err(error) if was_not_done(&error) => backoff.after(error).await?,
                outcome => return outcome,
            }
        }
    }

    async fn create_unnamed(&self, folder: &StorePath) -> Result<Option<Box<dyn UnnamedWriter>>> {
        self.inner.create_unnamed(folder).await
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        let mut backoff = self.retries.begin();
        loop {
            match self.inner.read(path, range.clone()).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => backoff.after(error).await?,
            }
        }
    }

    async fn open_file(&self, path: &StorePath) -> Result<Option<File>> {
        let mut backoff = self.retries.begin();
        loop {
            match self.inner.open_file(path).await {
                Ok(file) => return Ok(file),
                Err(error) => backoff.after(error).await?,
            }
        }
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        let mut backoff = self.retries.begin();
        loop {
            match self.inner.stat(path).await {
                Ok(object) => return Ok(object),
                Err(error) => backoff.after(error).await?,
            }
        }
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        let listing = Listing {
            store: &*self.inner,
            objects: self.inner.list(prefix),
            prefix: prefix.cloned(),
            given: None,
            behind: None,
            backoff: self.retries.begin(),
        };
        stream::unfold(Some(listing), |listing| async move { listing?.next().await }).boxed()
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        let mut backoff = self.retries.begin();
        loop {
            match self.inner.list_children(prefix).await {
                Ok(children) => return Ok(children),
                Err(error) => backoff.after(error).await?,
            }
        }
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        let mut answers = self.delete_once(paths).await;
        let mut backoff = self.retries.begin();
        let mut open = paths.len();
        loop {
            let may_pass = |(_, answer): &(usize, &Result<()>)| answer.as_ref().is_err_and(Error::is_retryable);
            let failed: Vec<usize> = answers.iter().enumerate().filter(may_pass).map(|(at, _)| at).collect();
            if failed.len() < open {
                // Every path is counted once, so this has an end.
                backoff.got_on();
                open = failed.len();
            }
            let error = failed.first().and_then(|at| answers.get(*at)?.as_ref().err());
            match error {
                Some(error) if backoff.may_try_again(error).await => {}
                _ => return answers,
            }
            let again: Vec<StorePath> = failed.iter().filter_map(|at| paths.get(*at).cloned()).collect();
            for (at, answer) in failed.into_iter().zip(self.delete_once(&again).await) {
                if let Some(earlier) = answers.get_mut(at) {
                    *earlier = answer;
                }
            }
        }
    }

    async fn remove_unfinished(&self, prefix: Option<&StorePath>, older_than: Duration) -> Result<u64> {
        self.inner.remove_unfinished(prefix, older_than).await
    }
}

impl RetryingStore {
    /// One answer for each path, whatever the store says.
    async fn delete_once(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        let mut answers = self.inner.delete(paths).await;
        answers.truncate(paths.len());
        for path in paths.get(answers.len()..).unwrap_or_default() {
            let message = "the store gave no answer for it";
            answers.push(Err(Error::new(ErrorKind::Internal, "delete an object", message).with_object(path)));
        }
        answers
    }
}

/// A listing under way.
struct Listing<'a> {
    store: &'a dyn Store,
    prefix: Option<StorePath>,
    objects: BoxStream<'a, Result<ObjectMeta>>,
    /// The last path that was given.
    given: Option<StorePath>,
    /// Where this pass began to be of use: up to here an earlier one gave everything.
    behind: Option<StorePath>,
    backoff: Backoff,
}

impl<'a> Listing<'a> {
    /// The next object, and the rest of the listing if there can be one.
    ///
    /// What was there all the time is given: before the break by the pass that broke, behind it by the one that was
    /// begun anew. A listing is not atomic in any case (E2).
    async fn next(mut self) -> Option<(Result<ObjectMeta>, Option<Self>)> {
        loop {
            match self.objects.next().await? {
                Ok(object) if self.behind.as_ref().is_some_and(|behind| object.path <= *behind) => {}
                Ok(object) => {
                    self.backoff.got_on();
                    self.given = Some(object.path.clone());
                    return Some((Ok(object), Some(self)));
                }
                Err(error) => {
                    if let Err(error) = self.backoff.after(error).await {
                        return Some((Err(error), None));
                    }
                    self.behind.clone_from(&self.given);
                    self.objects = self.store.list(self.prefix.as_ref());
                }
            }
        }
    }
}
