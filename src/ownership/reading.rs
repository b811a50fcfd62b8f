//! Reading whole small objects and bounded listings (I8): no length is believed before it is checked.

use std::future::Future;

use bytes::Bytes;
use futures::StreamExt;

use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{CheckpointMetadata, ControlRecord, Format, decode};
use crate::store::{ObjectMeta, Store, StorePath};

/// Reads an object of at most `max_bytes` as a whole.
pub(super) async fn read_whole(store: &dyn Store, path: &StorePath, max_bytes: u64) -> Result<Bytes> {
    let size_bytes = store.stat(path).await?.size_bytes;
    if size_bytes > max_bytes {
        let message = format!("it has {size_bytes} bytes, over the limit of {max_bytes}");
        return Err(Error::new(ErrorKind::LimitExceeded, "read an object", message).with_object(path));
    }
    if size_bytes == 0 {
        return Ok(Bytes::new());
    }
    store.read(path, 0..size_bytes).await
}

/// Reads and decodes the `_metadata` at `path`. What it says of itself is not checked.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is none; [`ErrorKind::Corrupt`], [`ErrorKind::Unsupported`] or
/// [`ErrorKind::LimitExceeded`] if it cannot be believed.
pub(crate) async fn read_metadata(store: &dyn Store, path: &StorePath) -> Result<CheckpointMetadata> {
    let read = || async {
        let bytes = read_whole(store, path, Format::METADATA.max_object_bytes()).await?;
        decode(&bytes).map_err(|error| error.with_object(path))
    };
    proven(read, || Ok(())).await
}

/// What `read` reads, once more if that is corrupt: it may have been changed on its way. `clear` comes before the second time.
pub(crate) async fn proven<T, F: Future<Output = Result<T>>>(
    read: impl Fn() -> F,
    clear: impl FnOnce() -> Result<()>,
) -> Result<T> {
    match read().await {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::warn!(%error, "it is read once more");
            clear()?;
            read().await
        }
        done => done,
    }
}

/// Reads and decodes a control object.
pub(crate) async fn read_record<R: ControlRecord>(store: &dyn Store, path: &StorePath) -> Result<R> {
    let bytes = read_whole(store, path, R::FORMAT.max_object_bytes()).await?;
    R::decode(&bytes).map_err(|error| error.with_object(path))
}

/// Everything below `folder`, at most `max` objects of it.
pub(super) async fn list_bounded(store: &dyn Store, folder: &StorePath, max: usize) -> Result<Vec<ObjectMeta>> {
    let mut objects = Vec::new();
    let mut listing = store.list(Some(folder));
    while let Some(object) = listing.next().await {
        if objects.len() >= max {
            let message = format!("more than {max} objects lie there");
            return Err(Error::new(ErrorKind::LimitExceeded, "list a folder", message).with_object(folder));
        }
        objects.push(object?);
    }
    Ok(objects)
}

/// Whether an error says that the object is not there.
pub(super) fn is_missing(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
