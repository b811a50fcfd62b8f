//! An engine's own open database: the cut is one moment over all its column families, or it is refused.

#[path = "support/test_store.rs"]
mod test_store;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use icecore::ErrorKind;
use icecore::coordinator::{Acknowledged, Coordinator, CoordinatorOptions, OperatorDescription};
use icecore::env::Env;
use icecore::layout::{CheckpointId, JobId, OperatorId, SubtaskName};
use icecore::metadata::CheckpointKind;
use icecore::restore::{FetchOptions, RestorePlan, restore_folder};
use icecore::snapshot::{FileSource, SnapshotStats, Snapshotter, SnapshotterOptions};
use icecore::task::{Cut, freeze_database};
use rocksdb::{ColumnFamilyDescriptor, DB, MergeOperands, Options, WriteBatch, WriteOptions};

const WRITERS: u64 = 3;

/// Sums 8-byte numbers.
fn sum(_: &[u8], present: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let total = present.map_or(0, number) + operands.iter().map(number).sum::<u64>();
    Some(total.to_be_bytes().to_vec())
}

/// A database of two column families, `left` with a comparator of its own, `right` with a merge operator.
fn open(folder: &Path, atomic: bool) -> DB {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(atomic);
    let family = || {
        let mut options = Options::default();
        // So small that RocksDB flushes by itself, too.
        options.set_write_buffer_size(64 << 10);
        options
    };
    let (mut left, mut right) = (family(), family());
    left.set_comparator("test.reverse", Box::new(|a, b| b.cmp(a)));
    right.set_merge_operator_associative("test.sum", sum);
    let families = [ColumnFamilyDescriptor::new("left", left), ColumnFamilyDescriptor::new("right", right)];
    DB::open_cf_descriptors(&options, folder, families).unwrap()
}

/// The `n`th batch of a writer: the counter in both families, and something to fill the buffers.
fn write(db: &DB, writer: u64, n: u64, log: bool) {
    let (left, right) = (db.cf_handle("left").unwrap(), db.cf_handle("right").unwrap());
    let mut batch = WriteBatch::default();
    batch.put_cf(left, writer.to_be_bytes(), n.to_be_bytes());
    batch.merge_cf(right, writer.to_be_bytes(), 1_u64.to_be_bytes());
    batch.put_cf(left, [&writer.to_be_bytes()[..], &n.to_be_bytes()].concat(), [n as u8; 200]);
    let mut options = WriteOptions::default();
    options.disable_wal(!log);
    db.write_opt(batch, &options).unwrap();
}

fn counters(db: &DB, family: &str) -> Vec<u64> {
    let family = db.cf_handle(family).unwrap();
    let counter = |writer: u64| db.get_cf(family, writer.to_be_bytes()).unwrap();
    (0..WRITERS)
        .map(|writer| counter(writer).map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap())))
        .collect()
}

struct Job {
    folder: tempfile::TempDir,
    env: Env,
    coordinator: Coordinator,
    snapshotter: Snapshotter,
}

