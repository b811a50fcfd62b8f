//! Where a command works: the store and the job that were named, and the doors to the world.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::output::Output;
use super::signals::Signals;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{JobId, JobLayout};
use crate::ownership::JobView;
use crate::store::{LocalStore, RateLimiter, RateLimits, StoreRef};

/// The most jobs that are named where one has to be chosen.
const MAX_NAMED_JOBS: usize = 10;

/// What every command is given.
#[derive(Debug)]
pub(super) struct Place {
    store: Option<String>,
    job: Option<String>,
    /// What was named on the command line, and so has to be named again in the next command.
    named: Vec<String>,
    pub(super) env: Env,
    pub(super) output: Output,
    pub(super) signals: Signals,
    /// One for all stores that the command opens.
    limiter: RateLimiter,
}

/// One job on its store.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) store: StoreRef,
    pub(super) layout: JobLayout,
}

impl Place {
    /// Takes what the arguments do not name from the environment. Opens nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] outside a tokio runtime.
    pub(super) fn new(store: Option<String>, job: Option<String>, output: Output, signals: Signals) -> Result<Self> {
        let given = [("--store", &store), ("--job", &job)];
        let named = given.iter().filter_map(|(flag, value)| Some(format!("{flag} {}", quoted(value.as_deref()?))));
        let named = named.collect();
        let or_env = |given: Option<String>, name| given.or_else(|| std::env::var(name).ok().filter(|v| !v.is_empty()));
        let (store, job) = (or_env(store, "ICECORE_STORE"), or_env(job, "ICECORE_JOB"));
        let env = Env::system()?;
        let limiter = RateLimiter::new(RateLimits::default(), env.clone());
        Ok(Self { store, job, named, env, output, signals, limiter })
    }

    /// The same place, where bytes move no faster than `limits`.
    pub(super) fn within(mut self, limits: RateLimits) -> Self {
        self.limiter = RateLimiter::new(limits, self.env.clone());
        self
    }

    /// A command for the same store and job, as one would type it.
    pub(super) fn command(&self, words: &[String]) -> String {
        let mut line = vec!["icecore".to_owned()];
        line.extend(self.named.iter().cloned());
        line.extend(words.iter().map(|word| quoted(word)));
        line.join(" ")
    }

    /// `store`, within the command's limits.
    pub(super) fn limited(&self, store: StoreRef) -> StoreRef {
        self.limiter.limit(store)
    }

    /// Opens the store that was named.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if none or nonsense was named; [`ErrorKind::Unsupported`] for a
    /// kind of store that this build lacks.
    pub(super) fn store(&self) -> Result<StoreRef> {
        let named = self.store.as_deref().ok_or_else(|| {
            Error::invalid("open the store", "no store was named")
                .with_advice("give --store FOLDER, or set ICECORE_STORE")
        })?;
        Ok(self.limited(open_store(named, &self.env)?))
    }

    /// The job that was named; for a command that makes one where there is none.
    ///
    /// # Errors
    /// As [`Self::store`]; [`ErrorKind::InvalidInput`] if no job was named.
    pub(super) fn new_job(&self) -> Result<Job> {
        let named = self.job.as_deref().ok_or_else(|| {
            Error::invalid("choose the job", "no job was named").with_advice("give --job ID, or set ICECORE_JOB")
        })?;
        Ok(Job { store: self.store()?, layout: JobLayout::new(JobId::new(named)?)? })
    }

    /// The job that was named, or the only one that the store holds.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if there are several; [`ErrorKind::NotFound`] if there is none.
    pub(super) async fn job(&self) -> Result<Job> {
        self.job_on(self.store()?).await
    }

    /// The job that was named, or the only one of `store`.
    ///
    /// # Errors
    /// As [`Self::job`].
    pub(super) async fn job_on(&self, store: StoreRef) -> Result<Job> {
        if let Some(named) = &self.job {
            return Ok(Job { store, layout: JobLayout::new(JobId::new(named)?)? });
        }
        let children = store.list_children(None).await?;
        let jobs: Vec<JobId> = children.iter().filter_map(|child| JobLayout::job_of_folder(&child.name)).collect();
        match jobs.as_slice() {
            [] => Err(Error::new(ErrorKind::NotFound, "choose the job", "the store holds no job")
                .with_object(store.describe())
                .with_advice("check --store; `icecore snapshot` makes a job")),
            [job] => Ok(Job { layout: JobLayout::new(job.clone())?, store }),
            several => {
                let names: Vec<&str> = several.iter().take(MAX_NAMED_JOBS).map(JobId::as_str).collect();
                let message = format!("the store holds {} jobs", several.len());
                Err(Error::invalid("choose the job", message)
                    .with_object(store.describe())
                    .with_advice(format!("give --job: {}", names.join(", "))))
            }
        }
    }

