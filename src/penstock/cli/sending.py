"""Sending a stream of records and counting what becomes of them; memory does not grow with their number."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

from penstock import KafkaProducer
from penstock._native import RecordMetadata
from penstock.cli.inputs import Entry
from penstock.errors import KafkaError

Headers = tuple[tuple[str, bytes | None], ...]

DRAIN_S: Final = 5.0
"""How long an interrupted run waits for what is under way, in seconds."""

_MOST_SAMPLES: Final = 1 << 16
_ERRORS_KEPT: Final = 5


class Tally:
    """What became of the records. Its callbacks all run on one thread; the other attributes belong to the sender."""

    def __init__(self, *, latency_every: int = 10) -> None:
        """One record in `latency_every` has its latency measured, later fewer: their number is bounded."""
        self.sent = 0
        self.bytes = 0
        self.acknowledged = 0
        self.failed = 0
        self.partitions: Counter[int] = Counter()
        self.errors: list[KafkaError] = []
        self.latency_every = latency_every
        self._latencies_ms: list[float] = []
        self._began = time.monotonic()
        self._ended: float | None = None

    def done(self, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        """The callback of a record."""
        if metadata is not None:
            self.acknowledged += 1
            self.partitions[metadata.partition] += 1
            return
        self.failed += 1
        if error is not None and len(self.errors) < _ERRORS_KEPT:
            self.errors.append(error)

    def timed(self) -> Callable[[RecordMetadata | None, KafkaError | None], None]:
        """The callback of a record whose latency counts from now on."""
        began = time.perf_counter()

        def done(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
            if error is None:
                self._add_latency((time.perf_counter() - began) * 1000)
            self.done(metadata, error)

        return done

    def _add_latency(self, latency_ms: float) -> None:
        self._latencies_ms.append(latency_ms)
        if len(self._latencies_ms) >= _MOST_SAMPLES:
            # Every other one goes, and half as many come: what is left stays evenly spread over the run.
            del self._latencies_ms[::2]
            self.latency_every *= 2

    def end(self) -> None:
        """Stop the clock."""
        self._ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """From the beginning to the end, or until now."""
        return (self._ended or time.monotonic()) - self._began

    def summary(self) -> Summary:
        """The figures as they stand."""
        latencies = sorted(self._latencies_ms)
        return Summary(
            # An interrupt may come between a send and its being counted.
            records=max(self.sent, self.acknowledged + self.failed),
            acknowledged=self.acknowledged,
            failed=self.failed,
            bytes=self.bytes,
            seconds=self.seconds,
            partitions=dict(sorted(self.partitions.items())),
            latency_p50_ms=_percentile(latencies, 0.50),
            latency_p99_ms=_percentile(latencies, 0.99),
            errors=list(self.errors),
        )


def _percentile(ordered: list[float], share: float) -> float | None:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a run: bytes are those of keys and values, latencies milliseconds from send to acknowledgment."""

    records: int
    acknowledged: int
    failed: int
    bytes: int
    seconds: float
    partitions: dict[int, int]
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    errors: list[KafkaError] = field(default_factory=list)

    @property
    def records_per_second(self) -> float:
        """Acknowledged records by the time of the whole run."""
        return self.acknowledged / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "records": self.records,
            "acknowledged": self.acknowledged,
            "failed": self.failed,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 6),
            "records_per_second": round(self.records_per_second, 1),
            "partitions": {str(partition): count for partition, count in self.partitions.items()},
            "latency_ms": {"p50": _rounded(self.latency_p50_ms), "p99": _rounded(self.latency_p99_ms)},
            "errors": [str(error) for error in self.errors],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


class Pace:
    """Keeps a sender at a rate, in records/s; it sleeps a little now and then instead of a moment for each record."""

    _LEAD_S: Final = 0.005

    def __init__(
        self,
        rate: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """The clock and the sleep can be replaced."""
        self._interval_s = 1 / rate
        self._now = now
        self._sleep = sleep
        self._due = now()

    def wait(self) -> None:
        """Once per record, before it is sent."""
        now = self._now()
        ahead = self._due - now
        if ahead > self._LEAD_S:
            self._sleep(ahead)
        elif ahead < 0:
            self._due = now  # what was lost is not made up for: a rate is a limit
        self._due += self._interval_s


def pump(
    producer: KafkaProducer[bytes, bytes],
    topic: str,
    entries: Iterable[Entry],
    tally: Tally,
    *,
    partition: int | None = None,
    headers: Callable[[int], Headers] | None = None,
    pace: Pace | None = None,
) -> None:
    """Send all entries; `headers` is called with the record's number, from 1 on. Returns when the last is buffered."""
    send = producer.send
    for number, (key, value) in enumerate(entries, 1):
        if pace is not None:
            pace.wait()
        callback = tally.done if number % tally.latency_every else tally.timed()
        send(
            topic,
            value,
            key=key,
            partition=partition,
            headers=() if headers is None else headers(number),
            callback=callback,
        )
        tally.sent = number
        tally.bytes += (len(key) if key else 0) + (len(value) if value else 0)


def deliver(
    producer: KafkaProducer[bytes, bytes],
    send: Callable[[], None],
    tally: Tally,
    shown: AbstractContextManager[None],
) -> bool:
    """Call `send`, wait for every acknowledgment and close the producer; returns whether Ctrl-C cut it short.

    `shown` is entered meanwhile (the progress bar). After Ctrl-C what is under way has `DRAIN_S` seconds, then it fails.
    """
    interrupted = False
    with interruptible(), shown:
        try:
            try:
                send()
                producer.flush()
            except KeyboardInterrupt:
                interrupted = True
                producer.close(timeout=DRAIN_S)
        finally:
            producer.close()
            tally.end()
    return interrupted


@contextmanager
def interruptible() -> Iterator[None]:
    """The first Ctrl-C raises `KeyboardInterrupt`, the second one ends the process at once. For the main thread."""
    presses = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        if presses > 1:
            os.write(2, b"\x1b[?25h\n" if os.isatty(2) else b"\n")  # the progress bar hid the cursor
            os._exit(130)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
