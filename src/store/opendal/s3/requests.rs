//! The few requests that OpenDAL does not make, or whose answers it does not take apart.
//!
//! - `DeleteObjects`: OpenDAL asks for failures only and takes every object that is not among them for deleted.
//!   Here every object has to be named as deleted.
//! - `ListMultipartUploads` and `AbortMultipartUpload`, to find what crashed writers left.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use ::opendal::Buffer;
use ::opendal::raw::format_content_md5;
use bytes::Bytes;
use http::Request;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::time::Timestamp;
use reqsign_core::{Context, Signer};
use serde::{Deserialize, Serialize};

use super::credentials::Source;
use super::failure::{self, Failure};
use super::settings::Settings;
use super::transport::Transport;
use crate::error::ErrorKind;

/// The most objects that one `DeleteObjects` takes.
pub(super) const MAX_DELETED_AT_ONCE: usize = 1_000;
/// How many uploads a page lists.
const PAGE_UPLOADS: u32 = 1_000;

/// Signed requests to one bucket.
pub(super) struct Requests {
    transport: Transport,
    /// `None` for anonymous access.
    signer: Option<Signer<Credential>>,
    bucket_url: String,
}

/// An upload that was begun and neither finished nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenUpload {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) begun: SystemTime,
}

/// Where the next page of open uploads begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marker {
    key: String,
    id: String,
}

/// What became of one object of a batch.
pub(super) type Deleted = Result<(), Failure>;

impl Requests {
    pub(super) fn new(settings: &Settings, source: Option<Source>, transport: Transport) -> Self {
        let signer = source.map(|source| {
            let context = Context::new().with_http_send(::opendal::HttpTransporter::new(transport.clone()));
            Signer::new(context, source, RequestSigner::new("s3", &settings.region))
        });
        Self { transport, signer, bucket_url: settings.bucket_url() }
    }

    /// Deletes at most [`MAX_DELETED_AT_ONCE`] objects. One answer each, in order.
    ///
    /// # Errors
    /// The request as a whole failed: nothing is known of any object.
    pub(super) async fn delete(&self, keys: &[String]) -> Result<Vec<Deleted>, Failure> {
        let objects = keys.iter().map(|key| Named { key: key.clone() }).collect();
        let body = quick_xml::se::to_string(&Delete { quiet: false, objects }).map_err(|error| unreadable(&error))?;
        let request = Request::post(format!("{}?delete", self.bucket_url))
            .header(http::header::CONTENT_TYPE, "application/xml")
            .header(http::header::CONTENT_LENGTH, body.len())
            .header("content-md5", format_content_md5(body.as_bytes()));
        let answer = self.send(request, Bytes::from(body)).await?;
        attributed(keys, &answer)
    }

    /// One page of the open uploads whose keys begin with `prefix`, and where the next begins.
    pub(super) async fn open_uploads(
        &self,
        prefix: &str,
        marker: &Marker,
    ) -> Result<(Vec<OpenUpload>, Option<Marker>), Failure> {
        let mut url =
            format!("{}?uploads&max-uploads={PAGE_UPLOADS}&prefix={}", self.bucket_url, encoded(prefix, false));
        if !marker.key.is_empty() {
            url +=
                &format!("&key-marker={}&upload-id-marker={}", encoded(&marker.key, false), encoded(&marker.id, false));
        }
        let answer = self.send(Request::get(url), Bytes::new()).await?;
        let page: UploadPage = quick_xml::de::from_reader(answer.as_ref()).map_err(|error| unreadable(&error))?;
        let uploads = page.upload.into_iter().map(OpenUpload::try_from).collect::<Result<_, _>>()?;
        let next = Marker { key: page.next_key_marker, id: page.next_upload_id_marker };
        match page.is_truncated {
            true if next.key.is_empty() || next == *marker => {
                Err(Failure::new(ErrorKind::Temporary, "the list of uploads does not get on"))
            }
            true => Ok((uploads, Some(next))),
            false => Ok((uploads, None)),
        }
    }

