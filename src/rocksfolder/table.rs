//! The end of a table file (SST): its magic number, its footer, and its properties.
//!
//! Footer versions 0 to 7 are read (`table/format.cc`). The properties block is never compressed and is
//! found from the footer through the meta index; both are read whole, within a limit. Their own
//! checksums are not looked at (RocksDB's default kind is XXH3): properties serve as a sanity check and
//! for information, and the file's bytes as a whole are under a SHA-256 (I6).
//!
//! The file's smallest and largest key are not read here: the index may be partitioned, compressed and
//! delta-encoded. A MANIFEST has them, and who writes a table knows them.

use std::io::{Read, Seek, SeekFrom};

use super::coding::Cursor;
use crate::error::{Error, ErrorKind, Result};

/// The longest properties or meta index block that is read, in bytes.
pub const MAX_PROPERTIES_BYTES: u64 = 16 * 1024 * 1024;
/// The newest footer version known.
pub const MAX_FOOTER_VERSION: u32 = 7;

const READ: &str = "read a table's properties";
const MAGIC_BYTES: u64 = 8;
/// Two block handles at their longest.
const HANDLES_BYTES: usize = 40;
const FOOTER0_BYTES: usize = HANDLES_BYTES + 8;
const FOOTER_BYTES: usize = 1 + HANDLES_BYTES + 4 + 8;
const EXTENDED_MAGIC: [u8; 4] = [0x3e, 0x00, 0x7a, 0x00];

const BLOCK_BASED: u64 = 0x88e2_41b7_85f4_cff7;
const BLOCK_BASED_OLD: u64 = 0xdb47_7524_8b80_fb57;
const PLAIN: u64 = 0x8242_2296_63bf_9564;
const PLAIN_OLD: u64 = 0x4f34_18eb_7a8f_13b8;
const CUCKOO: u64 = 0x9267_89d0_c5f1_7873;

/// What a table says of itself. Absent where the table does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableProperties {
    /// The footer's version, RocksDB's `format_version`.
    pub footer_version: u32,
    /// Id of the database that wrote it; `SST Writer` for a file made by `SstFileWriter`.
    pub db_id: Option<String>,
    /// Id of the session (one opening of the database) that wrote it.
    pub session_id: Option<String>,
    /// The number it was written under.
    pub original_file_number: Option<u64>,
    /// How many entries it holds, deletions included.
    pub entries: Option<u64>,
    /// How many of them are deletions.
    pub deletions: Option<u64>,
    /// How many range tombstones it holds.
    pub range_deletions: Option<u64>,
    /// Name of the column family that it was written for; empty if that was not known.
    pub column_family: Option<String>,
    /// Name of the comparator.
    pub comparator: Option<String>,
    /// Version of the external file format: present in files made by `SstFileWriter`.
    pub external_version: Option<u32>,
}

/// Checks that the last eight bytes of a file of `size_bytes` are a table's magic number.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if they are not; what reading gives.
pub fn check_magic(file: &mut (impl Read + Seek), size_bytes: u64) -> Result<()> {
    let at = size_bytes.checked_sub(MAGIC_BYTES).ok_or_else(|| corrupt("the file is too short to be a table"))?;
    let bytes = read_at(file, at, MAGIC_BYTES)?;
    let magic = Cursor::new(&bytes, READ).fixed64("the magic number")?;
    if [BLOCK_BASED, BLOCK_BASED_OLD, PLAIN, PLAIN_OLD, CUCKOO].contains(&magic) {
        return Ok(());
    }
    Err(corrupt(&format!("its last eight bytes, {magic:#018x}, are no table's magic number")))
}

