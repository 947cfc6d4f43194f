"""`AsyncKafkaProducer`: the asyncio facade, and the protocol that it and its test double share.

`send` itself is native (`penstock._native.AsyncSender`) and, for a record that can be buffered at once, takes neither a task
nor a coroutine. What is here waits in the loop's place: for a topic, for memory, between the steps of a bulk call, for a
flush, for the end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, SupportsIndex, TypeVar, Unpack, cast, overload

from penstock._native import (
    AsyncBulkResult,
    AsyncDeliveryFuture,
    AsyncSender,
    LoopInbox,
    PendingBulk,
    PendingEnd,
    PendingFlush,
    PendingSend,
    ProducerRecord,
    RecordMetadata,
    timeout_s,
)
from penstock._threads import OsThread
from penstock.config import ProducerConfig
from penstock.config.options import ProducerOptions
from penstock.control.cluster_view import PartitionInfo
from penstock.facade import loops
from penstock.facade.assembly import INTERRUPT_DRAIN_S, Facade
from penstock.facade.lifecycle import out_of_time
from penstock.facade.types import ArrowData, Callback, Column, Headers, SerializerLike
from penstock.metrics import Metrics

if TYPE_CHECKING:
    from penstock._native import _Step

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K")
V = TypeVar("V")
K_contra = TypeVar("K_contra", contravariant=True)
V_contra = TypeVar("V_contra", contravariant=True)
KS = TypeVar("KS")
VS = TypeVar("VS")


class AsyncProducer(Protocol[K_contra, V_contra]):
    """What `AsyncKafkaProducer` and `penstock.testing.AsyncMockProducer` have in common: write applications against this."""

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

    async def close(self, timeout: float | None = None) -> None:
        """Deliver what is left, then end."""
        ...

    async def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """What is known of a topic's partitions."""
        ...

    def metrics(self) -> Metrics:
        """Numbers, under the Java producer's names."""
        ...


class AsyncKafkaProducer(AsyncSender[K, V], Facade):
    """Sends records to Kafka from asyncio: as `KafkaProducer`, except that it awaits where that one blocks.

    Nothing here blocks an event loop, serializers, partitioners and interceptors of your own excepted: they are called
    inside `send`. Made anywhere, with or without a running loop, without a name being looked up: an address that does not
    exist shows when a record waits for it (`KafkaTimeoutError` after max.block.ms, with the reason). May be shared by
    several loops in several threads.

    Args:
        config: Kafka's names and values, or a `ProducerConfig`.
        key_serializer: how keys become bytes: a serializer, a class of one, or a plain function of the key.
            Without one, bytes-like and None pass.
        value_serializer: the same for values.
        options: the same names as in `config` with underscores for dots; they win.

    Raises:
        ConfigError: before any thread starts.
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
        """`send` a record and await its delivery: where it is in the log.

        Raises what `send` raises, and why the record failed. Cancelled once the record is buffered, it is sent all the
        same.
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
        """Send many records to a topic; over when all are buffered. `await` the result to know what became of them.

        As `KafkaProducer.send_many`, but that each column may also be an async iterable, from which a record is buffered as
        soon as it comes. A full buffer and an unknown topic are awaited, up to max.block.ms each time; the loop has its turn
        every few ms. Iterables, serializers, interceptors and partitioners are called in the loop.

        As long as nothing is buffered it raises what `send` raises; afterwards it never does, and what cannot be buffered is
        in the result's `errors`. Cancelled, it raises: what is buffered then is sent all the same, the rest is not, and
        nothing more is taken from the iterables.
        """
        return await _buffered(self._send_many(topic, values, keys, headers, timestamps, partition))

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
        """Send the rows of Arrow data to a topic; over when all are buffered. `await` the result to know what became of them.

        As `KafkaProducer.send_arrow`; waits, errors and cancelling as in `send_many`. A stream is read in the loop, batch by
        batch: one that takes its time (a lazy query, a file) had better be collected in a thread first.
        """
        return await _buffered(self._send_arrow(topic, data, value, key, partition, timestamp, headers, index))

    async def flush(self, timeout: float | None = None) -> None:
        """Deliver every record sent before this call. What is sent meanwhile does not prolong it.

        Callbacks of these records have run then, those that belong to other loops excepted.

        Args:
            timeout: seconds; None and infinity wait as long as delivery takes (at most delivery.timeout.ms).

        Raises:
            KafkaTimeoutError: time ran out; it says how many records are left. They are still on their way.
            DeliveryError: records failed whose future nobody had asked and that had no callback.
            ValueError: the timeout is negative or NaN.
        """
        life = self._alive()
        timeout = timeout_s(timeout)
        began = time.monotonic_ns()
        flush = PendingFlush(life.engine)
        try:
            try:
                await _completed(flush, timeout)
            except TimeoutError:
                raise out_of_time(timeout, life.engine.unresolved_records() or -1) from None
            await _callbacks_so_far()
        finally:
            flush.end()
            self._flush_ns += time.monotonic_ns() - began
        life.raise_unnoticed()

    async def close(self, timeout: float | None = None) -> None:
        """Take no more records, deliver what is buffered, and end. Closing twice is the same as closing once.

        Args:
            timeout: seconds; what is not delivered by then fails as `ProducerClosedError`. None and infinity wait
                as long as delivery takes; 0 gives up at once.

        Failures that nobody asked about are logged. Cancelled, it goes on by itself.

        Raises:
            ValueError: the timeout is negative or NaN; nothing is closed.
        """
        life = self._life
        if life is None:
            return
        life.engine.check_fork()
        timeout = timeout_s(timeout)
        was_closed = life.closed
        life.engine.refuse_sends()
        if not life.ended:
            # Threads are joined there, and whoever closes in a second task waits for the first: both block.
            await _in_thread(lambda: life.close(timeout), "penstock-close")
        await _callbacks_so_far()
        if not was_closed:
            self._close_extensions()
        loops.sweep()

    async def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """The partitions of a topic: leader, replicas, in-sync and offline replicas.

        Waits up to max.block.ms for a topic that is not known yet.

        Raises:
            KafkaTimeoutError: the topic did not appear in time.
            InvalidTopicError, TopicAuthorizationError: as the cluster says.
        """
        self._alive()
        await _completed(self._find_topic(topic))
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
            # Ctrl-C reaches a coroutine as a cancellation, and whoever pressed it does not want to wait for
            # delivery.timeout.ms.
            await self.close(INTERRUPT_DRAIN_S)
        else:
            await self.close()

    # --- What native `send` hands over ---

    async def _send_later(self, pending: PendingSend) -> AsyncDeliveryFuture:
        """A record that waits for its topic or for memory. Interrupted, it is not sent, and gives up its place in the queue."""
        try:
            return await _completed(pending)
        except BaseException as error:
            pending.refuse(error)
            raise

    async def _refused(self, error: BaseException) -> AsyncDeliveryFuture:
        raise error


