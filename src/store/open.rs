//! From an address to a store: the one place that knows all kinds.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{
    LocalStore, OptionSpec, RateLimiter, RateLimits, RetryPolicy, RetryingStore, StoreAddress, StoreOptions, StoreRef,
};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// The options that every remote store has, whatever its kind.
pub const REMOTE_OPTIONS: &[OptionSpec] =
    &[OptionSpec { name: RETRY_FOR, meaning: "how long a failed request is tried again, 0s: never; 60s" }];

const RETRY_FOR: &str = "retry-for";
/// The bounds of `retry-for`.
const RETRY_FOR_BOUNDS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// Opens the store at `address`. Nothing is asked of a remote store yet: [`super::Store::probe`] finds out whether it
/// is there and lets us in. What may be repeated of the calls on a remote store is, by [`RetryPolicy::REQUESTS`] and
/// the option `retry-for`: see [`RetryingStore`].
///
/// What is not among the `options` comes from where users of each kind of store keep it, such as `AWS_REGION`
/// and `~/.aws/config` for S3 (`docs/stores.md`).
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for an option that the store does not know, or a value that it cannot use;
/// [`ErrorKind::Unsupported`] for a kind of store that this build lacks, with the feature that brings it.
pub fn open(address: &StoreAddress, options: &StoreOptions, env: Env) -> Result<StoreRef> {
    let unlimited = RateLimiter::new(RateLimits::default(), env.clone());
    open_limited(address, options, &unlimited, env)
}

/// As [`open`], for a store that is read and written within limits. What is sent twice counts twice.
///
/// # Errors
/// As [`open`].
pub fn open_limited(
    address: &StoreAddress,
    options: &StoreOptions,
    limiter: &RateLimiter,
    env: Env,
) -> Result<StoreRef> {
    match address {
        StoreAddress::Local(folder) => {
            options.check_known(address, &[])?;
            Ok(limiter.limit(Arc::new(LocalStore::open(folder, env)?)))
        }
        StoreAddress::Memory => {
            options.check_known(address, &[])?;
            Ok(limiter.limit(memory(env)?))
        }
        StoreAddress::S3 { bucket, prefix } => {
            repeated(limiter.limit(s3(bucket, prefix, options, env.clone())?), options, env)
        }
        StoreAddress::Hdfs { authority, prefix } => {
            repeated(limiter.limit(hdfs(authority, prefix, options, env.clone())?), options, env)
        }
    }
}

/// A store at the far end of a network, where much of what fails passes.
fn repeated(store: StoreRef, options: &StoreOptions, env: Env) -> Result<StoreRef> {
    let mut policy = RetryPolicy::REQUESTS;
    if let Some(retry_for) = options.duration(RETRY_FOR, RETRY_FOR_BOUNDS)? {
        policy = policy.giving_up_after(retry_for);
    }
    Ok(Arc::new(RetryingStore::new(store, policy, env)))
}

#[cfg(feature = "memory")]
fn memory(env: Env) -> Result<StoreRef> {
    Ok(Arc::new(super::OpendalStore::memory(env)?))
}

#[cfg(not(feature = "memory"))]
fn memory(_env: Env) -> Result<StoreRef> {
    lacks(&StoreAddress::Memory, "memory")
}

#[cfg(feature = "s3")]
fn s3(bucket: &str, prefix: &str, options: &StoreOptions, env: Env) -> Result<StoreRef> {
    Ok(Arc::new(super::S3Store::open(bucket, prefix, options, env)?))
}

#[cfg(not(feature = "s3"))]
fn s3(bucket: &str, prefix: &str, _options: &StoreOptions, _env: Env) -> Result<StoreRef> {
    lacks(&StoreAddress::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }, "s3")
}

#[cfg(feature = "hdfs")]
fn hdfs(authority: &str, prefix: &str, options: &StoreOptions, env: Env) -> Result<StoreRef> {
    let options = super::hdfs::HdfsOptions::from_pairs(options)?;
    Ok(Arc::new(super::HdfsStore::open(authority, prefix, options, env)?))
}

#[cfg(not(feature = "hdfs"))]
fn hdfs(authority: &str, prefix: &str, _options: &StoreOptions, _env: Env) -> Result<StoreRef> {
    lacks(&StoreAddress::Hdfs { authority: authority.to_owned(), prefix: prefix.to_owned() }, "hdfs")
}

