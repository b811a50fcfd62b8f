//! A restored folder appears complete and verified, or not at all (I7): damage, a full disk, a kill.

mod state_model;
mod task_support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::StreamExt as _;
use icecore::ErrorKind;
use icecore::env::Env;
use icecore::layout::FileKind;
use icecore::metadata::{CheckpointKind, FileEntry, Location};
use icecore::restore::{
    Checkpoint, ExportReport, FetchOptions, RestorePlan, export_checkpoint, fetch_files, read_checkpoint,
    restore_folder, verify_checkpoint,
};
use icecore::store::testing::{Fault, FaultyStore, Rule, Step};
use icecore::store::{LocalStore, StorePath, StoreRef};
use icecore::task::RocksDbTask;
use icecore::transfer::{NoProgress, Progress, TransferLimits};
use task_support::test_store::{Damage, damage, is_local, is_memory, open_at, replace};
use task_support::{Cluster, Dice, Kind, operator, tiny};

/// A job with a checkpoint of many tables.
async fn checkpointed(kind: Kind) -> (Cluster, Checkpoint) {
    let mut cluster = Cluster::start(kind, 128, 1).await;
    let mut dice = Dice(31);
    for _ in 0..3 {
        for _ in 0..3_000 {
            cluster.apply(&dice.operation(2_000));
        }
        cluster.checkpoint(CheckpointKind::Incremental).await;
    }
    let latest = cluster.coordinator.latest().await.unwrap().unwrap();
    (cluster, latest)
}

/// Damages a file on the store; gives its object and the bytes that it had.
async fn damaged(cluster: &Cluster, checkpoint: &Checkpoint, file: &FileEntry, how: Damage) -> (StorePath, Vec<u8>) {
    let object = checkpoint.stored_file(file).unwrap().object;
    let sound = damage(&cluster.store, &object, how).await;
    (object, sound)
}

/// Restores into `db`, which must fail and leave nothing beside what was there.
async fn fails(cluster: &Cluster, checkpoint: &Checkpoint, parallelism: u32) -> icecore::Error {
    let parent = cluster.folder.path().join("restored");
    fs::create_dir_all(&parent).unwrap();
    let plan = RestorePlan::new(&checkpoint.metadata, &operator(), 0, parallelism).unwrap();
    let (snapshotter, env) = (cluster.snapshotter(0), cluster.env.clone());
    let target = parent.join("db");
    let outcome =
        RocksDbTask::restore(&plan, checkpoint, &target, tiny(), snapshotter, env, &FetchOptions::default()).await;
    let error = outcome.expect_err("a damaged checkpoint was restored");
    assert_eq!(fs::read_dir(&parent).unwrap().count(), 0, "something was left after: {error}");
    error
}

/// One file of each kind, empty ones left out.
fn one_of_each(checkpoint: &Checkpoint) -> BTreeMap<String, FileEntry> {
    // A log that nothing was written to has no byte to damage.
    let with_bytes = checkpoint.metadata.files().filter(|file| file.size_bytes > 0);
    with_bytes.map(|file| (format!("{:?}", file.kind), file.clone())).collect()
}

