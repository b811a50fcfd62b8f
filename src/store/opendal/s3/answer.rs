//! Whether what answers is S3, and answers what was asked: a web server, a proxy or a page that says "back soon" with status
//! 200 must not pass for a listing, a write or a part of an object.

use http::{HeaderMap, Uri, header};
use serde::Deserialize;

use super::failure::Failure;
use crate::error::ErrorKind;

const LISTINGS: [&str; 2] = ["ListBucketResult", "ListMultipartUploadsResult"];
/// How much of a foreign name is shown, in characters.
const MAX_SHOWN_CHARS: usize = 200;
const NOT_S3: &str =
    "check the endpoint: option endpoint, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL; and what stands before it";

/// A listing is an XML document with a root of its name, to its end; it names nothing outside of what was asked for, and
/// says where it goes on if it does.
pub(super) fn check_page(page: &[u8], uri: &Uri) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(page);
    let is_begun = |name: &&str| text.contains(&format!("<{name}"));
    let is_whole = |name: &&str| is_begun(name) && text.trim_end().ends_with(&format!("</{name}>"));
    if !LISTINGS.iter().any(is_whole) {
        if LISTINGS.iter().any(is_begun) {
            return Err(Failure::new(ErrorKind::Temporary, "a listing was cut off"));
        }
        return Err(Failure::new(ErrorKind::InvalidInput, "what answers there does not speak S3: a listing is none")
            .with_advice(NOT_S3));
    }
    if uri.query().unwrap_or_default().split('&').any(|pair| pair == "list-type=2") {
        check_objects(&text, uri)?;
    }
    Ok(())
}

/// What of a page is looked at.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Page {
    is_truncated: bool,
    next_continuation_token: String,
    contents: Vec<Object>,
    common_prefixes: Vec<Folder>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Object {
    key: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Folder {
    prefix: String,
}

/// OpenDAL cuts the store's own prefix off every name without a look, and asks for a page that is not named again and
/// again.
fn check_objects(text: &str, uri: &Uri) -> Result<(), Failure> {
    let page: Page = quick_xml::de::from_str(text)
        .map_err(|error| Failure::new(ErrorKind::Temporary, format!("a listing cannot be read: {error}")))?;
    if page.is_truncated && page.next_continuation_token.is_empty() {
        return Err(Failure::new(ErrorKind::Unsupported, "a listing goes on and does not say where")
            .with_advice("the service must speak ListObjectsV2"));
    }
    let query = uri.query().unwrap_or_default().split('&');
    let encoded = query.filter_map(|pair| pair.strip_prefix("prefix=")).next().unwrap_or_default();
    let prefix = percent_encoding::percent_decode_str(encoded).decode_utf8_lossy();
    let folders = page.common_prefixes.into_iter().map(|folder| folder.prefix);
    let mut names = page.contents.into_iter().map(|object| object.key).chain(folders);
    match names.find(|name| !name.starts_with(&*prefix)) {
        None => Ok(()),
        Some(name) => {
            let name: String = name.chars().take(MAX_SHOWN_CHARS).collect();
            let message = format!("a listing below {prefix:?} names {name:?}, which is not below it");
            Err(Failure::new(ErrorKind::InvalidInput, message).with_advice(NOT_S3))
        }
    }
}

/// S3 names what it has written by its tag.
pub(super) fn check_written(headers: &HeaderMap) -> Result<(), Failure> {
    match headers.get(header::ETAG) {
        Some(tag) if !tag.is_empty() => Ok(()),
        _ => Err(Failure::new(ErrorKind::Temporary, "the answer to a write is none of S3: it has no ETag")
            .with_advice(NOT_S3)),
    }
}

/// The answer to the closing of an upload says what came of it, or why nothing did.
pub(super) fn check_completed(said: &[u8]) -> Result<(), Failure> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Completed {
        #[serde(rename = "ETag")]
        etag: String,
    }
    let text = String::from_utf8_lossy(said);
    // Its reader takes it from there.
    let is_refusal = text.contains("<Error");
    let is_done = || quick_xml::de::from_str(&text).is_ok_and(|completed: Completed| !completed.etag.is_empty());
    if is_refusal || (text.contains("<CompleteMultipartUploadResult") && is_done()) {
        return Ok(());
    }
    Err(Failure::new(ErrorKind::Temporary, "the answer to the closing of an upload is none of S3").with_advice(NOT_S3))
}

/// Whether a request is for a part of an object that does not begin at its beginning.
pub(super) fn begins_later(headers: &HeaderMap) -> bool {
    headers.get(header::RANGE).is_some_and(|range| !range.as_bytes().starts_with(b"bytes=0-"))
}

/// A whole object where a later part was asked for.
pub(super) fn ignores_ranges() -> Failure {
    Failure::new(ErrorKind::Unsupported, "a part of an object was asked for, and the answer is all of it")
        .with_advice("the service, or what stands before it, must heed ranges")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(inside: &str, query: &str) -> Result<(), Failure> {
        let uri = format!("http://s3/bucket?{query}").parse().unwrap();
        check_page(format!("<?xml version=\"1.0\"?><ListBucketResult>{inside}</ListBucketResult>").as_bytes(), &uri)
    }

    #[test]
    fn a_page_that_goes_on_says_where() {
        let query = "list-type=2&prefix=a/";
        page("<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>", query).unwrap();
        page("<IsTruncated>false</IsTruncated>", query).unwrap();
        for token in ["", "<NextContinuationToken></NextContinuationToken>"] {
            let failure = page(&format!("<IsTruncated>true</IsTruncated>{token}"), query).unwrap_err();
            assert_eq!(failure.kind, ErrorKind::Unsupported);
        }
    }

    #[test]
    fn a_page_names_nothing_outside_of_what_was_asked_for() {
        let query = "list-type=2&prefix=a%20%26/&delimiter=/";
        page("<Contents><Key>a &amp;/x</Key></Contents><Contents><Key>a &#38;/y</Key></Contents>", query).unwrap();
        page("<Prefix>b/</Prefix><CommonPrefixes><Prefix>a &amp;/x/</Prefix></CommonPrefixes>", query).unwrap();
        for inside in [
            "<Contents><Key>x</Key></Contents>",
            "<Contents><Key>a &amp;/x</Key></Contents><Contents><Key>a</Key></Contents>",
            "<CommonPrefixes><Prefix>a</Prefix></CommonPrefixes>",
        ] {
            assert_eq!(page(inside, query).unwrap_err().kind, ErrorKind::InvalidInput, "{inside}");
        }
        page("<Contents><Key>anything</Key></Contents>", "list-type=2").unwrap();
    }

    #[test]
    fn an_upload_is_closed_by_its_own_answer_only() {
        for good in [
            "<CompleteMultipartUploadResult><ETag>&quot;x&quot;</ETag></CompleteMultipartUploadResult>",
            "<Error><Code>InternalError</Code></Error>",
        ] {
            check_completed(good.as_bytes()).unwrap();
        }
        for bad in ["", "<html>back soon</html>", "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>"] {
            assert_eq!(check_completed(bad.as_bytes()).unwrap_err().kind, ErrorKind::Temporary, "{bad}");
        }
    }
}
