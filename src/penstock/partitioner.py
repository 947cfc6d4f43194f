"""Partitioners in Python: the protocol of a custom partitioner, and Kafka's round robin.

Without `partitioner.class`, native code chooses as Java's built-in partitioner does: murmur2 over the serialized key,
and for records without a key the uniform sticky partitioner (KIP-480, KIP-794).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, SupportsIndex

from penstock.errors import ConfigError


class Cluster(Protocol):
    """The metadata for a partitioner, as of this record."""

    def partitions_for_topic(self, topic: str, /) -> tuple[int, ...]:
        """The topic's partitions, ascending; empty for an unknown topic."""
        raise NotImplementedError

    def available_partitions(self, topic: str, /) -> tuple[int, ...]:
        """Those of them that have a leader, ascending."""
        raise NotImplementedError


class Partitioner(Protocol):
    """Chooses each record's partition, on the thread that sends it (Java's `Partitioner`).

    It may also have `configure(configs)`, called once with the whole configuration before use, and `close()`, called
    when the producer closes. Several threads may call `partition` at once.
    """

    def partition(
        self,
        topic: str,
        key: Any,
        key_bytes: bytes | None,
        value: Any,
        value_bytes: bytes | None,
        cluster: Cluster,
        /,
    ) -> SupportsIndex:
        """The partition, at least 0, of a record that names none. `send` raises what this raises."""
        raise NotImplementedError


class TopicView(NamedTuple):
    """A `Cluster` of one topic, that of the record."""

    topic: str
    partitions: tuple[int, ...]
    """All partitions, ascending."""
    available: tuple[int, ...]
    """Those that have a leader, ascending."""

    def partitions_for_topic(self, topic: str, /) -> tuple[int, ...]:
        """The topic's partitions; empty for any other topic."""
        return self.partitions if topic == self.topic else ()

    def available_partitions(self, topic: str, /) -> tuple[int, ...]:
        """The topic's partitions that have a leader; empty for any other topic."""
        return self.available if topic == self.topic else ()


class RoundRobinPartitioner:
    """Each topic's partitions one after the other, regardless of keys (Java's `RoundRobinPartitioner`).

    Partitions without a leader are left out, unless none has a leader. Thread-safe.
    """

    def __init__(self) -> None:
        """Each topic begins at its first partition."""
        self._counters: dict[str, Iterator[int]] = {}

    def partition(
        self,
        topic: str,
        key: Any,
        key_bytes: bytes | None,
        value: Any,
        value_bytes: bytes | None,
        cluster: Cluster,
        /,
    ) -> int:
        """The next partition of the topic."""
        # setdefault and next are atomic: without a lock, two threads never get the same number.
        number = next(self._counters.setdefault(topic, itertools.count()))
        candidates = cluster.available_partitions(topic) or cluster.partitions_for_topic(topic)
        return candidates[number % len(candidates)]

    def configure(self, configs: Mapping[str, Any], /) -> None:
        """Nothing to configure."""

    def close(self) -> None:
        """Nothing to close."""


def as_partitioner(given: Any) -> Partitioner | None:
    """The partitioner of `partitioner.class`; None for None, the built-in one.

    Args:
        given: an object with `partition`, or a class of such objects. The configuration has imported names.

    Raises:
        ConfigError: it is neither, or the class needs arguments.
    """
    if given is None:
        return None
    made: Any = given
    if isinstance(given, type) and hasattr(given, "partition"):
        try:
            made = given()
        except Exception as error:
            raise ConfigError(
                f"partitioner.class = {given.__name__}: it needs arguments ({error}); pass an instance",
                setting="partitioner.class",
                cause=error,
            ) from error
    # A str has a method `partition`, too, but is no partitioner.
    if isinstance(made, (str, bytes, bytearray, type)) or not callable(getattr(made, "partition", None)):
        raise ConfigError(
            f"partitioner.class = {given!r}: not an object with "
            "partition(topic, key, key_bytes, value, value_bytes, cluster)",
            setting="partitioner.class",
        )
    partitioner: Partitioner = made
    return partitioner


def configure(partitioner: Partitioner, configs: Mapping[str, Any]) -> None:
    """Call `configure(configs)` if the partitioner has it."""
    method = getattr(partitioner, "configure", None)
    if method is not None:
        method(configs)


def close(partitioner: Partitioner) -> None:
    """Call `close()` if the partitioner has it."""
    method = getattr(partitioner, "close", None)
    if method is not None:
        method()
