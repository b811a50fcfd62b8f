//! Kafka's errors as icecore's.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::error::{Error, ErrorKind};

/// The same failure as an error of this crate.
pub(super) fn failed(operation: &'static str, error: KafkaError) -> Error {
    let kind = match &error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => ErrorKind::InvalidInput,
        other => other.rdkafka_error_code().map_or(ErrorKind::Io, kind_of),
    };
    let failure = Error::new(kind, operation, error.to_string()).with_source(error);
    match kind {
        ErrorKind::Fenced => failure.with_advice("another run of the job has taken over; this one has to end"),
        ErrorKind::PermissionDenied => failure.with_advice("look at the cluster's ACLs, and at the credentials given"),
        _ => failure,
    }
}

/// What kind of failure a code is.
pub(super) fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::InvalidProducerIdMapping => {
            ErrorKind::Fenced
        }
        Code::UnknownTopic
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId
        | Code::UnknownPartition
        | Code::OffsetOutOfRange
        | Code::AutoOffsetReset
        | Code::LogTruncation => ErrorKind::NotFound,
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => ErrorKind::PermissionDenied,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => ErrorKind::LimitExceeded,
        Code::InvalidTopic
        | Code::InvalidConfig
        | Code::InvalidArgument
        | Code::InvalidTransactionTimeout
        | Code::InvalidGroupId
        | Code::InvalidTimestamp
        | Code::InvalidRecord => ErrorKind::InvalidInput,
        Code::BadMessage | Code::BadCompression | Code::InvalidMessage => ErrorKind::Corrupt,
        Code::UnsupportedFeature
        | Code::UnsupportedVersion
        | Code::NotImplemented
        | Code::UnsupportedCompressionType
        | Code::UnsupportedForMessageFormat => ErrorKind::Unsupported,
        Code::Resolve | Code::AllBrokersDown => ErrorKind::Unreachable,
        Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::MessageTimedOut
        | Code::RequestTimedOut
        | Code::NetworkException
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::BrokerNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::WaitingForCoordinator
        | Code::ConcurrentTransactions
        | Code::UnstableOffsetCommit
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::Retry => ErrorKind::Temporary,
        _ => ErrorKind::Io,
    }
}

/// Whether the same failure would come again, however often it is tried.
pub(super) fn is_permanent(kind: ErrorKind) -> bool {
    use ErrorKind::{Corrupt, Fenced, InvalidInput, LimitExceeded, NotFound, PermissionDenied, Unsupported};
    matches!(kind, Corrupt | Fenced | InvalidInput | LimitExceeded | NotFound | PermissionDenied | Unsupported)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fenced_producer_is_told_apart_from_one_that_may_try_again() {
        for code in [Code::Fenced, Code::ProducerFenced, Code::InvalidProducerEpoch] {
            assert_eq!(failed("commit", KafkaError::MessageProduction(code)).kind(), ErrorKind::Fenced);
        }
        let passing = failed("commit", KafkaError::Flush(Code::OperationTimedOut));
        assert!(passing.is_retryable() && !is_permanent(passing.kind()));
        assert!(is_permanent(kind_of(Code::MessageSizeTooLarge)));
    }
}
