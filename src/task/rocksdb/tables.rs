//! Full checkpoints as real tables: writing one a key group, and reading them.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::rocksdb::{BlockBasedOptions, DB, DBCompressionType, IteratorMode, Options, SstFileWriter};
use bytes::Bytes;

use super::FullRowVisitor;
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroup, KeyGroupRange};
use crate::layout::{FileKind, key_group_folder};
use crate::metadata::{StateSchema, TableInfo};
use crate::rocksfolder::edit::{InternalKey, TableMeta};
use crate::rocksfolder::{
    BYTEWISE_COMPARATOR, DEFAULT_COLUMN_FAMILY, FolderVersion, ONE_TABLE_NUMBER, manifest_name, table_name,
};
use crate::snapshot::{FileSource, Known, LocalFile, Placing};
use crate::state::heap::HeapSnapshot;
use crate::state::rocksdb::RocksDbBackend;
use crate::state::{KeyedBackend, RowVisitor};
use crate::store::StorePath;
use crate::task::full::{FULL_MANIFEST_NAME, FULL_STATE_NAME, FULL_TABLE_NAME, full_key, read_chunks, split_full_key};

const WRITE: &str = "write a full checkpoint's table";
const READ: &str = "read a full checkpoint's table";
/// The newest table format that RocksDB 7 reads, too: a full checkpoint is meant to be portable.
const FORMAT_VERSION: i32 = 5;
/// The number of the MANIFEST beside [`ONE_TABLE_NUMBER`].
const MANIFEST_NUMBER: u64 = ONE_TABLE_NUMBER + 1;

/// Frozen state that can be read key group by key group.
pub(crate) trait FrozenRows {
    /// The states, in any order.
    fn schemas(&self) -> Vec<StateSchema>;

    /// Visits the rows of one key group of a state in key order.
    fn scan_group(&self, state: &StateSchema, group: KeyGroupRange, visit: &mut RowVisitor<'_>) -> Result<()>;
}

impl FrozenRows for HeapSnapshot {
    fn schemas(&self) -> Vec<StateSchema> {
        self.states().cloned().collect()
    }

    fn scan_group(&self, state: &StateSchema, group: KeyGroupRange, visit: &mut RowVisitor<'_>) -> Result<()> {
        self.scan(&state.name, group, visit)
    }
}

impl FrozenRows for RocksDbBackend {
    fn schemas(&self) -> Vec<StateSchema> {
        self.states()
    }

    fn scan_group(&self, state: &StateSchema, group: KeyGroupRange, visit: &mut RowVisitor<'_>) -> Result<()> {
        self.scan_key_groups(self.find_state(state)?, group, visit)
    }
}

/// Makes a folder in `parent` for the tables of one full checkpoint. It has to stay until they were sent.
pub(crate) fn table_folder(parent: &Path) -> Result<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix(".icecore-full-").tempdir_in(parent);
    made.map_err(|error| Error::io(WRITE, parent.display(), error))
}

/// Writes one table and MANIFEST a key group that has rows; the tables go into `folder`.
pub(crate) fn prepare(rows: &dyn FrozenRows, range: KeyGroupRange, folder: &Path) -> Result<Vec<LocalFile>> {
    let mut states = rows.schemas();
    // The order of the keys: the name's length comes first.
    states.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    let mut files = Vec::new();
    for group in range.iter() {
        let path = folder.join(format!("{group}.sst"));
        if let Some(table) = write_group(rows, &states, group, &path)? {
            files.extend(group_files(group, table, path)?);
        }
    }
    Ok(files)
}

fn write_group(
    rows: &dyn FrozenRows,
    states: &[StateSchema],
    group: KeyGroup,
    path: &Path,
) -> Result<Option<TableMeta>> {
    let Some(only) = KeyGroupRange::new(group, group) else { return Ok(None) };
    let options = table_options();
    let mut writer: Option<SstFileWriter<'_>> = None;
    let (mut first, mut key) = (Vec::new(), Vec::new());
    for state in states {
        rows.scan_group(state, only, &mut |row, value| {
            full_key(&state.name, row, &mut key)?;
            let writer = match &mut writer {
                Some(writer) => writer,
                None => {
                    first.clone_from(&key);
                    let opened = SstFileWriter::create(&options);
                    opened.open(path).map_err(|error| failed(WRITE, path, &error))?;
                    writer.insert(opened)
                }
            };
            writer.put(&key, value).map_err(|error| failed(WRITE, path, &error))?;
            Ok(ControlFlow::Continue(()))
        })?;
    }
    let Some(mut writer) = writer else { return Ok(None) };
    writer.finish().map_err(|error| failed(WRITE, path, &error))?;
    let size_bytes = fs::metadata(path).map_err(|error| Error::io(WRITE, path.display(), error))?.len();
    let bounds = (InternalKey::lowest(&first, 0), InternalKey::highest(&key, 0));
    Ok(Some(TableMeta::new(ONE_TABLE_NUMBER, size_bytes, bounds.0, bounds.1, [0, 0])))
}

