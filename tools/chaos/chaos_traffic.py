"""Producers under faults: threads that send numbered records and keep the result of each.

A record's value has its sender and number, so that a reader of the logs can identify it (`parse`).
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from array import array
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from penstock import (
    AsyncDeliveryFuture,
    AsyncKafkaProducer,
    BulkResult,
    KafkaError,
    KafkaProducer,
    ProducerConfig,
    RecordMetadata,
)

T = TypeVar("T")

OUTSTANDING: Final = 1_500
"""How far a sender may be ahead of its records' outcomes."""

TEMPERS: Final[Mapping[str, Mapping[str, Any]]] = {
    # Its timeouts are longer than nearly every fault of the nemesis.
    "patient": {"delivery_timeout_ms": 30_000, "request_timeout_ms": 3_000, "linger_ms": 5},
    # Many small batches in flight, and short timeouts, so that some expire.
    "hasty": {"delivery_timeout_ms": 4_000, "request_timeout_ms": 1_500, "linger_ms": 0, "batch_size": 600},
    "steady": {
        "delivery_timeout_ms": 10_000,
        "request_timeout_ms": 2_000,
        "linger_ms": 20,
        "max_in_flight_requests_per_connection": 2,
    },
}
"""Kinds of producers."""

IN_LOOPS: Final = ("steady",)
"""Those that use asyncio, by default."""
IN_BULK: Final = ("hasty",)
"""Those that send by `send_many`."""
COMPRESSED: Final = ("patient",)
"""Those that compress."""
AT_ONCE: Final = 10
"""Records of a sender between two pauses; in bulk they go in one call."""

COMMON: Final[Mapping[str, Any]] = {
    "max_block_ms": 5_000,
    "metadata_max_age_ms": 5_000,
    "socket_connection_setup_timeout_ms": 1_000,
    "reconnect_backoff_max_ms": 500,
    "retry_backoff_max_ms": 500,
}


class Outcome(NamedTuple):
    """The result in a callback, and its time."""

    at: float
    topic: str
    partition: int
    offset: int
    error: str
    """Empty: acknowledged. Otherwise the name of the error's class, the stage, and the last answer's error."""
    possibly_persisted: bool


class AnyFuture(Protocol):
    """The part of a future that is used here."""

    def exception(self, timeout: float | None = None) -> BaseException | None: ...