async fn each_kind_of_file(kind: CheckpointKind, expected_kinds: usize, how: Damage, says: &str) {
    let (mut cluster, mut checkpoint) = checkpointed(Kind::RocksDb).await;
    if kind == CheckpointKind::Savepoint {
        cluster.savepoint("sp").await;
        checkpoint = cluster.open_savepoint("sp").await;
    }
    let files = one_of_each(&checkpoint);
    assert_eq!(files.len(), expected_kinds, "{:?}", files.keys());
    for (kind, file) in files {
        let (object, sound) = damaged(&cluster, &checkpoint, &file, how).await;
        let error = fails(&cluster, &checkpoint, 1).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{kind}: {error}");
        assert!(error.message().contains(file.local_name.as_str()), "{kind}: {error}");
        assert!(error.message().contains(says), "{kind}: {error}");
        replace(&cluster.store, &object, sound).await;
    }
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn one_flipped_byte_in_any_kind_of_file_stops_the_restore() {
    // Table, MANIFEST, CURRENT, OPTIONS.
    each_kind_of_file(CheckpointKind::Incremental, 4, Damage::FlippedByte, "SHA-256").await;
}

#[tokio::test]
async fn what_was_changed_on_its_way_is_read_once_more() {
    for kind in [Kind::RocksDb, Kind::Heap] {
        let (mut cluster, checkpoint) = checkpointed(kind).await;
        let faulty = FaultyStore::new(cluster.store.clone());
        let on_faulty = Checkpoint { store: faulty.clone(), ..checkpoint.clone() };
        let object = checkpoint.stored_file(checkpoint.metadata.files().next().unwrap()).unwrap().object;
        let reads = Rule::on(Step::Read).path_contains(object.as_str());
        faulty.inject(reads, Fault::Flip { offset: 0 }).unwrap();
        let plan = RestorePlan::new(&checkpoint.metadata, &operator(), 0, 1).unwrap();
        cluster.restored_task(kind, &plan, &on_faulty).await.unwrap();
        assert_eq!(faulty.fired(), 1, "{kind:?}");
        faulty.inject(Rule::on(Step::Read).path_ends_with("_metadata"), Fault::Flip { offset: 20 }).unwrap();
        read_checkpoint(faulty.clone(), checkpoint.folder.clone()).await.unwrap();
        assert_eq!(faulty.fired(), 2, "{kind:?}");
    }
}

#[tokio::test]
async fn one_flipped_byte_in_a_savepoint_stops_the_restore() {
    each_kind_of_file(CheckpointKind::Savepoint, 2, Damage::FlippedByte, "SHA-256").await;
}

#[tokio::test]
async fn a_truncated_file_stops_the_restore() {
    each_kind_of_file(CheckpointKind::Savepoint, 2, Damage::OneByteLess, "").await;
}

#[tokio::test]
async fn a_missing_file_stops_the_restore() {
    each_kind_of_file(CheckpointKind::Savepoint, 2, Damage::Deleted, "").await;
}

#[tokio::test]
async fn all_damaged_files_are_named_not_only_the_first() {
    let (cluster, checkpoint) = checkpointed(Kind::RocksDb).await;
    let tables: Vec<_> = checkpoint.metadata.files().filter(|file| file.kind == FileKind::Sst).take(3).collect();
    for file in &tables {
        damaged(&cluster, &checkpoint, file, Damage::FlippedByte).await;
    }
    let error = fails(&cluster, &checkpoint, 1).await;
    for file in tables {
        assert!(error.message().contains(file.local_name.as_str()), "{error}");
    }
}

#[tokio::test]
async fn a_flipped_byte_in_a_heap_chunk_is_refused_by_name() {
    let (mut cluster, checkpoint) = checkpointed(Kind::Heap).await;
    let file = checkpoint.metadata.files().next().unwrap().clone();
    damaged(&cluster, &checkpoint, &file, Damage::FlippedByte).await;
    let plan = RestorePlan::new(&checkpoint.metadata, &operator(), 0, 1).unwrap();
    let error = cluster.restored_task(Kind::Heap, &plan, &checkpoint).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    let object = checkpoint.stored_file(&file).unwrap().object;
    assert_eq!(error.object(), Some(object.as_str()));
}

#[tokio::test]
async fn a_target_that_is_not_empty_is_left_alone() {
    let (cluster, checkpoint) = checkpointed(Kind::RocksDb).await;
    let target = cluster.folder.path().join("mine");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("notes.txt"), "keep me").unwrap();
    let plan = RestorePlan::new(&checkpoint.metadata, &operator(), 0, 1).unwrap();
    let (snapshotter, env) = (cluster.snapshotter(0), cluster.env.clone());
    cluster.counting.reset();
    let outcome =
        RocksDbTask::restore(&plan, &checkpoint, &target, tiny(), snapshotter, env, &FetchOptions::default()).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(target.join("notes.txt")).unwrap(), "keep me");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    assert_eq!(cluster.counting.traffic("").reads, 0, "it was fetched all the same");
}

struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, loudly, where mounting is not allowed.
    fn mount(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=100k", "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                eprintln!("SKIPPED: {test}: no file system can be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_restore_and_leaves_nothing() {
    let Some(disk) = SmallDisk::mount("a_full_disk_fails_the_restore_and_leaves_nothing") else { return };
    let (cluster, checkpoint) = checkpointed(Kind::RocksDb).await;
    let files: Vec<_> = checkpoint.metadata.files().cloned().collect();
    assert!(files.iter().map(|file| file.size_bytes).sum::<u64>() > 200_000, "too little to fill the disk");
    let target = disk.0.path().join("db");
    let error = restore_folder(&cluster.env, &checkpoint, &files, &target, &FetchOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert_eq!(fs::read_dir(disk.0.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn local_files_of_the_same_content_are_linked_and_others_fetched() {
    let (mut cluster, checkpoint) = checkpointed(Kind::RocksDb).await;
    let database = cluster.folder.path().join("task-1");
    cluster.tasks.clear();
    let files: Vec<_> = checkpoint.metadata.files().cloned().collect();
    let tables: Vec<_> = files.iter().filter(|file| file.kind == FileKind::Sst).collect();
    // One has other content of the same length, one is a symbolic link, one is gone.
    let local = |file: &FileEntry| database.join(file.local_name.as_str());
    let before = fs::metadata(local(tables[0])).unwrap();
    let copy = fs::read(local(tables[0])).unwrap();
    fs::remove_file(local(tables[0])).unwrap();
    fs::write(local(tables[0]), copy).unwrap();
    flip_a_byte(&local(tables[0]));
    assert_eq!(fs::metadata(local(tables[0])).unwrap().len(), before.len());
    fs::rename(local(tables[1]), database.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(database.join("elsewhere"), local(tables[1])).unwrap();
    fs::remove_file(local(tables[2])).unwrap();

    let target = cluster.folder.path().join("restored");
    let options = FetchOptions { local_folders: vec![database.clone()], ..FetchOptions::default() };
    let report = restore_folder(&cluster.env, &checkpoint, &files, &target, &options).await.unwrap();
    assert_eq!(report.linked_files as usize, tables.len() - 3);
    assert_eq!(report.fetched_files as usize, files.len() - tables.len() + 3);
    for (index, file) in tables.iter().enumerate() {
        let restored = fs::symlink_metadata(target.join(file.local_name.as_str())).unwrap();
        let is_linked = fs::metadata(local(file)).is_ok_and(|metadata| metadata.ino() == restored.ino());
        assert_eq!(is_linked, index >= 3, "{}", file.local_name);
        assert!(restored.is_file());
    }
    for file in &files {
        let content = fs::read(target.join(file.local_name.as_str())).unwrap();
        assert_eq!(icecore::layout::ContentHash::of(&content), file.sha256, "{}", file.local_name);
    }
}

#[tokio::test]
async fn store_and_databases_never_share_an_inode() {
    if !is_local() {
        return; // elsewhere there are none to share
    }
    let (mut cluster, _) = checkpointed(Kind::RocksDb).await;
    cluster.restart(Kind::RocksDb, 2).await;
    cluster.checkpoint(CheckpointKind::Incremental).await;
    cluster.savepoint("sp").await;
    fn inodes(folder: &Path, found: &mut Vec<(u64, PathBuf)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            match metadata.is_dir() {
                true => inodes(&path, found),
                false => found.push((metadata.ino(), path)),
            }
        }
    }
    let mut all = Vec::new();
    inodes(cluster.folder.path(), &mut all);
    let store = cluster.folder.path().join("store");
    let (stored, local): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, path)| path.starts_with(&store));
    assert!(!stored.is_empty() && !local.is_empty());
    for (inode, path) in local {
        let shared = stored.iter().find(|(other, _)| *other == inode);
        assert!(shared.is_none(), "{} is {}", path.display(), shared.unwrap().1.display());
    }
}

#[tokio::test]
async fn a_file_whose_metadata_lies_about_its_hash_is_refused() {
    let (cluster, checkpoint) = checkpointed(Kind::RocksDb).await;
    let mut files: Vec<_> = checkpoint.metadata.files().cloned().collect();
    // Two objects swapped: each is sound by itself.
    let tables: Vec<usize> = (0..files.len()).filter(|at| files[*at].kind == FileKind::Sst).take(2).collect();
    let other: Location = files[tables[0]].location.clone();
    files[tables[0]].location = files[tables[1]].location.clone();
    files[tables[1]].location = other;
    let folder = tempfile::tempdir().unwrap();
    let error =
        fetch_files(&cluster.env, &checkpoint, &files, folder.path(), &FetchOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

const ROOT_VARIABLE: &str = "ICECORE_TEST_RESTORE_ROOT";
const MIDDLE: &str = "in the middle of it";

/// Stops the restore for good after some files.
#[derive(Debug)]
struct StopsAfter(AtomicU64);

impl Progress for StopsAfter {
    fn expect(&self, _files: u64, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn file_done(&self) {
        if self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            println!("\n{MIDDLE}");
            std::thread::sleep(std::time::Duration::from_secs(600));
        }
    }
}

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child_that_restores_until_it_is_killed() {
    let Ok(root) = std::env::var(ROOT_VARIABLE) else { return };
    let root = PathBuf::from(root);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let env = Env::system().unwrap();
        let store = open_at(&fs::read_to_string(root.join("where")).unwrap(), &env);
        let folder = StorePath::new(fs::read_to_string(root.join("which")).unwrap()).unwrap();
        let checkpoint = read_checkpoint(store, Some(folder)).await.unwrap();
        let files: Vec<_> = checkpoint.metadata.files().cloned().collect();
        let progress = Arc::new(StopsAfter(AtomicU64::new(files.len() as u64 / 2)));
        let options = FetchOptions { progress, ..FetchOptions::default() };
        restore_folder(&env, &checkpoint, &files, &root.join("target/db"), &options).await.unwrap();
    });
}

#[tokio::test]
async fn a_restore_that_is_killed_leaves_no_target_and_can_be_repeated() {
    if is_memory() {
        return; // no other process sees it
    }
    let (cluster, checkpoint) = checkpointed(Kind::RocksDb).await;
    let root = cluster.folder.path();
    fs::write(root.join("where"), &cluster.address).unwrap();
    fs::write(root.join("which"), checkpoint.folder.as_ref().unwrap().as_str()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "child_that_restores_until_it_is_killed"])
        .env(ROOT_VARIABLE, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(MIDDLE)), "the child ended early");
    child.kill().unwrap();
    child.wait().unwrap();

    let target = root.join("target/db");
    let left: Vec<_> = fs::read_dir(root.join("target"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!target.exists());
    assert!(left.iter().all(|name| name.starts_with(".db.restoring-")) && left.len() == 1, "{left:?}");
    let files: Vec<_> = checkpoint.metadata.files().cloned().collect();
    restore_folder(&cluster.env, &checkpoint, &files, &target, &FetchOptions::default()).await.unwrap();
    assert!(target.join("CURRENT").exists());
}

async fn export(cluster: &Cluster, checkpoint: &Checkpoint, target: &StoreRef) -> icecore::Result<ExportReport> {
    export_checkpoint(&cluster.env, checkpoint, target, None, TransferLimits::default(), &NoProgress).await
}

/// An export that found its target empty and then stops, until `meanwhile` is done. Returns its error.
async fn loses_a_race(
    cluster: &Cluster,
    checkpoint: &Checkpoint,
    target: &StoreRef,
    meanwhile: impl AsyncFnOnce(),
) -> icecore::Error {
    let slow = FaultyStore::new(target.clone());
    let gate = slow.park(Rule::on(Step::Put).path_contains("operator-").always());
    let slow: StoreRef = slow;
    let winner = async {
        gate.reached().await;
        meanwhile().await;
        gate.release();
    };
    let (lost, ()) = tokio::join!(export(cluster, checkpoint, &slow), winner);
    lost.expect_err("two exports made one folder")
}

/// A store that keeps a name's first content, and, where it is compiled in, one that writes over it.
fn folders(cluster: &Cluster) -> Vec<StoreRef> {
    let local = LocalStore::open(&cluster.folder.path().join("kept"), cluster.env.clone()).unwrap();
    vec![
        Arc::new(local),
        #[cfg(feature = "memory")]
        Arc::new(icecore::store::OpendalStore::memory(cluster.env.clone()).unwrap()),
    ]
}

/// What was exported is sound, and nothing else lies there.
async fn assert_exported(cluster: &Cluster, target: &StoreRef) {
    let kept = read_checkpoint(target.clone(), None).await.unwrap();
    let report = verify_checkpoint(&cluster.env, &kept, true, TransferLimits::default(), &NoProgress).await.unwrap();
    assert!(report.is_sound(), "{:?}", report.damaged);
    let mut named: Vec<_> =
        kept.metadata.files().map(|file| kept.stored_file(file).unwrap().object.to_string()).collect();
    named.push("_metadata".to_owned());
    named.sort();
    let there: Vec<_> = target.list(None).map(|object| object.unwrap().path.to_string()).collect().await;
    assert_eq!(there, named);
}

#[tokio::test]
async fn an_export_into_a_folder_where_another_is_under_way_is_refused() {
    let (cluster, checkpoint) = checkpointed(Kind::Heap).await;
    for target in folders(&cluster) {
        let slow = FaultyStore::new(target.clone());
        let gate = slow.park(Rule::on(Step::Put).path_contains("operator-").always());
        let slow: StoreRef = slow;
        let other = async {
            gate.reached().await;
            let error = export(&cluster, &checkpoint, &target).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
            gate.release();
        };
        let (first, ()) = tokio::join!(export(&cluster, &checkpoint, &slow), other);
        first.unwrap();
        assert_exported(&cluster, &target).await;
    }
}

#[tokio::test]
async fn an_export_that_found_its_folder_empty_and_is_overtaken_leaves_the_other_alone() {
    let (cluster, checkpoint) = checkpointed(Kind::Heap).await;
    for target in folders(&cluster) {
        let slow = FaultyStore::new(target.clone());
        // It has looked, and its mark is not there yet.
        let gate = slow.park(Rule::on(Step::Put).path_contains("exporting-"));
        let slow: StoreRef = slow;
        let other = async {
            gate.reached().await;
            export(&cluster, &checkpoint, &target).await.unwrap();
            gate.release();
        };
        let (late, ()) = tokio::join!(export(&cluster, &checkpoint, &slow), other);
        assert_eq!(late.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_exported(&cluster, &target).await;
    }
}

#[tokio::test]
async fn an_export_that_fails_removes_its_own_copies_only() {
    let (cluster, checkpoint) = checkpointed(Kind::Heap).await;
    assert!(checkpoint.metadata.files().count() > 1);
    let folder = cluster.folder.path().join("kept");
    let target: StoreRef = Arc::new(LocalStore::open(&folder, cluster.env.clone()).unwrap());
    // Where one of the copies would go lies something else by now.
    export(&cluster, &checkpoint, &target).await.unwrap();
    let copied = read_checkpoint(target.clone(), None).await.unwrap();
    let place = copied.stored_file(copied.metadata.files().next().unwrap()).unwrap().object;
    fs::remove_dir_all(&folder).unwrap();
    let error = loses_a_race(&cluster, &checkpoint, &target, async || {
        target.put(&place, bytes::Bytes::from_static(b"mine")).await.unwrap();
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    assert_eq!(target.read(&place, 0..4).await.unwrap().as_ref(), b"mine");
    let left: Vec<_> = target.list(None).map(|object| object.unwrap().path).collect().await;
    assert_eq!(left, [place], "copies were left");
}

#[tokio::test]
async fn an_export_whose_copies_fail_for_a_while_is_whole_and_holds_nothing_else() {
    let (cluster, checkpoint) = checkpointed(Kind::Heap).await;
    for (name, fault) in
        [("lost", Fault::LoseAnswer(ErrorKind::Temporary)), ("down", Fault::Fail(ErrorKind::Unreachable))]
    {
        let folder = cluster.folder.path().join(name);
        let target: StoreRef = Arc::new(LocalStore::open(&folder, cluster.env.clone()).unwrap());
        let flaky = FaultyStore::new(target.clone());
        for step in [Step::Put, Step::Finish] {
            flaky.inject(Rule::on(step).path_contains("operator-").times(3), fault).unwrap();
        }
        export(&cluster, &checkpoint, &(flaky.clone() as StoreRef)).await.unwrap();
        assert!(flaky.fired() >= 3, "{name}");
        assert_exported(&cluster, &target).await;
    }
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_damage_and_the_rest_is_verified() {
    let (cluster, checkpoint) = checkpointed(Kind::RocksDb).await;
    let files = checkpoint.metadata.files().filter(|file| file.size_bytes > 0);
    let objects: Vec<StorePath> = files.map(|file| checkpoint.stored_file(file).unwrap().object).collect();
    assert!(objects.len() > icecore::restore::MAX_UNREADABLE_IN_A_ROW, "{}", objects.len());
    for kind in [ErrorKind::Temporary, ErrorKind::Io] {
        let faulty = FaultyStore::new(cluster.store.clone());
        faulty.inject(Rule::on(Step::Read).path_contains(objects[0].as_str()).always(), Fault::Fail(kind)).unwrap();
        let on_faulty = Checkpoint { store: faulty.clone(), ..checkpoint.clone() };
        let verify = async || {
            let limits = TransferLimits::default();
            verify_checkpoint(&cluster.env, &on_faulty, true, limits, &NoProgress).await
        };
        let report = verify().await.unwrap();
        let [damage] = &*report.damaged else { panic!("{:?}", report.damaged) };
        assert_eq!(damage.object, objects[0]);
        assert!(damage.reason.contains("cannot be read"), "{}", damage.reason);
        assert!(report.read_bytes > 0);
        // If nothing can be read, that says nothing about the objects.
        faulty.inject(Rule::on(Step::Read).always(), Fault::Fail(kind)).unwrap();
        assert_eq!(verify().await.unwrap_err().kind(), kind);
        // Nor if nothing answers at all.
        let gone = FaultyStore::new(cluster.store.clone());
        for step in [Step::Read, Step::Stat] {
            gone.inject(Rule::on(step).path_contains(objects[0].as_str()).always(), Fault::Fail(kind)).unwrap();
        }
        let on_gone = Checkpoint { store: gone, ..checkpoint.clone() };
        let limits = TransferLimits::default();
        let error = verify_checkpoint(&cluster.env, &on_gone, true, limits, &NoProgress).await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
}
