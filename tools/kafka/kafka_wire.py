"""The few Kafka requests that the harness itself needs, by hand: ApiVersions 0, Metadata 1, CreateTopics 2.

Deliberately neither Penstock's codec (the judge must not share code with the judged) nor a client library (so that
`make kafka` needs nothing but Python, Java and Maven).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

API_VERSIONS, METADATA, CREATE_TOPICS = 18, 3, 19
NONE, TOPIC_ALREADY_EXISTS = 0, 36
_CORRELATION_ID = 7


class WireError(RuntimeError):
    """The broker answered with an error code, or with something that is no answer."""


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A partition as one broker sees it."""

    error: int
    index: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster as one broker sees it: brokers by id, partitions by topic (absent if the topic has an error)."""

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
    """The cluster as this broker sees it, with the named topics."""
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
    """Create one topic; a `WireError` carries Kafka's own words when it refuses."""
    body = struct.pack(">i", 1) + _string(name) + struct.pack(">ihi", partitions, replication_factor, 0)
    body += struct.pack(">i", len(config)) + b"".join(_string(k) + _string(v) for k, v in config.items())
    body += struct.pack(">ib", int(timeout_s * 1000), 0)
    reader = _ask(address, CREATE_TOPICS, 2, body, timeout_s + 5)
    reader.unpack("i"), reader.unpack("i")  # throttle time, number of topics: one
    _name, error, message = reader.string(), reader.unpack("h"), reader.string()
    if error != NONE:
        raise WireError(f"CreateTopics {name!r}: error code {error}: {message}")
