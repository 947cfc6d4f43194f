"""The few Kafka requests that the harness itself needs, by hand: ApiVersions 0, Metadata 1, CreateTopics 2, DeleteTopics 1,
ElectLeaders 0, AlterPartitionReassignments 0, DescribeQuorum 0.

Deliberately neither Penstock's codec (a judge must not share code with its subject) nor a client library (so that
`make kafka` needs only Python, Java and Maven).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

API_VERSIONS, METADATA, CREATE_TOPICS, DELETE_TOPICS = 18, 3, 19, 20
ELECT_LEADERS, ALTER_PARTITION_REASSIGNMENTS, DESCRIBE_QUORUM = 43, 45, 55
NONE, UNKNOWN_TOPIC_OR_PARTITION, TOPIC_ALREADY_EXISTS, ELECTION_NOT_NEEDED = 0, 3, 36, 84
_CORRELATION_ID = 7


class WireError(RuntimeError):
    """The broker answered with an error code, or with an invalid answer."""


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A partition in one broker's metadata."""

    error: int
    index: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClusterView:
    """One broker's metadata: brokers by id, partitions by topic (absent if the topic has an error)."""

    brokers: dict[int, tuple[str, int]]
    controller: int
    topics: dict[str, list[PartitionView]]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def unpack(self, code: str) -> int:
        (value,) = struct.unpack_from(f">{code}", self._data, self._at)
        self._at += struct.calcsize(f">{code}")
        return int(value)

    def string(self) -> str | None:
        length = self.unpack("h")
        if length < 0:
            return None
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def compact_string(self) -> str | None:
        """Of less than 127 bytes, as error messages are."""
        length = self.unpack("b") - 1
        if length < 0:
            return None
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def ints(self) -> tuple[int, ...]:
        return tuple(self.unpack("i") for _ in range(self.unpack("i")))


def _string(text: str | None) -> bytes:
    if text is None:
        return struct.pack(">h", -1)
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def _ask(address: tuple[str, int], api: int, version: int, body: bytes, timeout_s: float) -> _Reader:
    request = struct.pack(">hhi", api, version, _CORRELATION_ID) + _string("penstock-harness") + body
    with socket.create_connection(address, timeout=timeout_s) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        with connection.makefile("rb") as stream:
            head = stream.read(4)
            if len(head) < 4:
                raise WireError(f"{address} closed the connection instead of answering")
            answer = stream.read(struct.unpack(">i", head)[0])
    reader = _Reader(answer)
    if reader.unpack("i") != _CORRELATION_ID:
        raise WireError(f"{address} answered another request")
    return reader


def api_versions(address: tuple[str, int], timeout_s: float = 5.0) -> dict[int, tuple[int, int]]:
    """The API keys that the broker offers, each with its lowest and highest version."""
    reader = _ask(address, API_VERSIONS, 0, b"", timeout_s)
    if error := reader.unpack("h"):
        raise WireError(f"ApiVersions: error code {error}")
    return {reader.unpack("h"): (reader.unpack("h"), reader.unpack("h")) for _ in range(reader.unpack("i"))}


def metadata(address: tuple[str, int], topics: list[str], timeout_s: float = 5.0) -> ClusterView:
    """The metadata of this broker, with the named topics."""
    body = struct.pack(">i", len(topics)) + b"".join(map(_string, topics))
    reader = _ask(address, METADATA, 1, body, timeout_s)
    brokers: dict[int, tuple[str, int]] = {}
    for _ in range(reader.unpack("i")):
        node, host, port, _rack = reader.unpack("i"), reader.string(), reader.unpack("i"), reader.string()
        brokers[node] = (host or "", port)
    controller = reader.unpack("i")
    seen: dict[str, list[PartitionView]] = {}
    for _ in range(reader.unpack("i")):
        error, name, _internal = reader.unpack("h"), reader.string() or "", reader.unpack("b")
        partitions = [
            PartitionView(reader.unpack("h"), reader.unpack("i"), reader.unpack("i"), reader.ints(), reader.ints())
            for _ in range(reader.unpack("i"))
        ]
        if error == NONE:
            seen[name] = partitions
    return ClusterView(brokers, controller, seen)


