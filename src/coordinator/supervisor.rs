//! A coordinator that goes on after its tenure: claims the job again where nobody else runs it.
//!
//! The engine keeps one [`Supervisor`] for the life of a job, takes the coordinator of the moment from it, and
//! gives its subtasks the supervisor's broker, which follows. Beside its calls of `tick` and `serve_requests` it
//! calls [`Supervisor::keep_up`], which does nothing for as long as the tenure goes on.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::RwLock;

use super::again::ClaimedAgain;
use super::core::Coordinator;
use super::listener::CheckpointListener;
use super::options::{CoordinatorOptions, OperatorDescription};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Epoch, JobId};
use crate::snapshot::{Placement, PlacementRequest, UploadBroker};
use crate::store::{StorePath, StoreRef};

/// How often owners may come and go while one call of [`Supervisor::keep_up`] looks at them.
const MAX_OWNERS_SEEN: u32 = 3;

/// How a job's coordinator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeptUp {
    /// Its tenure goes on.
    Running,
    /// It was over, and the job was claimed again: triggers and acknowledgements go to
    /// [`Supervisor::coordinator`] as before.
    ClaimedAgain {
        /// As [`ClaimedAgain::restore_first`].
        restore_first: bool,
    },
    /// Another owner has this epoch and has not ended. Nothing was claimed. If it is a command, it is done soon
    /// and a later call goes on; if it is another instance of the engine, this one is not needed any more.
    Fenced(Epoch),
}

/// Keeps a job coordinated over the ends of tenures. Cheap to share by [`Arc`].
#[derive(Debug)]
pub struct Supervisor {
    current: RwLock<Arc<Coordinator>>,
    /// One claim at a time.
    turn: tokio::sync::Mutex<()>,
}

impl Supervisor {
    /// As [`Coordinator::start`].
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub async fn start(
        store: StoreRef,
        job: JobId,
        operators: Vec<OperatorDescription>,
        env: Env,
        options: CoordinatorOptions,
        listeners: Vec<Arc<dyn CheckpointListener>>,
    ) -> Result<Arc<Self>> {
        Coordinator::start(store, job, operators, env, options, listeners).await.map(Self::over)
    }

    /// Supervises a coordinator that was started.
    pub fn over(coordinator: Coordinator) -> Arc<Self> {
        Arc::new(Self { current: RwLock::new(Arc::new(coordinator)), turn: tokio::sync::Mutex::new(()) })
    }

    /// The coordinator of the moment. Take it anew for each call: one whose tenure is over refuses everything.
    pub fn coordinator(&self) -> Arc<Coordinator> {
        self.current.read().clone()
    }

    /// The broker that subtasks in this process upload through, whoever the coordinator is by then. Uploads for
    /// a tenure that is over are refused.
    pub fn broker(self: &Arc<Self>) -> Arc<dyn UploadBroker> {
        Arc::new(FollowingBroker(self.clone()))
    }

    /// Claims the job again if the tenure is over, the options want it, and no other owner may be alive
    /// (M4). Asks the store nothing while the tenure goes on. Call it often.
    ///
    /// # Errors
    /// The tenure's end, if the options do not want it ([`CoordinatorOptions::claims_again`]) or the engine ended
    /// it itself; as [`Coordinator::claim_again`] otherwise. One that is retryable may be gone at the next call.
    pub async fn keep_up(&self) -> Result<KeptUp> {
        if self.coordinator().over().is_none() {
            return Ok(KeptUp::Running);
        }
        let _turn = self.turn.lock().await;
        let coordinator = self.coordinator();
        if coordinator.over().is_none() {
            return Ok(KeptUp::Running);
        }
        if !coordinator.options.claims_again || coordinator.was_ended() {
            coordinator.tenure.check()?;
        }
        for _ in 0..MAX_OWNERS_SEEN {
            if let Some(owner) = coordinator.living_above().await? {
                return Ok(KeptUp::Fenced(owner));
            }
            match coordinator.claim_again().await {
                Ok(ClaimedAgain { coordinator, restore_first }) => {
                    *self.current.write() = Arc::new(coordinator);
                    return Ok(KeptUp::ClaimedAgain { restore_first });
                }
                // Somebody else was faster: look who.
                Err(error) if error.kind() == ErrorKind::Fenced => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Temporary, "claim a job again", "its owner changed at every attempt")
            .with_object(coordinator.layout().root())
            .with_advice("try again"))
    }
}

/// Hands each request to the coordinator of the moment, if that is the one that triggered the checkpoint.
#[derive(Debug)]
struct FollowingBroker(Arc<Supervisor>);

#[async_trait]
impl UploadBroker for FollowingBroker {
    async fn place(&self, request: PlacementRequest) -> Result<Placement> {
        let coordinator = self.0.coordinator();
        let (epoch, _, checkpoint) = request.trigger;
        // A later tenure may give the same number, to another checkpoint.
        if epoch != coordinator.epoch() {
            let message = format!("epoch {epoch}, which triggered it, is over");
            return Err(Error::new(ErrorKind::Cancelled, "begin an upload", message).with_object(checkpoint));
        }
        coordinator.broker().place(request).await
    }

    fn folder(&self) -> Option<StorePath> {
        self.0.coordinator().layout().shared().ok()
    }
}
