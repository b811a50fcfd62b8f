//! Where one check works, and the statements that all checks are made of.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _};

use super::Options;
use crate::error::{Error, ErrorKind};
use crate::store::{Child, ObjectMeta, StorePath, StoreRef};

/// Why a check failed, in a sentence.
#[derive(Debug)]
pub struct Fail(String);

/// What a check answers.
pub(super) type Outcome<T = ()> = Result<T, Fail>;

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for Fail {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self(format!("a call failed: {error:?}"))
    }
}

/// Fails the check unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::store::testing::conformance::place::Fail::from(format!($($message)+)));
        }
    };
}
pub(super) use ensure;

/// Objects are compared in pieces of this size.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// A store and the folder in it that one check works in.
#[derive(Clone, Debug)]
pub struct Place {
    pub(super) store: StoreRef,
    pub(super) folder: StorePath,
    pub(super) options: Options,
}

impl Place {
    pub(super) fn new(store: StoreRef, options: &Options, check: &str) -> Outcome<Self> {
        let folder = StorePath::new(options.folder.clone())?.join(check)?;
        Ok(Self { store, folder, options: options.clone() })
    }

    pub(super) async fn expect_unused(&self) -> Outcome {
        let there = self.list(&self.folder).await?;
        ensure!(there.is_empty(), "the folder {} is in use; give the suite a fresh one", self.folder);
        Ok(())
    }

    /// A path in this check's folder.
    pub(super) fn path(&self, name: &str) -> Outcome<StorePath> {
        Ok(self.folder.join(name)?)
    }

    /// Writes the made-up object `name` of `size_bytes` in one step.
    pub(super) async fn put(&self, name: &str, size_bytes: u64) -> Outcome<StorePath> {
        let path = self.path(name)?;
        self.store.put(&path, content(&path, 0, size_bytes)).await?;
        Ok(path)
    }

    /// The paths below `folder`, as listed.
    pub(super) async fn list(&self, folder: &StorePath) -> Outcome<Vec<ObjectMeta>> {
        Ok(self.store.list(Some(folder)).try_collect().await?)
    }

    /// The names below this check's folder, as listed, without the folder.
    pub(super) async fn listed_names(&self) -> Outcome<Vec<String>> {
        let objects = self.list(&self.folder).await?;
        let below = |object: &ObjectMeta| object.path.below(&self.folder).map(str::to_owned);
        let names: Vec<String> = objects.iter().filter_map(below).collect();
        ensure!(names.len() == objects.len(), "a listing of {} left the folder: {objects:?}", self.folder);
        Ok(names)
    }

    pub(super) async fn children(&self, folder: &StorePath) -> Outcome<Vec<Child>> {
        Ok(self.store.list_children(Some(folder)).await?)
    }

    /// The object is there: `stat`, `read` and both listings agree on it, byte by byte.
    pub(super) async fn expect_whole(&self, path: &StorePath, size_bytes: u64) -> Outcome {
        let meta = self.store.stat(path).await?;
        ensure!(
            meta == ObjectMeta { path: path.clone(), size_bytes },
            "{path} has {size_bytes} bytes, and stat answers {meta:?}"
        );
        self.expect_content(path, size_bytes).await?;
        let parent = path.parent().unwrap_or_else(|| path.clone());
        ensure!(self.list(&parent).await?.contains(&meta), "{path} is there and not listed with its size");
        let child = Child { name: path.file_name().to_owned(), size_bytes: Some(size_bytes) };
        ensure!(self.children(&parent).await?.contains(&child), "{path} is there and no child of {parent}");
        Ok(())
    }

    /// Every byte of the object is what [`content`] made.
    pub(super) async fn expect_content(&self, path: &StorePath, size_bytes: u64) -> Outcome {
        let mut offset = 0;
        loop {
            let end = size_bytes.min(offset + PIECE_BYTES as u64);
            let bytes = self.store.read(path, offset..end).await?;
            ensure!(
                bytes == content(path, offset, end - offset),
                "bytes {offset}..{end} of {path} are not the ones that were written"
            );
            if end == size_bytes {
                return Ok(());
            }
            offset = end;
        }
    }

    /// The object is not there: `stat`, `read` and both listings agree on that.
    pub(super) async fn expect_absent(&self, path: &StorePath, when: &str) -> Outcome {
        match self.store.stat(path).await {
            Err(error) => ensure!(error.kind() == ErrorKind::NotFound, "stat of {path} {when} answers {error:?}"),
            Ok(meta) => return Err(Fail(format!("{when}, stat answers {meta:?}"))),
        }
        match self.store.read(path, 0..1).await {
            Err(error) => ensure!(error.kind() == ErrorKind::NotFound, "read of {path} {when} answers {error:?}"),
            Ok(_) => return Err(Fail(format!("{when}, {path} can be read"))),
        }
        let parent = path.parent().unwrap_or_else(|| path.clone());
        let listed = self.list(&parent).await?;
        ensure!(listed.iter().all(|object| object.path != *path), "{when}, {path} is listed");
        let children = self.children(&parent).await?;
        ensure!(children.iter().all(|child| child.name != path.file_name()), "{when}, {path} is a child of {parent}");
        Ok(())
    }

    /// Looks at the object over and over while `work` runs: whenever it is seen, it is whole.
    pub(super) async fn watch(
        &self,
        path: &StorePath,
        size_bytes: u64,
        work: impl Future<Output = crate::Result<()>>,
    ) -> Outcome {
        let done = AtomicBool::new(false);
        let worker = async {
            let answer = work.await;
            done.store(true, Ordering::SeqCst);
            answer
        };
        let watcher = async {
            while !done.load(Ordering::SeqCst) {
                self.look(path, size_bytes).await?;
                tokio::task::yield_now().await;
            }
            Ok::<(), Fail>(())
        };
        let (worked, watched) = futures::future::join(worker, watcher).await;
        watched?;
        worked?;
        self.expect_whole(path, size_bytes).await
    }

    /// One look: nothing, or the whole object.
    pub(super) async fn look(&self, path: &StorePath, size_bytes: u64) -> Outcome<bool> {
        let mut listed = self.store.list(path.parent().as_ref());
        while let Some(object) = listed.next().await {
            let object = object?;
            ensure!(
                object.path != *path || object.size_bytes == size_bytes,
                "{path} was listed with {} of its {size_bytes} bytes",
                object.size_bytes
            );
        }
        match self.store.stat(path).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
            Ok(meta) => {
                ensure!(
                    meta.size_bytes == size_bytes,
                    "{path} was seen with {} of its {size_bytes} bytes",
                    meta.size_bytes
                );
            }
        }
        self.expect_content(path, size_bytes).await?;
        Ok(true)
    }
}

/// Bytes `offset..offset + size_bytes` of the made-up object at `path`. Every object has others.
pub(super) fn content(path: &StorePath, offset: u64, size_bytes: u64) -> Bytes {
    let seed = path
        .as_str()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // Eight bytes at a time: each block follows from its number and the name alone.
    let blocks = offset / 8..(offset + size_bytes).div_ceil(8);
    let mut bytes = BytesMut::with_capacity(usize::try_from(size_bytes + 16).unwrap_or(0));
    for block in blocks {
        let mixed = (block ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 29)).to_le_bytes());
    }
    let skip = usize::try_from(offset % 8).unwrap_or(0);
    let end = skip + usize::try_from(size_bytes).unwrap_or(0);
    bytes.freeze().slice(skip..end)
}
