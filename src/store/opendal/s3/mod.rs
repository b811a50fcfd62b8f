//! S3, and what speaks its protocol: MinIO, Ceph, versitygw, R2 and others. `docs/stores.md` tells users.
//!
//! OpenDAL puts, reads, lists and uploads in parts. What is ours, and why:
//!
//! | module | what | why not OpenDAL's |
//! |---|---|---|
//! | `settings`, `profile` | options, environment, files of the AWS tools | it reads neither region nor endpoint of a profile |
//! | `credentials` | `reqsign`'s search, bounded in time | it runs no `credential_process`, and says nothing when it finds none |
//! | `transport`, `tls` | HTTP with time limits that a slow link survives, parts sent again | its time limits are for whole calls |
//! | `failure` | kinds of errors and advice | it keeps the service's code as text |
//! | `requests` | batch deletes, open uploads | it takes silence for success, and cannot list uploads |
//!
//! **No write is repeated** (design 4.7): not by OpenDAL (no retry layer, and no error of ours is "temporary" to it),
//! not by the HTTP client. Parts of one upload are: they appear only with it.

mod answer;
mod credentials;
mod failure;
mod profile;
mod requests;
mod settings;
mod tls;
mod transport;
mod writer;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::opendal::options::WriteOptions;
use ::opendal::services::S3;
use ::opendal::{Execute, Executor, HttpTransporter, OperationContext, Operator};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use reqsign_core::{Env as Surroundings, OsEnv, ProvideCredentialChain};

use self::requests::{MAX_DELETED_AT_ONCE, Marker, OpenUpload, Requests};
use self::settings::Settings;
use self::transport::Transport;
use self::writer::Writing;
use super::{OpendalStore, Rules};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::store::probe::probe_change;
use crate::store::{
    Access, Child, MAX_PATH_BYTES, ObjectMeta, ObjectWriter, ReadAhead, Store, StoreOptions, StorePath,
};

pub(super) use self::failure::Failure;
pub use self::settings::{DEFAULT_PART_BYTES, DEFAULT_UPLOAD_PARALLELISM, S3_OPTIONS};

/// S3 takes no more parts.
const MAX_PARTS: u64 = 10_000;
/// How many batches of deletes are under way at once.
const MAX_CONCURRENT_BATCHES: usize = 4;
/// How many deletes or aborts of one object each are under way at once.
const MAX_CONCURRENT_SINGLES: usize = 16;
/// By how much the service's clock may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// Objects of an S3 bucket below a prefix. See the module's text, and [`S3_OPTIONS`].
#[derive(Clone)]
pub struct S3Store {
    inner: OpendalStore,
    requests: Arc<Requests>,
    writing: Writing,
    env: Env,
    name: String,
    /// What every key begins with, with a slash at its end, or empty.
    root: String,
    max_object_bytes: u64,
}

impl S3Store {
    /// Opens the objects of `bucket` below `prefix` (without slashes at either end; may be empty). Asks the service
    /// nothing: see [`Store::probe`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for an option that is unknown or has a value that cannot be used, and where no
    /// region is set; [`ErrorKind::Unsupported`] for a directory bucket (S3 Express), which does not list in order.
    pub fn open(bucket: &str, prefix: &str, options: &StoreOptions, env: Env) -> Result<Self> {
        Self::open_within(bucket, prefix, options, env, Arc::new(OsEnv))
    }

    fn open_within(
        bucket: &str,
        prefix: &str,
        options: &StoreOptions,
        env: Env,
        surroundings: Arc<dyn Surroundings>,
    ) -> Result<Self> {
        let settings = Settings::resolve(bucket, prefix, options, &*surroundings)?;
        let transport = Transport::new(&settings, env.clone())?;
        let source = credentials::source(&settings.credentials, &env, surroundings);
        let name = if prefix.is_empty() { format!("s3://{bucket}") } else { format!("s3://{bucket}/{prefix}") };
        let operator = operator(&settings, source.clone(), &transport, &env)?;
        let rules = Rules {
            write: WriteOptions {
                chunk: usize::try_from(settings.part_bytes).ok(),
                concurrent: usize::try_from(settings.upload_parallelism).unwrap_or(1),
                ..WriteOptions::default()
            },
            // An upload that is complete has no id any more, so this never hits an object.
            aborts_after_failed_close: true,
        };
        Ok(Self {
            inner: OpendalStore::new(operator, env.clone(), name.clone(), rules),
            requests: Arc::new(Requests::new(&settings, source, transport)),
            writing: Writing::default(),
            env,
            name,
            root: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            max_object_bytes: settings.part_bytes.saturating_mul(MAX_PARTS),
        })
    }

    /// The object's key in the bucket.
    fn key(&self, path: &StorePath) -> String {
        format!("{}{path}", self.root)
    }

    fn check_length(&self, operation: &'static str, path: &StorePath) -> Result<()> {
        if self.root.len() + path.as_str().len() <= MAX_PATH_BYTES {
            return Ok(());
        }
        let message = format!("with the store's prefix its name is longer than {MAX_PATH_BYTES} bytes");
        Err(Error::new(ErrorKind::LimitExceeded, operation, message).with_object(path))
    }

    async fn delete_batch(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        const OPERATION: &str = "delete an object";
        if let [path] = paths {
            return self.inner.delete(std::slice::from_ref(path)).await;
        }
        let keys: Vec<String> = paths.iter().map(|path| self.key(path)).collect();
        match self.requests.delete(&keys).await {
            Ok(outcomes) => {
                let told = |(path, outcome): (&StorePath, requests::Deleted)| {
                    outcome.map_err(|failure| failure.into_error(OPERATION).with_object(path))
                };
                paths.iter().zip(outcomes).map(told).collect()
            }
            // Some services have no such request.
            Err(failure) if failure.kind == ErrorKind::Unsupported => self.inner.delete(paths).await,
            Err(failure) => {
                paths.iter().map(|path| Err(failure.again().into_error(OPERATION).with_object(path))).collect()
            }
        }
    }

