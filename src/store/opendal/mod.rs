//! Any service that OpenDAL serves: memory, and S3 with what `s3` adds.
//!
//! | icecore | OpenDAL |
//! |---|---|
//! | `put` | `write` |
//! | `create`, `write`, `finish`, `abort` | `writer`, `write`, `close`, `abort` (on S3 a multipart upload) |
//! | `read` | `read` with a range |
//! | `stat` | `stat` |
//! | `list` | `lister`, recursive, streamed; a `stat` for an entry that comes without its length |
//! | `list_children` | `lister`, not recursive; the lengths as above |
//! | `delete` | `delete`, [`MAX_CONCURRENT_REQUESTS`] side by side |
//!
//! What OpenDAL does not do for us:
//! - A dropped writer sends no abort, which on S3 leaves an upload that costs money for ever. So a
//!   dropped writer of ours aborts in the background.
//! - Listings are in the service's order. Memory and S3 list in order of paths, as the contract
//!   wants. The order is checked as it streams, and a service that breaks it gets an error and not a
//!   wrong answer.
//! - Its service for local folders never syncs a folder: use [`super::LocalStore`] for those.
//!
//! An error that OpenDAL calls temporary, and only that or a rate limit, is retryable here. No call
//! is repeated in this module.

#[cfg(feature = "s3")]
pub mod s3;

use std::fmt;
use std::ops::Range;

use ::opendal::options::WriteOptions;
#[cfg(feature = "memory")]
use ::opendal::services::Memory;
use ::opendal::{EntryMode, Operator};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Child, ObjectMeta, ObjectWriter, Store, StorePath};
use crate::buffers::{Buffers, MAX_IDLE_BUFFER_BYTES};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// How many requests of one call (the deletes of a batch, the `stat`s of a listing) run at once.
pub const MAX_CONCURRENT_REQUESTS: usize = 16;

/// A store behind an OpenDAL operator. See the module's text.
#[derive(Clone)]
pub struct OpendalStore {
    operator: Operator,
    env: Env,
    name: String,
    rules: Rules,
    buffers: Buffers,
}

/// What differs between services.
#[derive(Clone, Default)]
struct Rules {
    /// How large objects are written.
    write: WriteOptions,
    /// Whether to give an upload up whose closing failed. Not where a service may take that for a delete.
    aborts_after_failed_close: bool,
}

impl OpendalStore {
    #[cfg_attr(not(any(feature = "memory", feature = "s3")), allow(dead_code))]
    fn new(operator: Operator, env: Env, name: String, rules: Rules) -> Self {
        Self { operator, env, name, rules, buffers: Buffers::default() }
    }

    /// An empty store in this process's memory. Every call makes another one; clones share theirs.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if OpenDAL cannot make it.
    #[cfg(feature = "memory")]
    pub fn memory(env: Env) -> Result<Self> {
        let operator = Operator::new(Memory::default()).map_err(|error| {
            Error::new(ErrorKind::Internal, "open a memory store", error.to_string()).with_source(error)
        })?;
        Ok(Self::new(operator, env, "memory://".to_owned(), Rules::default()))
    }

    fn entry_path(operation: &'static str, text: &str) -> Result<Option<StorePath>> {
        if text.ends_with('/') || text.is_empty() {
            return Ok(None);
        }
        match StorePath::new(text) {
            Ok(path) => Ok(Some(path)),
            Err(_) => {
                // Not a name of ours; see `local::walk` for why it is skipped.
                tracing::warn!(path = text, operation, "a foreign name lies in the store; it is left alone");
                Ok(None)
            }
        }
    }

