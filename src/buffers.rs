//! Buffers that go round: what the writing side has dropped is filled again.
//!
//! A fresh buffer costs a page fault for every 4 KiB of it, which is a good part of what it costs to
//! hash them. The pool of an upload lives as long as the upload; a local store keeps a few for its reads.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// How many buffers wait to be used again at most.
const MAX_IDLE_BUFFERS: usize = 16;
/// Larger buffers are freed.
const MAX_IDLE_BUFFER_BYTES: usize = 1 << 20;

/// Buffers, all of about one size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    /// An empty buffer, a used one if there is one.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.0.lock().pop().unwrap_or_default()
    }

    /// The bytes of `buffer`, which comes back when the last copy of them is dropped.
    pub(crate) fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut idle = self.0.lock();
        if idle.len() < MAX_IDLE_BUFFERS && buffer.capacity() <= MAX_IDLE_BUFFER_BYTES {
            idle.push(buffer);
        }
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_its_last_copy_is_gone() {
        let buffers = Buffers::default();
        let bytes = buffers.lend(vec![7; 100]);
        let copy = bytes.slice(50..);
        let place = bytes.as_ptr();
        drop(bytes);
        assert_eq!(buffers.take().capacity(), 0, "a buffer that is still read was handed out");
        drop(copy);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }
}
