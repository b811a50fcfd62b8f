//! A process that is killed in the middle of writing leaves whole objects only, and every one that it
//! was told is there.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use icecore::env::Env;
use icecore::store::{LocalStore, ObjectMeta, Store, StorePath};

const ROOT_VARIABLE: &str = "ICECORE_TEST_KILL_ROOT";
const ACKNOWLEDGED: &str = "acknowledged ";

/// What the object of this number holds: up to 1.5 MiB that follow from the number.
fn content(number: u64) -> Vec<u8> {
    let size = (number * 7919) % (3 << 19);
    (0..size).map(|at| (at ^ number) as u8).collect()
}

fn path(writer: u64, number: u64) -> StorePath {
    StorePath::new(format!("job/folder-{}/{writer}/{number}", number % 5)).unwrap()
}

/// The child: eight writers, half of them streaming, that write until they are killed.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child_that_writes_until_it_is_killed() {
    let Ok(root) = std::env::var(ROOT_VARIABLE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = LocalStore::open(Path::new(&root), Env::system().unwrap()).unwrap();
        let writers = (0..8).map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..100_000 {
                    let (path, bytes) = (path(writer, number), content(number));
                    if writer % 2 == 0 {
                        store.put(&path, bytes.into()).await.unwrap();
                    } else {
                        let mut object = store.create(&path).await.unwrap();
                        for piece in bytes.chunks(100_000) {
                            object.write(Bytes::copy_from_slice(piece)).await.unwrap();
                        }
                        object.finish().await.unwrap();
                    }
                    println!("\n{ACKNOWLEDGED}{path}");
                }
            })
        });
        futures::future::join_all(writers).await;
    });
}

/// Runs the child until it has told of `count` objects, kills it, and answers all it told of.
fn write_and_kill(root: &Path, count: usize) -> BTreeSet<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(ROOT_VARIABLE, root)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = BTreeSet::new();
    let mut line = String::new();
    while acknowledged.len() < count && output.read_line(&mut line).unwrap() > 0 {
        acknowledged.extend(line.trim_end().strip_prefix(ACKNOWLEDGED).map(str::to_owned));
        line.clear();
    }
    // On Unix this is SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    // A last line without its end may be cut off in the middle of a name.
    let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
    acknowledged.extend(whole.lines().filter_map(|line| line.strip_prefix(ACKNOWLEDGED)).map(str::to_owned));
    acknowledged
}

fn temporaries(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            count += temporaries(&entry.path());
        } else {
            count += usize::from(entry.file_name().to_string_lossy().starts_with(".tmp-"));
        }
    }
    count
}

#[tokio::test]
async fn a_killed_process_leaves_whole_objects_only_and_all_it_was_told_of() {
    let mut leftovers = 0;
    for count in [1, 5, 20, 60, 150] {
        let folder = tempfile::tempdir().unwrap();
        let acknowledged = write_and_kill(folder.path(), count);
        assert!(acknowledged.len() >= count, "the child ended by itself");
        leftovers += temporaries(folder.path());

        let store = LocalStore::open(folder.path(), Env::system().unwrap()).unwrap();
        let objects: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
        for object in &objects {
            let number: u64 = object.path.file_name().parse().unwrap();
            let bytes = store.read(&object.path, 0..object.size_bytes).await.unwrap();
            assert!(bytes == content(number), "{} is not whole", object.path);
        }
        let listed: BTreeSet<String> = objects.iter().map(|object| object.path.to_string()).collect();
        let lost: Vec<_> = acknowledged.difference(&listed).collect();
        assert!(lost.is_empty(), "told of and not there: {lost:?}");

        store.remove_unfinished(None, Duration::ZERO).await.unwrap();
        assert_eq!(temporaries(folder.path()), 0, "the dead process's files cannot be removed");
        let after: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
        assert_eq!(after, objects);
    }
    assert!(leftovers > 0, "no kill came in the middle of a write: this test showed nothing");
}
