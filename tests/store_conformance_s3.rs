//! The S3 store keeps the contract, on a real server.
//!
//! `ICECORE_LONG=1` does so with an object of 1 GiB.

mod s3_support;
mod services;

use icecore::store::testing::conformance::{self, Options};

use s3_support::{options, store_at};

fn suite(test: &str) -> Options {
    // One folder deep, so that the longest names of the suite fit into a key.
    Options { folder: services::fresh_prefix(test), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_s3_store_keeps_the_contract() {
    let Some(s3) = services::shared_s3() else { return };
    let store = store_at(s3, "", &options(s3));
    let mut suite = suite("conformance");
    if std::env::var_os("ICECORE_LONG").is_some() {
        suite.large_object_bytes = 1 << 30;
    }
    conformance::run_with(&suite, || async { store.clone() }).await.assert_conforms();
}

#[tokio::test]
async fn the_s3_store_keeps_the_contract_on_one_thread_without_checksums() {
    let Some(s3) = services::shared_s3() else { return };
    let store = store_at(s3, "", &options(s3).with("checksum", "off").with("part-size", "5MiB"));
    let suite = Options { listed_objects: 200, ..suite("conformance-plain") };
    conformance::run_with(&suite, || async { store.clone() }).await.assert_conforms();
}
