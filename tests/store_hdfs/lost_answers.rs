//! Requests and answers that are lost on the way to the NameNode, at every call that writing an object makes.

use std::time::Duration;

use icecore::ErrorKind;
use icecore::store::Store as _;
use icecore::store::hdfs::HdfsOptions;

use super::services;
use super::services::proxy::{Aim, Proxy};
use super::support::{Bench, content, eventually, expect_whole, path};

/// What the NameNode is asked for one object, in order. The rename is the one that publishes it.
const BEFORE_THE_RENAME: [&str; 3] = ["create", "addBlock", "complete"];

fn bench_and_proxy(test: &str) -> Option<(Bench, Proxy)> {
    let address = services::shared_hdfs()?;
    let bench = Bench::new(address.host_and_port(), test, HdfsOptions::default());
    Some((bench, Proxy::hadoop_rpc(address.host_and_port())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_rename_nothing_has_appeared_so_it_is_begun_anew() {
    let Some((bench, proxy)) = bench_and_proxy("lost-before") else { return };
    let store = bench.through(&proxy.address().to_string(), HdfsOptions::default());
    let bytes = content(3000);
    let mut expected = vec!["a/".to_owned()];
    for call in BEFORE_THE_RENAME {
        for lose in [Proxy::lose_answer, Proxy::lose_request] {
            let name = format!("a/{call}-{}", expected.len());
            lose(&proxy, Aim::at(call, ""));
            let hits = proxy.hits();
            store.put(&path(&name), bytes.clone()).await.unwrap();
            assert_eq!(proxy.hits(), hits + 1, "{call} was not hit");
            expect_whole(&bench.store, &name, &bytes).await;
            expected.push(name);
        }
    }
    expected.sort();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    bench.expect_really_there(&expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_that_happened_is_found_out_although_its_answer_was_lost() {
    let Some((bench, proxy)) = bench_and_proxy("lost-answer") else { return };
    let store = bench.through(&proxy.address().to_string(), HdfsOptions::default());
    let bytes = content(3000);
    proxy.lose_answer(Aim::at("rename2", ""));
    store.put(&path("a/x"), bytes.clone()).await.unwrap();
    assert_eq!((proxy.hits(), proxy.count("rename2", "")), (1, 1), "a rename is sent once");
    expect_whole(&bench.store, "a/x", &bytes).await;
    bench.expect_really_there(&["a/", "a/x"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_that_comes_late_never_lands() {
    let Some((bench, proxy)) = bench_and_proxy("late") else { return };
    let store = bench.through(&proxy.address().to_string(), HdfsOptions::default());
    proxy.hold(Aim::at("rename2", ""));
    let error = store.put(&path("a/x"), content(3000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    assert_eq!(proxy.count("rename2", ""), 1, "a rename is never sent again");
    let statuses = proxy.release();
    assert_eq!(statuses.len(), 1);
    assert_ne!(statuses, ["0"], "a rename that was given up has succeeded later");
    assert_eq!(bench.store.stat(&path("a/x")).await.unwrap_err().kind(), ErrorKind::NotFound);
    bench.expect_really_there(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rename_of_unknown_outcome_is_an_error_and_is_settled_when_the_name_node_is_back() {
    let Some((bench, proxy)) = bench_and_proxy("unknown") else { return };
    let impatient = HdfsOptions { write_patience: Duration::from_millis(300), ..HdfsOptions::default() };
    let store = bench.through(&proxy.address().to_string(), impatient);
    proxy.lose_request(Aim::at("rename2", ""));
    proxy.lose_request(Aim::at("delete", "").times(20));
    let error = store.put(&path("a/x"), content(3000)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    assert!(error.to_string().contains("not known"), "{error}");
    proxy.clear_aims();
    // The file is deleted in the background, so the rename cannot land any more.
    bench.expect_really_there(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_other_calls_do_no_harm() {
    let Some((bench, proxy)) = bench_and_proxy("lost-others") else { return };
    let store = bench.through(&proxy.address().to_string(), HdfsOptions::default());
    let bytes = content(3000);
    bench.put("a/x", &bytes).await.unwrap();
    // The client asks again by itself: these change nothing.
    for call in ["getFileInfo", "getBlockLocations", "getListing"] {
        proxy.lose_answer(Aim::at(call, ""));
        expect_whole(&store, "a/x", &bytes).await;
        assert_eq!(store.list_children(None).await.unwrap().len(), 1, "{call}");
    }
    proxy.lose_answer(Aim::at("delete", ""));
    let first = store.delete(&[path("a/x")]).await.remove(0);
    assert!(first.as_ref().is_err_and(|error| error.kind() == ErrorKind::Temporary), "{first:?}");
    // The client may take the cut connection for a living one once more.
    eventually("it is deleted again", || async { store.delete(&[path("a/x")]).await.remove(0).is_ok() }).await;
    // Whoever deletes what is gone prunes nothing: that is left to housekeeping.
    bench.expect_really_there(&["a/"]).await;
    bench.store.remove_unfinished(None, Duration::ZERO).await.unwrap();
    bench.expect_really_there(&[]).await;
}
