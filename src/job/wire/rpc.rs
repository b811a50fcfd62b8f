//! The service over gRPC, by hand: five calls whose messages are bytes here and values in the modules beside this one.
//!
//! What tonic's generator would write, without protoc: a codec, the dispatch by path, and a client.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes};
use futures::stream::{BoxStream, Stream, StreamExt};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use super::Pass;
use super::limits::{MAX_ACKNOWLEDGEMENT_BYTES, MAX_SMALL_BYTES, MAX_TELL_BYTES};
use crate::error::{Error, ErrorKind, Result};

/// The paths of the calls.
pub(crate) mod calls {
    pub(crate) const WORK: &str = "/icecore.job.Manager/Work";
    pub(crate) const ACKNOWLEDGE: &str = "/icecore.job.Manager/Acknowledge";
    pub(crate) const DECLINE: &str = "/icecore.job.Manager/Decline";
    pub(crate) const PLACE: &str = "/icecore.job.Manager/Place";
    pub(crate) const END_UPLOAD: &str = "/icecore.job.Manager/EndUpload";
}

/// The header with the pass of who asks.
const PASS: &str = "icecore-pass";
/// How long one attempt to connect to a manager may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest message of an error: it travels in a header, where a character may take three bytes.
const MAX_STATUS_CHARS: usize = 1_024;

/// What a worker hears on its stream.
pub(crate) type Told = BoxStream<'static, Result<Bytes, Status>>;

/// The manager's side of the calls.
#[async_trait]
pub(crate) trait Calls: Send + Sync + 'static {
    /// Whether a worker may ask anything: looked at before the body of a question is read.
    fn admits(&self, pass: &Pass) -> Result<()>;
    /// A worker's stream.
    async fn work(self: Arc<Self>, said: Streaming<Bytes>) -> Result<Told>;
    /// An acknowledgement.
    async fn acknowledge(&self, bytes: Bytes) -> Result<()>;
    /// A declined checkpoint.
    async fn decline(&self, bytes: Bytes) -> Result<()>;
    /// Where some content shall lie.
    async fn place(&self, bytes: Bytes) -> Result<Bytes>;
    /// The end of an upload.
    async fn end_upload(&self, bytes: Bytes) -> Result<()>;
}

/// Bytes as they are: they are read where it is known what they must be.
#[derive(Clone, Copy, Debug, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}

/// Serves [`Calls`].
pub(crate) struct JobService<C>(Arc<C>);

impl<C> JobService<C> {
    pub(crate) fn new(calls: Arc<C>) -> Self {
        Self(calls)
    }
}

impl<C> Clone for JobService<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C: Calls> Service<http::Request<Body>> for JobService<C> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let calls = self.0.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            if path != calls::WORK
                && let Err(error) = pass_in(request.headers()).and_then(|pass| calls.admits(&pass))
            {
                return Ok(to_status(&error).into_http());
            }
            let unary = |max_bytes| tonic::server::Grpc::new(Plain).max_decoding_message_size(max_bytes);
            let response = match path.as_str() {
                calls::WORK => unary(MAX_SMALL_BYTES).streaming(Work(calls), request).await,
                calls::ACKNOWLEDGE => {
                    unary(MAX_ACKNOWLEDGEMENT_BYTES).unary(One(calls, Call::Acknowledge), request).await
                }
                calls::DECLINE => unary(MAX_SMALL_BYTES).unary(One(calls, Call::Decline), request).await,
                calls::PLACE => unary(MAX_SMALL_BYTES).unary(One(calls, Call::Place), request).await,
                calls::END_UPLOAD => unary(MAX_SMALL_BYTES).unary(One(calls, Call::EndUpload), request).await,
                _ => Status::unimplemented("there is no such call").into_http(),
            };
            Ok(response)
        })
    }
}

#[derive(Clone, Copy)]
enum Call {
    Acknowledge,
    Decline,
    Place,
    EndUpload,
}

/// One question, one answer.
struct One<C>(Arc<C>, Call);

impl<C: Calls> Service<Request<Bytes>> for One<C> {
    type Response = Response<Bytes>;
    type Error = Status;
    type Future = BoxFuture<Response<Bytes>, Status>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (calls, call, bytes) = (self.0.clone(), self.1, request.into_inner());
        Box::pin(async move {
            let nothing = |()| Bytes::new();
            let answer = match call {
                Call::Acknowledge => calls.acknowledge(bytes).await.map(nothing),
                Call::Decline => calls.decline(bytes).await.map(nothing),
                Call::Place => calls.place(bytes).await,
                Call::EndUpload => calls.end_upload(bytes).await.map(nothing),
            };
            answer.map(Response::new).map_err(|error| to_status(&error))
        })
    }
}

/// A worker's stream.
struct Work<C>(Arc<C>);

impl<C: Calls> Service<Request<Streaming<Bytes>>> for Work<C> {
    type Response = Response<Told>;
    type Error = Status;
    type Future = BoxFuture<Response<Told>, Status>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let calls = self.0.clone();
        Box::pin(async move {
            let told = calls.work(request.into_inner()).await;
            told.map(Response::new).map_err(|error| to_status(&error))
        })
    }
}

