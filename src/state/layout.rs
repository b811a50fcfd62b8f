//! What the bytes of a stored row's key mean. The same in both backends and on the store.
//!
//! ```text
//! row of a state:  group prefix | varint length, key | varint length, namespace | user key
//! row of a timer:  group prefix | timestamp          | varint length, key | varint length, namespace
//! ```
//! - The *group prefix* is the key group, big-endian, in one byte if there are at most 128 key groups,
//!   else in two, as in Flink. A group's rows are therefore neighbours, and groups lie in order: a
//!   snapshot cuts a state by group, and a rescale takes contiguous ranges.
//! - *key* and *namespace* are encoded values with their lengths before them, so no key's rows are a
//!   prefix of another's. Nothing needs them in order. The namespace is empty unless an engine sets it
//!   (a window, say).
//! - The *user key* is the rest: the key within a map state, empty for every other kind.
//! - A timer's *timestamp* is an `i64` in 8 bytes, big-endian with its sign bit flipped, so that the
//!   order of bytes is the order of time and the first row of a group is its earliest timer.

use super::limits::MAX_ROW_KEY_BYTES;
use super::varint;
use crate::error::{Error, ErrorKind, Result};
use crate::keygroup::{KeyGroup, KeyGroupRange, MaxParallelism};

const READ_ROW: &str = "read a row key";
const SIGN_BIT: u64 = 1 << 63;

/// How row keys are composed for one max parallelism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLayout {
    max_parallelism: MaxParallelism,
}

/// The parts of a state's row key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowKey<'a> {
    /// The key group of `key`.
    pub key_group: KeyGroup,
    /// The encoded key.
    pub key: &'a [u8],
    /// The encoded namespace; mostly empty.
    pub namespace: &'a [u8],
    /// The encoded key within a map state; empty for other kinds.
    pub user_key: &'a [u8],
}

/// The parts of a timer's row key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey<'a> {
    /// The key group of `key`.
    pub key_group: KeyGroup,
    /// When the timer is due, in milliseconds of its time domain.
    pub timestamp_ms: i64,
    /// The encoded key.
    pub key: &'a [u8],
    /// The encoded namespace; mostly empty.
    pub namespace: &'a [u8],
}

impl KeyLayout {
    /// The layout for `max_parallelism` key groups.
    pub fn new(max_parallelism: MaxParallelism) -> Self {
        Self { max_parallelism }
    }

    /// Into how many key groups keys are hashed.
    pub fn max_parallelism(self) -> MaxParallelism {
        self.max_parallelism
    }

    /// The bytes that every row key of `key_group` begins with. Groups beyond the max parallelism have
    /// a meaning only as the end of a range.
    pub fn group_prefix(self, key_group: KeyGroup) -> Vec<u8> {
        let [high, low] = key_group.to_be_bytes();
        if self.max_parallelism.prefix_bytes() == 1 { vec![low] } else { vec![high, low] }
    }

    /// The bounds of the rows of `groups`: the first row key's least value, and the least value beyond
    /// the last.
    pub fn bounds_of_groups(self, groups: KeyGroupRange) -> (Vec<u8>, Vec<u8>) {
        // No overflow: the last group is at most 127 with one byte, at most 32,767 with two.
        (self.group_prefix(groups.first()), self.group_prefix(groups.last().saturating_add(1)))
    }

    /// The row key of `key` under `namespace`; for map states a user key is to be appended.
    pub fn row_key(self, key_group: KeyGroup, key: &[u8], namespace: &[u8]) -> Vec<u8> {
        let mut row = self.group_prefix(key_group);
        varint::write_sized(key, &mut row);
        varint::write_sized(namespace, &mut row);
        row
    }

    /// The row key of a timer.
    pub fn timer_key(self, timer: TimerKey<'_>) -> Vec<u8> {
        let mut row = self.group_prefix(timer.key_group);
        row.extend_from_slice(&(timer.timestamp_ms as u64 ^ SIGN_BIT).to_be_bytes());
        varint::write_sized(timer.key, &mut row);
        varint::write_sized(timer.namespace, &mut row);
        row
    }

    /// The key group of a row.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the key is too short or names a group that there is not.
    pub fn key_group_of_row(self, row: &[u8]) -> Result<KeyGroup> {
        Ok(self.split_group(row)?.0)
    }

