//! Reading and hashing a local file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::READ_ONCE_BYTES;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ContentHash;

/// How much is read and hashed at a time where nothing is sent: what a core's own cache holds.
const HASH_BYTES: usize = 256 << 10;

/// SHA-256 of the first `size_bytes` bytes of a file.
///
/// # Errors
/// [`ErrorKind::Changed`] if the file is shorter; io errors as they are.
pub async fn hash_file(env: &Env, path: &Path, size_bytes: u64) -> Result<ContentHash> {
    let path = path.to_owned();
    env.blocking(move || {
        let mut reader = Reader::open(&path, size_bytes)?;
        let mut hasher = Sha256::new();
        let mut buffer = Vec::new();
        while reader.fill(&mut buffer, HASH_BYTES)? {
            hasher.update(&buffer);
        }
        Ok(ContentHash(hasher.finalize().into()))
    })
    .await?
}

/// The first `size_bytes` bytes of a small file and their SHA-256, in one hop to a blocking thread.
///
/// # Errors
/// As [`hash_file`]; [`ErrorKind::LimitExceeded`] above [`READ_ONCE_BYTES`].
pub async fn read_hashed(env: &Env, path: &Path, size_bytes: u64) -> Result<(Bytes, ContentHash)> {
    let limit_bytes = usize::try_from(size_bytes).ok().filter(|_| size_bytes <= READ_ONCE_BYTES).ok_or_else(|| {
        Error::new(ErrorKind::LimitExceeded, "read file", format!("{size_bytes} bytes are not read in one piece"))
            .with_object(path.display())
    })?;
    let path = path.to_owned();
    env.blocking(move || {
        let mut bytes = Vec::new();
        Reader::open(&path, size_bytes)?.fill(&mut bytes, limit_bytes)?;
        let hash = ContentHash::of(&bytes);
        Ok((Bytes::from(bytes), hash))
    })
    .await?
}

/// Reads the first bytes of a file piece by piece, and insists that they are all there. Blocks.
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    size_bytes: u64,
    left_bytes: u64,
}

impl Reader {
    /// Opens the file at `path`, of which `size_bytes` bytes are wanted.
    pub(super) fn open(path: &Path, size_bytes: u64) -> Result<Self> {
        let file = File::open(path).map_err(|error| vanished(path, error))?;
        Ok(Self { file, path: path.to_owned(), size_bytes, left_bytes: size_bytes })
    }

    /// Replaces what is in `buffer` by the next `limit_bytes` bytes, or those that are left; false at the end.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>, limit_bytes: usize) -> Result<bool> {
        buffer.clear();
        if self.left_bytes == 0 {
            return Ok(false);
        }
        let wanted = usize::try_from(self.left_bytes).unwrap_or(limit_bytes).min(limit_bytes);
        buffer.reserve_exact(wanted);
        let got = self
            .file
            .by_ref()
            .take(wanted as u64)
            .read_to_end(buffer)
            .map_err(|error| Error::io("read file", self.path.display(), error))?;
        if got < wanted {
            let missing = self.left_bytes - got as u64;
            let message = format!("it ends {missing} bytes early: it was {} bytes long", self.size_bytes);
            return Err(Error::new(ErrorKind::Changed, "read file", message).with_object(self.path.display()));
        }
        self.left_bytes -= got as u64;
        Ok(true)
    }
}

/// A file that was listed a moment ago and is gone now was removed by whoever owns the folder.
fn vanished(path: &Path, error: std::io::Error) -> Error {
    let kind = error.kind();
    let error = Error::io("open file", PathBuf::from(path).display(), error);
    if kind == std::io::ErrorKind::NotFound { error.with_kind(ErrorKind::Changed) } else { error }
}
