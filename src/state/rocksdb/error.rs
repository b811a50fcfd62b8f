//! RocksDB's errors as ours.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// What RocksDB said, under the kind it belongs to.
pub(super) fn from_rocksdb(operation: &'static str, object: impl fmt::Display, source: ::rocksdb::Error) -> Error {
    use ::rocksdb::ErrorKind as Theirs;
    let text = source.to_string();
    let kind = match source.kind() {
        Theirs::Corruption => ErrorKind::Corrupt,
        Theirs::NotFound => ErrorKind::NotFound,
        Theirs::NotSupported => ErrorKind::Unsupported,
        Theirs::InvalidArgument => ErrorKind::InvalidInput,
        Theirs::TimedOut | Theirs::Busy | Theirs::TryAgain => ErrorKind::Temporary,
        Theirs::ShutdownInProgress | Theirs::Aborted => ErrorKind::Cancelled,
        // RocksDB hands on the operating system's text, not its number.
        _ if text.contains("No space left on device") => ErrorKind::StorageFull,
        _ if text.contains("No such file or directory") => ErrorKind::NotFound,
        _ if text.contains("Permission denied") => ErrorKind::PermissionDenied,
        _ => ErrorKind::Io,
    };
    Error::new(kind, operation, text).with_object(object).with_source(source)
}
