//! One error type for the whole crate: what went wrong, with which object, in which operation, and
//! what a person can do about it.
//!
//! Modelled on OpenDAL's `ErrorKind` with a retry verdict. Callers match on [`Error::kind`]; people
//! read the `Display` form, which is one line; programs that log take the `source` chain.

use std::fmt;

/// The result of every fallible icecore call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is. Stable: callers may match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named object, checkpoint, job or folder is not there.
    NotFound,
    /// Something is already where a new thing was to be made.
    AlreadyExists,
    /// The store or the operating system refused access.
    PermissionDenied,
    /// No room is left on the device, or a quota is used up.
    StorageFull,
    /// The store asks to be called less often.
    RateLimited,
    /// A failure that may well be gone at the next try (a timeout, a broken connection).
    Temporary,
    /// No connection was made and nothing was sent: the endpoint is down, or its name or port is wrong.
    Unreachable,
    /// Bytes are there but are not what was written: a hash, checksum, magic or length is wrong.
    Corrupt,
    /// A well-formed object of a version or with a feature that this build does not know.
    Unsupported,
    /// The caller's arguments or options are wrong.
    InvalidInput,
    /// A limit of this crate (a named constant or an option) would be exceeded.
    LimitExceeded,
    /// A greater claim on the job was seen: this party's tenure is over (design 4.2).
    Fenced,
    /// A write was answered with an error and may or may not have landed (design 4.7).
    OutcomeUnknown,
    /// The state's schema in the checkpoint is not the one the caller asks for.
    SchemaMismatch,
    /// A deletion was refused because something it depends on could not be read (design 4.6).
    Blocked,
    /// The source changed while it was being read (a database that is open and being written).
    Changed,
    /// The operation was cancelled, aborted or timed out on purpose.
    Cancelled,
    /// An error of the operating system or a library that fits none of the others.
    Io,
    /// A bug in icecore: a state that its own invariants rule out.
    Internal,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 19] = [
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::StorageFull,
        Self::RateLimited,
        Self::Temporary,
        Self::Unreachable,
        Self::Corrupt,
        Self::Unsupported,
        Self::InvalidInput,
        Self::LimitExceeded,
        Self::Fenced,
        Self::OutcomeUnknown,
        Self::SchemaMismatch,
        Self::Blocked,
        Self::Changed,
        Self::Cancelled,
        Self::Io,
        Self::Internal,
    ];

    /// The kind of a name that [`Self::as_str`] gave.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind's stable name, as `--json` output prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::PermissionDenied => "permission-denied",
            Self::StorageFull => "storage-full",
            Self::RateLimited => "rate-limited",
            Self::Temporary => "temporary",
            Self::Unreachable => "unreachable",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::InvalidInput => "invalid-input",
            Self::LimitExceeded => "limit-exceeded",
            Self::Fenced => "fenced",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::SchemaMismatch => "schema-mismatch",
            Self::Blocked => "blocked",
            Self::Changed => "changed",
            Self::Cancelled => "cancelled",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }

    /// Whether the same call may succeed if it is simply made again.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Temporary | Self::RateLimited | Self::Unreachable)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What failed. `Display` gives one line: operation, object, cause, and what to do.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    object: Option<String>,
    message: String,
    advice: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error of `kind`, raised by `operation` (a short verb phrase such as `"put object"`).
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, operation, object: None, message: message.into(), advice: None, source: None }))
    }

    /// As [`Error::io`], for a path of this machine while an object is fetched: a folder that is not there is not an object that is
    /// not there.
    pub(crate) fn local_io(operation: &'static str, object: impl fmt::Display, source: std::io::Error) -> Self {
        let mut error = Self::io(operation, object, source);
        if matches!(error.0.kind, ErrorKind::NotFound | ErrorKind::Corrupt) {
            error.0.kind = ErrorKind::Io;
        }
        error
    }

    /// An error of the operating system, its kind read off the io error's kind.
    pub fn io(operation: &'static str, object: impl fmt::Display, source: std::io::Error) -> Self {
        Self::new(kind_of_io(&source), operation, source.to_string()).with_object(object).with_source(source)
    }

    /// Shorthand for [`ErrorKind::Corrupt`].
    pub fn corrupt(operation: &'static str, object: impl fmt::Display, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, operation, message).with_object(object)
    }

    /// Shorthand for [`ErrorKind::InvalidInput`].
    pub fn invalid(operation: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, operation, message)
    }

    /// Names the object (a store path, a file, a checkpoint). The innermost name is kept.
    #[must_use]
    pub fn with_object(mut self, object: impl fmt::Display) -> Self {
        if self.0.object.is_none() {
            self.0.object = Some(object.to_string());
        }
        self
    }

    /// Says what a person can do. The innermost advice is kept.
    #[must_use]
    pub fn with_advice(mut self, advice: impl Into<String>) -> Self {
        if self.0.advice.is_none() {
            self.0.advice = Some(advice.into());
        }
        self
    }

    /// Adds to what went wrong, in brackets.
    #[must_use]
    pub(crate) fn with_note(mut self, note: impl fmt::Display) -> Self {
        self.0.message = format!("{} ({note})", self.0.message);
        self
    }

    /// Keeps the error that caused this one, for `source()`.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same failure, under another kind (say, a commit whose write failed: outcome unknown).
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, a short verb phrase.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// The object the operation failed on, where there is one.
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// What went wrong, without operation, object and advice.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What a person can do about it, where that is known.
    pub fn advice(&self) -> Option<&str> {
        self.0.advice.as_deref()
    }

    /// Whether the same call may succeed if it is simply made again.
    pub fn is_retryable(&self) -> bool {
        self.0.kind.is_retryable()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.operation)?;
        if let Some(object) = &self.0.object {
            write!(f, " `{object}`")?;
        }
        write!(f, ": {}", self.0.message)?;
        if let Some(advice) = &self.0.advice {
            write!(f, "; {advice}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({}: {self})", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

fn kind_of_io(error: &std::io::Error) -> ErrorKind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound | Io::NotADirectory => ErrorKind::NotFound,
        Io::AlreadyExists | Io::DirectoryNotEmpty => ErrorKind::AlreadyExists,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::PermissionDenied,
        Io::StorageFull | Io::QuotaExceeded => ErrorKind::StorageFull,
        Io::TimedOut | Io::Interrupted | Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe => {
            ErrorKind::Temporary
        }
        // Not `Unreachable`, which says that nothing was sent. Of `connect` alone these errors say so; Linux
        // also gives them for a connection that was in use, when packets are rejected on the way. Whoever knows
        // that it was connecting says `with_kind(Unreachable)`.
        Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown | Io::NotConnected => {
            ErrorKind::Temporary
        }
        Io::UnexpectedEof => ErrorKind::Corrupt,
        _ => ErrorKind::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_one_line_with_operation_object_cause_and_advice() {
        let error = Error::corrupt("read object", "job-a/cp-1/_metadata", "the hash differs")
            .with_object("an outer name that must not win")
            .with_advice("restore checkpoint 3 instead");
        assert_eq!(
            error.to_string(),
            "read object `job-a/cp-1/_metadata`: the hash differs; restore checkpoint 3 instead"
        );
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_full_disk_is_told_apart_from_other_io_errors() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(Error::io("write", "f", full).kind(), ErrorKind::StorageFull);
        let timeout = std::io::Error::from(std::io::ErrorKind::TimedOut);
        assert!(Error::io("write", "f", timeout).is_retryable());
    }

    #[test]
    fn no_io_error_alone_proves_that_nothing_was_sent() {
        use std::io::ErrorKind as Io;
        for kind in [Io::ConnectionRefused, Io::HostUnreachable, Io::NetworkUnreachable, Io::NotConnected] {
            let error = Error::io("write", "f", kind.into());
            assert_eq!(error.kind(), ErrorKind::Temporary, "{kind:?}");
            assert!(error.with_kind(ErrorKind::Unreachable).is_retryable());
        }
    }
}
