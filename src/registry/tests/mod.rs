//! Tests of the registry, one behaviour each.

mod chain;
mod collect;
mod concurrency;
mod model;
mod uploads;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Registry, UploadDecision, UploadGuard, UploadWaiter};
use crate::layout::{CheckpointId, ContentHash, Epoch, FileKind, SharedName, Tag, Uid};

/// Every test file has this many bytes.
pub(super) const SIZE_BYTES: u64 = 100;

static UPLOADS: AtomicU64 = AtomicU64::new(0);

/// A tag that no test has used.
pub(super) fn fresh(checkpoint: u64) -> Tag {
    let upload = Uid(UPLOADS.fetch_add(1, Ordering::Relaxed));
    Tag { epoch: Epoch { counter: 1, uid: Uid(1) }, generation: 0, checkpoint: CheckpointId(checkpoint), upload }
}

pub(super) fn cp(id: u64) -> CheckpointId {
    CheckpointId(id)
}

pub(super) fn hash(content: &str) -> ContentHash {
    ContentHash::of(content.as_bytes())
}

pub(super) fn begin(registry: &Arc<Registry>, pending: u64, content: &str) -> UploadDecision {
    let tag = || fresh(pending);
    registry.begin_upload(cp(pending), hash(content), SIZE_BYTES, FileKind::Sst, tag).unwrap()
}

pub(super) fn expect_upload(decision: UploadDecision) -> UploadGuard {
    match decision {
        UploadDecision::Upload(guard) => guard,
        other => panic!("expected to upload, not {other:?}"),
    }
}

pub(super) fn expect_waiter(decision: UploadDecision) -> UploadWaiter {
    match decision {
        UploadDecision::InFlight(waiter) => waiter,
        other => panic!("expected to wait, not {other:?}"),
    }
}

pub(super) fn expect_stored(decision: UploadDecision) -> SharedName {
    match decision {
        UploadDecision::Stored(name) => name,
        other => panic!("expected a stored object, not {other:?}"),
    }
}

/// Stores `content` for `pending`, or finds it stored.
pub(super) fn store(registry: &Arc<Registry>, pending: u64, content: &str) -> SharedName {
    match begin(registry, pending, content) {
        UploadDecision::Stored(name) => name,
        UploadDecision::Upload(guard) => guard.complete().unwrap(),
        UploadDecision::InFlight(_) => panic!("in flight"),
    }
}

/// A whole checkpoint: begun, `contents` stored, registered as added, `removed`, finished.
pub(super) fn complete(
    registry: &Arc<Registry>,
    checkpoint: u64,
    contents: &[&str],
    removed: &[(SharedName, u64)],
) -> Vec<SharedName> {
    registry.begin_pending(cp(checkpoint)).unwrap();
    let names: Vec<SharedName> = contents.iter().map(|content| store(registry, checkpoint, content)).collect();
    let added = names.iter().map(|name| (*name, SIZE_BYTES));
    registry.register(cp(checkpoint), added, removed.iter().map(|(name, born)| (*name, cp(*born)))).unwrap();
    assert_eq!(registry.finish_pending(cp(checkpoint)).unwrap(), super::Unreferenced::default());
    names
}
