//! The history of a job on its store: chunks `history/<epoch>-<number>`, each some lines of JSON, each written once.
//!
//! Every tenure writes chunks of its own. When there are too many, one that holds all that is remembered takes the place of
//! those that were read or written before it. Whatever cannot be read is passed over: nothing depends on it.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;

use super::history::{Entry, History};
use crate::coordinator::Coordinator;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::job::report::EventRecord;
use crate::layout::{Epoch, JobLayout, Place};
use crate::store::{StorePath, StoreRef};

/// What is new is written when there is so much of it, or after [`MAX_AGE`].
const MAX_UNSAVED: usize = 64;
/// How long something new may wait.
pub(super) const MAX_AGE: Duration = Duration::from_secs(10);
/// So many chunks are made one.
const MAX_CHUNKS: usize = 16;
/// The most chunks that are read.
const MAX_CHUNKS_READ: usize = 64;
/// How long that may take.
const READ_TIME: Duration = Duration::from_secs(5);
/// The most lines of a chunk that are read, and the longest of them, in bytes.
const MAX_LINES: usize = 2_000;
const MAX_LINE_BYTES: usize = 16 << 10;
/// The largest chunk that is read.
const MAX_CHUNK_BYTES: u64 = 4 << 20;

const READ: &str = "read a job's history";
const WRITE: &str = "write a job's history";

pub(super) struct Chronicle {
    store: StoreRef,
    layout: JobLayout,
    epoch: Epoch,
    /// Those whose content the history has, in their order.
    chunks: Vec<StorePath>,
    /// Those that others have taken the place of, and whose deletion was not confirmed.
    stale: Vec<StorePath>,
    next: u64,
}

impl Chronicle {
    /// Reads what earlier tenures have left into the history. A history that cannot be read keeps no job from running.
    pub(super) async fn open(coordinator: &Coordinator, history: &History, env: &Env) -> Self {
        let (store, layout) = (coordinator.store().clone(), coordinator.layout().clone());
        let mut this =
            Self { store, layout, epoch: coordinator.epoch(), chunks: Vec::new(), stale: Vec::new(), next: 1 };
        tokio::select! {
            recalled = this.recall(history) => {
                if let Err(error) = recalled {
                    tracing::warn!(%error, "the job's history could not be read");
                }
            }
            // The job's workers wait for this.
            () = env.runtime.sleep(READ_TIME) => tracing::warn!("the job's history could not be read in time"),
        }
        this
    }

    async fn recall(&mut self, history: &History) -> Result<()> {
        let mut found = Vec::new();
        let folder = self.layout.history()?;
        let mut objects = self.store.list(Some(&folder));
        while let Some(object) = objects.try_next().await? {
            if let Some(Place::History(written_by, number)) = Place::of(&self.layout, &object.path)
                && written_by < self.epoch
            {
                found.push((written_by, number, object));
            }
        }
        drop(objects);
        found.sort_unstable_by_key(|(written_by, number, _)| (*written_by, *number));
        for (_, _, object) in found.iter().skip(found.len().saturating_sub(MAX_CHUNKS_READ)) {
            match read_chunk(&self.store, &object.path, object.size_bytes).await {
                Ok(entries) => history.recall(entries),
                Err(error) => {
                    tracing::warn!(%error, "a part of the job's history is passed over");
                    // It may be read another time.
                    if error.kind() != ErrorKind::Corrupt {
                        continue;
                    }
                }
            }
            self.chunks.push(object.path.clone());
        }
        Ok(())
    }

    /// Whether something is to be written, apart from its age.
    pub(super) fn is_due(history: &History) -> bool {
        history.unsaved() >= MAX_UNSAVED
    }

    /// Writes what is new. What does not get to the store is tried again by the next call.
    ///
    /// # Errors
    /// What the store says.
    pub(super) async fn save(&mut self, history: &History) -> Result<()> {
        let unsaved = history.take_unsaved();
        if unsaved.is_empty() {
            return Ok(());
        }
        let is_whole = self.chunks.len() >= MAX_CHUNKS;
        let written = match is_whole {
            true => self.write(&history.all()).await,
            false => self.write(&unsaved).await,
        };
        let path = written.inspect_err(|_| history.give_back(unsaved))?;
        if is_whole {
            self.stale.append(&mut self.chunks);
            let gone = self.store.delete(&self.stale).await;
            let mut gone = gone.into_iter();
            self.stale.retain(|_| gone.next().is_none_or(|gone| gone.is_err()));
        }
        self.chunks.push(path);
        Ok(())
    }

    async fn write(&mut self, entries: &[Entry]) -> Result<StorePath> {
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, entry)
                .map_err(|error| Error::new(ErrorKind::Internal, WRITE, error.to_string()))?;
            text.push(b'\n');
        }
        let path = self.layout.history_chunk(self.epoch, self.next)?;
        // A name is written once, whatever became of it.
        self.next += 1;
        self.store.put(&path, Bytes::from(text)).await?;
        Ok(path)
    }
}

/// What happened to a job last, as far as its history on the store tells.
///
/// # Errors
/// What the store says of the listing, and of the newest part.
pub async fn last_event(store: &StoreRef, layout: &JobLayout) -> Result<Option<EventRecord>> {
    let folder = layout.history()?;
    let mut objects = store.list(Some(&folder));
    let mut newest = None;
    while let Some(object) = objects.try_next().await? {
        if let Some(Place::History(epoch, number)) = Place::of(layout, &object.path)
            && newest.as_ref().is_none_or(|(known, _)| *known < (epoch, number))
        {
            newest = Some(((epoch, number), object));
        }
    }
    drop(objects);
    let Some((_, chunk)) = newest else { return Ok(None) };
    let entries = read_chunk(store, &chunk.path, chunk.size_bytes).await?;
    Ok(entries.into_iter().rev().find_map(Entry::clipped_event))
}

async fn read_chunk(store: &StoreRef, path: &StorePath, size_bytes: u64) -> Result<Vec<Entry>> {
    if size_bytes > MAX_CHUNK_BYTES {
        return Err(Error::corrupt(READ, path, "it is too long"));
    }
    let bytes = store.read(path, 0..size_bytes).await?;
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line.len() <= MAX_LINE_BYTES);
    let entries: Vec<Entry> = lines.take(MAX_LINES).filter_map(|line| serde_json::from_slice(line).ok()).collect();
    match entries.is_empty() && size_bytes > 0 {
        true => Err(Error::corrupt(READ, path, "nothing in it can be read")),
        false => Ok(entries),
    }
}
