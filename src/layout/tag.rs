//! Names of shared files: content hash, tag, kind.

use std::fmt;
use std::str::FromStr;

use super::ids::{parse_decimal, unreadable};
use super::{CheckpointId, ContentHash, Epoch, Uid};
use crate::error::{Error, Result};

/// Who uploaded an object, for which checkpoint, at which attempt. Never used twice.
///
/// Text form: `<epoch counter>-<epoch uid>-<generation>-<checkpoint>-<upload uid>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// The tenure of the coordinator that triggered the checkpoint.
    pub epoch: Epoch,
    /// The run of the job within the tenure; grows with every restart of its tasks.
    pub generation: u64,
    /// The checkpoint the upload was made for.
    pub checkpoint: CheckpointId,
    /// Fresh for each upload attempt.
    pub upload: Uid,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.epoch, self.generation, self.checkpoint, self.upload)
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = || unreadable("read an object's tag", text);
        let parts: Vec<&str> = text.split('-').collect();
        let [counter, uid, generation, checkpoint, upload] = parts.as_slice() else {
            return Err(fail());
        };
        Ok(Self {
            epoch: Epoch { counter: parse_decimal(counter).ok_or_else(fail)?, uid: uid.parse()? },
            generation: parse_decimal(generation).ok_or_else(fail)?,
            checkpoint: CheckpointId(parse_decimal(checkpoint).ok_or_else(fail)?),
            upload: upload.parse()?,
        })
    }
}

/// What a file is, as its name's ending says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A sorted table of RocksDB.
    Sst,
    /// A blob file of RocksDB.
    Blob,
    /// A RocksDB MANIFEST.
    Manifest,
    /// A RocksDB CURRENT file.
    Current,
    /// A RocksDB OPTIONS file.
    Options,
    /// A RocksDB write-ahead log.
    Wal,
    /// RocksDB's IDENTITY file: its database id.
    Identity,
    /// One key group of one state of a heap backend (icecore's own format, `docs/format.md`).
    HeapChunk,
}

impl FileKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::Sst,
        Self::Blob,
        Self::Manifest,
        Self::Current,
        Self::Options,
        Self::Wal,
        Self::Identity,
        Self::HeapChunk,
    ];

    /// The ending of a shared object's name, and the name of the kind in listings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sst => "sst",
            Self::Blob => "blob",
            Self::Manifest => "manifest",
            Self::Current => "current",
            Self::Options => "options",
            Self::Wal => "log",
            Self::Identity => "identity",
            Self::HeapChunk => "state",
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FileKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| unreadable("read a file kind", text))
    }
}

/// The name of an object in `shared/`: `<sha256>-<tag>.<kind>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SharedName {
    /// The content's hash, which dedupe looks up.
    pub hash: ContentHash,
    /// Whose upload it is.
    pub tag: Tag,
    /// What the file is.
    pub kind: FileKind,
}

impl fmt::Display for SharedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}.{}", self.hash, self.tag, self.kind)
    }
}

impl FromStr for SharedName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = || unreadable("read a shared object's name", text);
        let (stem, kind) = text.rsplit_once('.').ok_or_else(fail)?;
        let (hash, tag) = stem.split_once('-').ok_or_else(fail)?;
        Ok(Self { hash: hash.parse()?, tag: tag.parse()?, kind: kind.parse()? })
    }
}

/// The name of a record in `distrusted/`: `<sha256>-<tag>.<kind>.<epoch>.<uid>`. It says all that
/// matters, so that a record whose body cannot be read is honoured all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DistrustName {
    /// The shared object that is damaged. Of this job, or of the one that it was forked from.
    pub object: SharedName,
    /// The tenure that wrote the record.
    pub writer: Epoch,
    /// Fresh for each.
    pub uid: Uid,
}

impl fmt::Display for DistrustName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.object, self.writer, self.uid)
    }
}

impl FromStr for DistrustName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let fail = || unreadable("read the name of a distrust record", text);
        let (rest, uid) = text.rsplit_once('.').ok_or_else(fail)?;
        let (object, writer) = rest.rsplit_once('.').ok_or_else(fail)?;
        Ok(Self { object: object.parse()?, writer: writer.parse()?, uid: uid.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_names_read_back_and_fit_a_file_name() {
        let name = SharedName {
            hash: ContentHash::of(b"x"),
            tag: Tag {
                epoch: Epoch { counter: u64::MAX, uid: Uid(u64::MAX) },
                generation: u64::MAX,
                checkpoint: CheckpointId(u64::MAX),
                upload: Uid(7),
            },
            kind: FileKind::Manifest,
        };
        assert!(name.to_string().len() < 255);
        assert_eq!(name.to_string().parse::<SharedName>().unwrap(), name);
        let record = DistrustName { object: name, writer: name.tag.epoch, uid: Uid(8) };
        assert!(record.to_string().len() < 255);
        assert_eq!(record.to_string().parse::<DistrustName>().unwrap(), record);
        for kind in FileKind::ALL {
            assert_eq!(kind.as_str().parse::<FileKind>().unwrap(), kind);
        }
    }
}
