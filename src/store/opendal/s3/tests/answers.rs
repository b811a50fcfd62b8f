//! What a caller is told when the service, or what stands in its place, says odd things.

use std::time::{Duration, Instant};

use futures::TryStreamExt as _;

use super::service::{Answer, Service, empty_listing, ok, refuse, written};
use super::*;

async fn put_error(answer: Answer) -> (Error, usize) {
    let service = Service::start(move |_| answer.clone());
    let error = store(&service).put(&path("x"), Bytes::from_static(b"bytes")).await.unwrap_err();
    (error, service.count(|_| true))
}

#[tokio::test]
async fn a_put_is_never_sent_twice_whatever_the_answer() {
    for (answer, kind) in [
        (refuse(503, "SlowDown"), ErrorKind::RateLimited),
        (refuse(503, "ServiceUnavailable"), ErrorKind::Temporary),
        (refuse(500, "InternalError"), ErrorKind::Temporary),
        (refuse(400, "BadDigest"), ErrorKind::Temporary),
        (refuse(403, "SignatureDoesNotMatch"), ErrorKind::PermissionDenied),
        (refuse(507, "InsufficientStorage"), ErrorKind::StorageFull),
        (ok("<html><body>Back soon!</body></html>"), ErrorKind::Temporary),
        (Answer::Cut, ErrorKind::Temporary),
        (Answer::Wait(Duration::from_secs(2)), ErrorKind::Temporary),
        (
            Answer::SayWith(307, vec![("location", "http://127.0.0.1:1/x".to_owned())], String::new()),
            ErrorKind::InvalidInput,
        ),
    ] {
        let (error, requests) = put_error(answer.clone()).await;
        assert_eq!((error.kind(), requests), (kind, 1), "{answer:?}: {error}");
        assert_eq!(error.object(), Some("x"));
        assert!(!format!("{error:?}").contains("geheim"));
    }
}

#[tokio::test]
async fn a_put_that_lost_a_race_for_its_folder_was_refused_and_is_sent_again_within_bounds() {
    let mut refusals = 2;
    let service = Service::start(move |_| {
        if refusals == 0 {
            return written();
        }
        refusals -= 1;
        refuse(409, "ExistingObjectIsDirectory")
    });
    store(&service).put(&path("x"), Bytes::from_static(b"bytes")).await.unwrap();
    assert_eq!(service.count(|asked| asked.body == b"bytes"), 3);
    let (error, requests) = put_error(refuse(409, "ExistingObjectIsDirectory")).await;
    assert_eq!((error.kind(), requests), (ErrorKind::AlreadyExists, super::transport::ATTEMPTS as usize));
    let (error, requests) = put_error(refuse(409, "OperationAborted")).await;
    assert_eq!((error.kind(), requests), (ErrorKind::Temporary, 1));
}

#[tokio::test]
async fn a_range_past_the_end_is_told_from_an_answer_that_broke_off() {
    let whole = |asked: &super::service::Asked| match asked.method.as_str() {
        "HEAD" => ok("eight..."),
        _ => Answer::Say(206, "eight...".to_owned()),
    };
    let error = store(&Service::start(whole)).read(&path("x"), 0..9).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let service = Service::start(|asked| match asked.method.as_str() {
        "HEAD" => ok("sixteen bytes..."),
        _ => Answer::Short("eight...".to_owned()),
    });
    let error = store(&service).read(&path("x"), 0..16).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
}

#[tokio::test]
async fn a_service_that_ignores_ranges_does_not_make_sound_objects_look_damaged() {
    let whole = |_: &super::service::Asked| ok("sixteen bytes...");
    for range in [0..8, 4..8, 0..15] {
        let error = store(&Service::start(whole)).read(&path("x"), range).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("must heed ranges"), "{error}");
    }
    assert_eq!(store(&Service::start(whole)).read(&path("x"), 0..16).await.unwrap(), "sixteen bytes...");
}

#[tokio::test]
async fn a_listing_that_names_what_was_not_asked_for_is_refused() {
    for key in ["x", "a/prefi", "b/prefix/job/object"] {
        let page = format!("<ListBucketResult><Contents><Key>{key}</Key><Size>1</Size></Contents></ListBucketResult>");
        let store = store(&Service::start(move |_| ok(page.clone())));
        for error in
            [store.list_children(None).await.unwrap_err(), store.list(None).try_collect::<Vec<_>>().await.unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        }
    }
}

