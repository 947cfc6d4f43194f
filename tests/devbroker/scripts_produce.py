"""Produce, and the rules for idempotent producers: scripts for both brokers, see `kafka_scripts`."""

from __future__ import annotations

import struct
from typing import Any

from kafka_scripts import NEW_ID, PRODUCER_IDS, TIME, create, outcome, script
from raw_client import (
    ClosedError,
    RawClient,
    batch_of,
    offsets_in,
    patched,
    produce_request,
    resealed,
    sequenced,
)

from penstock.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from penstock.protocol.messages.produce import ProduceResponse

# Produce: accepted batches.


@script([(0, 0, 0), (0, 1, 0), (0, 4, 0), (0, 0, 0), 5])
def offsets_are_consecutive(client: RawClient, topic: str) -> Any:
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
def compressed_batches_are_stored_unchanged(client: RawClient, topic: str) -> Any:
    answers = [outcome(client.produce(topic, batch_of(b"x" * 500, codec="gzip"))) for _ in range(2)]
    assert client.fetch(topic, 0).records is not None
    return answers


@script([(0, 0, 0), [(0, 0)]])
def acks_one(client: RawClient, topic: str) -> Any:
    answer = client.produce(topic, batch_of(b"x"), acks=1)
    return [outcome(answer), offsets_in(client.fetch(topic, 0).records)]


@script([[(0, 0)], "closed"])
def acks_zero_gets_no_answer_and_an_error_closes(client: RawClient, topic: str) -> Any:
    client.send(produce_request(topic, batch_of(b"x"), acks=0), 9)
    # A connection is served in order: with the second answer, the first request is done.
    records = client.fetch(topic, 0).records
    client.send(produce_request(topic, b"rubbish", acks=0), 9)
    try:
        client.receive_frame()
    except ClosedError:
        return [offsets_in(records), "closed"]
    return "answered"


# Produce: refused batches.


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
def inconsistent_batch_headers(client: RawClient, topic: str) -> Any:
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
def zstd_in_an_old_version(client: RawClient, topic: str) -> Any:
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
def absent_topics_and_partitions(client: RawClient, topic: str) -> Any:
    batch = batch_of(b"a")
    answers = [
        client.produce(topic, batch, partition=2),
        client.produce(topic + "-not", batch),
        client.produce("no/topic can be called that", batch),
    ]
    by_id = client.ask(produce_request(NEW_ID, batch), ProduceResponse, 13)
    return [outcome(answer) for answer in (*answers, by_id.responses[0].partition_responses[0])]


@script([(21, -1, -1), (21, -1, -1)])
def invalid_acks(client: RawClient, topic: str) -> Any:
    return [outcome(client.produce(topic, batch_of(b"a"), acks=acks)) for acks in (2, -2)]


@script([3, 87, 21, 21])
def which_error_comes_first(client: RawClient, topic: str) -> Any:
    batch = batch_of(b"some value")
    asked = [(topic + "-not", batch), (topic, batch[:-1]), (topic, patched(batch, 17, b"????")), (topic, batch)]
    return [client.produce(name, each, acks=2).error_code for name, each in asked]


@script([44, 0, 44, 0])
def too_many_partitions_in_one_request(client: RawClient, topic: str) -> Any:
    name = topic + "-many"
    asked = (CreatePartitionsTopic(name=topic, count=10_003, assignments=None),)
    request = CreatePartitionsRequest(topics=asked, timeout_ms=10_000, validate_only=True)
    return [
        create(client, name=name, num_partitions=10_001, validate_only=True)[0],
        create(client, name=name, num_partitions=3, validate_only=True)[0],
        client.ask(request, CreatePartitionsResponse, 3).results[0].error_code,
        client.produce(topic, batch_of(b"x")).error_code,
    ]


@script([(32, -1), (0, 0)])
def a_timestamp_far_in_the_future(client: RawClient, topic: str) -> Any:
    answers = [client.produce(topic, batch_of(b"a", timestamp=when)) for when in (TIME * 2, TIME)]
    return [outcome(answer)[:2] for answer in answers]


# Idempotence.


