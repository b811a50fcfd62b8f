//! From an object that is a file of this machine ([`Store::open_file`]) to a local file, in one pass of one thread:
//! every piece is hashed and written while it is still in that core's cache.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{CHUNKS_IN_FLIGHT, Progress, StoredFile};
use crate::env::Env;
use crate::error::{Error, Result};
use crate::layout::ContentHash;

/// How much is read, hashed and written at a time: what a core's own cache holds.
const PIECE_BYTES: usize = 256 << 10;

/// Copies `file` out of `source` into the new local file `target`, if there is one, and tells the hash of its bytes,
/// which nobody has compared yet. The target is synced.
///
/// # Errors
/// [`crate::ErrorKind::Corrupt`] if the object is too short; io errors as they are.
pub(super) async fn copy_hashed(
    env: &Env,
    source: File,
    file: &StoredFile,
    target: Option<&Path>,
    progress: &dyn Progress,
) -> Result<ContentHash> {
    let (sender, mut receiver) = mpsc::channel::<u64>(CHUNKS_IN_FLIGHT);
    let (file, target) = (file.clone(), target.map(Path::to_owned));
    let copying = env.blocking(move || copy(source, &file, target.as_deref(), &sender));
    let reporting = async {
        while let Some(bytes) = receiver.recv().await {
            progress.advance(bytes);
        }
    };
    futures::join!(copying, reporting).0?
}

fn copy(mut source: File, file: &StoredFile, target: Option<&Path>, done: &mpsc::Sender<u64>) -> Result<ContentHash> {
    let read_failed = |error| Error::io("read object", &file.object, error);
    source.seek(SeekFrom::Start(file.offset_bytes)).map_err(read_failed)?;
    let mut target = target.map(Target::create).transpose()?;
    let (mut hasher, mut buffer) = (Sha256::new(), Vec::with_capacity(PIECE_BYTES));
    let mut left_bytes = file.size_bytes;
    while left_bytes > 0 {
        buffer.clear();
        let wanted_bytes = left_bytes.min(PIECE_BYTES as u64);
        let got_bytes = (&mut source).take(wanted_bytes).read_to_end(&mut buffer).map_err(read_failed)? as u64;
        if got_bytes < wanted_bytes {
            let message = format!("it ends {} bytes early", left_bytes - got_bytes);
            return Err(Error::corrupt("read object", &file.object, message));
        }
        hasher.update(&buffer);
        if let Some(target) = &mut target {
            target.write(&buffer)?;
        }
        left_bytes -= got_bytes;
        // Nobody listens any more: the copy was given up.
        if done.blocking_send(got_bytes).is_err() {
            return Err(
                Error::new(crate::ErrorKind::Cancelled, "read object", "it was given up").with_object(&file.object)
            );
        }
    }
    if let Some(target) = target {
        target.sync()?;
    }
    Ok(ContentHash(hasher.finalize().into()))
}

struct Target<'a> {
    file: File,
    path: &'a Path,
}

impl<'a> Target<'a> {
    fn create(path: &'a Path) -> Result<Self> {
        let created = OpenOptions::new().write(true).create_new(true).open(path);
        let file = created.map_err(|error| Error::io("write file", path.display(), error))?;
        Ok(Self { file, path })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| Error::io("write file", self.path.display(), error))
    }

    fn sync(self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io("write file", self.path.display(), error))
    }
}
