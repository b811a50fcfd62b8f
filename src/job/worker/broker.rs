//! The upload broker of a worker: asks the manager's registry.

use async_trait::async_trait;

use crate::env::Env;
use crate::error::Result;
use crate::job::wire::Pass;
use crate::job::wire::rpc::{Client, calls};
use crate::job::wire::upload::{EndUpload, Place, Placed};
use crate::layout::JobLayout;
use crate::snapshot::{Placement, PlacementRequest, UploadBroker, UploadTicket};
use crate::store::StorePath;

/// Each question is a call; a duty to upload is a number that the manager keeps.
#[derive(Clone, Debug)]
pub(super) struct LinkBroker {
    layout: JobLayout,
    pass: Pass,
    client: Client,
    env: Env,
}

impl LinkBroker {
    pub(super) fn new(layout: JobLayout, pass: Pass, client: Client, env: Env) -> Self {
        Self { layout, pass, client, env }
    }
}

#[async_trait]
impl UploadBroker for LinkBroker {
    async fn place(&self, request: PlacementRequest) -> Result<Placement> {
        let question = Place { pass: self.pass, request };
        let answer = self.client.ask(&self.pass, calls::PLACE, question.encode()).await?;
        let Placed { object, ticket } = Placed::decode(&self.layout, &request, &answer)?;
        Ok(match ticket {
            None => Placement::Stored(object),
            Some(number) => {
                Placement::Upload(Box::new(LinkTicket { broker: self.clone(), object, open: Some(number) }))
            }
        })
    }

    fn folder(&self) -> Option<StorePath> {
        self.layout.shared().ok()
    }
}

struct LinkTicket {
    broker: LinkBroker,
    object: StorePath,
    /// The duty, until its end was told.
    open: Option<u64>,
}

impl LinkTicket {
    fn end(&mut self, is_durable: bool) -> Option<EndUpload> {
        self.open.take().map(|ticket| EndUpload { pass: self.broker.pass, ticket, is_durable })
    }
}

#[async_trait]
impl UploadTicket for LinkTicket {
    fn object(&self) -> &StorePath {
        &self.object
    }

    async fn completed(mut self: Box<Self>) -> Result<()> {
        let Some(end) = self.end(true) else { return Ok(()) };
        self.broker.client.ask(&self.broker.pass, calls::END_UPLOAD, end.encode()).await.map(|_| ())
    }
}

impl Drop for LinkTicket {
    /// Somebody else may try. If the word is lost, the duty ends with the checkpoint, or with this worker.
    fn drop(&mut self) {
        let Some(end) = self.end(false) else { return };
        let client = self.broker.client.clone();
        self.broker.env.runtime.spawn(Box::pin(async move {
            if let Err(error) = client.ask(&end.pass, calls::END_UPLOAD, end.encode()).await {
                tracing::debug!(%error, "a duty to upload could not be given back");
            }
        }));
    }
}
