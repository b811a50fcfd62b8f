//! The files of a heap's incremental checkpoint: a chunk each, and packs of small chunks (`docs/format-heap-chunk.md`).
//!
//! Small chunks are packed by blocks of neighbouring key groups: a block that did not change gives the same pack as before, and
//! whoever wants one key group fetches few bytes of others.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroup, KeyGroupRange};
use crate::layout::{CheckpointFolder, FileKind};
use crate::snapshot::{FileSource, Known, LocalFile, Placing};
use crate::state::heap::{ChunkName, Generation, HeapSnapshot};
use crate::store::StorePath;

/// Chunks whose keys and values have so many bytes at most share a file: most of the time that a store takes for a small object is
/// there for the object, not for its bytes (Flink: `state.storage.fs.memory-threshold`, 20 KiB).
const MAX_PACKED_CHUNK_BYTES: usize = 4 << 10;

/// How many neighbouring key groups share a pack.
const GROUPS_A_PACK: KeyGroup = 16;
const SUFFIX: &str = ".pack";
/// Bytes of the length before each chunk.
const LENGTH_BYTES: usize = 8;
const READ: &str = "read packed heap chunks";

/// The first key group of the block that a key group is in.
fn first_group(group: KeyGroup) -> KeyGroup {
    group - group % GROUPS_A_PACK
}

/// The local name of the pack of a block: `<first key group>.pack`. No chunk has such a name.
fn pack_name(first_group: KeyGroup) -> String {
    format!("{first_group}{SUFFIX}")
}

