"""The load of `penstock bench`: what is sent, by whom, how fast; and what is measured of it."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from penstock import AsyncKafkaProducer, BulkResult, KafkaProducer
from penstock.errors import DeliveryError, KafkaError

_RESOLUTION: Final = 100
"""Buckets per factor e: neighbours differ by 1 %."""
_SAMPLES_PER_S: Final = 2_000
_CHUNK: Final = 256
_MOST_AT_ONCE: Final = 1 << 14
_LEAD_S: Final = 0.001
_SHORTEST_S: Final = 0.5
"""A rest at the end that is shorter says nothing about the course."""
_DISTINCT_VALUES: Final = 512
_LONGEST_SLEEP_S: Final = 0.1
"""Of a task, which hears no other way that it is to end."""


class Content(StrEnum):
    """What values are made of."""

    json = "json"
    random = "random"
    zeros = "zeros"


class Load(NamedTuple):
    """What to send. Sizes are bytes; the rate is that of all senders together."""

    topic: str
    content: Content
    size: int
    keys: int
    """Different keys; 0: no keys."""
    senders: int
    """Threads or tasks."""
    rate: float | None
    """Records/s; None: as fast as it goes."""
    records: int | None
    seconds: float | None
    is_asyncio: bool = False
    """The senders are tasks of one event loop."""
    bulk: int = 0
    """Records per call of `send_many`; 0: each is sent by itself."""

    def values(self) -> list[bytes]:
        """Some hundred values to take in turn: making them is not part of what is measured."""
        made = random.Random(0)
        return [
            _value(self.content, self.size, made)
            for _ in range(1 if self.content is Content.zeros else _DISTINCT_VALUES)
        ]

    def key_list(self) -> list[bytes | None]:
        """The keys to take in turn."""
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
    # As events are: the same names again and again, words of a small vocabulary, numbers that differ.
    text = f'{{"id":{made.randrange(10**9)},"at":{1_700_000_000_000 + made.randrange(10**9)}'
    while len(text) < size - 1:
        text += f',"{made.choice(_WORDS)}":' + (
            f'"{made.choice(_WORDS)}"' if made.random() < 0.6 else str(made.randrange(100_000))
        )
    return (text[: max(size - 1, 0)] + "}").encode()[:size]


class Latencies:
    """A distribution of times in ms, exact to 1 %; its size does not grow with the number of samples."""

    def __init__(self) -> None:
        """Empty."""
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.highest_ms = 0.0

    def add(self, samples_ms: Iterable[float]) -> None:
        """Take samples in."""
        for sample in samples_ms:
            self._buckets[math.floor(math.log(max(sample, 1e-6)) * _RESOLUTION)] += 1
            self.count += 1
            self.highest_ms = max(self.highest_ms, sample)

    def percentile(self, share: float) -> float | None:
        """The time in ms within which `share` (0 to 1) of the samples lie; None without samples."""
        if share >= 1 and self.count:
            return self.highest_ms
        rank = math.ceil(self.count * share)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(math.exp((bucket + 0.5) / _RESOLUTION), self.highest_ms)
        return None

    def percentiles(self) -> dict[str, float | None]:
        """Those that people ask about."""
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        return {name: self.percentile(share) for name, share in shares.items()}


class Interval(NamedTuple):
    """What happened since the interval before: times are seconds since the beginning, latencies ms."""

    end_s: float
    records: int
    records_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    highest_ms: float | None


class Meter:
    """Counts what the senders send, and the latency of a sample of it."""

    def __init__(self, senders: int, now: Callable[[], float] = time.perf_counter) -> None:
        """`now` can be replaced."""
        self.now = now
        self.began = now()
        self.sent = [0] * senders  # each sender has a place of its own: nobody waits for anybody
        self.latencies = Latencies()
        self.intervals: list[Interval] = []
        self._samples: list[float] = []  # appended to by callbacks, taken by `tick`
        self._failures: list[int] = []  # appended to by callbacks
        self._counted = 0
        self._last = self.began
        self._ended: float | None = None

    def timed(self, due: float) -> Callable[[Any, BaseException | None], None]:
        """The callback of a record that was to be sent at `due` (as `now` tells it).

        Not when it was sent: a producer that makes its caller wait would otherwise look the better for it.
        """
        samples, now = self._samples, self.now

        def done(_metadata: Any, error: BaseException | None) -> None:
            if error is None:
                samples.append((now() - due) * 1000)
            else:
                self.fail(1)  # a flush counts only those that nobody else was told of

        return done

    def timed_bulk(self, due: float) -> Callable[[BulkResult], None]:
        """The same for a call of `send_many`: its latency is that of its last record."""
        samples, now = self._samples, self.now

        def done(result: BulkResult) -> None:
            self.fail(len(result.errors))
            if not result.errors:
                samples.append((now() - due) * 1000)

        return done

    def fail(self, count: int) -> None:
        """So many records were not acknowledged."""
        self._failures.append(count)

    @property
    def failed(self) -> int:
        """Records that were sent and not acknowledged."""
        return sum(self._failures)

    def tick(self) -> None:
        """Close an interval."""
        now, total = self.now(), sum(self.sent)
        count = len(self._samples)
        samples = self._samples[:count]
        del self._samples[:count]
        self.latencies.add(samples)
        samples.sort()
        passed = now - self._last
        if passed >= _SHORTEST_S:
            records = total - self._counted
            middle, high, highest = (
                (samples[count // 2], samples[int(count * 0.99)], samples[-1]) if samples else (None, None, None)
            )
            self.intervals.append(Interval(now - self.began, records, records / passed, middle, high, highest))
        self._counted, self._last = total, now

    def end(self) -> None:
        """Everything is acknowledged or has failed; the first call counts."""
        if self._ended is None:
            self._ended = self.now()

    @property
    def seconds(self) -> float:
        """From the beginning to the end, or until now."""
        return (self.now() if self._ended is None else self._ended) - self.began


class Schedule:
    """When one sender sends how many: chunks of records, the first of which is to be timed."""

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
        """(when it is due, how many records), each in its time; ends with the load."""
        for wait_s, due, size in self.steps():
            if size:
                yield due, size
            else:
                self._sleep(min(wait_s, threading.TIMEOUT_MAX))

    def steps(self) -> Iterator[tuple[float, float, int]]:
        """The same for whoever waits by himself: (how long to wait, -, 0) or (-, when it is due, how many records)."""
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
                due += size * self._interval_s  # what was lost is made up for: the load does not wait for the system


def send_from_threads(
    producer: KafkaProducer[bytes, bytes], load: Load, meter: Meter, stop: threading.Event
) -> Iterator[list[BaseException]]:
    """Send from `load.senders` threads; yields what stopped them (nothing so far, usually) until all have ended.

    The consumer sets the pace of the looking; setting `stop` ends the senders after their present chunk.
    """
    failed: list[BaseException] = []
    threads = [
        threading.Thread(target=_run_sender, args=(producer, load, meter, stop, number, failed), daemon=True)
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
    records = _Turns(load, number)
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
    """The same from `load.senders` tasks of one event loop, on a thread of its own; and flush, since callbacks belong to it."""
    failed: list[BaseException] = []

    async def run() -> None:
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
    records = _Turns(load, number)
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


class _Turns:
    """Keys and values in turn; senders begin at different places."""

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
