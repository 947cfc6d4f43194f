"""`AsyncKafkaProducer`: the asyncio facade, and the protocol that it and its test double share.

`send` itself is native (`penstock._native.AsyncSender`): for a record that can be buffered at once it needs neither a task
nor a coroutine. The methods here wait: for a topic, for memory, between the steps of a bulk call, for a flush, for the
producer's end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self, SupportsIndex, TypeVar, Unpack, overload

from penstock._native import (
    AsyncBulkResult,
    AsyncDeliveryFuture,
    AsyncSender,
    PendingEnd,
    PendingFlush,
    PendingSend,
    ProducerRecord,
    RecordMetadata,
    timeout_s,
)
from penstock.config import ProducerConfig
from penstock.config.options import ProducerOptions
from penstock.control.cluster_view import PartitionInfo
from penstock.facade import loops
from penstock.facade.assembly import INTERRUPT_DRAIN_S, Facade
from penstock.facade.coroutine_waits import in_thread, until_buffered, until_called, until_done
from penstock.facade.lifecycle import out_of_time
from penstock.facade.types import ArrowData, Callback, Column, Headers, SerializerLike
from penstock.metrics import Metrics

K = TypeVar("K")
V = TypeVar("V")
K_contra = TypeVar("K_contra", contravariant=True)
V_contra = TypeVar("V_contra", contravariant=True)
KS = TypeVar("KS")
VS = TypeVar("VS")


class AsyncProducer(Protocol[K_contra, V_contra]):
    """The methods of `AsyncKafkaProducer` and `penstock.testing.AsyncMockProducer`: a type for applications to depend on."""

    @overload
    def send(
        self, topic: ProducerRecord[Any, Any], *, callback: Callback | None = None
    ) -> Coroutine[Any, Any, AsyncDeliveryFuture]: ...
    @overload
    def send(
        self,
        topic: str,
        value: V_contra | None = None,
        *,
        key: K_contra | None = None,
        partition: SupportsIndex | None = None,
        timestamp: SupportsIndex | datetime | None = None,
        headers: Headers | None = None,
        callback: Callback | None = None,
    ) -> Coroutine[Any, Any, AsyncDeliveryFuture]: ...
    @overload
    async def send_and_wait(
        self, topic: ProducerRecord[Any, Any], *, callback: Callback | None = None
    ) -> RecordMetadata: ...
    @overload
    async def send_and_wait(
        self,
        topic: str,
        value: V_contra | None = None,
        *,
        key: K_contra | None = None,
        partition: SupportsIndex | None = None,
        timestamp: SupportsIndex | datetime | None = None,
        headers: Headers | None = None,
        callback: Callback | None = None,
    ) -> RecordMetadata: ...
    async def send_many(
        self,
        topic: str,
        values: Column[V_contra | None],
        *,
        keys: Column[K_contra | None] | None = None,
        headers: Column[Headers | None] | None = None,
        timestamps: Column[SupportsIndex | datetime | None] | None = None,
        partition: SupportsIndex | None = None,
    ) -> AsyncBulkResult:
        """Buffer many records of one topic."""
        ...

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
        """Buffer the rows of Arrow data."""
        ...

    async def flush(self, timeout: float | None = None) -> None:
        """Deliver everything sent before this call."""
        ...

    def purge(self, topic: str | None = None) -> int:
        """Fail what is buffered and was never sent."""
        ...

    async def close(self, timeout: float | None = None) -> None:
        """Deliver the buffered records, then end."""
        ...

    async def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """The partitions of a topic."""
        ...

    def metrics(self) -> Metrics:
        """Values under the Java producer's names."""
        ...


