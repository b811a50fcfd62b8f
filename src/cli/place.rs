//! Where a command works: the store and the job that were named, and the doors to the world.

use std::path::Path;

use super::output::Output;
use super::signals::Signals;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{JobId, JobLayout};
use crate::ownership::JobView;
use crate::store::{self, Access, RateLimiter, RateLimits, StoreAddress, StoreOptions, StoreRef};

/// The most jobs that are named where one has to be chosen.
const MAX_NAMED_JOBS: usize = 10;

/// What every command is given.
#[derive(Debug)]
pub(super) struct Place {
    store: Option<String>,
    options: StoreOptions,
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
    /// [`ErrorKind::InvalidInput`] outside a tokio runtime, or for a malformed option.
    pub(super) fn new(
        store: Option<String>,
        store_options: &[String],
        job: Option<String>,
        output: Output,
        signals: Signals,
    ) -> Result<Self> {
        let given = [("--store", &store), ("--job", &job)];
        let named = given.iter().filter_map(|(flag, value)| Some(format!("{flag} {}", quoted(value.as_deref()?))));
        let shown = store_options.iter().map(|pair| format!("--store-option {}", quoted(&without_secret(pair))));
        let named = named.chain(shown).collect();
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let store = store.or_else(|| variable("ICECORE_STORE"));
        let job = job.or_else(|| variable("ICECORE_JOB"));
        let options = options(variable("ICECORE_STORE_OPTIONS").as_deref(), store_options)?;
        let env = Env::system()?;
        let limiter = RateLimiter::new(RateLimits::default(), env.clone());
        Ok(Self { store, options, job, named, env, output, signals, limiter })
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

    /// Opens the store that was named, and makes sure that it lets us read: nothing must look empty for want of a key.
    /// Whether it lets us write is found out by a claim.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if none or nonsense was named; [`ErrorKind::Unsupported`] for a
    /// kind of store that this build lacks; as [`crate::store::Store::probe`].
    pub(super) async fn store(&self) -> Result<StoreRef> {
        let named = self.store.as_deref().ok_or_else(|| {
            Error::invalid("open the store", "no store was named")
                .with_advice("give --store PATH-OR-URL, or set ICECORE_STORE")
        })?;
        self.open(&StoreAddress::parse(named)?, &self.options).await
    }

    /// Opens a store by its address, as [`Self::store`] does the one that was named.
    pub(super) async fn open(&self, address: &StoreAddress, options: &StoreOptions) -> Result<StoreRef> {
        let store = store::open_limited(address, options, &self.limiter, self.env.clone())?;
        store.probe(Access::Read).await?;
        Ok(store)
    }

    /// The job that was named; for a command that makes one where there is none.
    ///
    /// # Errors
    /// As [`Self::store`]; [`ErrorKind::InvalidInput`] if no job was named.
    pub(super) async fn new_job(&self) -> Result<Job> {
        let named = self.job.as_deref().ok_or_else(|| {
            Error::invalid("choose the job", "no job was named").with_advice("give --job ID, or set ICECORE_JOB")
        })?;
        let layout = JobLayout::new(JobId::new(named)?)?;
        Ok(Job { store: self.store().await?, layout })
    }

    /// The job that was named, or the only one that the store holds.
    ///
    /// # Errors
    /// As [`Self::new_job`]; [`ErrorKind::InvalidInput`] if there are several; [`ErrorKind::NotFound`] if there is none.
    pub(super) async fn job(&self) -> Result<Job> {
        self.job_on(self.store().await?).await
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

/// What was named where a folder is meant: one of this machine, or one on a remote store, by its address.
///
/// # Errors
/// As [`StoreAddress::parse`].
pub(super) fn folder_address(named: &Path) -> Result<StoreAddress> {
    match named.to_str() {
        Some(text) => StoreAddress::parse(text),
        None => Ok(StoreAddress::Local(named.to_owned())),
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

/// An option as it may be shown: without its value if that is a secret.
fn without_secret(pair: &str) -> String {
    let is_secret = |key: &str| ["secret", "token", "key", "password"].iter().any(|word| key.contains(word));
    match pair.split_once('=') {
        Some((key, _)) if is_secret(key) => format!("{key}=..."),
        _ => pair.to_owned(),
    }
}

/// Those of the environment, a list, and those of the command line, which win.
pub(super) fn options(from_environment: Option<&str>, given: &[String]) -> Result<StoreOptions> {
    let mut options = StoreOptions::new();
    options.add_list(from_environment.unwrap_or_default())?;
    given.iter().try_for_each(|pair| options.add_pair(pair))?;
    Ok(options)
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

    #[test]
    fn secrets_are_not_repeated_in_what_one_would_type() {
        assert_eq!(without_secret("region=a"), "region=a");
        assert_eq!(without_secret("secret-access-key=geheim"), "secret-access-key=...");
        assert_eq!(without_secret("session-token=geheim"), "session-token=...");
    }

    #[test]
    fn options_of_the_command_line_win_over_those_of_the_environment() {
        let options = options(Some("region=a,part-size=8MiB"), &["region=b".to_owned()]).unwrap();
        assert_eq!(options.text("region").unwrap(), Some("b"));
        assert_eq!(options.text("part-size").unwrap(), Some("8MiB"));
        assert_eq!(super::options(None, &["region".to_owned()]).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
