//! Keyed state in memory, with its checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};

use super::full::{self, FULL_MANIFEST_NAME, FULL_STATE_NAME, FULL_TABLE_NAME};
use super::{checkpointed_task, chunk_files};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroupRange, MaxParallelism};
use crate::layout::{CheckpointFolder, CheckpointId};
use crate::metadata::{Backend, CheckpointKind, FileEntry};
use crate::restore::{Checkpoint, FetchOptions, RestorePlan, fetch_files, fetch_to_memory};
use crate::snapshot::{Hold, LocalSnapshot, MAX_REMEMBERED_CHECKPOINTS, Prepare, Snapshotter, Trigger};
use crate::state::heap::{Generation, HeapBackend, HeapRestore};
use crate::state::{KeyedBackend, delegate_keyed_backend};
use crate::store::StorePath;

const RESTORE: &str = "restore heap state";
/// Chunks up to this size are fetched into memory, greater ones into a temporary folder.
const MAX_CHUNK_IN_MEMORY_BYTES: u64 = 16 << 20;

/// A subtask that keeps its state in memory. It is a [`KeyedBackend`] itself: typed state is read and
/// written through a [`crate::state::typed::KeyContext`] over it.
#[derive(Debug)]
pub struct HeapTask {
    backend: HeapBackend,
    snapshotter: Arc<Snapshotter>,
    /// What was frozen for each checkpoint that a later one may build on.
    generations: BTreeMap<CheckpointFolder, Generation>,
    env: Env,
}

impl HeapTask {
    /// A task with empty state.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the range goes beyond the max parallelism.
    pub fn new(
        max_parallelism: MaxParallelism,
        key_groups: KeyGroupRange,
        snapshotter: Arc<Snapshotter>,
        env: Env,
    ) -> Result<Self> {
        let backend = HeapBackend::new(max_parallelism, key_groups)?;
        Ok(Self { backend, snapshotter, generations: BTreeMap::new(), env })
    }

    /// Restores a subtask from a checkpoint that a heap backend wrote, or from a full checkpoint or
    /// savepoint of either backend.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] naming what is damaged; [`ErrorKind::Unsupported`] for an incremental
    /// checkpoint of another backend, or for tables if RocksDB is not compiled in.
    pub async fn restore(
        plan: &RestorePlan,
        checkpoint: &Checkpoint,
        snapshotter: Arc<Snapshotter>,
        env: Env,
        options: &FetchOptions,
    ) -> Result<Self> {
        let (max_parallelism, range) = full::keyed(plan)?;
        let mut restore = HeapRestore::new(max_parallelism, range, &plan.states)?;
        let is_incremental = checkpoint.metadata.kind == CheckpointKind::Incremental;
        for source in &plan.sources {
            if is_incremental && source.backend != Backend::Heap {
                return Err(full::wrong_backend(plan, source.backend));
            }
            restore = add_source(restore, &source.files, checkpoint, &env, options).await?;
        }
        let mut generations = BTreeMap::new();
        // Only the very subtask whose files these are may build on them.
        if let (true, Some(source)) = (is_incremental, plan.unchanged_source()) {
            let folder = checkpoint.metadata.folder();
            snapshotter.remember(folder, source.files.iter().cloned());
            generations.insert(folder, Generation::RESTORED);
        }
        Ok(Self { backend: restore.finish()?, snapshotter, generations, env })
    }

    /// The state.
    pub fn backend(&mut self) -> &mut HeapBackend {
        &mut self.backend
    }

    /// The uploader: `task.snapshotter().upload(&trigger, frozen)` is the asynchronous part.
    pub fn snapshotter(&self) -> &Arc<Snapshotter> {
        &self.snapshotter
    }

    /// The synchronous part of a checkpoint: copies one pointer a state.
    ///
    /// # Errors
    /// For a full checkpoint or savepoint: what making a temporary folder fails with.
    pub fn freeze(&mut self, trigger: &Trigger) -> Result<LocalSnapshot> {
        let started = self.env.clock.monotonic();
        let snapshot = Arc::new(self.backend.snapshot());
        let elapsed = self.env.clock.monotonic().saturating_sub(started);
        let base = trigger.base.and_then(|base| Some((base, *self.generations.get(&base)?)));
        let mut hold = None;
        let prepare = if trigger.kind == CheckpointKind::Incremental {
            self.generations.insert(trigger.checkpoint_folder(), snapshot.generation());
            while self.generations.len() > MAX_REMEMBERED_CHECKPOINTS {
                self.generations.pop_first();
            }
            Prepare::new(move || chunk_files::incremental(&snapshot, base))
        } else {
            let folder = Arc::new(full::folder()?);
            hold = Some(Hold::new(folder.clone()));
            Prepare::new(move || full::prepare(&snapshot, (*folder).as_ref().map(tempfile::TempDir::path)))
        };
        Ok(LocalSnapshot {
            backend: Backend::Heap,
            key_groups: Some(self.backend.key_groups()),
            states: self.backend.states(),
            files: Vec::new(),
            prepare: Some(prepare),
            sync_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            beside_us: 0,
            hold,
        })
    }

