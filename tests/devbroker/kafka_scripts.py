"""Scripts of raw requests that run against the embedded broker and against real Kafka, and what both must show.

Each script gets a client and the name of a topic of its own, with two partitions, and returns what it observed as
plain values. Times and ids that cannot be equal are left out.
"""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from raw_client import (
    CLIENT_ID,
    ClosedError,
    RawClient,
    batch_of,
    fetch_request,
    offsets_in,
    patched,
    produce_request,
    resealed,
    sequenced,
)

from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from penstock.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from penstock.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from penstock.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from penstock.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from penstock.protocol.messages.fetch import FetchRequest, FetchResponse
from penstock.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from penstock.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from penstock.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from penstock.protocol.messages.produce import ProduceResponse
from penstock.protocol.records import decode_batch, split_batches
from penstock.protocol.versions import encode_request

Script = Callable[[RawClient, str], Any]
SCRIPTS: Final[dict[str, tuple[Script, Any]]] = {}
NEW_ID = uuid.UUID(int=1 << 100)
TIME: Final = 1_700_000_000_000
# Not the ids of real producers: a broker takes what it is told, and what one script does must not matter to another.
_PRODUCER_IDS: Iterator[int] = iter(range(1 << 40, 1 << 41))


def script(expected: Any) -> Callable[[Script], Script]:
    """Enter a script with what it must show."""

    def enter(function: Script) -> Script:
        SCRIPTS[function.__name__] = (function, expected)
        return function

    return enter


def outcome(answer: Any) -> tuple[int, int, int]:
    """What matters of the answer for one produced partition."""
    return answer.error_code, answer.base_offset, answer.log_start_offset


def prepare(client: RawClient, topic: str) -> None:
    """Create the topic and wait until the broker leads its partitions: Kafka tells of them a little earlier."""
    client.create_topic(topic, 2)
    _await_leaders(client, topic, 2)


def _await_leaders(client: RawClient, topic: str, partitions: int) -> None:
    deadline = time.monotonic() + 20
    while any(_list(client, topic, -1, partition)[0] for partition in range(partitions)):
        assert time.monotonic() < deadline, f"{topic} has no leaders"


# Produce: what is accepted.


@script([(0, 0, 0), (0, 1, 0), (0, 4, 0), (0, 0, 0), 5])
def offsets_follow_each_other(client: RawClient, topic: str) -> Any:
    one, three = batch_of(b"a"), batch_of(b"b", b"c", b"d")
    answers = [outcome(client.produce(topic, batch)) for batch in (one, three, one)]
    answers.append(outcome(client.produce(topic, one, partition=1)))
    return [*answers, client.fetch(topic, 0).high_watermark]


@script([(version, 0) for version in range(3, 14)])
def every_version_of_produce(client: RawClient, topic: str) -> Any:
    topic_id = client.metadata(topic).topics[0].topic_id
    seen = []
    for version in range(3, 14):
        request = produce_request(topic_id if version >= 13 else topic, batch_of(b"x"))
        answer = client.ask(request, ProduceResponse, version)
        seen.append((version, answer.responses[0].partition_responses[0].error_code))
    return seen


@script([(0, 0, 0), (0, 1, 0)])
def compressed_batches_are_kept(client: RawClient, topic: str) -> Any:
    answers = [outcome(client.produce(topic, batch_of(b"x" * 500, codec="gzip"))) for _ in range(2)]
    assert client.fetch(topic, 0).records is not None
    return answers


@script([(0, 0, 0), [(0, 0)]])
def acks_one(client: RawClient, topic: str) -> Any:
    answer = client.produce(topic, batch_of(b"x"), acks=1)
    return [outcome(answer), offsets_in(client.fetch(topic, 0).records)]


@script([[(0, 0)], "closed"])
def acks_zero_has_no_answer_but_an_end(client: RawClient, topic: str) -> Any:
    client.send(produce_request(topic, batch_of(b"x"), acks=0), 9)
    # A connection is served in order: who gets the second answer knows that the first request is done.
    records = client.fetch(topic, 0).records
    client.send(produce_request(topic, b"rubbish", acks=0), 9)
    try:
        client.receive_frame()
    except ClosedError:
        return [offsets_in(records), "closed"]
    return "answered"