/// A worker's side of the calls. Cheap to clone; all clones share one connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    /// Connects to a manager at `host:port`. Must be called inside a tokio runtime, which then carries the connection.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for what is no address; [`ErrorKind::Unreachable`] if nobody answers there.
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
            Error::invalid(CONNECT, error.to_string()).with_object(address).with_advice("name a host and a port")
        })?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let channel = endpoint.connect().await.map_err(|error| {
            Error::new(ErrorKind::Unreachable, CONNECT, innermost(&error)).with_object(address).with_source(error)
        })?;
        Ok(Self { channel })
    }

    /// Begins a worker's stream.
    pub(crate) async fn work(&self, said: impl Stream<Item = Bytes> + Send + 'static) -> Result<Streaming<Bytes>> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_TELL_BYTES);
        grpc.ready().await.map_err(|error| from_status(&Status::from_error(Box::new(error))))?;
        let told = grpc.streaming(Request::new(said.boxed()), PathAndQuery::from_static(calls::WORK), Plain).await;
        told.map(Response::into_inner).map_err(|status| from_status(&status))
    }

    /// One question, one answer.
    pub(crate) async fn ask(&self, pass: &Pass, call: &'static str, bytes: Bytes) -> Result<Bytes> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_SMALL_BYTES);
        grpc.ready().await.map_err(|error| from_status(&Status::from_error(Box::new(error))))?;
        let mut request = Request::new(bytes);
        let pass = MetadataValue::try_from(format!("{} {} {}", pass.generation, pass.worker, pass.cookie));
        let pass = pass.map_err(|error| Error::new(ErrorKind::Internal, ASK, error.to_string()))?;
        request.metadata_mut().insert(PASS, pass);
        let answer = grpc.unary(request, PathAndQuery::from_static(call), Plain).await;
        answer.map(Response::into_inner).map_err(|status| from_status(&status))
    }
}

/// The pass that goes with a question.
fn pass_in(headers: &http::HeaderMap) -> Result<Pass> {
    let fail = || Error::new(ErrorKind::Fenced, "hear a worker", "it shows no pass").with_advice("it must leave");
    let text = headers.get(PASS).and_then(|pass| pass.to_str().ok()).ok_or_else(fail)?;
    let mut parts = text.split(' ');
    let (Some(generation), Some(worker), Some(cookie), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(fail());
    };
    let (generation, worker) = (generation.parse().map_err(|_| fail())?, worker.parse().map_err(|_| fail())?);
    Ok(Pass { generation, worker, cookie: cookie.parse().map_err(|_| fail())? })
}

const CONNECT: &str = "connect to the job manager";
const ASK: &str = "ask the job manager";

/// The kinds of error that a worker tells apart.
const TOLD_KINDS: [ErrorKind; 12] = [
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::Temporary,
    ErrorKind::Corrupt,
    ErrorKind::Unsupported,
    ErrorKind::InvalidInput,
    ErrorKind::LimitExceeded,
    ErrorKind::Fenced,
    ErrorKind::OutcomeUnknown,
    ErrorKind::SchemaMismatch,
    ErrorKind::Changed,
    ErrorKind::Cancelled,
];

/// An error on its way to a worker. Its kind goes by name: gRPC's codes are fewer, and mean other things.
pub(crate) fn to_status(error: &Error) -> Status {
    let code = match error.kind() {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::InvalidInput | ErrorKind::Corrupt | ErrorKind::SchemaMismatch => Code::InvalidArgument,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::LimitExceeded => Code::ResourceExhausted,
        ErrorKind::Temporary | ErrorKind::RateLimited | ErrorKind::Unreachable => Code::Unavailable,
        ErrorKind::Cancelled => Code::Aborted,
        ErrorKind::Fenced => Code::FailedPrecondition,
        _ => Code::Internal,
    };
    let message: String = error.to_string().chars().take(MAX_STATUS_CHARS).collect();
    Status::with_details(code, message, Bytes::from_static(error.kind().as_str().as_bytes()))
}

/// An error that came from a manager, or from the way to it.
pub(crate) fn from_status(status: &Status) -> Error {
    let told = TOLD_KINDS.iter().copied().find(|kind| kind.as_str().as_bytes() == status.details());
    let kind = told.unwrap_or(match status.code() {
        // What the libraries between here and there say of a connection that broke or was never made.
        Code::Unavailable | Code::Cancelled | Code::Unknown => ErrorKind::Temporary,
        Code::ResourceExhausted | Code::OutOfRange => ErrorKind::LimitExceeded,
        Code::Unimplemented => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    });
    let message: String = status.message().chars().take(MAX_STATUS_CHARS).collect();
    Error::new(kind, ASK, if message.is_empty() { status.code().to_string() } else { message })
}

/// What an error of the transport says at the bottom: its own text is "transport error".
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
