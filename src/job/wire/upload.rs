//! The questions of [`crate::snapshot::UploadBroker`] over the link.

use bytes::Bytes;
use prost::Message;

use super::{Pass, decoded, limits, messages, pass_of, pass_to_wire, read};
use crate::error::Result;
use crate::layout::{CheckpointId, JobLayout, SharedName};
use crate::metadata::shared::{Checked, Fault, epoch, epoch_to_wire, hash, name_fault, path, shared};
use crate::snapshot::PlacementRequest;
use crate::store::StorePath;

/// Where shall this content lie?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who asks.
    pub pass: Pass,
    /// The content, and for which checkpoint.
    pub request: PlacementRequest,
}

impl Place {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let PlacementRequest { trigger: (epoch, generation, checkpoint), hash, size_bytes, kind } = self.request;
        let wire = messages::Place {
            pass: Some(pass_to_wire(&self.pass)),
            epoch: Some(epoch_to_wire(epoch)),
            generation,
            checkpoint: checkpoint.0,
            sha256: hash.0.to_vec(),
            size_bytes,
            kind: kind.as_str().to_owned(),
        };
        wire.encode_to_vec().into()
    }

    /// # Errors
    /// As [`super::Say::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let read = || {
            let wire: messages::Place = read("a question where to upload", bytes, limits::MAX_SMALL_FIELDS)?;
            let request = PlacementRequest {
                trigger: (epoch(wire.epoch)?, wire.generation, CheckpointId(wire.checkpoint)),
                hash: hash(&wire.sha256)?,
                size_bytes: wire.size_bytes,
                kind: wire.kind.parse().map_err(|error| name_fault(&error))?,
            };
            Ok(Self { pass: pass_of(wire.pass)?, request })
        };
        decoded(read())
    }
}

/// There.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The object, relative to the store's root.
    pub object: StorePath,
    /// The number of the duty to upload it; `None`: the store has it already.
    pub ticket: Option<u64>,
}

impl Placed {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        messages::Placed { object: self.object.as_str().to_owned(), ticket: self.ticket }.encode_to_vec().into()
    }

    /// Reads the answer to `request`, asked by a worker of the job of `layout`.
    ///
    /// # Errors
    /// As [`super::Say::decode`]; [`crate::ErrorKind::Corrupt`] for an object that cannot hold this content: one
    /// outside the job's shared folder, or with another hash or kind in its name.
    pub fn decode(layout: &JobLayout, request: &PlacementRequest, bytes: &[u8]) -> Result<Self> {
        let folder = layout.shared()?;
        let read = || {
            let wire: messages::Placed = read("an answer where to upload", bytes, limits::MAX_SMALL_FIELDS)?;
            let object = path(wire.object)?;
            let name: Checked<SharedName> = match object.below(&folder) {
                Some(name) => shared(name),
                None => Err(Fault::bad(format!("`{object}` does not lie in `{folder}`"))),
            };
            let name = name?;
            if (name.hash, name.kind) != (request.hash, request.kind) {
                return Err(Fault::bad(format!("`{object}` is not for what was asked")));
            }
            Ok(Self { object, ticket: wire.ticket })
        };
        decoded(read())
    }
}

/// A duty to upload ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndUpload {
    /// Who says so.
    pub pass: Pass,
    /// Which.
    pub ticket: u64,
    /// Whether the object is durable; otherwise somebody else may try.
    pub is_durable: bool,
}

impl EndUpload {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let (ticket, is_durable) = (self.ticket, self.is_durable);
        messages::EndUpload { pass: Some(pass_to_wire(&self.pass)), ticket, is_durable }.encode_to_vec().into()
    }

    /// # Errors
    /// As [`super::Say::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let read = || {
            let wire: messages::EndUpload = read("the end of an upload", bytes, limits::MAX_SMALL_FIELDS)?;
            Ok(Self { pass: pass_of(wire.pass)?, ticket: wire.ticket, is_durable: wire.is_durable })
        };
        decoded(read())
    }
}
