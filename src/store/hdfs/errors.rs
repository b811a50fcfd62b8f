//! What HDFS says, as one of our errors.
//!
//! The NameNode answers with the name of a Java exception. The names below are those of Hadoop 3; an unknown one is an
//! [`ErrorKind::Io`] with the name and its text, and counts as ambiguous.

use std::fmt;
use std::io;
use std::time::Duration;

use hdfs_native::HdfsError;

use crate::error::{Error, ErrorKind};

/// Why an exchange failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client answered with an error.
    Answer(HdfsError),
    /// No answer came within the limit.
    Silence(Duration),
}

/// What a failure comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing lies at the path.
    Missing,
    /// A file lies where a folder is needed.
    NotAFolder,
    /// A folder that was to be deleted has something in it.
    NotEmpty,
    /// Something lies at the path already.
    Occupied,
    /// The file is not open for this writer any more.
    LeaseLost,
    /// The user may not.
    Denied,
    /// No room, or a quota is used up.
    Full,
    /// The NameNode asks to be called less often.
    Busy,
    /// The NameNode starts, is on standby, or has no DataNode.
    NotReady,
    /// Nobody listens there, and nothing was sent.
    NobodyThere,
    /// A limit of the cluster.
    Limit,
    /// The cluster or the client cannot do that.
    Unsupported,
    /// An argument is wrong.
    Invalid,
    /// A connection broke, a DataNode failed, or nobody answered.
    Broken,
    /// None of these.
    Other,
}

impl Failure {
    /// What it comes to.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Silence(_) => Cause::Broken,
            Self::Answer(error) => cause_of(error),
        }
    }

    /// Whether what was asked for has certainly not been done and will not be: the NameNode said so, or it
    /// never heard of it.
    pub(super) fn is_refusal(&self) -> bool {
        !matches!(self.cause(), Cause::Broken | Cause::Other)
    }

    /// As an error about `object`.
    pub(super) fn into_error(self, operation: &'static str, object: impl fmt::Display) -> Error {
        let cause = self.cause();
        let (message, source) = match self {
            Self::Silence(limit) => (format!("HDFS did not answer within {limit:?}"), None),
            Self::Answer(error) => (said(&error), Some(error)),
        };
        let mut error = Error::new(kind_of(cause), operation, message).with_object(object);
        let is_cut =
            matches!(&source, Some(HdfsError::IOError(error)) if error.kind() == io::ErrorKind::ConnectionAborted);
        if let Some(advice) = advice(cause).or(is_cut.then_some(CUT_ADVICE)) {
            error = error.with_advice(advice);
        }
        match source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    /// As [`Self::into_error`], where bytes go to DataNodes: what nobody listened to may have been a DataNode, so
    /// it is not certain that nothing was sent.
    pub(super) fn into_transfer_error(self, operation: &'static str, object: impl fmt::Display) -> Error {
        let error = self.into_error(operation, object);
        if error.kind() == ErrorKind::Unreachable { error.with_kind(ErrorKind::Temporary) } else { error }
    }
}

/// The first line of what was said: Java sends its stack behind it.
fn said(error: &HdfsError) -> String {
    let first_line = |text: &str| text.lines().next().unwrap_or_default().trim().to_owned();
    match error {
        HdfsError::RPCError(class, text) | HdfsError::FatalRPCError(class, text) => {
            format!("{}: {}", short(class), first_line(text))
        }
        HdfsError::AlreadyExists(text) => format!("it exists already: {}", first_line(text)),
        other => first_line(&other.to_string()),
    }
}

/// `a.b.C$D` is `D`.
fn short(class: &str) -> &str {
    class.rsplit(['.', '$']).next().unwrap_or(class)
}

fn cause_of(error: &HdfsError) -> Cause {
    match error {
        HdfsError::RPCError(class, text) | HdfsError::FatalRPCError(class, text) => cause_of_exception(class, text),
        HdfsError::IOError(error) => cause_of_io(error),
        HdfsError::AlreadyExists(_) => Cause::Occupied,
        HdfsError::FileNotFound(_) => Cause::Missing,
        HdfsError::IsADirectoryError(_) => Cause::Missing,
        HdfsError::InvalidPath(_) | HdfsError::InvalidArgument(_) | HdfsError::UrlParseError(_) => Cause::Invalid,
        HdfsError::SASLError(_) | HdfsError::GSSAPIError(..) | HdfsError::NoSASLMechanism => Cause::Denied,
        HdfsError::UnsupportedErasureCodingPolicy(_) | HdfsError::UnsupportedFeature(_) => Cause::Unsupported,
        HdfsError::DataTransferError(_) | HdfsError::ChecksumError | HdfsError::BlocksNotFound(_) => Cause::Broken,
        HdfsError::OperationFailed(_) => Cause::Broken,
        _ => Cause::Other,
    }
}

