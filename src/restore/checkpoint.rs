//! A checkpoint somewhere on a store: a job's, or a savepoint at the user's own path.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::layout::METADATA_NAME;
use crate::metadata::{CheckpointMetadata, Encoding, FileEntry, Location};
use crate::ownership::read_metadata;
use crate::store::{StorePath, StoreRef};
use crate::transfer::StoredFile;

/// One checkpoint, and how to reach its files.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The store it lies on.
    pub store: StoreRef,
    /// The folder of its `_metadata`; `None`: the store's root (a savepoint that was opened by its
    /// own path).
    pub folder: Option<StorePath>,
    /// What its `_metadata` says.
    pub metadata: Arc<CheckpointMetadata>,
}

impl Checkpoint {
    /// The object and hash of one of its files.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] if folder and name together are too long for a path;
    /// [`crate::ErrorKind::Unsupported`] for an encoding that this build does not know.
    pub fn stored_file(&self, entry: &FileEntry) -> Result<StoredFile> {
        let object = match (&entry.location, &self.folder) {
            (Location::InRoot(path), _) | (Location::InCheckpoint(path), None) => path.clone(),
            (Location::InCheckpoint(path), Some(folder)) => folder.join(path.as_str())?,
        };
        match entry.encoding {
            Encoding::Plain if entry.stored_size_bytes == entry.size_bytes => {}
            Encoding::Plain => {
                return Err(Error::corrupt("locate a file", &object, "a plain file has two different lengths"));
            }
        }
        Ok(StoredFile { object, offset_bytes: entry.offset_bytes, size_bytes: entry.size_bytes, sha256: entry.sha256 })
    }

    /// A name for messages, such as `checkpoint 12 of job a`.
    pub fn describe(&self) -> String {
        format!("checkpoint {} of job {}", self.metadata.checkpoint, self.metadata.job)
    }
}

/// Reads the checkpoint whose `_metadata` lies in `folder` (`None`: the store's root).
///
/// # Errors
/// [`crate::ErrorKind::NotFound`] if there is none; [`crate::ErrorKind::Corrupt`], [`crate::ErrorKind::Unsupported`] or
/// [`crate::ErrorKind::LimitExceeded`] if it cannot be believed.
pub async fn read_checkpoint(store: StoreRef, folder: Option<StorePath>) -> Result<Checkpoint> {
    let path = match &folder {
        Some(folder) => folder.join(METADATA_NAME)?,
        None => StorePath::new(METADATA_NAME)?,
    };
    let metadata = read_metadata(&*store, &path).await?;
    Ok(Checkpoint { store, folder, metadata: Arc::new(metadata) })
}
