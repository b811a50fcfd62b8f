//! The other side: asks a job manager.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::HEADER;
use super::actions::{CancelRequest, CheckpointRequest, Failure, RescaleRequest, SavepointRequest, StopRequest, Taken};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::job::report::JobReport;

const ASK: &str = "ask the job manager";
const MAY_BE_DONE: &str = "what it was asked may be done nevertheless: look at the job's state before you ask again";
/// How long a manager may take to let one in, and to answer how a job is.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// The manager's port, if what a claim's holder calls itself names one ([`HttpServer::holder`](super::HttpServer::holder)). Whoever
/// wrote the claim wrote this: ask there only for what may be asked of a stranger.
pub fn address_of_holder(holder: &str) -> Option<SocketAddr> {
    holder.rsplit(' ').next()?.strip_prefix("http://")?.parse().ok()
}

/// Asks one job's manager. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct JobClient {
    address: SocketAddr,
    env: Env,
}

impl JobClient {
    /// Of the manager with its port there.
    pub fn new(address: SocketAddr, env: Env) -> Self {
        Self { address, env }
    }

    /// How the job is.
    ///
    /// # Errors
    /// [`ErrorKind::Unreachable`] if no manager answers there.
    pub async fn report(&self) -> Result<JobReport> {
        let asked = self.request::<(), JobReport>(Method::GET, "/api/job", None);
        tokio::select! {
            answer = asked => answer,
            () = self.env.runtime.sleep(PATIENCE) => Err(self.unreachable(format!("no answer within {PATIENCE:?}"))),
        }
    }

    /// Takes a checkpoint, a full one if that is said.
    ///
    /// # Errors
    /// As [`Manager::checkpoint`](crate::job::manager::Manager::checkpoint), with the same kinds; as [`JobClient::report`].
    pub async fn checkpoint(&self, is_full: bool) -> Result<Taken> {
        let kind = if is_full { "full" } else { "incremental" };
        self.change("/api/checkpoint", &CheckpointRequest { kind: kind.to_owned() }).await
    }

    /// Takes a savepoint.
    ///
    /// # Errors
    /// As [`Manager::savepoint`](crate::job::manager::Manager::savepoint).
    pub async fn savepoint(&self, path: &str) -> Result<Taken> {
        self.change("/api/savepoint", &SavepointRequest { path: path.to_owned() }).await
    }

    /// Stops the job in good order, with a savepoint if a path is given.
    ///
    /// # Errors
    /// As [`Manager::stop`](crate::job::manager::Manager::stop).
    pub async fn stop(&self, savepoint: Option<&str>) -> Result<()> {
        let request = StopRequest { savepoint: savepoint.map(str::to_owned) };
        self.change::<_, serde_json::Value>("/api/stop", &request).await.map(drop)
    }

    /// Takes a checkpoint and goes on from there with another number of workers.
    ///
    /// # Errors
    /// As [`Manager::rescale`](crate::job::manager::Manager::rescale).
    pub async fn rescale(&self, workers: u32) -> Result<Taken> {
        self.change("/api/rescale", &RescaleRequest { workers }).await
    }

    /// Ends the job at once, with its checkpoints if that is said.
    ///
    /// # Errors
    /// As [`JobClient::report`].
    pub async fn cancel(&self, drops_checkpoints: bool) -> Result<()> {
        let checkpoints = if drops_checkpoints { "drop" } else { "keep" };
        let request = CancelRequest { checkpoints: checkpoints.to_owned() };
        self.change::<_, serde_json::Value>("/api/cancel", &request).await.map(drop)
    }

    async fn change<Q: Serialize, A: DeserializeOwned>(&self, path: &str, request: &Q) -> Result<A> {
        let answer = self.request(Method::POST, path, Some(request));
        tokio::select! {
            biased;
            answer = answer => answer.map_err(|error| match error.kind() {
                ErrorKind::Unreachable => error.with_advice(MAY_BE_DONE),
                _ => error,
            }),
            gone = self.gone() => Err(gone),
        }
    }

    /// Ready when the manager does not answer how the job is: what it was asked may take long, that must not.
    async fn gone(&self) -> Error {
        let mut failed = 0;
        loop {
            self.env.runtime.sleep(PATIENCE).await;
            match self.report().await {
                Ok(_) => failed = 0,
                // Once may be a moment's stall, or the job's end.
                Err(error) if failed > 0 => return error.with_advice(MAY_BE_DONE),
                Err(_) => failed += 1,
            }
        }
    }

    /// Asks, and reads the answer.
    async fn request<Q: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Q>,
    ) -> Result<A> {
        let body = body.map(serde_json::to_vec).transpose();
        let body = body.map_err(|error| Error::new(ErrorKind::Internal, ASK, error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json")
            .header(HEADER, "1")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| Error::new(ErrorKind::Internal, ASK, error.to_string()))?;
        let connected = tokio::select! {
            connected = TcpStream::connect(self.address) => connected,
            () = self.env.runtime.sleep(PATIENCE) => return Err(self.unreachable(format!("no connection within {PATIENCE:?}"))),
        };
        let stream = connected.map_err(|error| self.unreachable(error.to_string()))?;
        let broken = |error: hyper::Error| self.unreachable(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        self.env.runtime.spawn(Box::pin(async move {
            // How it ends, whoever waits for the answer hears.
            let _ = connection.await;
        }));
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| self.unreachable(error.to_string()))?.to_bytes();
        if status != StatusCode::OK {
            return Err(self.refused(status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| {
            Error::new(ErrorKind::Corrupt, ASK, format!("its answer cannot be read: {error}")).with_object(self.address)
        })
    }

    fn unreachable(&self, why: String) -> Error {
        Error::new(ErrorKind::Unreachable, ASK, why).with_object(format!("http://{}", self.address))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Error {
        let Ok(Failure { error, kind, advice }) = serde_json::from_slice(body) else {
            return self.unreachable(format!("it answers {status}, which no job manager does"));
        };
        let kind = ErrorKind::parse(&kind).unwrap_or(ErrorKind::Internal);
        let refused = Error::new(kind, ASK, error).with_object(format!("http://{}", self.address));
        match advice {
            Some(advice) => refused.with_advice(advice),
            None => refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_names_a_port_is_told_from_one_that_does_not() {
        assert_eq!(
            address_of_holder("job manager of host http://127.0.0.1:80"),
            Some(SocketAddr::from(([127, 0, 0, 1], 80)))
        );
        for holder in
            ["process 7", "http://", "http://host:80", "http://127.0.0.1:80/x", "http://127.0.0.1:80 then", ""]
        {
            assert_eq!(address_of_holder(holder), None, "{holder}");
        }
    }
}
