//! From an address to a store: the one place that knows all kinds.

use std::sync::Arc;

use super::{LocalStore, StoreAddress, StoreOptions, StoreRef};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// Opens the store at `address`. Nothing is asked of a remote store yet: [`super::Store::probe`] finds out whether it
/// is there and lets us in.
///
/// What is not among the `options` comes from where users of each kind of store keep it, such as `AWS_REGION`
/// and `~/.aws/config` for S3 (`docs/stores.md`).
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for an option that the store does not know, or a value that it cannot use;
/// [`ErrorKind::Unsupported`] for a kind of store that this build lacks, with the feature that brings it.
pub fn open(address: &StoreAddress, options: &StoreOptions, env: Env) -> Result<StoreRef> {
    match address {
        StoreAddress::Local(folder) => {
            options.check_known(address, &[])?;
            Ok(Arc::new(LocalStore::open(folder, env)?))
        }
        StoreAddress::Memory => {
            options.check_known(address, &[])?;
            memory(env)
        }
        StoreAddress::S3 { bucket, prefix } => s3(bucket, prefix, options, env),
        StoreAddress::Hdfs { .. } => lacks(address, "hdfs"),
    }
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
        let error = open(&StoreAddress::parse("hdfs://host/x").unwrap(), &StoreOptions::new(), Env::system().unwrap())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("feature `hdfs`"), "{error}");
        #[cfg(not(feature = "s3"))]
        assert_eq!(kind_of("s3://bucket/x", ""), ErrorKind::Unsupported);
        #[cfg(not(feature = "memory"))]
        assert_eq!(kind_of("memory:", ""), ErrorKind::Unsupported);
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
    }
}
