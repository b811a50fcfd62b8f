//! Transfers against a store that lives in a map.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use parking_lot::Mutex;

use super::*;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::ContentHash;
use crate::store::{Child, ObjectMeta, ObjectWriter, ReadAhead, Store, StorePath};

type Objects = Arc<Mutex<BTreeMap<StorePath, Bytes>>>;

#[derive(Debug, Default)]
struct MapStore(Objects);

struct MapWriter(Objects, StorePath, Vec<u8>);

#[async_trait]
impl ObjectWriter for MapWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.2.extend_from_slice(&bytes);
        Ok(())
    }
    async fn finish(self: Box<Self>) -> Result<()> {
        self.0.lock().insert(self.1, self.2.into());
        Ok(())
    }
    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Store for MapStore {
    fn describe(&self) -> String {
        "map".into()
    }
    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        self.0.lock().insert(path.clone(), bytes);
        Ok(())
    }
    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(MapWriter(self.0.clone(), path.clone(), Vec::new())))
    }
    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.0.lock().get(path).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, "read", "gone"))?;
        if range.end > bytes.len() as u64 {
            return Err(Error::corrupt("read object", path, "short"));
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }
    async fn stat(&self, _path: &StorePath) -> Result<ObjectMeta> {
        unreachable!()
    }
    fn list(&self, _prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        unreachable!()
    }
    async fn list_children(&self, _prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        unreachable!()
    }
    async fn delete(&self, _paths: &[StorePath]) -> Vec<Result<()>> {
        unreachable!()
    }
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

fn path(text: &str) -> StorePath {
    StorePath::new(text).unwrap()
}

#[tokio::test]
async fn a_file_goes_up_and_comes_back_the_same() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = MapStore::default();
    for length in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 9 * CHUNK_BYTES + 17] {
        let bytes = sample(length);
        let source = folder.path().join(format!("source-{length}"));
        std::fs::write(&source, &bytes).unwrap();
        let object = path(&format!("o-{length}"));
        let hash = ContentHash::of(&bytes);
        assert_eq!(hash_file(&env, &source, length as u64).await.unwrap(), hash);
        let sent = upload_file(&store, &env, &source, length as u64, Some(hash), &object, &NoProgress).await.unwrap();
        assert_eq!(sent, hash);
        let file = StoredFile { object, offset_bytes: 0, size_bytes: length as u64, sha256: hash };
        let target = folder.path().join(format!("target-{length}"));
        download(&store, &env, &file, &target, &NoProgress).await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), bytes);
        verify_object(&store, &env, &file, &NoProgress).await.unwrap();
        assert_eq!(download_to_memory(&store, &file, &NoProgress).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_file_that_changed_after_hashing_is_not_stored() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("f");
    std::fs::write(&source, sample(100)).unwrap();
    let store = MapStore::default();
    let other = Some(ContentHash::of(b"other"));
    let error = upload_file(&store, &env, &source, 100, other, &path("o"), &NoProgress).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
    let error = upload_file(&store, &env, &source, 101, None, &path("o"), &NoProgress).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert!(store.0.lock().is_empty());
}

#[tokio::test]
async fn one_flipped_bit_is_found_by_every_way_of_reading() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = MapStore::default();
    let mut bytes = sample(3 * CHUNK_BYTES);
    let file = StoredFile {
        object: path("o"),
        offset_bytes: 0,
        size_bytes: bytes.len() as u64,
        sha256: ContentHash::of(&bytes),
    };
    bytes[2 * CHUNK_BYTES] ^= 1;
    store.put(&file.object, bytes.into()).await.unwrap();
    let target = folder.path().join("t");
    let errors = [
        download(&store, &env, &file, &target, &NoProgress).await.unwrap_err(),
        download_to_memory(&store, &file, &NoProgress).await.unwrap_err(),
        verify_object(&store, &env, &file, &NoProgress).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(error.object(), Some("o"));
    }
}

/// A real folder store, which names objects last, and the names of all files below it.
fn folder_store(folder: &std::path::Path, env: &Env) -> crate::store::LocalStore {
    crate::store::LocalStore::open(&folder.join("store"), env.clone()).unwrap()
}

