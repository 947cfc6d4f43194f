"""Counts the results of a stream of records; memory does not grow with the number of records."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from penstock._native import BulkResult, DeliveryFuture, RecordMetadata
from penstock.errors import KafkaError

_MOST_SAMPLES: Final = 1 << 13
_SETTLE_EVERY: Final = 256
_SWEEP_AT: Final = 1 << 16
_ERRORS_KEPT: Final = 5
_DIGITS: Final = re.compile(r"\d+")


class Failures(NamedTuple):
    """Records that failed for the same reason, and the first one's error."""

    error: KafkaError
    records: int

    def __str__(self) -> str:
        """One line of text."""
        return f"{self.records:,} record{'' if self.records == 1 else 's'} failed: {self.error}"


class Tally:
    """Counts the results of the records, read from their futures.

    Callbacks would be simpler, but with one per record a second thread competes for the GIL: sending takes half as long
    again. Only a sample of the records has a callback, to measure latency.
    """

    def __init__(self, *, latency_every: int = 10) -> None:
        """One record in `latency_every` is timed, later fewer: the number of samples is bounded."""
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
        self._lock = threading.Lock()  # the progress thread settles, too: the sender may be waiting for input
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
        """Count the records that are done."""
        with self._lock:
            while self._bulk and self._bulk[0].done():
                self._count_bulk(self._bulk.popleft())
            waiting = self._waiting
            count = self._count
            while waiting and waiting[0].done():
                count(waiting.popleft())
            if len(waiting) > self._sweep_at:
                # Futures of a stuck partition must not make the futures behind them pile up.
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
        self.partitions += Counter()  # drops the zeros

    def _keep(self, error: KafkaError) -> None:
        # Without partitions, times and attempts, a thousand failed batches have a few different errors.
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
            # Every other sample is dropped and the rate is halved: the samples stay evenly spread over the run.
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
    """The figures of a run: bytes count keys and values, latencies are milliseconds from send to acknowledgment."""

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
        """Acknowledged records divided by the time of the whole run."""
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
