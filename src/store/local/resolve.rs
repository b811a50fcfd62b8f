//! From a [`StorePath`] to a place on the disk, without leaving the root (I8).
//!
//! A `StorePath` cannot name anything outside the root, but a symbolic link inside the root can lead
//! there. icecore never makes one, so one that lies on the way is refused: not followed, not deleted.
//! (The root itself may be a link: that is its owner's choice.) This protects against what a copied
//! or planted folder contains, not against someone who swaps folders while we look; who can do that
//! can write the objects, too.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::store::StorePath;

const LINK_ADVICE: &str = "icecore makes no links; put what the link points to in its place, or remove the link";

/// What lies at a path.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A folder.
    Folder,
    /// An object.
    Object(Metadata),
}

/// The place of `path` under `root`, and what is there.
pub(super) fn resolve(root: &Path, path: &StorePath, operation: &'static str) -> Result<(PathBuf, Found)> {
    let mut place = root.to_path_buf();
    let mut found = Found::Folder;
    let mut components = path.as_str().split('/').peekable();
    while let Some(component) = components.next() {
        place.push(component);
        found = match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_dir() => Found::Folder,
            Ok(metadata) if metadata.is_file() => Found::Object(metadata),
            Ok(metadata) => return Err(not_ours(&metadata, operation, path)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Found::Nothing
            }
            Err(error) => return Err(Error::io(operation, path, error)),
        };
        if !matches!(found, Found::Folder) && components.peek().is_some() {
            found = Found::Nothing;
            place.extend(components);
            break;
        }
    }
    Ok((place, found))
}

/// The error for something that is neither a file nor a folder.
pub(super) fn not_ours(metadata: &Metadata, operation: &'static str, path: &StorePath) -> Error {
    let what = if metadata.is_symlink() { "a symbolic link" } else { "a device, pipe or socket" };
    Error::corrupt(operation, path, format!("{what} lies where a file or a folder is expected"))
        .with_advice(LINK_ADVICE)
}

/// An io error while something is written, with what a person can do about it.
pub(super) fn write_error(operation: &'static str, path: &StorePath, error: io::Error) -> Error {
    let occupied = error.kind() == io::ErrorKind::NotADirectory;
    let error = Error::io(operation, path, error);
    match error.kind() {
        ErrorKind::StorageFull => error.with_advice("free space (or raise the quota) where the store lies"),
        ErrorKind::PermissionDenied => error.with_advice("make the store's folder writable for this user"),
        _ if occupied => error
            .with_kind(ErrorKind::AlreadyExists)
            .with_advice("an object lies where a folder is needed; icecore never does that: look who wrote it"),
        _ => error,
    }
}
