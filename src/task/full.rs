//! The full form: a folder a key group, which either backend writes and reads.
//!
//! A key group's table, `0.sst`, holds the rows of all states. A row's key there is the length of the
//! state's name (1 byte), the name, and the row's key; so the table is sorted by state, then row. Its
//! `MANIFEST` is a real one: linked as `000001.sst` and `MANIFEST-000002` beside a `CURRENT`, RocksDB
//! opens the folder as a database of exactly that group.
//!
//! Without RocksDB the folder holds `0.state`: for each state with rows, sorted by name, the length of
//! its chunk (8 bytes, little-endian) and the chunk (`docs/format-heap-chunk.md`).

use std::collections::BTreeMap;
#[cfg(feature = "rocksdb")]
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::chunk_files;
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroup, KeyGroupRange, MaxParallelism};
use crate::layout::{FileKind, key_group_folder};
use crate::metadata::Backend;
use crate::restore::RestorePlan;
use crate::snapshot::{FileSource, Known, LocalFile, Placing};
#[cfg(feature = "rocksdb")]
use crate::state::heap::ChunkReader;
use crate::state::heap::{ChunkName, HeapSnapshot};
use crate::store::StorePath;

/// The rows of one key group, as a table.
pub const FULL_TABLE_NAME: &str = "0.sst";
/// The MANIFEST of that table.
pub const FULL_MANIFEST_NAME: &str = "MANIFEST";
/// The rows of one key group, where RocksDB is not compiled in.
pub const FULL_STATE_NAME: &str = "0.state";

/// Called with a state's name, a row's key and its value.
pub(super) type FullRowVisitor<'a> = dyn FnMut(&str, &[u8], &[u8]) -> Result<()> + 'a;

/// A folder for what [`prepare`] writes, to be held until it was sent; none where nothing is written.
pub(super) fn folder() -> Result<Option<tempfile::TempDir>> {
    #[cfg(feature = "rocksdb")]
    return super::rocksdb::tables::table_folder(&std::env::temp_dir()).map(Some);
    #[cfg(not(feature = "rocksdb"))]
    return Ok(None);
}

/// The files of a full checkpoint of a heap: tables where RocksDB is compiled in, chunks where not.
pub(super) fn prepare(snapshot: &Arc<HeapSnapshot>, folder: Option<&Path>) -> Result<Vec<LocalFile>> {
    match folder {
        #[cfg(feature = "rocksdb")]
        Some(folder) => super::rocksdb::tables::prepare(&**snapshot, snapshot.key_groups(), folder),
        _ => prepare_chunks(snapshot),
    }
}

/// The files of a full checkpoint of a heap, as chunks.
fn prepare_chunks(snapshot: &Arc<HeapSnapshot>) -> Result<Vec<LocalFile>> {
    let mut of_group: BTreeMap<KeyGroup, Vec<ChunkName>> = BTreeMap::new();
    for name in snapshot.chunks() {
        of_group.entry(name.key_group).or_default().push(name);
    }
    let mut files = Vec::new();
    for (group, mut names) in of_group {
        names.sort();
        let snapshot = snapshot.clone();
        // Made when it is sent, so that not all groups are in memory twice at once.
        let make = move || chunk_files::join(&snapshot, &names);
        files.push(LocalFile {
            local_name: StorePath::new(format!("{}/{FULL_STATE_NAME}", key_group_folder(group)))?,
            kind: FileKind::HeapChunk,
            source: FileSource::Made(Arc::new(make)),
            placing: Placing::Private,
            known: Known::No,
            key_groups: KeyGroupRange::new(group, group),
            table: None,
        });
    }
    Ok(files)
}

/// Visits every row of a `0.state`. They are verified only once this has returned.
#[cfg(feature = "rocksdb")]
pub(super) fn read_chunks(content: impl Read, visit: &mut FullRowVisitor<'_>) -> Result<()> {
    chunk_files::split(content, &mut |chunk| {
        let mut reader = ChunkReader::open(chunk)?;
        let state = reader.name().state.clone();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while reader.next_row(&mut key, &mut value)? {
            visit(&state, &key, &value)?;
        }
        Ok(())
    })
}

/// Visits every row of the tables in `folder/keygroup-<k>`.
#[cfg(feature = "rocksdb")]
pub(super) fn read_tables(folder: &Path, visit: &mut FullRowVisitor<'_>) -> Result<()> {
    super::rocksdb::tables::read_tables(folder, visit)
}