    /// The open uploads below `prefix` that are not this store's own and were begun before `before`.
    async fn abandoned(&self, prefix: &str, before: SystemTime) -> Result<Vec<OpenUpload>, Failure> {
        let mut found = Vec::new();
        let mut marker = Some(Marker::default());
        while let Some(at) = marker {
            let (uploads, next) = self.requests.open_uploads(prefix, &at).await?;
            found.extend(uploads.into_iter().filter(|upload| self.is_abandoned(upload, prefix, before)));
            marker = next;
        }
        Ok(found)
    }

    fn is_abandoned(&self, upload: &OpenUpload, prefix: &str, before: SystemTime) -> bool {
        // A name that the service was not asked for, or that is none of ours, is nobody's business here (I8).
        let path = upload.key.starts_with(prefix).then(|| upload.key.strip_prefix(&self.root)).flatten();
        let path = path.and_then(|path| StorePath::new(path).ok());
        path.is_some_and(|path| !self.writing.contains(&path)) && upload.begun <= before
    }
}

/// An operator that sends its requests through `transport` and starts its tasks through `env`.
fn operator(
    settings: &Settings,
    source: Option<credentials::Source>,
    transport: &Transport,
    env: &Env,
) -> Result<Operator> {
    let mut builder = S3::default()
        .bucket(&settings.bucket)
        .root(&format!("/{}", settings.prefix))
        .endpoint(&settings.endpoint)
        .region(&settings.region)
        // Everything was looked up already; only the chain below is asked for credentials.
        .disable_config_load()
        .disable_ec2_metadata();
    builder = match source {
        Some(source) => builder.credential_provider_chain(ProvideCredentialChain::new().push(source)),
        None => builder.skip_signature(),
    };
    if settings.is_virtual_host {
        builder = builder.enable_virtual_host_style();
    }
    if settings.has_checksums {
        builder = builder.checksum_algorithm("crc32c");
    }
    let operator = Operator::new(builder).map_err(|error| {
        Error::invalid("open the S3 store", error.to_string())
            .with_object(format!("s3://{}", settings.bucket))
            .with_source(error)
    })?;
    let context =
        OperationContext::from_parts(HttpTransporter::new(transport.clone()), Executor::with(Tasks(env.clone())));
    Ok(operator.with_context(context))
}

/// OpenDAL's tasks, the parts of uploads, run where everything else does.
struct Tasks(Env);

impl Execute for Tasks {
    fn execute(&self, task: futures::future::BoxFuture<'static, ()>) {
        self.0.runtime.spawn(task);
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for S3Store {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn read_ahead(&self) -> ReadAhead {
        ReadAhead::FAR
    }

    /// Read-only: one page of a listing. It needs the bucket, the endpoint, the keys and the right to list, without
    /// which S3 itself would answer "denied" instead of "not found" to everything else.
    async fn probe(&self, access: Access) -> Result<()> {
        self.inner.list_one().await?;
        match access {
            Access::Read => Ok(()),
            Access::Change => probe_change(self, &self.env).await.map_err(|error| error.with_object(&self.name)),
        }
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        self.check_length("put an object", path)?;
        self.inner.put(path, bytes).await
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        self.check_length("create an object", path)?;
        let named = self.writing.begin(path);
        let inner = self.inner.create(path).await?;
        Ok(named.writer(inner, self.max_object_bytes))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        self.inner.read(path, range).await
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

    /// Up to 1,000 objects a request. `Ok` is what the service names as deleted.
    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        let batches: Vec<_> = paths.chunks(MAX_DELETED_AT_ONCE).map(|batch| self.delete_batch(batch)).collect();
        let answers: Vec<Vec<Result<()>>> = stream::iter(batches).buffered(MAX_CONCURRENT_BATCHES).collect().await;
        answers.into_iter().flatten().collect()
    }

    /// Aborts open multipart uploads, but for those of this store itself and its clones. A service that cannot list
    /// them is left to its own clean-up, with a line in the log.
    async fn remove_unfinished(&self, prefix: Option<&StorePath>, older_than: Duration) -> Result<u64> {
        const OPERATION: &str = "remove unfinished uploads";
        let told = |failure: Failure| failure.into_error(OPERATION).with_object(&self.name);
        let below = prefix.map_or_else(|| self.root.clone(), |prefix| format!("{}/", self.key(prefix)));
        let now = UNIX_EPOCH + Duration::from_millis(self.env.clock.unix_time_ms());
        let before =
            if older_than.is_zero() { now + CLOCK_SKEW } else { now.checked_sub(older_than).unwrap_or(UNIX_EPOCH) };
        let abandoned = match self.abandoned(&below, before).await {
            Ok(abandoned) => abandoned,
            Err(failure) if failure.kind == ErrorKind::Unsupported => {
                tracing::warn!(
                    store = self.name,
                    "the service cannot list unfinished uploads; let a rule of the bucket remove them"
                );
                return Ok(0);
            }
            Err(failure) => return Err(told(failure)),
        };
        let aborts: Vec<_> = abandoned.iter().map(|upload| self.requests.abort(upload)).collect();
        let mut outcomes = stream::iter(aborts).buffer_unordered(MAX_CONCURRENT_SINGLES);
        let (mut removed, mut failed) = (0, None);
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(was_there) => removed += u64::from(was_there),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        failed.map_or(Ok(removed), |failure| Err(told(failure)))
    }
}

#[cfg(test)]
mod tests;
