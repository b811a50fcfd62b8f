//! The stores for tests do what they say.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use icecore::ErrorKind;
use icecore::env::Env;
use icecore::store::testing::{CountingStore, Fault, FaultyStore, Rule, Step, Traffic};
use icecore::store::{LocalStore, ObjectMeta, Store, StorePath, StoreRef};

struct Bench {
    _folder: tempfile::TempDir,
    inner: StoreRef,
    faulty: Arc<FaultyStore>,
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let inner: StoreRef = Arc::new(LocalStore::open(folder.path(), Env::system().unwrap()).unwrap());
    Bench { _folder: folder, faulty: FaultyStore::new(inner.clone()), inner }
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

impl Bench {
    async fn put(&self, name: &str) -> icecore::Result<()> {
        self.faulty.put(&path(name), Bytes::from_static(b"0123456789")).await
    }

    async fn there(&self, name: &str) -> bool {
        self.inner.stat(&path(name)).await.is_ok()
    }
}

#[tokio::test]
async fn a_rule_hits_the_nth_call_that_matches_and_no_other() {
    let bench = bench();
    let rule = Rule::on(Step::Put).path_contains("job-1").path_ends_with("_metadata").nth(2).times(2);
    bench.faulty.inject(rule, Fault::Fail(ErrorKind::StorageFull)).unwrap();
    let mut failed = Vec::new();
    for name in [
        "job-1/1/_metadata",
        "job-2/1/_metadata",
        "job-1/x",
        "job-1/2/_metadata",
        "job-1/3/_metadata",
        "job-1/4/_metadata",
    ] {
        if let Err(error) = bench.put(name).await {
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            failed.push(name);
        }
    }
    assert_eq!(failed, ["job-1/2/_metadata", "job-1/3/_metadata"]);
    assert_eq!(bench.faulty.fired(), 2);
    assert!(!bench.there("job-1/2/_metadata").await, "a failed put was done");
}

#[tokio::test]
async fn a_lost_answer_is_an_error_for_what_was_done() {
    let bench = bench();
    for step in [Step::Put, Step::Delete, Step::Finish] {
        bench.faulty.inject(Rule::on(step), Fault::LoseAnswer(ErrorKind::Temporary)).unwrap();
    }
    assert_eq!(bench.put("x").await.unwrap_err().kind(), ErrorKind::Temporary);
    assert!(bench.there("x").await);
    assert!(bench.faulty.delete(&[path("x")]).await.remove(0).is_err());
    assert!(!bench.there("x").await);
    assert!(bench.faulty.create(&path("y")).await.unwrap().finish().await.is_err());
    assert!(bench.there("y").await);
}

#[tokio::test]
async fn a_late_change_lands_when_it_is_told_to() {
    let bench = bench();
    bench.put("old").await.unwrap();
    for step in [Step::Put, Step::Delete, Step::Finish] {
        bench.faulty.inject(Rule::on(step), Fault::LandLater(ErrorKind::Temporary)).unwrap();
    }
    assert!(bench.put("put").await.is_err());
    let mut writer = bench.faulty.create(&path("streamed")).await.unwrap();
    writer.write(Bytes::from_static(b"late")).await.unwrap();
    assert!(writer.finish().await.is_err());
    assert!(bench.faulty.delete(&[path("old")]).await.remove(0).is_err());
    assert_eq!(bench.faulty.late_changes(), 3);
    assert!(!bench.there("put").await && !bench.there("streamed").await && bench.there("old").await);

    assert!(bench.faulty.land_late().await.iter().all(Result::is_ok));
    assert!(bench.there("put").await && !bench.there("old").await);
    assert_eq!(bench.inner.read(&path("streamed"), 0..4).await.unwrap(), "late");
}

#[tokio::test]
async fn a_torn_object_has_its_first_bytes_and_a_flipped_one_differs_in_one() {
    let bench = bench();
    bench.faulty.inject(Rule::on(Step::Put).path_contains("torn"), Fault::Torn { keep_bytes: 3 }).unwrap();
    bench.faulty.inject(Rule::on(Step::Create), Fault::Torn { keep_bytes: 7 }).unwrap();
    bench.faulty.inject(Rule::on(Step::Put).path_contains("flip"), Fault::Flip { offset: 4 }).unwrap();
    bench.put("torn").await.unwrap();
    assert_eq!(bench.inner.stat(&path("torn")).await.unwrap().size_bytes, 3);
    let mut writer = bench.faulty.create(&path("streamed")).await.unwrap();
    for piece in ["01234", "56789", "abc"] {
        writer.write(piece.into()).await.unwrap();
    }
    writer.finish().await.unwrap();
    assert_eq!(bench.inner.stat(&path("streamed")).await.unwrap().size_bytes, 7);
    assert_eq!(bench.inner.read(&path("streamed"), 0..7).await.unwrap(), "0123456");
    bench.put("flip").await.unwrap();
    assert_eq!(&bench.inner.read(&path("flip"), 0..10).await.unwrap()[..], b"0123\xcb56789");
}

#[tokio::test]
async fn a_flipped_read_leaves_the_object_as_it_is() {
    let bench = bench();
    bench.put("x").await.unwrap();
    bench.faulty.inject(Rule::on(Step::Read), Fault::Flip { offset: 4 }).unwrap();
    assert_eq!(&bench.faulty.read(&path("x"), 3..6).await.unwrap()[..], b"3\xcb5");
    assert_eq!(bench.faulty.read(&path("x"), 3..6).await.unwrap(), "345");
}

#[tokio::test]
async fn a_fault_that_a_step_cannot_have_is_refused() {
    let bench = bench();
    let error = bench.faulty.inject(Rule::on(Step::Stat), Fault::Torn { keep_bytes: 0 }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_party_stops_before_a_step_while_others_go_on() {
    let bench = bench();
    let gate = bench.faulty.park(Rule::on(Step::Put).path_ends_with("parked"));
    let store = bench.faulty.clone();
    let party = tokio::spawn(async move { store.put(&path("parked"), Bytes::new()).await });
    gate.reached().await;
    bench.put("other").await.unwrap();
    assert!(!bench.there("parked").await);
    gate.release();
    party.await.unwrap().unwrap();
    assert!(bench.there("parked").await);
}

#[tokio::test]
async fn a_party_stops_after_a_step_before_it_knows_the_answer() {
    let bench = bench();
    let gate = bench.faulty.park_after(Rule::on(Step::Put));
    let store = bench.faulty.clone();
    let party = tokio::spawn(async move { store.put(&path("parked"), Bytes::new()).await });
    gate.reached().await;
    assert!(bench.there("parked").await);
    assert!(!party.is_finished());
    gate.release();
    party.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_party_stops_between_two_deletes_of_a_batch() {
    let bench = bench();
    for name in ["1", "2", "3"] {
        bench.put(name).await.unwrap();
    }
    let gate = bench.faulty.park(Rule::on(Step::Delete).nth(2));
    let store = bench.faulty.clone();
    let party = tokio::spawn(async move { store.delete(&["1", "2", "3"].map(path)).await });
    gate.reached().await;
    assert!(!bench.there("1").await && bench.there("2").await && bench.there("3").await);
    drop(gate);
    assert!(party.await.unwrap().iter().all(Result::is_ok));
    assert!(!bench.there("3").await);
}

#[tokio::test]
async fn a_listing_stops_in_its_middle() {
    let bench = bench();
    for name in ["f/1", "f/2", "f/3"] {
        bench.put(name).await.unwrap();
    }
    let gate = bench.faulty.park(Rule::on(Step::ListItem).path_ends_with("2"));
    let store = bench.faulty.clone();
    let party = tokio::spawn(async move {
        let objects: Vec<ObjectMeta> = store.list(Some(&path("f"))).try_collect().await.unwrap();
        objects.len()
    });
    gate.reached().await;
    gate.release();
    assert_eq!(party.await.unwrap(), 3);
}

#[tokio::test]
async fn a_party_that_is_cut_off_while_parked_does_nothing_more() {
    let bench = bench();
    let gate = bench.faulty.park(Rule::on(Step::Put));
    let store = bench.faulty.clone();
    let party = tokio::spawn(async move { store.put(&path("parked"), Bytes::new()).await });
    gate.reached().await;
    bench.faulty.cut_off();
    gate.release();
    assert!(party.await.unwrap().is_err());
    assert!(!bench.there("parked").await);
    assert!(bench.faulty.stat(&path("x")).await.is_err_and(|error| error.kind() == ErrorKind::Temporary));
    assert!(bench.faulty.delete(&[path("x")]).await.remove(0).is_err());
    bench.faulty.heal();
    bench.put("x").await.unwrap();
}

#[tokio::test]
async fn requests_and_bytes_are_counted_by_kind_and_prefix() {
    let bench = bench();
    let store = CountingStore::new(bench.inner.clone());
    store.put(&path("shared/a"), Bytes::from(vec![0; 100])).await.unwrap();
    let mut writer = store.create(&path("shared/b")).await.unwrap();
    writer.write(Bytes::from(vec![0; 30])).await.unwrap();
    writer.write(Bytes::from(vec![0; 12])).await.unwrap();
    writer.finish().await.unwrap();
    store.put(&path("cp-1/_metadata"), Bytes::from(vec![0; 7])).await.unwrap();
    store.read(&path("shared/a"), 10..20).await.unwrap();
    assert!(store.read(&path("shared/a"), 90..200).await.is_err());
    let listed: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 3);
    store.delete(&[path("shared/a"), path("shared/c")]).await;

    let shared = Traffic { written_bytes: 142, read_bytes: 10, objects_begun: 2, reads: 2 };
    assert_eq!(store.traffic("shared/"), shared);
    assert_eq!(store.traffic("").written_bytes, 149);
    for (step, count) in [
        (Step::Put, 2),
        (Step::Create, 1),
        (Step::Write, 2),
        (Step::Finish, 1),
        (Step::Read, 2),
        (Step::List, 1),
        (Step::ListItem, 3),
        (Step::Delete, 2),
        (Step::Stat, 0),
    ] {
        assert_eq!(store.requests(step), count, "{step:?}");
    }
    assert_eq!(store.total_requests(), 9);
    store.reset();
    assert_eq!(store.traffic("").written_bytes, 0);
}