fn names_in(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn a_staged_file_appears_under_a_name_that_was_chosen_after_its_bytes_were_sent() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(folder.path(), &env);
    let bytes = sample(9 * CHUNK_BYTES + 17);
    let source = folder.path().join("source");
    std::fs::write(&source, &bytes).unwrap();
    let length = bytes.len() as u64;
    let staged = stage_file(&store, &env, &source, length, &path("s"), &NoProgress).await.unwrap().unwrap();
    assert_eq!(staged.hash(), ContentHash::of(&bytes));
    // What happens to the file now is of no matter.
    std::fs::remove_file(&source).unwrap();
    staged.finish_as(&path("s/o"), &NoProgress).await.unwrap();
    assert_eq!(store.read(&path("s/o"), 0..length).await.unwrap(), bytes);
    assert_eq!(names_in(&folder.path().join("store/s")), ["o"]);
}

#[tokio::test]
async fn a_staged_file_that_is_given_up_or_ends_early_leaves_nothing() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = folder_store(folder.path(), &env);
    let source = folder.path().join("source");
    std::fs::write(&source, sample(100)).unwrap();
    let staged = stage_file(&store, &env, &source, 100, &path("s"), &NoProgress).await.unwrap().unwrap();
    staged.abort(&NoProgress).await;
    let error = stage_file(&store, &env, &source, 101, &path("s"), &NoProgress).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Changed);
    assert_eq!(names_in(&folder.path().join("store")), Vec::<String>::new());
}

#[tokio::test]
async fn a_store_that_needs_names_first_stages_nothing() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    std::fs::write(&source, sample(100)).unwrap();
    let staged = stage_file(&MapStore::default(), &env, &source, 100, &path("s"), &NoProgress).await.unwrap();
    assert!(staged.is_none());
}

#[tokio::test]
async fn a_large_file_that_changed_after_hashing_is_not_stored() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("f");
    let mut bytes = sample(READ_ONCE_BYTES as usize + 1);
    std::fs::write(&source, &bytes).unwrap();
    let hash = hash_file(&env, &source, bytes.len() as u64).await.unwrap();
    bytes[READ_ONCE_BYTES as usize / 2] ^= 1;
    std::fs::write(&source, &bytes).unwrap();
    let store = MapStore::default();
    let sent = upload_file(&store, &env, &source, bytes.len() as u64, Some(hash), &path("o"), &NoProgress).await;
    assert_eq!(sent.unwrap_err().kind(), ErrorKind::Changed);
    assert!(store.0.lock().is_empty());
}

#[tokio::test]
async fn an_object_that_is_a_file_of_this_machine_is_read_whole_and_in_part_and_its_damage_is_found() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = crate::store::LocalStore::open(&folder.path().join("store"), env.clone()).unwrap();
    let bytes = sample(5 * CHUNK_BYTES + 17);
    store.put(&path("o"), bytes.clone().into()).await.unwrap();
    assert!(store.open_file(&path("o")).await.unwrap().is_some());
    let file = |begin: usize, end: usize| StoredFile {
        object: path("o"),
        offset_bytes: begin as u64,
        size_bytes: (end - begin) as u64,
        sha256: ContentHash::of(&bytes[begin..end]),
    };
    for (begin, end) in [(0, bytes.len()), (7, 2 * CHUNK_BYTES), (CHUNK_BYTES - 3, bytes.len())] {
        let target = folder.path().join(format!("{begin}-{end}"));
        download(&store, &env, &file(begin, end), &target, &NoProgress).await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), bytes[begin..end]);
        verify_object(&store, &env, &file(begin, end), &NoProgress).await.unwrap();
        let wrong = StoredFile { sha256: ContentHash::of(b"other"), ..file(begin, end) };
        let target = folder.path().join(format!("wrong-{begin}-{end}"));
        let error = download(&store, &env, &wrong, &target, &NoProgress).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    let long = StoredFile { size_bytes: bytes.len() as u64 + 1, ..file(0, bytes.len()) };
    let error = download(&store, &env, &long, &folder.path().join("long"), &NoProgress).await.unwrap_err();
    assert_eq!((error.kind(), error.object()), (ErrorKind::Corrupt, Some("o")));
}

/// A store that wants to be read in its own way, and sees how it is.
#[derive(Debug)]
struct Watching {
    inner: MapStore,
    read_ahead: ReadAhead,
    ranges: Mutex<Vec<Range<u64>>>,
    under_way: Mutex<(usize, usize)>,
}

impl Watching {
    async fn with(read_ahead: ReadAhead, bytes: &[u8]) -> (Self, StoredFile) {
        let store =
            Self { inner: MapStore::default(), read_ahead, ranges: Mutex::default(), under_way: Mutex::default() };
        store.inner.put(&path("o"), Bytes::copy_from_slice(bytes)).await.unwrap();
        let (size_bytes, sha256) = (bytes.len() as u64, ContentHash::of(bytes));
        (store, StoredFile { object: path("o"), offset_bytes: 0, size_bytes, sha256 })
    }