class _Bell:
    """One coroutine's wait for news that come through its loop's inbox."""

    def __init__(self) -> None:
        self.inbox: LoopInbox
        self._loop, self.inbox, _ = loops.here()
        self._waiter: asyncio.Future[bool] | None = None
        self._rung = False

    def ring(self) -> None:
        """In the loop; also when nobody waits any more."""
        self._rung = True
        self._end(True)

    def _end(self, rung: bool) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(rung)

    async def wait(self, timeout: float | None) -> bool:
        """Until it rings, or `timeout` seconds are over (False)."""
        if not self._rung:
            self._waiter = self._loop.create_future()
            timer = None if timeout is None else self._loop.call_later(timeout, self._end, False)
            try:
                await self._waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        rung, self._rung = self._rung, False
        return rung


class _Pending(Protocol[T_co]):
    """A native operation that takes its steps when asked, and never waits itself."""

    def attempt(self, inbox: LoopInbox, wake: Callable[[], object], /) -> _Step[T_co]:
        """Take the next steps."""
        ...


async def _completed(pending: _Pending[T], timeout: float | None = None) -> T:
    """Take the steps of a native operation, and wait between them; for `timeout` seconds at most (`TimeoutError`)."""
    deadline = None if timeout is None else time.monotonic() + timeout
    bell = _Bell()
    while True:
        match pending.attempt(bell.inbox, bell.ring):
            case "done", result:
                return result
            case "wait", patience_s:
                if deadline is not None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    patience_s = left if patience_s is None else min(left, patience_s)
                await bell.wait(patience_s)
            case "yield", times:
                for _ in range(times):
                    await asyncio.sleep(0)
            case "await", entry:
                await _fed(cast("PendingBulk", pending), entry)


async def _buffered(pending: PendingBulk) -> AsyncBulkResult:
    """The result of a bulk call. Interrupted, its buffered records are sent, and the rest is not."""
    try:
        return await _completed(pending)
    except BaseException as error:
        pending.give_up(error)
        raise


async def _fed(pending: PendingBulk, entry: Awaitable[Any]) -> None:
    """The next entry of an async iterable."""
    try:
        found = await entry
    except StopAsyncIteration:
        pending.end()
    except Exception as error:
        pending.fail(error)
    else:
        pending.feed(found)


async def until_resolved(result: AsyncBulkResult, end: PendingEnd) -> AsyncBulkResult:
    """The wait for the end of a bulk result's records."""
    await _completed(end)
    return result


async def _callbacks_so_far() -> None:
    """What this loop's inbox holds has been called."""
    bell = _Bell()
    bell.inbox.post(bell.ring)
    await bell.wait(None)


def _in_thread(function: Callable[[], None], name: str) -> Awaitable[None]:
    """Run it on a thread of its own, which goes on when the wait is cancelled. Not an executor's: its number of threads is
    limited, and at exit the interpreter waits for them."""
    bell = _Bell()
    outcome: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            outcome.append(error)
        finally:
            bell.inbox.post(bell.ring)

    try:
        OsThread(run, name).start()
    except RuntimeError:  # no more threads: the interpreter exits, and nobody else has a use for this loop
        run()

    async def wait() -> None:
        await bell.wait(None)
        if outcome:
            raise outcome[0]

    return wait()
