"""Choosing partitions in Python: the protocol of a custom partitioner, and Kafka's other one, round robin.

Without `partitioner.class`, native code chooses as Java's built-in partitioner does: murmur2 over the serialized key,
and for records without one the uniform sticky partitioner (KIP-480, KIP-794).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol, SupportsIndex

from penstock.errors import ConfigError


class Cluster(Protocol):
    """What a partitioner may know of the cluster: the metadata as of this record."""

    def partitions_for_topic(self, topic: str, /) -> tuple[int, ...]:
        """The topic's partitions, ascending; empty if it is not known."""
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
        """The partition, 0 or above, for a record that names none; what it raises, `send` raises."""
        raise NotImplementedError


class TopicView(NamedTuple):
    """A `Cluster` of one topic: what a partitioner asks about is the record's topic."""

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
    """Each topic's partitions in turn, whatever the keys (Java's `RoundRobinPartitioner`).

    Partitions without a leader are passed over, unless none has one. Thread-safe.
    """

    def __init__(self) -> None:
        """Each topic begins at its first partition."""
        self._turns: dict[str, Iterator[int]] = {}

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
        # setdefault and next are atomic: no lock is needed for two threads never to get the same turn.
        turn = next(self._turns.setdefault(topic, itertools.count()))
        candidates = cluster.available_partitions(topic) or cluster.partitions_for_topic(topic)
        return candidates[turn % len(candidates)]

    def configure(self, configs: Mapping[str, Any], /) -> None:
        """Nothing to configure."""

    def close(self) -> None:
        """Nothing to close."""


def as_partitioner(given: Any) -> Partitioner | None:
    """The partitioner behind `partitioner.class`; None for None, which means the built-in one.

    Args:
        given: an object with `partition`, or a class of such objects. Names are resolved by the configuration.

    Raises:
        ConfigError: it is neither, or the class cannot be instantiated without arguments.
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
    # A str, too, has a `partition`, which is not the one that is meant.
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
