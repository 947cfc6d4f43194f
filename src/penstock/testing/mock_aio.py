"""`AsyncMockProducer`: a producer without brokers for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, SupportsIndex, TypeVar, cast, overload

from penstock._native import ArrowRecords, AsyncBulkResult, AsyncDeliveryFuture, ProducerRecord, RecordMetadata
from penstock.control.cluster_view import PartitionInfo
from penstock.errors import KafkaError
from penstock.facade import loops
from penstock.facade.types import ArrowData, Callback, Column, Headers, SerializerLike
from penstock.partitioner import Partitioner
from penstock.testing.mock_bulk import AsyncMockBulkResult, Entries
from penstock.testing.mock_core import Mock, Pending, aligned
from penstock.testing.mock_future import AsyncMockDeliveryFuture

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
KS = TypeVar("KS")
VS = TypeVar("VS")


async def _awaited(column: Iterable[T]) -> AsyncIterator[T]:
    for entry in column:
        yield entry


async def _zipped(columns: Iterable[Any]) -> AsyncIterator[tuple[Any, ...]]:
    """As `zip`, for sync and async iterables."""
    iterators = [aiter(column if isinstance(column, AsyncIterable) else _awaited(column)) for column in columns]
    with suppress(StopAsyncIteration):
        while True:
            yield tuple([await anext(iterator) for iterator in iterators])


class AsyncMockProducer(Mock[K, V]):
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
        columns = aligned(values, keys, headers, timestamps)
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
        self, pending: Pending, callback: Callback, metadata: RecordMetadata | None, error: KafkaError | None
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
