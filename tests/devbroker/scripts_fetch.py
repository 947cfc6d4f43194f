"""Fetch, ListOffsets and OffsetForLeaderEpoch: scripts for both brokers, see `kafka_scripts`."""

from __future__ import annotations

from typing import Any

from kafka_scripts import NEW_ID, TIME, list_offset, script
from raw_client import (
    RawClient,
    batch_of,
    fetch_request,
    offsets_in,
)

from penstock.protocol.messages.fetch import FetchRequest, FetchResponse
from penstock.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)

# Fetch.


def _fetched(part: Any) -> tuple[Any, ...]:
    return (
        part.error_code,
        part.high_watermark,
        part.last_stable_offset,
        part.log_start_offset,
        offsets_in(part.records),
    )


@script(
    [
        (0, 4, 4, 0, [(0, 1), (2, 3)]),
        (0, 4, 4, 0, [(0, 1), (2, 3)]),
        (0, 4, 4, 0, [(2, 3)]),
        (0, 4, 4, 0, []),
        (1, -1, -1, -1, []),
        (1, -1, -1, -1, []),
    ]
)
def fetch_from_every_offset(client: RawClient, topic: str) -> Any:
    for _ in range(2):
        client.produce(topic, batch_of(b"a", b"b"))
    return [_fetched(client.fetch(topic, offset)) for offset in (0, 1, 2, 4, 5, -1)]


@script([(version, 0, [(0, 0)]) for version in range(4, 19)])
def every_version_of_fetch(client: RawClient, topic: str) -> Any:
    client.produce(topic, batch_of(b"a"))
    topic_id = client.metadata(topic).topics[0].topic_id
    seen = []
    for version in range(4, 19):
        request = fetch_request(topic_id if version >= 13 else topic, 0)
        part = client.ask(request, FetchResponse, version).responses[0].partitions[0]
        seen.append((version, part.error_code, offsets_in(part.records)))
    return seen


@script([(3, []), (3, []), (100, []), (75, []), (0, [])])
def fetch_from_absent_topics_and_partitions(client: RawClient, topic: str) -> Any:
    by_id = client.ask(fetch_request(NEW_ID, 0), FetchResponse, 16).responses[0].partitions[0]
    parts = [
        client.fetch(topic + "-not", 0),
        client.fetch(topic, 0, partition=2),
        by_id,
        client.fetch(topic, 0, current_leader_epoch=99),
        client.fetch(topic, 0, current_leader_epoch=0),
    ]
    return [(part.error_code, offsets_in(part.records)) for part in parts]


@script([[(0, 0)], [(0, 0), (1, 1)], [(0, 0), (1, 1), (2, 2)]])
def the_first_batch_is_whole_and_limits_hold_after_it(client: RawClient, topic: str) -> Any:
    batch = batch_of(b"x" * 1000)
    for _ in range(3):
        client.produce(topic, batch)
    two = 2 * len(batch)
    limits = [(10, 10), (1 << 20, two), (1 << 20, 1 << 20)]
    return [
        offsets_in(client.fetch(topic, 0, max_bytes=whole, partition_max_bytes=each).records) for whole, each in limits
    ]


@script([(0, 0), (70, 0)])
def fetch_sessions_that_do_not_exist(client: RawClient, topic: str) -> Any:
    part = fetch_request(topic, 0)
    full = client.ask(part, FetchResponse, 12)
    unknown = FetchRequest(session_id=12345, session_epoch=3, topics=part.topics)
    other = client.ask(unknown, FetchResponse, 12)
    return [(full.error_code, full.session_id), (other.error_code, other.session_id)]


# ListOffsets.


@script([(0, 0, -1, 0), (0, 0, -1, 0), (0, -1, -1, -1), (0, -1, -1, -1)])
def offsets_of_an_empty_partition(client: RawClient, topic: str) -> Any:
    return [list_offset(client, topic, when) for when in (-2, -1, -3, TIME)]


@script(
    [
        (0, 0, -1, 0),
        (0, 6, -1, 0),
        (0, 5, TIME + 70, 0),
        (0, 0, -1, 0),
        (0, 0, TIME, 0),
        (0, 1, TIME + 10, 0),
        (0, 2, TIME + 20, 0),
        (0, 3, TIME + 50, 0),
        (0, 5, TIME + 70, 0),
        (0, -1, -1, -1),
    ]
)
def offsets_by_time(client: RawClient, topic: str) -> Any:
    client.produce(topic, batch_of(b"a", b"b", b"c", timestamp=TIME, step=10))
    client.produce(topic, batch_of(b"d", b"e", b"f", timestamp=TIME + 50, step=10, codec="gzip"))
    times = (-2, -1, -3, -4, 0, TIME + 1, TIME + 20, TIME + 21, TIME + 65, TIME + 71)
    return [list_offset(client, topic, when) for when in times]


@script([(3, -1, -1, -1), (3, -1, -1, -1), (75, -1, -1, -1), (35, -1, -1, -1)])
def invalid_list_offsets_requests(client: RawClient, topic: str) -> Any:
    return [
        list_offset(client, topic, -1, partition=2),
        list_offset(client, topic + "-not", -1),
        list_offset(client, topic, -1, epoch=7),
        list_offset(client, topic, -99),
    ]


@script([(version, 0, 2) for version in range(1, 12)])
def every_version_of_list_offsets(client: RawClient, topic: str) -> Any:
    client.produce(topic, batch_of(b"a", b"b"))
    return [(version, *list_offset(client, topic, -1, version=version)[:2]) for version in range(1, 12)]


@script([(0, 0, 3), (0, -1, -1), (3, -1, -1), (75, -1, -1)])
def ends_of_epochs(client: RawClient, topic: str) -> Any:
    client.produce(topic, batch_of(b"a", b"b", b"c"))
    seen = []
    for partition, epoch, current in ((0, 0, -1), (0, 5, -1), (2, 0, -1), (0, 0, 9)):
        part = OffsetForLeaderPartition(partition=partition, leader_epoch=epoch, current_leader_epoch=current)
        request = OffsetForLeaderEpochRequest(topics=(OffsetForLeaderTopic(topic=topic, partitions=(part,)),))
        answer = client.ask(request, OffsetForLeaderEpochResponse, 4).topics[0].partitions[0]
        seen.append((answer.error_code, answer.leader_epoch, answer.end_offset))
    return seen
