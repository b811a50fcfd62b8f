//! Stores on the S3 server of the tests.
#![allow(dead_code)]

use icecore::env::Env;
use icecore::store::{StoreAddress, StoreOptions, StorePath, StoreRef, open};

use crate::services::S3Address;

/// What lets us in.
pub fn options(s3: &S3Address) -> StoreOptions {
    StoreOptions::new()
        .with("endpoint", s3.endpoint())
        .with("region", s3.region())
        .with("access-key-id", s3.access_key())
        .with("secret-access-key", s3.secret_key())
}

/// `s3://bucket/prefix` of the server.
pub fn url(s3: &S3Address, prefix: &str) -> String {
    format!("s3://{}/{prefix}", s3.bucket())
}

/// The store below `prefix`.
pub fn store_at(s3: &S3Address, prefix: &str, options: &StoreOptions) -> StoreRef {
    open(&StoreAddress::parse(&url(s3, prefix)).unwrap(), options, Env::system().unwrap()).unwrap()
}

pub fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}
