//! Hadoop's RPC taken apart into calls and answers. Many calls share a connection, and answers come in any order.
//!
//! After seven bytes a client sends frames, as the server does: a length of four bytes, then messages that each
//! begin with their length. A call's first is a header with the call's id, its second names the method.

use bytes::{Buf as _, Bytes, BytesMut};
use prost::Message;

use super::relay::{Begins, Piece, Tracer};

/// "hrpc", a version, a service class, a way to authenticate.
const PREAMBLE: usize = 7;
const FRAME_LENGTH: usize = 4;

#[derive(Clone, PartialEq, Message)]
struct CallHeader {
    #[prost(sint32, tag = "3")]
    call: i32,
}

#[derive(Clone, PartialEq, Message)]
struct MethodHeader {
    #[prost(string, tag = "1")]
    method: String,
}

#[derive(Clone, PartialEq, Message)]
struct AnswerHeader {
    #[prost(uint32, tag = "1")]
    call: u32,
    /// 0 is success.
    #[prost(int32, tag = "2")]
    status: i32,
}

#[derive(Default)]
pub struct HadoopRpc {
    up: BytesMut,
    down: BytesMut,
    greeted: bool,
}

/// The next frame, its length with it, once it is complete.
fn frame(pending: &mut BytesMut) -> Option<Bytes> {
    let length = pending.first_chunk::<FRAME_LENGTH>().map(|bytes| u32::from_be_bytes(*bytes) as usize)?;
    (pending.len() >= FRAME_LENGTH + length).then(|| pending.copy_to_bytes(FRAME_LENGTH + length))
}

fn call(frame: &Bytes) -> Begins {
    let mut rest = frame.slice(FRAME_LENGTH..);
    let Ok(header) = CallHeader::decode_length_delimited(&mut rest) else { return Begins::Aside };
    if header.call < 0 {
        return Begins::Aside; // who it is, whether it is still there
    }
    let Ok(method) = MethodHeader::decode_length_delimited(&mut rest) else { return Begins::Aside };
    Begins::Request { id: header.call as u64, name: method.method, path: String::new() }
}

fn answer(frame: &Bytes) -> Begins {
    match AnswerHeader::decode_length_delimited(frame.slice(FRAME_LENGTH..)) {
        Ok(header) => Begins::Answer { id: header.call.into(), status: header.status.to_string() },
        Err(_) => Begins::Aside,
    }
}

impl Tracer for HadoopRpc {
    fn up(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.up.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        if !self.greeted && self.up.len() >= PREAMBLE {
            self.greeted = true;
            pieces.push(Piece { bytes: self.up.copy_to_bytes(PREAMBLE), begins: Begins::Aside, ends: true });
        }
        if self.greeted {
            let frames = std::iter::from_fn(|| frame(&mut self.up));
            pieces.extend(frames.map(|frame| Piece { begins: call(&frame), bytes: frame, ends: true }));
        }
        pieces
    }

    fn down(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.down.extend_from_slice(bytes);
        let frames = std::iter::from_fn(|| frame(&mut self.down));
        frames.map(|frame| Piece { begins: answer(&frame), bytes: frame, ends: true }).collect()
    }
}