class LoopProducer:
    """An asyncio producer with a loop in its own thread, for senders that are threads."""

    def __init__(self, **options: Any) -> None:
        self._producer: AsyncKafkaProducer[bytes, bytes] = AsyncKafkaProducer(**options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()

    @property
    def config(self) -> ProducerConfig:
        return self._producer.config

    def send(self, topic: str, value: bytes, *, key: bytes | None, callback: Any) -> AnyFuture:
        # The call runs in the loop, too: its callback does.
        async def send() -> AsyncDeliveryFuture:
            return await self._producer.send(topic, value, key=key, callback=callback)

        future = self._run(send()).result()

        class Blocking:
            def exception(_, timeout: float | None = None) -> BaseException | None:  # noqa: N805
                return self._run(self._ask(future)).exception(timeout)

        return Blocking()

    def flush(self, timeout: float | None = None) -> None:
        self._run(self._producer.flush(timeout)).result()

    def close(self, timeout: float | None = None) -> None:
        self._run(self._producer.close(timeout)).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    @staticmethod
    async def _ask(future: AsyncDeliveryFuture) -> RecordMetadata:
        return await future


class Sender:
    """One thread of one producer: its records are in order."""

    def __init__(
        self,
        name: str,
        producer: KafkaProducer[bytes, bytes] | LoopProducer,
        topics: Sequence[str],
        *,
        keyed: bool,
        rate: float,
        random: Random,
        in_bulk: bool = False,
    ) -> None:
        self.name, self.producer = name, producer
        self._topics, self._keyed, self._rate, self._random = topics, keyed, rate, random
        self._in_bulk = in_bulk
        self.returned_at = array("d")
        """By number: when `send` returned. Its record was created before that."""
        self.outcomes: dict[int, Outcome] = {}
        self.refused: dict[int, str] = {}
        """Numbers of records that `send` refused, and the errors."""
        self.done = threading.Semaphore(OUTSTANDING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.crash: BaseException | None = None

    @property
    def delivery_timeout_s(self) -> float:
        return self.producer.config.settings.delivery_timeout_ms / 1000

    @property
    def temper(self) -> str:
        """The kind of its producer, one of `TEMPERS`."""
        return self.name.partition("-")[0]

    @property
    def count(self) -> int:
        """The number of records that it has tried to send."""
        return len(self.returned_at)

    def start(self) -> None:
        self._thread.start()

    def finish(self, timeout_s: float) -> None:
        """Stop sending."""
        self._stop.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise RuntimeError(f"{self.name} does not come back from send()")

    def send(self, topic: str) -> AnyFuture | None:
        """Send the next record. None: it was refused."""
        number = self.count
        self.returned_at.append(0)
        value, key = self._content(number)
        try:
            return self.producer.send(topic, value, key=key, callback=partial(self._resolved, number))
        except KafkaError as error:
            self.refused[number] = type(error).__name__
            return None
        finally:
            self.returned_at[number] = time.monotonic()

    def _content(self, number: int) -> tuple[bytes, bytes | None]:
        value = b"%s %d %s" % (self.name.encode(), number, b"." * self._random.randrange(200))
        return value, b"%d" % self._random.randrange(40) if self._keyed else None

    def _send_many(self, topic: str, count: int) -> None:
        assert isinstance(self.producer, KafkaProducer)
        numbers = range(self.count, self.count + count)
        self.returned_at.extend([0] * count)
        values, keys = zip(*map(self._content, numbers), strict=True)
        try:
            result = self.producer.send_many(topic, values, keys=keys if self._keyed else None)
        except KafkaError as error:
            self.refused |= dict.fromkeys(numbers, type(error).__name__)
            self.done.release(count)
        else:
            result.add_done_callback(partial(self._resolved_at_once, topic, numbers))
        finally:
            for number in numbers:
                self.returned_at[number] = time.monotonic()

    def _run(self) -> None:
        try:
            pause_s = AT_ONCE / self._rate
            while not self._stop.is_set():
                if self._in_bulk:
                    count = 0
                    while count < AT_ONCE and self.done.acquire(timeout=0.5):
                        count += 1
                    if count:
                        self._send_many(self._random.choice(self._topics), count)
                for _ in range(0 if self._in_bulk else AT_ONCE):
                    if not self.done.acquire(timeout=0.5):
                        break
                    if self.send(self._random.choice(self._topics)) is None:
                        self.done.release()
                self._stop.wait(pause_s)
        except BaseException as error:
            self.crash = error

    def _resolved_at_once(self, topic: str, numbers: range, result: BulkResult) -> None:
        try:
            errors, partitions, offsets = result.errors, result.partitions, result.offsets
            for index, number in enumerate(numbers):
                if partitions[index] < 0:  # only the records before it were buffered
                    self.refused[number] = type(errors[index]).__name__
                    self.done.release()
                elif (error := errors.get(index)) is not None:
                    self._resolved(number, None, error)
                else:
                    self._resolved(number, RecordMetadata(topic, partitions[index], offsets[index], -1, -1, -1), None)
        except BaseException as error:
            self.crash = error

    def _resolved(self, number: int, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        now = time.monotonic()
        if number in self.outcomes:
            self.crash = AssertionError(f"{self.name}: the callback of record {number} ran twice")
        if metadata is not None:
            self.outcomes[number] = Outcome(now, metadata.topic, metadata.partition, metadata.offset, "", False)
        else:
            assert error is not None
            where = (error.topic or "", -1 if error.partition is None else error.partition)
            self.outcomes[number] = Outcome(now, *where, -1, _named(error), error.possibly_persisted)
        self.done.release()


def _named(error: KafkaError) -> str:
    last = f" after {error.cause.name or type(error.cause).__name__}" if isinstance(error.cause, KafkaError) else ""
    return f"{type(error).__name__} in stage {error.stage}{last}"


def parse(value: bytes | None) -> tuple[str, int]:
    """The sender of a record, and its number."""
    name, number, _padding = (value or b"").split(b" ", 2)
    return name.decode(), int(number)


class Figures(NamedTuple):
    """The totals of some senders' outcomes."""

    sent: int
    acknowledged: int
    not_persisted: int
    possibly_persisted: int
    refused: int
    errors: Counter[str]
    failed_by: Counter[str]
    """By the producer's kind."""
    longest_gap_s: float
    """Between two acknowledgements of any sender."""
    worst_overrun_s: float
    """How much later than delivery.timeout.ms a callback ran, at worst; negative: none was late."""


def figures(senders: Sequence[Sender]) -> Figures:
    """Count."""
    outcomes = [(sender, number, result) for sender in senders for number, result in sender.outcomes.items()]
    failed = [result for _, _, result in outcomes if result.error]
    acknowledged = sorted(result.at for _, _, result in outcomes if not result.error)
    overruns = [
        result.at - sender.returned_at[number] - sender.delivery_timeout_s for sender, number, result in outcomes
    ]
    refusals = [why for sender in senders for why in sender.refused.values()]
    return Figures(
        sent=sum(sender.count for sender in senders),
        acknowledged=len(acknowledged),
        not_persisted=sum(not result.possibly_persisted for result in failed),
        possibly_persisted=sum(result.possibly_persisted for result in failed),
        refused=len(refusals),
        errors=Counter(
            [f"{sender.temper}: {result.error}" for sender, _, result in outcomes if result.error]
            + [f"send: {why}" for why in refusals]
        ),
        failed_by=Counter(sender.temper for sender, _, result in outcomes if result.error),
        longest_gap_s=max((b - a for a, b in itertools.pairwise(acknowledged)), default=0.0),
        worst_overrun_s=max(overruns, default=0.0),
    )