impl Job {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let env = Env::system().unwrap();
        let store = test_store::open_at(&test_store::fresh_address(folder.path()), &env);
        let operator = OperatorId::new("db").unwrap();
        let described = OperatorDescription { operator: operator.clone(), parallelism: 1, max_parallelism: 1 };
        let (job, options) = (JobId::new("own").unwrap(), CoordinatorOptions::default());
        let coordinator =
            Coordinator::start(store.clone(), job, vec![described], env.clone(), options, vec![]).await.unwrap();
        let (subtask, options) = (SubtaskName { operator, index: 0 }, SnapshotterOptions::default());
        let snapshotter = Snapshotter::new(subtask, store, env.clone(), coordinator.broker(), options);
        Self { folder, env, coordinator, snapshotter }
    }

    async fn checkpoint(&self, db: &DB, cut: Cut) -> icecore::Result<SnapshotStats> {
        let trigger = self.coordinator.trigger(CheckpointKind::Incremental).unwrap();
        let is_known = |identity: &_| self.snapshotter.knows(identity);
        let frozen = match freeze_database(db, cut, trigger.checkpoint, &is_known, &self.env) {
            Ok(frozen) => frozen,
            Err(error) => {
                self.coordinator.abort(trigger.checkpoint, "could not be frozen");
                return Err(error);
            }
        };
        let handle = self.snapshotter.upload(&trigger, frozen).await?;
        match self.coordinator.acknowledge(handle).await? {
            Acknowledged::Complete(folder, stats) => {
                self.snapshotter.notify_complete(folder.checkpoint);
                Ok(stats)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Restores the newest checkpoint into a new folder and opens it.
    async fn restored(&self, atomic: bool) -> (tempfile::TempDir, DB) {
        let latest = self.coordinator.latest().await.unwrap().unwrap();
        let plan = RestorePlan::new(&latest.metadata, &OperatorId::new("db").unwrap(), 0, 1).unwrap();
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let target = folder.path().join("db");
        restore_folder(&self.env, &latest, &plan.sources[0].files, &target, &FetchOptions::default()).await.unwrap();
        let db = open(&target, atomic);
        (folder, db)
    }
}

/// Many cuts under concurrent writers; every one of them has the same counters in both families.
async fn cuts_are_one_moment(log: bool, rounds: u32) {
    let job = Job::start().await;
    let db = Arc::new(open(&job.folder.path().join("live"), true));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (db, stop) = (db.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut n = 0;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    write(&db, writer, n, log);
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
            })
        })
        .collect();
    while counters(&db, "right").contains(&0) {
        tokio::task::yield_now().await;
    }
    let mut last = vec![0; WRITERS as usize];
    for round in 0..rounds {
        job.checkpoint(&db, Cut::AtomicFlush).await.unwrap();
        let after = counters(&db, "right");
        let (_folder, restored) = job.restored(true).await;
        let (left, right) = (counters(&restored, "left"), counters(&restored, "right"));
        assert_eq!(left, right, "round {round}: the families were cut at different points");
        for writer in 0..WRITERS as usize {
            assert!(
                last[writer] <= left[writer] && left[writer] <= after[writer],
                "round {round}: {last:?} {left:?} {after:?}"
            );
        }
        last = left;
    }
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_atomic_flush_and_a_log_the_cut_is_one_moment_under_concurrent_writers() {
    cuts_are_one_moment(true, 15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_atomic_flush_and_no_log_the_cut_is_one_moment_under_concurrent_writers() {
    cuts_are_one_moment(false, 15).await;
}

#[tokio::test]
async fn without_atomic_flush_several_families_are_refused() {
    let job = Job::start().await;
    let db = open(&job.folder.path().join("live"), false);
    write(&db, 0, 1, true);
    let error = job.checkpoint(&db, Cut::AtomicFlush).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.advice().unwrap().contains("atomic_flush"), "{error}");
}

/// What counts is how the database is open now, not how it once was.
#[tokio::test]
async fn a_database_that_had_atomic_flush_before_and_has_not_now_is_refused() {
    let job = Job::start().await;
    let folder = job.folder.path().join("live");
    drop(open(&folder, true));
    let db = open(&folder, false);
    assert_eq!(job.checkpoint(&db, Cut::AtomicFlush).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn one_family_needs_no_atomic_flush() {
    let job = Job::start().await;
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, job.folder.path().join("live")).unwrap();
    db.put("key", "value").unwrap();
    job.checkpoint(&db, Cut::AtomicFlush).await.unwrap();
}

#[tokio::test]
async fn with_writers_held_any_database_is_cut() {
    for log in [true, false] {
        let job = Job::start().await;
        let db = open(&job.folder.path().join("live"), false);
        for n in 1..=500 {
            (0..WRITERS).for_each(|writer| write(&db, writer, n, log));
        }
        job.checkpoint(&db, Cut::WritersHeld).await.unwrap();
        write(&db, 0, 501, log);
        let (_folder, restored) = job.restored(false).await;
        assert_eq!(counters(&restored, "left"), [500, 500, 500]);
        assert_eq!(counters(&restored, "right"), [500, 500, 500]);
    }
}

#[tokio::test]
async fn tables_that_did_not_change_are_not_sent_again() {
    let job = Job::start().await;
    let db = open(&job.folder.path().join("live"), true);
    for n in 1..=500 {
        write(&db, 0, n, true);
    }
    let first = job.checkpoint(&db, Cut::AtomicFlush).await.unwrap();
    let second = job.checkpoint(&db, Cut::AtomicFlush).await.unwrap();
    assert_eq!(first.uploaded_files, first.files);
    // Only CURRENT, MANIFEST, OPTIONS and the log, which are different every time.
    assert_eq!((second.hashed_files, second.uploaded_files), (4, 4), "{second:?}");
    assert!(second.shared_bytes > 0);
}

/// Beside the link may be another file system, on which RocksDB would copy the whole database each time.
#[tokio::test]
async fn a_database_behind_a_symbolic_link_is_linked_where_it_really_is() {
    let job = Job::start().await;
    let (real, link) = (job.folder.path().join("disk/live"), job.folder.path().join("live"));
    std::fs::create_dir_all(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let db = open(&link, true);
    write(&db, 0, 1, true);
    let frozen = freeze_database(&db, Cut::AtomicFlush, CheckpointId(1), &|_| false, &job.env).unwrap();
    let paths = frozen.files.iter().filter_map(|file| match &file.source {
        FileSource::Path { path, .. } => Some(path.canonicalize().unwrap()),
        FileSource::Made(_) => None,
    });
    let beside = real.canonicalize().unwrap().parent().unwrap().to_owned();
    let places: Vec<_> = paths.map(|path| path.ancestors().nth(2).unwrap().to_owned()).collect();
    assert!(!places.is_empty() && places.iter().all(|place| *place == beside), "{places:?}");
}

#[tokio::test]
async fn nothing_is_left_beside_the_database() {
    let job = Job::start().await;
    let db = open(&job.folder.path().join("live"), true);
    write(&db, 0, 1, true);
    job.checkpoint(&db, Cut::AtomicFlush).await.unwrap();
    let mut names: Vec<_> = std::fs::read_dir(job.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.retain(|name| name != "store");
    assert_eq!(names, ["live"]);
}
