//! HTTP/1.1 taken apart into requests and answers, by their lengths alone.

use std::collections::VecDeque;

use bytes::{Buf as _, BytesMut};

use super::relay::{Begins, Piece, Tracer};

const MAX_HEADERS: usize = 128;

/// What a side is in the middle of.
#[derive(Default)]
enum Place {
    #[default]
    Head,
    Body(u64),
    /// A chunk's size line, or a trailer's line if the last chunk has come.
    ChunkLine {
        last: bool,
    },
    /// A chunk's bytes and the line end after them.
    Chunk(u64),
    /// Until the connection ends.
    Rest,
}

/// How long a body is.
#[derive(Clone, Copy)]
enum Length {
    Bytes(u64),
    Chunked,
    UntilEnd,
}

#[derive(Default)]
struct Side {
    place: Place,
    /// The start of a head or of a line that is not complete.
    pending: BytesMut,
}

impl Side {
    /// Takes bytes apart; `head` tells what a complete head begins and how long its body is.
    fn feed(&mut self, bytes: &[u8], mut head: impl FnMut(&[u8]) -> Option<(usize, Begins, Length)>) -> Vec<Piece> {
        self.pending.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        while !self.pending.is_empty() {
            let (count, begins) = match self.place {
                Place::Head => {
                    let Some((count, begins, length)) = head(&self.pending) else { break };
                    self.place = match length {
                        Length::Bytes(0) => Place::Head,
                        Length::Bytes(count) => Place::Body(count),
                        Length::Chunked => Place::ChunkLine { last: false },
                        Length::UntilEnd => Place::Rest,
                    };
                    (count, begins)
                }
                Place::Body(left) => {
                    let count = left.min(self.pending.len() as u64);
                    self.place = if left == count { Place::Head } else { Place::Body(left - count) };
                    (count as usize, Begins::Nothing)
                }
                Place::ChunkLine { last } => {
                    let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') else { break };
                    self.place = if last {
                        // An empty line ends the trailer, and with it the message.
                        if self.pending[..end].trim_ascii().is_empty() {
                            Place::Head
                        } else {
                            Place::ChunkLine { last }
                        }
                    } else {
                        match chunk_size(&self.pending[..end]) {
                            0 => Place::ChunkLine { last: true },
                            size => Place::Chunk(size + 2),
                        }
                    };
                    (end + 1, Begins::Nothing)
                }
                Place::Chunk(left) => {
                    let count = left.min(self.pending.len() as u64);
                    self.place =
                        if left == count { Place::ChunkLine { last: false } } else { Place::Chunk(left - count) };
                    (count as usize, Begins::Nothing)
                }
                Place::Rest => (self.pending.len(), Begins::Nothing),
            };
            let ends = matches!(self.place, Place::Head);
            pieces.push(Piece { bytes: self.pending.copy_to_bytes(count), begins, ends });
        }
        pieces
    }
}

/// # Panics
/// On what no client or server of a test sends.
fn chunk_size(line: &[u8]) -> u64 {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let text = std::str::from_utf8(digits).unwrap_or_default();
    u64::from_str_radix(text, 16).unwrap_or_else(|error| panic!("chunk size {text:?}: {error}"))
}

fn length(headers: &[httparse::Header<'_>], otherwise: Length) -> Length {
    let value =
        |name: &str| headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value);
    if value("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().ends_with(b"chunked")) {
        return Length::Chunked;
    }
    let count = value("content-length").and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok());
    count.map_or(otherwise, Length::Bytes)
}

#[derive(Default)]
pub struct Http {
    up: Side,
    down: Side,
    next: u64,
    /// Requests without an answer: their ids, and whether the answer has no body because they were HEAD.
    waiting: VecDeque<(u64, bool)>,
}

impl Tracer for Http {
    fn up(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let Self { up, next, waiting, .. } = self;
        up.feed(bytes, |pending| {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut request = httparse::Request::new(&mut headers);
            let httparse::Status::Complete(count) = request.parse(pending).expect("an HTTP request") else {
                return None;
            };
            let (name, path) = (request.method.unwrap().to_owned(), request.path.unwrap().to_owned());
            let length = length(request.headers, Length::Bytes(0));
            *next += 1;
            waiting.push_back((*next, name == "HEAD"));
            Some((count, Begins::Request { id: *next, name, path }, length))
        })
    }

    fn down(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let Self { down, waiting, .. } = self;
        down.feed(bytes, |pending| {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut answer = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(count) = answer.parse(pending).expect("an HTTP answer") else { return None };
            let code = answer.code.unwrap();
            if (100..200).contains(&code) {
                return Some((count, Begins::Aside, Length::Bytes(0)));
            }
            let (id, head) = waiting.pop_front().unwrap_or_default();
            let empty = head || code == 204 || code == 304;
            let length = if empty { Length::Bytes(0) } else { length(answer.headers, Length::UntilEnd) };
            Some((count, Begins::Answer { id, status: code.to_string() }, length))
        })
    }

    fn forget_newest(&mut self) {
        self.waiting.pop_back();
    }
}
