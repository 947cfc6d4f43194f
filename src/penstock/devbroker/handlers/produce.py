"""Produce, versions 3 to 13: topic ids instead of names from 13, the leader's address after an error from 10.

acks=0 gets no answer; an error closes the connection, because there is no other way to report it. acks=1 and acks=all
are the same here: all replicas share one log. acks=all needs min.insync.replicas running nodes. ApiVersions announces
versions 0 to 13, as Kafka does.

Simplifications: only a batch's header and checksum are checked (see `penstock.devbroker.validation`), so compressed
batches are stored unchanged; batches of transactions are refused; the timeout is ignored, since nothing is waited for.
"""

from collections.abc import Iterable
from typing import Final

from penstock.devbroker.context import CloseConnection, Context, Handler, now_ms
from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.faults import Target
from penstock.devbroker.log import Appended
from penstock.devbroker.topics import NO_LEADER, Topic
from penstock.devbroker.validation import check_batch, single_batch
from penstock.protocol.message import replace
from penstock.protocol.messages import index
from penstock.protocol.messages.produce import (
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)

_IDS_FROM: Final = 13
_LEADER_FROM: Final = 10
_ACKS: Final = (-1, 0, 1)


async def handle(context: Context, request: ProduceRequest) -> ProduceResponse | None:
    """Append the batches, each independently: a refused batch does not affect the others."""
    topics = tuple(_topic(context, topic, request) for topic in request.topic_data)
    if request.acks == 0:
        failed = next((part for topic in topics for part in topic.partition_responses if part.error_code), None)
        if failed is not None:
            reason = f"error {failed.error_code} for partition {failed.index}: {failed.error_message}"
            raise CloseConnection(f"a produce request with acks=0 failed, {reason}")
        return None
    return ProduceResponse(responses=topics, node_endpoints=_endpoints(context, topics))


def _topic(context: Context, data: TopicProduceData, request: ProduceRequest) -> TopicProduceResponse:
    topic = context.find_topic(data.name, data.topic_id, by_id=context.version >= _IDS_FROM)
    return TopicProduceResponse(
        name=data.name,
        topic_id=data.topic_id,
        partition_responses=tuple(_partition(context, topic, part, request.acks) for part in data.partition_data),
    )


def _partition(
    context: Context, topic: Topic | None, data: PartitionProduceData, acks: int
) -> PartitionProduceResponse:
    name = topic.name if topic else ""
    injected = context.error_before(name, data.index)
    if injected:
        return _failed(context, topic, data.index, injected, "a scripted fault")
    try:
        appended, start_offset = _append(context, topic, data, acks)
    except RequestError as error:
        return _failed(context, topic, data.index, error.code, error.message)
    except OSError as error:
        return _failed(context, topic, data.index, ErrorCode.KAFKA_STORAGE_ERROR, str(error))
    response = PartitionProduceResponse(
        index=data.index,
        base_offset=appended.base_offset,
        log_append_time_ms=appended.append_time,
        log_start_offset=start_offset,
    )
    injected = context.error_after(name, data.index)
    if injected:
        # Kafka's delayed produce puts the error into an answer that is ready: the offsets stay in it.
        message = "a scripted fault, after the append"
        leader = _failed(context, topic, data.index, injected, message).current_leader
        return replace(response, error_code=injected, error_message=message, current_leader=leader)
    return response


def _append(context: Context, topic: Topic | None, data: PartitionProduceData, acks: int) -> tuple[Appended, int]:
    # In Kafka's order: clients can see which of several errors is reported.
    if topic is None:
        by_id = context.version >= _IDS_FROM
        code = ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        raise RequestError(code, "there is no such topic")
    partition = topic.partition(data.index)
    if partition is None:
        raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, f"{topic.name} has no partition {data.index}")
    header, batch = single_batch(data.records, context.version)
    if acks not in _ACKS:
        raise RequestError(ErrorCode.INVALID_REQUIRED_ACKS, f"acks can be 0, 1 or -1, not {acks}")
    if partition.leader != context.node.node_id:
        raise RequestError(ErrorCode.NOT_LEADER_OR_FOLLOWER, f"node {context.node.node_id} is not the leader")
    # Never more than the number of replicas: a topic with fewer replicas stays writable (Kafka's effectiveMinIsr).
    needed = min(topic.settings.min_insync_replicas, len(partition.replicas))
    if acks == -1 and len(context.state.in_sync(partition)) < needed:
        raise RequestError(ErrorCode.NOT_ENOUGH_REPLICAS, f"fewer than {needed} replicas are in sync")
    now = now_ms()
    check_batch(header, batch, topic.settings, now)
    appended = partition.log.append(header, batch, partition.leader_epoch, now)
    partition.wake()
    return appended, partition.log.start_offset


def _failed(context: Context, topic: Topic | None, number: int, code: int, message: str) -> PartitionProduceResponse:
    leader = LeaderIdAndEpoch()
    partition = topic.partition(number) if topic else None
    if code == ErrorCode.NOT_LEADER_OR_FOLLOWER and partition is not None and context.version >= _LEADER_FROM:
        leader = LeaderIdAndEpoch(leader_id=partition.leader, leader_epoch=partition.leader_epoch)
    return PartitionProduceResponse(
        index=number, error_code=code, base_offset=-1, error_message=message, current_leader=leader
    )


def _endpoints(context: Context, topics: Iterable[TopicProduceResponse]) -> tuple[NodeEndpoint, ...]:
    """The addresses of the leaders in the answer (KIP-951)."""
    leaders = {part.current_leader.leader_id for topic in topics for part in topic.partition_responses}
    nodes = [context.state.nodes[leader] for leader in sorted(leaders - {NO_LEADER})]
    return tuple(NodeEndpoint(node_id=node.node_id, host=node.host, port=node.port, rack=node.rack) for node in nodes)


def _targets(context: Context, request: ProduceRequest) -> Iterable[Target]:
    for topic in request.topic_data:
        name = topic.name or context.topic_name(topic.topic_id)
        yield from ((name, part.index) for part in topic.partition_data)


# Kafka announces versions that it no longer accepts: old librdkafka does not work if they are missing.
API: Final = Handler(index.PRODUCE, ProduceRequest, handle, _targets, announced_min_version=0)
