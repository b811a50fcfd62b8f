//! Exit codes: what a script can tell apart. Stable; `docs/cli.md` lists them.

use crate::error::{Error, ErrorKind};

/// Done.
pub(super) const OK: u8 = 0;
/// It failed in a way that none of the others names.
pub(super) const FAILED: u8 = 1;
/// The arguments are wrong. clap uses the same.
pub(super) const USAGE: u8 = 2;
/// Something is damaged: a checkpoint, an object, the database that was given.
pub(super) const DAMAGED: u8 = 3;
/// Another owner has the job, or the outcome of a write is unknown: look before trying again.
pub(super) const OTHER_OWNER: u8 = 4;
/// Something keeps what was to be changed or deleted: an unreadable object, a pin, a refusal.
pub(super) const KEPT: u8 = 5;
/// What was named is not there.
pub(super) const NOT_FOUND: u8 = 6;
/// The database changed each time that it was read: try again when fewer writes go on.
pub(super) const CHANGED: u8 = 7;
/// No room, or no permission to use it.
pub(super) const NO_ROOM: u8 = 8;
/// A version or feature that this build does not know.
pub(super) const UNSUPPORTED: u8 = 9;
/// Added to a signal's number, as shells do.
pub(super) const SIGNAL_BASE: u8 = 128;

/// The code for an error. The only place that ties codes to kinds.
pub(super) fn code_of(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::Cancelled => super::signals::signal_of(error).map_or(FAILED, |signal| SIGNAL_BASE + signal),
        kind => code_of_kind(kind),
    }
}

fn code_of_kind(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput => USAGE,
        ErrorKind::Corrupt => DAMAGED,
        ErrorKind::Fenced | ErrorKind::OutcomeUnknown => OTHER_OWNER,
        ErrorKind::Blocked | ErrorKind::AlreadyExists => KEPT,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Changed => CHANGED,
        ErrorKind::StorageFull | ErrorKind::PermissionDenied => NO_ROOM,
        ErrorKind::Unsupported | ErrorKind::SchemaMismatch => UNSUPPORTED,
        ErrorKind::RateLimited
        | ErrorKind::Temporary
        | ErrorKind::Unreachable
        | ErrorKind::LimitExceeded
        | ErrorKind::Cancelled
        | ErrorKind::Io
        | ErrorKind::Internal => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_that_a_script_must_tell_apart_have_codes_of_their_own() {
        let code = |kind| code_of(&Error::new(kind, "test", "test"));
        let codes = [
            code(ErrorKind::InvalidInput),
            code(ErrorKind::Corrupt),
            code(ErrorKind::Fenced),
            code(ErrorKind::Blocked),
            code(ErrorKind::NotFound),
            code(ErrorKind::Changed),
            code(ErrorKind::StorageFull),
            code(ErrorKind::Unsupported),
        ];
        assert_eq!(codes, [2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(code(ErrorKind::Io), FAILED);
    }

    #[test]
    fn an_interruption_ends_with_the_code_shells_give_it() {
        assert_eq!(code_of(&super::super::signals::error_of(15, "x")), 143);
        assert_eq!(code_of(&super::super::signals::error_of(2, "x")), 130);
        assert_eq!(code_of(&Error::new(ErrorKind::Cancelled, "wait", "x")), FAILED);
    }
}
