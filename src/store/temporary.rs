//! Names of unfinished objects, where a store has only files to keep them in.

use crate::env::Randomness;

/// What the name of an unfinished object begins with. No component of a [`super::StorePath`] does.
pub(super) const TEMPORARY_PREFIX: &str = ".tmp-";

/// A temporary name of 128 random bits, so none is ever used twice.
pub(super) fn temporary_name(randomness: &dyn Randomness) -> String {
    format!("{TEMPORARY_PREFIX}{:016x}{:016x}", randomness.next_u64(), randomness.next_u64())
}
