//! The memory store, and with it the door to OpenDAL, keeps the contract.

use std::sync::Arc;

use icecore::env::Env;
use icecore::store::testing::conformance;
use icecore::store::{OpendalStore, StoreRef};

#[tokio::test]
async fn the_memory_store_keeps_the_contract() {
    let store: StoreRef = Arc::new(OpendalStore::memory(Env::system().unwrap()).unwrap());
    conformance::run(|| async { store.clone() }).await.assert_conforms();
}

#[tokio::test]
async fn two_memory_stores_share_nothing_and_clones_share_all() {
    use icecore::store::{Store as _, StorePath};
    let one = OpendalStore::memory(Env::system().unwrap()).unwrap();
    let other = OpendalStore::memory(Env::system().unwrap()).unwrap();
    let path = StorePath::new("x").unwrap();
    one.put(&path, "x".into()).await.unwrap();
    assert!(one.clone().stat(&path).await.is_ok());
    assert!(other.stat(&path).await.is_err());
}