    /// The job, and what counts in it.
    ///
    /// # Errors
    /// As [`Self::job`] and [`JobView::read`]; [`ErrorKind::NotFound`] if there is no such job.
    pub(super) async fn view(&self) -> Result<(Job, JobView)> {
        let job = self.job().await?;
        let view = job.view().await?;
        Ok((job, view))
    }
}

impl Job {
    /// What counts in the job.
    ///
    /// # Errors
    /// As [`JobView::read`]; [`ErrorKind::NotFound`] if there is no such job.
    pub(super) async fn view(&self) -> Result<JobView> {
        let view = JobView::read(&*self.store, &self.layout).await?;
        if view.is_absent() {
            return Err(Error::new(ErrorKind::NotFound, "read the job", "the store holds no such job")
                .with_object(format!("{}/{}", self.store.describe(), self.layout.root()))
                .with_advice("check --store and --job"));
        }
        Ok(view)
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Opens a store by a path or URL.
pub(super) fn open_store(named: &str, env: &Env) -> Result<StoreRef> {
    let local = |path: &Path| -> Result<StoreRef> { Ok(Arc::new(LocalStore::open(path, env.clone())?)) };
    let invalid = |message: &str, advice: &str| {
        Err(Error::invalid("open the store", message).with_object(named).with_advice(advice))
    };
    if let Some(path) = named.strip_prefix("file://") {
        return match path.starts_with('/') {
            true => local(&PathBuf::from(percent_decoded(path)?)),
            false => invalid("a file URL names no host here", "write file:///folder, with three slashes"),
        };
    }
    match named.split_once(':').map(|(scheme, _)| scheme) {
        Some("memory") => memory(env),
        Some(scheme @ ("s3" | "s3a" | "hdfs" | "gs" | "az" | "abfs" | "http" | "https")) => {
            let message = format!("stores of the kind `{scheme}` are not in this build");
            Err(Error::new(ErrorKind::Unsupported, "open the store", message)
                .with_object(named)
                .with_advice("name a folder, or file:///folder"))
        }
        _ if named.contains("://") => invalid("the kind of store is not known", "name a folder, or file:///folder"),
        _ => local(Path::new(named)),
    }
}

#[cfg(feature = "memory")]
fn memory(env: &Env) -> Result<StoreRef> {
    Ok(Arc::new(crate::store::OpendalStore::memory(env.clone())?))
}

#[cfg(not(feature = "memory"))]
fn memory(_env: &Env) -> Result<StoreRef> {
    Err(Error::new(ErrorKind::Unsupported, "open the store", "memory stores are not in this build")
        .with_advice("name a folder, or file:///folder"))
}

fn percent_decoded(path: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    let fail = || Error::invalid("open the store", "a `%` in the URL is not followed by two hex digits");
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit().ok_or_else(fail)?, digit().ok_or_else(fail)?);
        bytes.push(u8::try_from(high << 4 | low).map_err(|_| fail())?);
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid("open the store", "the URL's path is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_where_they_have_to_be() {
        assert_eq!(quoted("job-a/shared/0-1.sst"), "job-a/shared/0-1.sst");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[tokio::test]
    async fn stores_are_named_by_path_or_url_and_what_is_not_built_in_says_so() {
        let env = Env::system().unwrap();
        for folder in ["file:///tmp/a%20b", "relative", "/absolute", "with:colon"] {
            assert!(open_store(folder, &env).is_ok(), "{folder}");
        }
        assert!(open_store("file:///tmp/a%20b", &env).unwrap().describe().contains("a b"));
        for (named, kind) in [
            ("s3://bucket/x", ErrorKind::Unsupported),
            ("hdfs://host/x", ErrorKind::Unsupported),
            ("file://host/x", ErrorKind::InvalidInput),
            ("ftp://host/x", ErrorKind::InvalidInput),
            ("file:///a%2", ErrorKind::InvalidInput),
        ] {
            assert_eq!(open_store(named, &env).unwrap_err().kind(), kind, "{named}");
        }
    }
}
