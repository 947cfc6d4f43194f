"""`MockProducer`: a producer without brokers, as Java's `MockProducer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, SupportsIndex, TypeVar, cast, overload

from penstock._native import ArrowRecords, BulkResult, DeliveryFuture, ProducerRecord
from penstock.control.cluster_view import PartitionInfo
from penstock.facade.types import ArrowData, Callback, Headers, SerializerLike
from penstock.partitioner import Partitioner
from penstock.testing.mock_bulk import Entries, MockBulkResult
from penstock.testing.mock_core import Mock, aligned
from penstock.testing.mock_future import MockDeliveryFuture

K = TypeVar("K")
V = TypeVar("V")
KS = TypeVar("KS")
VS = TypeVar("VS")


class MockProducer(Mock[K, V]):
    """A `penstock.Producer` for unit tests: records are serialized and partitioned as by the real one, and stored.

    With `auto_complete` each record is acknowledged by `send` itself; without, the test calls `complete_next` and
    `error_next`, which complete records in the order of sending. Callbacks run on the thread that completes a record.
    Thread-safe.

    Set `send_error`, `flush_error`, `close_error` or `partitions_for_error` to make the method of that name raise, and
    `metrics_values` to the result of `metrics`.

    Args:
        auto_complete: whether records are acknowledged at once.
        key_serializer: as `KafkaProducer`'s; without one, bytes-like objects and None are accepted.
        value_serializer: the same for values.
        partitioner: a `Partitioner`; without one, murmur2 over the serialized key as in Kafka, and partition 0 for
            records without a key (a real producer uses one random partition for a while).
        partitions: of each topic, or by topic's name; other topics then do not exist.
        clock_ms: the time of records without a timestamp, in ms since the epoch.

    Java: `org.apache.kafka.clients.producer.MockProducer`.
    """

    @overload
    def __init__(
        self: MockProducer[bytes, bytes],
        auto_complete: bool = True,
        *,
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: MockProducer[KS, bytes],
        auto_complete: bool = True,
        *,
        key_serializer: SerializerLike[KS],
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: MockProducer[bytes, VS],
        auto_complete: bool = True,
        *,
        value_serializer: SerializerLike[VS],
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: MockProducer[KS, VS],
        auto_complete: bool = True,
        *,
        key_serializer: SerializerLike[KS],
        value_serializer: SerializerLike[VS],
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None: ...
    def __init__(self, auto_complete: bool = True, **options: Any) -> None:
        """Starts nothing."""
        super().__init__(auto_complete, **options)

    @overload
    def send(self, topic: ProducerRecord[Any, Any], *, callback: Callback | None = None) -> DeliveryFuture: ...
    @overload
    def send(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: SupportsIndex | None = None,
        timestamp: SupportsIndex | datetime | None = None,
        headers: Headers | None = None,
        callback: Callback | None = None,
    ) -> DeliveryFuture: ...
    def send(
        self,
        topic: Any,
        value: Any = None,
        *,
        key: Any = None,
        partition: SupportsIndex | None = None,
        timestamp: SupportsIndex | datetime | None = None,
        headers: Headers | None = None,
        callback: Callback | None = None,
    ) -> DeliveryFuture:
        """As `KafkaProducer.send`: raises the same errors, and stores the record."""
        future = self._buffer(topic, value, key, partition, timestamp, headers, callback)
        return cast("DeliveryFuture", future)  # the native class is final; this one has its methods

    def send_many(
        self,
        topic: str,
        values: Iterable[V | None],
        *,
        keys: Iterable[K | None] | None = None,
        headers: Iterable[Headers | None] | None = None,
        timestamps: Iterable[SupportsIndex | datetime | None] | None = None,
        partition: SupportsIndex | None = None,
    ) -> BulkResult:
        """As `KafkaProducer.send_many`: `send` for each; an error of a record after the first one is in the result."""
        columns = aligned(values, keys, headers, timestamps)
        entries: Entries[MockDeliveryFuture] = Entries(topic)
        for entry in zip(*columns, strict=False):
            entries.take(partial(self._send_entry, topic, entry, partition))
        return cast("BulkResult", MockBulkResult(entries.taken))

    def send_arrow(
        self,
        topic: str,
        data: ArrowData,
        *,
        value: str | Sequence[str] | None = None,
        key: str | Sequence[str] | None = None,
        partition: SupportsIndex | str | None = None,
        timestamp: str | None = None,
        headers: str | None = None,
        index: bool | None = None,
    ) -> BulkResult:
        """As `KafkaProducer.send_arrow`, with the same reading of the columns."""
        rows = ArrowRecords(
            data, value=value, key=key, partition=partition, timestamp=timestamp, headers=headers, index=index
        )
        entries: Entries[MockDeliveryFuture] = Entries(topic)
        self._send_rows(topic, rows, entries)
        return cast("BulkResult", MockBulkResult(entries.taken))

    def flush(self, timeout: float | None = None) -> None:
        """Acknowledge every pending record (as in Java).

        Raises `DeliveryError` if records without a callback failed and their future was not used, and `ValueError` for a
        negative `timeout`.
        """
        self._flush(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Acknowledge pending records, or fail them with `ProducerClosedError` if `timeout` is 0; then refuse records.

        Raises `ValueError` for a negative `timeout`.
        """
        self._close(timeout)

    def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """The partitions, led by a broker that does not exist; `KafkaTimeoutError` at once for an absent topic."""
        return self._partitions_for(topic)

    def __enter__(self) -> Self:
        """The producer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close; after an exception, close only."""
        if kind is None and not self._closed:
            try:
                self.flush()
            finally:
                self.close()
        else:
            self.close()

    def _new_future(self) -> MockDeliveryFuture:
        return MockDeliveryFuture()
