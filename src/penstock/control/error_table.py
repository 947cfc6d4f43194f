"""Every Kafka error code and what it means for a batch: the table that `delivery` decides by.

``python -m penstock.control.error_table`` prints it for DESIGN.md. Which errors are retriable, and which of these ask
for new metadata, follows the class of Java's exception for the code (`RetriableException`, `InvalidMetadataException`;
KIP-1050's categories), except where a row says otherwise. Codes that the table lacks are treated as
UNKNOWN_SERVER_ERROR, as in Java.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Outcome(Enum):
    """What an error means for a batch; the value is the explanation for people."""

    DONE = "complete"
    RETRY = "retry"
    REFRESH = "refresh metadata, retry"
    FAIL = "fail this batch"
    SPLIT = "more than one record: split and retry (KIP-126); one record, or fate unknown: fail"
    DUPLICATE = "complete without an offset: it is in the log, the broker has forgotten where"
    GAP = "behind a batch that is retried: retry as is; else a gap: new epoch and retry, or fail if its fate is unknown"
    NEW_EPOCH = "new epoch and retry, or fail if its fate is unknown"
    FATAL = "idempotent: the producer fails; otherwise this batch fails"


class Row(NamedTuple):
    """One error code."""

    code: int
    name: str
    outcome: Outcome
    remark: str = ""


ROWS: Final = (
    Row(-1, "UNKNOWN_SERVER_ERROR", Outcome.FAIL, "the broker does not know itself what happened"),
    Row(0, "NONE", Outcome.DONE, "with an offset: complete; not answered yet: retry as is"),
    Row(1, "OFFSET_OUT_OF_RANGE", Outcome.FAIL),
    Row(2, "CORRUPT_MESSAGE", Outcome.RETRY),
    Row(3, "UNKNOWN_TOPIC_OR_PARTITION", Outcome.REFRESH),
    Row(4, "INVALID_FETCH_SIZE", Outcome.FAIL),
    Row(5, "LEADER_NOT_AVAILABLE", Outcome.REFRESH),
    Row(6, "NOT_LEADER_OR_FOLLOWER", Outcome.REFRESH),
    Row(7, "REQUEST_TIMED_OUT", Outcome.RETRY),
    Row(8, "BROKER_NOT_AVAILABLE", Outcome.FAIL),
    Row(9, "REPLICA_NOT_AVAILABLE", Outcome.REFRESH),
    Row(10, "MESSAGE_TOO_LARGE", Outcome.SPLIT),
    Row(11, "STALE_CONTROLLER_EPOCH", Outcome.FAIL),
    Row(12, "OFFSET_METADATA_TOO_LARGE", Outcome.FAIL),
    Row(13, "NETWORK_EXCEPTION", Outcome.REFRESH),
    Row(14, "COORDINATOR_LOAD_IN_PROGRESS", Outcome.RETRY),
    Row(15, "COORDINATOR_NOT_AVAILABLE", Outcome.REFRESH),
    Row(16, "NOT_COORDINATOR", Outcome.REFRESH),
    Row(17, "INVALID_TOPIC_EXCEPTION", Outcome.FAIL),
    Row(18, "RECORD_LIST_TOO_LARGE", Outcome.FAIL),
    Row(19, "NOT_ENOUGH_REPLICAS", Outcome.RETRY),
    Row(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Outcome.RETRY),
    Row(21, "INVALID_REQUIRED_ACKS", Outcome.FAIL),
    Row(22, "ILLEGAL_GENERATION", Outcome.FAIL),
    Row(23, "INCONSISTENT_GROUP_PROTOCOL", Outcome.FAIL),
    Row(24, "INVALID_GROUP_ID", Outcome.FAIL),
    Row(25, "UNKNOWN_MEMBER_ID", Outcome.FAIL),
    Row(26, "INVALID_SESSION_TIMEOUT", Outcome.FAIL),
    Row(27, "REBALANCE_IN_PROGRESS", Outcome.FAIL),
    Row(28, "INVALID_COMMIT_OFFSET_SIZE", Outcome.FAIL),
    Row(29, "TOPIC_AUTHORIZATION_FAILED", Outcome.FAIL, "this topic only"),
    Row(30, "GROUP_AUTHORIZATION_FAILED", Outcome.FAIL),
    Row(31, "CLUSTER_AUTHORIZATION_FAILED", Outcome.FATAL),
    Row(32, "INVALID_TIMESTAMP", Outcome.FAIL),
    Row(33, "UNSUPPORTED_SASL_MECHANISM", Outcome.FAIL),
    Row(34, "ILLEGAL_SASL_STATE", Outcome.FAIL),
    Row(35, "UNSUPPORTED_VERSION", Outcome.FATAL),
    Row(36, "TOPIC_ALREADY_EXISTS", Outcome.FAIL),
    Row(37, "INVALID_PARTITIONS", Outcome.FAIL),
    Row(38, "INVALID_REPLICATION_FACTOR", Outcome.FAIL),
    Row(39, "INVALID_REPLICA_ASSIGNMENT", Outcome.FAIL),
    Row(40, "INVALID_CONFIG", Outcome.FAIL),
    Row(41, "NOT_CONTROLLER", Outcome.RETRY),
    Row(42, "INVALID_REQUEST", Outcome.FAIL),
    Row(43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", Outcome.FAIL),
    Row(44, "POLICY_VIOLATION", Outcome.FAIL),
    Row(45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Outcome.GAP),
    Row(46, "DUPLICATE_SEQUENCE_NUMBER", Outcome.DUPLICATE),
    Row(47, "INVALID_PRODUCER_EPOCH", Outcome.NEW_EPOCH, "Java fails the batch, and then bumps"),
    Row(48, "INVALID_TXN_STATE", Outcome.FAIL),
    Row(49, "INVALID_PRODUCER_ID_MAPPING", Outcome.FATAL, "the broker does not know this producer id"),
    Row(50, "INVALID_TRANSACTION_TIMEOUT", Outcome.FAIL),
    Row(51, "CONCURRENT_TRANSACTIONS", Outcome.RETRY),
    Row(52, "TRANSACTION_COORDINATOR_FENCED", Outcome.FAIL),
    Row(53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED", Outcome.FATAL),
    Row(54, "SECURITY_DISABLED", Outcome.FAIL),
    Row(55, "OPERATION_NOT_ATTEMPTED", Outcome.FAIL),
    Row(56, "KAFKA_STORAGE_ERROR", Outcome.REFRESH),
    Row(57, "LOG_DIR_NOT_FOUND", Outcome.FAIL),
    Row(58, "SASL_AUTHENTICATION_FAILED", Outcome.FAIL),
    Row(59, "UNKNOWN_PRODUCER_ID", Outcome.NEW_EPOCH, "while the answer lacks the log start: retry as is"),
    Row(60, "REASSIGNMENT_IN_PROGRESS", Outcome.FAIL),
    Row(61, "DELEGATION_TOKEN_AUTH_DISABLED", Outcome.FAIL),
    Row(62, "DELEGATION_TOKEN_NOT_FOUND", Outcome.FAIL),
    Row(63, "DELEGATION_TOKEN_OWNER_MISMATCH", Outcome.FAIL),
    Row(64, "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED", Outcome.FAIL),
    Row(65, "DELEGATION_TOKEN_AUTHORIZATION_FAILED", Outcome.FAIL),
    Row(66, "DELEGATION_TOKEN_EXPIRED", Outcome.FAIL),
    Row(67, "INVALID_PRINCIPAL_TYPE", Outcome.FAIL),
    Row(68, "NON_EMPTY_GROUP", Outcome.FAIL),
    Row(69, "GROUP_ID_NOT_FOUND", Outcome.FAIL),
    Row(70, "FETCH_SESSION_ID_NOT_FOUND", Outcome.RETRY),
    Row(71, "INVALID_FETCH_SESSION_EPOCH", Outcome.RETRY),
    Row(72, "LISTENER_NOT_FOUND", Outcome.REFRESH),
    Row(73, "TOPIC_DELETION_DISABLED", Outcome.FAIL),
    Row(74, "FENCED_LEADER_EPOCH", Outcome.REFRESH),
    Row(75, "UNKNOWN_LEADER_EPOCH", Outcome.REFRESH),
    Row(76, "UNSUPPORTED_COMPRESSION_TYPE", Outcome.FAIL),
    Row(77, "STALE_BROKER_EPOCH", Outcome.FAIL),
    Row(78, "OFFSET_NOT_AVAILABLE", Outcome.RETRY),
    Row(79, "MEMBER_ID_REQUIRED", Outcome.FAIL),
    Row(80, "PREFERRED_LEADER_NOT_AVAILABLE", Outcome.REFRESH),
    Row(81, "GROUP_MAX_SIZE_REACHED", Outcome.FAIL),
    Row(82, "FENCED_INSTANCE_ID", Outcome.FAIL),
    Row(83, "ELIGIBLE_LEADERS_NOT_AVAILABLE", Outcome.REFRESH),
    Row(84, "ELECTION_NOT_NEEDED", Outcome.REFRESH),
    Row(85, "NO_REASSIGNMENT_IN_PROGRESS", Outcome.FAIL),
    Row(86, "GROUP_SUBSCRIBED_TO_TOPIC", Outcome.FAIL),
    Row(87, "INVALID_RECORD", Outcome.FAIL, "the answer names the records that are bad (KIP-467)"),
    Row(88, "UNSTABLE_OFFSET_COMMIT", Outcome.RETRY),
    Row(89, "THROTTLING_QUOTA_EXCEEDED", Outcome.RETRY),
    Row(90, "PRODUCER_FENCED", Outcome.FATAL, "another producer has taken over"),
    Row(91, "RESOURCE_NOT_FOUND", Outcome.FAIL),
    Row(92, "DUPLICATE_RESOURCE", Outcome.FAIL),
    Row(93, "UNACCEPTABLE_CREDENTIAL", Outcome.FAIL),
    Row(94, "INCONSISTENT_VOTER_SET", Outcome.FAIL),
    Row(95, "INVALID_UPDATE_VERSION", Outcome.FAIL),
    Row(96, "FEATURE_UPDATE_FAILED", Outcome.FAIL),
    Row(97, "PRINCIPAL_DESERIALIZATION_FAILURE", Outcome.FAIL),
    Row(98, "SNAPSHOT_NOT_FOUND", Outcome.FAIL),
    Row(99, "POSITION_OUT_OF_RANGE", Outcome.FAIL),
    Row(100, "UNKNOWN_TOPIC_ID", Outcome.REFRESH),
    Row(101, "DUPLICATE_BROKER_REGISTRATION", Outcome.FAIL),
    Row(102, "BROKER_ID_NOT_REGISTERED", Outcome.FAIL),
    Row(103, "INCONSISTENT_TOPIC_ID", Outcome.REFRESH),
    Row(104, "INCONSISTENT_CLUSTER_ID", Outcome.FAIL),
    Row(105, "TRANSACTIONAL_ID_NOT_FOUND", Outcome.FAIL),
    Row(106, "FETCH_SESSION_TOPIC_ID_ERROR", Outcome.RETRY),
    Row(107, "INELIGIBLE_REPLICA", Outcome.FAIL),
    Row(108, "NEW_LEADER_ELECTED", Outcome.FAIL),
    Row(109, "OFFSET_MOVED_TO_TIERED_STORAGE", Outcome.FAIL),
    Row(110, "FENCED_MEMBER_EPOCH", Outcome.FAIL),
    Row(111, "UNRELEASED_INSTANCE_ID", Outcome.FAIL),
    Row(112, "UNSUPPORTED_ASSIGNOR", Outcome.FAIL),
    Row(113, "STALE_MEMBER_EPOCH", Outcome.FAIL),
    Row(114, "MISMATCHED_ENDPOINT_TYPE", Outcome.FAIL),
    Row(115, "UNSUPPORTED_ENDPOINT_TYPE", Outcome.FAIL),
    Row(116, "UNKNOWN_CONTROLLER_ID", Outcome.FAIL),
    Row(117, "UNKNOWN_SUBSCRIPTION_ID", Outcome.FAIL),
    Row(118, "TELEMETRY_TOO_LARGE", Outcome.FAIL),
    Row(119, "INVALID_REGISTRATION", Outcome.FAIL),
    Row(120, "TRANSACTION_ABORTABLE", Outcome.FAIL),
    Row(121, "INVALID_RECORD_STATE", Outcome.FAIL),
    Row(122, "SHARE_SESSION_NOT_FOUND", Outcome.RETRY),
    Row(123, "INVALID_SHARE_SESSION_EPOCH", Outcome.RETRY),
    Row(124, "FENCED_STATE_EPOCH", Outcome.FAIL),
    Row(125, "INVALID_VOTER_KEY", Outcome.FAIL),
    Row(126, "DUPLICATE_VOTER", Outcome.FAIL),
    Row(127, "VOTER_NOT_FOUND", Outcome.FAIL),
    Row(128, "INVALID_REGULAR_EXPRESSION", Outcome.FAIL),
    Row(129, "REBOOTSTRAP_REQUIRED", Outcome.FAIL),
    Row(130, "STREAMS_INVALID_TOPOLOGY", Outcome.FAIL),
    Row(131, "STREAMS_INVALID_TOPOLOGY_EPOCH", Outcome.FAIL),
    Row(132, "STREAMS_TOPOLOGY_FENCED", Outcome.FAIL),
    Row(133, "SHARE_SESSION_LIMIT_REACHED", Outcome.RETRY),
    Row(134, "GROUP_DELETION_FAILED", Outcome.FAIL),
    Row(135, "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED", Outcome.FAIL),
    Row(136, "CONTROLLER_ID_NOT_REGISTERED", Outcome.FAIL),
)

_BY_CODE: Final = {row.code: row for row in ROWS}


def row(code: int) -> Row:
    """The row of a code; that of UNKNOWN_SERVER_ERROR for one that does not exist."""
    return _BY_CODE.get(code) or _BY_CODE[-1]


def error_name(code: int) -> str:
    """Kafka's name of a code, for people."""
    known = _BY_CODE.get(code)
    return known.name if known else f"error code {code}"


def is_retriable(code: int) -> bool:
    """Whether the same request may succeed later."""
    return row(code).outcome in (Outcome.RETRY, Outcome.REFRESH)


def is_stale_metadata(code: int) -> bool:
    """Whether the error says that what we know of leaders and topics is out of date."""
    return row(code).outcome is Outcome.REFRESH


def markdown() -> str:
    """The table in Markdown, codes with equal treatment and no remark together on one line."""
    lines = ["| what happens | codes |", "|---|---|"]
    for outcome in Outcome:
        rows = [each for each in ROWS if each.outcome is outcome]
        names = [f"{each.code} {each.name}" + (f" ({each.remark})" if each.remark else "") for each in rows]
        lines.append(f"| {outcome.value} | {', '.join(names)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown())
