//! Writing one object: a temporary file that is synced and then renamed to its name.
//!
//! Pieces are gathered into batches, and one batch is written in the background while the caller
//! prepares (reads, hashes) the next: one hop to a blocking thread per [`BATCH_BYTES`], and the disk
//! is busy while the caller computes. A writer holds two batches at most.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempPath;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::folders::Folders;
use super::resolve::write_error;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{ObjectWriter, StorePath, UnnamedWriter};

/// Pieces are gathered up to this many bytes before they go to a blocking thread.
const BATCH_BYTES: usize = 4 << 20;
/// A batch holds at most this many pieces, or tiny pieces would cost more memory than they carry.
const MAX_BATCH_PIECES: usize = 4096;

/// A file under its temporary name. Dropped without [`Unfinished::publish`], it goes, and with it
/// the folders that it leaves empty.
#[derive(Debug)]
pub(super) struct Unfinished {
    file: File,
    temporary: Option<TempPath>,
    target: PathBuf,
    object: StorePath,
    folders: Arc<Folders>,
    _permit: OwnedSemaphorePermit,
}

impl Unfinished {
    /// Makes the temporary file beside `target`, and the folders that are missing.
    pub(super) fn create(
        folders: Arc<Folders>,
        target: PathBuf,
        object: StorePath,
        name: &str,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self> {
        folders.check_sound("create an object")?;
        let folder = target.parent().unwrap_or(&folders.root);
        let mut created = folders.disk.create_temporary(folder, name);
        for _ in 0..super::MAX_CREATE_ATTEMPTS {
            match &created {
                // Also when a deleter pruned the folder right after we made it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                _ => break,
            }
            if let Err(error) = folders.make(folder) {
                return Err(write_error("create an object", &object, error));
            }
            created = folders.disk.create_temporary(folder, name);
        }
        let (file, temporary) = match created {
            Ok(created) => created,
            Err(error) => {
                // Such as a full disk: a folder may have been made for nothing.
                folders.prune(folder);
                return Err(write_error("create an object", &object, error));
            }
        };
        // Tells `remove_unfinished`, here and in other processes, that someone writes this file. No
        // safety rests on it, so a file system that has no locks may do without.
        let _ = file.try_lock();
        Ok(Self { file, temporary: Some(temporary), target, object, folders, _permit: permit })
    }

    /// Appends the pieces.
    pub(super) fn write(&mut self, pieces: &[Bytes]) -> Result<()> {
        for piece in pieces {
            self.folders
                .disk
                .write(&mut self.file, piece)
                .map_err(|error| write_error("write an object", &self.object, error))?;
        }
        Ok(())
    }

    /// Syncs the file, gives it its name, and makes the name durable. In this order: a name must
    /// never lead to bytes that a power cut can take away.
    pub(super) fn publish(mut self) -> Result<()> {
        self.folders.check_sound("finish an object")?;
        let Some(temporary) = self.temporary.as_ref() else {
            return Err(Error::new(ErrorKind::Internal, "finish an object", "it is finished already"));
        };
        let disk = &self.folders.disk;
        // Never tried again: a second sync of the same pages would succeed without writing them.
        disk.sync_file(&self.file, temporary).map_err(|error| write_error("sync an object", &self.object, error))?;
        disk.rename_to_unused(temporary, &self.target).map_err(|error| self.rename_error(error))?;
        if let Some(named) = self.temporary.take() {
            // From here on it is an object, and dropping us must not touch it.
            let _ = named.keep();
        }
        let folder = self.target.parent().unwrap_or(&self.folders.root);
        self.folders.sync_chain(folder).map_err(|error| {
            Error::new(error.kind(), "finish an object", error.to_string()).with_object(&self.object).with_source(error)
        })
    }

    /// Decides the name, which must be in the same folder. A name that is in use is refused by the rename, too.
    fn name(&mut self, path: &StorePath) -> Result<()> {
        self.target = super::unused_place(&self.folders.root, path, "finish an object")?;
        self.object = path.clone();
        Ok(())
    }

    fn rename_error(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::AlreadyExists => write_error("finish an object", &self.object, error)
                .with_advice("no name is ever written twice; another writer used this one"),
            io::ErrorKind::NotFound => Error::io("finish an object", &self.object, error)
                .with_kind(ErrorKind::Temporary)
                .with_advice("its temporary file was cleaned up as stale while the writer slept; write it again"),
            _ => write_error("finish an object", &self.object, error),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            drop(temporary);
            self.folders.prune(self.target.parent().unwrap_or(&self.folders.root));
        }
    }
}

