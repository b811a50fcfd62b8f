//! Workload W of `docs/performance.md`: keys of 8 bytes, values of 100 incompressible bytes, loaded once
//! and then updated round by round, on icecore's RocksDB backend, with an uploader behind it.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use icecore::env::Env;
use icecore::keygroup::MaxParallelism;
use icecore::layout::{CheckpointFolder, CheckpointId, Epoch, JobId, JobLayout, OperatorId, SubtaskName, Uid};
use icecore::metadata::{CheckpointKind, FileEntry, StateKind, StateSchema};
use icecore::registry::Registry;
use icecore::snapshot::{LocalSnapshot, RegistryBroker, Snapshotter, SnapshotterOptions, SubtaskHandle, Trigger};
use icecore::state::rocksdb::RocksDbOptions;
use icecore::state::{KeyedBackend as _, StateId};
use icecore::store::LocalStore;
use icecore::store::testing::CountingStore;
use icecore::task::RocksDbTask;
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
    pub task: RocksDbTask,
    state: StateId,
    keys: u64,
    random: ChaCha8Rng,
}

impl State {
    /// Must be called inside a tokio runtime. `uploader` will take the incremental checkpoints.
    pub fn create(folder: &Path, keys: u64, options: RocksDbOptions, uploader: &Uploader, seed: u64) -> Self {
        let max = MaxParallelism::new(128).unwrap();
        let snapshotter = Arc::clone(&uploader.snapshotter);
        let env = Env::system().unwrap();
        let mut task = RocksDbTask::new(folder, max, max.all_groups(), options, snapshotter, env).unwrap();
        let schema = StateSchema {
            name: "w".to_owned(),
            kind: StateKind::Value,
            key_serializer: "u64".to_owned(),
            value_serializer: "bytes".to_owned(),
        };
        let state = task.open_state(&schema).unwrap();
        Self { task, state, keys, random: ChaCha8Rng::seed_from_u64(seed) }
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
        let layout = self.task.layout();
        let group = layout.max_parallelism().key_group_of(&(key as i64));
        let row = layout.row_key(group, &key.to_be_bytes(), &[]);
        let mut value = [0; VALUE_BYTES as usize];
        self.random.fill_bytes(&mut value);
        self.task.put(self.state, &row, &value).unwrap();
    }

    /// The synchronous part of a snapshot.
    pub fn freeze(&mut self, trigger: &Trigger) -> LocalSnapshot {
        self.task.freeze(trigger).unwrap()
    }
}

/// The folder of hard links of the snapshot that is frozen now, beside the database in `folder/db`.
pub fn frozen_folder(folder: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(".db.cp-")).unwrap()
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
    snapshotter: Arc<Snapshotter>,
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
        let snapshotter = Arc::new(snapshotter);
        Self { root: root.to_path_buf(), store, kind, registry, layout, snapshotter, last: None }
    }

    /// The trigger of the next checkpoint.
    pub fn trigger(&self) -> Trigger {
        let folder = |checkpoint| CheckpointFolder { checkpoint, epoch: EPOCH };
        let checkpoint = CheckpointId(self.last.map_or(1, |last| last.0 + 1));
        Trigger {
            checkpoint,
            epoch: EPOCH,
            generation: 0,
            kind: self.kind,
            base: self.last.filter(|_| self.kind == CheckpointKind::Incremental).map(folder),
            distrusted: Arc::default(),
            folder: self.layout.checkpoint(folder(checkpoint)).unwrap(),
            triggered_at_unix_ms: 0,
        }
    }

    /// Uploads what was frozen for [`Self::trigger`]; the checkpoint completes.
    pub async fn upload(&mut self, snapshot: LocalSnapshot) -> Sent {
        let trigger = self.trigger();
        let checkpoint = trigger.checkpoint;
        self.store.reset();
        self.registry.begin_pending(checkpoint).unwrap();
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

fn folder(checkpoint: CheckpointId) -> CheckpointFolder {
    CheckpointFolder { checkpoint, epoch: EPOCH }
}

impl Sent {
    pub fn bytes(&self) -> u64 {
        self.shared_bytes + self.private_bytes
    }

    pub fn added(&self) -> &[FileEntry] {
        &self.handle.added
    }
}
