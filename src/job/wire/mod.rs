//! What a job's manager and its workers say to each other, as values and as bytes.
//!
//! One service with five calls (`rpc.rs`). [`Say`] goes from a worker to its manager and [`Tell`] back, over one stream for
//! the life of a worker; acknowledgements ([`answers`]) and the questions of an upload ([`upload`]) are calls of their own, so that a
//! large one holds up no heartbeat. `docs/job-protocol.md` has the order in which they come.
//!
//! Messages are protobuf, read with the bounds of [`limits`]; whatever is wrong in one is a typed error, and never
//! believed. A subtask's files travel in the encoding of `_metadata` ([`crate::metadata`]): one codec, one set of rules.

pub mod answers;
mod cookie;
pub mod limits;
mod messages;
pub(crate) mod rpc;
mod say;
mod tell;
pub mod upload;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message;

use crate::error::Result;
use crate::metadata::shared::{Checked, Fault, at_most, present};

pub use cookie::{Cookie, Pass};
pub use say::{Damage, Say};
pub use tell::{DataflowEpochs, DeployedOperator, Deployment, Tell};

const ENCODE: &str = "encode a job message";
const DECODE: &str = "decode a job message";

/// A message that says by number what its body is: the body is read with the bounds of that, and not before.
fn seal(kind: u32, body: &impl Message) -> Bytes {
    messages::Envelope { kind, body: body.encode_to_vec() }.encode_to_vec().into()
}

/// The number and the body.
fn unseal(bytes: &[u8]) -> Checked<(u32, Vec<u8>)> {
    let envelope: messages::Envelope = read("a message", bytes, limits::MAX_SMALL_FIELDS)?;
    Ok((envelope.kind, envelope.body))
}

fn read<M: Message + Default>(what: &str, bytes: &[u8], max_fields: usize) -> Checked<M> {
    crate::metadata::shared::decode(what, bytes, max_fields)
}

fn text(what: &str, text: String) -> Checked<String> {
    at_most(&format!("{what}, bytes"), text.len(), limits::MAX_TEXT_BYTES)?;
    Ok(text)
}

/// As much of a reason as a message takes: nobody's failure to end is that its reason was too long.
pub(crate) fn shorten(reason: &str) -> String {
    let end = (0..=limits::MAX_TEXT_BYTES.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

fn decoded<T>(value: Checked<T>) -> Result<T> {
    value.map_err(|fault: Fault| fault.of_reader(DECODE))
}

fn encoded<T>(value: Checked<T>) -> Result<T> {
    value.map_err(|fault: Fault| fault.of_writer(ENCODE))
}

fn pass_of(wire: Option<messages::Pass>) -> Checked<Pass> {
    let wire = present("the pass", wire)?;
    Ok(Pass {
        generation: wire.generation,
        worker: wire.worker,
        cookie: Cookie { first: wire.cookie_first, second: wire.cookie_second },
    })
}

fn pass_to_wire(pass: &Pass) -> messages::Pass {
    let Cookie { first, second } = pass.cookie;
    messages::Pass { generation: pass.generation, worker: pass.worker, cookie_first: first, cookie_second: second }
}