# Produce: what is refused.


@script([(2, -1, -1), (2, -1, -1)])
def a_wrong_checksum(client: RawClient, topic: str) -> Any:
    batch = batch_of(b"some value")
    corrupt = [patched(batch, len(batch) - 3, b"!"), patched(batch, 17, b"\0\0\0\0")]
    return [outcome(client.produce(topic, each)) for each in corrupt]


@script([87, 87, 87, 2, 2, 2, 87, 87])
def not_one_whole_batch(client: RawClient, topic: str) -> Any:
    batch = batch_of(b"some value")
    wrong = [
        b"",
        batch[:-1],
        batch + batch,
        b"rubbish that is long enough to have a length",
        patched(batch, 8, struct.pack(">i", 3)),
        patched(batch, 16, b"\7"),
        patched(batch, 16, b"\1"),
        batch[:11],
    ]
    return [client.produce(topic, each).error_code for each in wrong]


@script([87, 87, 87, 87, 87, 87])
def headers_that_contradict_themselves(client: RawClient, topic: str) -> Any:
    batch = batch_of(b"a", b"b")
    wrong = [
        resealed(batch, 23, struct.pack(">i", 5)),  # last offset delta
        resealed(batch, 23, struct.pack(">i", -1)),
        resealed(batch, 57, struct.pack(">i", 1)),  # number of records
        resealed(batch, 57, struct.pack(">i", 0)),
        patched(batch, 0, struct.pack(">q", 7)),  # base offset, which the checksum leaves out
        resealed(batch_of(b"a", control=True), 0, b""),
    ]
    return [client.produce(topic, each).error_code for each in wrong]


@script([76, 0])
def zstd_before_its_time(client: RawClient, topic: str) -> Any:
    zstd = resealed(batch_of(b"a"), 21, struct.pack(">h", 4))
    return [client.produce(topic, zstd, version=6).error_code, client.produce(topic, batch_of(b"a")).error_code]


@script([(0, 0, 0), (10, -1, -1)])
def a_batch_that_is_too_large(client: RawClient, topic: str) -> Any:
    overhead = len(batch_of(b"x" * 1_000_000)) - 1_000_000
    fits = batch_of(b"x" * (1_048_588 - overhead))
    assert len(fits) == 1_048_588
    too_large = batch_of(b"x" * (1_048_589 - overhead))
    return [outcome(client.produce(topic, each)) for each in (fits, too_large)]


@script([(3, -1, -1), (3, -1, -1), (3, -1, -1), (100, -1, -1)])
def topics_and_partitions_that_are_not_there(client: RawClient, topic: str) -> Any:
    batch = batch_of(b"a")
    answers = [
        client.produce(topic, batch, partition=2),
        client.produce(topic + "-not", batch),
        client.produce("no/topic can be called that", batch),
    ]
    by_id = client.ask(produce_request(NEW_ID, batch), ProduceResponse, 13)
    return [outcome(answer) for answer in (*answers, by_id.responses[0].partition_responses[0])]


@script([(21, -1, -1), (21, -1, -1)])
def wrong_acks(client: RawClient, topic: str) -> Any:
    return [outcome(client.produce(topic, batch_of(b"a"), acks=acks)) for acks in (2, -2)]


@script([3, 87, 21, 21])
def which_error_comes_first(client: RawClient, topic: str) -> Any:
    batch = batch_of(b"some value")
    asked = [(topic + "-not", batch), (topic, batch[:-1]), (topic, patched(batch, 17, b"????")), (topic, batch)]
    return [client.produce(name, each, acks=2).error_code for name, each in asked]


