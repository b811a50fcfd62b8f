//! The seam between a subtask and the registry, so that they may live in different processes.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::env::Env;
use crate::error::Result;
use crate::layout::{CheckpointId, ContentHash, FileKind, JobLayout, Tag, Uid};
use crate::registry::{Registry, UploadDecision, UploadGuard, UploadOutcome};
use crate::store::StorePath;

/// A subtask asks where some content shall lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacementRequest {
    /// Who asks: the tag of an upload, should one be needed, without its fresh uid.
    pub trigger: (crate::layout::Epoch, u64, CheckpointId),
    /// The content.
    pub hash: ContentHash,
    /// Its length.
    pub size_bytes: u64,
    /// What it is.
    pub kind: FileKind,
}

/// The answer.
pub enum Placement {
    /// The store holds it, relative to the root, and keeps it until the checkpoint ends.
    Stored(StorePath),
    /// The asker uploads it.
    Upload(Box<dyn UploadTicket>),
}

impl fmt::Debug for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stored(path) => write!(f, "Stored({path})"),
            Self::Upload(ticket) => write!(f, "Upload({})", ticket.object()),
        }
    }
}

/// The duty to upload one object. Dropped without [`Self::completed`], another asker takes over.
#[async_trait]
pub trait UploadTicket: Send + Sync {
    /// The object to write, relative to the root.
    fn object(&self) -> &StorePath;

    /// Says that the object is durable.
    async fn completed(self: Box<Self>) -> Result<()>;
}

/// Knows what the store holds. Implemented over the [`Registry`] of the same process here.
#[async_trait]
pub trait UploadBroker: fmt::Debug + Send + Sync + 'static {
    /// Where the content shall lie. Waits while another subtask is uploading the same content.
    async fn place(&self, request: PlacementRequest) -> Result<Placement>;

    /// The folder of all objects that it hands out, if there is one: files may be written there
    /// before their names are known ([`crate::store::Store::create_unnamed`]).
    fn folder(&self) -> Option<StorePath> {
        None
    }
}

/// The broker for subtasks in the coordinator's process.
#[derive(Clone, Debug)]
pub struct RegistryBroker {
    registry: Arc<Registry>,
    layout: JobLayout,
    env: Env,
}

impl RegistryBroker {
    /// A broker over `registry`, whose objects lie where `layout` says.
    pub fn new(registry: Arc<Registry>, layout: JobLayout, env: Env) -> Self {
        Self { registry, layout, env }
    }
}

#[async_trait]
impl UploadBroker for RegistryBroker {
    async fn place(&self, request: PlacementRequest) -> Result<Placement> {
        let (epoch, generation, checkpoint) = request.trigger;
        let fresh = || Tag { epoch, generation, checkpoint, upload: Uid::random(&*self.env.randomness) };
        let PlacementRequest { hash, size_bytes, kind, .. } = request;
        let outcome = match self.registry.begin_upload(checkpoint, hash, size_bytes, kind, fresh)? {
            UploadDecision::Stored(name) => UploadOutcome::Stored(name),
            UploadDecision::Upload(guard) => UploadOutcome::TakeOver(guard),
            UploadDecision::InFlight(waiter) => waiter.wait().await?,
        };
        match outcome {
            UploadOutcome::Stored(name) => Ok(Placement::Stored(self.layout.shared_object(&name)?)),
            UploadOutcome::TakeOver(guard) => self.ticket(guard),
        }
    }

    fn folder(&self) -> Option<StorePath> {
        self.layout.shared().ok()
    }
}

impl RegistryBroker {
    fn ticket(&self, guard: UploadGuard) -> Result<Placement> {
        let object = self.layout.shared_object(guard.name())?;
        Ok(Placement::Upload(Box::new(LocalTicket { guard, object })))
    }
}

struct LocalTicket {
    guard: UploadGuard,
    object: StorePath,
}

#[async_trait]
impl UploadTicket for LocalTicket {
    fn object(&self) -> &StorePath {
        &self.object
    }

    async fn completed(self: Box<Self>) -> Result<()> {
        self.guard.complete().map(|_| ())
    }
}