class AsyncKafkaProducer(AsyncSender[K, V], Facade):
    """Sends records to Kafka from asyncio: as `KafkaProducer`, except that it awaits where that one blocks.

    No method blocks an event loop. Your serializers, partitioners and interceptors are called inside `send` and should
    not block either. Event loops in several threads may share one producer. It must not be used after a fork.

    The constructor works with and without a running loop, and resolves no names. A wrong address shows when a record
    waits for its topic: `KafkaTimeoutError` after max.block.ms, with the reason.

    Args:
        config: Kafka's names and values, or a `ProducerConfig`.
        key_serializer: a serializer, a class of one, or a function from a key to bytes. Without one, keys are
            bytes-like or None.
        value_serializer: the same for values.
        options: the same names as in `config` with underscores for dots; they win.

    Raises:
        ConfigError: a setting is unknown, invalid or not supported; no thread was started.
        KafkaError: the producer's threads could not be started.

    Java: `org.apache.kafka.clients.producer.KafkaProducer`.
    """

    @overload
    def __init__(
        self: AsyncKafkaProducer[bytes, bytes],
        config: Mapping[str, Any] | None = None,
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncKafkaProducer[KS, bytes],
        config: Mapping[str, Any] | None = None,
        *,
        key_serializer: SerializerLike[KS],
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncKafkaProducer[bytes, VS],
        config: Mapping[str, Any] | None = None,
        *,
        value_serializer: SerializerLike[VS],
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: AsyncKafkaProducer[KS, VS],
        config: Mapping[str, Any] | None = None,
        *,
        key_serializer: SerializerLike[KS],
        value_serializer: SerializerLike[VS],
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        key_serializer: Any = None,
        value_serializer: Any = None,
        **options: Unpack[ProducerOptions],
    ) -> None:
        """Check the configuration, and start."""
        parts = self._assemble(
            ProducerConfig(config, key_serializer=key_serializer, value_serializer=value_serializer, **options),
            look_up=False,
        )
        self._attach(parts.engine, **parts.wiring)
        self._start(parts)

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
        """`send` a record, await its delivery, and return its place in the log.

        If it is cancelled after the record was buffered, the record is sent nevertheless.

        Raises:
            KafkaError: as `send` raises it, or the record's failure.
        """
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
        """Send many records to a topic; returns when all are buffered. `await` the result for their outcomes.

        As `KafkaProducer.send_many`, except that a column may also be an async iterable: each record is buffered as soon
        as its entry arrives. It awaits a full buffer and an unknown topic, up to max.block.ms each time, and yields to the
        loop every few ms. Iterables, serializers, interceptors and partitioners are called in the loop.

        If it is cancelled, buffered records are sent nevertheless, the others are not, and no further entry is taken from
        the iterables.

        Raises:
            KafkaError: as `send` raises it, as long as no record is buffered. Later failures are in the result's
                `errors`.
        """
        return await until_buffered(self._send_many(topic, values, keys, headers, timestamps, partition))

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
        """Send the rows of Arrow data to a topic; returns when all are buffered. `await` the result for their outcomes.

        As `KafkaProducer.send_arrow`; waits, errors and cancellation as in `send_many`. A stream is read in the loop, batch
        by batch: collect a slow one (a lazy query, a file) in a thread first.

        Raises:
            KafkaError: as `send` raises it, as long as no record is buffered.
        """
        return await until_buffered(self._send_arrow(topic, data, value, key, partition, timestamp, headers, index))

    async def flush(self, timeout: float | None = None) -> None:
        """Deliver every record sent before this call. Records sent meanwhile do not prolong it.

        The callbacks of these records have run when it returns, except those that belong to other loops.

        Args:
            timeout: seconds; None and infinity wait as long as delivery takes (at most delivery.timeout.ms).

        Raises:
            KafkaTimeoutError: the timeout expired; the text has the number of records left, which are still being sent.
            DeliveryError: records failed that had no callback and whose future was not read.
            ProducerForkedError: the producer was created in a parent process.
            ValueError: the timeout is negative or NaN.

        Java: `KafkaProducer.flush`.
        """
        life = self._alive()
        timeout = timeout_s(timeout)
        began = time.monotonic_ns()
        flush = PendingFlush(life.engine)
        try:
            try:
                await until_done(flush, timeout)
            except TimeoutError:
                raise out_of_time(timeout, life.engine.unresolved_records() or -1) from None
            await until_called()
        finally:
            flush.end()
            self._flush_ns += time.monotonic_ns() - began
        life.raise_unnoticed()

    async def close(self, timeout: float | None = None) -> None:
        """Take no more records, deliver the buffered ones, and end. A second call does nothing more.

        Failures of records without a callback, whose future was not read, are logged. If it is cancelled, closing goes on
        in the background.

        Args:
            timeout: seconds; records that are not delivered by then fail with `ProducerClosedError`. None and infinity
                wait as long as delivery takes; 0 does not wait.

        Raises:
            ProducerForkedError: the producer was created in a parent process.
            ValueError: the timeout is negative or NaN; nothing is closed.

        Java: `KafkaProducer.close`.
        """
        life = self._life
        if life is None:
            return
        life.engine.check_fork()
        timeout = timeout_s(timeout)
        was_closed = life.closed
        life.engine.refuse_sends()
        if not life.ended:
            # On a thread, because it blocks: it joins threads, and a second `close` waits for the first.
            await in_thread(lambda: life.close(timeout), "penstock-close")
        await until_called()
        if not was_closed:
            self._close_extensions()
        loops.sweep()

    async def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """The partitions of a topic, each with leader, replicas, in-sync replicas and offline replicas.

        Waits up to max.block.ms for a topic that is not in the metadata yet.

        Raises:
            KafkaTimeoutError: the topic did not appear in time.
            InvalidTopicError, TopicAuthorizationError: the cluster's answer about the topic.
            ProducerClosedError: the producer is closed.
            ProducerForkedError: the producer was created in a parent process.

        Java: `KafkaProducer.partitionsFor`.
        """
        self._alive()
        await until_done(self._find_topic(topic))
        return self._known_partitions(topic)

    async def __aenter__(self) -> Self:
        """The producer itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. Without an exception, `DeliveryError` is raised as by `flush`; with one, failures are logged."""
        if kind is None and not self.closed:
            try:
                await self.flush()
            finally:
                await self.close()
        elif kind is not None and issubclass(kind, (KeyboardInterrupt, asyncio.CancelledError)):
            # Ctrl-C reaches a coroutine as a cancellation. The user does not want to wait for delivery.timeout.ms.
            await self.close(INTERRUPT_DRAIN_S)
        else:
            await self.close()

    # --- Called by native `send` ---

    async def _send_later(self, pending: PendingSend) -> AsyncDeliveryFuture:
        """A record that waits for its topic or for memory. If the wait is interrupted, it is not sent, and the next record
        in line may be buffered."""
        try:
            return await until_done(pending)
        except BaseException as error:
            pending.refuse(error)
            raise

    async def _refused(self, error: BaseException) -> AsyncDeliveryFuture:
        raise error


async def until_resolved(result: AsyncBulkResult, end: PendingEnd) -> AsyncBulkResult:
    """`await result`: wait until all its records have an outcome. For native code."""
    await until_done(end)
    return result
