//! The protobuf messages of `docs/format.md`, and the few helpers that read them with bounds.
//!
//! Field numbers are for ever: never change or reuse one. Enumerations are numbers here (see
//! `numbers.rs`), so that an unknown one is seen rather than replaced by a default.

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, decode_key, skip_field};

use super::fault::{Checked, Fault, at_most};

/// Field numbers of a `_metadata` body.
pub(super) mod body {
    pub const CHECKPOINT: u8 = 1;
    pub const OPERATOR: u8 = 2;
    pub const STATE: u8 = 3;
    pub const SEGMENT: u8 = 4;
    pub const SUBTASK: u8 = 5;
    pub const SOURCE: u8 = 6;
    pub const PROPERTY: u8 = 7;
}

/// The field number of a file in a segment.
pub(super) const SEGMENT_FILE: u8 = 1;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Epoch {
    #[prost(uint64, tag = "1")]
    pub counter: u64,
    #[prost(fixed64, tag = "2")]
    pub uid: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Folder {
    #[prost(uint64, tag = "1")]
    pub checkpoint: u64,
    #[prost(message, optional, tag = "2")]
    pub epoch: Option<Epoch>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HoldName {
    #[prost(message, optional, tag = "1")]
    pub folder: Option<Folder>,
    #[prost(message, optional, tag = "2")]
    pub writer: Option<Epoch>,
    #[prost(fixed64, tag = "3")]
    pub uid: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyGroups {
    #[prost(uint32, tag = "1")]
    pub first: u32,
    #[prost(uint32, tag = "2")]
    pub last: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Checkpoint {
    #[prost(string, tag = "1")]
    pub job: String,
    #[prost(uint64, tag = "2")]
    pub checkpoint: u64,
    #[prost(message, optional, tag = "3")]
    pub epoch: Option<Epoch>,
    #[prost(uint32, tag = "4")]
    pub kind: u32,
    #[prost(uint64, tag = "5")]
    pub triggered_at_unix_ms: u64,
    #[prost(uint32, tag = "6")]
    pub max_parallelism: u32,
    #[prost(string, tag = "7")]
    pub writer: String,
    #[prost(message, optional, tag = "8")]
    pub origin: Option<Origin>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Origin {
    #[prost(string, tag = "1")]
    pub job: String,
    #[prost(message, optional, tag = "2")]
    pub folder: Option<Folder>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Operator {
    #[prost(string, tag = "1")]
    pub operator: String,
    #[prost(uint32, tag = "2")]
    pub parallelism: u32,
    #[prost(uint32, tag = "3")]
    pub max_parallelism: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct State {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    #[prost(string, tag = "3")]
    pub key_serializer: String,
    #[prost(string, tag = "4")]
    pub value_serializer: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Subtask {
    #[prost(uint32, tag = "1")]
    pub index: u32,
    #[prost(message, optional, tag = "2")]
    pub key_groups: Option<KeyGroups>,
    #[prost(uint32, tag = "3")]
    pub backend: u32,
    #[prost(uint32, tag = "4")]
    pub segment_place: u32,
    #[prost(message, repeated, tag = "5")]
    pub segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Segment {
    #[prost(bytes = "vec", tag = "1")]
    pub sha256: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub files: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Source {
    #[prost(string, tag = "1")]
    pub source: String,
    #[prost(string, tag = "2")]
    pub split: String,
    #[prost(bytes = "vec", tag = "3")]
    pub position: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Property {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct File {
    #[prost(string, tag = "1")]
    pub local_name: String,
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    #[prost(oneof = "Place", tags = "3, 4, 5")]
    pub place: Option<Place>,
    #[prost(uint64, tag = "6")]
    pub offset_bytes: u64,
    #[prost(uint64, tag = "7")]
    pub stored_size_bytes: u64,
    #[prost(uint32, tag = "8")]
    pub encoding: u32,
    #[prost(uint64, tag = "9")]
    pub size_bytes: u64,
    #[prost(bytes = "vec", tag = "10")]
    pub sha256: Vec<u8>,
    #[prost(message, optional, tag = "11")]
    pub key_groups: Option<KeyGroups>,
    #[prost(message, optional, tag = "12")]
    pub table: Option<Table>,
    #[prost(message, optional, tag = "13")]
    pub identity: Option<Identity>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Place {
    #[prost(string, tag = "3")]
    InCheckpoint(String),
    #[prost(string, tag = "4")]
    InRoot(String),
    #[prost(message, tag = "5")]
    Shared(Shared),
}

/// `job-<job>/shared/<sha256>-<tag>.<kind>`, without what the file says anyway.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Shared {
    #[prost(string, tag = "1")]
    pub job: String,
    #[prost(uint64, tag = "2")]
    pub epoch_counter: u64,
    #[prost(fixed64, tag = "3")]
    pub epoch_uid: u64,
    #[prost(uint64, tag = "4")]
    pub generation: u64,
    #[prost(uint64, tag = "5")]
    pub checkpoint: u64,
    #[prost(fixed64, tag = "6")]
    pub upload: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Table {
    #[prost(string, tag = "1")]
    pub column_family: String,
    #[prost(uint32, tag = "2")]
    pub level: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub smallest_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub largest_key: Vec<u8>,
    #[prost(uint64, tag = "5")]
    pub smallest_sequence: u64,
    #[prost(uint64, tag = "6")]
    pub largest_sequence: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Identity {
    #[prost(fixed64, tag = "1")]
    pub unique_id_first: u64,
    #[prost(fixed64, tag = "2")]
    pub unique_id_second: u64,
    #[prost(uint64, tag = "3")]
    pub smallest_sequence: u64,
    #[prost(uint64, tag = "4")]
    pub largest_sequence: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Claim {
    #[prost(message, optional, tag = "1")]
    pub epoch: Option<Epoch>,
    #[prost(string, tag = "2")]
    pub job: String,
    #[prost(uint64, tag = "3")]
    pub claimed_at_unix_ms: u64,
    #[prost(string, tag = "4")]
    pub holder: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Start {
    #[prost(message, optional, tag = "1")]
    pub epoch: Option<Epoch>,
    #[prost(message, repeated, tag = "2")]
    pub adopted: Vec<Folder>,
    #[prost(message, repeated, tag = "3")]
    pub refs: Vec<HoldName>,
    #[prost(message, repeated, tag = "4")]
    pub pins: Vec<HoldName>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct End {
    #[prost(message, optional, tag = "1")]
    pub epoch: Option<Epoch>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Condemned {
    #[prost(message, optional, tag = "1")]
    pub epoch: Option<Epoch>,
    #[prost(fixed64, tag = "2")]
    pub uid: u64,
    #[prost(message, repeated, tag = "3")]
    pub dropped: Vec<Folder>,
    #[prost(string, repeated, tag = "4")]
    pub objects: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Pin {
    #[prost(message, optional, tag = "1")]
    pub name: Option<HoldName>,
    #[prost(string, tag = "2")]
    pub reason: String,
    #[prost(uint64, tag = "3")]
    pub created_at_unix_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Ref {
    #[prost(message, optional, tag = "1")]
    pub name: Option<HoldName>,
    #[prost(string, tag = "2")]
    pub holder: String,
    #[prost(uint64, tag = "3")]
    pub created_at_unix_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Distrust {
    #[prost(string, tag = "1")]
    pub object: String,
    #[prost(message, optional, tag = "2")]
    pub writer: Option<Epoch>,
    #[prost(fixed64, tag = "3")]
    pub uid: u64,
    #[prost(string, tag = "4")]
    pub reason: String,
    #[prost(uint64, tag = "5")]
    pub created_at_unix_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(fixed64, tag = "1")]
    pub uid: u64,
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    #[prost(string, tag = "3")]
    pub argument: String,
    #[prost(uint64, tag = "4")]
    pub created_at_unix_ms: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    #[prost(fixed64, tag = "1")]
    pub uid: u64,
    #[prost(uint32, tag = "2")]
    pub outcome: u32,
    #[prost(string, tag = "3")]
    pub text: String,
}

/// Appends field `number` with the message `value`.
pub(super) fn put_message(out: &mut Vec<u8>, number: u8, value: &impl Message) {
    put_length(out, number, value.encoded_len());
    value.encode_raw(out);
}

/// Appends field `number` with `bytes`.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    put_length(out, number, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_length(out: &mut Vec<u8>, number: u8, length: usize) {
    out.push(number << 3 | LENGTH_DELIMITED);
    prost::encoding::encode_varint(length as u64, out);
}

/// Protobuf's wire type for messages, strings and bytes.
const LENGTH_DELIMITED: u8 = 2;

/// Takes the next field off `rest`: its number and bytes; `None` at the end. Only what
/// [`put_message`] and [`put_bytes`] write is known: numbers below 16, length-delimited.
pub(super) fn take_field<'a>(rest: &mut &'a [u8]) -> Checked<Option<(u8, &'a [u8])>> {
    let Some((key, mut after)) = rest.split_first() else {
        return Ok(None);
    };
    if *key >= 0x80 || key & 7 != LENGTH_DELIMITED {
        return Err(Fault::unknown(format!("a record starts with the unknown key {key:#04x}")));
    }
    let length = prost::decode_length_delimiter(&mut after)
        .map_err(|error| Fault::bad(format!("the length of a record is not readable ({error})")))?;
    let (field, after) = after.split_at_checked(length).ok_or_else(|| {
        Fault::bad(format!("a record promises {length} bytes, {} are left of what holds it", after.len()))
    })?;
    *rest = after;
    Ok(Some((key >> 3, field)))
}

/// Decodes a message after counting its top-level fields, so that a repeated field of many empty
/// elements cannot make a small message large.
pub(crate) fn decode<M: Message + Default>(what: &str, bytes: &[u8], max_fields: usize) -> Checked<M> {
    let unreadable = |error: prost::DecodeError| Fault::bad(format!("{what}: not a readable message ({error})"));
    let mut rest = bytes;
    let mut fields = 0;
    while rest.has_remaining() {
        let (number, wire_type) = decode_key(&mut rest).map_err(unreadable)?;
        skip_field(wire_type, number, &mut rest, DecodeContext::default()).map_err(unreadable)?;
        fields += 1;
    }
    at_most(&format!("{what}, fields"), fields, max_fields)?;
    M::decode(bytes).map_err(unreadable)
}
