//! Key groups: the unit in which keyed state is assigned to subtasks.
//!
//! The formulas are Apache Flink's (`KeyGroupRangeAssignment`, `MathUtils.murmurHash`), so that the
//! same key with the same hash falls into the same group.

mod range;

pub use range::{KeyGroup, KeyGroupRange};
