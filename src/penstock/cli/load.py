"""The load of `penstock bench`: its records, its rate, and the threads or tasks that send it."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from penstock import AsyncKafkaProducer, KafkaProducer
from penstock.cli.meter import Meter
from penstock.errors import DeliveryError, KafkaError

_SAMPLES_PER_S: Final = 2_000
_CHUNK: Final = 256
_MOST_AT_ONCE: Final = 1 << 14
_LEAD_S: Final = 0.001
_DISTINCT_VALUES: Final = 512
_LONGEST_SLEEP_S: Final = 0.1
"""For a task, which can check only between sleeps whether it must end."""


class Content(StrEnum):
    """Kinds of values."""

    json = "json"
    random = "random"
    zeros = "zeros"


class Load(NamedTuple):
    """The load to send. Sizes are bytes; the rate is the total of all senders."""

    topic: str
    content: Content
    size: int
    keys: int
    """Number of different keys; 0: no keys."""
    senders: int
    """Number of threads or tasks."""
    rate: float | None
    """Records/s; None: no limit."""
    records: int | None
    seconds: float | None
    is_asyncio: bool = False
    """The senders are tasks of one event loop."""
    bulk: int = 0
    """Records per call of `send_many`; 0: each record has its own call of `send`."""

    def values(self) -> list[bytes]:
        """Some hundred values to use in rotation: generating them is not part of the measurement."""
        made = random.Random(0)
        return [
            _value(self.content, self.size, made)
            for _ in range(1 if self.content is Content.zeros else _DISTINCT_VALUES)
        ]

    def key_list(self) -> list[bytes | None]:
        """The keys to use in rotation."""
        return [b"key-%d" % number for number in range(self.keys)] or [None]


_WORDS: Final = (
    "order", "created", "paid", "shipped", "returned", "customer", "basket", "item", "price", "amount", "currency",
    "EUR", "USD", "warehouse", "carrier", "tracking", "pending", "confirmed", "invoice", "session", "mobile", "coupon",
)  # fmt: skip


def _value(content: Content, size: int, made: random.Random) -> bytes:
    if content is Content.zeros:
        return bytes(size)
    if content is Content.random:
        return made.randbytes(size)
    # Like events: the same field names each time, words of a small vocabulary, numbers that differ.
    text = f'{{"id":{made.randrange(10**9)},"at":{1_700_000_000_000 + made.randrange(10**9)}'
    while len(text) < size - 1:
        text += f',"{made.choice(_WORDS)}":' + (
            f'"{made.choice(_WORDS)}"' if made.random() < 0.6 else str(made.randrange(100_000))
        )
    return (text[: max(size - 1, 0)] + "}").encode()[:size]


class Schedule:
    """The schedule of one sender: chunks of records; the first record of a chunk is timed."""

    def __init__(
        self, load: Load, number: int, now: Callable[[], float], sleep: Callable[[float], object] = time.sleep
    ) -> None:
        """`number`: which of the load's senders; clock and sleep can be replaced."""
        self._now = now
        self._sleep = sleep
        self._began = now()
        self._until = math.inf if load.seconds is None else self._began + load.seconds
        whole, rest = divmod(load.records or 0, load.senders)
        self._left = math.inf if load.records is None else whole + (number < rest)
        self._interval_s = None if load.rate is None else load.senders / load.rate
        per_second = 0.0 if load.rate is None else load.rate / load.senders
        self._at_once = load.bulk
        self._timed_every = math.ceil(min(max(per_second * load.senders / _SAMPLES_PER_S, 1), _MOST_AT_ONCE))

    def chunks(self) -> Iterator[tuple[float, int]]:
        """(when it is due, how many records), each when it is due; ends with the load."""
        for wait_s, due, size in self.steps():
            if size:
                yield due, size
            else:
                self._sleep(min(wait_s, threading.TIMEOUT_MAX))

    def steps(self) -> Iterator[tuple[float, float, int]]:
        """The same for a caller that waits itself: (how long to wait, -, 0) or (-, when it is due, how many records)."""
        due = self._began
        while self._left > 0:
            now = self._now()
            if self._interval_s is None:
                due, size = now, self._at_once or _CHUNK
            else:
                while due - now > _LEAD_S and now < self._until:
                    yield min(due, self._until) - now, due, 0
                    now = self._now()
                size = self._at_once or self._timed_every
            if max(due, now) >= self._until:
                return
            size = int(min(size, self._left))
            self._left -= size
            yield 0.0, due, size
            if self._interval_s is not None:
                due += (
                    size * self._interval_s
                )  # late records are sent at once: an open load does not wait for the system


