//! The record format that RocksDB's MANIFEST and write-ahead log share.
//!
//! A file is a row of 32 KiB blocks. A record lies in one physical record or, where it crosses a
//! block, in several (first, middle..., last). A physical record is a masked CRC-32C, a length, a type
//! and the bytes; in a log file that reuses the space of an older one ("recyclable" types) also the
//! number of the log it belongs to, so that what is left of the older log is recognised as the end.
//! (`db/log_format.h`, `db/log_reader.cc`.)
//!
//! What is assumed: a file that another process appends to, or that a crash cut off, ends in a record
//! that is not whole. Such a **torn** tail is not an error: [`LogReader::complete_bytes`] says up to
//! where the file is whole. Damage that is followed by a record that is whole is **corruption**,
//! since an append never leaves a hole.

use std::io::{Read, Write};

use super::coding::Cursor;
use crate::error::{Error, ErrorKind, Result};

/// Length of a block, in bytes.
pub const BLOCK_BYTES: usize = 32 * 1024;
/// Length of a physical record's header, in bytes.
pub const HEADER_BYTES: usize = 7;
/// Length of the header of the recyclable types, in bytes: it also holds the log's number.
pub const RECYCLABLE_HEADER_BYTES: usize = 11;
/// The longest record this crate takes into memory, in bytes. A MANIFEST holds all tables of a column
/// family in one record: this is room for about a million of them.
pub const MAX_RECORD_BYTES: usize = 256 * 1024 * 1024;

const READ: &str = "read RocksDB log records";
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
const RECYCLABLE_FULL: u8 = 5;
const RECYCLABLE_LAST: u8 = 8;
/// Compression, timestamp sizes, predecessor: each whole in one physical record, beside the records.
const SIDE_TYPES: [u8; 5] = [9, 10, 11, 130, 131];
const RECYCLABLE_SIDE_TYPES: [u8; 2] = [11, 131];
/// Types with this bit may be skipped by a reader that does not know them.
const IGNORABLE_TYPE_BIT: u8 = 0x80;
const CRC_MASK_DELTA: u32 = 0xa282_ead8;

/// How a log file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// After a whole record, with nothing but padding or an older log's remains behind it.
    Clean,
    /// In the middle of a record, or with bytes that are no record: a write in progress, a crash, or (in
    /// a file that was used again) an older log's record of which the end alone is left.
    Torn,
}

/// Reads records one after another, a block at a time. Bytes are not trusted.
#[derive(Debug)]
pub struct LogReader<R> {
    source: R,
    log_number: u32,
    block: Vec<u8>,
    /// Where in the file `block` begins.
    block_offset: u64,
    /// What of `block` has been consumed.
    at: usize,
    source_ended: bool,
    recycled: bool,
    complete_bytes: u64,
    end: Option<LogEnd>,
}

struct Physical {
    kind: u8,
    header_bytes: usize,
    length: usize,
}

enum Step {
    Fragment { kind: u8, start: usize, end: usize },
    End(LogEnd),
    Damage(&'static str),
}

impl<R: Read> LogReader<R> {
    /// Reads `source` from its beginning. `log_number` is the number in a write-ahead log's name; a
    /// MANIFEST has none, and 0 does.
    pub fn new(source: R, log_number: u64) -> Self {
        Self {
            source,
            // RocksDB stores the low half only.
            log_number: log_number as u32,
            block: Vec::new(),
            block_offset: 0,
            at: 0,
            source_ended: false,
            recycled: false,
            complete_bytes: 0,
            end: None,
        }
    }

    /// The next record; `None` at the end, after which [`Self::end`] tells how it ended.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] for damage that is not the tail; [`ErrorKind::LimitExceeded`] for a record
    /// longer than [`MAX_RECORD_BYTES`]; what reading the source gives.
    pub fn next_record(&mut self) -> Result<Option<Vec<u8>>> {
        let mut record = Vec::new();
        Ok(self.advance(Some(&mut record))?.then_some(record))
    }

    /// Reads to the end without keeping any record, and tells how the file ended.
    ///
    /// # Errors
    /// As [`Self::next_record`], but records may have any length.
    pub fn scan(&mut self) -> Result<LogEnd> {
        while self.advance(None)? {}
        Ok(self.end.unwrap_or(LogEnd::Clean))
    }

    /// How many bytes from the beginning hold whole records, up to what has been read.
    pub fn complete_bytes(&self) -> u64 {
        self.complete_bytes
    }

    /// How the file ended; `None` while there may be more.
    pub fn end(&self) -> Option<LogEnd> {
        self.end
    }

