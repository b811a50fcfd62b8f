//! Uploads in parts: sent again, given up, cleaned up.

use std::time::Duration;

use super::service::{Answer, Asked, Service, ok, refuse, written};
use super::transport::ATTEMPTS;
use super::*;

const BEGUN: &str = "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
const COMPLETE: &str = "<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>";
const PART_BYTES: usize = 5 << 20;

/// A service that takes an upload; `part` and `close` answer for these.
fn service(
    mut part: impl FnMut(&Asked) -> Answer + Send + 'static,
    close: impl Fn() -> Answer + Send + 'static,
) -> Service {
    Service::start(move |asked| match asked.method.as_str() {
        "POST" if asked.target.contains("uploads") => ok(BEGUN),
        "POST" => close(),
        "PUT" if asked.is_part() => part(asked),
        "PUT" => written(),
        _ => Answer::Say(204, String::new()),
    })
}

async fn upload(store: &S3Store, size_bytes: usize) -> Result<()> {
    let mut writer = store.create(&path("large")).await?;
    let chunk = Bytes::from(vec![7; 1 << 20]);
    for _ in 0..size_bytes / chunk.len() {
        writer.write(chunk.clone()).await?;
    }
    writer.finish().await
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come");
}

#[tokio::test]
async fn a_large_object_goes_in_parts_with_checksums_and_a_small_one_in_one_request() {
    let service = service(|_| written(), || ok(COMPLETE));
    let store = store(&service);
    upload(&store, 2 * PART_BYTES + (1 << 20)).await.unwrap();
    let parts: Vec<Asked> = service.asked().into_iter().filter(Asked::is_part).collect();
    let mut sizes: Vec<usize> = parts.iter().map(|part| part.body.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1 << 20, PART_BYTES, PART_BYTES]);
    assert!(parts.iter().all(|part| part.header("x-amz-checksum-crc32c").is_some()));
    let begun = service.asked().into_iter().find(|asked| asked.target.contains("uploads")).unwrap();
    assert_eq!(begun.header("x-amz-checksum-algorithm"), Some("CRC32C"));
    let close = service.asked().into_iter().rfind(|asked| asked.method == "POST").unwrap();
    assert!(String::from_utf8_lossy(&close.body).matches("<ChecksumCRC32C>").count() == 3);

    let before = service.count(|_| true);
    upload(&store, 1 << 20).await.unwrap();
    store.put(&path("small"), Bytes::from_static(b"bytes")).await.unwrap();
    store.put(&path("larger"), Bytes::from(vec![7; 2 * PART_BYTES])).await.unwrap();
    assert_eq!(service.count(|_| true), before + 3);
    let last = service.asked().pop().unwrap();
    assert_eq!((last.method.as_str(), last.body.len()), ("PUT", 2 * PART_BYTES));
    assert!(last.header("x-amz-checksum-crc32c").is_some());
    assert!(last.target.starts_with("/bucket/a/prefix/larger"));
}

#[tokio::test]
async fn checksums_can_be_left_out() {
    let service = service(|_| written(), || ok(COMPLETE));
    let store = store_at(service.endpoint(), &[("checksum", "off")]);
    upload(&store, 2 * PART_BYTES).await.unwrap();
    store.put(&path("x"), Bytes::from_static(b"x")).await.unwrap();
    let has = |asked: &Asked| asked.headers.iter().any(|(name, _)| name.starts_with("x-amz-checksum"));
    assert_eq!(service.count(has), 0);
}

#[tokio::test]
async fn a_part_is_sent_again_after_a_passing_error_and_the_closing_is_not() {
    let mut failures = [Answer::Cut, refuse(503, "SlowDown"), refuse(500, "InternalError")].into_iter();
    let flaky = service(move |_| failures.next().unwrap_or_else(written), || ok(COMPLETE));
    upload(&store(&flaky), 2 * PART_BYTES).await.unwrap();
    assert_eq!(flaky.count(Asked::is_part), 2 + 3);

    let back_soon = ok("<html><head></head><body>Back soon!</body></html>");
    for answer in [Answer::Cut, refuse(500, "InternalError"), refuse(503, "SlowDown"), back_soon] {
        let service = service(|_| written(), move || answer.clone());
        upload(&store(&service), 2 * PART_BYTES).await.unwrap_err();
        let closings = |asked: &Asked| asked.method == "POST" && !asked.target.contains("uploads");
        assert_eq!(service.count(closings), 1);
        // The upload is given up, so that nothing is left of it.
        until(|| service.count(|asked| asked.method == "DELETE" && asked.target.contains("uploadId=u1")) == 1).await;
    }
}

