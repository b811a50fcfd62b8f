//! What a local folder does beyond the contract: leftovers, foreign files, links, limits.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use icecore::ErrorKind;
use icecore::env::Env;
use icecore::store::local::MAX_OPEN_WRITERS;
use icecore::store::{LocalStore, ObjectMeta, Store, StorePath};

fn open(root: &Path) -> LocalStore {
    LocalStore::open(root, Env::system().unwrap()).unwrap()
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

async fn put(store: &LocalStore, name: &str) {
    store.put(&path(name), Bytes::from_static(b"bytes")).await.unwrap();
}

async fn listed(store: &LocalStore) -> Vec<String> {
    let objects: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    objects.into_iter().map(|object| object.path.to_string()).collect()
}

fn temporaries(root: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(root).into_iter().flatten() {
        let place = entry.unwrap().path();
        count += temporaries(&place);
        count += usize::from(place.file_name().unwrap().to_str().is_some_and(|name| name.starts_with(".tmp-")));
    }
    count
}

#[tokio::test]
async fn a_missing_root_reads_as_empty_and_is_made_by_the_first_write_only() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("not/yet/there");
    let store = open(&root);
    assert!(listed(&store).await.is_empty());
    assert!(store.list_children(None).await.unwrap().is_empty());
    assert_eq!(store.stat(&path("x")).await.unwrap_err().kind(), ErrorKind::NotFound);
    store.delete(&[path("x")]).await.remove(0).unwrap();
    assert!(store.remove_unfinished(None, Duration::ZERO).await.unwrap() == 0);
    assert!(!folder.path().join("not").exists(), "a call that writes nothing made the root");
    put(&store, "a/x").await;
    assert!(root.join("a/x").is_file());
}

#[tokio::test]
async fn the_root_stays_when_its_last_object_goes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let store = open(&root);
    put(&store, "a/b/x").await;
    store.delete(&[path("a/b/x")]).await.remove(0).unwrap();
    assert!(root.is_dir());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}

#[tokio::test]
async fn a_root_that_is_a_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = LocalStore::open(&file, Env::system().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn what_a_crashed_writer_left_is_invisible_and_in_nobodys_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fs::create_dir_all(folder.path().join("a/only-leftovers")).unwrap();
    fs::write(folder.path().join("a/.tmp-0011"), "half").unwrap();
    fs::write(folder.path().join("a/only-leftovers/.tmp-0022"), "half").unwrap();
    put(&store, "a/x").await;
    assert_eq!(listed(&store).await, ["a/x"]);
    let children: Vec<_> = store.list_children(Some(&path("a"))).await.unwrap();
    assert_eq!(children.iter().map(|child| child.name.as_str()).collect::<Vec<_>>(), ["x"]);
}

#[tokio::test]
async fn housekeeping_removes_what_nobody_writes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "a/kept").await;
    fs::write(folder.path().join("a/.tmp-dead"), "half").unwrap();
    fs::create_dir_all(folder.path().join("b/c")).unwrap();
    fs::write(folder.path().join("b/c/.tmp-dead"), "half").unwrap();
    fs::create_dir(folder.path().join("foreign")).unwrap();
    let mut writer = store.create(&path("a/alive")).await.unwrap();
    writer.write(Bytes::from_static(b"1")).await.unwrap();

    assert_eq!(store.remove_unfinished(None, Duration::from_secs(3600)).await.unwrap(), 0, "it took young files");
    assert_eq!(store.remove_unfinished(Some(&path("b")), Duration::ZERO).await.unwrap(), 1);
    assert!(!folder.path().join("b").exists(), "the folders that it emptied are still there");
    assert_eq!(open(folder.path()).remove_unfinished(None, Duration::ZERO).await.unwrap(), 1);
    writer.finish().await.unwrap();
    assert_eq!(listed(&store).await, ["a/alive", "a/kept"]);
    assert_eq!(temporaries(folder.path()), 0);
    assert!(folder.path().join("foreign").is_dir(), "it took a folder that is not ours");
}

#[tokio::test]
async fn a_dropped_writer_removes_its_file_and_the_folders_it_made() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for written in [0, 1, 9] {
        let mut writer = store.create(&path("a/b/x")).await.unwrap();
        for _ in 0..written {
            writer.write(Bytes::from(vec![1; 1 << 20])).await.unwrap();
        }
        drop(writer);
    }
    // A batch that is under way is waited for: its thread removes the file.
    for _ in 0..6_000 {
        if !folder.path().join("a").exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} temporary files are left", temporaries(folder.path()));
}

