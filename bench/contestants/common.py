"""Shared by the contestants in Python: the load, the clocks, the form of a measurement.

It imports little: one of the figures is the time of a client's own import.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NoReturn

Task = dict[str, Any]
Measurement = dict[str, Any]

CHUNK = 100_000
"""Records between two checks of earlier results; also the number of keys."""


class NotHereError(Exception):
    """The installed client lacks what the task needs; the row says so instead of a figure."""


def not_here(what: str) -> NoReturn:
    raise NotHereError(what)


TIMED_CHUNK = 1000
"""The same for a load of some seconds: the end is noticed between two chunks."""


class Load:
    """The records of a task, created before anything is timed: lists of values and keys that the clients only iterate over.

    Either `count` records, or as many as are sent in `seconds`; then `count` says how many they were.
    """

    def __init__(self, task: Task, chunk: int = CHUNK) -> None:
        self.seconds: float | None = task.get("seconds")
        if self.seconds is None:
            self.count: int = task["count"]
            self.chunk = min(task.get("chunk", chunk), self.count)
        else:
            self.count = 0
            self.chunk = task.get("chunk", min(chunk, TIMED_CHUNK))
        if task.get("corpus") == "json":
            from bench.corpus import documents

            made = documents(task["size"])
            self.values = [made[number % len(made)] for number in range(self.chunk)]
        elif task.get("corpus") == "random":
            # Not compressible: a client that compresses by default (franz-go) sends as many bytes as the others.
            made_up = random.Random(4)
            self.values = [made_up.randbytes(task["size"]) for _ in range(self.chunk)]
        else:
            self.values = [b"x" * task["size"]] * self.chunk
        keys = task.get("keys", 0)
        self.keys = [b"key-%08d" % (number % keys) for number in range(self.chunk)] if keys else None

    def sizes(self) -> Iterator[int]:
        """How many records each chunk has; the last may have fewer."""
        if self.seconds is not None:
            end = time.perf_counter() + self.seconds
            while time.perf_counter() < end:
                self.count += self.chunk
                yield self.chunk
            return
        for start in range(0, self.count, self.chunk):
            yield min(self.chunk, self.count - start)


def warm_up_of(task: Task) -> Load | None:
    """The load before the timed one, of `warm_up` records or `warm_up_s` seconds; None if there is none."""
    if task.get("warm_up"):
        return Load({**task, "count": task["warm_up"], "seconds": None})
    return Load({**task, "seconds": task["warm_up_s"]}) if task.get("warm_up_s") else None


class Stopwatch:
    """Seconds, and CPU seconds of this process: all threads, user and system."""

    def __init__(self) -> None:
        self._cpu, self._began = time.process_time(), time.perf_counter()

    def stop(self) -> tuple[float, float]:
        return time.perf_counter() - self._began, time.process_time() - self._cpu


def measurement(
    version: str, settings: dict[str, Any], count: int, spent: tuple[float, float], failures: int, **figures: float
) -> Measurement:
    """The measurement that every contestant returns, with its own figures."""
    seconds, cpu_seconds = spent
    return {
        "version": version,
        "settings": settings,
        "count": count,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "failures": failures,
        **figures,
    }


def percentile(ordered: list[float], per_cent: float) -> float:
    """The nearest rank of an ordered list: a measured value, never one between two."""
    rank = math.ceil(len(ordered) * per_cent / 100)
    return ordered[max(0, rank - 1)]


def latency_figures(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        name: percentile(ordered, per_cent) * 1e3
        for name, per_cent in (("p50_ms", 50), ("p99_ms", 99), ("p99_9_ms", 99.9))
    }


def rss_mib() -> float:
    """Resident memory now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096 / 2**20


def import_ms(module: str) -> float:
    """The time that a fresh interpreter takes to import a module. Best of three: reading files depends on the disk."""
    program = f"import time; began = time.perf_counter(); import {module}; print(time.perf_counter() - began)"
    times = [
        float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout) for _ in range(3)
    ]
    return min(times) * 1e3


class Pace:
    """An open loop: record n is due at n / rate, whatever happened to those before it.

    Latency counts from when a record was due, so that a client that blocks its caller is charged for the records that were
    late because of it (coordinated omission).
    """

    TICK_S = 0.001

    def __init__(self, task: Task) -> None:
        self.rate: int = task["rate"]
        self.count: int = self.rate * task["duration_s"]
        self.began = time.perf_counter() + 0.01

    def due(self, number: int) -> float:
        return self.began + number / self.rate

    def due_by(self, now: float) -> int:
        """How many records are due by now."""
        return max(0, min(self.count, int((now - self.began) * self.rate) + 1))


def loop_cost(task: Task) -> float:
    """CPU seconds per second of an open loop without a client: its ticks, a bound callback per record, its call.

    Thousands of short sleeps cost more than any client; without this the ratio would be that of two Python loops.
    """
    pace, clock = Pace({**task, "duration_s": 1}), time.perf_counter
    latencies: list[float] = []

    def acknowledged(due: float, _metadata: Any, _error: Any) -> None:
        latencies.append(clock() - due)

    watch = Stopwatch()
    sent = 0
    while sent < pace.count:
        for number in range(sent, pace.due_by(clock())):
            partial(acknowledged, pace.due(number))(None, None)
            sent = number + 1
        time.sleep(pace.TICK_S)
    return watch.stop()[1]


def without_loop(spent: tuple[float, float], cost: float, task: Task) -> tuple[float, float]:
    """The measured time, with the CPU time reduced by the loop's own share."""
    seconds, cpu_seconds = spent
    return seconds, max(0.0, cpu_seconds - cost * task["duration_s"])