/// Whether that is the local name of a pack.
pub(super) fn is_pack(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// One file a chunk, and small chunks packed; those unchanged since the base are not even serialised.
pub(super) fn incremental(
    snapshot: &Arc<HeapSnapshot>,
    base: Option<(CheckpointFolder, Generation)>,
) -> Result<Vec<LocalFile>> {
    let changes = base.map(|(base, generation)| Changes::since(base, generation, snapshot));
    let (mut files, mut packs) = (Vec::new(), BTreeMap::<KeyGroup, Vec<ChunkName>>::new());
    for name in snapshot.chunks() {
        if snapshot.has_at_most(&name, MAX_PACKED_CHUNK_BYTES)? {
            packs.entry(first_group(name.key_group)).or_default().push(name);
            continue;
        }
        let known = changes.as_ref().map_or(Known::No, |changes| changes.of_chunk(&name));
        let (local_name, key_groups) = (name.to_string(), KeyGroupRange::new(name.key_group, name.key_group));
        let snapshot = snapshot.clone();
        let make = move || {
            let mut bytes = Vec::new();
            snapshot.write_chunk(&name, &mut bytes)?;
            Ok(Bytes::from(bytes))
        };
        files.push(chunk_file(&local_name, key_groups, known, Arc::new(make))?);
    }
    for (first, names) in packs {
        let known = changes.as_ref().map_or(Known::No, |changes| changes.of_pack(first));
        let groups = || names.iter().map(|name| name.key_group);
        let key_groups = groups().min().zip(groups().max()).and_then(|(first, last)| KeyGroupRange::new(first, last));
        let snapshot = snapshot.clone();
        let make = move || join(&snapshot, &names);
        files.push(chunk_file(&pack_name(first), key_groups, known, Arc::new(make))?);
    }
    Ok(files)
}

/// What differs from the base of an incremental checkpoint.
struct Changes {
    base: CheckpointFolder,
    chunks: HashSet<ChunkName>,
    /// The first key groups of the blocks that have such a chunk: small or not, as one may have grown out of its pack.
    blocks: HashSet<KeyGroup>,
}

impl Changes {
    fn since(base: CheckpointFolder, generation: Generation, snapshot: &HeapSnapshot) -> Self {
        let chunks: HashSet<ChunkName> =
            snapshot.changed_since(generation).into_iter().map(|change| change.name).collect();
        let blocks = chunks.iter().map(|name| first_group(name.key_group)).collect();
        Self { base, chunks, blocks }
    }

    fn of_chunk(&self, name: &ChunkName) -> Known {
        if self.chunks.contains(name) { Known::No } else { Known::UnchangedSince(self.base) }
    }

    fn of_pack(&self, first_group: KeyGroup) -> Known {
        if self.blocks.contains(&first_group) { Known::No } else { Known::UnchangedSince(self.base) }
    }
}

fn chunk_file(
    name: &str,
    key_groups: Option<KeyGroupRange>,
    known: Known,
    make: Arc<dyn Fn() -> Result<Bytes> + Send + Sync>,
) -> Result<LocalFile> {
    Ok(LocalFile {
        local_name: StorePath::new(name)?,
        kind: FileKind::HeapChunk,
        source: FileSource::Made(make),
        placing: Placing::Shared,
        known,
        key_groups,
        table: None,
    })
}

/// The bytes of several chunks in one file: for each, its length (8 bytes, little-endian) and itself.
pub(super) fn join(snapshot: &HeapSnapshot, names: &[ChunkName]) -> Result<Bytes> {
    let (mut bytes, mut chunk) = (Vec::new(), Vec::new());
    for name in names {
        chunk.clear();
        snapshot.write_chunk(name, &mut chunk)?;
        bytes.extend_from_slice(&(chunk.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&chunk);
    }
    Ok(Bytes::from(bytes))
}

/// Takes such bytes apart: hands each of the chunks to `add`, which must read it to its end.
///
/// # Errors
/// [`ErrorKind::Corrupt`] if the lengths are not those of the chunks; what `add` and the content fail with.
pub(super) fn split(content: impl Read, add: &mut dyn FnMut(&mut dyn Read) -> Result<()>) -> Result<()> {
    let corrupt = |message: &str| Error::new(ErrorKind::Corrupt, READ, message);
    let mut content = BufReader::new(content);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => corrupt("it ends in the middle of a length"),
        _ => Error::io(READ, "the file", error),
    };
    while !content.fill_buf().map_err(failed)?.is_empty() {
        let mut length = [0; LENGTH_BYTES];
        content.read_exact(&mut length).map_err(failed)?;
        let mut chunk = content.by_ref().take(u64::from_le_bytes(length));
        add(&mut chunk)?;
        if chunk.limit() > 0 {
            return Err(corrupt("a chunk is shorter than its length says"));
        }
    }
    Ok(())
}

/// Reads over the rest of a chunk that nobody wants.
pub(super) fn skip(chunk: &mut dyn Read) -> Result<()> {
    io::copy(chunk, &mut io::sink()).map(drop).map_err(|error| Error::io(READ, "the file", error))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::keygroup::MaxParallelism;
    use crate::layout::{CheckpointId, Epoch, Uid};
    use crate::metadata::{StateKind, StateSchema};
    use crate::state::heap::{HeapBackend, HeapRestore};
    use crate::state::{KeyLayout, KeyedBackend, StateId};

    const LONG: [u8; MAX_PACKED_CHUNK_BYTES] = [7; MAX_PACKED_CHUNK_BYTES];

    fn max() -> MaxParallelism {
        MaxParallelism::new(128).unwrap()
    }

    fn schema(name: &str) -> StateSchema {
        let serializer = || "bytes".to_owned();
        let (key_serializer, value_serializer) = (serializer(), serializer());
        StateSchema { name: name.into(), kind: StateKind::Value, key_serializer, value_serializer }
    }

    fn backend() -> (HeapBackend, [StateId; 2]) {
        let mut backend = HeapBackend::new(max(), max().all_groups()).unwrap();
        let states = ["a", "b"].map(|name| backend.open_state(&schema(name)).unwrap());
        (backend, states)
    }

    fn put(backend: &mut HeapBackend, state: StateId, group: KeyGroup, value: &[u8]) {
        backend.put(state, &KeyLayout::new(max()).row_key(group, b"key", b""), value).unwrap();
    }

    fn base() -> CheckpointFolder {
        CheckpointFolder { checkpoint: CheckpointId(1), epoch: Epoch { counter: 1, uid: Uid(1) } }
    }

    /// Name, key groups and whether it is as it was.
    fn files(backend: &mut HeapBackend, since: Option<Generation>) -> Vec<(String, String, bool)> {
        let snapshot = Arc::new(backend.snapshot());
        let files = incremental(&snapshot, since.map(|generation| (base(), generation))).unwrap();
        let shown = |file: &LocalFile| {
            let groups = file.key_groups.unwrap().to_string();
            (file.local_name.to_string(), groups, file.known == Known::UnchangedSince(base()))
        };
        files.iter().map(shown).collect()
    }

    fn file(name: &str, groups: &str, is_unchanged: bool) -> (String, String, bool) {
        (name.to_owned(), groups.to_owned(), is_unchanged)
    }

    #[test]
    fn small_chunks_of_neighbouring_groups_share_a_file_and_large_ones_have_their_own() {
        let (mut backend, [a, b]) = backend();
        for (state, group) in [(a, 3), (a, 15), (a, 16), (b, 7)] {
            put(&mut backend, state, group, b"small");
        }
        put(&mut backend, b, 15, &LONG);
        let expected =
            [file("15.b.state", "15-15", false), file("0.pack", "3-15", false), file("16.pack", "16-16", false)];
        assert_eq!(files(&mut backend, None), expected);
    }

    #[test]
    fn a_pack_is_unchanged_if_no_chunk_of_its_block_has_changed_shrunk_into_it_or_grown_out_of_it() {
        let (mut backend, [a, b]) = backend();
        for group in [3, 20] {
            put(&mut backend, a, group, b"small");
        }
        put(&mut backend, b, 40, b"small");
        let since = backend.snapshot().generation();
        assert!(files(&mut backend, Some(since)).iter().all(|(.., is_unchanged)| *is_unchanged));
        put(&mut backend, a, 21, b"small");
        put(&mut backend, b, 40, &LONG);
        let expected =
            [file("40.b.state", "40-40", false), file("0.pack", "3-3", true), file("16.pack", "20-21", false)];
        assert_eq!(files(&mut backend, Some(since)), expected);
        let since = backend.snapshot().generation();
        put(&mut backend, b, 40, b"small");
        let expected = [file("0.pack", "3-3", true), file("16.pack", "20-21", true), file("32.pack", "40-40", false)];
        assert_eq!(files(&mut backend, Some(since)), expected);
    }

    /// Two states, of which `b` has no rows in key group 7.
    pub(in crate::task) fn snapshot() -> HeapSnapshot {
        let (mut backend, [a, b]) = backend();
        for (state, group) in [(a, 3), (a, 7), (b, 3)] {
            put(&mut backend, state, group, b"value");
        }
        backend.snapshot()
    }

    /// How many chunks there are, all of which must be sound.
    pub(in crate::task) fn restored(content: &[u8]) -> Result<usize> {
        let mut restore = HeapRestore::new(max(), max().all_groups(), &[schema("a"), schema("b")]).unwrap();
        let mut chunks = 0;
        split(content, &mut |chunk| {
            chunks += 1;
            restore.add_chunk(chunk).map(drop)
        })?;
        restore.finish().map(|_| chunks)
    }

    #[test]
    fn a_pack_that_is_cut_anywhere_or_lies_about_a_length_is_refused() {
        let snapshot = snapshot();
        let sound = join(&snapshot, &snapshot.chunks()[..2]).unwrap();
        let first_chunk_ends = LENGTH_BYTES + u64::from_le_bytes(sound[..8].try_into().unwrap()) as usize;
        for length in (1..sound.len()).filter(|length| *length != first_chunk_ends) {
            assert_eq!(restored(&sound[..length]).unwrap_err().kind(), ErrorKind::Corrupt, "{length} bytes");
        }
        for change in [1, u64::MAX] {
            let mut lying = sound.to_vec();
            let length = u64::from_le_bytes(lying[..8].try_into().unwrap()).wrapping_add(change);
            lying[..8].copy_from_slice(&length.to_le_bytes());
            assert_eq!(restored(&lying).unwrap_err().kind(), ErrorKind::Corrupt, "a length changed by {change}");
        }
    }

    #[test]
    fn chunks_that_nobody_wants_are_read_over() {
        let snapshot = snapshot();
        let bytes = join(&snapshot, &snapshot.chunks()).unwrap();
        let only_7 = KeyGroupRange::new(7, 7).unwrap();
        let mut restore = HeapRestore::new(max(), only_7, &[schema("a"), schema("b")]).unwrap();
        let mut rows = Vec::new();
        split(&bytes[..], &mut |chunk| {
            let added = restore.add_chunk(&mut *chunk)?;
            rows.push(added);
            if added.is_none() { skip(chunk) } else { Ok(()) }
        })
        .unwrap();
        assert_eq!(rows, [None, Some(1), None]);
    }
}