    /// The entry as an object; `None` for folders, foreign names, and what has just been deleted.
    async fn object(&self, entry: ::opendal::Entry) -> Result<Option<ObjectMeta>> {
        let Some(path) = Self::entry_path("list", entry.path())? else { return Ok(None) };
        match entry.metadata().mode() {
            EntryMode::DIR => Ok(None),
            EntryMode::FILE => Ok(Some(ObjectMeta { path, size_bytes: entry.metadata().content_length() })),
            EntryMode::Unknown => match self.stat(&path).await {
                Ok(object) => Ok(Some(object)),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Asks for one page of the smallest listing: proof that the service knows us.
    #[cfg(feature = "s3")]
    async fn list_one(&self) -> Result<()> {
        let fail = |error| failure("look at the store", &self.name, error);
        let mut lister = self.operator.lister_with("/").limit(1).await.map_err(fail)?;
        lister.next().await.transpose().map_err(fail)?;
        Ok(())
    }

    /// What the service answers to one request for `range`, put together as it comes: never more than a little of it
    /// lies in memory twice. Reserves little on the word of `length`, which may come from a hostile length field (I8).
    async fn gather(&self, path: &StorePath, range: Range<u64>, length: u64) -> ::opendal::Result<Bytes> {
        let mut chunks = self.operator.reader(path.as_str()).await?.into_stream(range).await?;
        let mut bytes = self.buffers.take_for(length);
        while let Some(chunk) = chunks.next().await.transpose()? {
            if bytes.is_empty() {
                if chunk.len() as u64 == length {
                    return Ok(chunk.to_bytes());
                }
                bytes.reserve(usize::try_from(length).unwrap_or(usize::MAX).min(MAX_IDLE_BUFFER_BYTES));
            }
            for part in chunk {
                bytes.extend_from_slice(&part);
            }
            if bytes.len() as u64 > length {
                break;
            }
        }
        Ok(self.buffers.hand_over(bytes))
    }

    async fn objects(&self, prefix: Option<StorePath>) -> Result<BoxStream<'_, Result<ObjectMeta>>> {
        let folder = folder_of(prefix.as_ref());
        let lister = match self.operator.lister_with(&folder).recursive(true).await {
            Ok(lister) => lister,
            Err(error) if error.kind() == ::opendal::ErrorKind::NotFound => return Ok(stream::empty().boxed()),
            Err(error) => return Err(failure("list objects", &folder, error)),
        };
        let mut last: Option<StorePath> = None;
        let objects = lister
            .map(move |entry| {
                let folder = folder.clone();
                async move {
                    match entry {
                        Ok(entry) => self.object(entry).await,
                        Err(error) => Err(failure("list objects", &folder, error)),
                    }
                }
            })
            .buffered(MAX_CONCURRENT_REQUESTS)
            .try_filter_map(|object| std::future::ready(Ok(object)))
            .map(move |object| in_order(&mut last, object?))
            .boxed();
        Ok(objects)
    }
}

fn in_order(last: &mut Option<StorePath>, object: ObjectMeta) -> Result<ObjectMeta> {
    if last.as_ref().is_some_and(|last| *last >= object.path) {
        return Err(Error::new(ErrorKind::Unsupported, "list objects", "the service does not list in order of paths")
            .with_object(&object.path));
    }
    *last = Some(object.path.clone());
    Ok(object)
}

impl fmt::Debug for OpendalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpendalStore").field("name", &self.name).finish_non_exhaustive()
    }
}

fn folder_of(prefix: Option<&StorePath>) -> String {
    prefix.map_or_else(|| "/".to_owned(), |prefix| format!("{prefix}/"))
}

