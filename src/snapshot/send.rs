//! One file of a snapshot on its way to the store: again under another name when an attempt fails (K2).
//!
//! After a failed attempt nothing of the file is kept in memory: it is read, or made, again, and must have the hash
//! it had before. So memory stays what one attempt takes, however long a store is down.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::broker::{Placement, PlacementRequest};
use super::handle::Trigger;
use super::local::{FileSource, Known, LocalFile};
use super::snapshotter::Snapshotter;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{ContentHash, SubtaskName, Uid, operator_folder, place_anew, subtask_folder};
use crate::metadata::{CheckpointKind, Encoding, FileEntry, FileIdentity, Location};
use crate::store::{Backoff, StorePath};
use crate::transfer::{READ_ONCE_BYTES, StagedUpload, hash_file, read_hashed, stage_file, upload_bytes, upload_file};

/// What is done with one file.
pub(super) enum Work {
    Private(LocalFile),
    Shared(LocalFile, Option<ContentHash>),
}

impl Work {
    /// Unknown for what is made on demand.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        let (Self::Private(file) | Self::Shared(file, _)) = self;
        match file.source {
            FileSource::Path { size_bytes, .. } => Some(size_bytes),
            FileSource::Made(_) => None,
        }
    }
}

/// What became of it.
pub(super) struct Outcome {
    pub(super) entry: FileEntry,
    pub(super) hashed: bool,
    pub(super) sent: bool,
}

/// A file's bytes, or how to get them.
enum Content {
    Bytes(Bytes),
    File(PathBuf),
    Staged(StagedUpload),
}

/// A content, and what is known of it.
struct Found {
    content: Content,
    size_bytes: u64,
    hash: ContentHash,
    /// Whether it was hashed just now.
    hashed: bool,
}

impl Snapshotter {
    pub(super) async fn perform(&self, trigger: &Trigger, work: Work) -> Result<Outcome> {
        match work {
            Work::Private(file) => self.send_private(trigger, file).await,
            Work::Shared(file, hash) => self.send_shared(trigger, file, hash).await,
        }
    }

    async fn send_private(&self, trigger: &Trigger, file: LocalFile) -> Result<Outcome> {
        let place = trigger.own_place(&self.subtask, &file)?;
        let mut below = place.clone();
        let mut backoff = self.retries.begin();
        let mut spent = Vec::new();
        let (size_bytes, hash) = loop {
            let target = trigger.folder.join(below.as_str())?;
            let error = match self.send_unplaced(&file.source, &target).await {
                Ok(sent) => break sent,
                Err(error) => error,
            };
            self.before_another(trigger, &mut backoff, error).await?;
            spent.push(target);
            below = place_anew(&place, Uid::random(&*self.env.randomness))?;
        };
        if trigger.kind == CheckpointKind::Savepoint && !spent.is_empty() {
            self.tidy_savepoint(&spent).await;
        }
        Ok(Outcome { entry: entry_of(file, Location::InCheckpoint(below), size_bytes, hash), hashed: true, sent: true })
    }

    async fn send_unplaced(&self, source: &FileSource, target: &StorePath) -> Result<(u64, ContentHash)> {
        let progress = &*self.options.progress;
        match source {
            FileSource::Path { path, size_bytes } => {
                let hash = upload_file(&*self.store, &self.env, path, *size_bytes, None, target, progress).await?;
                Ok((*size_bytes, hash))
            }
            FileSource::Made(make) => {
                let (bytes, hash) = self.make(make).await?;
                let size_bytes = bytes.len() as u64;
                upload_bytes(&*self.store, bytes, target, progress).await?;
                Ok((size_bytes, hash))
            }
        }
    }

    /// A savepoint is the user's, and no sweep comes there. What lands only after this stays, named by nothing.
    async fn tidy_savepoint(&self, spent: &[StorePath]) {
        for (path, answer) in spent.iter().zip(self.store.delete(spent).await) {
            if let Err(error) = answer {
                tracing::warn!(%path, %error, "a failed upload may lie in the savepoint's folder; nothing names it");
            }
        }
    }

    async fn send_shared(&self, trigger: &Trigger, file: LocalFile, hash: Option<ContentHash>) -> Result<Outcome> {
        let mut backoff = self.retries.begin();
        let Found { mut content, size_bytes, hash, hashed } = loop {
            match self.find_content(&file.source, hash).await {
                Ok(found) => break found,
                // Staging failed, under no name.
                Err(error) => self.before_another(trigger, &mut backoff, error).await?,
            }
        };
        let request = PlacementRequest {
            trigger: (trigger.epoch, trigger.generation, trigger.checkpoint),
            hash,
            size_bytes,
            kind: file.kind,
        };
        let (object, sent) = loop {
            let ticket = match self.broker.place(request).await? {
                Placement::Stored(object) => {
                    self.not_needed(content, &file.source).await;
                    break (object, false);
                }
                Placement::Upload(ticket) => ticket,
            };
            let object = ticket.object().clone();
            match self.send(content, size_bytes, hash, &object).await {
                Ok(()) => {
                    ticket.completed().await?;
                    break (object, true);
                }
                Err(error) => {
                    // Before the wait, not after it: whoever waits for the same content takes over at once, and the
                    // name stays a suspect of this checkpoint.
                    drop(ticket);
                    self.before_another(trigger, &mut backoff, error).await?;
                    content = self.content_again(&file.source, hash).await?;
                }
            }
        };
        Ok(Outcome { entry: entry_of(file, Location::InRoot(object), size_bytes, hash), hashed, sent })
    }

