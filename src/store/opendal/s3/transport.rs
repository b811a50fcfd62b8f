//! Requests and their answers, over HTTP.
//!
//! OpenDAL sends its requests through this, and so do ours (`requests`), and `reqsign` those for credentials.
//! What it adds to a plain client:
//!
//! - **Time.** A request fails when nothing has moved for a while, upwards or downwards, however long it takes as a
//!   whole: a slow link is not a dead one. What asks the machine itself for credentials gets
//!   [`METADATA_SILENCE`]: elsewhere than on EC2 or ECS nobody answers.
//! - **Parts** of multipart uploads, and the request that begins one, are sent again after a passing error,
//!   [`ATTEMPTS`] times in all. They appear only with their upload, so one that lands twice or late does no harm.
//! - **No write is sent again under its name** (design 4.7), but for one refusal: a service that keeps objects as
//!   files (versitygw) refuses a PUT whose folder another client's delete removes at that moment. It is the
//!   service's own last word on that request, and nothing was made, so nothing can land later.
//! - **Errors** are told apart here, in one place: see [`super::failure`].
//! - **An answer is one of S3** (`answer`). Any web server answers 200 to anything: to a listing, a page without objects
//!   would look like an empty store; to a write, it would look done.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::opendal::{Buffer, HttpBody, HttpTransport};
use bytes::Bytes;
use futures::future::{Either, select};
use futures::{Stream, StreamExt as _, stream};
use http::{Method, Request, Response, StatusCode, Uri};
use parking_lot::Mutex;

use super::answer;
use super::failure::{Failure, Subject, of_answer, of_connection};
use super::settings::Settings;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// How often a request that may be repeated is sent.
pub(super) const ATTEMPTS: u32 = 5;
/// The wait before the second attempt, at most; it doubles each time. Half of it is drawn by lot.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// How long the machine itself may be silent when it is asked for credentials: what the AWS tools use.
pub(super) const METADATA_SILENCE: Duration = Duration::from_secs(1);
/// How much longer the service may be silent when an upload is closed: some put the parts together then.
const CLOSING_FACTOR: u32 = 4;
/// How long a connection that nobody uses is kept. Services close theirs, and a request that meets the closing has
/// an unknown outcome.
const IDLE: Duration = Duration::from_secs(15);
/// How much of an error's body is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// The longest answer that is held in memory, in bytes: 1,000 names of 1,024 bytes, and what is said of each.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// Bodies are handed on in pieces of this size, so that a slow link shows progress.
const PIECE_BYTES: usize = 256 << 10;

/// See the module's text.
#[derive(Clone)]
pub(super) struct Transport {
    client: reqwest::Client,
    env: Env,
    silence: Duration,
    /// Host and port of the service, and the path of the bucket there.
    service: String,
    bucket_path: String,
}

impl Transport {
    pub(super) fn new(settings: &Settings, env: Env) -> Result<Self> {
        let bucket: Uri = settings.bucket_url().parse().map_err(|error: http::uri::InvalidUri| {
            Error::invalid("open the S3 store", "the bucket's URL is malformed").with_source(error)
        })?;
        let client = client(settings)?;
        Ok(Self {
            client,
            env,
            silence: settings.silence,
            service: authority(&bucket),
            bucket_path: bucket.path().trim_end_matches('/').to_owned(),
        })
    }

    /// What a request to the service is about; `None` for one to anybody else.
    fn subject(&self, uri: &Uri) -> Option<Subject> {
        if authority(uri) != self.service {
            return None;
        }
        Some(if uri.path().trim_end_matches('/') == self.bucket_path { Subject::Bucket } else { Subject::Object })
    }

    fn silence_for(&self, method: &Method, uri: &Uri) -> Duration {
        match (authority(uri) == self.service, uri.scheme_str()) {
            (true, _) if method == Method::POST && has_query(uri, "uploadId") => self.silence * CLOSING_FACTOR,
            // The machine and the container are the only others that are asked without TLS.
            (false, Some("http")) => METADATA_SILENCE,
            _ => self.silence,
        }
    }

