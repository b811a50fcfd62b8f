//! From a hash to a key group, and from key groups to subtasks.
//!
//! The formulas of Flink's `KeyGroupRangeAssignment` and `MathUtils.murmurHash`. They are part of the
//! stored format: with any other formula a restored state's keys would be looked for in groups that do
//! not hold them. `tests/key_groups_golden.rs` compares them with vectors that Flink itself computed.

use std::fmt;

use super::{KeyGroup, KeyGroupRange, KeyHash};
use crate::error::{Error, ErrorKind, Result};

/// The greatest number of key groups a job can have (Flink's `UPPER_BOUND_MAX_PARALLELISM`).
pub const MAX_MAX_PARALLELISM: u32 = 1 << 15;
/// The least number of key groups that [`MaxParallelism::default_for`] gives.
pub const MIN_DEFAULT_MAX_PARALLELISM: u32 = 1 << 7;
/// Up to this many key groups fit a key prefix of one byte.
const MAX_GROUPS_OF_ONE_BYTE: u32 = 1 << 7;

/// Into how many key groups the keys of an operator are hashed: `1..=32768`.
///
/// It bounds the parallelism and is fixed for the life of the state: a restore with another one is
/// refused, because every key would have to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaxParallelism(u32);

impl MaxParallelism {
    /// Checks `key_groups`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for 0, [`ErrorKind::LimitExceeded`] above [`MAX_MAX_PARALLELISM`].
    pub fn new(key_groups: u32) -> Result<Self> {
        match key_groups {
            0 => Err(Error::invalid(CHECK_MAX, "there must be at least one key group")),
            1..=MAX_MAX_PARALLELISM => Ok(Self(key_groups)),
            _ => Err(too_many(CHECK_MAX, "max parallelism", key_groups)),
        }
    }

    /// What a job started with `parallelism` gets if nobody says otherwise: room to grow by half,
    /// rounded up to a power of two, at least 128 (Flink's `computeDefaultMaxParallelism`).
    ///
    /// # Errors
    /// As [`MaxParallelism::new`], for `parallelism`.
    pub fn default_for(parallelism: u32) -> Result<Self> {
        const OPERATION: &str = "choose a default max parallelism";
        match parallelism {
            0 => Err(Error::invalid(OPERATION, "the parallelism is 0")),
            1..=MAX_MAX_PARALLELISM => {
                let roomy = (parallelism + parallelism / 2).next_power_of_two();
                Ok(Self(roomy.clamp(MIN_DEFAULT_MAX_PARALLELISM, MAX_MAX_PARALLELISM)))
            }
            _ => Err(too_many(OPERATION, "parallelism", parallelism)),
        }
    }

    /// The number of key groups.
    pub fn get(self) -> u32 {
        self.0
    }

    /// All key groups: what the only subtask of an operator owns.
    pub fn all_groups(self) -> KeyGroupRange {
        KeyGroupRange::starting_at_0(to_group(u64::from(self.0 - 1)))
    }

    /// How many bytes of a stored key name its key group, big-endian: 1 up to 128 groups, else 2
    /// (Flink's `CompositeKeySerializationUtils.computeRequiredBytesInKeyGroupPrefix`).
    pub fn prefix_bytes(self) -> usize {
        if self.0 <= MAX_GROUPS_OF_ONE_BYTE { 1 } else { 2 }
    }

    /// The key group of a key.
    pub fn key_group_of<K: KeyHash + ?Sized>(self, key: &K) -> KeyGroup {
        self.key_group_of_hash(key.key_hash())
    }

    /// The key group of a key whose [`KeyHash`] is `hash` (Flink's `computeKeyGroupForKeyHash`).
    pub fn key_group_of_hash(self, hash: i32) -> KeyGroup {
        to_group(u64::from(murmur_hash(hash) % self.0))
    }

    /// The key groups that subtask `index` of `parallelism` owns (Flink's
    /// `computeKeyGroupRangeForOperatorIndex`). The ranges of all subtasks cover every group once.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] unless `index < parallelism <= max_parallelism`.
    pub fn range_of_subtask(self, index: u32, parallelism: u32) -> Result<KeyGroupRange> {
        const OPERATION: &str = "assign key groups to a subtask";
        self.check_parallelism(OPERATION, parallelism)?;
        if index >= parallelism {
            let message = format!("there is no subtask {index} of {parallelism}; they count from 0");
            return Err(Error::invalid(OPERATION, message));
        }
        let (index, parallelism, groups) = (u64::from(index), u64::from(parallelism), u64::from(self.0));
        let first = (index * groups).div_ceil(parallelism);
        let last = ((index + 1) * groups - 1) / parallelism;
        KeyGroupRange::new(to_group(first), to_group(last))
            .ok_or_else(|| Error::new(ErrorKind::Internal, OPERATION, "an empty range, although groups >= subtasks"))
    }