def create_topic(
    address: tuple[str, int],
    name: str,
    partitions: int,
    replication_factor: int,
    config: Mapping[str, str],
    timeout_s: float = 30.0,
) -> None:
    """Create one topic; a `WireError` has Kafka's message if it refuses."""
    body = struct.pack(">i", 1) + _string(name) + struct.pack(">ihi", partitions, replication_factor, 0)
    body += struct.pack(">i", len(config)) + b"".join(_string(k) + _string(v) for k, v in config.items())
    body += struct.pack(">ib", int(timeout_s * 1000), 0)
    reader = _ask(address, CREATE_TOPICS, 2, body, timeout_s + 5)
    reader.unpack("i"), reader.unpack("i")  # throttle time, number of topics: one
    _name, error, message = reader.string(), reader.unpack("h"), reader.string()
    if error != NONE:
        raise WireError(f"CreateTopics {name!r}: error code {error}: {message}")


def delete_topic(address: tuple[str, int], name: str, timeout_s: float = 30.0) -> None:
    """Delete a topic, if it exists. Brokers apply it a moment later."""
    body = struct.pack(">i", 1) + _string(name) + struct.pack(">i", int(timeout_s * 1000))
    reader = _ask(address, DELETE_TOPICS, 1, body, timeout_s + 5)
    reader.unpack("i"), reader.unpack("i"), reader.string()  # throttle time, number of topics: one, its name
    if (error := reader.unpack("h")) not in (NONE, UNKNOWN_TOPIC_OR_PARTITION):
        raise WireError(f"DeleteTopics {name!r}: error code {error}")


def elect_preferred_leaders(
    address: tuple[str, int], topic: str, partitions: Sequence[int], timeout_s: float = 30.0
) -> dict[int, int]:
    """Let the first replica of each partition lead, if it is in sync; error code by partition (84: it leads already)."""
    body = struct.pack(">i", 1) + _string(topic) + struct.pack(f">i{len(partitions)}i", len(partitions), *partitions)
    reader = _ask(address, ELECT_LEADERS, 0, body + struct.pack(">i", int(timeout_s * 1000)), timeout_s + 5)
    reader.unpack("i")  # throttle time
    errors: dict[int, int] = {}
    for _ in range(reader.unpack("i")):
        reader.string()
        for _ in range(reader.unpack("i")):
            index, code, _message = reader.unpack("i"), reader.unpack("h"), reader.string()
            errors[index] = code
    return errors


def active_controller(address: tuple[str, int], timeout_s: float = 30.0) -> int:
    """The node of the active controller: the leader of the quorum, which Metadata does not name."""
    topic, no_tags = b"__cluster_metadata", b"\0"
    partitions = b"\x02" + struct.pack(">i", 0) + no_tags
    body = no_tags + b"\x02" + struct.pack(">B", len(topic) + 1) + topic + partitions + no_tags + no_tags
    reader = _ask(address, DESCRIBE_QUORUM, 0, body, timeout_s)
    reader.unpack("b")  # tags
    if error := reader.unpack("h"):
        raise WireError(f"DescribeQuorum: error code {error}")
    reader.unpack("b"), reader.compact_string(), reader.unpack("b"), reader.unpack("i")
    if error := reader.unpack("h"):
        raise WireError(f"DescribeQuorum: error code {error} for the partition")
    return reader.unpack("i")


def reassign(
    address: tuple[str, int], topic: str, replicas: Mapping[int, Sequence[int]], timeout_s: float = 30.0
) -> None:
    """Give partitions other replicas, or the same in another order; returns when the reassignment has begun.

    One that loses its replica on the leader gets another leader when the new replicas have caught up.
    """
    no_tags = b"\0"
    parts = b"".join(
        struct.pack(f">iB{len(nodes)}i", index, len(nodes) + 1, *nodes) + no_tags for index, nodes in replicas.items()
    )
    raw = topic.encode()
    assert len(raw) < 127
    assert len(replicas) < 127  # lengths are one byte here
    named = struct.pack(">BB", 2, len(raw) + 1) + raw + struct.pack(">B", len(replicas) + 1) + parts + no_tags
    body = no_tags + struct.pack(">i", int(timeout_s * 1000)) + named + no_tags
    reader = _ask(address, ALTER_PARTITION_REASSIGNMENTS, 0, body, timeout_s + 5)
    reader.unpack("b"), reader.unpack("i")  # tags, throttle time
    if error := reader.unpack("h"):
        raise WireError(f"AlterPartitionReassignments {topic!r}: error code {error}: {reader.compact_string()}")
    reader.compact_string()
    for _ in range(reader.unpack("b") - 1):
        reader.compact_string()
        for _ in range(reader.unpack("b") - 1):
            index, code, message = reader.unpack("i"), reader.unpack("h"), reader.compact_string()
            reader.unpack("b")
            if code:
                raise WireError(f"AlterPartitionReassignments {topic}-{index}: error code {code}: {message}")
        reader.unpack("b")
