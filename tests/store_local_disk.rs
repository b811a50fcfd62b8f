//! Full and read-only disks, with a small file system of their own where the machine lets us mount one.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use futures::TryStreamExt as _;
use icecore::ErrorKind;
use icecore::env::Env;
use icecore::store::{LocalStore, ObjectMeta, Store, StorePath};

/// A file system of 4 MiB, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, loudly, where mounting is not allowed.
    fn mount(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(folder)),
            other => {
                eprintln!("SKIPPED: {test}: no file system can be mounted here: {other:?}");
                None
            }
        }
    }

    fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(self.0.path()).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn open(root: &Path) -> LocalStore {
    LocalStore::open(root, Env::system().unwrap()).unwrap()
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

async fn listed(store: &LocalStore) -> Vec<ObjectMeta> {
    store.list(None).try_collect().await.unwrap()
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn a_full_disk_fails_the_object_by_name_and_keeps_the_others() {
    let Some(disk) = SmallDisk::mount("a_full_disk_fails_the_object_by_name_and_keeps_the_others") else { return };
    let store = open(disk.0.path());
    store.put(&path("kept"), Bytes::from(vec![1; 1 << 20])).await.unwrap();

    let error = store.put(&path("put/too-big"), Bytes::from(vec![2; 8 << 20])).await.unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::StorageFull, Some("put/too-big")));
    assert!(error.advice().is_some(), "{error}");

    let mut writer = store.create(&path("streamed/too-big")).await.unwrap();
    let mut failed = None;
    for _ in 0..16 {
        if let Err(error) = writer.write(Bytes::from(vec![3; 1 << 20])).await {
            failed = Some(error);
            break;
        }
    }
    let error = match failed {
        Some(error) => error,
        None => writer.finish().await.unwrap_err(),
    };
    assert_eq!((error.kind(), error.object()), (ErrorKind::StorageFull, Some("streamed/too-big")));

    assert_eq!(listed(&store).await, [ObjectMeta { path: path("kept"), size_bytes: 1 << 20 }]);
    assert_eq!(entries(disk.0.path()), 1, "a failed write left something behind");
    store.put(&path("small"), Bytes::from(vec![4; 1 << 20])).await.expect("there is room again");
}

#[tokio::test]
async fn a_disk_without_inodes_is_full_too() {
    let Some(disk) = SmallDisk::mount("a_disk_without_inodes_is_full_too") else { return };
    let remount = Command::new("mount").args(["-o", "remount,nr_inodes=4"]).arg(disk.0.path()).status().unwrap();
    assert!(remount.success());
    let store = open(disk.0.path());
    let mut errors = 0;
    for index in 0..8 {
        if let Err(error) = store.put(&path(&format!("folder-{index}/x")), Bytes::new()).await {
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
            errors += 1;
        }
    }
    assert!(errors > 0, "nothing failed");
    assert_eq!(listed(&store).await.len() + errors, 8);
    assert!(entries(disk.0.path()) <= 8 - errors, "an empty folder was left by a failed write");
}

#[tokio::test]
async fn a_read_only_disk_is_permission_denied_and_still_readable() {
    let Some(disk) = SmallDisk::mount("a_read_only_disk_is_permission_denied_and_still_readable") else { return };
    let store = open(disk.0.path());
    store.put(&path("a/x"), Bytes::from_static(b"bytes")).await.unwrap();
    disk.make_read_only();
    for name in ["a/y", "new/y"] {
        let error = store.put(&path(name), Bytes::new()).await.unwrap_err();
        assert_eq!((error.kind(), error.object()), (ErrorKind::PermissionDenied, Some(name)));
        assert_eq!(store.create(&path(name)).await.err().unwrap().kind(), ErrorKind::PermissionDenied);
    }
    let deleted = store.delete(&[path("a/x"), path("a/missing")]).await;
    assert_eq!(deleted[0].as_ref().unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert!(deleted[1].is_ok());
    assert_eq!(store.read(&path("a/x"), 0..5).await.unwrap(), "bytes");
    assert_eq!(listed(&store).await.len(), 1);
}

#[tokio::test]
async fn a_folder_without_write_permission_is_permission_denied() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.put(&path("x"), Bytes::from_static(b"bytes")).await.unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    let refused = store.put(&path("y"), Bytes::new()).await;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    match refused {
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
        Ok(()) => eprintln!("SKIPPED: a_folder_without_write_permission_is_permission_denied: root may write anywhere"),
    }
}