fn group_files(group: KeyGroup, table: TableMeta, path: PathBuf) -> Result<[LocalFile; 2]> {
    let name = |file: &str| StorePath::new(format!("{}/{file}", key_group_folder(group)));
    let info = TableInfo {
        column_family: DEFAULT_COLUMN_FAMILY.into(),
        level: 0,
        smallest_key: table.smallest.user_key().to_vec(),
        largest_key: table.largest.user_key().to_vec(),
        smallest_sequence: 0,
        largest_sequence: 0,
    };
    let size_bytes = table.size_bytes;
    let built = FolderVersion::of_one_table(table, BYTEWISE_COMPARATOR).build_manifest()?;
    let manifest = Bytes::from(built.manifest);
    let file = |local_name, kind, source, table| LocalFile {
        local_name,
        kind,
        source,
        placing: Placing::Private,
        known: Known::No,
        key_groups: KeyGroupRange::new(group, group),
        table,
    };
    let manifest = FileSource::Made(Arc::new(move || Ok(manifest.clone())));
    Ok([
        file(name(FULL_TABLE_NAME)?, FileKind::Sst, FileSource::Path { path, size_bytes }, Some(info)),
        file(name(FULL_MANIFEST_NAME)?, FileKind::Manifest, manifest, None),
    ])
}

fn table_options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_format_version(FORMAT_VERSION);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

/// Visits every row of the tables in `folder/keygroup-<k>`: makes each a database by giving its files
/// the names that RocksDB looks for, and opens that. Chunks of a build without RocksDB are read, too.
pub(crate) fn read_tables(folder: &Path, visit: &mut FullRowVisitor<'_>) -> Result<()> {
    let fail = |error| Error::local_io(READ, folder.display(), error);
    for entry in fs::read_dir(folder).map_err(fail)? {
        let group = entry.map_err(fail)?.path();
        let chunks = group.join(FULL_STATE_NAME);
        if group.join(FULL_TABLE_NAME).exists() {
            read_group(&group, visit)?;
        } else if chunks.exists() {
            let opened = fs::File::open(&chunks).map_err(|error| Error::local_io(READ, chunks.display(), error))?;
            read_chunks(opened, visit).map_err(|error| error.with_object(chunks.display()))?;
        }
    }
    Ok(())
}

fn read_group(group: &Path, visit: &mut FullRowVisitor<'_>) -> Result<()> {
    let fail = |error| Error::local_io(READ, group.display(), error);
    let manifest = manifest_name(MANIFEST_NUMBER);
    fs::rename(group.join(FULL_TABLE_NAME), group.join(table_name(ONE_TABLE_NUMBER))).map_err(fail)?;
    fs::rename(group.join(FULL_MANIFEST_NAME), group.join(&manifest)).map_err(fail)?;
    fs::write(group.join("CURRENT"), format!("{manifest}\n")).map_err(fail)?;
    // Every table was verified by its hash when it was fetched.
    let db = DB::open_for_read_only(&Options::default(), group, false).map_err(|error| failed(READ, group, &error))?;
    for row in db.iterator(IteratorMode::Start) {
        let (key, value) = row.map_err(|error| failed(READ, group, &error))?;
        let (state, row) = split_full_key(&key)?;
        visit(state, row, &value)?;
    }
    Ok(())
}

fn failed(operation: &'static str, path: &Path, error: &::rocksdb::Error) -> Error {
    let kind = match error.kind() {
        ::rocksdb::ErrorKind::Corruption => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    };
    Error::new(kind, operation, error.to_string()).with_object(path.display())
}
