//! From an object that is a file of this machine ([`crate::store::Store::open_file`]), in one pass of one thread:
//! every piece is hashed and written while it is still in that core's cache. The thread waits for nobody but
//! whoever shows the progress, who needs none.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use tokio::sync::mpsc;

use super::download::{Target, Unsynced};
use super::{Progress, StoredFile};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ContentHash;

/// How much is read, hashed and written at a time: what a core's own cache holds.
const PIECE_BYTES: usize = 256 << 10;
/// How many pieces may be done and not shown yet.
const PIECES_TO_SHOW: usize = 16;

/// Is told how many bytes are done.
type Shown = mpsc::Sender<u64>;

/// Copies `file` out of `source` and tells the hash of its bytes, which nobody has compared yet. `target` makes the
/// target, on the thread that writes it.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if the object is too short; io errors as they are.
pub(super) async fn copy_hashed(
    env: &Env,
    source: File,
    file: &StoredFile,
    target: impl FnOnce() -> Result<Target> + Send + 'static,
    progress: &dyn Progress,
) -> Result<(ContentHash, Unsynced)> {
    let (sender, mut receiver) = mpsc::channel::<u64>(PIECES_TO_SHOW);
    let file = file.clone();
    let copying = env.blocking(move || copy(source, &file, target()?, &sender));
    let showing = async {
        while let Some(bytes) = receiver.recv().await {
            progress.advance(bytes);
        }
    };
    futures::join!(copying, showing).0?
}

fn copy(mut source: File, file: &StoredFile, mut target: Target, done: &Shown) -> Result<(ContentHash, Unsynced)> {
    let failed = |error| Error::io("read object", &file.object, error);
    source.seek(SeekFrom::Start(file.offset_bytes)).map_err(failed)?;
    let mut buffer = Vec::with_capacity(PIECE_BYTES);
    let mut left_bytes = file.size_bytes;
    while left_bytes > 0 {
        buffer.clear();
        let wanted_bytes = left_bytes.min(PIECE_BYTES as u64);
        let got_bytes = (&mut source).take(wanted_bytes).read_to_end(&mut buffer).map_err(failed)? as u64;
        if got_bytes < wanted_bytes {
            let message = format!("it ends {} bytes early", left_bytes - got_bytes);
            return Err(Error::corrupt("read object", &file.object, message));
        }
        target = target.write(&buffer)?;
        left_bytes -= got_bytes;
        if done.blocking_send(got_bytes).is_err() {
            let error = Error::new(ErrorKind::Cancelled, "read object", "it was given up");
            return Err(error.with_object(&file.object));
        }
    }
    Ok(target.finish())
}
