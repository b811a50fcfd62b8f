//! The S3 store on a real server: what the conformance suite does not ask.

mod s3_support;
mod services;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use icecore::ErrorKind;
use icecore::coordinator::{Coordinator, CoordinatorOptions};
use icecore::env::Env;
use icecore::layout::JobId;
use icecore::store::{Access, ObjectWriter, StoreOptions, StorePath, StoreRef};

use s3_support::{options, path, store_at};
use services::S3Address;

const PART_BYTES: usize = 5 << 20;

fn small_parts(s3: &S3Address) -> StoreOptions {
    options(s3).with("part-size", "5MiB")
}

async fn begin(store: &StoreRef, path: &StorePath, size_bytes: usize) -> Box<dyn ObjectWriter> {
    let mut writer = store.create(path).await.unwrap();
    for _ in 0..size_bytes >> 20 {
        writer.write(Bytes::from(vec![7; 1 << 20])).await.unwrap();
    }
    writer
}

#[tokio::test]
async fn a_probe_lets_in_who_has_the_keys_and_leaves_nothing() {
    let Some(s3) = services::shared_s3() else { return };
    let store = store_at(s3, &services::fresh_prefix("probe"), &options(s3));
    store.probe(Access::Read).await.unwrap();
    store.probe(Access::Change).await.unwrap();
    let left: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn wrong_credentials_and_names_never_look_like_an_empty_store() {
    let Some(s3) = services::shared_s3() else { return };
    let prefix = services::fresh_prefix("wrong");
    let right = store_at(s3, &prefix, &options(s3));
    right.put(&path("job-a/x"), Bytes::from_static(b"x")).await.unwrap();
    let cases = [
        (options(s3).with("access-key-id", "AKIAWRONG"), ErrorKind::PermissionDenied, "AWS_ACCESS_KEY_ID"),
        (options(s3).with("secret-access-key", "geheim"), ErrorKind::PermissionDenied, "AWS_SECRET_ACCESS_KEY"),
        (options(s3).with("endpoint", "http://127.0.0.1:1"), ErrorKind::Unreachable, "AWS_ENDPOINT_URL_S3"),
    ];
    for (options, kind, advice) in cases {
        let store = store_at(s3, &prefix, &options.clone().with("retry-for", "0s"));
        for error in [
            store.probe(Access::Read).await.unwrap_err(),
            store.probe(Access::Change).await.unwrap_err(),
            store.list_children(None).await.unwrap_err(),
            store.list(None).try_collect::<Vec<_>>().await.unwrap_err(),
            start(&store).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), kind, "{options:?}: {error}");
            assert!(error.to_string().contains(advice), "{error}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }
    let elsewhere = icecore::store::StoreAddress::parse("s3://no-such-bucket/x").unwrap();
    let store = icecore::store::open(&elsewhere, &options(s3), Env::system().unwrap()).unwrap();
    for error in [store.probe(Access::Read).await.unwrap_err(), start(&store).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("bucket"), "{error}");
    }
    assert_eq!(right.list_children(None).await.unwrap().len(), 1, "a refused coordinator wrote something");
}

async fn start(store: &StoreRef) -> icecore::Result<Coordinator> {
    let (env, options) = (Env::system().unwrap(), CoordinatorOptions::default());
    Coordinator::start(store.clone(), JobId::new("a").unwrap(), Vec::new(), env, options, Vec::new()).await
}

#[tokio::test]
async fn a_coordinator_starts_and_ends_on_the_server() {
    let Some(s3) = services::shared_s3() else { return };
    let store = store_at(s3, &services::fresh_prefix("coordinator"), &options(s3));
    start(&store).await.unwrap().end().await.unwrap();
    let jobs = store.list_children(None).await.unwrap();
    assert_eq!(jobs.iter().map(|child| child.name.as_str()).collect::<Vec<_>>(), ["job-a"]);
}

#[tokio::test]
async fn thousands_are_deleted_in_batches_with_an_answer_each() {
    let Some(s3) = services::shared_s3() else { return };
    let store = store_at(s3, &services::fresh_prefix("delete"), &options(s3));
    let paths: Vec<StorePath> = (0..2_300).map(|number| path(&format!("d/{number:05}"))).collect();
    let put = |path: StorePath| {
        let store = store.clone();
        async move { store.put(&path, Bytes::from_static(b"x")).await }
    };
    // Every other one is there.
    for chunk in paths.chunks(64) {
        let puts = chunk.iter().step_by(2).cloned().map(put);
        futures::future::try_join_all(puts).await.unwrap();
    }
    store.put(&path("d-kept"), Bytes::from_static(b"x")).await.unwrap();
    let answers = store.delete(&paths).await;
    assert_eq!(answers.len(), paths.len());
    for answer in answers {
        answer.unwrap();
    }
    let left: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert_eq!(left.iter().map(|object| object.path.as_str()).collect::<Vec<_>>(), ["d-kept"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_nobody_finishes_are_removed_and_their_writers_fail() {
    let Some(s3) = services::shared_s3() else { return };
    let prefix = services::fresh_prefix("abandoned");
    let crashed = store_at(s3, &prefix, &small_parts(s3));
    let other = store_at(s3, &prefix, &small_parts(s3));
    let (one, two) = (path("job-a/one"), path("job-a/two"));
    std::mem::forget(begin(&crashed, &one, 3 * PART_BYTES).await);
    let slow = begin(&crashed, &two, 3 * PART_BYTES).await;
    let elsewhere = begin(&crashed, &path("job-ab/three"), 3 * PART_BYTES).await;

    let job = path("job-a");
    assert_eq!(crashed.remove_unfinished(Some(&job), Duration::ZERO).await.unwrap(), 0, "its own");
    assert_eq!(other.remove_unfinished(Some(&job), Duration::from_secs(3600)).await.unwrap(), 0, "young ones");
    assert_eq!(other.remove_unfinished(Some(&path("job-b")), Duration::ZERO).await.unwrap(), 0, "of other folders");
    assert_eq!(other.remove_unfinished(Some(&job), Duration::ZERO).await.unwrap(), 2);
    assert_eq!(other.remove_unfinished(Some(&job), Duration::ZERO).await.unwrap(), 0, "twice");

    let error = slow.finish().await.unwrap_err();
    // A busy server may say that it failed, where it should say that there is no such upload.
    assert!(matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Temporary), "{error}");
    assert_eq!(other.stat(&two).await.unwrap_err().kind(), ErrorKind::NotFound);
    elsewhere.finish().await.unwrap();
    assert_eq!(other.stat(&path("job-ab/three")).await.unwrap().size_bytes, 3 * PART_BYTES as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_writer_gives_its_upload_up() {
    let Some(s3) = services::shared_s3() else { return };
    let prefix = services::fresh_prefix("dropped");
    let store = store_at(s3, &prefix, &small_parts(s3));
    drop(begin(&store, &path("x"), 3 * PART_BYTES).await);
    begin(&store, &path("y"), 3 * PART_BYTES).await.abort().await.unwrap();
    let other = store_at(s3, &prefix, &small_parts(s3));
    let mut found = 1;
    // The first is given up in the background: it may be caught here, and then is gone as well.
    for _ in 0..100 {
        found = other.remove_unfinished(None, Duration::ZERO).await.unwrap();
        if found == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found, 0);
    assert!(other.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_name_that_is_too_long_with_the_prefix_is_refused_before_it_is_sent() {
    let Some(s3) = services::shared_s3() else { return };
    let store = store_at(s3, &"p".repeat(200), &options(s3));
    let long = path(&vec!["n".repeat(200); 5].join("/"));
    let error = store.put(&long, Bytes::new()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded, "{error}");
    assert_eq!(store.create(&long).await.err().unwrap().kind(), ErrorKind::LimitExceeded);
}

#[tokio::test]
async fn a_server_that_is_killed_is_unreachable_and_keeps_what_it_acknowledged() {
    let Some(server) = services::S3Server::start() else { return };
    let store = store_at(server.address(), "kill", &options(server.address()).with("retry-for", "0s"));
    store.put(&path("x"), Bytes::from_static(b"kept")).await.unwrap();
    server.kill9();
    let error = store.put(&path("y"), Bytes::from_static(b"lost")).await.unwrap_err();
    // The first request may go out over a connection that was open, and breaks.
    assert!(matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Temporary), "{error}");
    let error = store.put(&path("z"), Bytes::from_static(b"lost")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    server.restart();
    assert_eq!(store.read(&path("x"), 0..4).await.unwrap(), "kept");
    assert_eq!(store.stat(&path("z")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_in_parts_survives_a_server_that_is_restarted_meanwhile() {
    let Some(server) = services::S3Server::start() else { return };
    let store = store_at(server.address(), "restart", &small_parts(server.address()));
    let mut writer = begin(&store, &path("x"), 3 * PART_BYTES).await;
    server.kill9();
    let server = Arc::new(server);
    let later = server.clone();
    let restarting = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(300));
        later.restart();
    });
    for _ in 0..(4 * PART_BYTES) >> 20 {
        writer.write(Bytes::from(vec![8; 1 << 20])).await.unwrap();
    }
    restarting.await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(store.stat(&path("x")).await.unwrap().size_bytes, 7 * PART_BYTES as u64);
}

/// Lets everybody list and read the bucket, by a bucket policy.
fn open_for_reading(s3: &S3Address) -> bool {
    let (bucket, actions) = (s3.bucket(), r#""s3:GetObject","s3:ListBucket""#);
    let resources = format!(r#""arn:aws:s3:::{bucket}","arn:aws:s3:::{bucket}/*""#);
    let statement = format!(r#"{{"Effect":"Allow","Principal":"*","Action":[{actions}],"Resource":[{resources}]}}"#);
    let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    let signing = format!("aws:amz:{}:s3", s3.region());
    let keys = format!("{}:{}", s3.access_key(), s3.secret_key());
    let url = format!("{}/{bucket}?policy=", s3.endpoint());
    let header = "x-amz-content-sha256: UNSIGNED-PAYLOAD";
    let arguments =
        ["-sSf", "--aws-sigv4", &signing, "--user", &keys, "-H", header, "-X", "PUT", "--data-binary", &policy, &url];
    match std::process::Command::new("curl").args(arguments).output() {
        Ok(output) => {
            assert!(output.status.success(), "{output:?}");
            true
        }
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "curl cannot be run: {error}");
            eprintln!("SKIPPED: read-only access; curl sets the bucket's policy, and cannot be run: {error}");
            false
        }
    }
}

#[tokio::test]
async fn who_may_only_read_can_read_and_is_told_so_before_anything_is_written() {
    let Some(server) = services::S3Server::start() else { return };
    let s3 = server.address();
    if !open_for_reading(s3) {
        return;
    }
    let writer = store_at(s3, "read-only", &options(s3));
    writer.put(&path("job-a/x"), Bytes::from_static(b"x")).await.unwrap();
    let anonymous = StoreOptions::new().with("endpoint", s3.endpoint()).with("anonymous", "true");
    let reader = store_at(s3, "read-only", &anonymous);
    reader.probe(Access::Read).await.unwrap();
    assert_eq!(reader.read(&path("job-a/x"), 0..1).await.unwrap(), "x");
    assert_eq!(reader.stat(&path("job-a/y")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(reader.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    for error in [
        reader.probe(Access::Change).await.unwrap_err(),
        start(&reader).await.unwrap_err(),
        reader.put(&path("job-a/y"), Bytes::new()).await.unwrap_err(),
        reader.delete(&[path("job-a/x")]).await.remove(0).unwrap_err(),
        reader.delete(&[path("job-a/x"), path("job-a/y")]).await.remove(0).unwrap_err(),
        reader.remove_unfinished(None, Duration::ZERO).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains("docs/stores.md"), "{error}");
    }
    assert_eq!(writer.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 1, "somebody without rights wrote");
}