    /// Sends a request again as long as `may_repeat` says so of its failure.
    async fn repeated(&self, request: Request<Buffer>, may_repeat: fn(&Failure) -> bool) -> Result<Answer, Failure> {
        let mut wait = FIRST_WAIT;
        for _ in 1..ATTEMPTS {
            match self.once(request.clone()).await {
                Err(failure) if may_repeat(&failure) => {
                    tracing::debug!(%failure, method = %request.method(), "a request is sent again");
                    self.env.runtime.sleep(jittered(wait, &self.env)).await;
                    wait *= 2;
                }
                outcome => return outcome,
            }
        }
        self.once(request).await
    }

    /// Sends a request once and waits for the beginning of its answer.
    async fn once(&self, request: Request<Buffer>) -> Result<Answer, Failure> {
        let (parts, body) = request.into_parts();
        let (method, uri) = (parts.method, parts.uri);
        let begins_later = answer::begins_later(&parts.headers);
        let (silence, subject) = (self.silence_for(&method, &uri), self.subject(&uri));
        let progress = Arc::new(AtomicU64::new(0));
        let mut sending = self.client.request(method.clone(), uri.to_string()).headers(parts.headers);
        if !body.is_empty() {
            sending = sending.body(reqwest::Body::wrap(Upload { rest: body, progress: progress.clone() }));
        }
        let answer = self.watched(sending.send(), &progress, silence).await;
        let answer = answer.ok_or_else(|| silent(silence))?.map_err(|error| of_connection(&error, &uri))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let length = match (&method, headers.get(http::header::CONTENT_ENCODING)) {
            (&Method::HEAD, _) | (_, Some(_)) => None,
            _ => answer.content_length(),
        };
        let stream = answer.bytes_stream().boxed();
        let mut body = Download { stream, env: self.env.clone(), silence, uri };
        match subject {
            Some(subject) if !status.is_success() => {
                // A body that breaks off says less; the status says enough.
                let text = body.collect(MAX_ERROR_BYTES).await.unwrap_or_default();
                Err(of_answer(&method, subject, status, &headers, &text))
            }
            Some(Subject::Bucket) if method == Method::GET => {
                let page = body.collect(MAX_ANSWER_BYTES).await?;
                answer::check_page(&page, &body.uri)?;
                body.stream = stream::iter([Ok(page)]).boxed();
                Ok(Answer { status, headers, length, body })
            }
            Some(Subject::Object) if method == Method::POST && has_query(&body.uri, "uploadId") => {
                let said = body.collect(MAX_ANSWER_BYTES).await?;
                answer::check_completed(&said)?;
                body.stream = stream::iter([Ok(said)]).boxed();
                Ok(Answer { status, headers, length, body })
            }
            Some(Subject::Object) if method == Method::PUT => {
                answer::check_written(&headers)?;
                Ok(Answer { status, headers, length, body })
            }
            Some(Subject::Object) if method == Method::GET && begins_later && status == StatusCode::OK => {
                Err(answer::ignores_ranges())
            }
            _ => Ok(Answer { status, headers, length, body }),
        }
    }

    /// Sends a request once and reads the whole answer.
    pub(super) async fn exchange(&self, request: Request<Buffer>) -> Result<Bytes, Failure> {
        self.once(request).await?.body.collect(MAX_ANSWER_BYTES).await
    }

