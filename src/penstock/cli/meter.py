"""Measures a run of `penstock bench`: records sent and failed, latencies, and one interval after the other."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from penstock import BulkResult

_RESOLUTION: Final = 100
"""Buckets per factor e: neighbours differ by 1 %."""
_SHORTEST_S: Final = 0.5
"""A last interval that is shorter is too short for a rate."""


class Latencies:
    """A distribution of times in ms, exact to 1 %; its size does not grow with the number of samples."""

    def __init__(self) -> None:
        """Empty."""
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.highest_ms = 0.0

    def add(self, samples_ms: Iterable[float]) -> None:
        """Add samples."""
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
        """The usual percentiles."""
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
        return {name: self.percentile(share) for name, share in shares.items()}


class Interval(NamedTuple):
    """One interval of the run: times are seconds since the beginning, latencies ms."""

    end_s: float
    records: int
    records_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    highest_ms: float | None


class Meter:
    """Counts the records that are sent, and measures the latency of a sample of them."""

    def __init__(self, senders: int, now: Callable[[], float] = time.perf_counter) -> None:
        """`now` can be replaced."""
        self.now = now
        self.began = now()
        self.sent = [0] * senders  # one element per sender, so that senders need no lock
        self.latencies = Latencies()
        self.intervals: list[Interval] = []
        self._samples: list[float] = []  # appended to by callbacks, taken by `tick`
        self._failures: list[int] = []  # appended to by callbacks
        self._running: dict[
            int, tuple[float, float]
        ] = {}  # by thread: its processor time and the time, at the beginning
        self._ran: list[tuple[float, float]] = []  # processor time and time of threads that have ended
        self._counted = 0
        self._last = self.began
        self._ended: float | None = None

    def timed(self, due: float) -> Callable[[Any, BaseException | None], None]:
        """The callback of a record that was due at `due` (by the clock `now`).

        The latency does not count from the send: a producer that makes its caller wait would seem faster than it is.
        """
        samples, now = self._samples, self.now

        def done(_metadata: Any, error: BaseException | None) -> None:
            if error is None:
                samples.append((now() - due) * 1000)
            else:
                self.fail(1)  # the error of a flush counts only the records without a callback

        return done

    def timed_bulk(self, due: float) -> Callable[[BulkResult], None]:
        """The same for a call of `send_many`: the latency is that of its last record."""
        samples, now = self._samples, self.now

        def done(result: BulkResult) -> None:
            self.fail(len(result.errors))
            if not result.errors:
                samples.append((now() - due) * 1000)

        return done

    def fail(self, count: int) -> None:
        """Count records that were not acknowledged."""
        self._failures.append(count)

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Around the work of a thread that sends: measures its processor time."""
        began_s, began = time.thread_time(), self.now()
        thread = threading.get_ident()
        self._running[thread] = began_s, began
        try:
            yield
        finally:
            self._ran.append((time.thread_time() - began_s, self.now() - began))
            del self._running[thread]

    def senders(self) -> tuple[float, float]:
        """Of the threads that have sent, or still send: processor time in cores, and seconds that the longest one took."""
        spent = list(self._ran)
        # A run that is interrupted ends before its threads do. Not every system has the clock of another thread.
        if clock_of := getattr(time, "pthread_getcpuclockid", None):
            for thread, (began_s, began) in list(self._running.items()):
                with contextlib.suppress(OSError):  # it has just ended
                    spent.append((time.clock_gettime(clock_of(thread)) - began_s, self.now() - began))
        longest = max((seconds for _, seconds in spent), default=0.0)
        return (sum(cpu_s for cpu_s, _ in spent) / longest if longest > 0 else 0.0), longest

    @property
    def failed(self) -> int:
        """Records that were sent and not acknowledged."""
        return sum(self._failures)

    def tick(self) -> None:
        """End an interval."""
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
        """All records are acknowledged or have failed; later calls do nothing."""
        if self._ended is None:
            self._ended = self.now()

    @property
    def seconds(self) -> float:
        """From the beginning to the end, or until now."""
        return (self.now() if self._ended is None else self._ended) - self.began
