//! The protobuf messages. A field's number is never given another meaning: manager and workers of two builds may meet.

use prost::Message;

use crate::metadata::shared::{Epoch, Folder, KeyGroups};

#[derive(Clone, PartialEq, Message)]
pub(super) struct Envelope {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    pub body: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Pass {
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    #[prost(uint32, tag = "2")]
    pub worker: u32,
    #[prost(fixed64, tag = "3")]
    pub cookie_first: u64,
    #[prost(fixed64, tag = "4")]
    pub cookie_second: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Register {
    #[prost(message, optional, tag = "1")]
    pub pass: Option<Pass>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub data_address: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Heartbeat {
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    #[prost(uint64, tag = "2")]
    pub steps: u64,
    #[prost(bool, tag = "3")]
    pub has_input: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Restored {
    #[prost(uint64, tag = "1")]
    pub fetched_files: u64,
    #[prost(uint64, tag = "2")]
    pub fetched_bytes: u64,
    #[prost(uint64, tag = "3")]
    pub linked_files: u64,
    #[prost(uint64, tag = "4")]
    pub linked_bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Text {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(bool, tag = "2")]
    pub is_end: bool,
    #[prost(bool, tag = "3")]
    pub is_damage: bool,
    #[prost(bool, tag = "4")]
    pub is_final: bool,
    #[prost(bool, tag = "5")]
    pub is_missing: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Nothing {}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Operator {
    #[prost(string, tag = "1")]
    pub operator: String,
    #[prost(uint32, tag = "2")]
    pub max_parallelism: u32,
    #[prost(message, optional, tag = "3")]
    pub key_groups: Option<KeyGroups>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Deployment {
    #[prost(string, tag = "1")]
    pub job: String,
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    #[prost(uint32, tag = "3")]
    pub worker: u32,
    #[prost(string, repeated, tag = "4")]
    pub peers: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    pub operators: Vec<Operator>,
    /// The folder of a checkpoint or savepoint on the store; empty: nothing is restored.
    #[prost(string, tag = "6")]
    pub restore: String,
    #[prost(message, optional, tag = "7")]
    pub epoch: Option<Epoch>,
    #[prost(uint64, tag = "8")]
    pub newest: u64,
    #[prost(bool, tag = "9")]
    pub is_pausing: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DataflowEpochs {
    #[prost(uint64, tag = "1")]
    pub current: u64,
    #[prost(uint64, tag = "2")]
    pub last: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Trigger {
    #[prost(uint64, tag = "1")]
    pub checkpoint: u64,
    #[prost(message, optional, tag = "2")]
    pub epoch: Option<Epoch>,
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    #[prost(uint32, tag = "4")]
    pub kind: u32,
    #[prost(message, optional, tag = "5")]
    pub base: Option<Folder>,
    #[prost(string, repeated, tag = "6")]
    pub distrusted: Vec<String>,
    #[prost(string, tag = "7")]
    pub folder: String,
    #[prost(uint64, tag = "8")]
    pub triggered_at_unix_ms: u64,
    #[prost(uint64, tag = "9")]
    pub ends_epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Aborted {
    #[prost(uint64, tag = "1")]
    pub checkpoint: u64,
    #[prost(string, tag = "2")]
    pub reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Stats {
    #[prost(uint64, tag = "1")]
    pub sync_us: u64,
    #[prost(uint64, tag = "2")]
    pub async_us: u64,
    #[prost(uint64, tag = "3")]
    pub files: u64,
    #[prost(uint64, tag = "4")]
    pub hashed_files: u64,
    #[prost(uint64, tag = "5")]
    pub uploaded_files: u64,
    #[prost(uint64, tag = "6")]
    pub uploaded_bytes: u64,
    #[prost(uint64, tag = "7")]
    pub shared_bytes: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Acknowledgement {
    #[prost(message, optional, tag = "1")]
    pub pass: Option<Pass>,
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    #[prost(message, optional, tag = "3")]
    pub base: Option<Folder>,
    #[prost(string, repeated, tag = "4")]
    pub removed: Vec<String>,
    #[prost(message, optional, tag = "5")]
    pub stats: Option<Stats>,
    /// The part as a `_metadata` of its own (`docs/format.md`).
    #[prost(bytes = "vec", tag = "6")]
    pub part: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Decline {
    #[prost(message, optional, tag = "1")]
    pub pass: Option<Pass>,
    #[prost(uint64, tag = "2")]
    pub checkpoint: u64,
    #[prost(string, tag = "3")]
    pub operator: String,
    #[prost(string, tag = "4")]
    pub reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Place {
    #[prost(message, optional, tag = "1")]
    pub pass: Option<Pass>,
    #[prost(message, optional, tag = "2")]
    pub epoch: Option<Epoch>,
    #[prost(uint64, tag = "3")]
    pub generation: u64,
    #[prost(uint64, tag = "4")]
    pub checkpoint: u64,
    #[prost(bytes = "vec", tag = "5")]
    pub sha256: Vec<u8>,
    #[prost(uint64, tag = "6")]
    pub size_bytes: u64,
    #[prost(string, tag = "7")]
    pub kind: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Placed {
    #[prost(string, tag = "1")]
    pub object: String,
    /// There, if the asker uploads it.
    #[prost(uint64, optional, tag = "2")]
    pub ticket: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EndUpload {
    #[prost(message, optional, tag = "1")]
    pub pass: Option<Pass>,
    #[prost(uint64, tag = "2")]
    pub ticket: u64,
    #[prost(bool, tag = "3")]
    pub is_durable: bool,
}
