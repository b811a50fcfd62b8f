//! The local store keeps the contract, alone and under the wrappers that tests put around it.
//!
//! `ICECORE_LONG=1` does so with an object of 1 GiB.

use std::sync::Arc;

use icecore::env::Env;
use icecore::store::testing::conformance::{self, Options};
use icecore::store::testing::{CountingStore, FaultyStore};
use icecore::store::{LocalStore, StoreRef};

fn local(folder: &tempfile::TempDir) -> StoreRef {
    Arc::new(LocalStore::open(&folder.path().join("root"), Env::system().unwrap()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_local_store_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    if std::env::var_os("ICECORE_LONG").is_some() {
        options.large_object_bytes = 1 << 30;
    }
    conformance::run_with(&options, || async { local(&folder) }).await.assert_conforms();
}

#[tokio::test]
async fn the_local_store_keeps_the_contract_on_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { listed_objects: 200, ..Options::default() };
    conformance::run_with(&options, || async { local(&folder) }).await.assert_conforms();
}

#[tokio::test]
async fn the_wrappers_for_tests_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let store: StoreRef = FaultyStore::new(CountingStore::new(local(&folder)));
    let options = Options { listed_objects: 200, ..Options::default() };
    conformance::run_with(&options, || async { store.clone() }).await.assert_conforms();
}