@script([44, 0, 44, 0])
def too_many_partitions_at_once(client: RawClient, topic: str) -> Any:
    name = topic + "-many"
    asked = (CreatePartitionsTopic(name=topic, count=10_003, assignments=None),)
    request = CreatePartitionsRequest(topics=asked, timeout_ms=10_000, validate_only=True)
    return [
        _create(client, name=name, num_partitions=10_001, validate_only=True)[0],
        _create(client, name=name, num_partitions=3, validate_only=True)[0],
        client.ask(request, CreatePartitionsResponse, 3).results[0].error_code,
        client.produce(topic, batch_of(b"x")).error_code,
    ]


@script([(32, -1), (0, 0)])
def a_time_far_in_the_future(client: RawClient, topic: str) -> Any:
    answers = [client.produce(topic, batch_of(b"a", timestamp=when)) for when in (TIME * 2, TIME)]
    return [outcome(answer)[:2] for answer in answers]


# Idempotence.


@script([(0, 0, 0), (0, 3, 0), (0, 0, 0), (0, 3, 0), (0, 5, 0)])
def duplicates_get_their_first_offset_again(client: RawClient, topic: str) -> Any:
    me = next(_PRODUCER_IDS)
    first, second = sequenced(3, 0, producer_id=me), sequenced(2, 3, producer_id=me)
    third = sequenced(1, 5, producer_id=me)
    return [outcome(client.produce(topic, batch)) for batch in (first, second, first, second, third)]


@script([0, 0, 0, 0, 0, 0, 45, (0, 1), (0, 5)])
def only_the_last_five_are_remembered(client: RawClient, topic: str) -> Any:
    me = next(_PRODUCER_IDS)
    batches = [sequenced(1, number, producer_id=me) for number in range(6)]
    codes: list[Any] = [client.produce(topic, batch).error_code for batch in batches]
    codes.append(client.produce(topic, batches[0]).error_code)
    for again in (batches[1], batches[5]):
        answer = client.produce(topic, again)
        codes.append((answer.error_code, answer.base_offset))
    return codes


@script([(0, 0), (45, -1), (45, -1), (45, -1), (0, 2)])
def sequences_out_of_order(client: RawClient, topic: str) -> Any:
    me = next(_PRODUCER_IDS)
    gap, overlap, back = (
        sequenced(1, 3, producer_id=me),
        sequenced(2, 1, producer_id=me),
        sequenced(1, 0, producer_id=me),
    )
    batches = (sequenced(2, 0, producer_id=me), gap, overlap, back, sequenced(1, 2, producer_id=me))
    return [outcome(client.produce(topic, batch))[:2] for batch in batches]


@script([(0, 0), (0, 1), (45, -1)])
def an_unknown_producer_may_start_anywhere(client: RawClient, topic: str) -> Any:
    me = next(_PRODUCER_IDS)
    batches = [sequenced(1, first, producer_id=me, epoch=3) for first in (1000, 1001, 1003)]
    return [outcome(client.produce(topic, batch))[:2] for batch in batches]


@script([(0, 0), (45, -1), (0, 1), (47, -1), (47, -1), (0, 2)])
def epochs(client: RawClient, topic: str) -> Any:
    me = next(_PRODUCER_IDS)
    batches = [
        sequenced(1, 0, producer_id=me, epoch=4),
        sequenced(1, 1, producer_id=me, epoch=5),  # a new epoch starts at 0
        sequenced(1, 0, producer_id=me, epoch=5),
        sequenced(1, 1, producer_id=me, epoch=4),
        sequenced(1, 0, producer_id=me, epoch=4),  # what was a duplicate is stale now
        sequenced(1, 1, producer_id=me, epoch=5),
    ]
    return [outcome(client.produce(topic, batch))[:2] for batch in batches]


@script([(0, 0), (0, 2), (0, 4), (0, 2), (45, -1)])
def sequences_wrap(client: RawClient, topic: str) -> Any:
    me, last = next(_PRODUCER_IDS), 2**31 - 1
    across = sequenced(2, last, producer_id=me)
    batches = [sequenced(2, last - 2, producer_id=me), across, sequenced(1, 1, producer_id=me), across]
    batches.append(sequenced(1, 5, producer_id=me))
    return [outcome(client.produce(topic, batch))[:2] for batch in batches]