/// Refuses tables: there is nothing to read them with.
#[cfg(not(feature = "rocksdb"))]
pub(super) fn read_tables(folder: &Path, _visit: &mut FullRowVisitor<'_>) -> Result<()> {
    Err(Error::new(ErrorKind::Unsupported, "restore tables", "this build cannot read them")
        .with_object(folder.display())
        .with_advice("build with the feature `rocksdb`"))
}

/// A row's key in a full table.
#[cfg_attr(not(feature = "rocksdb"), allow(dead_code))]
pub(super) fn full_key(state: &str, row: &[u8], key: &mut Vec<u8>) -> Result<()> {
    let length = u8::try_from(state.len())
        .map_err(|_| Error::invalid("write a full checkpoint", "a state's name is too long").with_object(state))?;
    key.clear();
    key.push(length);
    key.extend_from_slice(state.as_bytes());
    key.extend_from_slice(row);
    Ok(())
}

/// A full table's key as state and row.
#[cfg_attr(not(feature = "rocksdb"), allow(dead_code))]
pub(super) fn split_full_key(key: &[u8]) -> Result<(&str, &[u8])> {
    let parts = key.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
    let (name, row) =
        parts.ok_or_else(|| Error::new(ErrorKind::Corrupt, "read a full checkpoint", "a key is too short"))?;
    let name = std::str::from_utf8(name)
        .map_err(|_| Error::new(ErrorKind::Corrupt, "read a full checkpoint", "a state's name is not UTF-8"))?;
    Ok((name, row))
}

/// The key groups of a plan for a keyed backend.
pub(super) fn keyed(plan: &RestorePlan) -> Result<(MaxParallelism, KeyGroupRange)> {
    let range = plan.key_groups.ok_or_else(|| wrong_backend(plan, Backend::RocksDbFolder))?;
    Ok((MaxParallelism::new(plan.max_parallelism)?, range))
}

/// The error for state that this backend cannot take.
pub(super) fn wrong_backend(plan: &RestorePlan, found: Backend) -> Error {
    Error::new(ErrorKind::Unsupported, "restore a subtask", format!("the checkpoint holds {found:?} state"))
        .with_object(&plan.operator)
        .with_advice("restore it with the backend that wrote it, or from a savepoint, which every backend reads")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::chunk_files::tests::{restored, snapshot};

    fn bytes_of(file: &LocalFile) -> bytes::Bytes {
        match &file.source {
            FileSource::Made(make) => make().unwrap(),
            FileSource::Path { .. } => panic!("it is made on demand"),
        }
    }

    #[test]
    fn a_group_s_file_holds_one_chunk_for_each_state_with_rows() {
        let files = prepare_chunks(&Arc::new(snapshot())).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.local_name.as_str()).collect();
        assert_eq!(names, ["keygroup-3/0.state", "keygroup-7/0.state"]);
        assert_eq!(restored(&bytes_of(&files[0])).unwrap(), 2);
        assert_eq!(restored(&bytes_of(&files[1])).unwrap(), 1);
    }

    #[test]
    fn a_full_table_s_key_comes_apart_as_it_was_put_together() {
        let mut key = Vec::new();
        full_key("name", b"row", &mut key).unwrap();
        assert_eq!(split_full_key(&key).unwrap(), ("name", &b"row"[..]));
        for hostile in [&b""[..], &[5, b'a'], &[1, 0xff]] {
            assert_eq!(split_full_key(hostile).unwrap_err().kind(), ErrorKind::Corrupt);
        }
    }

    /// A database is restored from a savepoint of a build without RocksDB, too.
    #[cfg(feature = "rocksdb")]
    #[test]
    fn the_reader_of_tables_reads_chunks_as_well() {
        let folder = tempfile::tempdir().unwrap();
        for file in prepare_chunks(&Arc::new(snapshot())).unwrap() {
            let path = folder.path().join(file.local_name.as_str());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes_of(&file)).unwrap();
        }
        let mut rows = Vec::new();
        read_tables(folder.path(), &mut |state, key, value| {
            rows.push((state.to_owned(), key[0], value.to_vec()));
            Ok(())
        })
        .unwrap();
        rows.sort();
        let row = |state: &str, group| (state.to_owned(), group, b"value".to_vec());
        assert_eq!(rows, [row("a", 3), row("a", 7), row("b", 3)]);
    }
}