#[async_trait]
impl Store for OpendalStore {
    fn describe(&self) -> String {
        self.name.clone()
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        self.operator.write(path.as_str(), bytes).await.map_err(|error| failure("put an object", path, error))?;
        Ok(())
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        let writer = self.operator.writer_options(path.as_str(), self.rules.write.clone()).await;
        let writer = Some(writer.map_err(|error| failure("create an object", path, error))?);
        let aborts_after_failed_close = self.rules.aborts_after_failed_close;
        let (path, env) = (path.clone(), self.env.clone());
        Ok(Box::new(OpendalWriter { writer, broken: false, aborts_after_failed_close, path, env }))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        let operation = "read an object";
        let Some(length) = range.end.checked_sub(range.start) else {
            let message = format!("the range {}..{} is backwards", range.start, range.end);
            return Err(Error::invalid(operation, message).with_object(path));
        };
        if length == 0 {
            // Services differ in what an empty range means; the length settles it.
            let size_bytes = self.stat(path).await?.size_bytes;
            return if range.end <= size_bytes { Ok(Bytes::new()) } else { Err(shorter(path, &range)) };
        }
        let error = match self.gather(path, range.clone(), length).await {
            Ok(bytes) if bytes.len() as u64 == length => return Ok(bytes),
            Ok(bytes) if bytes.len() as u64 > length => {
                let message = format!("more than the {length} bytes asked for came");
                let advice = "the service, or what stands before it, must heed ranges";
                return Err(Error::new(ErrorKind::Unsupported, operation, message)
                    .with_object(path)
                    .with_advice(advice));
            }
            Ok(_) => return Err(shorter(path, &range)),
            Err(error) => error,
        };
        if error.kind() == ::opendal::ErrorKind::RangeNotSatisfied {
            return Err(shorter(path, &range).with_source(error));
        }
        let error = failure(operation, path, error);
        if error.kind() != ErrorKind::Io {
            return Err(error);
        }
        // A service may answer a range past the end with what there is, which OpenDAL takes for an answer
        // that is wrong; the length tells.
        let is_shorter = self.stat(path).await.is_ok_and(|object| object.size_bytes < range.end);
        Err(if is_shorter { shorter(path, &range).with_source(error) } else { error })
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        let metadata =
            self.operator.stat(path.as_str()).await.map_err(|error| failure("look at an object", path, error))?;
        if metadata.is_dir() {
            return Err(Error::new(ErrorKind::NotFound, "look at an object", "it is a folder").with_object(path));
        }
        Ok(ObjectMeta { path: path.clone(), size_bytes: metadata.content_length() })
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        stream::once(self.objects(prefix.cloned())).try_flatten().boxed()
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        let folder = folder_of(prefix);
        let mut lister = match self.operator.lister_with(&folder).await {
            Ok(lister) => lister,
            Err(error) if error.kind() == ::opendal::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failure("list a folder", &folder, error)),
        };
        let mut children = Vec::new();
        while let Some(entry) = lister.next().await {
            let entry = entry.map_err(|error| failure("list a folder", &folder, error))?;
            match entry.path().strip_suffix('/').map(StorePath::new) {
                // The folder that is listed names itself; some services list it.
                Some(Ok(path)) if Some(&path) != prefix => {
                    children.push(Child { name: path.file_name().to_owned(), size_bytes: None });
                }
                Some(_) => {}
                None => {
                    if let Some(object) = self.object(entry).await? {
                        let name = object.path.file_name().to_owned();
                        children.push(Child { name, size_bytes: Some(object.size_bytes) });
                    }
                }
            }
        }
        children.sort_unstable();
        children.dedup();
        Ok(children)
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        let requests = paths.iter().map(|path| async move {
            match self.operator.delete(path.as_str()).await {
                Err(error) if error.kind() != ::opendal::ErrorKind::NotFound => {
                    Err(failure("delete an object", path, error))
                }
                Ok(()) | Err(_) => Ok(()),
            }
        });
        // Collected first: a lazy iterator of borrowing futures is too general for the compiler.
        let requests: Vec<_> = requests.collect();
        stream::iter(requests).buffered(MAX_CONCURRENT_REQUESTS).collect().await
    }
}

struct OpendalWriter {
    /// `None` once it was finished or aborted.
    writer: Option<::opendal::Writer>,
    /// A write failed or was dropped half-way: bytes may be missing, so `finish` must fail.
    broken: bool,
    aborts_after_failed_close: bool,
    path: StorePath,
    env: Env,
}

impl OpendalWriter {
    fn used_up(&self) -> Error {
        Error::invalid("write an object", "an earlier call on this writer failed").with_object(&self.path)
    }
}

