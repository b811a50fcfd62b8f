//! Files, and icecore moving them to a store and back.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use icecore::env::Env;
use icecore::layout::{
    CheckpointFolder, CheckpointId, Epoch, FileKind, JobId, JobLayout, OperatorId, SubtaskName, Uid,
};
use icecore::metadata::{Backend, CheckpointKind, CheckpointMetadata, FileEntry};
use icecore::registry::Registry;
use icecore::restore::{Checkpoint, FetchOptions, restore_folder};
use icecore::snapshot::{
    FileSource, Known, LocalFile, LocalSnapshot, Placing, RegistryBroker, Snapshotter, SnapshotterOptions, Trigger,
};
use icecore::store::{StorePath, StoreRef};
use icecore::transfer::{SMALL_FILE_BYTES, TransferLimits};
use tokio::runtime::Runtime;

/// Files to move, by name.
pub struct Corpus {
    pub label: &'static str,
    pub folder: PathBuf,
    pub names: Vec<String>,
    pub file_bytes: usize,
}

impl Corpus {
    pub fn make(label: &'static str, folder: PathBuf, files: usize, file_bytes: usize) -> Self {
        fs::create_dir(&folder).unwrap();
        let mut names = Vec::new();
        for number in 0..files {
            let name = format!("{number:06}.sst");
            fs::write(folder.join(&name), super::noise(number as u64, file_bytes)).unwrap();
            names.push(name);
        }
        File::open(&folder).unwrap().sync_all().unwrap();
        Self { label, folder, names, file_bytes }
    }

    pub fn size_bytes(&self) -> usize {
        self.names.len() * self.file_bytes
    }

    /// How many of these files icecore moves at once.
    pub fn parallelism(&self) -> usize {
        let limits = TransferLimits::default();
        if self.file_bytes as u64 <= SMALL_FILE_BYTES { limits.small_parallelism } else { limits.parallelism }
    }
}

const EPOCH: Epoch = Epoch { counter: 1, uid: Uid(1) };

/// Uploads a corpus as a checkpoint of `job`, and says what it made of it.
pub fn upload(runtime: &Runtime, corpus: &Corpus, store: &StoreRef, job: &str) -> (Duration, Vec<FileEntry>) {
    runtime.block_on(async {
        let env = Env::system().unwrap();
        let layout = JobLayout::new(JobId::new(job).unwrap()).unwrap();
        let registry = Registry::new();
        registry.begin_pending(CheckpointId(1)).unwrap();
        let broker = Arc::new(RegistryBroker::new(registry, layout.clone(), env.clone()));
        let subtask = SubtaskName { operator: OperatorId::new("op").unwrap(), index: 0 };
        let limits = TransferLimits::default();
        let options = SnapshotterOptions { limits, ..SnapshotterOptions::default() };
        let snapshotter = Snapshotter::new(subtask, Arc::clone(store), env, broker, options);
        let snapshot = LocalSnapshot {
            backend: Backend::RocksDb,
            key_groups: None,
            states: Vec::new(),
            files: corpus.names.iter().map(|name| local_file(corpus, name)).collect(),
            prepare: None,
            sync_us: 0,
            beside_us: 0,
            hold: None,
        };
        let folder = CheckpointFolder { checkpoint: CheckpointId(1), epoch: EPOCH };
        let trigger = Trigger {
            checkpoint: CheckpointId(1),
            epoch: EPOCH,
            generation: 0,
            kind: CheckpointKind::Incremental,
            base: None,
            distrusted: Arc::default(),
            folder: layout.checkpoint(folder).unwrap(),
            triggered_at_unix_ms: 0,
        };
        let start = Instant::now();
        let handle = snapshotter.upload(&trigger, snapshot).await.unwrap();
        let time = start.elapsed();
        assert_eq!(handle.stats.uploaded_bytes, corpus.size_bytes() as u64);
        (time, handle.added)
    })
}

fn local_file(corpus: &Corpus, name: &str) -> LocalFile {
    LocalFile {
        local_name: StorePath::new(name).unwrap(),
        kind: FileKind::Sst,
        source: FileSource::Path { path: corpus.folder.join(name), size_bytes: corpus.file_bytes as u64 },
        placing: Placing::Shared,
        known: Known::No,
        key_groups: None,
        table: None,
    }
}

/// Restores what was uploaded into the folder `target`, and removes that again.
pub fn restore(runtime: &Runtime, store: &StoreRef, files: &[FileEntry], target: &Path) -> Duration {
    let (checkpoint, options) = (checkpoint(store), FetchOptions::default());
    let (files, folder) = (files.to_vec(), target.to_owned());
    let restoring = runtime.spawn(async move {
        let env = Env::system().unwrap();
        let start = Instant::now();
        restore_folder(&env, &checkpoint, &files, &folder, &options).await.unwrap();
        start.elapsed()
    });
    let time = runtime.block_on(restoring).unwrap();
    fs::remove_dir_all(target).unwrap();
    time
}

/// Removes what was uploaded from the store.
pub fn remove(runtime: &Runtime, store: &StoreRef, files: &[FileEntry]) {
    let checkpoint = checkpoint(store);
    let objects: Vec<_> = files.iter().map(|file| checkpoint.stored_file(file).unwrap().object).collect();
    let outcomes = runtime.block_on(store.delete(&objects));
    outcomes.into_iter().for_each(|outcome| outcome.unwrap());
}

fn checkpoint(store: &StoreRef) -> Checkpoint {
    let metadata = CheckpointMetadata {
        job: JobId::new("bench").unwrap(),
        checkpoint: CheckpointId(1),
        epoch: EPOCH,
        kind: CheckpointKind::Incremental,
        triggered_at_unix_ms: 0,
        max_parallelism: 128,
        writer: "bench".to_owned(),
        origin: None,
        operators: Vec::new(),
        sources: Vec::new(),
        properties: Default::default(),
    };
    Checkpoint { store: Arc::clone(store), folder: None, metadata: Arc::new(metadata) }
}