    fn advance(&mut self, mut record: Option<&mut Vec<u8>>) -> Result<bool> {
        if self.end.is_some() {
            return Ok(false);
        }
        let mut in_record = false;
        loop {
            match self.step()? {
                Step::End(end) => {
                    self.end = Some(if in_record { LogEnd::Torn } else { end });
                    return Ok(false);
                }
                Step::Damage(what) => return self.judge_damage(what).map(|()| false),
                Step::Fragment { kind, start, end } => {
                    let logical = if kind >= RECYCLABLE_FULL { kind - (RECYCLABLE_FULL - FULL) } else { kind };
                    let in_order = match logical {
                        FULL | FIRST => !in_record,
                        _ => in_record,
                    };
                    if !in_order {
                        return Err(self.corrupt("the parts of a record are out of order"));
                    }
                    if let (Some(record), Some(bytes)) = (record.as_deref_mut(), self.block.get(start..end)) {
                        if record.len() + bytes.len() > MAX_RECORD_BYTES {
                            let message = format!("a record is longer than {MAX_RECORD_BYTES} bytes");
                            return Err(Error::new(ErrorKind::LimitExceeded, READ, message));
                        }
                        record.extend_from_slice(bytes);
                    }
                    in_record = true;
                    if logical == FULL || logical == LAST {
                        self.complete_bytes = self.block_offset + self.at as u64;
                        return Ok(true);
                    }
                }
            }
        }
    }

    /// The next physical record that is part of a record; side records are passed over.
    fn step(&mut self) -> Result<Step> {
        loop {
            let rest = self.block.get(self.at..).unwrap_or_default();
            // Fewer bytes than a header, or zeros where a recyclable header did not fit, end a block.
            let padding = rest.len() < RECYCLABLE_HEADER_BYTES && rest.iter().all(|byte| *byte == 0);
            if rest.len() < HEADER_BYTES || padding {
                if self.is_last_block() {
                    return Ok(Step::End(if padding { LogEnd::Clean } else { LogEnd::Torn }));
                }
                self.next_block()?;
                continue;
            }
            let Some(physical) = Self::parse(rest) else {
                return Ok(Step::Damage("a record's length is wrong"));
            };
            let body = physical.header_bytes..physical.header_bytes + physical.length;
            if !Self::checksum_holds(rest, body.end) {
                return Ok(Step::Damage("a record's checksum is wrong"));
            }
            if Self::is_recyclable(physical.kind) {
                if Self::number_of(rest) != Some(self.log_number) {
                    // What an older log left behind in a file that was used again.
                    return Ok(Step::End(LogEnd::Clean));
                }
                self.recycled = true;
            }
            let start = self.at + body.start;
            self.at += body.end;
            match physical.kind {
                FULL..=RECYCLABLE_LAST => return Ok(Step::Fragment { kind: physical.kind, start, end: self.at }),
                kind if SIDE_TYPES.contains(&kind) || kind & IGNORABLE_TYPE_BIT != 0 => {
                    self.complete_bytes = self.block_offset + self.at as u64;
                }
                kind => {
                    let message = format!("record type {kind} is not known");
                    return Err(Error::new(ErrorKind::Unsupported, READ, message)
                        .with_advice("the file is from a newer RocksDB; a newer icecore may read it"));
                }
            }
        }
    }

    /// The header at the start of `rest`, if the record it announces lies within `rest`.
    fn parse(rest: &[u8]) -> Option<Physical> {
        let mut cursor = Cursor::new(rest, READ);
        cursor.fixed32("checksum").ok()?;
        let length = cursor.take(2, "length").ok().and_then(|b| <[u8; 2]>::try_from(b).ok())?;
        let length = usize::from(u16::from_le_bytes(length));
        let kind = *cursor.take(1, "type").ok()?.first()?;
        let header_bytes = if Self::is_recyclable(kind) { RECYCLABLE_HEADER_BYTES } else { HEADER_BYTES };
        (header_bytes + length <= rest.len()).then_some(Physical { kind, header_bytes, length })
    }

    fn is_recyclable(kind: u8) -> bool {
        (RECYCLABLE_FULL..=RECYCLABLE_LAST).contains(&kind) || RECYCLABLE_SIDE_TYPES.contains(&kind)
    }

    fn number_of(rest: &[u8]) -> Option<u32> {
        Cursor::new(rest.get(HEADER_BYTES..)?, READ).fixed32("log number").ok()
    }

    fn checksum_holds(rest: &[u8], end: usize) -> bool {
        let stored = Cursor::new(rest, READ).fixed32("checksum").ok();
        rest.get(6..end).is_some_and(|covered| stored == Some(mask(crc32c::crc32c(covered))))
    }

    fn is_last_block(&self) -> bool {
        self.source_ended
    }

