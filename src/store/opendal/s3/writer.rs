//! What this process is writing: those uploads are left alone by a clean-up.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{ObjectWriter, StorePath};

/// The names that are being written, and by how many writers (one, as no name is used twice).
#[derive(Clone, Debug, Default)]
pub(super) struct Writing(Arc<Mutex<HashMap<StorePath, usize>>>);

impl Writing {
    /// `path` is being written as long as the answer lives.
    pub(super) fn begin(&self, path: &StorePath) -> Name {
        *self.0.lock().entry(path.clone()).or_default() += 1;
        Name { path: path.clone(), writing: self.clone() }
    }

    pub(super) fn contains(&self, path: &StorePath) -> bool {
        self.0.lock().contains_key(path)
    }
}

/// See [`Writing::begin`].
pub(super) struct Name {
    path: StorePath,
    writing: Writing,
}

impl Name {
    /// `inner`, for an object of this name with at most `max_bytes`.
    pub(super) fn writer(self, inner: Box<dyn ObjectWriter>, max_bytes: u64) -> Box<dyn ObjectWriter> {
        Box::new(Writer { inner, name: self, room_bytes: max_bytes })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut names = self.writing.0.lock();
        if let Some(writers) = names.get_mut(&self.path) {
            *writers -= 1;
            if *writers == 0 {
                names.remove(&self.path);
            }
        }
    }
}

struct Writer {
    inner: Box<dyn ObjectWriter>,
    name: Name,
    room_bytes: u64,
}

#[async_trait]
impl ObjectWriter for Writer {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let Some(room_bytes) = self.room_bytes.checked_sub(bytes.len() as u64) else {
            let message = "it has more bytes than 10,000 parts hold";
            return Err(Error::new(ErrorKind::LimitExceeded, "write an object", message)
                .with_object(&self.name.path)
                .with_advice("give a larger --store-option part-size"));
        };
        self.room_bytes = room_bytes;
        self.inner.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<()> {
        let Self { inner, name: _name, .. } = *self;
        inner.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        let Self { inner, name: _name, .. } = *self;
        inner.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nowhere;

    #[async_trait]
    impl ObjectWriter for Nowhere {
        async fn write(&mut self, _bytes: Bytes) -> Result<()> {
            Ok(())
        }
        async fn finish(self: Box<Self>) -> Result<()> {
            Ok(())
        }
        async fn abort(self: Box<Self>) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_name_is_in_use_until_its_last_writer_ends() {
        let writing = Writing::default();
        let path = StorePath::new("a/b").unwrap();
        let one = writing.begin(&path).writer(Box::new(Nowhere), 10);
        let other = writing.begin(&path).writer(Box::new(Nowhere), 10);
        one.finish().await.unwrap();
        assert!(writing.contains(&path));
        drop(other);
        assert!(!writing.contains(&path));
    }

    #[tokio::test]
    async fn an_object_of_more_than_all_parts_is_refused_before_it_is_sent() {
        let path = StorePath::new("a").unwrap();
        let mut writer = Writing::default().begin(&path).writer(Box::new(Nowhere), 10);
        writer.write(Bytes::from_static(&[0; 10])).await.unwrap();
        let error = writer.write(Bytes::from_static(&[0])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
        assert!(error.to_string().contains("part-size"), "{error}");
    }
}
