"""Fetch, versions 4 to 18 (topic ids instead of names from 13; the leader's address after an error from 12 and 16).

Answers when min_bytes are available, after an error, or after max_wait_ms; other connections are served meanwhile.
The first batch of the answer is whole, however large it is, and so are all others.

Simplifications: no sessions (each answer has session id 0, so clients send all partitions each time); no followers,
rack-aware reading or aborted transactions; read_committed reads as read_uncommitted does; logs never diverge.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode
from penstock.devbroker.faults import Target
from penstock.devbroker.topics import NO_LEADER, Partition
from penstock.protocol.messages import index
from penstock.protocol.messages.fetch import (
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)

MAX_ANSWER_BYTES: Final = 55 * 1024 * 1024
"""Kafka's fetch.max.bytes: the memory limit of one answer, also if the client requests more."""

_IDS_FROM: Final = 13
_LEADER_FROM: Final = 12
_ENDPOINTS_FROM: Final = 16
_READ_COMMITTED: Final = 1


@dataclass(slots=True)
class _Attempt:
    """One read of all partitions of a request."""

    topics: list[FetchableTopicResponse]
    left: int
    size: int = 0
    failed: bool = False

    def result(self, context: Context) -> FetchResponse:
        return FetchResponse(responses=tuple(self.topics), node_endpoints=_endpoints(context, self.topics))


async def handle(context: Context, request: FetchRequest) -> FetchResponse:
    """Read, and wait for more records if there are too few."""
    if request.session_id != 0 and request.session_epoch > 0:
        return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    attempt = _read_all(context, request)
    if attempt.failed or attempt.size >= request.min_bytes or request.max_wait_ms <= 0 or not request.topics:
        return attempt.result(context)
    return (await _wait(context, request, attempt)).result(context)


async def _wait(context: Context, request: FetchRequest, attempt: _Attempt) -> _Attempt:
    """Read again whenever a partition changes, until there are enough bytes or the time is over."""
    changed = asyncio.Event()
    partitions = [part for part in (_find(context, *where)[0] for where in _asked(context, request)) if part]
    for partition in partitions:
        partition.waiters.add(changed)
    try:
        async with asyncio.timeout(request.max_wait_ms / 1000):
            while not attempt.failed and attempt.size < request.min_bytes:
                changed.clear()
                await changed.wait()
                attempt = _read_all(context, request)
    except TimeoutError:
        pass  # the records that are available, even if there are none
    finally:
        for partition in partitions:
            partition.waiters.discard(changed)
    return attempt


def _asked(context: Context, request: FetchRequest) -> Iterable[tuple[FetchTopic, FetchPartition]]:
    for topic in request.topics:
        for part in topic.partitions:
            yield topic, part


def _read_all(context: Context, request: FetchRequest) -> _Attempt:
    attempt = _Attempt([], min(request.max_bytes, MAX_ANSWER_BYTES))
    for topic in request.topics:
        partitions = tuple(_read(context, request, topic, part, attempt) for part in topic.partitions)
        attempt.topics.append(FetchableTopicResponse(topic=topic.topic, topic_id=topic.topic_id, partitions=partitions))
    return attempt


def _find(context: Context, topic: FetchTopic, part: FetchPartition) -> tuple[Partition | None, ErrorCode]:
    by_id = context.version >= _IDS_FROM
    known = context.find_topic(topic.topic, topic.topic_id, by_id=by_id)
    if known is None:
        return None, ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    partition = known.partition(part.partition)
    return partition, ErrorCode.NONE if partition is not None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def _read(
    context: Context, request: FetchRequest, topic: FetchTopic, part: FetchPartition, attempt: _Attempt
) -> PartitionData:
    partition, code = _find(context, topic, part)
    if partition is None:
        return _failed(context, attempt, part, code, None)
    name = partition.topic
    error = context.error_before(name, part.partition) or context.error_after(name, part.partition)
    error = error or context.leader_error(partition, part.current_leader_epoch)
    if error:
        return _failed(context, attempt, part, error, partition)
    log = partition.log
    if not log.start_offset <= part.fetch_offset <= log.end_offset:
        return _failed(context, attempt, part, ErrorCode.OFFSET_OUT_OF_RANGE, partition)
    limit = max(min(part.partition_max_bytes, attempt.left), 0)
    # Kafka guarantees progress: the first batch of an answer is sent whatever the limits are.
    records = log.read(part.fetch_offset, limit, at_least_one=attempt.size == 0)
    attempt.size += len(records)
    attempt.left -= len(records)
    return PartitionData(
        partition_index=part.partition,
        high_watermark=log.end_offset,
        last_stable_offset=log.end_offset,
        log_start_offset=log.start_offset,
        aborted_transactions=() if request.isolation_level == _READ_COMMITTED else None,
        records=records,
    )


def _failed(
    context: Context, attempt: _Attempt, part: FetchPartition, code: int, partition: Partition | None
) -> PartitionData:
    attempt.failed = True
    leader = LeaderIdAndEpoch()
    moved = code in (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.FENCED_LEADER_EPOCH)
    if moved and partition is not None and context.version >= _LEADER_FROM:
        leader = LeaderIdAndEpoch(leader_id=partition.leader, leader_epoch=partition.leader_epoch)
    return PartitionData(
        partition_index=part.partition,
        error_code=code,
        high_watermark=-1,
        aborted_transactions=None,
        current_leader=leader,
        records=b"",
    )


def _endpoints(context: Context, topics: Iterable[FetchableTopicResponse]) -> tuple[NodeEndpoint, ...]:
    """The addresses of the leaders in the answer (KIP-951)."""
    if context.version < _ENDPOINTS_FROM:
        return ()
    leaders = {part.current_leader.leader_id for topic in topics for part in topic.partitions}
    nodes = [context.state.nodes[leader] for leader in sorted(leaders - {NO_LEADER})]
    return tuple(NodeEndpoint(node_id=node.node_id, host=node.host, port=node.port, rack=node.rack) for node in nodes)


def _targets(context: Context, request: FetchRequest) -> Iterable[Target]:
    for topic, part in _asked(context, request):
        yield topic.topic or context.topic_name(topic.topic_id), part.partition


API: Final = Handler(index.FETCH, FetchRequest, handle, _targets)