@script([87, 0])
def a_producer_without_sequence(client: RawClient, topic: str) -> Any:
    me = next(_PRODUCER_IDS)
    nothing = batch_of(b"a", producer_id=me, producer_epoch=0, base_sequence=-1)
    return [client.produce(topic, batch).error_code for batch in (nothing, batch_of(b"a"))]


@script([(0, 0), (0, 0), (0, 0), (0, 1)])
def partitions_do_not_share_sequences(client: RawClient, topic: str) -> Any:
    me = next(_PRODUCER_IDS)
    first, second = sequenced(1, 0, producer_id=me), sequenced(1, 1, producer_id=me)
    asked = ((first, 0), (first, 1), (first, 0), (second, 1))
    return [outcome(client.produce(topic, batch, partition=number))[:2] for batch, number in asked]


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
def fetch_what_is_not_there(client: RawClient, topic: str) -> Any:
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


def _list(client: RawClient, topic: str, timestamp: int, partition: int = 0, version: int = 9, epoch: int = -1) -> Any:
    part = ListOffsetsPartition(partition_index=partition, timestamp=timestamp, current_leader_epoch=epoch)
    request = ListOffsetsRequest(replica_id=-1, topics=(ListOffsetsTopic(name=topic, partitions=(part,)),))
    answer = client.ask(request, ListOffsetsResponse, version).topics[0].partitions[0]
    return answer.error_code, answer.offset, answer.timestamp, answer.leader_epoch


@script([(0, 0, -1, 0), (0, 0, -1, 0), (0, -1, -1, -1), (0, -1, -1, -1)])
def offsets_of_an_empty_partition(client: RawClient, topic: str) -> Any:
    return [_list(client, topic, when) for when in (-2, -1, -3, TIME)]


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
    return [_list(client, topic, when) for when in times]


@script([(3, -1, -1, -1), (3, -1, -1, -1), (75, -1, -1, -1), (35, -1, -1, -1)])
def offsets_that_cannot_be_listed(client: RawClient, topic: str) -> Any:
    return [
        _list(client, topic, -1, partition=2),
        _list(client, topic + "-not", -1),
        _list(client, topic, -1, epoch=7),
        _list(client, topic, -99),
    ]


@script([(version, 0, 2) for version in range(1, 12)])
def every_version_of_list_offsets(client: RawClient, topic: str) -> Any:
    client.produce(topic, batch_of(b"a", b"b"))
    return [(version, *_list(client, topic, -1, version=version)[:2]) for version in range(1, 12)]


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


# Topics.


def _create(client: RawClient, version: int = 7, *, validate_only: bool = False, **values: Any) -> Any:
    topic = CreatableTopic(**{"num_partitions": 1, "replication_factor": 1, **values})
    request = CreateTopicsRequest(topics=(topic,), validate_only=validate_only)
    answer = client.ask(request, CreateTopicsResponse, version).topics[0]
    return answer.error_code, answer.num_partitions, answer.replication_factor


@script([(17, -1, -1)] * 7)
def illegal_names(client: RawClient, topic: str) -> Any:
    names = ("", ".", "..", "a/b", "a b", "ä", "x" * 250)
    return [_create(client, name=name) for name in names]


@script([(0, 3, 1), (36, -1, -1), (0, 2, 1), (0, 1, 1), 3, (17, -1, -1)])
def topics_are_created_once(client: RawClient, topic: str) -> Any:
    name = topic + ".new"
    seen: list[Any] = [_create(client, name=name, num_partitions=3), _create(client, name=name)]
    seen.append(_create(client, name=name + "2", num_partitions=2, validate_only=True))
    seen.append(_create(client, name=name + "3", num_partitions=-1, replication_factor=-1))
    seen.append(client.metadata(name + "2").topics[0].error_code)
    seen.append(_create(client, name=topic + "_new"))
    return seen


