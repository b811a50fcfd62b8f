//! Who wants to know how far long work has come.

use std::fmt;

/// Told of progress as it is made, from any task. Implementations must be quick.
pub trait Progress: fmt::Debug + Send + Sync + 'static {
    /// More work became known: `files` files of `bytes` bytes in all.
    fn expect(&self, files: u64, bytes: u64);

    /// `bytes` more bytes were moved, or need not be. May come to more than was expected: what fails is moved again.
    fn advance(&self, bytes: u64);

    /// A file of `bytes` bytes is here already, and need not be moved. Told beside [`Progress::advance`].
    fn linked(&self, _bytes: u64) {}

    /// One more file is done.
    fn file_done(&self);
}

/// Tells nobody.
#[derive(Debug)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn expect(&self, _files: u64, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn file_done(&self) {}
}
