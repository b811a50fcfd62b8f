//! Hashing a local file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::CHUNK_BYTES;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ContentHash;

/// SHA-256 of the first `size_bytes` bytes of a file.
///
/// # Errors
/// [`ErrorKind::Changed`] if the file is shorter; io errors as they are.
pub async fn hash_file(env: &Env, path: &Path, size_bytes: u64) -> Result<ContentHash> {
    let path = path.to_owned();
    env.blocking(move || {
        let mut hasher = Sha256::new();
        read_chunks(&path, size_bytes, |chunk| {
            hasher.update(&chunk);
            Ok(())
        })?;
        Ok(ContentHash(hasher.finalize().into()))
    })
    .await?
}

/// The first `size_bytes` bytes of a file, which the caller knows to be few.
///
/// # Errors
/// As [`hash_file`].
pub async fn read_file(env: &Env, path: &Path, size_bytes: u64) -> Result<Bytes> {
    let path = path.to_owned();
    env.blocking(move || {
        let mut bytes = BytesMut::new();
        read_chunks(&path, size_bytes, |chunk| {
            bytes.extend_from_slice(&chunk);
            Ok(())
        })?;
        Ok(bytes.freeze())
    })
    .await?
}

/// Reads the first `size_bytes` bytes of a file and hands them on chunk by chunk. Blocks.
pub(super) fn read_chunks(path: &Path, size_bytes: u64, mut each: impl FnMut(Vec<u8>) -> Result<()>) -> Result<()> {
    let fail = |error| Error::io("read file", path.display(), error);
    let mut file = File::open(path).map_err(|error| vanished(path, error))?;
    let mut left = size_bytes;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let mut chunk = Vec::with_capacity(wanted);
        let got = file.by_ref().take(wanted as u64).read_to_end(&mut chunk).map_err(fail)?;
        if got < wanted {
            return Err(Error::new(
                ErrorKind::Changed,
                "read file",
                format!("it ends {} bytes early: it was {size_bytes} bytes long", left - got as u64),
            )
            .with_object(path.display()));
        }
        left -= got as u64;
        each(chunk)?;
    }
    Ok(())
}

/// A file that was listed a moment ago and is gone now was removed by whoever owns the folder.
fn vanished(path: &Path, error: std::io::Error) -> Error {
    let kind = error.kind();
    let error = Error::io("open file", PathBuf::from(path).display(), error);
    if kind == std::io::ErrorKind::NotFound { error.with_kind(ErrorKind::Changed) } else { error }
}
