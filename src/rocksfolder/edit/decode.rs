//! Reading an edit from its record.

use super::super::coding::Cursor;
use super::{
    BlobFileMeta, BlobGarbage, InternalKey, MAX_FILE_NUMBER, MAX_LEVELS, MAX_PATH_ID, MAX_SEQUENCE, TableMeta,
    VersionEdit, WalAddition, blob, field, tag, wal,
};
use crate::error::{Error, ErrorKind, Result};

const DECODE: &str = "decode a MANIFEST edit";

impl VersionEdit {
    /// Reads one record.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the record is cut off or breaks a bound; [`ErrorKind::Unsupported`] if
    /// it has a tag that must be understood and is not known here, or a name that is not UTF-8.
    pub fn decode(record: &[u8]) -> Result<Self> {
        let mut edit = Self::default();
        let mut input = Cursor::new(record, DECODE);
        while !input.is_empty() {
            let tag = input.varint32("a tag")?;
            if !edit.take_number(tag, &mut input)?
                && !edit.take_file(tag, &mut input)?
                && !edit.take_family(tag, &mut input)?
            {
                if tag & tag::SAFE_IGNORE_MASK == 0 {
                    return Err(unsupported(format!("tag {tag}")));
                }
                input.prefixed("an ignorable field")?;
            }
        }
        Ok(edit)
    }

