//! What is synced, and in which order; and what a failing disk does to the store.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tempfile::{TempDir, TempPath};

use super::LocalStore;
use super::disk::{Disk, RealDisk};
use crate::env::Env;
use crate::error::ErrorKind;
use crate::store::{Store as _, StorePath};

/// Records every call as `verb path` (temporary names as `*`), and fails those it is told to.
#[derive(Debug)]
struct RecordingDisk {
    root: PathBuf,
    log: Mutex<Vec<String>>,
    failing: Mutex<Option<(&'static str, io::ErrorKind)>>,
    /// Somebody else, who prunes the folders above a file as soon as it is removed.
    is_pruned_at_once: AtomicBool,
}

impl RecordingDisk {
    fn call(&self, verb: &'static str, path: &Path) -> io::Result<()> {
        let below = path.strip_prefix(&self.root).map_or_else(|_| "..".into(), |path| path.display().to_string());
        let name = match below.split_once(".tmp-") {
            Some((folder, _)) => format!("{folder}*"),
            None => below,
        };
        self.log.lock().push(format!("{verb} {name}").trim_end().to_owned());
        match *self.failing.lock() {
            Some((failing, kind)) if failing == verb => Err(io::Error::from(kind)),
            _ => Ok(()),
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }
}

impl Disk for RecordingDisk {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.make_folder(folder)?;
        self.call("mkdir", folder)
    }
    fn create_temporary(&self, folder: &Path, name: &str) -> io::Result<(File, TempPath)> {
        let created = RealDisk.create_temporary(folder, name)?;
        self.call("create", &created.1)?;
        Ok(created)
    }
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.call("write", &self.root)?;
        RealDisk.write(file, bytes)
    }
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.call("fsync", path)?;
        RealDisk.sync_file(file, path)
    }
    fn rename_to_unused(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename_to_unused(from, to)?;
        self.call("rename", to)
    }
    fn sync_folder(&self, open: &File, folder: &Path) -> io::Result<()> {
        self.call("fsync-folder", folder)?;
        RealDisk.sync_folder(open, folder)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call("unlink", path)?;
        RealDisk.remove_file(path)?;
        let above = path.ancestors().skip(1).take_while(|above| *above != self.root);
        if self.is_pruned_at_once.load(Ordering::Relaxed) {
            above.for_each(|above| std::fs::remove_dir(above).unwrap());
        }
        Ok(())
    }
    fn remove_empty_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.remove_empty_folder(folder)?;
        self.call("rmdir", folder)
    }
}

struct Bench {
    _folder: TempDir,
    root: PathBuf,
    disk: Arc<RecordingDisk>,
    store: LocalStore,
}

/// A store whose root is missing, in a folder of its own.
fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let (log, failing, is_pruned_at_once) = Default::default();
    let disk = Arc::new(RecordingDisk { root: root.clone(), log, failing, is_pruned_at_once });
    let store = LocalStore::open_on(&root, Env::system().unwrap(), Arc::clone(&disk) as Arc<dyn Disk>).unwrap();
    Bench { _folder: folder, root, disk, store }
}

impl Bench {
    async fn put(&self, name: &str) -> crate::Result<()> {
        self.store.put(&path(name), Bytes::from_static(b"bytes")).await
    }

    fn fail(&self, verb: &'static str, kind: io::ErrorKind) {
        *self.disk.failing.lock() = Some((verb, kind));
    }

    fn heal(&self) {
        *self.disk.failing.lock() = None;
        self.disk.take();
    }

    fn files(&self) -> Vec<String> {
        fn below(folder: &Path, all: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let place = entry.unwrap().path();
                all.push(place.display().to_string());
                below(&place, all);
            }
        }
        let mut all = Vec::new();
        below(&self.root, &mut all);
        all
    }
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

#[tokio::test]
async fn an_object_is_synced_before_it_is_named_and_every_new_entry_after() {
    let bench = bench();
    bench.put("a/b/x").await.unwrap();
    let log = bench.disk.take();
    assert_eq!(
        log,
        [
            "mkdir",
            "mkdir a",
            "mkdir a/b",
            "create a/b/*",
            "write",
            "fsync a/b/*",
            "rename a/b/x",
            "fsync-folder a/b",
            "fsync-folder a",
            "fsync-folder",
            "fsync-folder ..",
        ]
    );
}

#[tokio::test]
async fn a_known_folder_costs_one_sync_and_a_new_sibling_two() {
    let bench = bench();
    bench.put("a/b/x").await.unwrap();
    bench.disk.take();
    bench.put("a/b/y").await.unwrap();
    assert_eq!(bench.disk.take().iter().filter(|call| call.starts_with("fsync-folder")).count(), 1);
    bench.put("a/c/y").await.unwrap();
    let syncs: Vec<_> = bench.disk.take().into_iter().filter(|call| call.starts_with("fsync-folder")).collect();
    assert_eq!(syncs, ["fsync-folder a/c", "fsync-folder a"]);
}

