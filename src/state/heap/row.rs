//! A row's key and value in memory. Short ones lie in the tree's nodes: looking at them misses no cache, and copying a node that a
//! snapshot shares counts no references. Long ones are shared.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::Arc;

/// The longest key or value that lies in its node, in bytes: either takes 24 then, whether it is short or long.
const MAX_SHORT_BYTES: usize = 22;

/// Counts what a clone of a table would have to do for each row, if it did.
#[cfg(test)]
pub(super) mod touched {
    use std::cell::Cell;

    thread_local!(static ROWS: Cell<u64> = const { Cell::new(0) });

    pub(in super::super) fn add_one() {
        ROWS.with(|rows| rows.set(rows.get() + 1));
    }

    pub(in super::super) fn take() -> u64 {
        ROWS.with(Cell::take)
    }
}

/// A row's key.
pub(super) struct Key(Bytes<Arc<[u8]>>);

/// A row's value, growable in place as long as no snapshot shares it, so that appending to a list does not copy it every time.
pub(super) struct Value(Bytes<Arc<Vec<u8>>>);

#[derive(Clone)]
enum Bytes<L> {
    Short(Short),
    Long(L),
}

#[derive(Clone, Copy)]
struct Short {
    length: u8,
    bytes: [u8; MAX_SHORT_BYTES],
}

impl Short {
    /// `None`: there are too many.
    fn of(parts: [&[u8]; 2]) -> Option<Self> {
        let mut bytes = [0; MAX_SHORT_BYTES];
        let mut length = 0;
        for part in parts {
            let end = length + part.len();
            bytes.get_mut(length..end)?.copy_from_slice(part);
            length = end;
        }
        Some(Self { length: u8::try_from(length).ok()?, bytes })
    }

    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl<L: Deref<Target: AsRef<[u8]>>> Bytes<L> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short(short) => short.as_slice(),
            Self::Long(long) => (**long).as_ref(),
        }
    }
}

impl Key {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(Short::of([bytes, &[]]).map_or_else(|| Bytes::Long(bytes.into()), Bytes::Short))
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl Value {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(Short::of([bytes, &[]]).map_or_else(|| Bytes::Long(Arc::new(bytes.to_vec())), Bytes::Short))
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub(super) fn append(&mut self, suffix: &[u8]) {
        match &mut self.0 {
            Bytes::Long(long) => Arc::make_mut(long).extend_from_slice(suffix),
            Bytes::Short(short) => {
                let grown = Short::of([short.as_slice(), suffix])
                    .map_or_else(|| Bytes::Long(Arc::new([short.as_slice(), suffix].concat())), Bytes::Short);
                self.0 = grown;
            }
        }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        #[cfg(test)]
        touched::add_one();
        Self(self.0.clone())
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        #[cfg(test)]
        touched::add_one();
        Self(self.0.clone())
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Key {}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        #[cfg(test)]
        touched::add_one();
        self.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_bytes_are_what_they_were_and_keys_are_in_the_order_of_their_bytes() {
        let all: Vec<Vec<u8>> = (0..=2 * MAX_SHORT_BYTES).map(|length| vec![7; length]).collect();
        for bytes in &all {
            assert_eq!(Key::new(bytes).as_slice(), bytes);
            assert_eq!(Value::new(bytes).as_slice(), bytes);
        }
        for (a, b) in all.iter().zip(all.iter().skip(1)) {
            assert!(Key::new(a) < Key::new(b), "{a:?} {b:?}");
            let zeros = [a.as_slice(), &[0]].concat();
            assert!(Key::new(a) < Key::new(&zeros) && Key::new(&zeros) < Key::new(b), "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_value_grows_from_short_to_long_and_its_clone_does_not() {
        let mut value = Value::new(b"");
        let mut expected = Vec::new();
        for byte in 0..3 * MAX_SHORT_BYTES as u8 {
            let before = value.clone();
            value.append(&[byte]);
            assert_eq!(before.as_slice(), expected);
            expected.push(byte);
            assert_eq!(value.as_slice(), expected);
        }
    }

    #[test]
    fn a_row_takes_48_bytes_of_its_node() {
        assert_eq!((size_of::<Key>(), size_of::<Value>()), (24, 24));
    }
}
