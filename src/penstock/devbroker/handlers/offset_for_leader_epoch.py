"""OffsetForLeaderEpoch, versions 2 to 4: the end of an epoch's records, for consumers that check for truncation."""

from collections.abc import Iterable
from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode
from penstock.devbroker.faults import Target
from penstock.devbroker.topics import Topic
from penstock.protocol.messages import index
from penstock.protocol.messages.offset_for_leader_epoch import (
    EpochEndOffset,
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
)


async def handle(context: Context, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse:
    """Answer for each partition independently."""
    topics = []
    for asked in request.topics:
        topic = context.state.topics.get(asked.topic)
        partitions = tuple(_partition(context, asked.topic, topic, part) for part in asked.partitions)
        topics.append(OffsetForLeaderTopicResult(topic=asked.topic, partitions=partitions))
    return OffsetForLeaderEpochResponse(topics=tuple(topics))


def _partition(context: Context, name: str, topic: Topic | None, part: OffsetForLeaderPartition) -> EpochEndOffset:
    partition = topic.partition(part.partition) if topic else None
    error = context.error_before(name, part.partition) or context.error_after(name, part.partition)
    if partition is None:
        error = error or ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    else:
        error = error or context.leader_error(partition, part.current_leader_epoch)
    if error or partition is None:
        return EpochEndOffset(partition=part.partition, error_code=error)
    epoch, end_offset = partition.log.epochs.end_of(part.leader_epoch, partition.log.end_offset)
    return EpochEndOffset(partition=part.partition, leader_epoch=epoch, end_offset=end_offset)


def _targets(_: Context, request: OffsetForLeaderEpochRequest) -> Iterable[Target]:
    return ((topic.topic, part.partition) for topic in request.topics for part in topic.partitions)


API: Final = Handler(index.OFFSET_FOR_LEADER_EPOCH, OffsetForLeaderEpochRequest, handle, _targets)
