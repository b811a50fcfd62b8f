//! RocksDB's integers and length-prefixed strings: a cursor that reads them from bytes nobody vouches
//! for, and the functions that write them.
//!
//! The cursor never copies and never allocates, so a length that lies costs nothing: it is compared
//! with what is left before it is used (I8). All fixed integers are little-endian; varints carry seven
//! bits a byte, the lowest first.

use crate::error::{Error, Result};

/// A place in a slice, moving forward as values are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    operation: &'static str,
}

impl<'a> Cursor<'a> {
    /// Starts at the beginning of `bytes`; errors are raised in the name of `operation`.
    pub(super) fn new(bytes: &'a [u8], operation: &'static str) -> Self {
        Self { rest: bytes, operation }
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// A corruption error about `what`.
    pub(super) fn corrupt(&self, what: &str) -> Error {
        Error::new(crate::ErrorKind::Corrupt, self.operation, format!("{what} is cut off or malformed"))
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize, what: &str) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.corrupt(what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self, what: &str) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or_else(|| self.corrupt(what))?;
        self.rest = rest;
        Ok(*first)
    }

    /// A varint of up to 64 bits.
    pub(super) fn varint64(&mut self, what: &str) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(self.corrupt(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.corrupt(what))
    }

    /// A varint that must fit 32 bits.
    pub(super) fn varint32(&mut self, what: &str) -> Result<u32> {
        let value = self.varint64(what)?;
        u32::try_from(value).map_err(|_| self.corrupt(what))
    }

    /// Four bytes, little-endian.
    pub(super) fn fixed32(&mut self, what: &str) -> Result<u32> {
        let bytes = self.take(4, what)?;
        bytes.try_into().map(u32::from_le_bytes).map_err(|_| self.corrupt(what))
    }

    /// Eight bytes, little-endian.
    pub(super) fn fixed64(&mut self, what: &str) -> Result<u64> {
        let bytes = self.take(8, what)?;
        bytes.try_into().map(u64::from_le_bytes).map_err(|_| self.corrupt(what))
    }

    /// A string preceded by its length as a varint.
    pub(super) fn prefixed(&mut self, what: &str) -> Result<&'a [u8]> {
        let length = self.varint32(what)?;
        let length = usize::try_from(length).map_err(|_| self.corrupt(what))?;
        self.take(length, what)
    }
}

/// Appends `value` as a varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        // Truncation wanted: the low seven bits, with the "more follows" bit.
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `bytes` preceded by their length.
pub(super) fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// `value` as a varint of its own.
pub(super) fn varint(value: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(10);
    put_varint(&mut out, value);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_and_strings_read_back(value: u64, text: Vec<u8>) {
            let mut bytes = varint(value);
            put_prefixed(&mut bytes, &text);
            let mut cursor = Cursor::new(&bytes, "test");
            prop_assert_eq!(cursor.varint64("a").unwrap(), value);
            prop_assert_eq!(cursor.prefixed("b").unwrap(), &text[..]);
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn a_length_longer_than_what_is_left_is_an_error(length in 4u64.., rest in proptest::collection::vec(any::<u8>(), 0..4)) {
            let mut bytes = varint(length);
            bytes.extend(rest);
            prop_assert!(Cursor::new(&bytes, "test").prefixed("a string").is_err());
        }
    }

    #[test]
    fn a_varint_beyond_its_width_is_refused() {
        let mut eleven = vec![0xff; 10];
        eleven.push(1);
        assert!(Cursor::new(&eleven, "test").varint64("v").is_err());
        assert!(Cursor::new(&varint(1 << 32), "test").varint32("v").is_err());
        assert_eq!(Cursor::new(&varint(u64::MAX), "test").varint64("v").unwrap(), u64::MAX);
    }
}
