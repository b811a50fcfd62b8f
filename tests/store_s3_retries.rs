//! What the store that `store::open` gives repeats on a real server, and what it does not (K2).

mod s3_support;
mod services;

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use icecore::ErrorKind;
use icecore::store::{Access, StoreRef};
use s3_support::{options, path, store_at};
use services::proxy::{Aim, Proxy, Rule};

const SLOW_DOWN: (&str, &str) = ("503 Slow Down", "<Error><Code>SlowDown</Code><Message>later</Message></Error>");
const UNAVAILABLE: (&str, &str) = ("503 Service Unavailable", "<Error><Code>ServiceUnavailable</Code></Error>");

/// A store behind a proxy, with `retry-for` as the option says.
fn behind_proxy(test: &str, retry_for: &str) -> Option<(Proxy, StoreRef)> {
    let s3 = services::shared_s3()?;
    let proxy = Proxy::http(s3.host_and_port());
    let through = s3.through(&proxy.endpoint());
    let store = store_at(&through, &services::fresh_prefix(test), &options(&through).with("retry-for", retry_for));
    Some((proxy, store))
}

fn answer(proxy: &Proxy, aim: Aim, (status, body): (&str, &str)) {
    proxy.answer(aim, status, body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_only_looks_or_deletes_is_asked_again() {
    let Some((proxy, store)) = behind_proxy("again", "60s") else { return };
    for name in ["a/x", "a/y"] {
        store.put(&path(name), Bytes::from_static(b"0123456789")).await.unwrap();
    }
    for (method, trouble) in [("GET", SLOW_DOWN), ("HEAD", UNAVAILABLE), ("POST", UNAVAILABLE), ("DELETE", SLOW_DOWN)] {
        answer(&proxy, Aim::at(method, "").times(2), trouble);
    }
    assert_eq!(store.read(&path("a/x"), 2..4).await.unwrap(), "23");
    assert_eq!(store.stat(&path("a/x")).await.unwrap().size_bytes, 10);
    proxy.lose_answer(Aim::at("GET", "").times(2));
    assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 2);
    for gone in [vec![path("a/x")], vec![path("a/y"), path("a/z")]] {
        assert!(store.delete(&gone).await.iter().all(Result::is_ok));
    }
    assert_eq!(proxy.hits(), 10);
    assert!(store.list_children(None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_was_refused_is_sent_again_and_one_that_may_have_happened_is_not() {
    let Some((proxy, store)) = behind_proxy("writes", "60s") else { return };
    answer(&proxy, Aim::at("PUT", "/refused").times(2), SLOW_DOWN);
    store.put(&path("refused"), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(proxy.count("PUT", "/refused"), 3);

    proxy.lose_answer(Aim::at("PUT", "/lost"));
    answer(&proxy, Aim::at("PUT", "/unclear"), UNAVAILABLE);
    for name in ["lost", "unclear"] {
        let error = store.put(&path(name), Bytes::from_static(b"x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Temporary, "{name}: {error}");
        assert_eq!(proxy.count("PUT", &format!("/{name}")), 1, "a name is written once");
    }
    let there: Vec<_> = store.list(None).map_ok(|object| object.path.to_string()).try_collect().await.unwrap();
    assert_eq!(there, ["lost", "refused"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_comes_back_is_waited_for_by_everything_but_a_probe() {
    let Some((proxy, store)) = behind_proxy("back", "60s") else { return };
    store.put(&path("x"), Bytes::from_static(b"x")).await.unwrap();
    proxy.set(Rule::Refuse);
    let error = store.probe(Access::Read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(!error.message().contains("tried"), "{error}");
    let back = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.set(Rule::Pass);
    };
    let (one, other) = (path("x"), path("y"));
    let (read, put, ()) = tokio::join!(store.read(&one, 0..1), store.put(&other, Bytes::from_static(b"y")), back);
    assert_eq!(read.unwrap(), "x");
    put.unwrap();
    store.probe(Access::Change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_time_for_it_nothing_is_repeated() {
    let Some((proxy, store)) = behind_proxy("never", "0s") else { return };
    answer(&proxy, Aim::at("GET", ""), SLOW_DOWN);
    assert_eq!(store.list_children(None).await.unwrap_err().kind(), ErrorKind::RateLimited);
    assert!(store.list_children(None).await.unwrap().is_empty());
}
