"""A long run under faults that looks for leaks. Exits with 1 if memory, descriptors or threads grow.

    python tools/soak/run.py --seconds 600

Producers in this process send to an embedded cluster in another (`cluster.py`), which injects faults. In every
round the faults pause, all records are flushed, and the idle process is measured: resident memory, descriptors, threads.
The last measurement of the first minute is the reference: later ones may have 5 % more memory, but not one descriptor
or thread more. Then producers are opened and closed, a thousand times.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from penstock import DeliveryError, KafkaError, KafkaProducer
from penstock.errors import KafkaTimeoutError

WARM_UP_S: Final = 60.0
ROUND_S: Final = 20.0
MEMORY_FACTOR: Final = 1.05
CYCLES: Final = 1_000
_SETTLE_S: Final = 30.0
_BURST: Final = 20
_PAUSE_S: Final = 0.01


class Sample(NamedTuple):
    """One measurement of the process."""

    at_s: float
    rss_kb: int
    descriptors: int
    threads: int


def resident_kb() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def descriptors() -> int:
    """Open descriptors, without the one that the count itself needs."""
    return len(os.listdir("/proc/self/fd")) - 1


def threads() -> int:
    """Threads of this process, native ones included."""
    return len(os.listdir("/proc/self/task"))


class Cluster:
    """`cluster.py` in a separate process."""

    def __init__(self, seed: int) -> None:
        """Starts it; then `bootstrap_servers` is set."""
        command = [sys.executable, str(Path(__file__).with_name("cluster.py")), str(seed)]
        # Its warnings are about its own faults.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.bootstrap_servers = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the cluster's process has ended")
        return line.strip()

    def switch(self, word: str) -> None:
        """Send ``storm`` or ``calm``; returns when it is done."""
        assert self._process.stdin is not None
        print(word, file=self._process.stdin, flush=True)
        self._line()

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@dataclass
class Sender:
    """A producer and the thread that sends with it, in bursts, while it is enabled."""

    name: str
    producer: KafkaProducer[Any, Any]
    topic: str
    with_callbacks: bool
    random: Random
    outcomes: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    refused: int = 0

    def __post_init__(self) -> None:
        """Starts the thread, which waits."""
        self._going = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"soak-{self.name}")
        self._thread.start()

    def go(self) -> None:
        """Send."""
        self._idle.clear()
        self._going.set()

    def rest(self) -> None:
        """Stop sending, and return when all records have their outcome."""
        self._going.clear()
        self._idle.wait()
        with contextlib.suppress(DeliveryError):  # some faults are permanent; the callbacks count each outcome
            self.producer.flush(60)

    def end(self) -> None:
        """Close."""
        self._ended = True
        self._going.set()
        self._thread.join()
        self.producer.close(30)

    def _run(self) -> None:
        while True:
            if not self._going.is_set():
                self._idle.set()
                self._going.wait()
            if self._ended:
                return
            futures = []
            for _ in range(_BURST):
                value = self.random.randbytes(self.random.randint(1, 400))
                try:
                    if self.with_callbacks:
                        self.producer.send(self.topic, value, callback=self._called)
                    else:
                        futures.append(self.producer.send(self.topic, value, key=value[:4]))
                    self.sent += 1
                except KafkaTimeoutError:
                    self.refused += 1  # max.block.ms: the buffer is full, as expected
            for future in futures:
                error = future.exception()
                self.outcomes["delivered" if error is None else type(error).__name__] += 1
            time.sleep(_PAUSE_S)  # a soak is about duration, not about load

    def _called(self, metadata: object, error: BaseException | None) -> None:
        self.outcomes["delivered" if error is None else type(error).__name__] += 1


def common(cluster: Cluster) -> dict[str, Any]:
    """Settings that limit the effect of a fault to seconds."""
    return {
        "bootstrap_servers": cluster.bootstrap_servers,
        "buffer_memory": 2 << 20,
        "request_timeout_ms": 1_000,
        "delivery_timeout_ms": 15_000,
        "max_block_ms": 5_000,
        # The control connection is used every few seconds, so that it exists at each measurement.
        "metadata_max_age_ms": 2_000,
    }


def brief(cluster: Cluster, count: int) -> None:
    """A producer's whole life. The results of its records do not matter."""
    producer: KafkaProducer[Any, Any] = KafkaProducer(**common(cluster))
    try:
        with contextlib.suppress(KafkaError):
            for _ in range(count):
                producer.send("brief", b"brief")
    finally:
        producer.close(5)


def measure_when_idle(started: float, senders: list[Sender], wanted: Sample | None) -> Sample:
    """The process when it equals `wanted`, or after `_SETTLE_S`: connections are restored one by one."""
    deadline = time.monotonic() + _SETTLE_S
    same = 0
    last = (-1, -1)
    while True:
        for sender in senders:  # a record for each broker: every data connection is up
            for partition in range(6):
                sender.producer.send(sender.topic, b"quiet", partition=partition)
                sender.sent += 1
                sender.outcomes["quiet"] += 1
            sender.producer.flush(30)
        now = descriptors(), threads()
        same = same + 1 if now == last else 0
        last = now
        settled = same >= 10 if wanted is None else now == (wanted.descriptors, wanted.threads)
        if settled or time.monotonic() > deadline:
            gc.collect()
            return Sample(time.monotonic() - started, resident_kb(), *now)
        time.sleep(0.3)


