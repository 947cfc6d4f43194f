"""`MockProducer` and `AsyncMockProducer`: producers without brokers, as Java's `MockProducer`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence, Sized
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import chain, repeat
from operator import index
from types import TracebackType
from typing import Any, Final, Generic, NamedTuple, Self, SupportsIndex, TypeVar, cast, overload

from penstock import serialization
from penstock._log import Repeats, log_line
from penstock._native import (
    ArrowRecords,
    AsyncBulkResult,
    AsyncDeliveryFuture,
    BulkResult,
    DeliveryFuture,
    ProducerRecord,
    RecordMetadata,
    partition_for_key,
    timeout_s,
)
from penstock.control.cluster_view import Node, PartitionInfo
from penstock.errors import DeliveryError, KafkaError, KafkaTimeoutError, ProducerClosedError, RecordPurgedError
from penstock.facade import loops
from penstock.facade.types import ArrowData, Callback, Column, Headers, SerializerLike
from penstock.metrics import Metrics
from penstock.partitioner import Partitioner, TopicView
from penstock.testing.mock_bulk import AsyncMockBulkResult, Entries, MockBulkResult
from penstock.testing.mock_future import AsyncMockDeliveryFuture, MockDeliveryFuture

_log: Final = logging.getLogger(__name__)

_NODE: Final = Node(0, "mock", 0)
_ERRORS_KEPT: Final = 10

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
KS = TypeVar("KS")
VS = TypeVar("VS")


class SentRecord(NamedTuple):
    """A record as it would go into the log."""

    record: ProducerRecord[Any, Any]
    """As passed to `send`."""
    partition: int
    key: bytes | None
    value: bytes | None


class _Pending(NamedTuple):
    sent: SentRecord
    timestamp: int
    future: MockDeliveryFuture | AsyncMockDeliveryFuture
    callback: Callback | None


class _Mock(Generic[K, V]):
    """The common part of both mocks: everything except their ways to wait."""

    def __init__(
        self,
        auto_complete: bool = True,
        *,
        key_serializer: Any = None,
        value_serializer: Any = None,
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """Starts nothing."""
        self.auto_complete = auto_complete
        self.send_error: BaseException | None = None
        self.flush_error: BaseException | None = None
        self.close_error: BaseException | None = None
        self.partitions_for_error: BaseException | None = None
        self.metrics_values: Metrics = {}
        self._key = serialization.as_serializer(key_serializer, setting="key.serializer")
        self._value = serialization.as_serializer(value_serializer, setting="value.serializer")
        self._partitioner = partitioner
        self._partitions = partitions
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._lock = threading.Lock()
        self._sent: list[SentRecord] = []
        self._pending: deque[_Pending] = deque()
        self._unnoticed: list[tuple[MockDeliveryFuture | AsyncMockDeliveryFuture, KafkaError]] = []
        self._offsets: Counter[tuple[str, int]] = Counter()
        self._closed = False
        self._repeats = Repeats()

    # --- Read by the test ---

    @property
    def sent(self) -> list[SentRecord]:
        """Every record sent since the last `clear`, with its partition and serialized key and value."""
        with self._lock:
            return list(self._sent)

    def history(self) -> list[ProducerRecord[K, V]]:
        """Every record sent since the last `clear`, as passed to `send`, acknowledged or not."""
        return [sent.record for sent in self.sent]

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    @property
    def flushed(self) -> bool:
        """Whether no record is pending."""
        return not self._pending

    # --- Called by the test ---

    def complete_next(self) -> bool:
        """Acknowledge the oldest pending record; False if there is none."""
        return self._complete_next(None)

    def error_next(self, error: KafkaError) -> bool:
        """Fail the oldest pending record with `error`; False if there is none."""
        return self._complete_next(error)

    def clear(self) -> None:
        """Drop all records; pending futures are never done (as in Java). Offsets go on."""
        with self._lock:
            self._sent.clear()
            self._pending.clear()
            self._unnoticed.clear()

    def metrics(self) -> Metrics:
        """The value of `metrics_values`."""
        return self.metrics_values

    def purge(self, topic: str | None = None) -> int:
        """Fail all pending records, or those of one topic, with `RecordPurgedError`; returns how many they were."""
        self._check_open()
        with self._lock:
            purged = [pending for pending in self._pending if topic in (None, pending.sent.record.topic)]
            kept = (pending for pending in self._pending if topic not in (None, pending.sent.record.topic))
            self._pending = deque(kept)
        for pending in purged:
            place = {"topic": pending.sent.record.topic, "partition": pending.sent.partition}
            error = RecordPurgedError("the application purged the record", attempts=0, stage="linger", **place)
            self._resolve(pending, None, error)
        return len(purged)

    # --- Internal ---

    def _buffer(
        self,
        topic: Any,
        value: Any,
        key: Any,
        partition: SupportsIndex | None,
        timestamp: SupportsIndex | datetime | None,
        headers: Headers | None,
        callback: Callback | None,
    ) -> MockDeliveryFuture | AsyncMockDeliveryFuture:
        if callback is not None and not callable(callback):
            raise TypeError(f"callback is not callable: {type(callback)}")
        if not isinstance(topic, ProducerRecord):
            record = ProducerRecord(topic, value, key=key, partition=partition, timestamp=timestamp, headers=headers)
        elif any(field is not None for field in (value, key, partition, timestamp, headers)):
            raise TypeError("send(record) takes no other argument than callback")
        else:
            record = topic
        future, _ = self._send(record, callback, serialized=False)
        return future

    def _send(
        self, record: ProducerRecord[Any, Any], callback: Callback | None, *, serialized: bool
    ) -> tuple[MockDeliveryFuture | AsyncMockDeliveryFuture, SentRecord]:
        self._check_open()
        if self.send_error is not None:
            raise self.send_error
        pending = self._prepare(record, callback, serialized=serialized)
        with self._lock:
            self._check_open()
            self._sent.append(pending.sent)
            self._pending.append(pending)
        if self.auto_complete:
            self.complete_next()
        return pending.future, pending.sent

    def _send_entry(self, topic: str, entry: tuple[Any, ...], partition: SupportsIndex | None) -> Any:
        value, key, headers, timestamp = entry
        record = ProducerRecord(topic, value, key=key, partition=partition, timestamp=timestamp, headers=headers)
        return self._send(record, None, serialized=False)

    def _send_rows(self, topic: str, rows: ArrowRecords, entries: Entries[Any]) -> None:
        for value, key, partition, timestamp, headers in chain.from_iterable(iter(rows.take, [])):
            record = ProducerRecord(topic, value, key=key, partition=partition, timestamp=timestamp, headers=headers)
            entries.take(partial(self._send, record, None, serialized=True))

    def _flush(self, timeout: float | None) -> None:
        timeout_s(timeout)  # raises as the real producer does
        self._check_open()
        if self.flush_error is not None:
            raise self.flush_error
        for _ in range(len(self._pending)):
            self.complete_next()
        with self._lock:
            errors = [error for future, error in self._unnoticed if not future.noticed]
            self._unnoticed.clear()
        if errors:
            raise DeliveryError(count=len(errors), errors=errors[:_ERRORS_KEPT])

    def _close(self, timeout: float | None) -> None:
        gave_up = timeout_s(timeout) == 0
        if self.close_error is not None:
            raise self.close_error
        with self._lock:
            already, self._closed = self._closed, True
        if already:
            return
        while self._complete_next(ProducerClosedError("the producer was closed") if gave_up else None):
            pass
        serialization.close(self._key)
        serialization.close(self._value)

    def _partitions_for(self, topic: str) -> list[PartitionInfo]:
        self._check_open()
        if self.partitions_for_error is not None:
            raise self.partitions_for_error
        nodes = (_NODE,)
        return [PartitionInfo(topic, number, _NODE, nodes, nodes, ()) for number in range(self._count(topic))]

    def _new_future(self) -> MockDeliveryFuture | AsyncMockDeliveryFuture:
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._closed:
            raise ProducerClosedError("the producer is closed")

    def _prepare(self, record: ProducerRecord[Any, Any], callback: Callback | None, *, serialized: bool) -> _Pending:
        topic, headers = record.topic, record.headers
        key, value = record.key, record.value
        if not serialized:
            key = serialization.serialize(self._key, topic, headers, key, setting="key.serializer")
            value = serialization.serialize(self._value, topic, headers, value, setting="value.serializer")
        key_bytes = None if key is None else bytes(key)
        value_bytes = None if value is None else bytes(value)
        partition = self._partition(record, key_bytes, value_bytes)
        timestamp = self._clock_ms() if record.timestamp is None else record.timestamp
        future = self._new_future()
        future.noticed = callback is not None
        return _Pending(SentRecord(record, partition, key_bytes, value_bytes), timestamp, future, callback)

    def _partition(self, record: ProducerRecord[Any, Any], key: bytes | None, value: bytes | None) -> int:
        count = self._count(record.topic)
        partition = record.partition
        if partition is None and self._partitioner is not None:
            every = tuple(range(count))
            view = TopicView(record.topic, every, every)
            chosen = self._partitioner.partition(record.topic, record.key, key, record.value, value, view)
            return _chosen_partition(chosen, record.topic, count)
        if partition is None:
            return 0 if key is None else partition_for_key(key, count)
        if not 0 <= partition < count:
            raise KafkaTimeoutError(
                f"there is no partition {partition}, only 0 to {count - 1}",
                topic=record.topic,
                partition=partition,
                stage="metadata",
                hint="Send to a partition that exists, or add partitions to the topic.",
            )
        return partition

    def _count(self, topic: str) -> int:
        if not isinstance(self._partitions, Mapping):
            return index(self._partitions)
        if topic not in self._partitions:
            raise KafkaTimeoutError("the topic does not exist", topic=topic, stage="metadata")
        return index(self._partitions[topic])

    def _complete_next(self, error: KafkaError | None) -> bool:
        with self._lock:
            if not self._pending:
                return False
            pending = self._pending.popleft()
            metadata = None if error is not None else self._metadata(pending)
            if error is not None and not pending.future.noticed:
                self._unnoticed.append((pending.future, error))
        self._resolve(pending, metadata, error)
        return True

    def _resolve(self, pending: _Pending, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        # Without the lock: callbacks may send. The future completes first, as in the real producer.
        pending.future.complete(metadata, error)
        if pending.callback is not None:
            self._call(pending, pending.callback, metadata, error)

    def _call(
        self, pending: _Pending, callback: Callback, metadata: RecordMetadata | None, error: KafkaError | None
    ) -> None:
        try:
            callback(metadata, error)
        except Exception as raised:
            log_line(_log, logging.ERROR, "the callback of a record raised", exc_info=raised)

    def _metadata(self, pending: _Pending) -> RecordMetadata:
        record, partition, key, value = pending.sent
        offset = self._offsets[record.topic, partition]
        self._offsets[record.topic, partition] += 1
        sizes = (-1 if data is None else len(data) for data in (key, value))
        return RecordMetadata(record.topic, partition, offset, pending.timestamp, *sizes)


def _chosen_partition(chosen: Any, topic: str, count: int) -> int:
    """The result of a partitioner, with the checks of the real producer."""
    try:
        partition = index(chosen)
    except TypeError as error:
        raise TypeError(f"the partitioner returned {chosen!r}, not the number of a partition") from error
    if not 0 <= partition < count:
        raise ValueError(f"the partitioner chose partition {partition} of {topic}, which has {count} partitions")
    return partition


def _columns(*columns: Any) -> list[Any]:
    """The columns of `send_many`; a column that was not given is endless."""
    counts = {len(column) for column in columns if isinstance(column, Sized)}
    if len(counts) > 1:
        raise ValueError(f"values, keys, headers and timestamps of different lengths: {sorted(counts)}")
    return [repeat(None) if column is None else column for column in columns]


async def _awaited(column: Iterable[T]) -> AsyncIterator[T]:
    for entry in column:
        yield entry


async def _zipped(columns: Iterable[Any]) -> AsyncIterator[tuple[Any, ...]]:
    """As `zip`, for sync and async iterables."""
    iterators = [aiter(column if isinstance(column, AsyncIterable) else _awaited(column)) for column in columns]
    with suppress(StopAsyncIteration):
        while True:
            yield tuple([await anext(iterator) for iterator in iterators])


class MockProducer(_Mock[K, V]):
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
        columns = _columns(values, keys, headers, timestamps)
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


class AsyncMockProducer(_Mock[K, V]):
    """A `penstock.AsyncProducer` for unit tests: `MockProducer` with methods that are awaited.

    Futures are asyncio futures of the loop that sends; callbacks run in that loop. Records may be completed on any thread.
    """

    @overload
    def __init__(
        self: AsyncMockProducer[bytes, bytes],
        auto_complete: bool = True,
        *,
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncMockProducer[KS, bytes],
        auto_complete: bool = True,
        *,
        key_serializer: SerializerLike[KS],
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncMockProducer[bytes, VS],
        auto_complete: bool = True,
        *,
        value_serializer: SerializerLike[VS],
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncMockProducer[KS, VS],
        auto_complete: bool = True,
        *,
        key_serializer: SerializerLike[KS],
        value_serializer: SerializerLike[VS],
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None: ...
    def __init__(self, auto_complete: bool = True, **options: Any) -> None:
        """Starts nothing and needs no loop."""
        super().__init__(auto_complete, **options)

    @overload
    async def send(
        self, topic: ProducerRecord[Any, Any], *, callback: Callback | None = None
    ) -> AsyncDeliveryFuture: ...
    @overload
    async def send(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: SupportsIndex | None = None,
        timestamp: SupportsIndex | datetime | None = None,
        headers: Headers | None = None,
        callback: Callback | None = None,
    ) -> AsyncDeliveryFuture: ...
    async def send(
        self,
        topic: Any,
        value: Any = None,
        *,
        key: Any = None,
        partition: SupportsIndex | None = None,
        timestamp: SupportsIndex | datetime | None = None,
        headers: Headers | None = None,
        callback: Callback | None = None,
    ) -> AsyncDeliveryFuture:
        """As `AsyncKafkaProducer.send`: raises the same errors, and stores the record."""
        future = self._buffer(topic, value, key, partition, timestamp, headers, callback)
        return cast("AsyncDeliveryFuture", future)  # the native class is final; this one has its methods

    @overload
    async def send_and_wait(
        self, topic: ProducerRecord[Any, Any], *, callback: Callback | None = None
    ) -> RecordMetadata: ...
    @overload
    async def send_and_wait(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: SupportsIndex | None = None,
        timestamp: SupportsIndex | datetime | None = None,
        headers: Headers | None = None,
        callback: Callback | None = None,
    ) -> RecordMetadata: ...
    async def send_and_wait(self, topic: Any, value: Any = None, **rest: Any) -> RecordMetadata:
        """`send`, then await the future."""
        return await (await self.send(topic, value, **rest))

    async def send_many(
        self,
        topic: str,
        values: Column[V | None],
        *,
        keys: Column[K | None] | None = None,
        headers: Column[Headers | None] | None = None,
        timestamps: Column[SupportsIndex | datetime | None] | None = None,
        partition: SupportsIndex | None = None,
    ) -> AsyncBulkResult:
        """As `AsyncKafkaProducer.send_many`: `send` for each; an error of a record after the first one is in the result."""
        columns = _columns(values, keys, headers, timestamps)
        entries: Entries[AsyncMockDeliveryFuture] = Entries(topic)
        async for entry in _zipped(columns):
            entries.take(partial(self._send_entry, topic, entry, partition))
        return cast("AsyncBulkResult", AsyncMockBulkResult(entries.taken))

    async def send_arrow(
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
    ) -> AsyncBulkResult:
        """As `AsyncKafkaProducer.send_arrow`, with the same reading of the columns."""
        rows = ArrowRecords(
            data, value=value, key=key, partition=partition, timestamp=timestamp, headers=headers, index=index
        )
        entries: Entries[AsyncMockDeliveryFuture] = Entries(topic)
        self._send_rows(topic, rows, entries)
        return cast("AsyncBulkResult", AsyncMockBulkResult(entries.taken))

    async def flush(self, timeout: float | None = None) -> None:
        """Acknowledge every pending record (as in Java).

        Raises `DeliveryError` if records without a callback failed and their future was not used, and `ValueError` for a
        negative `timeout`.
        """
        self._flush(timeout)
        await asyncio.sleep(0)  # callbacks

    async def close(self, timeout: float | None = None) -> None:
        """Acknowledge pending records, or fail them with `ProducerClosedError` if `timeout` is 0; then refuse records.

        Raises `ValueError` for a negative `timeout`.
        """
        self._close(timeout)
        await asyncio.sleep(0)

    async def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """The partitions, led by a broker that does not exist; `KafkaTimeoutError` at once for an absent topic."""
        return self._partitions_for(topic)

    async def __aenter__(self) -> Self:
        """The producer itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Flush and close; after an exception, close only."""
        if kind is None and not self._closed:
            try:
                await self.flush()
            finally:
                await self.close()
        else:
            await self.close()

    def _new_future(self) -> AsyncMockDeliveryFuture:
        return AsyncMockDeliveryFuture(loop=asyncio.get_running_loop())

    def _call(
        self, pending: _Pending, callback: Callback, metadata: RecordMetadata | None, error: KafkaError | None
    ) -> None:
        loop: asyncio.AbstractEventLoop = pending.future.get_loop()  # type: ignore[union-attr]

        def call() -> None:
            try:
                callback(metadata, error)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as raised:
                loops.report(loop, callback, raised, self._repeats)

        # Scheduled in the loop even on its own thread: a callback never runs inside `send`.
        loop.call_soon_threadsafe(call)