    /// Gives an upload up. Whether it was still there.
    pub(super) async fn abort(&self, upload: &OpenUpload) -> Result<bool, Failure> {
        let url = format!("{}/{}?uploadId={}", self.bucket_url, encoded(&upload.key, true), encoded(&upload.id, false));
        match self.send(Request::delete(url), Bytes::new()).await {
            Ok(_) => Ok(true),
            // Finished or aborted meanwhile: the answer is "no such upload".
            Err(failure) if matches!(failure.kind, ErrorKind::Cancelled | ErrorKind::NotFound) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    async fn send(&self, request: http::request::Builder, body: Bytes) -> Result<Bytes, Failure> {
        let request = request.body(()).map_err(|error| unreadable(&error))?;
        let (mut parts, ()) = request.into_parts();
        if let Some(signer) = &self.signer {
            signer.sign(&mut parts, None).await.map_err(|error| not_signed(&error))?;
        }
        // The client sets it; doubled it would be refused.
        parts.headers.remove(http::header::HOST);
        self.transport.exchange(Request::from_parts(parts, Buffer::from(body))).await
    }
}

/// One answer for each key: only what is named as deleted, or as never there, is.
fn attributed(keys: &[String], answer: &[u8]) -> Result<Vec<Deleted>, Failure> {
    let answer: DeleteAnswer = quick_xml::de::from_reader(answer).map_err(|error| unreadable(&error))?;
    let deleted: HashSet<String> = answer.deleted.into_iter().map(|named| named.key).collect();
    let mut refused: HashMap<String, Refused> = HashMap::new();
    refused.extend(answer.error.into_iter().map(|refused| (refused.key.clone(), refused)));
    let outcome = |key: &String| match refused.remove(key) {
        Some(refused) if refused.code == "NoSuchKey" => Ok(()),
        Some(refused) => Err(failure::of_refusal(&refused.code, &refused.message)),
        None if deleted.contains(key) => Ok(()),
        None => Err(Failure::new(ErrorKind::Temporary, "the service's answer does not say that it is deleted")),
    };
    Ok(keys.iter().map(outcome).collect())
}

#[derive(Serialize)]
#[serde(rename = "Delete", rename_all = "PascalCase")]
struct Delete {
    quiet: bool,
    #[serde(rename = "Object")]
    objects: Vec<Named>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    key: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DeleteAnswer {
    deleted: Vec<Named>,
    error: Vec<Refused>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    key: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct UploadPage {
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
    upload: Vec<Begun>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Begun {
    key: String,
    upload_id: String,
    initiated: String,
}

impl TryFrom<Begun> for OpenUpload {
    type Error = Failure;

    fn try_from(begun: Begun) -> Result<Self, Failure> {
        let time = begun.initiated.parse::<Timestamp>().map_err(|error| unreadable(&error))?;
        Ok(Self { key: begun.key, id: begun.upload_id, begun: time.as_system_time() })
    }
}

/// A text as it stands in a URL. In a path, slashes stay.
fn encoded(text: &str, is_path: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'/' if is_path => encoded.push('/'),
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => encoded.push(char::from(byte)),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

fn unreadable(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(ErrorKind::Temporary, format!("the service's answer cannot be read: {error}"))
}

/// A request could not be signed: credentials are missing, or could not be fetched.
fn not_signed(error: &reqsign_core::Error) -> Failure {
    Failure::cause_of(error)
        .unwrap_or_else(|| Failure::new(ErrorKind::PermissionDenied, format!("the request cannot be signed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_what_is_named_as_deleted_is_deleted() {
        let answer = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>
            <DeleteResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">
            <Deleted><Key>p/a</Key></Deleted>
            <Error><Key>p/b</Key><Code>AccessDenied</Code><Message>no</Message></Error>
            <Deleted><Key>p/c&amp;d</Key><DeleteMarker>true</DeleteMarker></Deleted>
            <Error><Key>p/e</Key><Code>NoSuchKey</Code></Error>
            <Error><Key>p/f</Key><Code>SlowDown</Code></Error>
            <Deleted><Key>elsewhere</Key></Deleted>
            </DeleteResult>";
        let outcomes = attributed(&keys(&["p/a", "p/b", "p/c&d", "p/e", "p/f", "p/not-mentioned"]), answer).unwrap();
        let kinds: Vec<Option<ErrorKind>> =
            outcomes.into_iter().map(|outcome| outcome.err().map(|failure| failure.kind)).collect();
        let denied = Some(ErrorKind::PermissionDenied);
        let expected = [None, denied, None, None, Some(ErrorKind::RateLimited), Some(ErrorKind::Temporary)];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn an_answer_that_is_none_deletes_nothing() {
        for answer in ["", "<html>welcome</html>", "<DeleteResult></DeleteResult>", "<DeleteResult><Deleted><Key>a"] {
            let all_failed = match attributed(&keys(&["a", "b"]), answer.as_bytes()) {
                Err(_) => true,
                Ok(outcomes) => outcomes.iter().all(Result::is_err),
            };
            assert!(all_failed, "{answer}");
        }
        // A key that is both is not believed to be gone.
        let both =
            "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>a</Key><Code>X</Code></Error></DeleteResult>";
        assert!(attributed(&keys(&["a"]), both.as_bytes()).unwrap()[0].is_err());
    }

    #[test]
    fn keys_are_escaped_for_xml_and_for_urls() {
        let body = Delete { quiet: false, objects: vec![Named { key: "a<&>b".to_owned() }] };
        let text = quick_xml::se::to_string(&body).unwrap();
        assert!(text.starts_with("<Delete><Quiet>false</Quiet><Object><Key>a&lt;&amp;"), "{text}");
        assert_eq!(encoded("a b/c+d%é", true), "a%20b/c%2Bd%25%C3%A9");
        assert_eq!(encoded("a/b", false), "a%2Fb");
    }

    #[test]
    fn open_uploads_are_read_with_their_time() {
        let page = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>
            <NextUploadIdMarker>u</NextUploadIdMarker>
            <Upload><Key>p/a</Key><UploadId>1</UploadId><Initiated>2026-01-02T03:04:05.678Z</Initiated></Upload>
            <Upload><Key>p/a</Key><UploadId>2</UploadId><Initiated>1970-01-01T00:00:01Z</Initiated></Upload>
            </ListMultipartUploadsResult>";
        let page: UploadPage = quick_xml::de::from_str(page).unwrap();
        assert!(page.is_truncated);
        let uploads: Vec<OpenUpload> = page.upload.into_iter().map(|begun| begun.try_into().unwrap()).collect();
        let since = |upload: &OpenUpload| upload.begun.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        assert_eq!(uploads.iter().map(since).collect::<Vec<_>>(), [1_767_323_045_678, 1_000]);
        let bad = Begun { key: "k".to_owned(), upload_id: "u".to_owned(), initiated: "yesterday".to_owned() };
        assert!(OpenUpload::try_from(bad).is_err());
    }
}
