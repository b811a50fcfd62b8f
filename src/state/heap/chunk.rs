//! A chunk: the rows of one key group of one state, in key order. `docs/format-heap-chunk.md` gives its
//! bytes.
//!
//! Writer and reader stream: neither holds more than one row and a small buffer. The reader believes nothing (I8): lengths
//! are bounded and only bytes that are really there are allocated for, every row must belong to the
//! chunk's group and follow its predecessor, and the end carries a row count, a length and a CRC.
//! The CRC finds damage in a chunk that is read on its own; identity is the SHA-256 in `_metadata` (I6).

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::ChunkName;
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroup, MaxParallelism};
use crate::layout::ContentHash;
use crate::state::schema::check_state_name;
use crate::state::varint;
use crate::state::{KeyLayout, MAX_ROW_KEY_BYTES, MAX_VALUE_BYTES};

/// The version of the chunk format that this build writes, and the only one there is so far.
pub const CHUNK_FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"ICEHEAP\n";
/// Longer names are refused anyway; this bounds what is read before they are checked.
const MAX_STATE_NAME_BYTES: usize = 255;
const BUFFER_BYTES: usize = 64 * 1024;
const READ: &str = "read a heap chunk";
const WRITE: &str = "write a heap chunk";

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSummary {
    /// Number of rows.
    pub rows: u64,
    /// Length of the chunk.
    pub size_bytes: u64,
    /// Its content hash.
    pub sha256: ContentHash,
}

/// Writes a chunk row by row. Rows must come in key order.
pub(super) struct ChunkWriter<'a> {
    output: &'a mut dyn Write,
    name: String,
    sha256: Sha256,
    crc32c: u32,
    /// Of what went out.
    size_bytes: u64,
    rows: u64,
    /// What did not go out yet: much at once is hashed faster than a little often.
    pending: Vec<u8>,
}

impl<'a> ChunkWriter<'a> {
    pub(super) fn begin(output: &'a mut dyn Write, layout: KeyLayout, name: &ChunkName) -> Self {
        let mut pending = MAGIC.to_vec();
        pending.extend_from_slice(&CHUNK_FORMAT_VERSION.to_be_bytes());
        pending.extend_from_slice(&layout.max_parallelism().get().to_be_bytes());
        pending.extend_from_slice(&name.key_group.to_be_bytes());
        varint::write_sized(name.state.as_bytes(), &mut pending);
        Self { output, name: name.to_string(), sha256: Sha256::new(), crc32c: 0, size_bytes: 0, rows: 0, pending }
    }

    pub(super) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        varint::write_sized(key, &mut self.pending);
        varint::write(value.len() as u64, &mut self.pending);
        self.rows += 1;
        // A long one need not be copied.
        if value.len() >= BUFFER_BYTES {
            self.put_pending()?;
            return self.put(value);
        }
        self.pending.extend_from_slice(value);
        if self.pending.len() >= BUFFER_BYTES { self.put_pending() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<ChunkSummary> {
        self.put_pending()?;
        // No key is empty, so a key of length 0 ends the rows.
        let mut end = vec![0];
        end.extend_from_slice(&self.rows.to_be_bytes());
        end.extend_from_slice(&(self.size_bytes + end.len() as u64).to_be_bytes());
        self.put(&end)?;
        let crc32c = self.crc32c.to_be_bytes();
        self.put(&crc32c)?;
        let sha256 = ContentHash(self.sha256.finalize().into());
        Ok(ChunkSummary { rows: self.rows, size_bytes: self.size_bytes, sha256 })
    }

    fn put_pending(&mut self) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        self.put(&pending)?;
        pending.clear();
        self.pending = pending;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sha256.update(bytes);
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        self.size_bytes += bytes.len() as u64;
        self.output.write_all(bytes).map_err(|error| Error::io(WRITE, &self.name, error))
    }
}

/// Reads a chunk row by row. What it gave out may be used only once it has reached the end without
/// an error.
#[derive(Debug)]
pub struct ChunkReader<R> {
    input: Input<R>,
    layout: KeyLayout,
    name: ChunkName,
    rows: u64,
    at_end: bool,
}

