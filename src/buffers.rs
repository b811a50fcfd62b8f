//! Buffers that go round: what the writing side has dropped is filled again.
//!
//! A fresh buffer costs a page fault for every 4 KiB of it, which is a good part of what it costs to
//! hash them. The pool of an upload lives as long as the upload; a local store keeps a few for its reads.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// How much memory the buffers of one pool hold at most while they wait to be used again. More are needed at once, but
/// then they do not wait.
const MAX_IDLE_BYTES: usize = 32 << 20;
/// Larger buffers are freed. What one request for a part of an object asks of any of our stores fits.
pub(crate) const MAX_IDLE_BUFFER_BYTES: usize = 8 << 20;
/// Reads from this size on go into buffers that are used again; smaller ones would keep them busy.
const REUSED_BUFFER_BYTES: usize = 256 << 10;

/// Buffers, all of about one size.
#[derive(Clone, Debug, Default)]
pub(crate) struct Buffers(Arc<Mutex<Idle>>);

#[derive(Debug, Default)]
struct Idle {
    buffers: Vec<Vec<u8>>,
    size_bytes: usize,
}

impl Buffers {
    /// An empty buffer, a used one if there is one.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut idle = self.0.lock();
        let buffer = idle.buffers.pop().unwrap_or_default();
        idle.size_bytes -= buffer.capacity();
        buffer
    }

    /// An empty buffer for a read of so many bytes: a used one only for a large read.
    pub(crate) fn take_for(&self, length_bytes: u64) -> Vec<u8> {
        if length_bytes >= REUSED_BUFFER_BYTES as u64 { self.take() } else { Vec::new() }
    }

    /// What was read into such a buffer. A large one comes back as [`Self::lend`] says.
    pub(crate) fn hand_over(&self, buffer: Vec<u8>) -> Bytes {
        if buffer.capacity() >= REUSED_BUFFER_BYTES { self.lend(buffer) } else { Bytes::from(buffer) }
    }

    /// The bytes of `buffer`, which comes back when the last copy of them is dropped.
    pub(crate) fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let size_bytes = buffer.capacity();
        let mut idle = self.0.lock();
        if size_bytes <= MAX_IDLE_BUFFER_BYTES && idle.size_bytes + size_bytes <= MAX_IDLE_BYTES {
            idle.size_bytes += size_bytes;
            idle.buffers.push(buffer);
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
    fn no_more_memory_waits_than_its_limit() {
        let buffers = Buffers::default();
        let used: Vec<Bytes> = (0..2 * MAX_IDLE_BYTES / MAX_IDLE_BUFFER_BYTES)
            .map(|_| buffers.lend(vec![7; MAX_IDLE_BUFFER_BYTES]))
            .collect();
        drop(used);
        assert_eq!(buffers.0.lock().size_bytes, MAX_IDLE_BYTES);
        drop(buffers.lend(Vec::with_capacity(MAX_IDLE_BUFFER_BYTES + 1)));
        let mut taken = 0;
        while buffers.take().capacity() > 0 {
            taken += 1;
        }
        assert_eq!((taken, buffers.0.lock().size_bytes), (MAX_IDLE_BYTES / MAX_IDLE_BUFFER_BYTES, 0));
    }

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