#[tokio::test]
async fn foreign_names_are_neither_listed_nor_deleted_nor_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "a/x").await;
    fs::write(folder.path().join("a/my notes.txt"), "keep").unwrap();
    fs::create_dir(folder.path().join("a folder")).unwrap();
    fs::write(folder.path().join("a folder/x"), "keep").unwrap();
    assert_eq!(listed(&store).await, ["a/x"]);
    assert_eq!(store.list_children(None).await.unwrap().len(), 1);
    store.delete(&[path("a/x")]).await.remove(0).unwrap();
    assert_eq!(fs::read(folder.path().join("a/my notes.txt")).unwrap(), b"keep");
    assert_eq!(fs::read(folder.path().join("a folder/x")).unwrap(), b"keep");
}

#[tokio::test]
async fn a_link_is_never_followed_nor_deleted_and_a_listing_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let store = open(folder.path());
    put(&store, "a/x").await;
    put(&store, "z").await;
    symlink(outside.path(), folder.path().join("a/out")).unwrap();
    symlink(outside.path().join("secret"), folder.path().join("link")).unwrap();
    for name in ["link", "a/out/secret"] {
        assert_eq!(store.read(&path(name), 0..1).await.unwrap_err().kind(), ErrorKind::Corrupt, "read {name}");
        assert_eq!(store.stat(&path(name)).await.unwrap_err().kind(), ErrorKind::Corrupt, "stat {name}");
        assert!(store.delete(&[path(name)]).await.remove(0).is_err(), "delete {name}");
    }
    assert!(store.put(&path("a/out/new"), Bytes::new()).await.is_err());
    assert!(store.list_children(Some(&path("a/out"))).await.is_err());

    let mut objects = Vec::new();
    let mut errors = Vec::new();
    let mut listing = store.list(None);
    while let Some(object) = listing.next().await {
        match object {
            Ok(object) => objects.push(object.path.to_string()),
            Err(error) => errors.push(error.object().unwrap_or_default().to_owned()),
        }
    }
    assert_eq!(objects, ["a/x", "z"], "the listing did not go on behind the links");
    assert_eq!(errors, ["a/out", "link"]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_pipe_in_an_objects_place_is_an_error_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let store = open(folder.path());
    let read = tokio::time::timeout(Duration::from_secs(60), store.read(&path("pipe"), 0..1)).await;
    assert_eq!(read.expect("the read waits for a writer").unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_root_that_is_a_link_is_its_owners_choice() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("disk")).unwrap();
    symlink(folder.path().join("disk"), folder.path().join("root")).unwrap();
    let store = open(&folder.path().join("root"));
    put(&store, "a/x").await;
    assert_eq!(listed(&store).await, ["a/x"]);
    store.delete(&[path("a/x")]).await.remove(0).unwrap();
    assert!(folder.path().join("disk").is_dir() && !folder.path().join("disk/a").exists());
}

#[tokio::test]
async fn a_name_that_is_taken_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let late = store.create(&path("x")).await.unwrap();
    put(&store, "x").await;
    assert_eq!(store.put(&path("x"), Bytes::new()).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(late.finish().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let below = store.put(&path("x/below"), Bytes::new()).await.unwrap_err();
    assert_eq!(below.kind(), ErrorKind::AlreadyExists, "{below}");
    assert_eq!(store.read(&path("x"), 0..5).await.unwrap(), "bytes");
    assert_eq!(temporaries(folder.path()), 0);
}

#[tokio::test]
async fn of_many_writers_of_one_name_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for round in 0..20 {
        let name = path(&format!("a/{round}"));
        let puts = (0..8_u8).map(|who| store.put(&name, Bytes::from(vec![who; 10])));
        let answers = futures::future::join_all(puts).await;
        let winners: Vec<_> = answers.iter().enumerate().filter(|(_, answer)| answer.is_ok()).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        assert_eq!(store.read(&name, 0..10).await.unwrap(), vec![winners[0].0 as u8; 10]);
    }
}

#[tokio::test]
async fn the_number_of_writers_is_bounded_and_the_next_one_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let mut writers = Vec::new();
    for index in 0..MAX_OPEN_WRITERS {
        writers.push(store.create(&path(&format!("w/{index}"))).await.unwrap());
    }
    let waiting = store.clone();
    let next = tokio::spawn(async move { waiting.create(&path("w/next")).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!next.is_finished(), "more writers than the limit");
    put(&store, "reads-and-puts-go-on").await;
    writers.pop().unwrap().finish().await.unwrap();
    next.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lying_length_is_refused_before_memory_is_taken_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, "x").await;
    let error = store.read(&path("x"), 0..u64::MAX).await.unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::Corrupt, Some("x")));
    let (start, end) = (3, 2);
    assert_eq!(store.read(&path("x"), start..end).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}