@script([37, 37, 38, 38, 38, 40, 40, 40, 42, 39, 39, 0])
def topics_that_cannot_be_created(client: RawClient, topic: str) -> Any:
    name = topic + "-other"

    def assigned(*partitions: tuple[int, tuple[int, ...]], **values: Any) -> Any:
        entries = tuple(CreatableReplicaAssignment(partition_index=i, broker_ids=nodes) for i, nodes in partitions)
        return _create(client, **{"num_partitions": -1, "replication_factor": -1, "assignments": entries, **values})[0]

    def configured(key: str, value: str | None) -> Any:
        return _create(client, name=name, configs=(CreatableTopicConfig(name=key, value=value),))[0]

    return [
        _create(client, name=name, num_partitions=0)[0],
        _create(client, name=name, num_partitions=-2)[0],
        _create(client, name=name, replication_factor=0)[0],
        _create(client, name=name, replication_factor=2)[0],
        _create(client, name=name, replication_factor=-2)[0],
        configured("no.such.setting", "1"),
        configured("retention.bytes", "many"),
        configured("max.message.bytes", "-5"),
        assigned((0, (1,)), name=name, num_partitions=1),
        assigned((1, (1,)), name=name),
        assigned((0, (1, 1)), name=name),
        assigned((0, (1,)), (1, (1,)), name=name),
    ]


@script([(42,), 1])
def a_name_twice_in_one_request(client: RawClient, topic: str) -> Any:
    asked = CreatableTopic(name=topic + "-twice", num_partitions=1, replication_factor=1)
    answer = client.ask(CreateTopicsRequest(topics=(asked, asked)), CreateTopicsResponse, 7)
    return [tuple(result.error_code for result in answer.topics), len(answer.topics)]


@script([0, 37, 37, 3, 0, 4])
def more_partitions(client: RawClient, topic: str) -> Any:
    seen = []
    for name, count, only in (
        (topic, 3, True),
        (topic, 2, False),
        (topic, 1, False),
        (topic + "x", 3, False),
        (topic, 4, False),
    ):
        asked = CreatePartitionsTopic(name=name, count=count, assignments=None)
        request = CreatePartitionsRequest(topics=(asked,), timeout_ms=10_000, validate_only=only)
        seen.append(client.ask(request, CreatePartitionsResponse, 3).results[0].error_code)
    return [*seen, len(client.metadata(topic).topics[0].partitions)]


@script([(0, True), (3, True), (100, True), (0, True), 3])
def topics_are_deleted(client: RawClient, topic: str) -> Any:
    other = topic + "-by-id"
    other_id = client.create_topic(other)

    def delete(asked: DeleteTopicState) -> tuple[int, bool]:
        request = DeleteTopicsRequest(topics=(asked,), timeout_ms=10_000)
        result = client.ask(request, DeleteTopicsResponse, 6).responses[0]
        return result.error_code, result.name in (asked.name, other)

    seen: list[Any] = [delete(DeleteTopicState(name=topic)), delete(DeleteTopicState(name=topic))]
    seen += [delete(DeleteTopicState(topic_id=NEW_ID)), delete(DeleteTopicState(topic_id=other_id))]
    return [*seen, client.metadata(topic).topics[0].error_code]


# Metadata and what describes.


@script([(0, 2), (3, 0), (17, 0), (100, None, 0), (0, 2)])
def metadata_of_topics(client: RawClient, topic: str) -> Any:
    named = client.metadata(topic, topic + "-not", "not/legal").topics
    by_name = {entry.name: entry for entry in named}
    seen: list[Any] = [
        (by_name[name].error_code, len(by_name[name].partitions)) for name in (topic, topic + "-not", "not/legal")
    ]
    asked = tuple(MetadataRequestTopic(topic_id=each, name=None) for each in (NEW_ID, by_name[topic].topic_id))
    answers = client.ask(MetadataRequest(topics=asked, allow_auto_topic_creation=False), MetadataResponse, 12).topics
    by_id = {entry.topic_id: entry for entry in answers}
    unknown, known = by_id[NEW_ID], by_id[by_name[topic].topic_id]
    return [
        *seen,
        (unknown.error_code, unknown.name, len(unknown.partitions)),
        (known.error_code, len(known.partitions)),
    ]


