//! What a worker says on its stream.

use bytes::Bytes;

use super::{Pass, decoded, limits, messages, pass_of, pass_to_wire, read, seal, shorten, text, unseal};
use crate::error::Result;
use crate::job::{Heartbeat, RestoredFiles};
use crate::metadata::shared::{Fault, at_most};

/// From a worker to its manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// The first word: it has started.
    Register {
        /// Who it is.
        pass: Pass,
        /// What it calls itself in logs: a host name and process id, say.
        name: String,
        /// Where its peers reach it; empty, if they need not.
        data_address: String,
    },
    /// It lives.
    Heartbeat {
        /// The generation that it was started for.
        generation: u64,
        /// How it gets on.
        heartbeat: Heartbeat,
    },
    /// Its input is over, and all that it did is in a complete checkpoint or needs none.
    Finished,
    /// Its dataflow has gone on to this epoch by itself ([`super::DataflowEpochs`]).
    Epoch(u64),
    /// It has restored and verified its state, and has brought these files here for it.
    Restored(RestoredFiles),
    /// It has processed its first record.
    Resumed,
    /// Its sources have no more input. It takes part in checkpoints until it is told that it may come to its end.
    Drained,
    /// It cannot go on.
    Failed {
        /// Why, for a person.
        why: String,
        /// What it found wrong with what it was to restore, if that is why.
        damage: Option<Damage>,
        /// Whether a further start would fail in the same way.
        is_final: bool,
    },
}

/// What a worker finds wrong with a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Something has another content than it was written with.
    Wrong,
    /// Something is not there; on this worker's way to the store, at least.
    Missing,
}

mod kind {
    pub(super) const REGISTER: u32 = 1;
    pub(super) const HEARTBEAT: u32 = 2;
    pub(super) const FINISHED: u32 = 3;
    pub(super) const FAILED: u32 = 4;
    pub(super) const EPOCH: u32 = 5;
    pub(super) const DRAINED: u32 = 6;
    pub(super) const RESTORED: u32 = 7;
    pub(super) const RESUMED: u32 = 8;
}

impl Say {
    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Register { pass, name, data_address } => {
                let (name, data_address) = (shorten(name), data_address.clone());
                seal(kind::REGISTER, &messages::Register { pass: Some(pass_to_wire(pass)), name, data_address })
            }
            Self::Heartbeat { generation, heartbeat } => {
                let (generation, steps, has_input) = (*generation, heartbeat.steps, heartbeat.has_input);
                seal(kind::HEARTBEAT, &messages::Heartbeat { generation, steps, has_input })
            }
            Self::Finished => seal(kind::FINISHED, &messages::Nothing {}),
            Self::Epoch(epoch) => seal(kind::EPOCH, &messages::DataflowEpochs { current: *epoch, last: 0 }),
            Self::Drained => seal(kind::DRAINED, &messages::Nothing {}),
            Self::Restored(files) => {
                let RestoredFiles { fetched_files, fetched_bytes, linked_files, linked_bytes } = *files;
                seal(kind::RESTORED, &messages::Restored { fetched_files, fetched_bytes, linked_files, linked_bytes })
            }
            Self::Resumed => seal(kind::RESUMED, &messages::Nothing {}),
            Self::Failed { why, damage, is_final } => {
                let (is_damage, is_missing) = (damage.is_some(), *damage == Some(Damage::Missing));
                let (text, is_final) = (shorten(why), *is_final);
                seal(kind::FAILED, &messages::Text { text, is_end: false, is_damage, is_final, is_missing })
            }
        }
    }

    /// # Errors
    /// [`crate::ErrorKind::Corrupt`], [`crate::ErrorKind::LimitExceeded`], or [`crate::ErrorKind::Unsupported`] for
    /// a word that this build does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let read = || {
            let (kind, body) = unseal(bytes)?;
            match kind {
                kind::REGISTER => {
                    let wire: messages::Register = read("a registration", &body, limits::MAX_SMALL_FIELDS)?;
                    at_most("the data address, bytes", wire.data_address.len(), limits::MAX_ADDRESS_BYTES)?;
                    let (pass, name) = (pass_of(wire.pass)?, text("the worker's name", wire.name)?);
                    Ok(Self::Register { pass, name, data_address: wire.data_address })
                }
                kind::HEARTBEAT => {
                    let wire: messages::Heartbeat = read("a heartbeat", &body, limits::MAX_SMALL_FIELDS)?;
                    let heartbeat = Heartbeat { steps: wire.steps, has_input: wire.has_input };
                    Ok(Self::Heartbeat { generation: wire.generation, heartbeat })
                }
                kind::FINISHED => Ok(Self::Finished),
                kind::FAILED => {
                    let wire: messages::Text = read("a failure", &body, limits::MAX_SMALL_FIELDS)?;
                    let kind = if wire.is_missing { Damage::Missing } else { Damage::Wrong };
                    let (damage, is_final) = (wire.is_damage.then_some(kind), wire.is_final);
                    Ok(Self::Failed { why: text("a worker's failure", wire.text)?, damage, is_final })
                }
                kind::EPOCH => {
                    let wire: messages::DataflowEpochs = read("an epoch", &body, limits::MAX_SMALL_FIELDS)?;
                    Ok(Self::Epoch(wire.current))
                }
                kind::DRAINED => Ok(Self::Drained),
                kind::RESTORED => {
                    let wire: messages::Restored = read("a restore", &body, limits::MAX_SMALL_FIELDS)?;
                    let messages::Restored { fetched_files, fetched_bytes, linked_files, linked_bytes } = wire;
                    Ok(Self::Restored(RestoredFiles { fetched_files, fetched_bytes, linked_files, linked_bytes }))
                }
                kind::RESUMED => Ok(Self::Resumed),
                unknown => Err(Fault::unknown(format!("a worker says a word of the unknown number {unknown}"))),
            }
        };
        decoded(read())
    }
}