    /// Takes a state's row key apart.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the bytes are no row key of this layout.
    pub fn parse_row(self, row: &[u8]) -> Result<RowKey<'_>> {
        let (key_group, mut rest) = self.split_group(row)?;
        let key = varint::take_sized(&mut rest).ok_or_else(|| broken("the length of its key is wrong"))?;
        let namespace = varint::take_sized(&mut rest).ok_or_else(|| broken("the length of its namespace is wrong"))?;
        Ok(RowKey { key_group, key, namespace, user_key: rest })
    }

    /// Takes a timer's row key apart.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if the bytes are no timer's row key of this layout.
    pub fn parse_timer(self, row: &[u8]) -> Result<TimerKey<'_>> {
        let (key_group, rest) = self.split_group(row)?;
        let (timestamp, mut rest) = rest.split_first_chunk::<8>().ok_or_else(|| broken("its timestamp is cut off"))?;
        let timestamp_ms = (u64::from_be_bytes(*timestamp) ^ SIGN_BIT) as i64;
        let key = varint::take_sized(&mut rest).ok_or_else(|| broken("the length of its key is wrong"))?;
        let namespace = varint::take_sized(&mut rest).ok_or_else(|| broken("the length of its namespace is wrong"))?;
        if !rest.is_empty() {
            return Err(broken("bytes follow the namespace of a timer"));
        }
        Ok(TimerKey { key_group, timestamp_ms, key, namespace })
    }

    /// The group of a row that a caller wants to read or write, checked against what the backend owns.
    pub(super) fn check_owned(self, operation: &'static str, row: &[u8], owned: KeyGroupRange) -> Result<KeyGroup> {
        if row.len() > MAX_ROW_KEY_BYTES {
            let message = format!("a row key of {} bytes; at most {MAX_ROW_KEY_BYTES} are allowed", row.len());
            return Err(Error::new(ErrorKind::LimitExceeded, operation, message));
        }
        let (key_group, _) = self.split_group(row).map_err(|error| error.with_kind(ErrorKind::InvalidInput))?;
        if !owned.contains(key_group) {
            return Err(not_owned(operation, key_group, owned));
        }
        Ok(key_group)
    }

    fn split_group(self, row: &[u8]) -> Result<(KeyGroup, &[u8])> {
        let (key_group, rest) = match (self.max_parallelism.prefix_bytes(), row) {
            (1, [low, rest @ ..]) => (KeyGroup::from(*low), rest),
            (2, [high, low, rest @ ..]) => (KeyGroup::from_be_bytes([*high, *low]), rest),
            _ => return Err(broken("it is shorter than a key-group prefix")),
        };
        if u32::from(key_group) >= self.max_parallelism.get() {
            return Err(broken(format!("key group {key_group} is not below {}", self.max_parallelism)));
        }
        Ok((key_group, rest))
    }
}

/// The least byte string beyond every string that begins with `prefix`; `None` if there is none.
pub(super) fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// The refusal of a key group that this backend does not own.
pub(super) fn not_owned(operation: &'static str, key_group: KeyGroup, owned: KeyGroupRange) -> Error {
    Error::invalid(operation, format!("key group {key_group} is not among the groups {owned} of this backend"))
        .with_advice("send the key to the subtask that owns its group")
}

fn broken(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, READ_ROW, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layout(groups: u32) -> KeyLayout {
        KeyLayout::new(MaxParallelism::new(groups).unwrap())
    }

    #[test]
    fn the_bytes_of_a_row_key_are_the_documented_ones() {
        assert_eq!(layout(128).row_key(5, b"ab", b"w"), [5, 2, b'a', b'b', 1, b'w']);
        assert_eq!(layout(129).row_key(128, b"", b""), [0, 128, 0, 0]);
        let timer = TimerKey { key_group: 1, timestamp_ms: -1, key: b"k", namespace: b"" };
        let expected = [1, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, b'k', 0];
        assert_eq!(layout(2).timer_key(timer), expected);
    }

    #[test]
    fn a_group_beyond_the_max_parallelism_is_corrupt() {
        for row in [&[7, 0, 0][..], &[]] {
            assert_eq!(layout(7).parse_row(row).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        assert!(layout(7).parse_row(&[6, 0, 0]).is_ok());
    }

    #[test]
    fn the_end_of_a_prefix_lies_right_behind_it() {
        assert_eq!(end_of_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(end_of_prefix(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(end_of_prefix(&[0xff]), None);
        assert_eq!(end_of_prefix(&[]), None);
    }

    proptest! {
        #[test]
        fn row_keys_read_back(groups in 1_u32..=32_768, hash: i32, key: Vec<u8>, namespace: Vec<u8>, user_key: Vec<u8>) {
            let layout = layout(groups);
            let key_group = layout.max_parallelism().key_group_of_hash(hash);
            let mut row = layout.row_key(key_group, &key, &namespace);
            row.extend_from_slice(&user_key);
            let parts = RowKey { key_group, key: &key, namespace: &namespace, user_key: &user_key };
            prop_assert_eq!(layout.parse_row(&row).unwrap(), parts);
            let (start, end) = layout.bounds_of_groups(KeyGroupRange::new(key_group, key_group).unwrap());
            prop_assert!(start <= row && row < end);
        }

        #[test]
        fn timers_of_a_group_are_ordered_by_time(a: i64, b: i64, key: Vec<u8>, other: Vec<u8>) {
            let layout = layout(300);
            let row = |timestamp_ms, key| layout.timer_key(TimerKey { key_group: 299, timestamp_ms, key, namespace: b"n" });
            let (first, second) = (row(a, &key), row(b, &other));
            prop_assert_eq!(layout.parse_timer(&first).unwrap().timestamp_ms, a);
            if a != b {
                prop_assert_eq!(first.cmp(&second), a.cmp(&b));
            }
        }

        #[test]
        fn hostile_row_keys_are_refused_without_panic(groups in 1_u32..=32_768, row: Vec<u8>) {
            let _ = layout(groups).parse_row(&row);
            let _ = layout(groups).parse_timer(&row);
        }
    }
}
