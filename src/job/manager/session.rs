//! One registered worker, as the manager knows it.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, ErrorKind, Result};
use crate::job::liveness::Heartbeat;
use crate::job::wire::Pass;
use crate::layout::CheckpointId;
use crate::snapshot::UploadTicket;

/// How many uploads of one worker may be under way.
pub const MAX_UPLOADS: usize = 1_024;

/// A registered worker. Dropped, its stream ends and its uploads are given up.
pub(super) struct Session {
    /// Which connection it is on.
    pub(super) seat: u64,
    /// What it calls itself.
    pub(super) name: String,
    /// Where its peers reach it.
    pub(super) data_address: String,
    /// What it is told.
    pub(super) outbox: mpsc::Sender<Bytes>,
    /// Its last heartbeat.
    pub(super) heartbeat: Heartbeat,
    /// Whether it was told what it runs.
    pub(super) is_deployed: bool,
    /// Whether it has no more input.
    pub(super) is_drained: bool,
    /// Its uploads under way.
    pub(super) tickets: BTreeMap<u64, Held>,
    /// Its end tells the one who listens to the worker.
    _alive: oneshot::Sender<()>,
}

/// A duty to upload, and for which checkpoint.
pub(super) struct Held(CheckpointId, pub(super) Box<dyn UploadTicket>);

/// The other end of a session: where the connection's task sits.
pub(super) struct Seat {
    pub(super) pass: Pass,
    pub(super) number: u64,
    pub(super) told: mpsc::Receiver<Bytes>,
    /// Ready when the session is over.
    pub(super) over: oneshot::Receiver<()>,
}

impl Session {
    pub(super) fn new(
        seat: u64,
        name: String,
        data_address: String,
        outbox: mpsc::Sender<Bytes>,
        alive: oneshot::Sender<()>,
    ) -> Self {
        let (heartbeat, tickets) = (Heartbeat::default(), BTreeMap::new());
        let (is_deployed, is_drained) = (false, false);
        Self { seat, name, data_address, outbox, heartbeat, is_deployed, is_drained, tickets, _alive: alive }
    }

    pub(super) fn tell(&self, bytes: Bytes) -> Result<()> {
        self.outbox.try_send(bytes).map_err(|_| {
            let message = "it does not read what it is told, or its connection is gone";
            Error::new(ErrorKind::LimitExceeded, "tell a worker", message).with_object(&self.name)
        })
    }

    /// Keeps a ticket, or hands it back with the reason.
    pub(super) fn keep(
        &mut self,
        number: u64,
        checkpoint: CheckpointId,
        ticket: Box<dyn UploadTicket>,
    ) -> Result<(), (Error, Box<dyn UploadTicket>)> {
        if self.tickets.len() >= MAX_UPLOADS {
            let message = format!("{MAX_UPLOADS} uploads are under way");
            let error = Error::new(ErrorKind::LimitExceeded, "begin an upload", message).with_object(&self.name);
            return Err((error, ticket));
        }
        self.tickets.insert(number, Held(checkpoint, ticket));
        Ok(())
    }

    /// Takes out what belongs to a checkpoint.
    pub(super) fn forget(&mut self, checkpoint: CheckpointId) -> Vec<Held> {
        self.tickets.extract_if(.., |_, held| held.0 == checkpoint).map(|(_, held)| held).collect()
    }
}
