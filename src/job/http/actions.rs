//! What people may ask of a job.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse, Json, Response};
use serde::{Deserialize, Serialize};

use super::HEADER;
use crate::error::{Error, ErrorKind};
use crate::job::manager::Manager;
use crate::metadata::CheckpointKind;
use crate::store::StorePath;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CheckpointRequest {
    pub(super) kind: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavepointRequest {
    pub(super) path: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StopRequest {
    pub(super) savepoint: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RescaleRequest {
    pub(super) workers: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CancelRequest {
    pub(super) checkpoints: String,
}

/// A checkpoint or savepoint that is complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its number.
    pub checkpoint: u64,
    /// Where it lies: its folder in the job's, or the path of a savepoint.
    pub folder: String,
}

#[derive(Debug, Serialize)]
struct Nothing {}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Failure {
    pub(super) error: String,
    pub(super) kind: String,
    pub(super) advice: Option<String>,
}

/// An error as an answer.
pub(super) struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        Self(Error::invalid("read a request", rejection.body_text()))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let status = match error.kind() {
            ErrorKind::InvalidInput => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
            ErrorKind::AlreadyExists | ErrorKind::Cancelled | ErrorKind::Blocked | ErrorKind::Fenced => {
                StatusCode::CONFLICT
            }
            ErrorKind::Temporary => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::LimitExceeded | ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let object = error.object().map(|object| format!(" `{object}`")).unwrap_or_default();
        let failure = Failure {
            error: format!("{}{object}: {}", error.operation(), error.message()),
            kind: error.kind().as_str().to_owned(),
            advice: error.advice().map(str::to_owned),
        };
        (status, Json(failure)).into_response()
    }
}

type Answer<T> = Result<Json<T>, Refused>;
type Asked<T> = Result<Json<T>, JsonRejection>;

/// A page of another site could otherwise have a name of its own bound to this address, and be taken for one of ours: by an address,
/// or as `localhost`, nobody else's page is reached. A proxy is to ask by the address, as proxies do.
pub(super) async fn refuse_other_names(request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_address || name == "localhost" {
        return next.run(request).await;
    }
    let message = format!("it was asked for as `{}`", name.escape_debug());
    let error = Error::new(ErrorKind::PermissionDenied, "answer a request", message);
    Refused(error.with_advice("ask by the address of the job manager, or as localhost")).into_response()
}

/// A browser sends this header for a page of another site only if this server allows it, which it does not.
pub(super) async fn refuse_other_sites(request: Request, next: Next) -> Response {
    if request.headers().get(HEADER).is_some_and(|value| value == "1") {
        return next.run(request).await;
    }
    let error = Error::new(ErrorKind::PermissionDenied, "change a job", format!("the header `{HEADER}: 1` is missing"));
    Refused(error).into_response()
}

pub(super) async fn checkpoint(
    State(manager): State<Arc<Manager>>,
    request: Asked<CheckpointRequest>,
) -> Answer<Taken> {
    let kind = match request?.0.kind.as_str() {
        "incremental" => CheckpointKind::Incremental,
        "full" => CheckpointKind::Full,
        _ => return Err(Error::invalid("take a checkpoint", "its kind must be `incremental` or `full`").into()),
    };
    let folder = manager.checkpoint(kind).await?;
    Ok(Json(Taken { checkpoint: folder.checkpoint.0, folder: folder.to_string() }))
}

pub(super) async fn savepoint(State(manager): State<Arc<Manager>>, request: Asked<SavepointRequest>) -> Answer<Taken> {
    let path = StorePath::new(request?.0.path)?;
    let folder = manager.savepoint(&path).await?;
    Ok(Json(Taken { checkpoint: folder.checkpoint.0, folder: path.to_string() }))
}

pub(super) async fn stop(State(manager): State<Arc<Manager>>, request: Asked<StopRequest>) -> Answer<impl Serialize> {
    let savepoint = request?.0.savepoint.map(StorePath::new).transpose()?;
    manager.stop(savepoint).await?;
    Ok(Json(Nothing {}))
}

pub(super) async fn rescale(State(manager): State<Arc<Manager>>, request: Asked<RescaleRequest>) -> Answer<Taken> {
    let workers = request?.0.workers;
    manager.check_workers(workers)?;
    if manager.status().workers == workers {
        return Err(Error::invalid("rescale a job", format!("it has as many workers already: {workers}")).into());
    }
    // What was done since the newest one would be done again.
    let folder = manager.checkpoint(CheckpointKind::Incremental).await?;
    manager.rescale(workers)?;
    Ok(Json(Taken { checkpoint: folder.checkpoint.0, folder: folder.to_string() }))
}

pub(super) async fn cancel(
    State(manager): State<Arc<Manager>>,
    request: Asked<CancelRequest>,
) -> Answer<impl Serialize> {
    let drops = match request?.0.checkpoints.as_str() {
        "keep" => false,
        "drop" => true,
        _ => return Err(Error::invalid("cancel a job", "its checkpoints: `keep` or `drop`").into()),
    };
    manager.cancelled(drops).await?;
    Ok(Json(Nothing {}))
}
