"""Sending a stream of records and counting what becomes of them; memory does not grow with their number."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Final, NamedTuple, Self

from penstock import KafkaProducer
from penstock._native import BulkResult, DeliveryFuture, RecordMetadata
from penstock.cli.inputs import Entry
from penstock.errors import DeliveryError, KafkaError, KafkaTimeoutError

Headers = tuple[tuple[str, bytes | None], ...]

DRAIN_S: Final = 5.0
"""How long an interrupted run waits for what is under way, in seconds."""

_MOST_SAMPLES: Final = 1 << 13
_SETTLE_EVERY: Final = 256
_SWEEP_AT: Final = 1 << 16
_FLUSH_SLICE_S: Final = 0.1
_BLOCKED_S: Final = 0.25
_ERRORS_KEPT: Final = 5
_DIGITS: Final = re.compile(r"\d+")


class Failures(NamedTuple):
    """Records that failed for the same reason, and the first one's error."""

    error: KafkaError
    records: int

    def __str__(self) -> str:
        """A line for people."""
        return f"{self.records:,} record{'' if self.records == 1 else 's'} failed: {self.error}"


class Tally:
    """What became of the records, read off their futures.

    Callbacks would be simpler, but one per record makes a second thread compete for the GIL: sending takes half as long
    again. Only a sample of the records has one, for its latency.
    """

    def __init__(self, *, latency_every: int = 10) -> None:
        """One record in `latency_every` has its latency measured, later fewer: their number is bounded."""
        self.sent = 0
        self.bytes = 0
        self.acknowledged = 0
        self.failed = 0
        self.partitions: Counter[int] = Counter()
        self._errors: dict[str, Failures] = {}
        self.latency_every = latency_every
        self._waiting: deque[DeliveryFuture] = deque()
        self._bulk: deque[BulkResult] = deque()
        self._sweep_at = _SWEEP_AT
        self._lock = threading.Lock()  # the progress line settles too: the sender may be waiting for input
        self._latencies_ms: list[float] = []
        self._began = time.monotonic()
        self._ended: float | None = None

    def add(self, future: DeliveryFuture, size: int) -> None:
        """A record was sent; `size` is that of its key and value, in bytes."""
        self._waiting.append(future)
        self.sent += 1
        self.bytes += size
        if not self.sent % _SETTLE_EVERY:
            self.settle()

    def add_bulk(self, result: BulkResult) -> None:
        """Many records were sent."""
        self._bulk.append(result)
        self.sent += len(result)
        self.bytes += result.serialized_bytes
        self.settle()

    def settle(self) -> None:
        """Count what is done by now."""
        with self._lock:
            while self._bulk and self._bulk[0].done():
                self._count_bulk(self._bulk.popleft())
            waiting = self._waiting
            count = self._count
            while waiting and waiting[0].done():
                count(waiting.popleft())
            if len(waiting) > self._sweep_at:
                # One partition that is stuck must not make the others' futures pile up behind its own.
                for _ in range(len(waiting)):
                    future = waiting.popleft()
                    if future.done():
                        self._count(future)
                    else:
                        waiting.append(future)
                self._sweep_at = max(_SWEEP_AT, 2 * len(waiting))

    def _count(self, future: DeliveryFuture) -> None:
        try:
            partition = future.result().partition
        except KafkaError as error:
            self.failed += 1
            self._keep(error)
        else:
            self.acknowledged += 1
            self.partitions[partition] += 1

    def _count_bulk(self, result: BulkResult) -> None:
        errors = result.errors
        for error in errors.values():
            self._keep(error)
        self.failed += len(errors)
        self.acknowledged += len(result) - len(errors)
        partitions = result.partitions
        self.partitions.update(partitions)
        for index in errors:
            self.partitions[partitions[index]] -= 1
        self.partitions += Counter()  # without those that are zero

    def _keep(self, error: KafkaError) -> None:
        # Partitions, times and attempts apart, a thousand batches have a handful of reasons to fail.
        reason = _DIGITS.sub("#", f"{type(error).__name__} {error}")
        if known := self._errors.get(reason):
            self._errors[reason] = known._replace(records=known.records + 1)
        elif len(self._errors) < _ERRORS_KEPT:
            self._errors[reason] = Failures(error, 1)

    def timed(self) -> Callable[[RecordMetadata | None, KafkaError | None], None]:
        """The callback of a record whose latency counts from now on."""
        began = time.perf_counter()

        def done(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
            if error is None:
                self._add_latency((time.perf_counter() - began) * 1000)

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
            records=self.sent,
            acknowledged=self.acknowledged,
            failed=self.failed,
            bytes=self.bytes,
            seconds=self.seconds,
            partitions=dict(sorted(self.partitions.items())),
            latency_p50_ms=_percentile(latencies, 0.50),
            latency_p99_ms=_percentile(latencies, 0.99),
            errors=list(self._errors.values()),
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
    errors: list[Failures] = field(default_factory=list)

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
            "errors": [{"error": str(error), "records": records} for error, records in self.errors],
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
        self.rate = rate
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


_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def exit_code(number: signal.Signals) -> int:
    """That of a process which a signal ended, as shells have it."""
    return 128 + number


def cut_short(number: signal.Signals) -> tuple[str, int]:
    """What is said of a run that a signal ended, and its exit code."""
    return "interrupted" if number is signal.SIGINT else f"terminated by {number.name}", exit_code(number)


class Interrupts:
    """Ctrl-C, and the signals that ask a process to end: the first one raises `KeyboardInterrupt`. For the main thread.

    A Ctrl-C after it ends the process at once. A SIGTERM or SIGHUP after it does nothing: a terminal that closes and a
    system that shuts down send several, and nobody who sends them waits for less than the drain. One that was ignored
    from the start (`nohup`) stays so.

    While `guarded`, nothing is raised but `pending` set: between a send and its being counted no record may get lost.
    A send that waits for room is interrupted all the same, a moment later.
    """

    def __init__(self) -> None:
        """Takes effect as a context manager."""
        self.guarded = False
        self.pending = False
        self.stopped_by: signal.Signals | None = None
        """The first signal that came."""

    def __enter__(self) -> Self:
        """Take over the signals."""
        numbers = [signal.SIGINT, signal.SIGALRM]
        numbers += [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Leave the guarded section, and raise what came meanwhile."""
        self.guarded = False
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGALRM:
            if self.guarded and self.pending:
                self.guarded = self.pending = False
                raise KeyboardInterrupt
            return
        if self.stopped_by is not None:
            if number != signal.SIGINT:
                return
            with contextlib.suppress(OSError):
                os.write(2, b"\x1b[?25h\n" if os.isatty(2) else b"\n")  # the progress bar hid the cursor
            os._exit(exit_code(signal.SIGINT))
        else:
            self.stopped_by = signal.Signals(number)
        if not self.guarded:
            raise KeyboardInterrupt
        self.pending = True
        signal.setitimer(signal.ITIMER_REAL, _BLOCKED_S)


def pump(
    producer: KafkaProducer[bytes, bytes],
    topic: str,
    entries: Iterable[Entry],
    tally: Tally,
    interrupts: Interrupts,
    *,
    partition: int | None = None,
    headers: Callable[[int], Headers] | None = None,
    pace: Pace | None = None,
) -> None:
    """Send all entries; `headers` is called with the record's number, from 1 on. Returns when the last is buffered."""
    send, add = producer.send, tally.add
    try:
        for number, (key, value) in enumerate(entries, 1):
            if pace is not None:
                pace.wait()
            given = () if headers is None else headers(number)
            callback = None if (number - 1) % tally.latency_every else tally.timed()
            size = (len(key) if key else 0) + (len(value) if value else 0)
            interrupts.guarded = True
            add(send(topic, value, key=key, partition=partition, headers=given, callback=callback), size)
            interrupts.guarded = False
            if interrupts.pending:
                break
    finally:
        interrupts.check()


def deliver(
    producer: KafkaProducer[bytes, bytes],
    send: Callable[[Interrupts], None],
    tally: Tally,
    shown: AbstractContextManager[None],
) -> signal.Signals | None:
    """Call `send`, wait for every acknowledgment and close the producer; returns the signal that cut it short, if any.

    `shown` is entered meanwhile (the progress bar). After a signal what is under way has `DRAIN_S` seconds, then it fails.
    """
    stopped_by = None
    with Interrupts() as interrupts, shown:
        try:
            try:
                send(interrupts)
                _flush(producer, tally, interrupts)
            except KeyboardInterrupt:
                stopped_by = interrupts.stopped_by or signal.SIGINT
                with _told_by_tally():
                    producer.close(timeout=DRAIN_S)
        finally:
            with _told_by_tally():
                producer.close()
            tally.settle()
            tally.end()
    return stopped_by


@contextlib.contextmanager
def _told_by_tally() -> Iterator[None]:
    """Keep back what `close` logs of failed records, on this thread: each one has been counted, or will be."""
    logger, closing = logging.getLogger("penstock.producer"), threading.get_ident()

    def is_not_from_here(record: logging.LogRecord) -> bool:
        return record.thread != closing

    logger.addFilter(is_not_from_here)
    try:
        yield
    finally:
        logger.removeFilter(is_not_from_here)


def _flush(producer: KafkaProducer[bytes, bytes], tally: Tally, interrupts: Interrupts) -> None:
    """Flush in slices, between which is counted what is done: somebody may be watching."""
    flushed = False
    while not flushed:
        try:
            producer.flush(timeout=_FLUSH_SLICE_S)
            flushed = True
        except DeliveryError:
            flushed = True  # each failure is counted by its future
        except KafkaTimeoutError:
            pass
        interrupts.guarded = True
        tally.settle()
        interrupts.check()
