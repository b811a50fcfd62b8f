//! Workload W of `docs/performance.md`: keys of 8 bytes, values of 100 incompressible bytes, loaded once
//! and then updated round by round, on icecore's RocksDB backend, with an uploader behind it.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use icecore::env::{Env, SystemClock};
use icecore::keygroup::MaxParallelism;
use icecore::layout::{
    CheckpointFolder, CheckpointId, Epoch, FileKind, JobId, JobLayout, OperatorId, SubtaskName, Uid,
};
use icecore::metadata::{Backend, CheckpointKind, FileEntry, StateKind, StateSchema};
use icecore::registry::Registry;
use icecore::rocksfolder::{FolderFile, RocksFolder};
use icecore::snapshot::{
    FileSource, Known, LocalFile, LocalSnapshot, Placing, RegistryBroker, Snapshotter, SnapshotterOptions,
    SubtaskHandle, Trigger,
};
use icecore::state::rocksdb::{CheckpointTimes, RocksDbBackend, RocksDbOptions};
use icecore::state::{KeyedBackend as _, StateId};
use icecore::store::testing::CountingStore;
use icecore::store::{LocalStore, StorePath};
use rand::{Rng as _, RngExt as _};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

pub const KEY_BYTES: u64 = 8;
pub const VALUE_BYTES: u64 = 100;
const EPOCH: Epoch = Epoch { counter: 1, uid: Uid(1) };

/// Which keys a round updates.
#[derive(Clone, Debug)]
pub enum Keys {
    Uniform,
    /// Cumulative weights of the ranks; ranks are scattered over the keys.
    Zipf(Vec<f64>),
}

impl Keys {
    /// Rank r has the weight r^-exponent.
    pub fn zipf(keys: u64, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulate = |rank: u64| {
            sum += (rank as f64).powf(-exponent);
            sum
        };
        Self::Zipf((1..=keys).map(cumulate).collect())
    }

    fn draw(&self, keys: u64, random: &mut ChaCha8Rng) -> u64 {
        match self {
            Self::Uniform => random.random_range(0..keys),
            Self::Zipf(weights) => {
                let point = random.random::<f64>() * weights.last().copied().unwrap_or_default();
                let rank = weights.partition_point(|weight| *weight < point) as u64;
                // An odd multiplier keeps ranks apart, modulo a power of two not below `keys`.
                scatter(rank.min(keys - 1), keys)
            }
        }
    }
}

/// A permutation of `0..keys` without pattern: multiply modulo a power of two, until it is below `keys`.
fn scatter(mut number: u64, keys: u64) -> u64 {
    let mask = keys.next_power_of_two() - 1;
    loop {
        number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x7f4a_7c15) & mask;
        if number < keys {
            return number;
        }
    }
}

/// The state, and what updates it.
pub struct State {
    pub backend: RocksDbBackend,
    state: StateId,
    keys: u64,
    random: ChaCha8Rng,
}

impl State {
    pub fn create(folder: &Path, keys: u64, options: RocksDbOptions, seed: u64) -> Self {
        let max = MaxParallelism::new(128).unwrap();
        let mut backend = RocksDbBackend::create(folder, max, max.all_groups(), options).unwrap();
        let schema = StateSchema {
            name: "w".to_owned(),
            kind: StateKind::Value,
            key_serializer: "u64".to_owned(),
            value_serializer: "bytes".to_owned(),
        };
        let state = backend.open_state(&schema).unwrap();
        Self { backend, state, keys, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    pub fn load(&mut self) {
        for key in 0..self.keys {
            self.put(key);
        }
    }

    pub fn update(&mut self, keys: &Keys, count: u64) {
        for _ in 0..count {
            let key = keys.draw(self.keys, &mut self.random);
            self.put(key);
        }
    }

    fn put(&mut self, key: u64) {
        let layout = self.backend.layout();
        let group = layout.max_parallelism().key_group_of(&(key as i64));
        let row = layout.row_key(group, &key.to_be_bytes(), &[]);
        let mut value = [0; VALUE_BYTES as usize];
        self.random.fill_bytes(&mut value);
        self.backend.put(self.state, &row, &value).unwrap();
    }

    /// The synchronous part of a snapshot.
    pub fn freeze(&self, folder: &Path) -> CheckpointTimes {
        self.backend.create_checkpoint(folder, &SystemClock::new()).unwrap()
    }
}

/// One frozen checkpoint folder, as a snapshot.
pub fn describe(folder: &Path, state: &State) -> LocalSnapshot {
    let read = RocksFolder::read(folder).unwrap();
    LocalSnapshot {
        backend: Backend::RocksDb,
        key_groups: Some(state.backend.key_groups()),
        states: state.backend.states(),
        files: read.files().iter().map(|file| local_file(folder, file)).collect(),
        sync_us: 0,
        hold: None,
    }
}

fn local_file(folder: &Path, file: &FolderFile) -> LocalFile {
    let path = folder.join(&file.name);
    let source = match file.content.clone() {
        Some(content) => FileSource::Made(Arc::new(move || Ok(content.clone().into()))),
        None => FileSource::Path { path, size_bytes: file.size_bytes },
    };
    let is_table = file.kind == FileKind::Sst;
    LocalFile {
        local_name: StorePath::new(&file.name).unwrap(),
        kind: file.kind,
        source,
        placing: if is_table { Placing::Shared } else { Placing::Private },
        known: file.identity.map_or(Known::No, Known::Identity),
        key_groups: None,
        table: file.table.clone(),
    }
}

/// The sizes of the table files in a folder, by name.
pub fn tables(folder: &Path) -> BTreeMap<String, u64> {
    sizes(folder).into_iter().filter(|(name, _)| name.ends_with(".sst")).collect()
}

/// The sizes of the files in a folder and below it, by path.
pub fn sizes(folder: &Path) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            sizes.extend(self::sizes(&entry.path()).into_iter().map(|(below, size)| (format!("{name}/{below}"), size)));
        } else {
            sizes.insert(name, entry.metadata().unwrap().len());
        }
    }
    sizes
}

