//! The frame around every control object: what kind it is, of which version, how long, and a hash
//! over all of it.
//!
//! ```text
//! 8 bytes   magic, another for each kind of object
//! 4 bytes   version of the body, little-endian
//! 8 bytes   length of the body, little-endian
//! n bytes   body
//! 32 bytes  SHA-256 of everything before it
//! ```
//!
//! The frame itself never changes (another frame would have other magics), so that a reader can tell
//! damage from a version it does not know: the hash is checked before the version is looked at.

use sha2::{Digest, Sha256};

use super::limits::{MAX_LIST_CONTROL_BODY_BYTES, MAX_METADATA_BODY_BYTES, MAX_SMALL_CONTROL_BODY_BYTES};
use crate::error::{Error, ErrorKind, Result};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 20;
/// Bytes after the body.
pub const TRAILER_BYTES: usize = 32;

const MAGIC_BYTES: usize = 8;

/// One kind of control object: how it is told apart, and how large it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    magic: [u8; MAGIC_BYTES],
    version: u32,
    name: &'static str,
    max_body_bytes: u64,
}

impl Format {
    /// The index of a checkpoint.
    pub const METADATA: Self = Self::new(*b"\x89ICMETA\n", "_metadata", MAX_METADATA_BODY_BYTES);
    /// A coordinator's claim.
    pub const CLAIM: Self = Self::new(*b"\x89ICCLAI\n", "claim", MAX_SMALL_CONTROL_BODY_BYTES);
    /// What a tenure adopted.
    pub const START: Self = Self::new(*b"\x89ICSTRT\n", "start", MAX_LIST_CONTROL_BODY_BYTES);
    /// A tenure's own end.
    pub const END: Self = Self::new(*b"\x89ICENDS\n", "end", MAX_SMALL_CONTROL_BODY_BYTES);
    /// A list of objects about to be deleted.
    pub const CONDEMNED: Self = Self::new(*b"\x89ICCOND\n", "condemned list", MAX_LIST_CONTROL_BODY_BYTES);
    /// A person's hold on a checkpoint.
    pub const PIN: Self = Self::new(*b"\x89ICPINS\n", "pin", MAX_SMALL_CONTROL_BODY_BYTES);
    /// Another job's hold on a checkpoint.
    pub const REF: Self = Self::new(*b"\x89ICREFS\n", "ref", MAX_SMALL_CONTROL_BODY_BYTES);
    /// A shared object that is known to be damaged.
    pub const DISTRUST: Self = Self::new(*b"\x89ICDIST\n", "distrust record", MAX_SMALL_CONTROL_BODY_BYTES);
    /// A command's request to the living owner.
    pub const REQUEST: Self = Self::new(*b"\x89ICREQU\n", "request", MAX_SMALL_CONTROL_BODY_BYTES);
    /// The owner's answer.
    pub const ANSWER: Self = Self::new(*b"\x89ICANSW\n", "answer", MAX_SMALL_CONTROL_BODY_BYTES);

    /// Every format, for messages and tests.
    pub const ALL: [Self; 10] = [
        Self::METADATA,
        Self::CLAIM,
        Self::START,
        Self::END,
        Self::CONDEMNED,
        Self::PIN,
        Self::REF,
        Self::DISTRUST,
        Self::REQUEST,
        Self::ANSWER,
    ];

    const fn new(magic: [u8; MAGIC_BYTES], name: &'static str, max_body_bytes: u64) -> Self {
        Self { magic, version: 1, name, max_body_bytes }
    }

    /// What people call it, such as `claim`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The first eight bytes.
    pub fn magic(self) -> [u8; 8] {
        self.magic
    }

    /// The version this build writes; it reads this one and every released earlier one.
    pub fn version(self) -> u32 {
        self.version
    }

    /// The longest whole object, frame included. A reader asks the store for no more than this.
    pub fn max_object_bytes(self) -> u64 {
        self.max_body_bytes + (HEADER_BYTES + TRAILER_BYTES) as u64
    }

    /// Starts an object: a buffer with room for the header and about `body_bytes`, to append the body to.
    pub(super) fn begin(self, body_bytes: usize) -> Vec<u8> {
        let mut object = Vec::with_capacity(HEADER_BYTES + body_bytes + TRAILER_BYTES);
        object.extend_from_slice(&self.magic);
        object.extend_from_slice(&self.version.to_le_bytes());
        object.extend_from_slice(&0u64.to_le_bytes());
        object
    }

    /// Finishes what [`Self::begin`] started: notes the length and appends the hash.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] if the body is too long.
    pub(super) fn seal(self, mut object: Vec<u8>) -> Result<Vec<u8>> {
        let body_bytes = object.len().saturating_sub(HEADER_BYTES) as u64;
        if body_bytes > self.max_body_bytes {
            return Err(self.too_long("encode a control object", body_bytes));
        }
        if let Some(field) = object.get_mut(MAGIC_BYTES + 4..HEADER_BYTES) {
            field.copy_from_slice(&body_bytes.to_le_bytes());
        }
        let hash = Sha256::digest(&object);
        object.extend_from_slice(&hash);
        Ok(object)
    }

    /// Checks the frame around `object` and returns the body.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] if it is too long to look at, [`ErrorKind::Corrupt`] if it is
    /// damaged or another kind of object, [`ErrorKind::Unsupported`] if a newer build wrote it.
    pub fn unframe(self, object: &[u8]) -> Result<&[u8]> {
        let damaged = |what: String| Error::new(ErrorKind::Corrupt, OPERATION, format!("{}: {what}", self.name));
        if object.len() as u64 > self.max_object_bytes() {
            let body_bytes = (object.len() as u64).saturating_sub((HEADER_BYTES + TRAILER_BYTES) as u64);
            return Err(self.too_long(OPERATION, body_bytes));
        }
        let short = || {
            let needed = HEADER_BYTES + TRAILER_BYTES;
            damaged(format!("only {} bytes are left of it, its frame alone has {needed}", object.len()))
        };
        let (magic, rest) = object.split_first_chunk::<MAGIC_BYTES>().ok_or_else(short)?;
        if *magic != self.magic {
            return Err(damaged(match Self::ALL.into_iter().find(|format| format.magic == *magic) {
                Some(other) => format!("this is a {}", other.name),
                None => format!("it begins with {}, which no object of icecore does", magic.escape_ascii()),
            }));
        }
        let (version, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (body_bytes, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let (body, hash) = rest.split_last_chunk::<TRAILER_BYTES>().ok_or_else(short)?;
        let body_bytes = u64::from_le_bytes(*body_bytes);
        if body_bytes != body.len() as u64 {
            return Err(damaged(format!("its header promises a body of {body_bytes} bytes, {} are there", body.len())));
        }
        let hashed = object.get(..HEADER_BYTES + body.len()).ok_or_else(short)?;
        if Sha256::digest(hashed)[..] != hash[..] {
            return Err(damaged("its SHA-256 is not the one it ends with; bytes have changed".to_owned()));
        }
        match u32::from_le_bytes(*version) {
            version if version == self.version => Ok(body),
            version => Err(Error::new(
                ErrorKind::Unsupported,
                OPERATION,
                format!("{}: it is of version {version}, this build knows version {}", self.name, self.version),
            )
            .with_advice("a newer icecore wrote it; read it with that one")),
        }
    }

    fn too_long(self, operation: &'static str, body_bytes: u64) -> Error {
        let max = self.max_body_bytes;
        let message = format!("{}: its body would have {body_bytes} bytes, over the limit of {max}", self.name);
        Error::new(ErrorKind::LimitExceeded, operation, message)
    }
}

const OPERATION: &str = "decode a control object";