fn cause_of_exception(class: &str, text: &str) -> Cause {
    match short(class) {
        // Hadoop before 3.5 has a `LeaseExpiredException` for this.
        "FileNotFoundException" if text.contains("does not have any open files") => Cause::LeaseLost,
        "FileNotFoundException" => Cause::Missing,
        "ParentNotDirectoryException" | "PathIsNotDirectoryException" => Cause::NotAFolder,
        "PathIsNotEmptyDirectoryException" => Cause::NotEmpty,
        "FileAlreadyExistsException" => Cause::Occupied,
        // A rename onto a folder.
        "IOException" if text.contains("must both be directories") => Cause::Occupied,
        "LeaseExpiredException" | "NotReplicatedYetException" => Cause::LeaseLost,
        // It has the same name when a file is in the way and when a right is missing.
        "AccessControlException" if text.contains("is not a directory") => Cause::NotAFolder,
        "AccessControlException" | "AuthorizationException" | "SaslException" | "GSSException" | "InvalidToken" => {
            Cause::Denied
        }
        "DSQuotaExceededException" | "NSQuotaExceededException" | "QuotaByStorageTypeExceededException" => Cause::Full,
        // "File x could only be written to 0 of the 1 minReplication nodes. There are 3 datanode(s) running ..."
        "IOException" if text.contains("could only be written to") => {
            if text.contains("There are 0 datanode(s) running") { Cause::NotReady } else { Cause::Full }
        }
        "RetriableException" if text.contains("too busy") => Cause::Busy,
        "SafeModeException" | "RetriableException" | "StandbyException" | "ObserverRetryOnActiveException" => {
            Cause::NotReady
        }
        "PathComponentTooLongException" | "MaxDirectoryItemsExceededException" => Cause::Limit,
        "InvalidPathException" | "HadoopIllegalArgumentException" | "SnapshotAccessControlException" => Cause::Invalid,
        "IOException" if text.contains("block size") || text.contains("replication") => Cause::Invalid,
        "RpcNoSuchMethodException" | "RpcNoSuchProtocolException" | "UnsupportedOperationException" => {
            Cause::Unsupported
        }
        _ => Cause::Other,
    }
}

fn cause_of_io(error: &io::Error) -> Cause {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::ConnectionRefused | Io::HostUnreachable | Io::NetworkUnreachable | Io::AddrNotAvailable => {
            Cause::NobodyThere
        }
        // A name that does not resolve has no kind of its own.
        _ if error.to_string().starts_with("failed to lookup address information") => Cause::NobodyThere,
        _ => Cause::Broken,
    }
}

fn kind_of(cause: Cause) -> ErrorKind {
    match cause {
        Cause::Missing => ErrorKind::NotFound,
        Cause::NotAFolder | Cause::NotEmpty | Cause::Occupied => ErrorKind::AlreadyExists,
        Cause::Denied => ErrorKind::PermissionDenied,
        Cause::Full => ErrorKind::StorageFull,
        Cause::Busy => ErrorKind::RateLimited,
        Cause::LeaseLost | Cause::NotReady | Cause::Broken => ErrorKind::Temporary,
        Cause::NobodyThere => ErrorKind::Unreachable,
        Cause::Limit => ErrorKind::LimitExceeded,
        Cause::Unsupported => ErrorKind::Unsupported,
        Cause::Invalid => ErrorKind::InvalidInput,
        Cause::Other => ErrorKind::Io,
    }
}

/// The NameNode answers nothing to those whom it cannot authenticate.
const CUT_ADVICE: &str = "if it stays so, check address and port, and whether the cluster wants another authentication";

