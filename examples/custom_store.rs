//! A store of your own, and the proof that icecore can rely on it.
//!
//! This one keeps objects in a map. Replace the map by your engine's storage, keep the last lines of
//! `main` as a test, and you are done when it prints no violation.
//!
//! Run it: `cargo run --example custom_store --features test-support`

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use icecore::store::testing::conformance;
use icecore::store::{Child, ObjectMeta, ObjectWriter, Store, StorePath, StoreRef};
use icecore::{Error, ErrorKind, Result};

type Objects = BTreeMap<StorePath, Bytes>;

#[derive(Clone, Debug, Default)]
struct MapStore {
    objects: Arc<Mutex<Objects>>,
}

impl MapStore {
    fn with<T>(&self, work: impl FnOnce(&mut Objects) -> T) -> T {
        work(&mut self.objects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, path: &StorePath) -> Result<Bytes> {
        self.with(|objects| objects.get(path).cloned())
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "read an object", "it is not there").with_object(path))
    }

    /// Everything below the folder `prefix`, in order: a `BTreeMap` of paths is in order already.
    fn below(&self, prefix: Option<&StorePath>) -> Vec<ObjectMeta> {
        let inside = |path: &StorePath| prefix.is_none_or(|prefix| path.below(prefix).is_some());
        let meta =
            |(path, bytes): (&StorePath, &Bytes)| ObjectMeta { path: path.clone(), size_bytes: bytes.len() as u64 };
        self.with(|objects| objects.iter().filter(|(path, _)| inside(path)).map(meta).collect())
    }
}

#[async_trait]
impl Store for MapStore {
    fn describe(&self) -> String {
        "map://".to_owned()
    }

    async fn put(&self, path: &StorePath, bytes: Bytes) -> Result<()> {
        self.with(|objects| objects.insert(path.clone(), bytes));
        Ok(())
    }

    async fn create(&self, path: &StorePath) -> Result<Box<dyn ObjectWriter>> {
        Ok(Box::new(MapWriter { store: self.clone(), path: path.clone(), bytes: BytesMut::new() }))
    }

    async fn read(&self, path: &StorePath, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.get(path)?;
        if range.start > range.end || range.end > bytes.len() as u64 {
            return Err(Error::corrupt("read an object", path, format!("it has no bytes {range:?}")));
        }
        // In range, so both fit into `usize`.
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn stat(&self, path: &StorePath) -> Result<ObjectMeta> {
        let size_bytes = self.get(path)?.len() as u64;
        Ok(ObjectMeta { path: path.clone(), size_bytes })
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'_, Result<ObjectMeta>> {
        stream::iter(self.below(prefix).into_iter().map(Ok)).boxed()
    }

    async fn list_children(&self, prefix: Option<&StorePath>) -> Result<Vec<Child>> {
        let child = |object: ObjectMeta| {
            let rest = prefix.map_or(Some(object.path.as_str()), |prefix| object.path.below(prefix))?;
            Some(match rest.split_once('/') {
                Some((folder, _)) => Child { name: folder.to_owned(), size_bytes: None },
                None => Child { name: rest.to_owned(), size_bytes: Some(object.size_bytes) },
            })
        };
        let mut children: Vec<Child> = self.below(prefix).into_iter().filter_map(child).collect();
        children.sort();
        children.dedup();
        Ok(children)
    }

    async fn delete(&self, paths: &[StorePath]) -> Vec<Result<()>> {
        self.with(|objects| paths.iter().for_each(|path| drop(objects.remove(path))));
        paths.iter().map(|_| Ok(())).collect()
    }
}

/// Gathers the pieces where nobody sees them. Dropping or aborting it leaves nothing.
struct MapWriter {
    store: MapStore,
    path: StorePath,
    bytes: BytesMut,
}

#[async_trait]
impl ObjectWriter for MapWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        self.store.put(&self.path, self.bytes.freeze()).await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let store: StoreRef = Arc::new(MapStore::default());
    let report = conformance::run(|| async { store.clone() }).await;
    println!("{report}");
    report.assert_conforms();
}
