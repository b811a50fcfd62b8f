//! What went wrong, in one table: the service's answers, the connection, the credentials.
//!
//! A [`Failure`] travels inside OpenDAL's error to the place where that becomes an error of ours
//! (`super::super::failure`). OpenDAL's own verdict on trying again is always "no": no layer of its may repeat a
//! request, because a write whose answer was lost must not be sent again under its name (design 4.7).

use std::fmt;

use http::{HeaderMap, Method, StatusCode, Uri};
use serde::Deserialize;

use crate::error::ErrorKind;

/// How much of a message of the service is shown, in characters.
const MAX_SHOWN_CHARS: usize = 200;

/// Why a request failed.
#[derive(Debug)]
pub(in super::super) struct Failure {
    pub(in super::super) kind: ErrorKind,
    pub(in super::super) message: String,
    pub(in super::super) advice: Option<String>,
    /// What the caller of OpenDAL is to see, where it looks at that.
    theirs: ::opendal::ErrorKind,
    is_lost_race: bool,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        use ::opendal::ErrorKind as Theirs;
        let theirs = match kind {
            ErrorKind::NotFound => Theirs::NotFound,
            ErrorKind::PermissionDenied => Theirs::PermissionDenied,
            ErrorKind::RateLimited => Theirs::RateLimited,
            ErrorKind::Unsupported => Theirs::Unsupported,
            ErrorKind::InvalidInput => Theirs::ConfigInvalid,
            _ => Theirs::Unexpected,
        };
        Self { kind, message: message.into(), advice: None, theirs, is_lost_race: false }
    }

    #[must_use]
    pub(super) fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Whether a PUT was refused because its folder went away meanwhile: nothing was made, and nothing will be.
    pub(super) fn is_lost_race(&self) -> bool {
        self.is_lost_race
    }

    /// What caused an error of OpenDAL or `reqsign`, as far as it is known here.
    pub(in super::super) fn cause_of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let found = Self::inside(error).map(Self::again);
        found.or_else(|| super::credentials::are_missing(error).then(super::credentials::none_found))
    }

    /// The failure inside another error.
    fn inside<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(failure) = error.downcast_ref() {
                return Some(failure);
            }
            next = error.source();
        }
        None
    }

    /// The same, once more.
    pub(in super::super) fn again(&self) -> Self {
        let Self { kind, theirs, is_lost_race, .. } = *self;
        Self { kind, message: self.message.clone(), advice: self.advice.clone(), theirs, is_lost_race }
    }

    /// As an error of OpenDAL, which it never repeats.
    pub(super) fn into_opendal(self) -> ::opendal::Error {
        ::opendal::Error::new(self.theirs, self.message.clone()).set_source(self).set_permanent()
    }

    /// As an error of the crate.
    pub(in super::super) fn into_error(self, operation: &'static str) -> crate::error::Error {
        let error = crate::error::Error::new(self.kind, operation, self.message);
        match self.advice {
            Some(advice) => error.with_advice(advice),
            None => error,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// What a service says when it refuses: `<Error><Code>...`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Refusal {
    code: String,
    message: String,
    request_id: String,
}

/// What a request was about: the answer 404 means other things for a bucket than for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Bucket,
    Object,
}