@script([(0, 0, 0), (0, 3, 0), (0, 0, 0), (0, 3, 0), (0, 5, 0)])
def duplicates_get_their_first_offset_again(client: RawClient, topic: str) -> Any:
    me = next(PRODUCER_IDS)
    first, second = sequenced(3, 0, producer_id=me), sequenced(2, 3, producer_id=me)
    third = sequenced(1, 5, producer_id=me)
    return [outcome(client.produce(topic, batch)) for batch in (first, second, first, second, third)]


@script([0, 0, 0, 0, 0, 0, 45, (0, 1), (0, 5)])
def only_the_last_five_are_remembered(client: RawClient, topic: str) -> Any:
    me = next(PRODUCER_IDS)
    batches = [sequenced(1, number, producer_id=me) for number in range(6)]
    codes: list[Any] = [client.produce(topic, batch).error_code for batch in batches]
    codes.append(client.produce(topic, batches[0]).error_code)
    for again in (batches[1], batches[5]):
        answer = client.produce(topic, again)
        codes.append((answer.error_code, answer.base_offset))
    return codes


@script([(0, 0), (45, -1), (45, -1), (45, -1), (0, 2)])
def sequences_out_of_order(client: RawClient, topic: str) -> Any:
    me = next(PRODUCER_IDS)
    gap, overlap, back = (
        sequenced(1, 3, producer_id=me),
        sequenced(2, 1, producer_id=me),
        sequenced(1, 0, producer_id=me),
    )
    batches = (sequenced(2, 0, producer_id=me), gap, overlap, back, sequenced(1, 2, producer_id=me))
    return [outcome(client.produce(topic, batch))[:2] for batch in batches]


@script([(0, 0), (0, 1), (45, -1)])
def an_unknown_producer_may_start_anywhere(client: RawClient, topic: str) -> Any:
    me = next(PRODUCER_IDS)
    batches = [sequenced(1, first, producer_id=me, epoch=3) for first in (1000, 1001, 1003)]
    return [outcome(client.produce(topic, batch))[:2] for batch in batches]


@script([(0, 0), (45, -1), (0, 1), (47, -1), (47, -1), (0, 2)])
def epochs(client: RawClient, topic: str) -> Any:
    me = next(PRODUCER_IDS)
    batches = [
        sequenced(1, 0, producer_id=me, epoch=4),
        sequenced(1, 1, producer_id=me, epoch=5),  # a new epoch starts at 0
        sequenced(1, 0, producer_id=me, epoch=5),
        sequenced(1, 1, producer_id=me, epoch=4),
        sequenced(1, 0, producer_id=me, epoch=4),  # was a duplicate, is a stale epoch now
        sequenced(1, 1, producer_id=me, epoch=5),
    ]
    return [outcome(client.produce(topic, batch))[:2] for batch in batches]


@script([(0, 0), (0, 2), (0, 4), (0, 2), (45, -1)])
def sequences_wrap(client: RawClient, topic: str) -> Any:
    me, last = next(PRODUCER_IDS), 2**31 - 1
    across = sequenced(2, last, producer_id=me)
    batches = [sequenced(2, last - 2, producer_id=me), across, sequenced(1, 1, producer_id=me), across]
    batches.append(sequenced(1, 5, producer_id=me))
    return [outcome(client.produce(topic, batch))[:2] for batch in batches]


@script([87, 0])
def a_producer_without_sequence(client: RawClient, topic: str) -> Any:
    me = next(PRODUCER_IDS)
    nothing = batch_of(b"a", producer_id=me, producer_epoch=0, base_sequence=-1)
    return [client.produce(topic, batch).error_code for batch in (nothing, batch_of(b"a"))]


@script([(0, 0), (0, 0), (0, 0), (0, 1)])
def partitions_do_not_share_sequences(client: RawClient, topic: str) -> Any:
    me = next(PRODUCER_IDS)
    first, second = sequenced(1, 0, producer_id=me), sequenced(1, 1, producer_id=me)
    asked = ((first, 0), (first, 1), (first, 0), (second, 1))
    return [outcome(client.produce(topic, batch, partition=number))[:2] for batch, number in asked]