#[tokio::test]
async fn an_endpoint_where_nothing_listens_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = store_at(&endpoint, &[]);
    for error in [
        store.put(&path("x"), Bytes::from_static(b"bytes")).await.unwrap_err(),
        store.probe(Access::Read).await.unwrap_err(),
        store.delete(&[path("x"), path("y")]).await.remove(1).unwrap_err(),
        store.list_children(None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("AWS_ENDPOINT_URL_S3"), "{error}");
    }
}

#[tokio::test]
async fn a_web_server_that_is_no_s3_does_not_look_like_an_empty_store() {
    let service = Service::start(|_| ok("<html><body>Welcome!</body></html>"));
    let store = store(&service);
    for error in [
        store.probe(Access::Read).await.unwrap_err(),
        store.list_children(None).await.unwrap_err(),
        store.list(None).try_collect::<Vec<_>>().await.unwrap_err(),
        store.remove_unfinished(None, Duration::ZERO).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("does not speak S3"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_bucket_or_key_does_not_look_like_an_empty_store() {
    for (answer, kind) in [
        (refuse(404, "NoSuchBucket"), ErrorKind::InvalidInput),
        (refuse(404, "NoSuchKey"), ErrorKind::InvalidInput),
        (Answer::Say(404, String::new()), ErrorKind::InvalidInput),
        (refuse(404, "InvalidAccessKeyId"), ErrorKind::PermissionDenied),
    ] {
        let service = Service::start(move |_| answer.clone());
        let store = store(&service);
        assert_eq!(store.list_children(None).await.unwrap_err().kind(), kind);
        assert_eq!(store.list(None).try_collect::<Vec<_>>().await.unwrap_err().kind(), kind);
        assert_eq!(store.probe(Access::Change).await.unwrap_err().kind(), kind);
    }
}

#[tokio::test]
async fn a_listing_that_breaks_off_is_no_short_listing() {
    let whole = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    for answer in [ok(&whole[..30]), Answer::Short(whole.to_owned())] {
        let service = Service::start(move |_| answer.clone());
        let error = store(&service).list_children(None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Temporary, "{error}");
    }
}

#[tokio::test]
async fn a_probe_that_reads_writes_nothing_and_one_that_changes_leaves_nothing() {
    let kept = Arc::new(parking_lot::Mutex::new(Vec::<(String, Vec<u8>)>::new()));
    let objects = kept.clone();
    let stale = "/bucket/a/prefix/.icecore-probe/12345-left-by-a-crash".to_owned();
    kept.lock().push((stale, b"old".to_vec()));
    let service = Service::start(move |asked| {
        let mut objects = objects.lock();
        let place = asked.target.split('?').next().unwrap_or_default().to_owned();
        match asked.method.as_str() {
            "PUT" => objects.push((place, asked.body.clone())),
            "POST" => {
                let keys: Vec<String> = objects.iter().map(|(place, _)| place.replace("/bucket/", "")).collect();
                let body = String::from_utf8_lossy(&asked.body).into_owned();
                objects.retain(|(place, _)| !body.contains(&format!("<Key>{}</Key>", place.replace("/bucket/", ""))));
                let deleted: String = keys.iter().map(|key| format!("<Deleted><Key>{key}</Key></Deleted>")).collect();
                return ok(format!("<DeleteResult>{deleted}</DeleteResult>"));
            }
            "GET" if asked.is_listing() => {
                let entry = |(place, body): &(String, Vec<u8>)| {
                    let (key, size) = (place.replace("/bucket/", ""), body.len());
                    let date = "<LastModified>2026-01-01T00:00:00.000Z</LastModified>";
                    format!("<Contents><Key>{key}</Key><Size>{size}</Size>{date}</Contents>")
                };
                objects.sort();
                let entries: String = objects.iter().map(entry).collect();
                return ok(format!("<ListBucketResult>{entries}<IsTruncated>false</IsTruncated></ListBucketResult>"));
            }
            "GET" => {
                let body = objects.iter().find(|(at, _)| *at == place).map(|(_, body)| body.clone());
                return body.map_or(Answer::Say(404, String::new()), |body| ok(String::from_utf8(body).unwrap()));
            }
            _ => {}
        }
        written()
    });
    let store = store(&service);
    store.probe(Access::Read).await.unwrap();
    assert_eq!(service.count(|_| true), 1);
    assert_eq!(service.count(super::service::Asked::is_listing), 1);
    store.probe(Access::Change).await.unwrap();
    assert!(kept.lock().is_empty(), "{:?}", kept.lock());
}

#[tokio::test]
async fn a_service_that_keeps_nothing_fails_the_probe() {
    let service = Service::start(|asked| if asked.is_listing() { empty_listing() } else { written() });
    let store = store(&service);
    store.probe(Access::Read).await.unwrap();
    assert!(store.probe(Access::Change).await.is_err());
}

#[tokio::test]
async fn a_batch_tells_each_object_what_became_of_it_and_a_failed_one_tells_all() {
    let service = Service::start(|_| {
        ok("<DeleteResult><Deleted><Key>a/prefix/one</Key></Deleted>
            <Error><Key>a/prefix/two</Key><Code>AccessDenied</Code></Error></DeleteResult>")
    });
    let answers = store(&service).delete(&[path("one"), path("two"), path("three")]).await;
    let kinds: Vec<_> = answers.iter().map(|answer| answer.as_ref().err().map(Error::kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::PermissionDenied), Some(ErrorKind::Temporary)]);
    assert_eq!(answers[1].as_ref().unwrap_err().object(), Some("two"));
    assert!(service.asked()[0].header("content-md5").is_some());

    let service = Service::start(|_| refuse(503, "SlowDown"));
    let answers = store(&service).delete(&[path("one"), path("two")]).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().kind() == ErrorKind::RateLimited));
}

#[tokio::test]
async fn where_there_are_no_batches_objects_are_deleted_one_by_one() {
    let service = Service::start(|asked| match asked.method.as_str() {
        "POST" => refuse(501, "NotImplemented"),
        _ => Answer::Say(204, String::new()),
    });
    let answers = store(&service).delete(&[path("one"), path("two")]).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(service.count(|asked| asked.method == "DELETE"), 2);
}

#[tokio::test]
async fn silence_ends_a_request_and_movement_does_not() {
    let started = Instant::now();
    let (error, _) = put_error(Answer::Wait(Duration::from_secs(5))).await;
    assert!(error.to_string().contains("nothing was heard"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(4));

    // Bytes that trickle: a body in pieces, with pauses shorter than the limit and longer in sum.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut connection, _) = listener.accept().unwrap();
        let _ = connection.read(&mut [0; 4096]);
        connection.write_all(b"HTTP/1.1 206 X\r\ncontent-length: 8\r\n\r\n").unwrap();
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(150));
            connection.write_all(b"x").unwrap();
        }
    });
    let started = Instant::now();
    assert_eq!(store_at(&endpoint, &[]).read(&path("x"), 0..8).await.unwrap(), "xxxxxxxx");
    assert!(started.elapsed() > Duration::from_millis(600));
}

#[tokio::test]
async fn who_has_no_credentials_is_told_so_and_soon() {
    let service = Service::start(|_| empty_listing());
    // Where the machine would answer, somebody listens and says nothing.
    let machine = Service::start(|_| Answer::Wait(Duration::from_secs(10)));
    let options = StoreOptions::new().with("endpoint", service.endpoint());
    let env = Env::system().unwrap();
    let variable = ("AWS_EC2_METADATA_SERVICE_ENDPOINT".to_owned(), machine.endpoint().to_owned());
    let nothing = Arc::new(StaticEnv { home_dir: None, envs: [variable].into() });
    let store = S3Store::open_within("bucket", "", &options, env.clone(), nothing.clone()).unwrap();
    let started = Instant::now();
    let error = store.probe(Access::Read).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!((service.count(|_| true), machine.count(|_| true)), (0, 1));
    let error = store.remove_unfinished(None, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");

    let options = options.with("anonymous", "true");
    let store = S3Store::open_within("bucket", "", &options, env, nothing).unwrap();
    store.probe(Access::Read).await.unwrap();
    assert!(service.asked()[0].header("authorization").is_none());
}