def storms(cluster: Cluster, seconds: float, seed: int, say: Callable[[str], None]) -> list[str]:
    """The long part; returns the leaks."""
    idempotent = KafkaProducer(**common(cluster), linger_ms=5)
    plain = KafkaProducer(**common(cluster), linger_ms=0, acks=1, enable_idempotence=False)
    senders = [
        Sender("idempotent", idempotent, "idempotent", True, Random(seed)),
        Sender("plain", plain, "plain", False, Random(seed + 1)),
    ]
    started = time.monotonic()
    reference: Sample | None = None
    complaints: list[str] = []
    warm_up_s = min(WARM_UP_S, seconds / 2)
    say(f"{'s':>6} {'RSS KiB':>9} {'peak KiB':>9} {'descriptors':>11} {'threads':>7} {'sent':>9} {'failed':>7}")
    while time.monotonic() - started < seconds:
        for sender in senders:
            sender.go()
        cluster.switch("storm")
        peak, until = 0, time.monotonic() + ROUND_S
        while time.monotonic() < until:
            brief(cluster, 10)
            peak = max(peak, resident_kb())
            time.sleep(1)
        cluster.switch("calm")
        for sender in senders:
            sender.rest()
        sample = measure_when_idle(started, senders, reference)
        sent = sum(sender.sent for sender in senders)
        failed = sum(n for s in senders for what, n in s.outcomes.items() if what not in ("delivered", "quiet"))
        say(
            f"{sample.at_s:6.0f} {sample.rss_kb:9} {peak:9} {sample.descriptors:11} {sample.threads:7} {sent:9} {failed:7}"
            + (" <- the reference" if reference is None and sample.at_s >= warm_up_s else "")
        )
        if reference is not None:
            complaints += compare(reference, sample)
        elif sample.at_s >= warm_up_s:
            reference = sample
    for sender in senders:
        sender.end()
        outcomes = sum(sender.outcomes.values())
        say(f"{sender.name}: {sender.sent} sent, {sender.refused} refused, outcomes {dict(sender.outcomes)}")
        if outcomes != sender.sent:
            complaints.append(f"{sender.name}: {sender.sent} records were sent, {outcomes} have an outcome")
    return complaints


def compare(reference: Sample, sample: Sample) -> list[str]:
    """The values that have grown."""
    complaints = []
    if sample.rss_kb > reference.rss_kb * MEMORY_FACTOR:
        complaints.append(
            f"after {sample.at_s:.0f} s: {sample.rss_kb} KiB resident, {reference.rss_kb} at the reference"
        )
    if sample.descriptors != reference.descriptors:
        complaints.append(f"after {sample.at_s:.0f} s: {sample.descriptors} descriptors, not {reference.descriptors}")
    if sample.threads != reference.threads:
        complaints.append(f"after {sample.at_s:.0f} s: {sample.threads} threads, not {reference.threads}")
    return complaints


def cycles(cluster: Cluster, count: int, say: Callable[[str], None]) -> list[str]:
    """Open, send, close, repeatedly; returns the leaks."""
    started = time.monotonic()
    for _ in range(max(20, count // 10)):
        brief(cluster, 3)
    gc.collect()
    time.sleep(0.5)  # threads that were joined a moment ago
    before = Sample(time.monotonic() - started, resident_kb(), descriptors(), threads())
    for _ in range(count):
        brief(cluster, 3)
    gc.collect()
    # A joined thread leaves the process's list a moment later.
    deadline = time.monotonic() + _SETTLE_S
    while (descriptors(), threads()) != (before.descriptors, before.threads) and time.monotonic() < deadline:
        time.sleep(0.01)
    after = Sample(time.monotonic() - started, resident_kb(), descriptors(), threads())
    say(f"{count} producers opened and closed in {after.at_s - before.at_s:.0f} s: before {before}, after {after}")
    return compare(before, after)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="how long the storms last (600)")
    parser.add_argument("--cycles", type=int, default=CYCLES, help=f"producers opened and closed afterwards ({CYCLES})")
    parser.add_argument("--seed", type=int, default=1, help="of faults and records (1)")
    arguments = parser.parse_args()

    def say(text: str) -> None:
        print(text, flush=True)

    # Warnings are created and handled as in any application, but not shown: there is one for each fault.
    logger = logging.getLogger("penstock")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    cluster = Cluster(arguments.seed)
    try:
        complaints = storms(cluster, arguments.seconds, arguments.seed, say)
        complaints += cycles(cluster, arguments.cycles, say)
    finally:
        cluster.stop()
    for complaint in complaints:
        say(f"GREW: {complaint}")
    if complaints:
        sys.exit(1)
    say("nothing grew")


if __name__ == "__main__":
    main()