/// Streams one object into a [`super::LocalStore`].
#[derive(Debug)]
pub(super) struct LocalWriter {
    env: Env,
    object: StorePath,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle(Unfinished),
    /// A batch is being written; the file comes back with the answer.
    Writing(oneshot::Receiver<Result<Unfinished>>),
    /// An error was answered, or a call was dropped half-way: bytes may be missing, so no `finish`
    /// may ever answer `Ok`.
    Poisoned,
}

impl LocalWriter {
    pub(super) fn new(env: Env, object: StorePath, unfinished: Unfinished) -> Self {
        Self { env, object, pending: Vec::new(), pending_bytes: 0, state: State::Idle(unfinished) }
    }

    /// Waits for the batch that is being written. The writer is poisoned until its state is put back.
    async fn settle(&mut self) -> Result<Unfinished> {
        match std::mem::replace(&mut self.state, State::Poisoned) {
            State::Idle(unfinished) => Ok(unfinished),
            State::Writing(answer) => answer.await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Internal, "write an object", "the background write was lost")
                    .with_object(&self.object))
            }),
            State::Poisoned => {
                Err(Error::new(ErrorKind::InvalidInput, "write an object", "an earlier call on this writer failed")
                    .with_object(&self.object))
            }
        }
    }

    async fn start_batch(&mut self) -> Result<()> {
        let mut unfinished = self.settle().await?;
        let pieces = self.take_pending();
        let (sender, receiver) = oneshot::channel();
        self.env.runtime.spawn_blocking(Box::new(move || {
            // When the receiver is gone the writer was dropped; what comes back is dropped here, on
            // a thread that may block, and its temporary file goes with it.
            let _ = sender.send(unfinished.write(&pieces).map(|()| unfinished));
        }));
        self.state = State::Writing(receiver);
        Ok(())
    }

    fn take_pending(&mut self) -> Vec<Bytes> {
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }
}

#[async_trait]
impl ObjectWriter for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if matches!(self.state, State::Poisoned) {
            return self.settle().await.map(drop);
        }
        self.pending_bytes = self.pending_bytes.saturating_add(bytes.len());
        self.pending.push(bytes);
        if self.pending_bytes >= BATCH_BYTES || self.pending.len() >= MAX_BATCH_PIECES {
            self.start_batch().await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        let mut unfinished = self.settle().await?;
        let pieces = self.take_pending();
        self.env
            .blocking(move || {
                unfinished.write(&pieces)?;
                unfinished.publish()
            })
            .await?
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        // A batch that failed has dropped its file already.
        if let Ok(unfinished) = self.settle().await {
            self.env.blocking(move || drop(unfinished)).await?;
        }
        Ok(())
    }
}

/// Streams one object whose name is said last. Its temporary file lies in the right folder from the
/// start, so giving it its name is the same rename.
#[derive(Debug)]
pub(super) struct LocalUnnamed {
    writer: LocalWriter,
    folder: StorePath,
}

impl LocalUnnamed {
    pub(super) fn new(writer: LocalWriter, folder: StorePath) -> Self {
        Self { writer, folder }
    }
}

#[async_trait]
impl ObjectWriter for LocalUnnamed {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.writer.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        Err(Error::new(ErrorKind::InvalidInput, "finish an object", "it has no name yet").with_object(&self.folder))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Box::new(self.writer).abort().await
    }
}

#[async_trait]
impl UnnamedWriter for LocalUnnamed {
    async fn finish_as(mut self: Box<Self>, path: &StorePath) -> Result<()> {
        if path.parent().as_ref() != Some(&self.folder) {
            let message = format!("it was begun in the folder {}", self.folder);
            return Err(Error::new(ErrorKind::InvalidInput, "finish an object", message).with_object(path));
        }
        let mut unfinished = self.writer.settle().await?;
        let (pieces, path) = (self.writer.take_pending(), path.clone());
        self.writer
            .env
            .blocking(move || {
                unfinished.name(&path)?;
                unfinished.write(&pieces)?;
                unfinished.publish()
            })
            .await?
    }
}
