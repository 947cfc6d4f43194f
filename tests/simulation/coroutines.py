"""An asyncio application for the simulation: tasks in a virtual loop that send, wait for memory, time out, await futures
and cancel some of them.

It checks more than the oracle: everything that is awaited ends by its deadline, all tasks that await a future get the same
result, and after a flush all earlier records are resolved and their callbacks have run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from penstock import AsyncDeliveryFuture, AsyncKafkaProducer, RecordMetadata
from penstock._native import Engine
from penstock.errors import DeliveryError, KafkaError
from penstock.facade import loops
from penstock.facade.assembly import Wiring
from simulation.loop import VirtualLoop
from simulation.plan import Plan
from simulation.world import MS, World

if TYPE_CHECKING:
    from simulation.client import Client
    from simulation.records import Sent

CALLS_PER_SLICE = 32
"""The least of `facade.loops.Channel`: a slice lasts as long as three readings of the clock."""


class InLoop:
    """An asyncio future with the methods of a blocking one. If it was cancelled, the record's callback has the result."""

    def __init__(self, future: AsyncDeliveryFuture, called: list[tuple[Any, Any]] | None) -> None:
        self.future = future
        self._called = called

    def done(self) -> bool:
        return bool(self._called) if self.future.cancelled() else self.future.done()

    def exception(self, timeout: float | None = None) -> KafkaError | None:
        if self.future.cancelled():
            assert self._called
            return cast("KafkaError | None", self._called[0][1])
        return cast("KafkaError | None", self.future.exception())

    def result(self, timeout: float | None = None) -> RecordMetadata:
        if self.future.cancelled():
            assert self._called
            return cast("RecordMetadata", self._called[0][0])
        return self.future.result()


