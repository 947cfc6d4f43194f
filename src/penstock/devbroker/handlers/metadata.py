"""Metadata, versions 0 to 13.

Simplifications: a topic that the request creates is in the same answer (Kafka answers UNKNOWN_TOPIC_OR_PARTITION first
and returns it the next time); there is no authorization, so that a request for the authorized operations gets all of
them.
"""

from collections.abc import Iterable
from typing import Final

from penstock.devbroker import placement
from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.faults import Target
from penstock.devbroker.topics import NO_LEADER, Partition, Topic
from penstock.protocol.messages import index
from penstock.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from penstock.protocol.primitives import ZERO_UUID

# Bits by the number of the operation (Java's AclOperation).
ALL_CLUSTER_OPERATIONS: Final = sum(1 << operation for operation in (5, 7, 8, 9, 10, 11, 12))
ALL_TOPIC_OPERATIONS: Final = sum(1 << operation for operation in (3, 4, 5, 6, 7, 8, 10, 11))
_NOT_REQUESTED: Final = -(1 << 31)


async def handle(context: Context, request: MetadataRequest) -> MetadataResponse:
    """Return the brokers, and the leader of each partition."""
    state = context.state
    if _wants_all(context, request):
        topics = [_topic(context, topic, request) for topic in state.topics.values()]
    elif context.version < 12 and any(asked.name is None or asked.topic_id.int for asked in request.topics or ()):
        # Only later versions accept ids. Kafka refuses the whole request; older answers have no null name.
        topics = [
            MetadataResponseTopic(error_code=ErrorCode.INVALID_REQUEST, name=asked.name or "", topic_id=ZERO_UUID)
            for asked in request.topics or ()
        ]
    else:
        topics = [_asked(context, asked, request) for asked in dict.fromkeys(request.topics or ())]
    with_cluster = request.include_cluster_authorized_operations and 8 <= context.version <= 10
    return MetadataResponse(
        brokers=tuple(
            MetadataResponseBroker(node_id=node.node_id, host=node.host, port=node.port, rack=node.rack)
            for node in state.nodes.values()
            if node.alive
        ),
        cluster_id=state.cluster_id,
        controller_id=state.controller,
        topics=tuple(topics),
        cluster_authorized_operations=ALL_CLUSTER_OPERATIONS if with_cluster else _NOT_REQUESTED,
        error_code=(context.error_before() or context.error_after()) if context.version >= 13 else 0,
    )


def _wants_all(context: Context, request: MetadataRequest) -> bool:
    return request.topics is None or (context.version == 0 and not request.topics)


def _asked(context: Context, asked: MetadataRequestTopic, request: MetadataRequest) -> MetadataResponseTopic:
    name = asked.name
    if name is None:
        topic = context.state.topic_by_id(asked.topic_id)
        if topic is None:
            return MetadataResponseTopic(error_code=ErrorCode.UNKNOWN_TOPIC_ID, name=None, topic_id=asked.topic_id)
        return _topic(context, topic, request)
    try:
        return _topic(context, _find_or_create(context, name, request), request)
    except RequestError as error:
        return MetadataResponseTopic(error_code=error.code, name=name, topic_id=ZERO_UUID)


def _find_or_create(context: Context, name: str, request: MetadataRequest) -> Topic:
    topic = context.state.topics.get(name)
    if topic is not None:
        return topic
    placement.check_name(name)
    # Before version 4 a client could not choose; the broker's setting alone decided.
    wanted = request.allow_auto_topic_creation or context.version < 4
    if not (wanted and context.state.settings.auto_create_topics) or context.error_before(name):
        raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"there is no topic {name!r}")
    context.spend_partitions(context.state.settings.num_partitions)
    return context.state.create_topic(name)


def _topic(context: Context, topic: Topic, request: MetadataRequest) -> MetadataResponseTopic:
    error = context.error_before(topic.name) or context.error_after(topic.name)
    with_operations = request.include_topic_authorized_operations and context.version >= 8
    return MetadataResponseTopic(
        error_code=error,
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=() if error else tuple(_partition(context, partition) for partition in topic.partitions),
        topic_authorized_operations=ALL_TOPIC_OPERATIONS if with_operations else _NOT_REQUESTED,
    )


def _partition(context: Context, partition: Partition) -> MetadataResponsePartition:
    in_sync = context.state.in_sync(partition)
    return MetadataResponsePartition(
        error_code=ErrorCode.LEADER_NOT_AVAILABLE if partition.leader == NO_LEADER else ErrorCode.NONE,
        partition_index=partition.index,
        leader_id=partition.leader,
        leader_epoch=partition.leader_epoch,
        replica_nodes=partition.replicas,
        isr_nodes=in_sync,
        offline_replicas=tuple(node for node in partition.replicas if node not in in_sync),
    )


def _targets(context: Context, request: MetadataRequest) -> Iterable[Target]:
    if _wants_all(context, request):
        return [(name, -1) for name in context.state.topics]
    return [(topic.name or context.topic_name(topic.topic_id), -1) for topic in request.topics or ()]


API: Final = Handler(index.METADATA, MetadataRequest, handle, _targets)
