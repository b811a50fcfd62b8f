//! The ids: job, operator, checkpoint, epoch, content hash, random uid.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::env::Randomness;
use crate::error::{Error, ErrorKind, Result};

/// The longest job or operator id, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

fn check_name(what: &'static str, text: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !starts_well || text.len() > MAX_NAME_BYTES || !text.bytes().all(allowed) {
        return Err(Error::new(ErrorKind::InvalidInput, what, "not a valid name")
            .with_object(text.escape_debug().take(MAX_NAME_BYTES).collect::<String>())
            .with_advice("use up to 128 ASCII letters, digits, `-`, `_` and `.`, the first a letter or digit"));
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks `text`: up to 128 ASCII letters, digits, `-`, `_` and `.`, the first a letter
            /// or digit.
            ///
            /// # Errors
            /// [`ErrorKind::InvalidInput`] otherwise.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                check_name($what, text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
    };
}

name_type!(
    /// The job a checkpoint belongs to; one owner at a time changes a job's folder.
    JobId,
    "check a job id"
);
name_type!(
    /// A stateful step of a job.
    OperatorId,
    "check an operator id"
);

/// The number of a checkpoint, growing within a job, across its epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointId(pub u64);

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 64 random bits that make a name unique; 16 lower-case hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub u64);

impl Uid {
    /// A fresh one.
    pub fn random(randomness: &dyn Randomness) -> Self {
        Self(randomness.next_u64())
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for Uid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let canonical = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        u64::from_str_radix(text, 16).ok().filter(|_| canonical).map(Self).ok_or_else(|| unreadable("read a uid", text))
    }
}

/// One tenure of a job's coordinator: a claim's counter and random uid, ordered as a pair.
///
/// Text form: `<counter>-<uid>`, the counter in decimal without leading zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// One more than the greatest counter its claimant saw.
    pub counter: u64,
    /// Tells two claims of one counter apart.
    pub uid: Uid,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.counter, self.uid)
    }
}

impl FromStr for Epoch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (counter, uid) = text.split_once('-').ok_or_else(|| unreadable("read an epoch", text))?;
        Ok(Self {
            counter: parse_decimal(counter).ok_or_else(|| unreadable("read an epoch", text))?,
            uid: uid.parse()?,
        })
    }
}

/// The SHA-256 of a file's content. This is a file's identity (I6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// Hashes `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One write, not 32: a `_metadata` holds a hash for each of 100,000 files.
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 0xf]) {
                *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
            }
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for ContentHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut hash = [0; 32];
        if text.len() != 64 {
            return Err(unreadable("read a content hash", text));
        }
        for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = match pair {
                [high, low] => (digit(*high), digit(*low)),
                _ => (None, None),
            };
            *byte = match (high, low) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(unreadable("read a content hash", text)),
            };
        }
        Ok(Self(hash))
    }
}

/// Reads a decimal number in its only accepted spelling (no sign, no leading zeros), so that two
/// names never mean one thing.
pub(super) fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    text.parse().ok().filter(|_| canonical)
}

pub(super) fn unreadable(what: &'static str, text: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, what, "not in the form icecore writes")
        .with_object(text.escape_debug().take(MAX_NAME_BYTES * 2).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_ordered_by_counter_then_uid_and_read_back() {
        let text = "12-00000000000000ff";
        let epoch: Epoch = text.parse().unwrap();
        assert_eq!(epoch.to_string(), text);
        assert!(epoch > Epoch { counter: 9, uid: Uid(u64::MAX) });
        assert!(epoch < Epoch { counter: 12, uid: Uid(0x100) });
        for hostile in ["", "12", "-", "012-00000000000000ff", "+1-00000000000000ff", "1-ff", "1-00000000000000FF"] {
            assert!(hostile.parse::<Epoch>().is_err(), "{hostile:?} was taken");
        }
    }

    #[test]
    fn a_content_hash_is_sha256_and_reads_back() {
        let hash = ContentHash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.to_string().parse::<ContentHash>().unwrap(), hash);
        assert!("AB".repeat(32).parse::<ContentHash>().is_err());
    }

    #[test]
    fn names_cannot_carry_paths() {
        for hostile in ["", "..", "a/b", "-a", ".a", "a b", "a\n"] {
            assert!(JobId::new(hostile).is_err(), "{hostile:?} was taken");
        }
        assert_eq!(JobId::new("payments-7.b").unwrap().as_str(), "payments-7.b");
    }
}