    /// Hears that a checkpoint is complete. What no later one builds on is forgotten.
    pub fn notify_complete(&mut self, checkpoint: CheckpointId) {
        if self.generations.keys().any(|known| known.checkpoint == checkpoint) {
            self.generations.retain(|known, _| known.checkpoint >= checkpoint);
        }
        self.snapshotter.notify_complete(checkpoint);
    }

    /// Hears that a checkpoint was given up.
    pub fn notify_aborted(&mut self, checkpoint: CheckpointId) {
        self.generations.retain(|known, _| known.checkpoint != checkpoint);
        self.snapshotter.notify_aborted(checkpoint);
    }
}

checkpointed_task!(HeapTask {});

impl KeyedBackend for HeapTask {
    delegate_keyed_backend!(self => self.backend);
}

/// Takes in one earlier subtask's files: several are fetched at once, and taken in one by one.
async fn add_source(
    mut restore: HeapRestore,
    files: &[FileEntry],
    checkpoint: &Checkpoint,
    env: &Env,
    options: &FetchOptions,
) -> Result<HeapRestore> {
    let is_table = |file: &&FileEntry| matches!(file.local_name.file_name(), FULL_TABLE_NAME | FULL_MANIFEST_NAME);
    let (tables, chunks): (Vec<&FileEntry>, Vec<&FileEntry>) = files.iter().partition(is_table);
    let mut fetched = stream::iter(chunks)
        .map(|file| async move { Ok::<_, Error>((file, fetch_chunk(file, checkpoint, env, options).await?)) })
        .buffer_unordered(options.limits.parallelism.max(1))
        .boxed();
    while let Some((file, content)) = fetched.try_next().await? {
        let file = file.clone();
        restore = env
            .blocking(move || -> Result<HeapRestore> {
                let added = content.open().and_then(|content| add_chunks(&mut restore, content, &file));
                added.map_err(|error| error.with_object(&file.local_name))?;
                Ok(restore)
            })
            .await??;
    }
    drop(fetched);
    if tables.is_empty() {
        return Ok(restore);
    }
    let folder = tempfile::tempdir().map_err(|error| Error::local_io(RESTORE, "the temporary folder", error))?;
    let tables: Vec<FileEntry> = tables.into_iter().cloned().collect();
    fetch_files(env, checkpoint, &tables, folder.path(), options).await?;
    env.blocking(move || -> Result<HeapRestore> {
        full::read_tables(folder.path(), &mut |state, key, value| restore.add_row(state, key, value).map(|_| ()))?;
        Ok(restore)
    })
    .await?
}

/// A verified file: small ones in memory, others in a temporary folder.
enum Fetched {
    InMemory(Bytes),
    InFolder(tempfile::TempDir, StorePath),
}

impl Fetched {
    fn open(&self) -> Result<Box<dyn Read + '_>> {
        match self {
            Self::InMemory(bytes) => Ok(Box::new(&bytes[..])),
            Self::InFolder(folder, name) => {
                let path = folder.path().join(name.as_str());
                let file = fs::File::open(&path).map_err(|error| Error::local_io(RESTORE, path.display(), error))?;
                Ok(Box::new(file))
            }
        }
    }
}

async fn fetch_chunk(file: &FileEntry, checkpoint: &Checkpoint, env: &Env, options: &FetchOptions) -> Result<Fetched> {
    if file.size_bytes <= MAX_CHUNK_IN_MEMORY_BYTES {
        return Ok(Fetched::InMemory(fetch_to_memory(checkpoint, file, options).await?));
    }
    let folder = tempfile::tempdir().map_err(|error| Error::local_io(RESTORE, "the temporary folder", error))?;
    fetch_files(env, checkpoint, std::slice::from_ref(file), folder.path(), options).await?;
    Ok(Fetched::InFolder(folder, file.local_name.clone()))
}

fn add_chunks(restore: &mut HeapRestore, content: impl Read, file: &FileEntry) -> Result<()> {
    let is_pack = chunk_files::is_pack(file.local_name.file_name());
    let mut add = |chunk: &mut dyn Read| match restore.add_chunk(&mut *chunk)? {
        Some(_) => Ok(()),
        // Its neighbours in the pack are.
        None if is_pack => chunk_files::skip(chunk),
        None => {
            let message = "it is of a key group that was not asked for";
            Err(Error::new(ErrorKind::Corrupt, RESTORE, message))
        }
    };
    // A key group's file of a full checkpoint holds one a state.
    if is_pack || file.local_name.file_name() == FULL_STATE_NAME {
        chunk_files::split(content, &mut add)
    } else {
        add(&mut { content })
    }
}
