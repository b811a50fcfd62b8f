//! How many transfers run beside each other.

use futures::stream::{self, BoxStream, StreamExt};

/// Files up to this size count as small: what they cost is waiting for syncs and answers.
pub const SMALL_FILE_BYTES: u64 = 1 << 20;

/// How many transfers run beside each other.
///
/// Large files are bound by the processor and the disk, small ones by waiting: a local store's syncs share
/// the file system's commits when many wait at once, and an object store answers many requests in the
/// time of one. So small files have a limit of their own, beside the large ones'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// Files moved at once, per snapshot or restore.
    pub parallelism: usize,
    /// Files of at most [`SMALL_FILE_BYTES`] moved at once beside them.
    pub small_parallelism: usize,
}

impl Default for TransferLimits {
    fn default() -> Self {
        Self { parallelism: 4, small_parallelism: 32 }
    }
}

impl TransferLimits {
    /// Files of any size moved at once.
    pub(crate) fn total(self) -> usize {
        self.parallelism.max(1).saturating_add(self.small_parallelism.max(1))
    }

    /// Runs `perform` on every item, within the limits; outcomes come as they are ready. `size_bytes` tells
    /// an item's size, as far as it is known.
    pub(crate) fn run<'a, T, F>(
        self,
        items: impl IntoIterator<Item = T>,
        size_bytes: impl Fn(&T) -> Option<u64>,
        perform: impl Fn(T) -> F + Clone + Send + 'a,
    ) -> BoxStream<'a, F::Output>
    where
        T: Send + 'a,
        F: Future<Output: Send> + Send + 'a,
    {
        let is_small = |item: &T| size_bytes(item).is_some_and(|size_bytes| size_bytes <= SMALL_FILE_BYTES);
        let (small, large): (Vec<T>, Vec<T>) = items.into_iter().partition(is_small);
        let large = stream::iter(large).map(perform.clone()).buffer_unordered(self.parallelism.max(1));
        let small = stream::iter(small).map(perform).buffer_unordered(self.small_parallelism.max(1));
        stream::select(large, small).boxed()
    }
}