    /// Takes a tag whose value is a number of the whole database or of a column family.
    fn take_number(&mut self, tag: u32, input: &mut Cursor<'_>) -> Result<bool> {
        match tag {
            tag::LOG_NUMBER => self.log_number = Some(input.varint64("the log number")?),
            tag::PREV_LOG_NUMBER => self.prev_log_number = Some(input.varint64("the previous log number")?),
            tag::NEXT_FILE_NUMBER => self.next_file_number = Some(file_number(input, "the next file number")?),
            tag::MAX_COLUMN_FAMILY => self.max_column_family = Some(input.varint32("the greatest column family id")?),
            tag::MIN_LOG_NUMBER_TO_KEEP => {
                self.min_log_number_to_keep = Some(input.varint64("the oldest log to keep")?)
            }
            tag::LAST_SEQUENCE => self.last_sequence = Some(sequence(input, "the last sequence number")?),
            tag::WAL_ADDITION => self.wal_additions.push(wal_addition(input)?),
            tag::WAL_ADDITION2 => {
                let mut nested = Cursor::new(input.prefixed("a log's record")?, DECODE);
                self.wal_additions.push(wal_addition(&mut nested)?);
            }
            tag::WAL_DELETION => self.wal_deletion = Some(input.varint64("a deleted log's number")?),
            tag::WAL_DELETION2 => {
                let mut nested = Cursor::new(input.prefixed("a log deletion")?, DECODE);
                self.wal_deletion = Some(nested.varint64("a deleted log's number")?);
            }
            tag::IN_ATOMIC_GROUP => self.atomic_group_remaining = Some(input.varint32("the rest of an atomic group")?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a tag that adds or removes tables or blobs.
    fn take_file(&mut self, tag: u32, input: &mut Cursor<'_>) -> Result<bool> {
        match tag {
            tag::COMPACT_CURSOR => {
                self.compact_cursors.push((level(input)?, internal_key(input, "a compaction cursor")?))
            }
            tag::DELETED_FILE => self.deleted_tables.push((level(input)?, file_number(input, "a deleted table")?)),
            tag::NEW_FILE | tag::NEW_FILE2 | tag::NEW_FILE3 | tag::NEW_FILE4 => {
                let level = level(input)?;
                let mut table = table(tag, input)?;
                if tag == tag::NEW_FILE4 {
                    self.take_table_fields(&mut table, input)?;
                }
                self.new_tables.push((level, table));
            }
            tag::BLOB_FILE_ADDITION | tag::BLOB_FILE_ADDITION_OLD => {
                self.new_blob_files.push(BlobFileMeta {
                    number: file_number(input, "a blob file's number")?,
                    blob_count: input.varint64("a blob count")?,
                    blob_bytes: input.varint64("a blob length")?,
                    checksum_method: input.prefixed("a blob checksum's method")?.to_vec(),
                    checksum: input.prefixed("a blob checksum")?.to_vec(),
                });
                blob_fields(input)?;
            }
            tag::BLOB_FILE_GARBAGE | tag::BLOB_FILE_GARBAGE_OLD => {
                self.blob_garbage.push(BlobGarbage {
                    number: file_number(input, "a blob file's number")?,
                    blob_count: input.varint64("a garbage count")?,
                    blob_bytes: input.varint64("a garbage length")?,
                });
                blob_fields(input)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes a tag about the column family or the database as such.
    fn take_family(&mut self, tag: u32, input: &mut Cursor<'_>) -> Result<bool> {
        match tag {
            tag::DB_ID => self.db_id = Some(text(input, "the database id")?),
            tag::COMPARATOR => self.comparator = Some(text(input, "a comparator's name")?),
            tag::COLUMN_FAMILY => self.column_family = input.varint32("a column family id")?,
            tag::COLUMN_FAMILY_ADD => self.column_family_add = Some(text(input, "a column family's name")?),
            tag::COLUMN_FAMILY_DROP => self.column_family_drop = true,
            tag::FULL_HISTORY_TS_LOW => {
                self.full_history_ts_low = Some(input.prefixed("the history's timestamp")?.to_vec());
            }
            tag::PERSIST_TIMESTAMPS => {
                self.persist_timestamps =
                    Some(one_byte(input.prefixed("the timestamp flag")?, "the timestamp flag")? == 1);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_table_fields(&mut self, table: &mut TableMeta, input: &mut Cursor<'_>) -> Result<()> {
        loop {
            let tag = input.varint32("a table field's tag")?;
            if tag == field::TERMINATE {
                return Ok(());
            }
            let value = input.prefixed("a table's field")?;
            let mut nested = Cursor::new(value, DECODE);
            match tag {
                field::MIN_LOG_NUMBER_TO_KEEP => {
                    self.min_log_number_to_keep = Some(nested.fixed64("the oldest log to keep")?);
                }
                field::PATH_ID => table.path_id = path_id(u32::from(one_byte(value, "a path id")?), &nested)?,
                field::OLDEST_BLOB_FILE => {
                    table.oldest_blob_file =
                        Some(file_number(&mut nested, "the oldest blob file")?).filter(|n| *n != 0);
                }
                field::UNIQUE_ID if value.len() == 16 => {
                    let id = [nested.fixed64("a unique id")?, nested.fixed64("a unique id")?];
                    table.unique_id = Some(id).filter(|id| *id != [0, 0]);
                }
                field::UNIQUE_ID => return Err(nested.corrupt("a unique id")),
                field::EPOCH_NUMBER => {
                    table.epoch_number = Some(nested.varint64("an epoch number")?).filter(|epoch| *epoch != 0);
                }
                field::OLDEST_ANCESTOR_TIME
                | field::FILE_CREATION_TIME
                | field::COMPENSATED_RANGE_DELETION_SIZE
                | field::TAIL_SIZE => {
                    nested.varint64("a table's time or size")?;
                    table.other_fields.push((tag, value.to_vec()));
                }
                field::NEED_COMPACTION | field::TEMPERATURE | field::TIMESTAMPS_PERSISTED => {
                    one_byte(value, "a table's flag")?;
                    table.other_fields.push((tag, value.to_vec()));
                }
                field::FILE_CHECKSUM
                | field::FILE_CHECKSUM_NAME
                | field::MIN_TIMESTAMP
                | field::MAX_TIMESTAMP
                | field::FILE_OPEN_METADATA => table.other_fields.push((tag, value.to_vec())),
                _ if tag & field::MUST_UNDERSTAND_BIT != 0 => return Err(unsupported(format!("table field {tag}"))),
                _ => {}
            }
        }
    }
}

/// What all four forms of a new table have in common; `tag` says which form it is.
fn table(tag: u32, input: &mut Cursor<'_>) -> Result<TableMeta> {
    let number = file_number(input, "a table's number")?;
    let path_id = if tag == tag::NEW_FILE3 { path_id(input.varint32("a path id")?, input)? } else { 0 };
    let size_bytes = input.varint64("a table's size")?;
    let smallest = internal_key(input, "a table's smallest key")?;
    let largest = internal_key(input, "a table's largest key")?;
    let sequences = if tag == tag::NEW_FILE {
        [0, MAX_SEQUENCE]
    } else {
        [sequence(input, "a smallest sequence number")?, sequence(input, "a largest sequence number")?]
    };
    Ok(TableMeta { path_id, ..TableMeta::new(number, size_bytes, smallest, largest, sequences) })
}

fn wal_addition(input: &mut Cursor<'_>) -> Result<WalAddition> {
    let mut addition = WalAddition { number: input.varint64("a log's number")?, synced_bytes: None };
    loop {
        match input.varint32("a log's tag")? {
            wal::TERMINATE => return Ok(addition),
            wal::SYNCED_SIZE => addition.synced_bytes = Some(input.varint64("a log's size")?),
            tag => return Err(unsupported(format!("log tag {tag}"))),
        }
    }
}

fn blob_fields(input: &mut Cursor<'_>) -> Result<()> {
    loop {
        let tag = input.varint32("a blob field's tag")?;
        if tag == blob::END {
            return Ok(());
        }
        if tag & blob::MUST_UNDERSTAND_BIT != 0 {
            return Err(unsupported(format!("blob field {tag}")));
        }
        input.prefixed("a blob's field")?;
    }
}

fn level(input: &mut Cursor<'_>) -> Result<u32> {
    let level = input.varint32("a level")?;
    if level < MAX_LEVELS { Ok(level) } else { Err(input.corrupt("a level")) }
}

fn file_number(input: &mut Cursor<'_>, what: &str) -> Result<u64> {
    let number = input.varint64(what)?;
    if number <= MAX_FILE_NUMBER { Ok(number) } else { Err(input.corrupt(what)) }
}

fn path_id(path_id: u32, input: &Cursor<'_>) -> Result<u32> {
    if path_id <= MAX_PATH_ID { Ok(path_id) } else { Err(input.corrupt("a path id")) }
}

fn sequence(input: &mut Cursor<'_>, what: &str) -> Result<u64> {
    let sequence = input.varint64(what)?;
    if sequence <= MAX_SEQUENCE { Ok(sequence) } else { Err(input.corrupt(what)) }
}

fn internal_key(input: &mut Cursor<'_>, what: &str) -> Result<InternalKey> {
    let bytes = input.prefixed(what)?;
    InternalKey::from_bytes(bytes).ok_or_else(|| input.corrupt(what))
}

fn one_byte(value: &[u8], what: &str) -> Result<u8> {
    match value {
        [byte] => Ok(*byte),
        _ => Err(Cursor::new(value, DECODE).corrupt(what)),
    }
}

fn text(input: &mut Cursor<'_>, what: &str) -> Result<String> {
    let bytes = input.prefixed(what)?;
    let unreadable = |_| Error::new(ErrorKind::Unsupported, DECODE, format!("{what} is not UTF-8"));
    std::str::from_utf8(bytes).map(str::to_owned).map_err(unreadable)
}

fn unsupported(what: String) -> Error {
    let message = format!("{what} is not known and may not be ignored");
    Error::new(ErrorKind::Unsupported, DECODE, message)
        .with_advice("the database was written by a newer RocksDB; use an icecore that knows it")
}