@script([(version, 1, [(0, 1, (1,), (1,)), (1, 1, (1,), (1,))]) for version in range(14)])
def every_version_of_metadata(client: RawClient, topic: str) -> Any:
    seen = []
    for version in range(14):
        create = version < 4  # before, it cannot be declined
        answer = client.metadata(topic, version=version, create=create)
        partitions = [
            (part.partition_index, part.leader_id, part.replica_nodes, part.isr_nodes)
            for part in sorted(answer.topics[0].partitions, key=lambda part: part.partition_index)
        ]
        seen.append((version, len(answer.brokers), partitions))
    return seen


@script([True, True, True, 0])
def all_topics_or_none(client: RawClient, topic: str) -> Any:
    everything = client.ask(MetadataRequest(topics=None), MetadataResponse, 12).topics
    at_first = client.ask(MetadataRequest(topics=()), MetadataResponse, 0).topics
    found = [topic in {entry.name for entry in topics} for topics in (everything, at_first)]
    return [*found, len(everything) == len(at_first), len(client.metadata().topics)]


@script([3576, 8096, -(1 << 31), 8096])
def operations_are_all_authorised(client: RawClient, topic: str) -> Any:
    asked = (MetadataRequestTopic(name=topic),)
    request = MetadataRequest(
        topics=asked, include_cluster_authorized_operations=True, include_topic_authorized_operations=True
    )
    answer = client.ask(request, MetadataResponse, 9)
    without = client.metadata(topic)
    cluster = client.ask(DescribeClusterRequest(include_cluster_authorized_operations=True), DescribeClusterResponse, 1)
    return [
        answer.topics[0].topic_authorized_operations,
        answer.cluster_authorized_operations,
        without.topics[0].topic_authorized_operations,
        cluster.cluster_authorized_operations,
    ]


@script([(0, 1, 1), (114, 0, -1)])
def the_cluster_describes_itself(client: RawClient, topic: str) -> Any:
    answers = [client.ask(DescribeClusterRequest(endpoint_type=kind), DescribeClusterResponse, 1) for kind in (1, 2)]
    return [(answer.error_code, len(answer.brokers), answer.controller_id) for answer in answers]


@script([0, ("1048588", 5), True, 3, 17, 42])
def configs_of_a_topic(client: RawClient, topic: str) -> Any:
    def describe(kind: int, name: str) -> Any:
        resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=None)
        request = DescribeConfigsRequest(resources=(resource,))
        return client.ask(request, DescribeConfigsResponse, 4).results[0]

    described = describe(2, topic)
    entry = next(config for config in described.configs if config.name == "max.message.bytes")
    names = {config.name for config in described.configs}
    return [
        described.error_code,
        (entry.value, entry.config_source),
        {"cleanup.policy", "retention.ms", "segment.bytes", "min.insync.replicas"} <= names,
        describe(2, topic + "-not").error_code,
        describe(2, "not/legal").error_code,
        describe(4, "99").error_code,
    ]


# Connections.


@script([(0, (0, 5)), (35, [(18, 0, 5)]), (0, (0, 5)), 42])
def versions_are_told(client: RawClient, topic: str) -> Any:
    named = ApiVersionsRequest(client_software_name="raw", client_software_version="1.0")
    first = client.ask(named, ApiVersionsResponse, 3)
    frame = bytearray(encode_request(named, 4, 77, CLIENT_ID))
    frame[2:4] = struct.pack(">h", 99)
    client.send_frame(bytes(frame))
    _, second = client.receive(ApiVersionsResponse, 0)
    third = client.ask(named, ApiVersionsResponse, 4)
    bad = ApiVersionsRequest(client_software_name="not allowed!", client_software_version="")

    def own(answer: ApiVersionsResponse) -> tuple[int, int]:
        return next((key.min_version, key.max_version) for key in answer.api_keys if key.api_key == 18)

    return [
        (first.error_code, own(first)),
        (second.error_code, [(key.api_key, key.min_version, key.max_version) for key in second.api_keys]),
        (third.error_code, own(third)),
        client.ask(bad, ApiVersionsResponse, 3).error_code,
    ]


