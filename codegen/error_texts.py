"""The text of each of Kafka's error codes, written by hand: one sentence, and a hint if there is general advice.

`python -m codegen.errors` puts them into `src/penstock/errors/codes.py`: the sentence is the docstring of the class, and
the message if the broker sent none; the hint ends the text of the error. The texts are ours, not Kafka's.
"""

from typing import Final, NamedTuple


class Text(NamedTuple):
    """A description of the failure, and the advice."""

    summary: str
    hint: str = ""


TEXTS: Final = {
    "UNKNOWN_SERVER_ERROR": Text("The broker failed with an unexpected error.", "Check the broker's log."),
    "OFFSET_OUT_OF_RANGE": Text("The offset is outside of the partition's log."),
    "CORRUPT_MESSAGE": Text(
        "The bytes arrived damaged: the checksum, the size or the content of a batch is wrong.",
        "If it persists, look for faulty memory or network hardware between here and the broker.",
    ),
    "UNKNOWN_TOPIC_OR_PARTITION": Text(
        "The broker does not host this topic or partition.",
        "Check the topic's name and that it was created, or whether it was deleted.",
    ),
    "INVALID_FETCH_SIZE": Text("The size to fetch is out of range."),
    "LEADER_NOT_AVAILABLE": Text(
        "The partition has no leader at the moment.",
        "If it persists, check that enough brokers are up (unclean.leader.election.enable decides about lost ones).",
    ),
    "NOT_LEADER_OR_FOLLOWER": Text("The broker is not the partition's leader any more."),
    "BROKER_NOT_AVAILABLE": Text("The broker is not available.", "Check that the brokers are up."),
    "REPLICA_NOT_AVAILABLE": Text("The requested replica is not available."),
    "MESSAGE_TOO_LARGE": Text(
        "The record, or the batch around it, is larger than allowed.",
        "Send smaller records, or raise max.request.size here and message.max.bytes (max.message.bytes of the topic) "
        "on the broker.",
    ),
    "STALE_CONTROLLER_EPOCH": Text("The request came from a controller that has been replaced."),
    "OFFSET_METADATA_TOO_LARGE": Text("The metadata committed with an offset is too large."),
    "NETWORK_EXCEPTION": Text(
        "The connection was lost before the answer arrived.", "Check the network and that the broker is up."
    ),
    "COORDINATOR_LOAD_IN_PROGRESS": Text("The coordinator is still reading its log."),
    "COORDINATOR_NOT_AVAILABLE": Text(
        "The coordinator is not available yet.",
        "If it persists, check that the internal topics (__transaction_state, __consumer_offsets) can be created and have leaders.",
    ),
    "NOT_COORDINATOR": Text("The broker is not the coordinator any more."),
    "INVALID_TOPIC_EXCEPTION": Text(
        "The topic's name is illegal, or the topic must not be written to.",
        "A name has 1 to 249 characters out of a-z, A-Z, 0-9, '.', '_' and '-', and is neither '.' nor '..'; "
        "internal topics are not written to.",
    ),
    "RECORD_LIST_TOO_LARGE": Text(
        "The batch is larger than a segment of the partition's log.",
        "Lower batch.size and max.request.size, or raise segment.bytes of the topic.",
    ),
    "NOT_ENOUGH_REPLICAS": Text(
        "Fewer replicas are in sync than the topic requires; nothing was appended.",
        "Bring the missing brokers back, or lower min.insync.replicas of the topic.",
    ),
    "NOT_ENOUGH_REPLICAS_AFTER_APPEND": Text(
        "The record was appended, then fewer replicas were in sync than the topic requires.",
        "Bring the missing brokers back, or lower min.insync.replicas of the topic.",
    ),
    "INVALID_REQUIRED_ACKS": Text("The broker does not know this value of acks.", "Set acks to all, 1 or 0."),
    "ILLEGAL_GENERATION": Text("The generation of the consumer group is not the current one."),
    "INCONSISTENT_GROUP_PROTOCOL": Text("The member's protocols fit none of the group's."),
    "INVALID_GROUP_ID": Text("The group id is illegal."),
    "UNKNOWN_MEMBER_ID": Text("The coordinator does not know this member."),
    "INVALID_SESSION_TIMEOUT": Text("The session timeout is out of the broker's range."),
    "REBALANCE_IN_PROGRESS": Text("The group is rebalancing."),
    "INVALID_COMMIT_OFFSET_SIZE": Text("The offset commit is too large."),
    "TOPIC_AUTHORIZATION_FAILED": Text(
        "The principal may not do this with the topic.", "Grant WRITE and DESCRIBE on the topic to this principal."
    ),
    "GROUP_AUTHORIZATION_FAILED": Text(
        "The principal may not do this with the group.", "Grant READ on the group to this principal."
    ),
    "CLUSTER_AUTHORIZATION_FAILED": Text(
        "The principal may not do this with the cluster.",
        "For an idempotent producer on a broker before 2.8, grant IDEMPOTENT_WRITE on the cluster to this principal.",
    ),
    "INVALID_TIMESTAMP": Text(
        "The record's timestamp is out of the topic's range.",
        "Check the timestamp's unit (milliseconds) and the clock; message.timestamp.before.max.ms and "
        "message.timestamp.after.max.ms of the topic bound it.",
    ),
    "UNSUPPORTED_SASL_MECHANISM": Text(
        "The broker does not offer this SASL mechanism.",
        "Set sasl.mechanism to one of the broker's sasl.enabled.mechanisms.",
    ),
    "ILLEGAL_SASL_STATE": Text(
        "The request does not fit the state of the SASL exchange.",
        "Check that security.protocol fits the listener of the port in bootstrap.servers.",
    ),
    "UNSUPPORTED_VERSION": Text(
        "The broker does not support this version of the request.",
        "Check the broker's version; Penstock needs 2.1 or newer.",
    ),
    "TOPIC_ALREADY_EXISTS": Text("The topic exists already."),
    "INVALID_PARTITIONS": Text("The number of partitions is invalid."),
    "INVALID_REPLICATION_FACTOR": Text("The replication factor is below 1 or above the number of brokers."),
    "INVALID_REPLICA_ASSIGNMENT": Text("The assignment of replicas is invalid."),
    "NOT_CONTROLLER": Text("The broker is not the controller."),
    "INVALID_REQUEST": Text(
        "The broker could not interpret the request.",
        "Check the broker's log; with a current broker this is a defect in Penstock.",
    ),
    "UNSUPPORTED_FOR_MESSAGE_FORMAT": Text("The topic's message format is too old for this request."),
    "POLICY_VIOLATION": Text("The request violates a policy of the cluster."),
    "OUT_OF_ORDER_SEQUENCE_NUMBER": Text(
        "The sequence number does not follow the last one that the broker has seen from this producer."
    ),
    "DUPLICATE_SEQUENCE_NUMBER": Text("The broker has this sequence number already."),
    "INVALID_PRODUCER_EPOCH": Text("The producer's epoch is older than the broker's."),
    "INVALID_TXN_STATE": Text("The transaction is in a state that does not allow this."),
    "INVALID_PRODUCER_ID_MAPPING": Text("The producer id does not belong to this transactional id (any more)."),
    "INVALID_TRANSACTION_TIMEOUT": Text(
        "The transaction timeout is longer than the broker allows.",
        "Lower transaction.timeout.ms, or raise transaction.max.timeout.ms on the broker.",
    ),
    "CONCURRENT_TRANSACTIONS": Text("Another operation of the same transaction is still in progress."),
    "TRANSACTION_COORDINATOR_FENCED": Text("The transaction coordinator has been replaced."),
    "TRANSACTIONAL_ID_AUTHORIZATION_FAILED": Text(
        "The principal may not use this transactional id.",
        "Grant WRITE and DESCRIBE on the transactional id to this principal.",
    ),
    "SECURITY_DISABLED": Text("Security is disabled on the broker."),
    "OPERATION_NOT_ATTEMPTED": Text(
        "The broker did not attempt this operation because another one of the request had failed."
    ),
    "KAFKA_STORAGE_ERROR": Text(
        "The broker could not write to or read from its disk.", "Check the broker's log and its disks."
    ),
    "LOG_DIR_NOT_FOUND": Text("The broker does not have this log directory."),
    "SASL_AUTHENTICATION_FAILED": Text(
        "The broker did not accept the credentials.", "Check the user, the password or the token, and sasl.mechanism."
    ),
    "UNKNOWN_PRODUCER_ID": Text(
        "The broker has nothing recorded for this producer id, as after retention deleted its records."
    ),
    "REASSIGNMENT_IN_PROGRESS": Text("A reassignment of the partition is in progress."),
    "DELEGATION_TOKEN_AUTH_DISABLED": Text("Delegation tokens are disabled on the broker."),
    "DELEGATION_TOKEN_NOT_FOUND": Text("The broker does not have this delegation token."),
    "DELEGATION_TOKEN_OWNER_MISMATCH": Text("The delegation token belongs to another principal."),
    "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED": Text(
        "A connection authenticated like this may not request delegation tokens."
    ),
    "DELEGATION_TOKEN_AUTHORIZATION_FAILED": Text("The principal may not do this with the delegation token."),
    "DELEGATION_TOKEN_EXPIRED": Text("The delegation token has expired."),
    "INVALID_PRINCIPAL_TYPE": Text("The principal's type is not supported."),
    "NON_EMPTY_GROUP": Text("The group still has members."),
    "GROUP_ID_NOT_FOUND": Text("The group does not exist."),
    "FETCH_SESSION_ID_NOT_FOUND": Text("The broker does not have this fetch session."),
    "INVALID_FETCH_SESSION_EPOCH": Text("The epoch of the fetch session is not the expected one."),
    "LISTENER_NOT_FOUND": Text(
        "The leader does not have the listener of the request.",
        "Check that every broker has the listener of bootstrap.servers.",
    ),
    "TOPIC_DELETION_DISABLED": Text("The broker does not delete topics.", "Set delete.topic.enable on the broker."),
    "FENCED_LEADER_EPOCH": Text("The leader epoch of the request is older than the broker's."),
    "UNKNOWN_LEADER_EPOCH": Text("The leader epoch of the request is newer than the broker's."),
    "UNSUPPORTED_COMPRESSION_TYPE": Text(
        "The broker or the topic does not take this compression.",
        "Choose another compression.type; zstd needs a broker of 2.1 or newer.",
    ),
    "STALE_BROKER_EPOCH": Text("The epoch of the broker is not the current one."),
    "OFFSET_NOT_AVAILABLE": Text("The leader does not have its newest offset yet."),
    "MEMBER_ID_REQUIRED": Text("The group requires a member id before joining."),
    "PREFERRED_LEADER_NOT_AVAILABLE": Text("The preferred leader is not available."),
    "GROUP_MAX_SIZE_REACHED": Text("The group has as many members as it may have."),
    "FENCED_INSTANCE_ID": Text("Another client has taken this static member's or producer's place."),
    "ELIGIBLE_LEADERS_NOT_AVAILABLE": Text("No replica is eligible to lead."),
    "ELECTION_NOT_NEEDED": Text("The partition needs no election."),
    "NO_REASSIGNMENT_IN_PROGRESS": Text("No reassignment is in progress."),
    "GROUP_SUBSCRIBED_TO_TOPIC": Text("The group is subscribed to the topic whose offsets should be deleted."),
    "INVALID_RECORD": Text(
        "The broker found the record, or another one of its batch, invalid.",
        "A compacted topic refuses records without a key; otherwise see the broker's message.",
    ),
    "UNSTABLE_OFFSET_COMMIT": Text("Offsets of an unfinished transaction are pending."),
    "THROTTLING_QUOTA_EXCEEDED": Text("The quota was exceeded.", "Send less, or raise the client's quota."),
    "PRODUCER_FENCED": Text(
        "A newer producer with the same id has taken over.",
        "Close this producer and create a new one. With a transactional.id, run one producer per id.",
    ),
    "RESOURCE_NOT_FOUND": Text("The resource does not exist."),
    "DUPLICATE_RESOURCE": Text("The request names a resource twice."),
    "UNACCEPTABLE_CREDENTIAL": Text("The credential is not acceptable."),
    "INCONSISTENT_VOTER_SET": Text("The set of voters differs between the nodes."),
    "INVALID_UPDATE_VERSION": Text("The version to update to is invalid."),
    "FEATURE_UPDATE_FAILED": Text("The feature could not be updated."),
    "PRINCIPAL_DESERIALIZATION_FAILURE": Text("The broker could not read the forwarded principal."),
    "SNAPSHOT_NOT_FOUND": Text("The snapshot does not exist."),
    "POSITION_OUT_OF_RANGE": Text("The position lies outside of the snapshot."),
    "UNKNOWN_TOPIC_ID": Text(
        "The broker does not know this topic id.", "The topic may have been deleted and created again."
    ),
    "DUPLICATE_BROKER_REGISTRATION": Text("Another broker has registered with this id."),
    "BROKER_ID_NOT_REGISTERED": Text("No broker has registered with this id."),
    "INCONSISTENT_TOPIC_ID": Text(
        "The topic's id in the log differs from the one in the request.",
        "The topic may have been deleted and created again.",
    ),
    "INCONSISTENT_CLUSTER_ID": Text("The broker belongs to another cluster than the request."),
    "TRANSACTIONAL_ID_NOT_FOUND": Text("The transactional id does not exist."),
    "FETCH_SESSION_TOPIC_ID_ERROR": Text("The fetch session does not use topic ids in the same way."),
    "INELIGIBLE_REPLICA": Text("The new replica is not eligible to be in sync."),
    "NEW_LEADER_ELECTED": Text("The alteration of partitions succeeded and made another broker the leader."),
    "OFFSET_MOVED_TO_TIERED_STORAGE": Text("The offset has moved to tiered storage."),
    "FENCED_MEMBER_EPOCH": Text("The member's epoch is fenced."),
    "UNRELEASED_INSTANCE_ID": Text("Another member still holds this instance id."),
    "UNSUPPORTED_ASSIGNOR": Text("The group's assignor is not supported."),
    "STALE_MEMBER_EPOCH": Text("The member's epoch is stale."),
    "MISMATCHED_ENDPOINT_TYPE": Text(
        "The request went to an endpoint of the wrong kind (broker or controller).",
        "Point bootstrap.servers at brokers, not at controllers.",
    ),
    "UNSUPPORTED_ENDPOINT_TYPE": Text("The broker does not know this kind of endpoint."),
    "UNKNOWN_CONTROLLER_ID": Text("The controller's id is not known."),
    "UNKNOWN_SUBSCRIPTION_ID": Text("The telemetry subscription is not the current one."),
    "TELEMETRY_TOO_LARGE": Text("The telemetry is larger than the broker takes."),
    "INVALID_REGISTRATION": Text("The controller found the registration invalid."),
    "TRANSACTION_ABORTABLE": Text(
        "The transaction has to be aborted; the producer can continue with a new one.",
        "Abort the transaction and begin a new one.",
    ),
    "INVALID_RECORD_STATE": Text("The state of the record does not allow this."),
    "SHARE_SESSION_NOT_FOUND": Text("The broker does not have this share session."),
    "INVALID_SHARE_SESSION_EPOCH": Text("The epoch of the share session is invalid."),
    "FENCED_STATE_EPOCH": Text("The epoch of the share state is fenced."),
    "INVALID_VOTER_KEY": Text("The voter's key does not match."),
    "DUPLICATE_VOTER": Text("The voter is in the set already."),
    "VOTER_NOT_FOUND": Text("The voter is not in the set."),
    "INVALID_REGULAR_EXPRESSION": Text("The regular expression is invalid."),
    "REBOOTSTRAP_REQUIRED": Text("The client should bootstrap again, from bootstrap.servers."),
    "STREAMS_INVALID_TOPOLOGY": Text("The topology of the streams application is invalid."),
    "STREAMS_INVALID_TOPOLOGY_EPOCH": Text("The epoch of the streams topology is invalid."),
    "STREAMS_TOPOLOGY_FENCED": Text("The epoch of the streams topology is outdated."),
    "SHARE_SESSION_LIMIT_REACHED": Text("The broker has as many share sessions as it may have."),
    "GROUP_DELETION_FAILED": Text("The group could not be deleted."),
    "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED": Text("The description of the streams topology could not be updated."),
    "CONTROLLER_ID_NOT_REGISTERED": Text("No controller has registered with this id."),
}
"""Kafka's name of the code → its text, in the order of the codes."""