#[cfg_attr(all(feature = "hdfs", feature = "memory", feature = "s3"), allow(dead_code, reason = "nothing is lacking"))]
fn lacks(address: &StoreAddress, feature: &str) -> Result<StoreRef> {
    Err(Error::new(ErrorKind::Unsupported, "open the store", "stores of this kind are not in this build")
        .with_object(address)
        .with_advice(format!("build icecore with the feature `{feature}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(address: &str, options: &str) -> ErrorKind {
        let mut pairs = StoreOptions::new();
        pairs.add_list(options).unwrap();
        open(&StoreAddress::parse(address).unwrap(), &pairs, Env::system().unwrap()).unwrap_err().kind()
    }

    #[tokio::test]
    async fn what_is_not_built_in_says_which_feature_brings_it() {
        for (feature, is_built_in, address) in [
            ("hdfs", cfg!(feature = "hdfs"), "hdfs://host:8020/x"),
            ("memory", cfg!(feature = "memory"), "memory:"),
            ("s3", cfg!(feature = "s3"), "s3://bucket/x"),
        ] {
            if is_built_in {
                continue;
            }
            let address = StoreAddress::parse(address).unwrap();
            let error = open(&address, &StoreOptions::new(), Env::system().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(&format!("feature `{feature}`")), "{error}");
        }
    }

    #[tokio::test]
    async fn folders_are_opened_and_have_no_options() {
        let folder = tempfile::tempdir().unwrap();
        let address = StoreAddress::parse(&format!("file://{}/a%20b", folder.path().display())).unwrap();
        let store = open(&address, &StoreOptions::new(), Env::system().unwrap()).unwrap();
        assert!(store.describe().contains("a b"), "{}", store.describe());
        assert_eq!(kind_of("folder", "region=x"), ErrorKind::InvalidInput);
    }

    #[cfg(feature = "memory")]
    #[tokio::test]
    async fn a_memory_store_has_no_options() {
        open(&StoreAddress::Memory, &StoreOptions::new(), Env::system().unwrap()).unwrap();
        assert_eq!(kind_of("memory:", "region=x"), ErrorKind::InvalidInput);
    }

    #[cfg(feature = "hdfs")]
    #[tokio::test]
    async fn an_hdfs_store_knows_its_options_and_no_others() {
        assert_eq!(kind_of("hdfs://host:8020/x", "replicaton=2"), ErrorKind::InvalidInput);
        assert_eq!(kind_of("hdfs://nameservice-of-nobody/x", ""), ErrorKind::InvalidInput);
        let options = StoreOptions::new().with("replication", "2").with("block-size", "64MiB");
        let address = StoreAddress::parse("hdfs://host:8020/x").unwrap();
        let store = open(&address, &options, Env::system().unwrap()).unwrap();
        assert_eq!(store.describe(), "hdfs://host:8020/x");
        let shown = format!("{store:?}");
        assert!(shown.starts_with("RetryingStore { inner: HdfsStore"), "{shown}");
    }

    #[cfg(feature = "s3")]
    #[tokio::test]
    async fn an_s3_store_knows_its_options_and_no_others() {
        assert_eq!(kind_of("s3://bucket/x", "regoin=x"), ErrorKind::InvalidInput);
        let options = StoreOptions::new()
            .with("region", "eu-west-1")
            .with("access-key-id", "AKIATEST")
            .with("secret-access-key", "geheim");
        let address = StoreAddress::parse("s3://bucket/x").unwrap();
        let store = open(&address, &options, Env::system().unwrap()).unwrap();
        assert_eq!(store.describe(), "s3://bucket/x");
        assert!(!format!("{store:?}").contains("geheim"));
        assert_eq!(kind_of("s3://bucket/x", "region=a,retry-for=2h"), ErrorKind::InvalidInput);
        open(&address, &options.with("retry-for", "0s"), Env::system().unwrap()).unwrap();
    }

    /// What is sent twice counts twice, and only what may fail on its way is sent twice.
    #[cfg(feature = "s3")]
    #[tokio::test]
    async fn calls_on_remote_stores_are_repeated_and_limits_lie_within_that() {
        let env = Env::system().unwrap();
        let upload_bytes_per_s = std::num::NonZeroU64::new(1);
        let limiter = RateLimiter::new(RateLimits { upload_bytes_per_s, ..RateLimits::default() }, env.clone());
        let opened = |address: &str, pairs: &str| {
            let mut options = StoreOptions::new();
            options.add_list(pairs).unwrap();
            let address = StoreAddress::parse(address).unwrap();
            let (limited, plain) =
                (open_limited(&address, &options, &limiter, env.clone()), open(&address, &options, env.clone()));
            [limited.unwrap(), plain.unwrap()].map(|store| format!("{store:?}"))
        };
        let [limited, plain] = opened("s3://bucket/x", "region=a,anonymous=true");
        assert!(limited.starts_with("RetryingStore { inner: RateLimitedStore { inner: S3Store"), "{limited}");
        assert!(plain.starts_with("RetryingStore { inner: S3Store"), "{plain}");
        let folder = tempfile::tempdir().unwrap();
        let [limited, plain] = opened(folder.path().to_str().unwrap(), "");
        assert!(limited.starts_with("RateLimitedStore { inner: LocalStore"), "{limited}");
        assert!(plain.starts_with("LocalStore"), "{plain}");
    }
}
