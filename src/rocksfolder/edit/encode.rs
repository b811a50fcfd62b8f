//! Writing an edit as a record, in the forms that RocksDB writes today.

use super::super::coding::{put_prefixed, put_varint, varint};
use super::{TableMeta, VersionEdit, blob, field, tag, wal};

impl VersionEdit {
    /// The record of this edit. Decoding it gives the edit back.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put_database(&mut out);
        self.put_files(&mut out);
        self.put_family(&mut out);
        out
    }

    fn put_database(&self, out: &mut Vec<u8>) {
        put_text(out, tag::DB_ID, self.db_id.as_deref().map(str::as_bytes));
        put_text(out, tag::COMPARATOR, self.comparator.as_deref().map(str::as_bytes));
        put_number(out, tag::LOG_NUMBER, self.log_number);
        put_number(out, tag::PREV_LOG_NUMBER, self.prev_log_number);
        put_number(out, tag::NEXT_FILE_NUMBER, self.next_file_number);
        put_number(out, tag::MAX_COLUMN_FAMILY, self.max_column_family.map(u64::from));
        put_number(out, tag::MIN_LOG_NUMBER_TO_KEEP, self.min_log_number_to_keep);
        put_number(out, tag::LAST_SEQUENCE, self.last_sequence);
    }

    fn put_files(&self, out: &mut Vec<u8>) {
        for (level, key) in &self.compact_cursors {
            put_number(out, tag::COMPACT_CURSOR, Some(u64::from(*level)));
            put_prefixed(out, key.as_bytes());
        }
        for (level, number) in &self.deleted_tables {
            put_number(out, tag::DELETED_FILE, Some(u64::from(*level)));
            put_varint(out, *number);
        }
        for (level, table) in &self.new_tables {
            put_table(out, *level, table);
        }
        for file in &self.new_blob_files {
            put_number(out, tag::BLOB_FILE_ADDITION, Some(file.number));
            put_varint(out, file.blob_count);
            put_varint(out, file.blob_bytes);
            put_prefixed(out, &file.checksum_method);
            put_prefixed(out, &file.checksum);
            put_varint(out, u64::from(blob::END));
        }
        for garbage in &self.blob_garbage {
            put_number(out, tag::BLOB_FILE_GARBAGE, Some(garbage.number));
            put_varint(out, garbage.blob_count);
            put_varint(out, garbage.blob_bytes);
            put_varint(out, u64::from(blob::END));
        }
        for addition in &self.wal_additions {
            let mut nested = varint(addition.number);
            put_number(&mut nested, wal::SYNCED_SIZE, addition.synced_bytes);
            put_varint(&mut nested, u64::from(wal::TERMINATE));
            put_text(out, tag::WAL_ADDITION2, Some(&nested));
        }
        let deletion = self.wal_deletion.map(varint);
        put_text(out, tag::WAL_DELETION2, deletion.as_deref());
    }

    fn put_family(&self, out: &mut Vec<u8>) {
        put_number(out, tag::COLUMN_FAMILY, Some(u64::from(self.column_family)).filter(|id| *id != 0));
        put_text(out, tag::COLUMN_FAMILY_ADD, self.column_family_add.as_deref().map(str::as_bytes));
        if self.column_family_drop {
            put_varint(out, u64::from(tag::COLUMN_FAMILY_DROP));
        }
        put_number(out, tag::IN_ATOMIC_GROUP, self.atomic_group_remaining.map(u64::from));
        put_text(out, tag::FULL_HISTORY_TS_LOW, self.full_history_ts_low.as_deref());
        let persist = self.persist_timestamps.map(|flag| [u8::from(flag)]);
        put_text(out, tag::PERSIST_TIMESTAMPS, persist.as_ref().map(|flag| &flag[..]));
    }
}

fn put_table(out: &mut Vec<u8>, level: u32, table: &TableMeta) {
    put_number(out, tag::NEW_FILE4, Some(u64::from(level)));
    put_varint(out, table.number);
    put_varint(out, table.size_bytes);
    put_prefixed(out, table.smallest.as_bytes());
    put_prefixed(out, table.largest.as_bytes());
    put_varint(out, table.smallest_sequence);
    put_varint(out, table.largest_sequence);
    let epoch = table.epoch_number.map(varint);
    put_text(out, field::EPOCH_NUMBER, epoch.as_deref());
    let path_id = (table.path_id != 0).then_some([table.path_id as u8]);
    put_text(out, field::PATH_ID, path_id.as_ref().map(|id| &id[..]));
    let oldest_blob_file = table.oldest_blob_file.map(varint);
    put_text(out, field::OLDEST_BLOB_FILE, oldest_blob_file.as_deref());
    let unique_id = table.unique_id.map(|[first, second]| [first.to_le_bytes(), second.to_le_bytes()].concat());
    put_text(out, field::UNIQUE_ID, unique_id.as_deref());
    for (tag, value) in &table.other_fields {
        put_text(out, *tag, Some(value));
    }
    put_varint(out, u64::from(field::TERMINATE));
}

fn put_number(out: &mut Vec<u8>, tag: u32, value: Option<u64>) {
    if let Some(value) = value {
        put_varint(out, u64::from(tag));
        put_varint(out, value);
    }
}

fn put_text(out: &mut Vec<u8>, tag: u32, value: Option<&[u8]>) {
    if let Some(value) = value {
        put_varint(out, u64::from(tag));
        put_prefixed(out, value);
    }
}
