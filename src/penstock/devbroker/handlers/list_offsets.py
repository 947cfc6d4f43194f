"""ListOffsets, versions 1 to 11.

By time, by the special times latest (-1), earliest (-2), of the newest record (-3), earliest local (-4), latest
tiered (-5) and earliest pending upload (-6).

Simplifications: without tiered storage, -4 is the same as -2, and -5 and -6 find nothing.
"""

from collections.abc import Iterable
from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode
from penstock.devbroker.faults import Target
from penstock.devbroker.log import PartitionLog, TimedOffset
from penstock.devbroker.topics import Topic
from penstock.protocol.messages import index
from penstock.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)

LATEST, EARLIEST, NEWEST, EARLIEST_LOCAL, LATEST_TIERED, PENDING_UPLOAD = -1, -2, -3, -4, -5, -6

# The lowest version that allows each special time.
_SINCE: Final = {NEWEST: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, PENDING_UPLOAD: 11}


async def handle(context: Context, request: ListOffsetsRequest) -> ListOffsetsResponse:
    """Find offsets."""
    topics = []
    for asked in request.topics:
        topic = context.state.topics.get(asked.name)
        partitions = tuple(_partition(context, asked.name, topic, part) for part in asked.partitions)
        topics.append(ListOffsetsTopicResponse(name=asked.name, partitions=partitions))
    return ListOffsetsResponse(topics=tuple(topics))


def _partition(
    context: Context, name: str, topic: Topic | None, part: ListOffsetsPartition
) -> ListOffsetsPartitionResponse:
    number = part.partition_index
    partition = topic.partition(number) if topic else None
    error = context.error_before(name, number) or context.error_after(name, number)
    if partition is None:
        error = error or ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    elif part.timestamp < PENDING_UPLOAD or context.version < _SINCE.get(part.timestamp, 0):
        error = error or ErrorCode.UNSUPPORTED_VERSION
    else:
        error = error or context.leader_error(partition, part.current_leader_epoch)
    if error or partition is None:
        return ListOffsetsPartitionResponse(partition_index=number, error_code=error)
    found = _find(partition.log, part.timestamp, partition.leader_epoch)
    return ListOffsetsPartitionResponse(
        partition_index=number,
        timestamp=found.timestamp,
        offset=found.offset,
        leader_epoch=found.leader_epoch if context.version >= 4 else -1,
    )


def _find(log: PartitionLog, timestamp: int, leader_epoch: int) -> TimedOffset:
    if timestamp == LATEST:
        return TimedOffset(log.end_offset, -1, leader_epoch)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        return TimedOffset(log.start_offset, -1, log.epochs.at(log.start_offset))
    if timestamp == NEWEST:
        return log.newest()
    if timestamp < 0:
        return TimedOffset()
    return log.first_not_before(timestamp)


def _targets(_: Context, request: ListOffsetsRequest) -> Iterable[Target]:
    return ((topic.name, part.partition_index) for topic in request.topics for part in topic.partitions)


API: Final = Handler(index.LIST_OFFSETS, ListOffsetsRequest, handle, _targets)