#[tokio::test]
async fn a_folder_that_another_process_made_anew_is_synced_anew() {
    let bench = bench();
    bench.put("a/x").await.unwrap();
    std::fs::remove_dir_all(bench.root.join("a")).unwrap();
    std::fs::create_dir(bench.root.join("a")).unwrap();
    bench.disk.take();
    bench.put("a/y").await.unwrap();
    let log = bench.disk.take();
    assert!(log.contains(&"fsync-folder".to_owned()), "the entry of `a` in the root was not synced: {log:?}");
}

#[tokio::test]
async fn a_failed_sync_of_a_file_is_not_retried_and_leaves_nothing() {
    let bench = bench();
    bench.fail("fsync", io::ErrorKind::Other);
    let mut writer = bench.store.create(&path("a/x")).await.unwrap();
    writer.write(Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(writer.finish().await.unwrap_err().object(), Some("a/x"));
    let log = bench.disk.take();
    assert_eq!(log.iter().filter(|call| call.starts_with("fsync")).count(), 1, "{log:?}");
    assert!(!log.iter().any(|call| call.starts_with("rename")), "named without a sync: {log:?}");
    assert!(bench.files().is_empty(), "{:?}", bench.files());
    bench.heal();
    bench.put("a/x").await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_of_a_folder_ends_all_writing() {
    let bench = bench();
    bench.put("a/x").await.unwrap();
    let begun = bench.store.create(&path("b/begun")).await.unwrap();
    bench.fail("fsync-folder", io::ErrorKind::Other);
    assert!(!bench.put("a/y").await.unwrap_err().is_retryable());
    bench.heal();
    assert_eq!(bench.put("a/z").await.unwrap_err().kind(), ErrorKind::Io);
    assert!(bench.store.create(&path("c")).await.is_err());
    assert!(begun.finish().await.is_err(), "a writer that had begun went on");
    assert!(bench.store.delete(&[path("a/x")]).await.remove(0).is_err());
    assert_eq!(bench.disk.take(), ["rmdir b"]);
    bench.store.read(&path("a/x"), 0..5).await.unwrap();
    let anew = LocalStore::open(&bench.root, Env::system().unwrap()).unwrap();
    anew.put(&path("a/z"), Bytes::new()).await.unwrap();
}

#[tokio::test]
async fn an_interrupted_sync_of_a_folder_is_not_called_retryable() {
    let bench = bench();
    bench.fail("fsync-folder", io::ErrorKind::Interrupted);
    assert!(!bench.put("x").await.unwrap_err().is_retryable());
}

#[tokio::test]
async fn a_full_disk_is_reported_with_the_object_at_every_step_and_leaves_nothing() {
    for step in ["mkdir", "create", "write", "fsync"] {
        let bench = bench();
        bench.fail(step, io::ErrorKind::StorageFull);
        let error = bench.put("a/x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "at {step}: {error}");
        assert_eq!(error.object(), Some("a/x"), "at {step}: {error}");
        assert!(error.advice().is_some_and(|advice| advice.contains("free space")), "at {step}: {error}");
        assert!(!bench.files().iter().any(|file| file.contains(".tmp-") || file.ends_with('x')), "{:?}", bench.files());
    }
}

#[tokio::test]
async fn a_full_disk_in_the_background_reaches_the_next_call_and_no_finish_is_ok() {
    let bench = bench();
    let mut writer = bench.store.create(&path("a/x")).await.unwrap();
    bench.fail("write", io::ErrorKind::StorageFull);
    let piece = Bytes::from(vec![7; 5 << 20]);
    writer.write(piece.clone()).await.unwrap();
    assert_eq!(writer.write(piece.clone()).await.unwrap_err().kind(), ErrorKind::StorageFull);
    bench.heal();
    assert!(writer.write(piece).await.is_err(), "the writer went on with a hole in its object");
    assert!(writer.finish().await.is_err());
    assert!(bench.files().is_empty(), "{:?}", bench.files());
}

#[tokio::test]
async fn a_delete_syncs_each_folder_once_a_batch_and_then_prunes() {
    let bench = bench();
    for name in ["a/1", "a/2", "b/c/1", "b/keep"] {
        bench.put(name).await.unwrap();
    }
    bench.disk.take();
    let gone = ["a/1", "a/2", "b/c/1", "b/none"].map(path);
    assert!(bench.store.delete(&gone).await.iter().all(Result::is_ok));
    assert_eq!(
        bench.disk.take(),
        [
            "unlink a/1",
            "unlink a/2",
            "unlink b/c/1",
            "fsync-folder a",
            "fsync-folder b",
            "fsync-folder b/c",
            "rmdir b/c",
            "rmdir a",
        ]
    );
}

#[tokio::test]
async fn a_delete_of_what_a_crashed_deleter_removed_is_synced() {
    let bench = bench();
    bench.put("a/1").await.unwrap();
    bench.put("a/2").await.unwrap();
    std::fs::remove_file(bench.root.join("a/1")).unwrap();
    bench.disk.take();
    bench.store.delete(&[path("a/1")]).await.remove(0).unwrap();
    assert_eq!(bench.disk.take(), ["fsync-folder a"]);
}

/// A writer that gives up prunes the folders that it leaves empty; so does a deleter that was a moment quicker.
/// Neither has synced them: the file could come back with its folder.
#[tokio::test]
async fn a_delete_whose_folder_was_pruned_under_it_is_synced_in_the_folder_above() {
    for (name, synced) in [("a/b/x", "fsync-folder"), ("x", "fsync-folder")] {
        let bench = bench();
        bench.put(name).await.unwrap();
        bench.disk.take();
        bench.disk.is_pruned_at_once.store(true, Ordering::Relaxed);
        bench.store.delete(&[path(name)]).await.remove(0).unwrap();
        assert_eq!(bench.disk.take(), [format!("unlink {name}").as_str(), synced]);
    }
}

#[tokio::test]
async fn a_delete_in_a_store_that_is_not_there_is_done() {
    let bench = bench();
    bench.store.delete(&[path("a/x")]).await.remove(0).unwrap();
    assert_eq!(bench.disk.take(), [""; 0]);
}

#[tokio::test]
async fn a_delete_whose_sync_failed_is_not_ok() {
    let bench = bench();
    bench.put("a/1").await.unwrap();
    bench.fail("fsync-folder", io::ErrorKind::Other);
    assert!(bench.store.delete(&[path("a/1")]).await.remove(0).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_side_by_side_share_syncs_but_each_is_covered() {
    let bench = bench();
    let puts = (0..40).map(|i| {
        let name = format!("a/{i}");
        let bench = &bench;
        async move { bench.put(&name).await }
    });
    assert!(futures::future::join_all(puts).await.iter().all(Result::is_ok));
    let log = bench.disk.take();
    let last_sync = log.iter().rposition(|call| call == "fsync-folder a").unwrap();
    let last_rename = log.iter().rposition(|call| call.starts_with("rename")).unwrap();
    assert!(last_sync > last_rename, "{log:?}");
}

#[tokio::test]
async fn a_writer_whose_temporary_file_was_removed_cannot_finish() {
    let bench = bench();
    let mut writer = bench.store.create(&path("a/x")).await.unwrap();
    writer.write(Bytes::from_static(b"1")).await.unwrap();
    std::fs::remove_dir_all(bench.root.join("a")).unwrap();
    assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::Temporary);
    assert_eq!(bench.store.stat(&path("a/x")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn an_object_that_is_named_last_is_synced_before_it_is_named_too() {
    let bench = bench();
    let mut writer = bench.store.create_unnamed(&path("a")).await.unwrap().unwrap();
    writer.write(Bytes::from_static(b"bytes")).await.unwrap();
    writer.finish_as(&path("a/x")).await.unwrap();
    let log = bench.disk.take();
    assert_eq!(
        log,
        [
            "mkdir",
            "mkdir a",
            "create a/*",
            "write",
            "fsync a/*",
            "rename a/x",
            "fsync-folder a",
            "fsync-folder",
            "fsync-folder .."
        ]
    );
}

#[tokio::test]
async fn an_object_that_is_named_last_takes_no_used_name_and_no_other_folder_and_not_none() {
    let bench = bench();
    bench.put("a/x").await.unwrap();
    for (name, kind) in [("a/x", ErrorKind::AlreadyExists), ("b/x", ErrorKind::InvalidInput)] {
        let mut writer = bench.store.create_unnamed(&path("a")).await.unwrap().unwrap();
        writer.write(Bytes::from_static(b"other")).await.unwrap();
        assert_eq!(writer.finish_as(&path(name)).await.unwrap_err().kind(), kind);
    }
    let writer = bench.store.create_unnamed(&path("a")).await.unwrap().unwrap();
    assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(bench.files().len(), 2, "more than the folder and its object is left: {:?}", bench.files());
    assert_eq!(bench.store.read(&path("a/x"), 0..5).await.unwrap(), "bytes");
}
