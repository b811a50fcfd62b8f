//! The numbers that stand for enumerations. For ever: never change or reuse one. Zero, which
//! protobuf gives to what is not there, stands for nothing.

use super::control::RequestKind;
use super::fault::{Checked, Fault};
use super::model::{Backend, CheckpointKind, Encoding, StateKind};
use crate::layout::FileKind;

/// An enumeration with a number for each value.
pub(crate) trait Numbered: Copy + PartialEq + Sized + 'static {
    /// What it is, for messages.
    const WHAT: &'static str;
    /// Every value and its number.
    const ALL: &'static [(Self, u32)];
}

/// The number of `value`.
pub(crate) fn number<T: Numbered>(value: T) -> u32 {
    // Zero, which no reader takes, if a value was forgotten; the test below counts them.
    T::ALL.iter().find(|(known, _)| *known == value).map_or(0, |(_, number)| *number)
}

/// The value of `number`.
pub(crate) fn value<T: Numbered>(number: u32) -> Checked<T> {
    match T::ALL.iter().find(|(_, known)| *known == number) {
        Some((value, _)) => Ok(*value),
        None => Err(Fault::unknown(format!("there is no {} of number {number}", T::WHAT))),
    }
}

impl Numbered for CheckpointKind {
    const WHAT: &'static str = "checkpoint kind";
    const ALL: &'static [(Self, u32)] = &[(Self::Full, 1), (Self::Incremental, 2), (Self::Savepoint, 3)];
}

impl Numbered for Backend {
    const WHAT: &'static str = "state backend";
    const ALL: &'static [(Self, u32)] = &[(Self::Heap, 1), (Self::RocksDb, 2), (Self::RocksDbFolder, 3)];
}

impl Numbered for StateKind {
    const WHAT: &'static str = "state kind";
    const ALL: &'static [(Self, u32)] = &[
        (Self::Value, 1),
        (Self::List, 2),
        (Self::Map, 3),
        (Self::Reducing, 4),
        (Self::Aggregating, 5),
        (Self::Timer, 6),
        (Self::Opaque, 7),
    ];
}

impl Numbered for FileKind {
    const WHAT: &'static str = "file kind";
    const ALL: &'static [(Self, u32)] = &[
        (Self::Sst, 1),
        (Self::Blob, 2),
        (Self::Manifest, 3),
        (Self::Current, 4),
        (Self::Options, 5),
        (Self::Wal, 6),
        (Self::Identity, 7),
        (Self::HeapChunk, 8),
    ];
}

impl Numbered for Encoding {
    const WHAT: &'static str = "encoding";
    const ALL: &'static [(Self, u32)] = &[(Self::Plain, 1)];
}

impl Numbered for RequestKind {
    const WHAT: &'static str = "kind of request";
    const ALL: &'static [(Self, u32)] = &[
        (Self::Gc, 1),
        (Self::Drop, 2),
        (Self::Retain, 3),
        (Self::Pin, 4),
        (Self::Unpin, 5),
        (Self::Fork, 6),
        (Self::Repair, 7),
        (Self::Savepoint, 8),
        (Self::Distrust, 9),
    ];
}

/// Where the segments of a file list lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentPlace {
    /// In the same body, just before their subtask.
    Inline,
}

impl Numbered for SegmentPlace {
    const WHAT: &'static str = "place of segments";
    const ALL: &'static [(Self, u32)] = &[(Self::Inline, 1)];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_numbers_are_unique_and_read_back<T: Numbered + std::fmt::Debug>() {
        for (known, known_number) in T::ALL {
            assert_eq!(number(*known), *known_number);
            assert_eq!(value::<T>(*known_number).unwrap(), *known);
        }
        assert!(value::<T>(0).is_err());
        assert!(value::<T>(99).is_err());
    }

    #[test]
    fn every_enumeration_value_has_a_number_of_its_own() {
        assert_numbers_are_unique_and_read_back::<CheckpointKind>();
        assert_numbers_are_unique_and_read_back::<Backend>();
        assert_numbers_are_unique_and_read_back::<StateKind>();
        assert_numbers_are_unique_and_read_back::<FileKind>();
        assert_numbers_are_unique_and_read_back::<Encoding>();
        assert_numbers_are_unique_and_read_back::<RequestKind>();
        assert_numbers_are_unique_and_read_back::<SegmentPlace>();
        for kind in FileKind::ALL {
            assert_ne!(number(kind), 0, "{kind} has no number");
        }
    }
}