def send_from_threads(
    producer: KafkaProducer[bytes, bytes], load: Load, meter: Meter, stop: threading.Event
) -> Iterator[list[BaseException]]:
    """Send from `load.senders` threads; yields the errors that stopped senders, until all senders have ended.

    The consumer decides how often to check; `stop` ends each sender after its current chunk.
    """
    failed: list[BaseException] = []
    threads = [
        threading.Thread(
            target=meter.sending()(_run_sender), args=(producer, load, meter, stop, number, failed), daemon=True
        )
        for number in range(load.senders)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        yield failed


def _run_sender(
    producer: KafkaProducer[bytes, bytes],
    load: Load,
    meter: Meter,
    stop: threading.Event,
    number: int,
    failed: list[BaseException],
) -> None:
    send, topic, sent = producer.send, load.topic, meter.sent
    records = _Rotation(load, number)
    try:
        for due, size in Schedule(load, number, meter.now, stop.wait).chunks():
            if stop.is_set():
                return
            pairs = records.take(size)
            if load.bulk:
                keys, values = zip(*pairs, strict=True)
                result = producer.send_many(topic, values, keys=keys if load.keys else None)
                result.add_done_callback(meter.timed_bulk(due))
                sent[number] += size
                continue
            (key, value), rest = pairs[0], pairs[1:]
            send(topic, value, key=key, callback=meter.timed(due))
            for key, value in rest:
                send(topic, value, key=key)
            sent[number] += size
    except KafkaError as error:
        failed.append(error)
        stop.set()


def send_from_tasks(
    producer: AsyncKafkaProducer[bytes, bytes], load: Load, meter: Meter, stop: threading.Event
) -> Iterator[list[BaseException]]:
    """The same from `load.senders` tasks of one event loop, on its own thread. The flush runs there, too, as callbacks do."""
    failed: list[BaseException] = []

    async def run() -> None:
        with meter.sending():
            await asyncio.gather(
                *(_run_task(producer, load, meter, stop, number, failed) for number in range(load.senders))
            )
        try:
            await producer.flush()
        except DeliveryError as error:
            meter.fail(error.count)
            failed.append(error)
        if not stop.is_set():
            meter.end()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="bench-loop", daemon=True)
    thread.start()
    while thread.is_alive():
        yield failed
    yield failed


async def _run_task(
    producer: AsyncKafkaProducer[bytes, bytes],
    load: Load,
    meter: Meter,
    stop: threading.Event,
    number: int,
    failed: list[BaseException],
) -> None:
    send, topic, sent = producer.send, load.topic, meter.sent
    records = _Rotation(load, number)
    try:
        for wait_s, due, size in Schedule(load, number, meter.now).steps():
            if stop.is_set():
                return
            if not size:
                await asyncio.sleep(min(wait_s, _LONGEST_SLEEP_S))
                continue
            pairs = records.take(size)
            (key, value), rest = pairs[0], pairs[1:]
            await send(topic, value, key=key, callback=meter.timed(due))
            for key, value in rest:
                await send(topic, value, key=key)
            sent[number] += size
    except KafkaError as error:
        failed.append(error)
        stop.set()


class _Rotation:
    """Keys and values in rotation; each sender begins at a different place."""

    def __init__(self, load: Load, number: int) -> None:
        values, keys = load.values(), load.key_list()
        length = math.lcm(len(values), len(keys)) if len(keys) <= 4 * _DISTINCT_VALUES else len(keys)
        self._pairs: Sequence[tuple[bytes | None, bytes]] = [
            (keys[place % len(keys)], values[place % len(values)])
            for place in range(max(min(length, 1 << 17), len(keys)))
        ]
        self._at = number * 7919 % len(self._pairs)

    def take(self, count: int) -> Sequence[tuple[bytes | None, bytes]]:
        taken = self._pairs[self._at : self._at + count]
        while len(taken) < count:
            taken = [*taken, *self._pairs[: count - len(taken)]]
        self._at = (self._at + count) % len(self._pairs)
        return taken
