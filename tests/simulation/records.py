"""The records of the application: what was sent, with which result."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from penstock._native import BulkResult, DeliveryFuture, RecordMetadata
from penstock.errors import KafkaError
from simulation.cluster import sender_of
from support.oracle import Reported, reported_by

if TYPE_CHECKING:
    from simulation.coroutines import InLoop


class Sent:
    """One record that was buffered."""

    __slots__ = ("called", "future", "number", "partition", "sent_us", "topic")

    def __init__(self, number: int, topic: str, partition: int | None, sent_us: int) -> None:
        self.number = number
        self.topic = topic
        self.partition = partition
        self.sent_us = sent_us
        self.future: DeliveryFuture | OneOfMany | InLoop | None = None
        self.called: list[tuple[RecordMetadata | None, KafkaError | None]] | None = None

    def resolved(self) -> tuple[KafkaError | None] | None:
        """None while it is unresolved, else its error in a tuple."""
        return (self.future.exception(0),) if self.future is not None and self.future.done() else None

    def failed(self) -> bool:
        """Whether it was buffered and failed."""
        return self.future is not None and self.future.done() and self.future.exception(0) is not None

    def reported(self, senders: int) -> Reported:
        """Its result, for the oracle. `senders`: as many as the plan has tasks."""
        future = self.future
        assert future is not None
        partition = self.partition
        if partition is None and future.done():
            error = future.exception(0)
            partition = future.result(0).partition if error is None else error.partition
        return reported_by((self.topic, partition), sender_of(self.number, senders), self.number, future)


class OneOfMany:
    """A record of a bulk result, with the methods of a future."""

    def __init__(self, result: BulkResult, index: int) -> None:
        self._result = result
        self._index = index

    def done(self) -> bool:
        return self._result.done()

    def exception(self, timeout: float | None = None) -> KafkaError | None:
        return self._result.result(timeout).errors.get(self._index)

    def result(self, timeout: float | None = None) -> Any:
        result = self._result.result(timeout)
        return SimpleNamespace(partition=result.partitions[self._index], offset=result.offsets[self._index])


def called(into: list[tuple[Any, Any]], metadata: Any, error: Any) -> None:
    """A callback: notes that it ran, and with what."""
    into.append((metadata, error))


def broken_callbacks(sent: Iterable[Sent]) -> list[str]:
    """Records whose callback did not run exactly once, or reported another result than the future."""
    broken = []
    for record in sent:
        if record.called is None:
            continue
        assert record.future is not None
        if len(record.called) != 1:
            broken.append(f"the callback of record {record.number} ran {len(record.called)} times")
            continue
        (metadata, error) = record.called[0]
        if (error is None) != (record.future.exception(0) is None) or (metadata is None) == (error is None):
            broken.append(f"record {record.number}: its callback and its future disagree")
    return broken
