//! The limits of keyed state. Everything that writes or reads a row respects them.

use crate::error::{Error, ErrorKind, Result};

/// The longest row key, in bytes: key-group prefix, key, namespace and user key together.
pub const MAX_ROW_KEY_BYTES: usize = 1 << 20;
/// The longest value of one row, in bytes; a list is one value.
pub const MAX_VALUE_BYTES: usize = 1 << 30;
/// The greatest number of named states of one backend.
pub const MAX_STATES: usize = 1024;
/// The longest name of a serializer in a schema, in bytes.
pub const MAX_SERIALIZER_NAME_BYTES: usize = 4096;

/// Refuses a value that would be too long.
pub(super) fn check_value(operation: &'static str, size_bytes: usize) -> Result<()> {
    if size_bytes <= MAX_VALUE_BYTES {
        return Ok(());
    }
    let message = format!("a value of {size_bytes} bytes; at most {MAX_VALUE_BYTES} are allowed");
    Err(Error::new(ErrorKind::LimitExceeded, operation, message))
}
