//! Key groups: the unit in which keyed state is assigned to subtasks.
//!
//! A key's [`KeyHash`] gives its key group, one of [`MaxParallelism`] many; each subtask owns a
//! contiguous [`KeyGroupRange`] of them. The formulas are Apache Flink's (`KeyGroupRangeAssignment`,
//! `MathUtils.murmurHash`), so that the same key with the same hash falls into the same group. They
//! are part of the stored format and never change.

mod assign;
mod hash;
mod range;

pub use assign::{MAX_MAX_PARALLELISM, MIN_DEFAULT_MAX_PARALLELISM, MaxParallelism, murmur_hash};
pub use hash::KeyHash;
pub use range::{KeyGroup, KeyGroupRange};
