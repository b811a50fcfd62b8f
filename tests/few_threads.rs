//! Moving files needs no more threads than the runtime has, however many move at once.
//!
//! A runtime has a limited number of threads that may block (tokio: 512, unless told otherwise). Work that
//! holds one while it waits for work that needs another ends in a standstill as soon as there are many of it: a
//! process with 128 subtasks that are restored at once, say.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use icecore::env::Env;
use icecore::layout::ContentHash;
use icecore::store::{LocalStore, StorePath};
use icecore::transfer::{NoProgress, StoredFile, download, stage_file, upload_file};

const TRANSFERS: usize = 4;
/// More than what lies between the two ends of a transfer.
const FILE_BYTES: usize = 24 << 20;
/// A standstill lasts for ever; what goes on takes a second.
const STANDSTILL: Duration = Duration::from_secs(60);

/// Runs `work` where two threads may block.
fn with_two_threads(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build().unwrap();
    let done = runtime.block_on(async { tokio::time::timeout(STANDSTILL, work).await });
    runtime.shutdown_background();
    done.expect("nothing moved any more");
}

fn content() -> Vec<u8> {
    (0..FILE_BYTES).map(|index| (index % 251) as u8).collect()
}

fn path(index: usize) -> StorePath {
    StorePath::new(format!("objects/{index}")).unwrap()
}

fn store(folder: &Path) -> (Arc<LocalStore>, Env) {
    let env = Env::system().unwrap();
    (Arc::new(LocalStore::open(&folder.join("store"), env.clone()).unwrap()), env)
}

#[test]
fn many_uploads_at_once_need_few_threads() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::write(&source, content()).unwrap();
    with_two_threads(async {
        let (store, env) = store(folder.path());
        let size = FILE_BYTES as u64;
        let uploads = (0..TRANSFERS).map(|index| {
            let (store, env, source) = (&store, &env, &source);
            async move { upload_file(&**store, env, source, size, None, &path(index), &NoProgress).await.unwrap() }
        });
        let hashes = futures::future::join_all(uploads).await;
        assert_eq!(hashes, [ContentHash::of(&content()); TRANSFERS]);
        let objects = StorePath::new("objects").unwrap();
        let staged = (0..TRANSFERS).map(|_| stage_file(&*store, &env, &source, size, &objects, &NoProgress));
        for staged in futures::future::join_all(staged).await {
            assert_eq!(staged.unwrap().unwrap().hash(), ContentHash::of(&content()));
        }
    });
}

#[test]
fn many_downloads_at_once_need_few_threads() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, objects) = (content(), folder.path().join("store/objects"));
    std::fs::create_dir_all(&objects).unwrap();
    for index in 0..TRANSFERS {
        std::fs::write(objects.join(index.to_string()), &bytes).unwrap();
    }
    with_two_threads(async {
        let (store, env) = store(folder.path());
        let sha256 = ContentHash::of(&bytes);
        let downloads = (0..TRANSFERS).map(|index| {
            let (store, env, bytes) = (&store, &env, &bytes);
            let target = folder.path().join(format!("target-{index}"));
            async move {
                let file = StoredFile { object: path(index), offset_bytes: 0, size_bytes: FILE_BYTES as u64, sha256 };
                download(&**store, env, &file, &target, &NoProgress).await.unwrap();
                assert!(std::fs::read(&target).unwrap() == *bytes, "other bytes arrived");
            }
        });
        futures::future::join_all(downloads).await;
    });
}
