//! Does a store keep what it is given? The part of [`Store::probe`] that writes, the same for all remote stores.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::{ObjectMeta, Store, StorePath};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// Where probes write, below the store's root.
const FOLDER: &str = ".icecore-probe";
/// Objects of probes that are older were left by processes that crashed.
const STALE_AFTER: Duration = Duration::from_secs(3600);

/// Writes an object of a fresh name, reads, lists and deletes it; and with it what probes that crashed have left.
pub(super) async fn probe_change(store: &dyn Store, env: &Env) -> Result<()> {
    let folder = StorePath::new(FOLDER)?;
    let now_ms = env.clock.unix_time_ms();
    let path = folder.join(&format!("{now_ms}-{:016x}", env.randomness.next_u64()))?;
    let bytes = Bytes::from(format!("icecore looks whether it may write here: {path}"));
    let odd = |message: &str| {
        Error::new(ErrorKind::Io, "probe the store", message)
            .with_object(&path)
            .with_advice("check the store's address and options: what answers there does not keep what it is given")
    };
    store.put(&path, bytes.clone()).await?;
    if store.read(&path, 0..bytes.len() as u64).await? != bytes {
        return Err(odd("other bytes were read than were written"));
    }
    let listed: Vec<ObjectMeta> = store.list(Some(&folder)).try_collect().await?;
    if !listed.iter().any(|object| object.path == path) {
        return Err(odd("an object that was written is not listed"));
    }
    let mut gone = vec![path.clone()];
    gone.extend(listed.into_iter().map(|object| object.path).filter(|other| is_stale(other, now_ms)));
    store.delete(&gone).await.into_iter().collect()
}

/// Whether a probe that crashed left this; its name begins with the time.
fn is_stale(path: &StorePath, now_ms: u64) -> bool {
    let begun_ms = path.file_name().split('-').next().and_then(|text| text.parse::<u64>().ok());
    begun_ms.is_some_and(|begun_ms| now_ms.saturating_sub(begun_ms) > STALE_AFTER.as_millis() as u64)
}