/// Takes checkpoints of one kind into a store of its own that counts.
pub struct Uploader {
    pub root: PathBuf,
    pub store: Arc<CountingStore>,
    kind: CheckpointKind,
    registry: Arc<Registry>,
    layout: JobLayout,
    snapshotter: Snapshotter,
    last: Option<CheckpointId>,
}

/// What one checkpoint sent, by the store's count.
pub struct Sent {
    pub shared_bytes: u64,
    pub private_bytes: u64,
    pub handle: SubtaskHandle,
}

impl Uploader {
    /// Must be called, and used, inside a tokio runtime.
    pub fn new(root: &Path, kind: CheckpointKind) -> Self {
        let env = Env::system().unwrap();
        let store = CountingStore::new(Arc::new(LocalStore::open(root, env.clone()).unwrap()));
        let layout = JobLayout::new(JobId::new("w").unwrap()).unwrap();
        let registry = Registry::new();
        let broker = Arc::new(RegistryBroker::new(Arc::clone(&registry), layout.clone(), env.clone()));
        let subtask = SubtaskName { operator: OperatorId::new("op").unwrap(), index: 0 };
        let snapshotter = Snapshotter::new(subtask, store.clone(), env, broker, SnapshotterOptions::default());
        Self { root: root.to_path_buf(), store, kind, registry, layout, snapshotter, last: None }
    }

    /// Uploads a snapshot as the next checkpoint, which completes.
    pub async fn upload(&mut self, snapshot: LocalSnapshot) -> Sent {
        let checkpoint = CheckpointId(self.last.map_or(1, |last| last.0 + 1));
        self.store.reset();
        self.registry.begin_pending(checkpoint).unwrap();
        let trigger = Trigger {
            checkpoint,
            epoch: EPOCH,
            generation: 0,
            kind: self.kind,
            base: self.last.filter(|_| self.kind == CheckpointKind::Incremental),
            folder: self.layout.checkpoint(CheckpointFolder { checkpoint, epoch: EPOCH }).unwrap(),
            triggered_at_unix_ms: 0,
        };
        let handle = self.snapshotter.upload(&trigger, snapshot).await.unwrap();
        self.snapshotter.notify_complete(checkpoint);
        self.last = Some(checkpoint);
        let shared = self.store.traffic(self.layout.shared().unwrap().as_str()).written_bytes;
        let all = self.store.traffic("").written_bytes;
        Sent { shared_bytes: shared, private_bytes: all - shared, handle }
    }

    /// The shared objects that lie on the disk: name and content's size.
    pub fn objects(&self) -> BTreeMap<String, u64> {
        sizes(&self.root.join(self.layout.shared().unwrap().as_str()))
    }
}

impl Sent {
    pub fn bytes(&self) -> u64 {
        self.shared_bytes + self.private_bytes
    }

    pub fn added(&self) -> &[FileEntry] {
        &self.handle.added
    }
}

/// Milliseconds, for people.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