impl TableProperties {
    /// Reads the properties of a table file of `size_bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the bytes are no table; [`ErrorKind::Unsupported`] for a newer footer;
    /// [`ErrorKind::LimitExceeded`] for blocks beyond [`MAX_PROPERTIES_BYTES`]; what reading gives.
    pub fn read(file: &mut (impl Read + Seek), size_bytes: u64) -> Result<Self> {
        let footer = Footer::read(file, size_bytes)?;
        let meta_index = footer.read_block(file, footer.meta_index)?;
        let mut handle = None;
        for_each_entry(&meta_index, |key, value| {
            if key == b"rocksdb.properties" || key == b"rocksdb.stats" {
                handle = Some(Handle::decode(&mut Cursor::new(value, READ))?);
            }
            Ok(())
        })?;
        let handle = handle.ok_or_else(|| corrupt("the table has no properties"))?;
        let block = footer.read_block(file, handle)?;
        let mut properties = Self { footer_version: footer.version, ..Self::default() };
        for_each_entry(&block, |key, value| properties.take(key, value))?;
        Ok(properties)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut cursor = Cursor::new(value, READ);
        let mut number = || cursor.varint64("a number among the properties").map(Some);
        let text = || Some(String::from_utf8_lossy(value).into_owned());
        match key {
            b"rocksdb.creating.db.identity" => self.db_id = text(),
            b"rocksdb.creating.session.identity" => self.session_id = text(),
            b"rocksdb.original.file.number" => self.original_file_number = number()?,
            b"rocksdb.num.entries" => self.entries = number()?,
            b"rocksdb.deleted.keys" => self.deletions = number()?,
            b"rocksdb.num.range-deletions" => self.range_deletions = number()?,
            b"rocksdb.column.family.name" => self.column_family = text(),
            b"rocksdb.comparator" => self.comparator = text(),
            b"rocksdb.external_sst_file.version" => {
                self.external_version = Some(cursor.fixed32("the external version")?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Where a block lies, without its trailer.
#[derive(Clone, Copy, Debug)]
struct Handle {
    offset: u64,
    size_bytes: u64,
}

impl Handle {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self> {
        Ok(Self { offset: cursor.varint64("a block's offset")?, size_bytes: cursor.varint64("a block's size")? })
    }
}

struct Footer {
    version: u32,
    /// Compression type and checksum behind each block; plain and cuckoo tables have none.
    trailer_bytes: u64,
    offset: u64,
    meta_index: Handle,
}

impl Footer {
    fn read(file: &mut (impl Read + Seek), size_bytes: u64) -> Result<Self> {
        check_magic(file, size_bytes)?;
        let length = size_bytes.min(FOOTER_BYTES as u64);
        let tail = read_at(file, size_bytes - length, length)?;
        let (body, magic) = tail.split_at_checked(tail.len().saturating_sub(8)).unwrap_or_default();
        let magic = Cursor::new(magic, READ).fixed64("the magic number")?;
        let trailer_bytes = if [BLOCK_BASED, BLOCK_BASED_OLD].contains(&magic) { 5 } else { 0 };
        let too_short = || corrupt("the file is too short to be a table");
        if [BLOCK_BASED_OLD, PLAIN_OLD].contains(&magic) {
            let handles = body.len().checked_sub(HANDLES_BYTES).and_then(|at| body.get(at..)).ok_or_else(too_short)?;
            let meta_index = Handle::decode(&mut Cursor::new(handles, READ))?;
            return Ok(Self { version: 0, trailer_bytes, offset: size_bytes - FOOTER0_BYTES as u64, meta_index });
        }
        if tail.len() < FOOTER_BYTES {
            return Err(too_short());
        }
        let mut cursor = Cursor::new(body, READ);
        cursor.take(1, "the checksum type")?;
        let mut part2 = Cursor::new(cursor.take(HANDLES_BYTES, "the footer")?, READ);
        let version = cursor.fixed32("the footer's version")?;
        let offset = size_bytes - FOOTER_BYTES as u64;
        if version > MAX_FOOTER_VERSION {
            let message = format!("footer version {version} is not known");
            return Err(Error::new(ErrorKind::Unsupported, READ, message));
        }
        if version < 6 {
            return Ok(Self { version, trailer_bytes, offset, meta_index: Handle::decode(&mut part2)? });
        }
        if part2.take(EXTENDED_MAGIC.len(), "the extended magic number")? != EXTENDED_MAGIC {
            return Err(corrupt("the footer's extended magic number is wrong"));
        }
        part2.take(8, "the footer's checksums")?;
        let size = u64::from(part2.fixed32("the meta index's size")?);
        let start = offset.checked_sub(trailer_bytes + size).ok_or_else(|| corrupt("the meta index is too long"))?;
        Ok(Self { version, trailer_bytes, offset, meta_index: Handle { offset: start, size_bytes: size } })
    }

    fn read_block(&self, file: &mut (impl Read + Seek), handle: Handle) -> Result<Vec<u8>> {
        if handle.size_bytes > MAX_PROPERTIES_BYTES {
            let message = format!("a block is longer than {MAX_PROPERTIES_BYTES} bytes");
            return Err(Error::new(ErrorKind::LimitExceeded, READ, message));
        }
        let whole = handle.size_bytes + self.trailer_bytes;
        if handle.offset.checked_add(whole).is_none_or(|end| end > self.offset) {
            return Err(corrupt("a block lies outside the file"));
        }
        let mut block = read_at(file, handle.offset, whole)?;
        let trailer = block.split_off((handle.size_bytes as usize).min(block.len()));
        if trailer.first().is_some_and(|compression| *compression != 0) {
            return Err(Error::new(ErrorKind::Unsupported, READ, "the properties are compressed"));
        }
        Ok(block)
    }
}

/// Calls `take` with every key and value of a block of prefix-compressed entries.
fn for_each_entry(block: &[u8], mut take: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
    let tail = block.last_chunk().copied().map(u32::from_le_bytes).ok_or_else(|| corrupt("a block is too short"))?;
    let restarts = u64::from(tail & 0x7fff_ffff) * 4 + 4;
    let end = usize::try_from(restarts).ok().and_then(|restarts| block.len().checked_sub(restarts));
    let entries = end.and_then(|end| block.get(..end)).ok_or_else(|| corrupt("a block's restarts are wrong"))?;
    let mut cursor = Cursor::new(entries, READ);
    let mut key = Vec::new();
    while !cursor.is_empty() {
        let shared = cursor.varint32("an entry")? as usize;
        let own = cursor.varint32("an entry")? as usize;
        let value = cursor.varint32("an entry")? as usize;
        if shared > key.len() {
            return Err(corrupt("an entry shares more of its key than there is"));
        }
        key.truncate(shared);
        key.extend_from_slice(cursor.take(own, "an entry's key")?);
        take(&key, cursor.take(value, "an entry's value")?)?;
    }
    Ok(())
}

fn read_at(file: &mut (impl Read + Seek), offset: u64, length: u64) -> Result<Vec<u8>> {
    let io = |error| Error::io(READ, "the file", error);
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut bytes = Vec::new();
    let read = file.take(length).read_to_end(&mut bytes).map_err(io)?;
    if read as u64 == length { Ok(bytes) } else { Err(corrupt("the file is shorter than it was said to be")) }
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, READ, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor as Bytes;

    #[test]
    fn a_file_without_a_table_s_magic_number_is_corrupt() {
        for bytes in [&b""[..], b"short", &[0; 100]] {
            let error = TableProperties::read(&mut Bytes::new(bytes), bytes.len() as u64).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn a_newer_footer_is_unsupported() {
        let mut bytes = vec![0; 200];
        bytes.extend((MAX_FOOTER_VERSION + 1).to_le_bytes());
        bytes.extend(BLOCK_BASED.to_le_bytes());
        let error = TableProperties::read(&mut Bytes::new(&bytes), bytes.len() as u64).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    proptest::proptest! {
        #[test]
        fn any_footer_is_taken_or_refused_without_a_panic(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), version in 0u32..8) {
            bytes.extend(version.to_le_bytes());
            bytes.extend(BLOCK_BASED.to_le_bytes());
            let _ = TableProperties::read(&mut Bytes::new(&bytes), bytes.len() as u64);
        }
    }
}