impl<R: Read> ChunkReader<R> {
    /// Reads the chunk's head.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if it is none, [`ErrorKind::Unsupported`] for an unknown version.
    pub fn open(input: R) -> Result<Self> {
        let mut input = Input { reader: io::BufReader::with_capacity(BUFFER_BYTES, input), crc32c: 0, size_bytes: 0 };
        if input.array::<8>()? != MAGIC {
            return Err(corrupt("it does not begin as a heap chunk"));
        }
        let version = u32::from_be_bytes(input.array()?);
        if version != CHUNK_FORMAT_VERSION {
            let message = format!("format version {version}; this build reads {CHUNK_FORMAT_VERSION}");
            return Err(Error::new(ErrorKind::Unsupported, READ, message)
                .with_advice("use the version of icecore that wrote it, or a newer one"));
        }
        let max_parallelism = MaxParallelism::new(u32::from_be_bytes(input.array()?))
            .map_err(|error| corrupt("its max parallelism cannot be").with_source(error))?;
        let key_group = KeyGroup::from_be_bytes(input.array()?);
        max_parallelism
            .check_group(READ, key_group)
            .map_err(|error| corrupt("its key group is beyond its max parallelism").with_source(error))?;
        let mut state = Vec::new();
        input.sized_into(MAX_STATE_NAME_BYTES, &mut state)?;
        let state =
            String::from_utf8(state).map_err(|error| corrupt("its state's name is no text").with_source(error))?;
        check_state_name(&state).map_err(|error| corrupt("its state's name cannot be").with_source(error))?;
        let name = ChunkName { key_group, state };
        Ok(Self { input, layout: KeyLayout::new(max_parallelism), name, rows: 0, at_end: false })
    }

    /// Which rows the chunk says it holds.
    pub fn name(&self) -> &ChunkName {
        &self.name
    }

    /// How its row keys are composed.
    pub fn layout(&self) -> KeyLayout {
        self.layout
    }

    /// Reads the next row. `key` must still hold the previous row's key (empty before the first): rows
    /// have to ascend. False if there was none left and everything has been verified.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the bytes are not what was written; what the input fails with.
    pub fn next_row(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool> {
        self.try_next_row(key, value).map_err(|error| error.with_object(&self.name))
    }

    fn try_next_row(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool> {
        if self.at_end {
            return Ok(false);
        }
        let before = std::mem::take(key);
        self.input.sized_into(MAX_ROW_KEY_BYTES, key)?;
        if key.is_empty() {
            self.end()?;
            self.at_end = true;
            return Ok(false);
        }
        let group = self.layout.key_group_of_row(key)?;
        if group != self.name.key_group {
            return Err(corrupt(format!("a row of key group {group} lies in it")));
        }
        if *key <= before {
            return Err(corrupt("its rows are not in ascending order"));
        }
        self.input.sized_into(MAX_VALUE_BYTES, value)?;
        self.rows += 1;
        Ok(true)
    }

    fn end(&mut self) -> Result<()> {
        let rows = u64::from_be_bytes(self.input.array()?);
        let size_before = self.input.size_bytes;
        let size_bytes = u64::from_be_bytes(self.input.array()?);
        let crc32c = self.input.crc32c;
        if u32::from_be_bytes(self.input.array()?) != crc32c {
            return Err(corrupt("its checksum is wrong"));
        }
        if rows != self.rows || size_bytes != size_before {
            return Err(corrupt("the row count or the length at its end is wrong"));
        }
        if self.input.is_more()? {
            return Err(corrupt("bytes follow its end"));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Input<R> {
    reader: io::BufReader<R>,
    crc32c: u32,
    size_bytes: u64,
}

impl<R: Read> Input<R> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(cut_or_io)?;
        self.count(&bytes);
        Ok(bytes)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut spelling = Vec::with_capacity(varint::MAX_VARINT_BYTES);
        while spelling.len() < varint::MAX_VARINT_BYTES {
            let [byte] = self.array()?;
            spelling.push(byte);
            if byte & 0x80 == 0 {
                break;
            }
        }
        varint::take(&mut spelling.as_slice()).ok_or_else(|| corrupt("a length is not in its shortest spelling"))
    }

    /// Reads a length and so many bytes. Memory grows with bytes that are there, not with the length.
    fn sized_into(&mut self, limit_bytes: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let length = self.varint()?;
        if length > limit_bytes as u64 {
            return Err(corrupt(format!("a length of {length} bytes, where at most {limit_bytes} can be")));
        }
        bytes.clear();
        let read = (&mut self.reader).take(length).read_to_end(bytes).map_err(cut_or_io)?;
        if read as u64 != length {
            return Err(cut());
        }
        self.count(bytes);
        Ok(())
    }

    fn is_more(&mut self) -> Result<bool> {
        io::BufRead::fill_buf(&mut self.reader).map(|rest| !rest.is_empty()).map_err(cut_or_io)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        self.size_bytes += bytes.len() as u64;
    }
}

fn cut() -> Error {
    corrupt("it is cut off")
}

fn cut_or_io(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => cut(),
        _ => Error::io(READ, "the input", error),
    }
}

fn corrupt(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, READ, message)
}