    /// The store has the content: done without sending it, if it was not sent already.
    async fn not_needed(&self, content: Content, source: &FileSource) {
        let progress = &*self.options.progress;
        match (content, source) {
            (Content::Staged(staged), _) => staged.abort(progress).await,
            (_, FileSource::Path { size_bytes, .. }) => {
                progress.advance(*size_bytes);
                progress.file_done();
            }
            // Its size was not among what was expected.
            (_, FileSource::Made(_)) => progress.file_done(),
        }
    }

    /// Waits before another attempt.
    ///
    /// # Errors
    /// `error`, if there is to be none; [`ErrorKind::Cancelled`] if the checkpoint was given up meanwhile.
    async fn before_another(&self, trigger: &Trigger, backoff: &mut Backoff, error: Error) -> Result<()> {
        backoff.after(error).await?;
        if self.is_given_up(trigger.checkpoint) {
            let message = "the checkpoint was given up while a failed upload waited to be sent again";
            return Err(Error::new(ErrorKind::Cancelled, "upload a snapshot", message).with_object(trigger.checkpoint));
        }
        Ok(())
    }

    /// The content and its hash. Reads small files once.
    async fn find_content(&self, source: &FileSource, hash: Option<ContentHash>) -> Result<Found> {
        match (source, hash) {
            (FileSource::Path { path, size_bytes }, Some(hash)) => {
                let content = Content::File(path.clone());
                Ok(Found { content, size_bytes: *size_bytes, hash, hashed: false })
            }
            (FileSource::Path { path, size_bytes }, None) if *size_bytes > READ_ONCE_BYTES => {
                let (hash, content) = match self.stage(path, *size_bytes).await? {
                    Some(staged) => (staged.hash(), Content::Staged(staged)),
                    None => (hash_file(&self.env, path, *size_bytes).await?, Content::File(path.clone())),
                };
                Ok(Found { content, size_bytes: *size_bytes, hash, hashed: true })
            }
            (FileSource::Path { path, size_bytes }, None) => {
                let (bytes, hash) = read_hashed(&self.env, path, *size_bytes).await?;
                Ok(Found { content: Content::Bytes(bytes), size_bytes: *size_bytes, hash, hashed: true })
            }
            (FileSource::Made(make), _) => {
                let (bytes, hash) = self.make(make).await?;
                let size_bytes = bytes.len() as u64;
                Ok(Found { content: Content::Bytes(bytes), size_bytes, hash, hashed: true })
            }
        }
    }

    /// The content for another attempt: what was staged is used up, and nothing was kept.
    async fn content_again(&self, source: &FileSource, hash: ContentHash) -> Result<Content> {
        match source {
            // Hashed as it is sent.
            FileSource::Path { path, .. } => Ok(Content::File(path.clone())),
            FileSource::Made(make) => match self.make(make).await? {
                (bytes, found) if found == hash => Ok(Content::Bytes(bytes)),
                _ => {
                    Err(Error::new(ErrorKind::Changed, "upload a snapshot", "what is made on demand was not the same"))
                }
            },
        }
    }

    async fn make(&self, make: &Arc<dyn Fn() -> Result<Bytes> + Send + Sync>) -> Result<(Bytes, ContentHash)> {
        let make = make.clone();
        self.env
            .blocking(move || {
                let bytes = make()?;
                let hash = ContentHash::of(&bytes);
                Ok((bytes, hash))
            })
            .await?
    }

    async fn send(&self, content: Content, size_bytes: u64, hash: ContentHash, object: &StorePath) -> Result<()> {
        let progress = &*self.options.progress;
        match content {
            Content::Bytes(bytes) => upload_bytes(&*self.store, bytes, object, progress).await,
            Content::Staged(staged) => staged.finish_as(object, progress).await,
            Content::File(path) => {
                upload_file(&*self.store, &self.env, &path, size_bytes, Some(hash), object, progress).await?;
                Ok(())
            }
        }
    }

    /// Sends a large file before its hash, and so its name, is known, where broker and store can do that.
    async fn stage(&self, path: &Path, size_bytes: u64) -> Result<Option<StagedUpload>> {
        let Some(folder) = self.broker.folder() else { return Ok(None) };
        stage_file(&*self.store, &self.env, path, size_bytes, &folder, &*self.options.progress).await
    }
}

impl Trigger {
    /// Where a file of the checkpoint's own goes, below the checkpoint's folder. The key groups of
    /// full checkpoints have folders of their own, whichever subtask wrote them.
    fn own_place(&self, subtask: &SubtaskName, file: &LocalFile) -> Result<StorePath> {
        if self.kind != CheckpointKind::Incremental && file.key_groups.is_some() {
            return StorePath::new(format!("{}/{}", operator_folder(&subtask.operator), file.local_name));
        }
        StorePath::new(format!("{}/{}", subtask_folder(subtask), file.local_name))
    }
}

fn entry_of(file: LocalFile, location: Location, size_bytes: u64, sha256: ContentHash) -> FileEntry {
    let identity: Option<FileIdentity> = match file.known {
        Known::Identity(identity) => Some(identity),
        Known::No | Known::UnchangedSince(_) => None,
    };
    FileEntry {
        local_name: file.local_name,
        kind: file.kind,
        location,
        offset_bytes: 0,
        stored_size_bytes: size_bytes,
        encoding: Encoding::Plain,
        size_bytes,
        sha256,
        key_groups: file.key_groups,
        table: file.table,
        identity,
    }
}