/// The failure that an answer tells of.
pub(super) fn of_answer(
    method: &Method,
    subject: Subject,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Failure {
    let refusal: Refusal = quick_xml::de::from_reader(body).unwrap_or_default();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (mut kind, mut advice) = judged(status, &refusal.code);
    if kind == ErrorKind::NotFound && subject == Subject::Bucket {
        // Never "not found": the caller would take it for an empty folder.
        (kind, advice) = (ErrorKind::InvalidInput, NO_BUCKET);
    }
    let mut message = format!("the service answered {}{}", status.as_u16(), shown(&refusal.code, &refusal.message));
    if refusal.code.is_empty() {
        message += &format!(" to {method}");
    }
    let request_id = [refusal.request_id.as_str(), header("x-amz-request-id")].into_iter().find(|id| !id.is_empty());
    if let Some(id) = request_id {
        message += " (request ";
        message.extend(id.chars().filter(char::is_ascii_graphic).take(MAX_SHOWN_CHARS));
        message.push(')');
    }
    let region = header("x-amz-bucket-region");
    let failure = Failure { is_lost_race: refusal.code == LOST_RACE, ..Failure::new(kind, message) };
    let failure = match (advice, region) {
        (ELSEWHERE, region) if !region.is_empty() => failure.with_advice(format!(
            "the bucket is in region {region}: give --store-option region={region}, or set AWS_REGION"
        )),
        ("", _) => failure,
        (advice, _) => failure.with_advice(advice),
    };
    if status == StatusCode::RANGE_NOT_SATISFIABLE || refusal.code == "InvalidRange" {
        return Failure { theirs: ::opendal::ErrorKind::RangeNotSatisfied, ..failure };
    }
    failure
}

/// The failure of one object of a batch.
pub(super) fn of_refusal(code: &str, message: &str) -> Failure {
    let (kind, advice) = judged(StatusCode::OK, code);
    let failure = Failure::new(kind, format!("the service answered{}", shown(code, message)));
    if advice.is_empty() { failure } else { failure.with_advice(advice) }
}

/// Code and message of the service, in one line.
fn shown(code: &str, message: &str) -> String {
    let mut text = String::new();
    for (separator, part) in [(" ", code), (": ", message)] {
        if !part.is_empty() {
            text += separator;
            text.extend(
                part.chars().take(MAX_SHOWN_CHARS).map(|letter| if letter.is_control() { ' ' } else { letter }),
            );
        }
    }
    text
}

const NO_BUCKET: &str = "check the bucket in the store's address, the endpoint, and the access key";
const NO_RIGHTS: &str = "the credentials do not allow it: see the permissions that docs/stores.md lists";
const WRONG_KEY: &str =
    "check the access key: options access-key-id and profile, AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws/credentials";
const WRONG_SECRET: &str = "check the secret key and the region: AWS_SECRET_ACCESS_KEY, AWS_REGION, or the profile's";
const EXPIRED: &str = "the credentials are no longer valid: renew them (AWS_SESSION_TOKEN, or sign in again)";
const CLOCK: &str = "the clock of this machine is wrong: set it";
const ELSEWHERE: &str = "the bucket is in another region or at another endpoint: check region and endpoint";
const CHECKSUM: &str =
    "the bytes were damaged on their way; if it happens every time, give --store-option checksum=off";
const REMOVED: &str = "another owner's clean-up removed the unfinished upload; its bytes have to be sent again";
const FULL: &str = "free space in the store, or raise its quota";

/// What versitygw answers where it finds a folder at an object's name, and also where it could not make the
/// object's folder because a delete of its last object removed that at the same moment.
const LOST_RACE: &str = "ExistingObjectIsDirectory";

/// Kind and advice. Codes are those of S3, MinIO, Ceph and versitygw.
fn judged(status: StatusCode, code: &str) -> (ErrorKind, &'static str) {
    match code {
        "NoSuchBucket" | "InvalidBucketName" => (ErrorKind::InvalidInput, NO_BUCKET),
        "InvalidAccessKeyId" | "XAdminUserNotFound" => (ErrorKind::PermissionDenied, WRONG_KEY),
        "SignatureDoesNotMatch" | "InvalidSignature" => (ErrorKind::PermissionDenied, WRONG_SECRET),
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" | "MethodNotAllowedByPolicy" => {
            (ErrorKind::PermissionDenied, NO_RIGHTS)
        }
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => (ErrorKind::PermissionDenied, EXPIRED),
        "RequestTimeTooSkewed" => (ErrorKind::PermissionDenied, CLOCK),
        "PermanentRedirect"
        | "TemporaryRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => (ErrorKind::InvalidInput, ELSEWHERE),
        // Refused before anything was done: such a write may be repeated under its name.
        "SlowDown"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "BandwidthLimitExceeded" => (ErrorKind::RateLimited, ""),
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "StorageFull" => (ErrorKind::StorageFull, FULL),
        "BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch" => (ErrorKind::Temporary, CHECKSUM),
        "IncompleteBody" | "RequestTimeout" | "InternalError" | "ServiceUnavailable" | "OperationAborted" => {
            (ErrorKind::Temporary, "")
        }
        "NoSuchUpload" => (ErrorKind::Cancelled, REMOVED),
        "NoSuchKey" => (ErrorKind::NotFound, ""),
        "InvalidRange" => (ErrorKind::Corrupt, ""),
        LOST_RACE => (ErrorKind::AlreadyExists, ""),
        "NotImplemented" | "MethodNotAllowed" => (ErrorKind::Unsupported, ""),
        "KeyTooLongError" | "EntityTooLarge" => (ErrorKind::LimitExceeded, ""),
        _ => judged_by_status(status),
    }
}

fn judged_by_status(status: StatusCode) -> (ErrorKind, &'static str) {
    match status.as_u16() {
        300..=399 => (ErrorKind::InvalidInput, ELSEWHERE),
        401 | 403 => (ErrorKind::PermissionDenied, NO_RIGHTS),
        404 => (ErrorKind::NotFound, ""),
        405 | 501 => (ErrorKind::Unsupported, ""),
        416 => (ErrorKind::Corrupt, ""),
        429 => (ErrorKind::RateLimited, ""),
        408 | 499 | 500 | 502 | 503 | 504 => (ErrorKind::Temporary, ""),
        507 => (ErrorKind::StorageFull, FULL),
        _ => (ErrorKind::Io, ""),
    }
}