    fn most_under_way(&self) -> usize {
        self.under_way.lock().1
    }
}

#[async_trait]
impl Store for Watching {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    fn read_ahead(&self) -> ReadAhead {
        self.read_ahead
    }
    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        self.inner.put(path, bytes).await
    }
    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        self.inner.create(path).await
    }
    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        {
            let mut under_way = self.under_way.lock();
            under_way.0 += 1;
            under_way.1 = under_way.1.max(under_way.0);
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.ranges.lock().push(range.clone());
        self.under_way.lock().0 -= 1;
        self.inner.read(path, range).await
    }
    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        self.inner.stat(path).await
    }
    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        self.inner.list_children(prefix).await
    }
    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        self.inner.delete(paths).await
    }
}

#[tokio::test]
async fn every_way_of_reading_reads_as_the_store_prefers() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bytes = sample(1000);
    let read_ahead = ReadAhead { request_bytes: 64, requests: 5 };
    for way in ["download", "verify", "copy"] {
        let (store, file) = Watching::with(read_ahead, &bytes).await;
        match way {
            "download" => download(&store, &env, &file, &folder.path().join("t"), &NoProgress).await.unwrap(),
            "verify" => verify_object(&store, &env, &file, &NoProgress).await.unwrap(),
            _ => copy_object(&store, &env, &file, &MapStore::default(), &path("c"), &NoProgress).await.unwrap(),
        }
        let mut ranges = store.ranges.lock().clone();
        ranges.sort_by_key(|range| range.start);
        let wanted: Vec<Range<u64>> = (0..1000).step_by(64).map(|start| start..1000.min(start + 64)).collect();
        assert_eq!(ranges, wanted, "{way}");
        assert_eq!(store.most_under_way(), 5, "{way}");
    }
    assert_eq!(std::fs::read(folder.path().join("t")).unwrap(), bytes);
}

#[tokio::test]
async fn no_wish_of_a_store_makes_us_hold_more_than_our_bounds() {
    let env = Env::system().unwrap();
    let bytes = sample(3 * MAX_READ_BYTES as usize + 1);
    let (store, file) = Watching::with(ReadAhead { request_bytes: u64::MAX, requests: usize::MAX }, &bytes).await;
    verify_object(&store, &env, &file, &NoProgress).await.unwrap();
    assert!(store.ranges.lock().iter().all(|range| range.end - range.start <= MAX_READ_BYTES));
    assert_eq!(store.ranges.lock().len(), 4);

    let bytes = sample(100);
    let (store, file) = Watching::with(ReadAhead { request_bytes: 1, requests: usize::MAX }, &bytes).await;
    verify_object(&store, &env, &file, &NoProgress).await.unwrap();
    assert_eq!(store.most_under_way(), MAX_READS_AHEAD);
    // And nonsense is no endless loop.
    let (store, file) = Watching::with(ReadAhead { request_bytes: 0, requests: 0 }, &bytes).await;
    verify_object(&store, &env, &file, &NoProgress).await.unwrap();
    assert_eq!((store.ranges.lock().len(), store.most_under_way()), (100, 1));
}

#[tokio::test]
async fn an_object_in_memory_comes_in_one_request_if_it_is_small_and_in_pieces_if_not() {
    let (store, file) = Watching::with(ReadAhead::FAR, &sample(READ_ONCE_BYTES as usize)).await;
    download_to_memory(&store, &file, &NoProgress).await.unwrap();
    assert_eq!(store.ranges.lock().len(), 1);
    let bytes = sample(2 * READ_ONCE_BYTES as usize);
    let (store, file) = Watching::with(ReadAhead::FAR, &bytes).await;
    assert_eq!(download_to_memory(&store, &file, &NoProgress).await.unwrap(), bytes);
    assert_eq!((store.ranges.lock().len(), store.most_under_way()), (4, 4));
}

#[tokio::test]
async fn an_error_of_the_store_is_what_every_way_of_reading_tells() {
    let env = Env::system().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (store, mut file) = Watching::with(ReadAhead { request_bytes: 64, requests: 2 }, &sample(1000)).await;
    file.size_bytes = 1001;
    let target = folder.path().join("t");
    let errors = [
        download(&store, &env, &file, &target, &NoProgress).await.unwrap_err(),
        verify_object(&store, &env, &file, &NoProgress).await.unwrap_err(),
        copy_object(&store, &env, &file, &MapStore::default(), &path("c"), &NoProgress).await.unwrap_err().error,
    ];
    assert!(errors.iter().all(|error| error.message() == "short"), "{errors:?}");
}