fn advice(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::NotAFolder => {
            Some("an object lies where a folder is needed; icecore never does that: look who wrote it")
        }
        Cause::Occupied => Some("no name is ever written twice; another writer used this one"),
        Cause::LeaseLost => Some("its temporary file was cleaned up as stale while the writer slept; write it again"),
        Cause::Denied => Some("check HADOOP_USER_NAME and the folder's owner and mode (hdfs dfs -ls -d)"),
        Cause::Full => Some(
            "free space or raise the quota (hdfs dfsadmin -report, hdfs dfs -count -q); a file being written counts \
             with a whole block for each replica",
        ),
        Cause::NobodyThere => Some("check the address, and that the NameNode runs"),
        Cause::Unsupported => Some("icecore writes replicated files, without encryption zones (docs/stores.md)"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rpc(class: &str, text: &str) -> Failure {
        Failure::Answer(HdfsError::RPCError(class.to_owned(), text.to_owned()))
    }

    fn kind(failure: Failure) -> ErrorKind {
        failure.into_error("test", "x").kind()
    }

    #[test]
    fn what_the_name_node_throws_has_the_kind_that_callers_act_on() {
        let hdfs = "org.apache.hadoop.hdfs";
        for (class, text, expected) in [
            ("java.io.FileNotFoundException".to_owned(), "File does not exist: /x", ErrorKind::NotFound),
            (
                "java.io.FileNotFoundException".to_owned(),
                "File does not exist: /x (inode 1) Holder c does not have any open files.",
                ErrorKind::Temporary,
            ),
            (
                "java.io.IOException".to_owned(),
                "Source /a and destination /b must both be directories",
                ErrorKind::AlreadyExists,
            ),
            (
                "org.apache.hadoop.security.AccessControlException".to_owned(),
                "/a (is not a directory)",
                ErrorKind::AlreadyExists,
            ),
            (format!("{hdfs}.protocol.DSQuotaExceededException"), "", ErrorKind::StorageFull),
            (format!("{hdfs}.protocol.NSQuotaExceededException"), "", ErrorKind::StorageFull),
            (format!("{hdfs}.server.namenode.SafeModeException"), "", ErrorKind::Temporary),
            ("org.apache.hadoop.ipc.StandbyException".to_owned(), "", ErrorKind::Temporary),
            ("org.apache.hadoop.ipc.RetriableException".to_owned(), "Server is too busy.", ErrorKind::RateLimited),
            ("org.apache.hadoop.security.AccessControlException".to_owned(), "denied", ErrorKind::PermissionDenied),
            (format!("{hdfs}.protocol.FSLimitException$PathComponentTooLongException"), "", ErrorKind::LimitExceeded),
            (
                "java.io.IOException".to_owned(),
                "File /x could only be written to 0 of the 1 minReplication nodes. There are 3 datanode(s) running",
                ErrorKind::StorageFull,
            ),
            (
                "java.io.IOException".to_owned(),
                "File /x could only be written to 0 of the 1 minReplication nodes. There are 0 datanode(s) running",
                ErrorKind::Temporary,
            ),
            ("com.example.NewException".to_owned(), "", ErrorKind::Io),
        ] {
            let failure = rpc(&class, text);
            assert_eq!(failure.is_refusal(), expected != ErrorKind::Io, "{class}");
            assert_eq!(kind(failure), expected, "{class}: {text}");
        }
    }

    #[test]
    fn only_what_was_never_sent_is_unreachable() {
        let io = |kind: io::ErrorKind| Failure::Answer(HdfsError::IOError(io::Error::from(kind)));
        assert_eq!(kind(io(io::ErrorKind::ConnectionRefused)), ErrorKind::Unreachable);
        for lost in [io::ErrorKind::ConnectionAborted, io::ErrorKind::TimedOut, io::ErrorKind::UnexpectedEof] {
            assert!(!io(lost).is_refusal(), "{lost:?} proves nothing");
            assert_eq!(kind(io(lost)), ErrorKind::Temporary);
        }
        assert!(!Failure::Silence(Duration::from_secs(1)).is_refusal());
        let transfer = io(io::ErrorKind::ConnectionRefused).into_transfer_error("test", "x");
        assert_eq!(transfer.kind(), ErrorKind::Temporary, "it may have been a DataNode behind others");
    }

    #[test]
    fn an_error_is_one_line_without_javas_stack() {
        let error = rpc("java.io.FileNotFoundException", "File does not exist: /x\n\tat a.b.C(D.java:1)\n\tat e");
        let text = error.into_error("look at an object", "x").to_string();
        assert_eq!(text, "look at an object `x`: FileNotFoundException: File does not exist: /x");
    }
}
