//! How a database for keyed state is set up.

use ::rocksdb::{BlockBasedOptions, DBCompressionType, MergeOperands, Options};

/// Name of the merge operator by which lists are appended to. It is recorded in the database's options,
/// and any program that opens the database has to bring an operator that does the same.
pub const APPEND_OPERATOR: &str = "icecore.append";

const DEFAULT_BUFFER_BYTES: usize = 64 << 20;
const DEFAULT_FILE_BYTES: u64 = 64 << 20;
const DEFAULT_BACKGROUND_JOBS: u16 = 2;
/// Memtables that a state may have: with two of them the cut of a checkpoint would wait for one that is just being written out.
const WRITE_BUFFERS: i32 = 3;
/// One key in a hundred is looked for in vain.
const DEFAULT_FILTER_BITS_PER_KEY: u8 = 10;

/// Options of a database for keyed state.
///
/// The defaults suit checkpoints: files are large enough not to be many, and small enough that an
/// update here and there does not rewrite everything. Smaller files make a partial restore cheaper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksDbOptions {
    /// Size at which a state's writes are flushed to a file, in bytes. Up to three of that size are in memory.
    pub write_buffer_bytes: usize,
    /// Size of files beyond level 0, in bytes.
    pub target_file_bytes: u64,
    /// Size of the Bloom filters, in bits a key; 0 for none. They are in memory (10 bits: 1.25 MB a million rows) and spare a read of
    /// a row the files that do not have it: every checkpoint makes one more at level 0. At the lowest level they are for rows
    /// that do not exist yet, as the first one of each key and window.
    pub filter_bits_per_key: u8,
    /// How blocks are compressed.
    pub compression: DBCompressionType,
    /// How many flushes and compactions run at a time.
    pub background_jobs: u16,
    /// Whether writes also go to RocksDB's log. Off, as in Flink: what makes state durable is the
    /// checkpoint, and a subtask that fails is restored from one.
    pub write_ahead_log: bool,
}

impl Default for RocksDbOptions {
    fn default() -> Self {
        Self {
            write_buffer_bytes: DEFAULT_BUFFER_BYTES,
            target_file_bytes: DEFAULT_FILE_BYTES,
            filter_bits_per_key: DEFAULT_FILTER_BITS_PER_KEY,
            compression: DBCompressionType::Lz4,
            background_jobs: DEFAULT_BACKGROUND_JOBS,
            write_ahead_log: false,
        }
    }
}

impl RocksDbOptions {
    pub(super) fn of_database(&self) -> Options {
        let mut options = Options::default();
        // One checkpoint is one sequence number over all states, log or no log.
        options.set_atomic_flush(true);
        options.set_max_background_jobs(self.background_jobs.into());
        options.create_missing_column_families(true);
        // RocksDB's own messages: a few small files, not an ever growing one.
        options.set_keep_log_file_num(2);
        options
    }

    pub(super) fn of_state(&self) -> Options {
        let mut options = Options::default();
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(WRITE_BUFFERS);
        options.set_target_file_size_base(self.target_file_bytes);
        options.set_compression_type(self.compression);
        if self.filter_bits_per_key > 0 {
            let mut blocks = BlockBasedOptions::default();
            blocks.set_bloom_filter(self.filter_bits_per_key.into(), false);
            options.set_block_based_table_factory(&blocks);
        }
        options.set_merge_operator_associative(APPEND_OPERATOR, append);
        options
    }
}

/// Plain concatenation: of a value and what is appended to it, or of two things appended.
fn append(_key: &[u8], present: Option<&[u8]>, operands: &MergeOperands) -> Option<Vec<u8>> {
    let present = present.unwrap_or_default();
    let added: usize = operands.iter().map(<[u8]>::len).sum();
    let mut value = Vec::with_capacity(present.len().saturating_add(added));
    value.extend_from_slice(present);
    operands.iter().for_each(|operand| value.extend_from_slice(operand));
    Some(value)
}

#[cfg(test)]
mod tests {
    use ::rocksdb::DB;

    use super::*;

    #[test]
    fn files_of_the_lowest_level_have_filters_too() {
        for (bits, has_filters) in [(DEFAULT_FILTER_BITS_PER_KEY, true), (0, false)] {
            let folder = tempfile::tempdir().unwrap();
            let options = RocksDbOptions { filter_bits_per_key: bits, ..RocksDbOptions::default() };
            let mut database = options.of_state();
            database.create_if_missing(true);
            let db = DB::open(&database, folder.path()).unwrap();
            for key in 0..1000_u32 {
                db.put(key.to_be_bytes(), []).unwrap();
            }
            db.flush().unwrap();
            db.compact_range(None::<&[u8]>, None::<&[u8]>);
            let properties = db.property_value("rocksdb.aggregated-table-properties").unwrap().unwrap();
            assert_eq!(!properties.contains("filter block size=0;"), has_filters, "{properties}");
            assert!(properties.contains("# entries=1000;"), "{properties}");
        }
    }
}
