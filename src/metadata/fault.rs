//! What is wrong with a value or its bytes, before it is known whether a writer or a reader asks.
//!
//! The same rules hold both ways: a value that breaks one is the caller's mistake when it is
//! encoded, and damage (or malice) when it was decoded.

use std::fmt::Display;

use crate::error::{Error, ErrorKind};

/// A broken rule.
#[derive(Debug)]
pub(crate) struct Fault {
    kind: FaultKind,
    message: String,
}

#[derive(Debug)]
enum FaultKind {
    Bad,
    Limit,
    Unknown,
}

pub(crate) type Checked<T = ()> = std::result::Result<T, Fault>;

impl Fault {
    /// A rule is broken.
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Bad, message: message.into() }
    }

    /// A value that a later build may have given a meaning.
    pub(crate) fn unknown(message: impl Into<String>) -> Self {
        Self { kind: FaultKind::Unknown, message: message.into() }
    }

    /// The same fault, found inside `place`.
    pub(crate) fn within(mut self, place: impl Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The error a writer gets.
    pub(crate) fn of_writer(self, operation: &'static str) -> Error {
        let kind = match self.kind {
            FaultKind::Bad | FaultKind::Unknown => ErrorKind::InvalidInput,
            FaultKind::Limit => ErrorKind::LimitExceeded,
        };
        Error::new(kind, operation, self.message)
    }

    /// The error a reader gets.
    pub(crate) fn of_reader(self, operation: &'static str) -> Error {
        match self.kind {
            FaultKind::Bad => Error::new(ErrorKind::Corrupt, operation, self.message),
            FaultKind::Limit => Error::new(ErrorKind::LimitExceeded, operation, self.message)
                .with_advice("if a newer icecore wrote it, read it with that one"),
            FaultKind::Unknown => Error::new(ErrorKind::Unsupported, operation, self.message)
                .with_advice("a newer icecore wrote it; read it with that one"),
        }
    }
}

/// Refuses `count` of `what` over `max`.
pub(crate) fn at_most(what: &str, count: usize, max: usize) -> Checked {
    if count <= max {
        return Ok(());
    }
    Err(Fault { kind: FaultKind::Limit, message: format!("{what}: {count}, over the limit of {max}") })
}

/// Refuses a list that is not strictly ascending by `key`.
pub(super) fn ascending<'a, T, K: Ord>(what: &str, items: &'a [T], key: impl Fn(&'a T) -> K) -> Checked {
    let sorted = items.iter().zip(items.iter().skip(1)).all(|(left, right)| key(left) < key(right));
    if sorted { Ok(()) } else { Err(Fault::bad(format!("{what} are not sorted, or one is there twice"))) }
}