/// The failure of a request that got no answer.
pub(super) fn of_connection(error: &reqwest::Error, uri: &Uri) -> Failure {
    let place =
        format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority().map_or("", |place| place.as_str()));
    let cause = root_cause(error);
    if let Some(tls) = tls_fault(error) {
        return Failure::new(ErrorKind::PermissionDenied, format!("{place} is not trusted: {tls}"))
            .with_advice("check the endpoint; a certificate of your own is named by AWS_CA_BUNDLE");
    }
    if error.is_connect() {
        return Failure::new(ErrorKind::Unreachable, format!("{place} cannot be reached: {cause}")).with_advice(
            "check that the service runs, and the endpoint: option endpoint, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL",
        );
    }
    if error.is_builder() {
        return Failure::new(ErrorKind::InvalidInput, format!("no request can be made for {place}: {cause}"))
            .with_advice("check the endpoint");
    }
    Failure::new(ErrorKind::Temporary, format!("the connection to {place} broke: {cause}"))
}

/// The innermost error, which says most. URLs are only in the outermost.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// What TLS objects to: waiting does not help against a certificate that is not trusted.
fn tls_fault(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(rustls::Error::InvalidCertificate(fault)) = error.downcast_ref() {
            return Some(fault.to_string());
        }
        // An io error hides what it wraps: its source is the source of that.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, subject: Subject, body: &str) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        of_answer(&Method::GET, subject, status, &HeaderMap::new(), body.as_bytes())
    }

    fn kind(status: u16, code: &str) -> ErrorKind {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message></Error>");
        answer(status, Subject::Object, if code.is_empty() { "" } else { &body }).kind
    }

    #[test]
    fn answers_have_the_kind_that_a_caller_can_act_upon() {
        for (status, code, expected) in [
            (404, "NoSuchKey", ErrorKind::NotFound),
            (404, "", ErrorKind::NotFound),
            (404, "NoSuchBucket", ErrorKind::InvalidInput),
            (404, "InvalidAccessKeyId", ErrorKind::PermissionDenied),
            (403, "InvalidAccessKeyId", ErrorKind::PermissionDenied),
            (404, "XAdminUserNotFound", ErrorKind::PermissionDenied),
            (403, "SignatureDoesNotMatch", ErrorKind::PermissionDenied),
            (403, "", ErrorKind::PermissionDenied),
            (400, "ExpiredToken", ErrorKind::PermissionDenied),
            (400, "AuthorizationHeaderMalformed", ErrorKind::InvalidInput),
            (301, "PermanentRedirect", ErrorKind::InvalidInput),
            (307, "", ErrorKind::InvalidInput),
            (503, "SlowDown", ErrorKind::RateLimited),
            (429, "", ErrorKind::RateLimited),
            (503, "ServiceUnavailable", ErrorKind::Temporary),
            (503, "", ErrorKind::Temporary),
            (500, "InternalError", ErrorKind::Temporary),
            (400, "BadDigest", ErrorKind::Temporary),
            (507, "", ErrorKind::StorageFull),
            (403, "QuotaExceeded", ErrorKind::StorageFull),
            (404, "NoSuchUpload", ErrorKind::Cancelled),
            (416, "InvalidRange", ErrorKind::Corrupt),
            (501, "NotImplemented", ErrorKind::Unsupported),
            (400, "SomethingNew", ErrorKind::Io),
        ] {
            assert_eq!(kind(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_bucket_is_never_not_found_because_that_would_look_like_emptiness() {
        for body in ["", "<Error><Code>NoSuchKey</Code></Error>", "<html>not found</html>"] {
            let failure = answer(404, Subject::Bucket, body);
            assert_eq!(failure.kind, ErrorKind::InvalidInput, "{body}");
            assert_ne!(failure.into_opendal().kind(), ::opendal::ErrorKind::NotFound);
        }
    }

    #[test]
    fn a_message_is_one_line_with_code_and_request_and_the_advice_names_the_region() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-bucket-region", "eu-west-1".parse().unwrap());
        headers.insert("x-amz-request-id", "R1".parse().unwrap());
        let body = b"<Error><Code>PermanentRedirect</Code><Message>go\nelsewhere</Message></Error>";
        let status = StatusCode::MOVED_PERMANENTLY;
        let error = of_answer(&Method::GET, Subject::Bucket, status, &headers, body).into_error("look");
        assert_eq!(
            error.to_string(),
            "look: the service answered 301 PermanentRedirect: go elsewhere (request R1); the bucket is in region eu-west-1: \
            give --store-option region=eu-west-1, or set AWS_REGION"
        );
    }

    #[test]
    fn a_failure_is_found_inside_an_error_of_opendal_which_never_repeats_it() {
        let error = Failure::new(ErrorKind::Unreachable, "x").into_opendal();
        assert!(!error.is_temporary());
        assert_eq!(Failure::inside(&error).unwrap().kind, ErrorKind::Unreachable);
        let outer = ::opendal::Error::new(::opendal::ErrorKind::Unexpected, "outer").set_source(error);
        assert_eq!(Failure::inside(&outer).unwrap().kind, ErrorKind::Unreachable);
        assert!(Failure::inside(&::opendal::Error::new(::opendal::ErrorKind::Unexpected, "other")).is_none());
    }
}
