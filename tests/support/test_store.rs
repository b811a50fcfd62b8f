//! The store that a test runs on. `ICECORE_TEST_STORE` says which kind: `local` (the default), `memory`, `s3` or
//! `hdfs`. The two last need the server that `scripts/services run s3 -- cargo test ...` (or `hdfs`) starts.
#![allow(dead_code)]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use icecore::env::Env;
use icecore::store::{StoreAddress, StoreOptions, StorePath, StoreRef};

const VARIABLE: &str = "ICECORE_TEST_STORE";

/// Whether objects are files below the test's folder.
pub fn is_local() -> bool {
    kind() == "local"
}

/// Whether another process can open the same store.
pub fn is_memory() -> bool {
    kind() == "memory"
}

fn kind() -> String {
    std::env::var(VARIABLE).ok().filter(|kind| !kind.is_empty()).unwrap_or_else(|| "local".to_owned())
}

/// The address of a store that nobody used before: in `folder`, if it is a local one.
pub fn fresh_address(folder: &Path) -> String {
    match kind().as_str() {
        "local" => folder.join("store").to_str().unwrap().to_owned(),
        "memory" => "memory:".to_owned(),
        "s3" => format!("s3://{}/{}", server("ICECORE_TEST_S3_BUCKET"), fresh_name()),
        "hdfs" => format!("{}/{}", server("ICECORE_TEST_HDFS"), fresh_name()),
        other => panic!("{VARIABLE}={other}: it is local, memory, s3 or hdfs"),
    }
}

/// The store at such an address. Of a memory store, another one each time.
pub fn open_at(address: &str, env: &Env) -> StoreRef {
    let address = StoreAddress::parse(address).unwrap();
    icecore::store::open(&address, &options(&address), env.clone()).unwrap()
}

fn options(address: &StoreAddress) -> StoreOptions {
    pairs(address).into_iter().fold(StoreOptions::new(), |options, (key, value)| options.with(key, value))
}

/// The options of the store at such an address, as the command takes them in `ICECORE_STORE_OPTIONS`.
pub fn option_list(address: &str) -> String {
    let pairs = pairs(&StoreAddress::parse(address).unwrap());
    pairs.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// What lets us in.
fn pairs(address: &StoreAddress) -> Vec<(&'static str, String)> {
    let variables: &[(&'static str, &str)] = match address {
        StoreAddress::S3 { .. } => &[
            ("endpoint", "ICECORE_TEST_S3_ENDPOINT"),
            ("region", "ICECORE_TEST_S3_REGION"),
            ("access-key-id", "ICECORE_TEST_S3_ACCESS_KEY"),
            ("secret-access-key", "ICECORE_TEST_S3_SECRET_KEY"),
        ],
        StoreAddress::Hdfs { .. } => &[("configuration", "ICECORE_TEST_HDFS_CONFIGURATION")],
        _ => &[],
    };
    variables.iter().map(|(key, name)| (*key, server(name))).collect()
}

fn server(variable: &str) -> String {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("{VARIABLE}={}: no server; run it by scripts/services run {0} -- ...", kind()))
}

fn fresh_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    format!("test-{}-{since:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What happens to an object.
#[derive(Clone, Copy, Debug)]
pub enum Damage {
    FlippedByte,
    OneByteLess,
    CutInTheMiddle,
    Deleted,
}

/// Damages an object, as no store does by itself. Gives the bytes that it had.
pub async fn damage(store: &StoreRef, object: &StorePath, how: Damage) -> Vec<u8> {
    let size_bytes = store.stat(object).await.unwrap().size_bytes;
    let sound = store.read(object, 0..size_bytes).await.unwrap().to_vec();
    let mut bytes = sound.clone();
    let middle = bytes.len() / 2;
    match how {
        Damage::FlippedByte => bytes[middle] ^= 1,
        Damage::OneByteLess => bytes.truncate(sound.len() - 1),
        Damage::CutInTheMiddle => bytes.truncate(middle),
        Damage::Deleted => {}
    }
    match how {
        Damage::Deleted => store.delete(std::slice::from_ref(object)).await.remove(0).unwrap(),
        _ => replace(store, object, bytes).await,
    }
    sound
}

/// Gives an object other bytes.
pub async fn replace(store: &StoreRef, object: &StorePath, bytes: Vec<u8>) {
    store.delete(std::slice::from_ref(object)).await.remove(0).unwrap();
    store.put(object, bytes.into()).await.unwrap();
}
