//! What the job manager tells people and their programs, and what they ask of it: HTTP, with JSON.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the web page |
//! | `GET /api/job` | [`JobReport`] |
//! | `GET /metrics` | Prometheus' text format |
//! | `POST /api/checkpoint` `{"kind":"incremental"}` or `"full"` | its number and folder, once it is complete |
//! | `POST /api/savepoint` `{"path":"savepoints/a"}` | the same |
//! | `POST /api/stop` `{"savepoint":null}` or a path | when the job is over |
//! | `POST /api/rescale` `{"workers":4}` | the checkpoint that was taken first |
//! | `POST /api/cancel` `{"checkpoints":"keep"}` or `"drop"` | when the job is over |
//!
//! Whoever reaches the port can do all of that: it belongs on the loopback interface, the default, or behind a proxy that asks who
//! is there. Pages of other sites cannot: a change needs a header ([`HEADER`]) that browsers let no other site send.

mod actions;
mod client;
mod metrics;
mod pages;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::Json;
use axum::routing::{get, post};

use super::manager::Manager;
use super::port::Port;
use super::report::JobReport;
use crate::env::Env;
use crate::error::{Error, Result};

pub use actions::Taken;
pub use client::{JobClient, address_of_holder};

/// The header that every request to change something has, with the value `1`.
pub const HEADER: &str = "x-icecore";
/// The longest request.
const MAX_REQUEST_BYTES: usize = 64 << 10;
/// Connections at once: a browser has up to six.
const MAX_CONNECTIONS: usize = 128;
/// How long answers may take after the job's end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Where it is served unless something else is said.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The open port of a manager that has yet to start.
#[derive(Debug)]
pub struct HttpServer {
    port: Port,
    address: SocketAddr,
}

impl HttpServer {
    /// Opens the port. Bound before the job is claimed: a port that is taken is no reason to fence whoever runs it.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn bind(listen: SocketAddr, env: Env) -> Result<Self> {
        let port = Port::bind("open the port of the job manager's page", listen, MAX_CONNECTIONS, env).await?;
        Ok(Self { address: port.address(), port })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the manager is to call itself ([`CoordinatorOptions::holder`](crate::coordinator::CoordinatorOptions::holder)), so that
    /// whoever reads its claim on the store finds this port ([`address_of_holder`]).
    pub fn holder(&self, name: &str) -> String {
        Self::holder_at(name, self.address)
    }

    /// The same for a port that others reach at another address than it listens at.
    pub fn holder_at(name: &str, address: SocketAddr) -> String {
        format!("{name} http://{address}")
    }

    /// Serves until the job is over, and those who wait for that have heard it.
    ///
    /// # Errors
    /// What the operating system says.
    pub async fn serve(self, manager: Arc<Manager>) -> Result<()> {
        let Self { port, address } = self;
        let of_server = manager.clone();
        let is_over = async move {
            of_server.ended().await;
        };
        let served = axum::serve(port, router(manager.clone())).with_graceful_shutdown(is_over).into_future();
        tokio::pin!(served);
        let late = async {
            manager.ended().await;
            manager.env().runtime.sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            served = &mut served => served.map_err(|error| Error::io("serve the job manager's page", address, error)),
            // Somebody does not read, or does not let go.
            () = late => Ok(()),
        }
    }
}

fn router(manager: Arc<Manager>) -> Router {
    let changes = Router::new()
        .route("/api/checkpoint", post(actions::checkpoint))
        .route("/api/savepoint", post(actions::savepoint))
        .route("/api/stop", post(actions::stop))
        .route("/api/rescale", post(actions::rescale))
        .route("/api/cancel", post(actions::cancel))
        .route_layer(axum::middleware::from_fn(actions::refuse_other_sites));
    Router::new()
        .route("/api/job", get(job))
        .route("/metrics", get(metrics::metrics))
        .merge(pages::pages())
        .merge(changes)
        .layer(axum::middleware::from_fn(actions::refuse_other_names))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(manager)
}

async fn job(State(manager): State<Arc<Manager>>) -> Json<JobReport> {
    Json(manager.report())
}