    /// Waits for `work` as long as `progress` is made; `None` once nothing has moved for `silence`.
    async fn watched<T>(&self, work: impl Future<Output = T>, progress: &AtomicU64, silence: Duration) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let seen = progress.load(Ordering::Relaxed);
            match select(work.as_mut(), self.env.runtime.sleep(silence)).await {
                Either::Left((done, _)) => return Some(done),
                Either::Right(_) if progress.load(Ordering::Relaxed) == seen => return None,
                Either::Right(_) => {}
            }
        }
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> ::opendal::Result<Response<HttpBody>> {
        let outcome = match request.method() {
            _ if is_of_upload(&request) => self.repeated(request, |failure| failure.kind.is_retryable()).await,
            &Method::PUT => self.repeated(request, Failure::is_lost_race).await,
            _ => self.once(request).await,
        };
        let Answer { status, headers, length, body } = outcome.map_err(Failure::into_opendal)?;
        let mut response = Response::new(body.into_body(length));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Whether a request begins an upload, or sends a part of one.
fn is_of_upload(request: &Request<Buffer>) -> bool {
    let uri = request.uri();
    match *request.method() {
        Method::PUT => has_query(uri, "partNumber") && has_query(uri, "uploadId"),
        Method::POST => uri.query() == Some("uploads"),
        _ => false,
    }
}

fn has_query(uri: &Uri, name: &str) -> bool {
    let query = uri.query().unwrap_or_default();
    query.split('&').any(|pair| pair.split_once('=').is_some_and(|(key, _)| key == name))
}

/// Between half of `wait` and all of it.
fn jittered(wait: Duration, env: &Env) -> Duration {
    let share = u32::try_from(env.randomness.next_u64() % 1024).unwrap_or(0);
    wait / 2 + (wait / 2 / 1024) * share
}

fn authority(uri: &Uri) -> String {
    let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default_port))
}

fn silent(silence: Duration) -> Failure {
    let message = format!("nothing was heard for {silence:?}");
    Failure::new(ErrorKind::Temporary, message)
        .with_advice("a slow service needs a longer --store-option request-timeout")
}

/// The beginning of an answer, and what is still to come.
struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    /// The length of the body, where it is known.
    length: Option<u64>,
    body: Download,
}

/// A body on its way up.
struct Upload {
    rest: Buffer,
    progress: Arc<AtomicU64>,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        use bytes::Buf as _;
        let mut piece = self.rest.current();
        if piece.is_empty() {
            return std::task::Poll::Ready(None);
        }
        piece.truncate(PIECE_BYTES);
        self.rest.advance(piece.len());
        self.progress.fetch_add(1, Ordering::Relaxed);
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// A body on its way down.
struct Download {
    stream: stream::BoxStream<'static, reqwest::Result<Bytes>>,
    env: Env,
    silence: Duration,
    uri: Uri,
}

impl Download {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        match select(self.stream.next(), self.env.runtime.sleep(self.silence)).await {
            Either::Left((Some(Ok(bytes)), _)) => Some(Ok(bytes)),
            Either::Left((Some(Err(error)), _)) => Some(Err(of_connection(&error, &self.uri))),
            Either::Left((None, _)) => None,
            Either::Right(_) => Some(Err(silent(self.silence))),
        }
    }

    /// The whole body, if it has at most `max_bytes`.
    async fn collect(&mut self, max_bytes: usize) -> Result<Bytes, Failure> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await {
            let bytes = bytes?;
            if whole.len() + bytes.len() > max_bytes {
                return Err(Failure::new(
                    ErrorKind::LimitExceeded,
                    format!("the answer is longer than {max_bytes} bytes"),
                ));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(Bytes::from(whole))
    }

    fn into_body(self, length: Option<u64>) -> HttpBody {
        let pieces = stream::unfold(Some(self), |download| async move {
            let mut download = download?;
            match download.next().await? {
                Ok(bytes) => Some((Ok(Buffer::from(bytes)), Some(download))),
                Err(failure) => Some((Err(failure.into_opendal()), None)),
            }
        });
        HttpBody::new(Alone(Mutex::new(pieces.boxed())), length)
    }
}

/// OpenDAL wants to share bodies between threads; one that is asked by its only owner needs no locking for that.
struct Alone<T>(Mutex<stream::BoxStream<'static, T>>);

impl<T> Stream for Alone<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.get_mut().poll_next_unpin(context)
    }
}

/// A client that follows no redirects (a signature is for one host) and repeats nothing by itself.
fn client(settings: &Settings) -> Result<reqwest::Client> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(settings.connect)
        .pool_idle_timeout(IDLE)
        .user_agent(concat!("icecore/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(super::tls::configuration(settings)?);
    builder.build().map_err(|error| {
        Error::new(ErrorKind::Internal, "open the S3 store", "the HTTP client cannot be made").with_source(error)
    })
}
