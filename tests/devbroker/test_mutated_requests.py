"""A request of any bytes is answered, or its connection is closed with a reason; nothing else happens."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from raw_client import batch_of, fetch_request, produce_request

from penstock.devbroker import DevCluster
from penstock.devbroker.context import CloseConnection
from penstock.devbroker.dispatch import answer
from penstock.devbroker.handlers import HANDLERS
from penstock.protocol.message import Request
from penstock.protocol.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsTopic
from penstock.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest
from penstock.protocol.messages.delete_topics import DeleteTopicsRequest
from penstock.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from penstock.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from penstock.protocol.primitives import ProtocolError
from penstock.protocol.versions import encode_request

MUTATIONS = 40
REQUESTS: list[Request] = [
    produce_request("t", batch_of(b"value", codec="gzip")),
    fetch_request("t", 0),
    ListOffsetsRequest(
        topics=(ListOffsetsTopic(name="t", partitions=(ListOffsetsPartition(partition_index=0, timestamp=5),)),)
    ),
    MetadataRequest(topics=(MetadataRequestTopic(name="t"), MetadataRequestTopic(name="u"))),
    CreateTopicsRequest(topics=(CreatableTopic(name="v", num_partitions=2, replication_factor=1),)),
    CreatePartitionsRequest(topics=(CreatePartitionsTopic(name="t", count=3, assignments=None),)),
    DeleteTopicsRequest(topic_names=("t", "u")),
]


def frames() -> Iterator[bytes]:
    """Requests with content and empty ones, in every version."""
    empty = [handler.request() for handler in HANDLERS.values()]
    for request in (*REQUESTS, *empty):
        for version in range(request.MIN_VERSION, request.MAX_VERSION + 1):
            try:
                yield encode_request(request, version, 7, "client")
            except ProtocolError:
                continue  # a version that lacks a field


def mutated(frame: bytes, chance: random.Random) -> bytes:
    copy = bytearray(frame)
    for _ in range(chance.randint(1, 4)):
        position = chance.randrange(4, len(copy))  # API and version stay: other tests change those
        kind = chance.randrange(3)
        if kind == 0:
            copy[position] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind == 1:
            del copy[position : position + chance.randint(1, 9)]
        else:
            copy[position:position] = chance.randbytes(chance.randint(1, 9))
        if len(copy) < 9:
            break
    return bytes(copy)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_requests_are_answered_or_closed(seed: int) -> None:
    chance = random.Random(seed)

    async def run() -> tuple[int, int]:
        answered = closed = 0
        async with DevCluster() as cluster:
            state = cluster.state
            for frame in frames():
                if "t" not in state.topics:
                    state.create_topic("t", 2)
                for each in (frame, *(mutated(frame, chance) for _ in range(MUTATIONS))):
                    try:
                        await asyncio.wait_for(answer(state, state.nodes[1], each), 0.05)
                        answered += 1
                    except CloseConnection:
                        closed += 1
                    except TimeoutError:
                        pass  # a fetch with a long wait
            # The broker still works.
            probe = encode_request(MetadataRequest(topics=None), 12, 1, "probe")
            assert await answer(state, state.nodes[1], probe) is not None
        return answered, closed

    answered, closed = asyncio.run(run())
    assert answered > 500
    assert closed > 500