    /// Which of `parallelism` subtasks owns `group` (Flink's `computeOperatorIndexForKeyGroup`).
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] unless `group < max_parallelism` and
    /// `1 <= parallelism <= max_parallelism`.
    pub fn subtask_of_group(self, group: KeyGroup, parallelism: u32) -> Result<u32> {
        const OPERATION: &str = "find the subtask of a key group";
        self.check_parallelism(OPERATION, parallelism)?;
        self.check_group(OPERATION, group)?;
        Ok((u64::from(group) * u64::from(parallelism) / u64::from(self.0)) as u32)
    }

    /// Refuses a group that there is not.
    pub(crate) fn check_group(self, operation: &'static str, group: KeyGroup) -> Result<()> {
        if u32::from(group) < self.0 {
            return Ok(());
        }
        Err(Error::invalid(operation, format!("there is no key group {group} of {self}; they count from 0")))
    }

    fn check_parallelism(self, operation: &'static str, parallelism: u32) -> Result<()> {
        if (1..=self.0).contains(&parallelism) {
            return Ok(());
        }
        Err(Error::invalid(operation, format!("parallelism {parallelism} is not in 1..={self}"))
            .with_advice("the max parallelism of existing state cannot change; choose a parallelism up to it"))
    }
}

impl fmt::Display for MaxParallelism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const CHECK_MAX: &str = "check a max parallelism";

fn too_many(operation: &'static str, what: &str, number: u32) -> Error {
    Error::new(ErrorKind::LimitExceeded, operation, format!("{what} {number} is above {MAX_MAX_PARALLELISM}"))
}

/// Every caller's number is below [`MAX_MAX_PARALLELISM`]; the cast cannot cut anything off.
fn to_group(number: u64) -> KeyGroup {
    debug_assert!(number < u64::from(MAX_MAX_PARALLELISM));
    number as KeyGroup
}

/// Flink's `MathUtils.murmurHash`: MurmurHash3 (32 bit, seed 0) over the four bytes of `code`, then its
/// absolute value, with 0 for `i32::MIN`, which has none. Spreads the hash codes of Java, whose low
/// bits are often alike.
pub fn murmur_hash(code: i32) -> u32 {
    let mut hash = (code as u32).wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    hash ^= 4;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^= hash >> 16;
    match hash as i32 {
        i32::MIN => 0,
        signed => signed.unsigned_abs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_of_all_subtasks_cover_every_group_once_and_agree_with_subtask_of_group() {
        for groups in [1, 2, 3, 7, 127, 128, 129, 1000, 32_768] {
            let max = MaxParallelism::new(groups).unwrap();
            for parallelism in [1, 2, 3, 5, groups / 2, groups - 1, groups] {
                if !(1..=groups).contains(&parallelism) {
                    continue;
                }
                let mut next = 0;
                for index in 0..parallelism {
                    let range = max.range_of_subtask(index, parallelism).unwrap();
                    assert_eq!(u32::from(range.first()), next, "{groups} groups, subtask {index} of {parallelism}");
                    next = u32::from(range.last()) + 1;
                    for group in [range.first(), range.last()] {
                        assert_eq!(max.subtask_of_group(group, parallelism).unwrap(), index);
                    }
                }
                assert_eq!(next, groups);
            }
        }
    }

    #[test]
    fn more_than_32768_key_groups_are_refused() {
        assert_eq!(MaxParallelism::new(32_768).unwrap().all_groups().last(), 32_767);
        assert_eq!(MaxParallelism::new(32_769).unwrap_err().kind(), ErrorKind::LimitExceeded);
        assert_eq!(MaxParallelism::new(0).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(MaxParallelism::default_for(32_769).unwrap_err().kind(), ErrorKind::LimitExceeded);
        assert_eq!(MaxParallelism::default_for(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_parallelism_above_the_max_parallelism_is_refused() {
        let max = MaxParallelism::new(128).unwrap();
        for (index, parallelism) in [(0, 129), (0, 0), (4, 4), (u32::MAX, u32::MAX)] {
            assert_eq!(max.range_of_subtask(index, parallelism).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(max.subtask_of_group(128, 4).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(max.subtask_of_group(127, 129).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn key_prefixes_take_one_byte_up_to_128_groups() {
        let bytes = |groups| MaxParallelism::new(groups).unwrap().prefix_bytes();
        assert_eq!([bytes(1), bytes(128), bytes(129), bytes(32_768)], [1, 1, 2, 2]);
    }
}
