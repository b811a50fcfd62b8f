//! A hasher for keys that are uniformly distributed already.

use std::hash::{BuildHasherDefault, Hasher};

use crate::layout::ContentHash;

/// A map from the first eight bytes of content hashes.
pub(super) type PrefixMap<V> = std::collections::HashMap<u64, V, BuildHasherDefault<PrefixHasher>>;

/// Passes a `u64` through.
///
/// The keys are bytes of SHA-256 hashes, so they need no mixing. Somebody who chooses the contents
/// of files could grind hashes that fall into one bucket: at a million entries about 2^20 hashes for
/// each file, every one of which has then to be uploaded, to make a probe one step longer. Equal
/// prefixes (2^32 hashes for the first pair) are chained and compared in full, so they cost a step
/// and never confuse two files (I6). That is not worth a secret seed.
#[derive(Default)]
pub(super) struct PrefixHasher(u64);

impl Hasher for PrefixHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `u64` keys are used; this keeps the hasher correct for any other.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

/// The eight bytes of `hash` that the index is keyed by.
pub(super) fn prefix_of(hash: &ContentHash) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = hash.0;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// The byte of `hash` that chooses a shard: none of those that [`prefix_of`] takes, so that the keys
/// within a shard stay uniform.
pub(super) fn shard_byte_of(hash: &ContentHash) -> usize {
    let [.., last] = hash.0;
    usize::from(last)
}
