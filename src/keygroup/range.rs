//! Contiguous ranges of key groups.

use std::fmt;

/// One of `max_parallelism` buckets a key hashes to. Flink allows at most 32,768 of them.
pub type KeyGroup = u16;

/// A contiguous, inclusive, non-empty range of key groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyGroupRange {
    first: KeyGroup,
    last: KeyGroup,
}

impl KeyGroupRange {
    /// `first..=last`; `None` if that is empty.
    pub fn new(first: KeyGroup, last: KeyGroup) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// `0..=last`, which is never empty.
    pub(crate) fn starting_at_0(last: KeyGroup) -> Self {
        Self { first: 0, last }
    }

    /// The first group.
    pub fn first(self) -> KeyGroup {
        self.first
    }

    /// The last group, itself part of the range.
    pub fn last(self) -> KeyGroup {
        self.last
    }

    /// How many groups there are.
    pub fn len(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// Never: a range holds at least one group.
    pub fn is_empty(self) -> bool {
        false
    }

    /// Whether `group` lies in the range.
    pub fn contains(self, group: KeyGroup) -> bool {
        self.first <= group && group <= self.last
    }

    /// The groups that both ranges hold.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last))
    }

    /// The groups, ascending.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = KeyGroup> {
        self.first..=self.last
    }
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}
