//! What writers leave, and who removes it.

use std::time::Duration;

use futures::TryStreamExt as _;
use hdfs_native::WriteOptions;
use icecore::ErrorKind;
use icecore::store::{ObjectMeta, Store as _};

use super::support::{Bench, MIB, content, expect_whole, path};

/// Larger than what a writer keeps to begin anew.
const BEYOND_THE_HEAD: usize = 20 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_dropped_or_aborted_leaves_no_file_and_no_folder() {
    let Some(bench) = Bench::shared("dropped") else { return };
    for pieces in [0, 1, 3] {
        for by_abort in [false, true] {
            let mut writer = bench.store.create(&path(&format!("a/b/{pieces}-{by_abort}"))).await.unwrap();
            for _ in 0..pieces {
                writer.write(content(MIB)).await.unwrap();
            }
            assert!(bench.really_there().await.iter().any(|name| name.contains(".tmp-")), "nothing is being written");
            match by_abort {
                true => writer.abort().await.unwrap(),
                false => drop(writer),
            }
        }
    }
    bench.expect_really_there(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_is_dropped_leaves_the_object_or_nothing() {
    let Some(bench) = Bench::shared("dropped-put") else { return };
    let bytes = content(2 * MIB);
    for round in 0..10 {
        let name = path(&format!("a/{round}"));
        let put = bench.store.put(&name, bytes.clone());
        let _ = tokio::time::timeout(Duration::from_millis(round * 8), put).await;
    }
    super::support::eventually("no temporary file is left", || async {
        bench.really_there().await.iter().all(|name| !name.contains(".tmp-"))
    })
    .await;
    let objects: Vec<ObjectMeta> = bench.store.list(None).try_collect().await.unwrap();
    for object in objects {
        expect_whole(&bench.store, object.path.as_str(), &bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crashed_writers_left_is_invisible_until_it_is_removed_and_its_folders_go_with_it() {
    let Some(bench) = Bench::shared("crashed") else { return };
    let small = content(1000);
    bench.put("a/kept", &small).await.unwrap();
    for name in ["a/.tmp-1", "b/c/.tmp-2", ".tmp-3"] {
        let mut file = bench.raw().create(&bench.place(name), WriteOptions::default()).await.unwrap();
        file.write_bytes(small.clone()).await.unwrap();
        file.hsync().await.unwrap();
    }
    bench.raw().mkdirs(&bench.place("d/e"), 0o755, true).await.unwrap();
    let listed: Vec<ObjectMeta> = bench.store.list(None).try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|object| object.path.as_str()).collect::<Vec<_>>(), ["a/kept"]);
    let children = bench.store.list_children(None).await.unwrap();
    assert_eq!(children.iter().map(|child| child.name.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(bench.store.remove_unfinished(None, Duration::from_secs(3600)).await.unwrap(), 0, "they are young");
    assert_eq!(bench.store.remove_unfinished(Some(&path("b")), Duration::ZERO).await.unwrap(), 1);
    assert_eq!(bench.store.remove_unfinished(None, Duration::ZERO).await.unwrap(), 2);
    bench.expect_really_there(&["a/", "a/kept"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_process_writes_is_left_alone() {
    let Some(bench) = Bench::shared("in-use") else { return };
    let bytes = content(BEYOND_THE_HEAD);
    let mut writer = bench.store.create(&path("a/x")).await.unwrap();
    writer.write(bytes.slice(..MIB)).await.unwrap();
    assert_eq!(bench.store.remove_unfinished(None, Duration::ZERO).await.unwrap(), 0);
    writer.write(bytes.slice(MIB..)).await.unwrap();
    writer.finish().await.unwrap();
    expect_whole(&bench.store, "a/x", &bytes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_whose_temporary_file_was_removed_does_not_finish_what_is_missing() {
    let Some(bench) = Bench::shared("removed") else { return };
    let bytes = content(BEYOND_THE_HEAD);
    let mut writer = bench.store.create(&path("a/large")).await.unwrap();
    writer.write(bytes.clone()).await.unwrap();
    assert_eq!(bench.other_process().remove_unfinished(None, Duration::ZERO).await.unwrap(), 1);
    let error = writer.finish().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    assert_eq!(bench.store.stat(&path("a/large")).await.unwrap_err().kind(), ErrorKind::NotFound);

    // All bytes are at hand, so it is begun anew.
    let mut writer = bench.store.create(&path("a/small")).await.unwrap();
    writer.write(bytes.slice(..MIB)).await.unwrap();
    assert_eq!(bench.other_process().remove_unfinished(None, Duration::ZERO).await.unwrap(), 1);
    writer.finish().await.unwrap();
    expect_whole(&bench.store, "a/small", &bytes.slice(..MIB)).await;
    bench.expect_really_there(&["a/", "a/small"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_delete_takes_a_tree() {
    let Some(bench) = Bench::shared("tree") else { return };
    let bytes = content(10);
    for name in ["a/b/c", "a/b/d", "a/e"] {
        bench.put(name, &bytes).await.unwrap();
    }
    for folder in ["a", "a/b"] {
        bench.store.delete(&[path(folder)]).await.remove(0).unwrap();
    }
    bench.expect_really_there(&["a/", "a/b/", "a/b/c", "a/b/d", "a/e"]).await;
    bench
        .store
        .delete(&[path("a/b/c"), path("a/b"), path("a"), path("a/b/d")])
        .await
        .into_iter()
        .for_each(Result::unwrap);
    bench.expect_really_there(&["a/", "a/e"]).await;
    bench.store.delete(&[path("a/e")]).await.remove(0).unwrap();
    bench.expect_really_there(&[]).await;
    assert!(bench.raw().get_file_info(&format!("/{}", bench.prefix)).await.unwrap().isdir, "the store's folder went");
}
