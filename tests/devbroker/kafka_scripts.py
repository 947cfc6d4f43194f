"""Scripts of raw requests that run against the embedded broker and against real Kafka, with their expected results.

Each script gets a client and the name of its own topic, with two partitions, and returns its observations as plain
values, without times and ids that differ between runs. The scripts are in `scripts_*.py`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final

from raw_client import RawClient

from penstock.protocol.messages.create_topics import (
    CreatableTopic,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from penstock.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)

Script = Callable[[RawClient, str], Any]
SCRIPTS: Final[dict[str, tuple[Script, Any]]] = {}
NEW_ID = uuid.UUID(int=1 << 100)
TIME: Final = 1_700_000_000_000
# Not the ids of real producers: a broker accepts any id, and one script must not affect another.
PRODUCER_IDS: Iterator[int] = iter(range(1 << 40, 1 << 41))


def script(expected: Any) -> Callable[[Script], Script]:
    """Register a script with its expected result."""

    def enter(function: Script) -> Script:
        SCRIPTS[function.__name__] = (function, expected)
        return function

    return enter


def outcome(answer: Any) -> tuple[int, int, int]:
    """The compared fields of the answer for one produced partition."""
    return answer.error_code, answer.base_offset, answer.log_start_offset


def prepare(client: RawClient, topic: str) -> None:
    """Create the topic and wait until the broker leads its partitions: Kafka announces them a little earlier."""
    client.create_topic(topic, 2)
    await_leaders(client, topic, 2)


def await_leaders(client: RawClient, topic: str, partitions: int) -> None:
    deadline = time.monotonic() + 20
    while any(list_offset(client, topic, -1, partition)[0] for partition in range(partitions)):
        assert time.monotonic() < deadline, f"{topic} has no leaders"


def list_offset(
    client: RawClient, topic: str, timestamp: int, partition: int = 0, version: int = 9, epoch: int = -1
) -> Any:
    part = ListOffsetsPartition(partition_index=partition, timestamp=timestamp, current_leader_epoch=epoch)
    request = ListOffsetsRequest(replica_id=-1, topics=(ListOffsetsTopic(name=topic, partitions=(part,)),))
    answer = client.ask(request, ListOffsetsResponse, version).topics[0].partitions[0]
    return answer.error_code, answer.offset, answer.timestamp, answer.leader_epoch


def create(client: RawClient, version: int = 7, *, validate_only: bool = False, **values: Any) -> Any:
    topic = CreatableTopic(**{"num_partitions": 1, "replication_factor": 1, **values})
    request = CreateTopicsRequest(topics=(topic,), validate_only=validate_only)
    answer = client.ask(request, CreateTopicsResponse, version).topics[0]
    return answer.error_code, answer.num_partitions, answer.replication_factor