#[tokio::test]
async fn a_part_is_not_sent_for_ever_and_a_lasting_error_not_twice() {
    let service = service(
        |asked| if asked.target.contains("partNumber=1&") { refuse(403, "AccessDenied") } else { written() },
        || ok(COMPLETE),
    );
    let error = upload(&store(&service), 2 * PART_BYTES).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    let firsts = |asked: &Asked| asked.is_part() && asked.target.contains("partNumber=1&");
    assert_eq!(service.count(firsts), 1);

    let service = self::service(|_| refuse(503, "SlowDown"), || ok(COMPLETE));
    let store = store_at(service.endpoint(), &[("upload-parallelism", "1")]);
    let error = upload(&store, PART_BYTES + (1 << 20)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited, "{error}");
    assert_eq!(service.count(Asked::is_part), ATTEMPTS as usize);
    assert_eq!(service.count(|asked| asked.method == "POST" && !asked.target.contains("uploads")), 0);
}

#[tokio::test]
async fn only_what_nobody_writes_is_cleaned_up_and_only_what_is_ours() {
    let uploads = "<ListMultipartUploadsResult>
        <Upload><Key>a/prefix/job/large</Key><UploadId>own</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>
        <Upload><Key>a/prefix/job/old</Key><UploadId>old</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>
        <Upload><Key>a/prefix/job/young</Key><UploadId>young</UploadId><Initiated>NOW</Initiated></Upload>
        <Upload><Key>elsewhere/job/x</Key><UploadId>foreign</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>
        <Upload><Key>a/prefix/job/sch\u{f6}n</Key><UploadId>odd</UploadId><Initiated>2020-01-01T00:00:00.000Z</Initiated></Upload>
        <IsTruncated>false</IsTruncated></ListMultipartUploadsResult>";
    let now = reqsign_core::time::Timestamp::now().format_rfc3339_zulu();
    let uploads = uploads.replace("NOW", &now);
    let service = Service::start(move |asked| match asked.method.as_str() {
        "GET" => ok(uploads.clone()),
        "DELETE" if asked.target.contains("uploadId=gone") => refuse(404, "NoSuchUpload"),
        "DELETE" => Answer::Say(204, String::new()),
        _ => written(),
    });
    let store = store(&service);
    let clone: Box<dyn Store> = Box::new(store.clone());
    let writer = clone.create(&path("job/large")).await.unwrap();
    let folder = path("job");
    assert_eq!(store.remove_unfinished(Some(&folder), Duration::from_secs(600)).await.unwrap(), 1);
    let aborted =
        |id: &str| service.count(|asked| asked.method == "DELETE" && asked.target.ends_with(&format!("uploadId={id}")));
    assert_eq!([aborted("own"), aborted("old"), aborted("young"), aborted("foreign"), aborted("odd")], [0, 1, 0, 0, 0]);
    assert!(service.asked()[0].target.contains("prefix=a%2Fprefix%2Fjob%2F"), "{}", service.asked()[0].target);
    writer.abort().await.unwrap();
    assert_eq!(store.remove_unfinished(Some(&folder), Duration::ZERO).await.unwrap(), 3);
}

#[tokio::test]
async fn a_service_that_cannot_list_uploads_is_left_to_its_own_clean_up() {
    for (answer, expected) in [
        (refuse(501, "NotImplemented"), Ok(0)),
        (Answer::Say(405, String::new()), Ok(0)),
        (refuse(403, "AccessDenied"), Err(ErrorKind::PermissionDenied)),
    ] {
        let service = Service::start(move |_| answer.clone());
        let removed = store(&service).remove_unfinished(None, Duration::ZERO).await;
        assert_eq!(removed.map_err(|error| error.kind()), expected);
    }
}
