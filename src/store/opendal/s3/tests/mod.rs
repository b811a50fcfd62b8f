//! The S3 store against a service that answers as told. `tests/store_s3.rs` has the real one.

mod answers;
mod service;
mod uploads;

use std::sync::Arc;

use reqsign_core::StaticEnv;

use self::service::Service;
use super::*;

/// A store at this service, with short time limits, and more options.
fn store_at(endpoint: &str, more: &[(&str, &str)]) -> S3Store {
    let mut options = StoreOptions::new()
        .with("endpoint", endpoint)
        .with("access-key-id", "AKIATEST")
        .with("secret-access-key", "geheim")
        .with("part-size", "5MiB")
        .with("request-timeout", "500ms");
    for (key, value) in more {
        options = options.with(*key, *value);
    }
    S3Store::open_within("bucket", "a/prefix", &options, Env::system().unwrap(), Arc::new(StaticEnv::default()))
        .unwrap()
}

fn store(service: &Service) -> S3Store {
    store_at(service.endpoint(), &[])
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}
