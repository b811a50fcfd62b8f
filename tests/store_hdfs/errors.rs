//! Errors have the kinds that callers act on.

use bytes::Bytes;
use futures::TryStreamExt as _;
use icecore::env::Env;
use icecore::store::hdfs::HdfsOptions;
use icecore::store::{Access, HdfsStore, ObjectMeta, Store as _};
use icecore::{Error, ErrorKind};

use super::services;
use super::support::{Bench, MIB, content, expect_whole, open, path};

fn expect(kind: ErrorKind, error: Error) {
    assert_eq!(error.kind(), kind, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_may_not_do_is_denied_and_never_looks_empty() {
    let Some(bench) = Bench::shared("denied") else { return };
    let bytes = content(100);
    bench.put("a/x", &bytes).await.unwrap();
    let as_alice = HdfsOptions { user: Some("alice".to_owned()), ..HdfsOptions::default() };
    let alice = bench.through(&bench.authority, as_alice);
    expect_whole(&alice, "a/x", &bytes).await;
    expect(ErrorKind::PermissionDenied, alice.put(&path("a/y"), bytes.clone()).await.unwrap_err());
    expect(ErrorKind::PermissionDenied, alice.delete(&[path("a/x")]).await.remove(0).unwrap_err());
    bench.raw().set_permission(&bench.place("a"), 0o700).await.unwrap();
    expect(ErrorKind::PermissionDenied, alice.stat(&path("a/x")).await.unwrap_err());
    expect(ErrorKind::PermissionDenied, alice.read(&path("a/x"), 0..1).await.unwrap_err());
    let listed: Result<Vec<ObjectMeta>, _> = alice.list(None).try_collect().await;
    expect(ErrorKind::PermissionDenied, listed.unwrap_err());
    expect(ErrorKind::PermissionDenied, alice.list_children(None).await.unwrap_err());
    bench.raw().set_permission(&bench.place("a"), 0o755).await.unwrap();
    expect_whole(&bench.store, "a/x", &bytes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_tells_what_may_be_done_and_leaves_nothing() {
    let Some(bench) = Bench::shared("probe") else { return };
    bench.store.probe(Access::Read).await.unwrap();
    bench.expect_really_there(&[]).await;
    bench.store.probe(Access::Change).await.unwrap();
    bench.expect_really_there(&[]).await;
    bench.put("a/x", &content(10)).await.unwrap();
    let as_alice = HdfsOptions { user: Some("alice".to_owned()), ..HdfsOptions::default() };
    let alice = bench.through(&bench.authority, as_alice);
    alice.probe(Access::Read).await.unwrap();
    expect(ErrorKind::PermissionDenied, alice.probe(Access::Change).await.unwrap_err());
    let folder = format!("/{}", bench.prefix);
    bench.raw().set_permission(&folder, 0o700).await.unwrap();
    expect(ErrorKind::PermissionDenied, alice.probe(Access::Read).await.unwrap_err());
    let at = |below: &str| open(&bench.authority, &format!("{}/{below}", bench.prefix), HdfsOptions::default());
    expect(ErrorKind::InvalidInput, at("a/x").probe(Access::Read).await.unwrap_err());
    expect(ErrorKind::AlreadyExists, at("a/x/y").probe(Access::Change).await.unwrap_err());
    bench.expect_really_there(&["a/", "a/x"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_in_use_is_refused_and_what_lies_there_stays() {
    let Some(bench) = Bench::shared("in-use") else { return };
    let (first, second) = (content(100), content(200));
    bench.put("a/x", &first).await.unwrap();
    expect(ErrorKind::AlreadyExists, bench.put("a/x", &second).await.unwrap_err());
    expect(ErrorKind::AlreadyExists, bench.put("a", &second).await.unwrap_err());
    expect(ErrorKind::AlreadyExists, bench.put("a/x/below", &second).await.unwrap_err());
    let mut unnamed = bench.store.create_unnamed(&path("a")).await.unwrap().unwrap();
    unnamed.write(second.clone()).await.unwrap();
    expect(ErrorKind::AlreadyExists, unnamed.finish_as(&path("a/x")).await.unwrap_err());
    bench.expect_really_there(&["a/", "a/x"]).await;
    expect_whole(&bench.store, "a/x", &first).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_writers_of_one_name_exactly_one_wins() {
    let Some(bench) = Bench::shared("race") else { return };
    for round in 0..5 {
        let name = format!("folder-{round}/x");
        let writers = (1..=8).map(|size| {
            let (store, name) = (bench.other_process(), name.clone());
            tokio::spawn(async move { store.put(&path(&name), content(size)).await.map(|()| size) })
        });
        let answers = futures::future::join_all(writers.collect::<Vec<_>>()).await;
        let mut winners = Vec::new();
        for answer in answers {
            match answer.unwrap() {
                Ok(size) => winners.push(size),
                Err(error) => expect(ErrorKind::AlreadyExists, error),
            }
        }
        let [winner] = winners[..] else { panic!("{winners:?} all won") };
        expect_whole(&bench.store, &name, &content(winner)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_hdfs_keeps_for_itself_are_refused() {
    let Some(bench) = Bench::shared("names") else { return };
    let reserved = path("a/.snapshot/x");
    expect(ErrorKind::InvalidInput, bench.store.put(&reserved, Bytes::new()).await.unwrap_err());
    expect(ErrorKind::InvalidInput, bench.store.stat(&reserved).await.unwrap_err());
    let listed: Result<Vec<ObjectMeta>, _> = bench.store.list(Some(&reserved)).try_collect().await;
    expect(ErrorKind::InvalidInput, listed.unwrap_err());
    bench.expect_really_there(&[]).await;
}

#[tokio::test]
async fn an_address_where_nobody_is_is_unreachable() {
    for authority in ["127.0.0.1:1", "no-such-host.invalid:8020"] {
        let store = open(authority, "x", HdfsOptions::default());
        expect(ErrorKind::Unreachable, store.probe(Access::Read).await.unwrap_err());
        expect(ErrorKind::Unreachable, store.put(&path("a"), Bytes::new()).await.unwrap_err());
        expect(ErrorKind::Unreachable, store.stat(&path("a")).await.unwrap_err());
        expect(ErrorKind::Unreachable, store.list_children(None).await.unwrap_err());
        expect(ErrorKind::Unreachable, store.delete(&[path("a")]).await.remove(0).unwrap_err());
    }
}

#[tokio::test]
async fn an_address_that_names_nothing_is_invalid() {
    for authority in ["", "nameservice-of-nobody", "ho st:1"] {
        let opened = HdfsStore::open(authority, "x", HdfsOptions::default(), Env::system().unwrap());
        expect(ErrorKind::InvalidInput, opened.unwrap_err());
    }
}

#[tokio::test]
async fn outside_a_runtime_a_store_is_refused_and_starts_no_threads() {
    let env = Env::system().unwrap();
    let opened =
        std::thread::spawn(|| HdfsStore::open("127.0.0.1:1", "x", HdfsOptions::default(), env)).join().unwrap();
    expect(ErrorKind::InvalidInput, opened.unwrap_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_up_quota_is_a_full_store_and_more_room_ends_it() {
    let Some(cluster) = services::breakable_hdfs().await else { return };
    let options = HdfsOptions { block_size_bytes: Some(MIB as u64), ..HdfsOptions::default() };
    let bench = Bench::new(cluster.address().host_and_port(), "quota", options);
    let bytes = content(3 * MIB);
    bench.put("a/before", &bytes).await.unwrap();
    let folder = format!("/{}", bench.prefix);
    // Two replicas of 3 MiB are there; one more block fits.
    cluster.set_space_quota(&folder, 8 << 20);
    expect(ErrorKind::StorageFull, bench.put("a/small", &bytes).await.unwrap_err());
    let streamed = super::support::stream(&bench.store, "b/large", &content(20 * MIB)).await;
    expect(ErrorKind::StorageFull, streamed.unwrap_err());
    bench.expect_really_there(&["a/", "a/before"]).await;
    expect_whole(&bench.store, "a/before", &bytes).await;
    cluster.clear_space_quota(&folder);
    bench.put("a/small", &bytes).await.unwrap();
    expect_whole(&bench.store, "a/small", &bytes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_a_lying_length_allocates_nothing() {
    let Some(address) = services::shared_hdfs() else { return };
    let bench = Bench::new(address.host_and_port(), "range", HdfsOptions::default());
    bench.put("x", &content(10)).await.unwrap();
    expect(ErrorKind::Corrupt, bench.store.read(&path("x"), 0..u64::MAX).await.unwrap_err());
    #[expect(clippy::reversed_empty_ranges)]
    let backwards = 5..4;
    expect(ErrorKind::InvalidInput, bench.store.read(&path("x"), backwards).await.unwrap_err());
}
