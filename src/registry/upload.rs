//! What a subtask gets that wants to store a content: the object, a place in the queue, or the task.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Registry;
use super::holds::Message;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::SharedName;

/// The registry's answer to [`Registry::begin_upload`].
#[derive(Debug)]
pub enum UploadDecision {
    /// The content is stored, in this object. Upload nothing.
    Stored(SharedName),
    /// Somebody uploads it. Wait.
    InFlight(UploadWaiter),
    /// Upload it, under the guard's name.
    Upload(UploadGuard),
}

/// How waiting for somebody else's upload ended.
#[derive(Debug)]
pub enum UploadOutcome {
    /// The content is stored, in this object.
    Stored(SharedName),
    /// The other one failed or gave up. Upload it, under the guard's name.
    TakeOver(UploadGuard),
}

/// The task of uploading one object. Dropping it unfinished counts as a failure: one of those who
/// wait takes over, and the name stays a suspect of its checkpoint (design 4.7).
#[derive(Debug)]
#[must_use = "dropping the guard gives the upload up"]
pub struct UploadGuard {
    registry: Arc<Registry>,
    name: SharedName,
    ended: bool,
}

impl UploadGuard {
    pub(super) fn new(registry: Arc<Registry>, name: SharedName) -> Self {
        Self { registry, name, ended: false }
    }

    /// The name to upload under, once.
    pub fn name(&self) -> &SharedName {
        &self.name
    }

    /// The object is stored. Returns its name.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the checkpoint has ended and nobody else wanted the object. It is
    /// an orphan then, which the next sweep deletes.
    pub fn complete(mut self) -> Result<SharedName> {
        self.ended = true;
        let mut outgoing = Vec::new();
        let wanted = self.registry.shard(&self.name.hash).complete_upload(&self.name, &mut outgoing)?;
        for (sender, message) in outgoing {
            // A waiter that has gone needs no answer; its checkpoint holds the object until it ends.
            let _ = sender.send(message);
        }
        if !wanted {
            let message = "its checkpoint has ended; nobody wants the object";
            return Err(Error::new(ErrorKind::Cancelled, "complete an upload", message).with_object(self.name));
        }
        Ok(self.name)
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        if !self.ended {
            give_up(&self.registry, self.name);
        }
    }
}

/// Waits for another's upload of the same content.
#[derive(Debug)]
#[must_use = "a waiter that is dropped gives its place in the queue up"]
pub struct UploadWaiter {
    registry: Arc<Registry>,
    name: SharedName,
    receiver: oneshot::Receiver<Message>,
    answered: bool,
}

impl UploadWaiter {
    pub(super) fn new(registry: Arc<Registry>, name: SharedName, receiver: oneshot::Receiver<Message>) -> Self {
        Self { registry, name, receiver, answered: false }
    }

    /// Waits until the content is stored, or until it is this one's turn to upload it. Whoever drops
    /// the future gives its place up.
    ///
    /// # Errors
    /// [`ErrorKind::Cancelled`] if the waiter's checkpoint has ended.
    pub async fn wait(mut self) -> Result<UploadOutcome> {
        let message = (&mut self.receiver).await;
        // No await between here and the return, so the answer cannot be lost.
        self.answered = true;
        match message {
            Ok(Message::Stored(name)) => Ok(UploadOutcome::Stored(name)),
            Ok(Message::TakeOver) => {
                Ok(UploadOutcome::TakeOver(UploadGuard::new(Arc::clone(&self.registry), self.name)))
            }
            Err(_) => Err(Error::new(ErrorKind::Cancelled, "wait for an upload", "the checkpoint has ended")
                .with_object(self.name.tag.checkpoint)),
        }
    }
}

impl Drop for UploadWaiter {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // After `close` a message is either here or comes back to its sender, who asks the next.
        self.receiver.close();
        if let Ok(Message::TakeOver) = self.receiver.try_recv() {
            give_up(&self.registry, self.name);
        }
    }
}

/// Fails the upload of `name` and finds somebody to take over.
fn give_up(registry: &Registry, mut name: SharedName) {
    loop {
        let next = registry.shard(&name.hash).fail_upload(&name);
        match next {
            Ok(None) => return,
            Ok(Some((theirs, (sender, message)))) => {
                if sender.send(message).is_ok() {
                    return;
                }
                // Gone between the look and the message: its turn has failed too.
                name = theirs;
            }
            Err(error) => {
                tracing::error!(%error, "an upload that failed could not be taken back");
                return;
            }
        }
    }
}