class Application:
    """See the module."""

    def __init__(self, world: World, plan: Plan, client: Client, wiring: Wiring) -> None:
        self._world = world
        self._plan = plan
        self._client = client
        self._random = Random(f"asyncio application {plan.seed}")
        self.loop = VirtualLoop(world, self._lag_us, client.loop_has_run)
        # Not started: the simulation steps the engine and the control plane.
        self.producer: AsyncKafkaProducer[bytes, bytes] = AsyncKafkaProducer.__new__(AsyncKafkaProducer)
        self.producer._attach(client.engine, **wiring)
        self.producer._flush_ns = 0
        self.producer._life = cast("Any", _Life(client.engine))
        self._max_block_us = wiring["max_block_ms"] * MS
        self._queues: dict[str, deque[Coroutine[Any, Any, None]]] = {}
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._flushing = False
        self.broken: list[str] = []

    def send(self, sender: str, record: Sent, value: bytes, key: bytes | None) -> None:
        """Let the task of that name send it, after the records that it has to send already."""
        queue = self._queues.setdefault(sender, deque())
        queue.append(self._send(record, value, key))
        if len(queue) == 1:
            self._spawn(self._drain(queue), f"sender {sender}")

    def flush(self) -> None:
        """Flush, unless a flush is running."""
        if not self._flushing:
            self._flushing = True
            self._spawn(self._flush(), "flush")

    def end(self) -> list[str]:
        """All waits must have ended; returns the broken guarantees."""
        self.broken += [f"never ended: {name}" for name in self._tasks.values()]
        self.broken += [f"in the loop: {error}" for error in self.loop.errors]
        for queue in self._queues.values():
            for coroutine in list(queue)[1:]:
                coroutine.close()
        for task in list(self._tasks):
            task.cancel()
        self.loop.finish()
        loops.sweep()
        return self.broken

    # ----------------------------------------------------------------------------------------------------------- tasks

    async def _drain(self, queue: deque[Coroutine[Any, Any, None]]) -> None:
        while queue:
            await queue[0]
            queue.popleft()

    async def _send(self, record: Sent, value: bytes, key: bytes | None) -> None:
        random, called = self._random, record.called
        patience_s = random.expovariate(1 / 0.2) if random.random() < self._plan.impatience else None
        use = random.choice(_USES)
        if use.startswith("cancel") and called is None:
            called = record.called = []  # only this callback will have the record's result
        callback = None if called is None else partial(_append, called)
        over = self._expect(f"send of record {record.number}", self._max_block_us)
        try:
            async with asyncio.timeout(patience_s):
                future = await self.producer.send(
                    record.topic, value, key=key, partition=record.partition, timestamp=record.number, callback=callback
                )
        except KafkaError as error:
            self._client.refuse(record, type(error).__name__)
        except TimeoutError:
            self._client.refuse(record, "the wait was cancelled")
        else:
            record.future = InLoop(future, called)
            self._client.buffered(record)
            for _ in range(2 if use == "two" else use != "leave"):
                self._await(record, future, use)
        finally:
            over()

    def _await(self, record: Sent, future: AsyncDeliveryFuture, use: str) -> None:
        over = self._expect(f"await of record {record.number}", self._client.delivery_us)

        async def wait() -> None:
            try:
                metadata, error = await future, None
            except KafkaError as failure:
                metadata, error = None, failure
            except asyncio.CancelledError:
                return
            finally:
                over()
            if (metadata is None) == (error is None) or (error is None) != (future.exception() is None):
                self.broken.append(f"record {record.number}: two waiters get different results")

        task = self._spawn(wait(), f"await of record {record.number}")
        if use.startswith("cancel"):
            cancel = task.cancel if use == "cancel the task" else future.cancel
            self.loop.call_later(self._random.expovariate(1 / 0.05), cancel)

    async def _flush(self) -> None:
        before = [record for record in self._client.sent if record.future is not None]
        # `send` can go on adding to an open batch, and the flush waits for the whole batch.
        over = self._expect("flush", 2 * self._client.delivery_us)
        try:
            await self.producer.flush()
        except DeliveryError:
            pass  # an unnoticed failure of another record
        finally:
            over()
            self._flushing = False
        for record in before:
            future = record.future
            if future is None or not future.done() or (record.called is not None and not record.called):
                self.broken.append(f"flush is over before record {record.number} is")

    # ------------------------------------------------------------------------------------------------------- deadlines

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = self.loop.create_task(coroutine)
        self._tasks[task] = name

        def over(task: asyncio.Task[None]) -> None:
            del self._tasks[task]
            if not task.cancelled() and (error := task.exception()) is not None:
                self.broken.append(f"{name}: {error!r}")

        task.add_done_callback(over)
        return task

    def _expect(self, what: str, within_us: int) -> Callable[[], None]:
        """Returns a function to call at the end, within that time and the time that the loop needs to be notified."""
        done = False

        def over() -> None:
            nonlocal done
            done = True

        def check() -> None:
            if not done:
                self.broken.append(f"late: {what}")

        self._world.after(within_us + self.grace_us(), check)
        return over

    def grace_us(self) -> int:
        """How long the loop may take for everything that can become due at one time: wake-ups and callbacks of every record, and a
        few iterations before and after."""
        records = 600 + len(self._client.sent)
        return (6 + 3 * records // CALLS_PER_SLICE) * (self._plan.loop_lag_us + 1) + 1 * MS

    def _lag_us(self) -> int:
        return 10 if self._client.is_calm() else self._random.randrange(self._plan.loop_lag_us + 1)


_USES = ("await", "await", "two", "leave", "cancel the task", "cancel the future")
"""The uses of a record's future."""


class _Life(SimpleNamespace):
    """The parts of a lifecycle that `AsyncKafkaProducer.flush` uses."""

    closed = True  # a destructor must do nothing

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine=engine)

    def raise_unnoticed(self) -> None:
        count, errors = self.engine.take_unnoticed(3)
        if count:
            raise DeliveryError(count=count, errors=errors)


def _append(into: list[tuple[Any, Any]], metadata: Any, error: Any) -> None:
    into.append((metadata, error))