#[async_trait]
impl ObjectWriter for OpendalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(self.used_up());
        }
        let Some(writer) = self.writer.as_mut() else { return Err(self.used_up()) };
        writer.write(bytes).await.map_err(|error| failure("write an object", &self.path, error))?;
        self.broken = false;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        if self.broken {
            return Err(self.used_up());
        }
        let Some(mut writer) = self.writer.take() else { return Err(self.used_up()) };
        if !self.aborts_after_failed_close {
            // It may have landed (design 4.7), and a service may take an abort behind a close for a delete.
            writer.close().await.map_err(|error| failure("finish an object", &self.path, error))?;
            return Ok(());
        }
        // Put back first, so that dropping this future half-way aborts, too.
        let writer = self.writer.insert(writer);
        let closed = writer.close().await;
        closed.map_err(|error| failure("finish an object", &self.path, error))?;
        self.writer = None;
        Ok(())
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        match self.writer.take() {
            Some(mut writer) => writer.abort().await.map_err(|error| failure("abort an object", &self.path, error)),
            None => Ok(()),
        }
    }
}

impl Drop for OpendalWriter {
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            abort_later(&self.env, writer, &self.path);
        }
    }
}

fn abort_later(env: &Env, mut writer: ::opendal::Writer, path: &StorePath) {
    let path = path.clone();
    env.runtime.spawn(Box::pin(async move {
        if let Err(error) = writer.abort().await {
            tracing::warn!(%path, %error, "an unfinished object could not be given up; the service may keep its parts");
        }
    }));
}

fn shorter(path: &StorePath, range: &Range<u64>) -> Error {
    let message = format!("bytes {}..{} were asked for, but it is shorter", range.start, range.end);
    Error::corrupt("read an object", path, message)
}

/// OpenDAL's error as one of ours, with its verdict on trying again.
fn failure(operation: &'static str, object: impl fmt::Display, error: ::opendal::Error) -> Error {
    #[cfg(feature = "s3")]
    if let Some(cause) = s3::Failure::cause_of(&error) {
        return cause.into_error(operation).with_object(object).with_source(error);
    }
    Error::new(kind_of(&error), operation, error.to_string()).with_object(object).with_source(error)
}

fn kind_of(error: &::opendal::Error) -> ErrorKind {
    use ::opendal::ErrorKind as Theirs;
    match error.kind() {
        Theirs::NotFound | Theirs::NotADirectory | Theirs::IsADirectory => ErrorKind::NotFound,
        Theirs::AlreadyExists | Theirs::ConditionNotMatch => ErrorKind::AlreadyExists,
        Theirs::PermissionDenied => ErrorKind::PermissionDenied,
        Theirs::RateLimited => ErrorKind::RateLimited,
        Theirs::RangeNotSatisfied => ErrorKind::Corrupt,
        Theirs::Unsupported => ErrorKind::Unsupported,
        Theirs::ConfigInvalid => ErrorKind::InvalidInput,
        _ if error.is_temporary() => ErrorKind::Temporary,
        _ => ErrorKind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(theirs: ::opendal::ErrorKind, temporary: bool) -> ErrorKind {
        let error = ::opendal::Error::new(theirs, "x");
        failure("test", "object", if temporary { error.set_temporary() } else { error }).kind()
    }

    #[test]
    fn what_opendal_calls_temporary_is_retryable_and_the_rest_is_not() {
        use ::opendal::ErrorKind as Theirs;
        assert!(kind(Theirs::Unexpected, true).is_retryable());
        assert!(kind(Theirs::RateLimited, true).is_retryable());
        assert_eq!(kind(Theirs::Unexpected, false), ErrorKind::Io);
        assert_eq!(kind(Theirs::NotFound, false), ErrorKind::NotFound);
        assert_eq!(kind(Theirs::PermissionDenied, false), ErrorKind::PermissionDenied);
        assert_eq!(kind(Theirs::RangeNotSatisfied, false), ErrorKind::Corrupt);
    }

    #[test]
    fn a_listing_out_of_order_is_an_error_and_not_a_wrong_answer() {
        let object = |text: &str| ObjectMeta { path: StorePath::new(text).unwrap(), size_bytes: 0 };
        let mut last = None;
        in_order(&mut last, object("b")).unwrap();
        assert_eq!(in_order(&mut last, object("a")).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