@script(
    {
        0: (0, 13),
        1: (4, 18),
        2: (1, 11),
        3: (0, 13),
        10: (0, 6),
        18: (0, 5),
        19: (2, 7),
        20: (1, 6),
        22: (0, 5),
        23: (2, 4),
        32: (1, 4),
        37: (0, 3),
        60: (0, 2),
    }
)
def the_versions_offered(client: RawClient, topic: str) -> Any:
    named = ApiVersionsRequest(client_software_name="raw", client_software_version="1.0")
    keys = client.ask(named, ApiVersionsResponse, 4).api_keys
    offered = (0, 1, 2, 3, 10, 18, 19, 20, 22, 23, 32, 37, 60)
    return {key.api_key: (key.min_version, key.max_version) for key in keys if key.api_key in offered}


@script([(0, True, True), (0, True, True)])
def the_broker_sets_the_time(client: RawClient, topic: str) -> Any:
    name = topic + "-append-time"
    config = CreatableTopicConfig(name="message.timestamp.type", value="LogAppendTime")
    _create(client, name=name, configs=(config,))
    _await_leaders(client, name, 1)
    before = time.time_ns() // 1_000_000
    seen = []
    for codec in ("none", "gzip"):
        answer = client.produce(name, batch_of(b"a", b"b", timestamp=TIME * 3, codec=codec))
        records = client.fetch(name, answer.base_offset).records
        assert records is not None
        header, decoded = decode_batch(next(split_batches(records))[1])
        times = {record.timestamp for record in decoded}
        same = times == {answer.log_append_time_ms}
        seen.append((answer.error_code, header.is_log_append_time and same, before <= header.max_timestamp < TIME * 2))
    return seen


@script([0, 0, 0])  # never more than the partition has
def more_replicas_in_sync_than_there_are(client: RawClient, topic: str) -> Any:
    name = topic + "-min"
    _create(client, name=name, configs=(CreatableTopicConfig(name="min.insync.replicas", value="2"),))
    _await_leaders(client, name, 1)
    return [client.produce(name, batch_of(b"a"), acks=acks).error_code for acks in (1, -1, 1)]


@script([0, 129, 129, 0])
def a_client_that_expects_somebody_else(client: RawClient, topic: str) -> Any:
    cluster_id = client.metadata().cluster_id
    seen = []
    for cluster, node in ((cluster_id, 1), ("another", 1), (cluster_id, 99), (None, -1)):
        request = ApiVersionsRequest(
            client_software_name="raw", client_software_version="1.0", cluster_id=cluster, node_id=node
        )
        seen.append(client.ask(request, ApiVersionsResponse, 5).error_code)
    return seen


HOSTILE: Final[dict[str, bytes]] = {
    "an API that does not exist": struct.pack(">hhih", 9999, 0, 1, -1),
    "a version that does not exist": struct.pack(">hhih", 3, 99, 1, -1),
    "a negative version": struct.pack(">hhih", 3, -1, 1, -1),
    "a body that is cut off": encode_request(produce_request("t", batch_of(b"x")), 9, 1, CLIENT_ID)[:-5],
    "an array longer than its frame": struct.pack(">hhihi", 3, 1, 1, -1, 2**31 - 1),
    "a negative array": struct.pack(">hhihi", 19, 2, 1, -1, -7),
    "no header": b"\0\3",
}


@script(dict.fromkeys(HOSTILE, "closed") | {"afterwards": 0})
def hostile_frames_cost_their_connection(client: RawClient, topic: str) -> Any:
    host, port = client.socket.getpeername()
    seen: dict[str, Any] = {}
    for name, frame in HOSTILE.items():
        with RawClient(f"{host}:{port}") as other:
            other.send_frame(frame)
            try:
                seen[name] = other.receive_frame()
            except ClosedError:
                seen[name] = "closed"
    seen["afterwards"] = client.produce(topic, batch_of(b"x")).error_code
    return seen