    fn next_block(&mut self) -> Result<()> {
        self.block_offset += self.block.len() as u64;
        self.at = 0;
        self.block.clear();
        let mut limited = (&mut self.source).take(BLOCK_BYTES as u64);
        limited.read_to_end(&mut self.block).map_err(|error| Error::io(READ, "the log", error))?;
        self.source_ended = self.block.len() < BLOCK_BYTES;
        Ok(())
    }

    /// Decides whether damage at the present place is a torn tail or lies in the middle: looks for a
    /// whole record anywhere behind it in this block, and at the start of every later block.
    fn judge_damage(&mut self, what: &'static str) -> Result<()> {
        self.end = Some(LogEnd::Torn);
        let damage_at = self.block_offset + self.at as u64;
        let rest = self.block.get(self.at..).unwrap_or_default();
        let mut found = (1..rest.len()).any(|skip| rest.get(skip..).is_some_and(|later| self.is_whole_record(later)));
        while !found && !self.is_last_block() {
            self.next_block()?;
            found = self.is_whole_record(&self.block);
        }
        if found {
            let message = format!("{what} at byte {damage_at}, and whole records follow");
            return Err(Error::new(ErrorKind::Corrupt, READ, message));
        }
        Ok(())
    }

    fn is_whole_record(&self, bytes: &[u8]) -> bool {
        let Some(physical) = Self::parse(bytes) else { return false };
        if physical.length == 0 || !(FULL..=RECYCLABLE_LAST).contains(&physical.kind) {
            return false;
        }
        // In a file that was used again, only this log's own records count: others are older.
        let ours = if Self::is_recyclable(physical.kind) {
            Self::number_of(bytes) == Some(self.log_number)
        } else {
            !self.recycled
        };
        ours && Self::checksum_holds(bytes, physical.header_bytes + physical.length)
    }

    fn corrupt(&self, what: &str) -> Error {
        let at = self.block_offset + self.at as u64;
        Error::new(ErrorKind::Corrupt, READ, format!("{what} before byte {at}"))
    }
}

/// Writes records as RocksDB's writer does.
#[derive(Debug)]
pub struct LogWriter<W> {
    sink: W,
    block_at: usize,
    recyclable_number: Option<u32>,
    written_bytes: u64,
}

impl<W: Write> LogWriter<W> {
    /// Writes to `sink`, which is at the beginning of a file.
    pub fn new(sink: W) -> Self {
        Self { sink, block_at: 0, recyclable_number: None, written_bytes: 0 }
    }

    /// Writes the recyclable types, which carry the log's number.
    pub fn recyclable(sink: W, log_number: u64) -> Self {
        Self { recyclable_number: Some(log_number as u32), ..Self::new(sink) }
    }

    /// Appends one record.
    ///
    /// # Errors
    /// What writing to the sink gives.
    pub fn add_record(&mut self, record: &[u8]) -> std::io::Result<()> {
        let header_bytes = if self.recyclable_number.is_some() { RECYCLABLE_HEADER_BYTES } else { HEADER_BYTES };
        let mut rest = record;
        let mut first = true;
        loop {
            let left = BLOCK_BYTES - self.block_at;
            if left < header_bytes {
                self.put(&vec![0; left])?;
                continue;
            }
            let (fragment, later) = rest.split_at(rest.len().min(left - header_bytes));
            let last = later.is_empty();
            self.put_fragment(first, last, fragment)?;
            if last {
                return Ok(());
            }
            rest = later;
            first = false;
        }
    }

    /// How many bytes have been written.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Gives the sink back.
    pub fn into_inner(self) -> W {
        self.sink
    }

    fn put_fragment(&mut self, first: bool, last: bool, fragment: &[u8]) -> std::io::Result<()> {
        let kind = match (first, last) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, false) => MIDDLE,
            (false, true) => LAST,
        };
        let shift = if self.recyclable_number.is_some() { RECYCLABLE_FULL - FULL } else { 0 };
        let mut covered = vec![kind + shift];
        if let Some(number) = self.recyclable_number {
            covered.extend_from_slice(&number.to_le_bytes());
        }
        covered.extend_from_slice(fragment);
        self.put(&mask(crc32c::crc32c(&covered)).to_le_bytes())?;
        // A fragment is shorter than a block, so its length fits 16 bits.
        self.put(&(fragment.len() as u16).to_le_bytes())?;
        self.put(&covered)
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.sink.write_all(bytes)?;
        self.block_at = (self.block_at + bytes.len()) % BLOCK_BYTES;
        self.written_bytes += bytes.len() as u64;
        Ok(())
    }
}

/// RocksDB stores checksums rotated and shifted, so that a checksum of bytes that hold checksums
/// keeps its strength (`util/crc32c.h`).
fn mask(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(CRC_MASK_DELTA)
}

#[cfg(test)]
mod tests;
