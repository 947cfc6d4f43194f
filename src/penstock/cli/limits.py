"""What limited a run of `penstock bench`, and what to change: a table of rules over the run's figures."""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from penstock.cli.load import Load
from penstock.cli.meter import Meter
from penstock.metrics import Metrics

_SHORTEST_S: Final = 1.0
"""A shorter run is its start and its end: averages say nothing."""
_BUSY: Final = 0.85
_FULL: Final = 0.7
_WAITS: Final = 0.15
_NEAR_MS: Final = 0.3
_PROBES: Final = 3
_PROBE_TIMEOUT_S: Final = 5.0


class Figures(NamedTuple):
    """Of one run. Shares are of its time, 0 to 1, unless said; times are ms, sizes bytes."""

    seconds: float
    rate: float | None
    """Records/s that were asked for; None: as fast as possible."""
    sent_per_second: float
    """While senders sent: the wait for the last acknowledgments does not count."""
    is_bulk: bool
    sender_cpu: float
    """Processor time of the threads that send, in cores: more than one is not possible for Python code (the GIL)."""
    process_cpu: float
    """Of the whole process, in cores."""
    cores: int
    io_busy: float
    """Share in which the I/O thread worked."""
    memory_wait: float
    """Share in which a sending thread waited for buffer.memory."""
    buffer_fill: float
    """Share of buffer.memory that was in use, on average."""
    in_flight: float
    """Requests without an answer, on average; of one broker."""
    most_in_flight: int
    """max.in.flight.requests.per.connection."""
    latency_ms: float
    """From a request to its answer, on average."""
    round_trip_ms: float | None
    """Of the network alone, from the time that a TCP connection takes; None: not measured."""
    throttle: float
    """Share in which the broker throttled the client."""
    request_bytes: float
    batch_bytes: float

    @property
    def window(self) -> float:
        """Share of the requests that may be in flight."""
        return self.in_flight / self.most_in_flight

    @property
    def is_behind(self) -> bool:
        """Records come faster than they leave: senders wait for memory."""
        return self.memory_wait >= _WAITS or self.buffer_fill >= _FULL

    @property
    def beyond_ms(self) -> float:
        """The part of an answer's time that is not the network's round trip."""
        return max(0.0, self.latency_ms - (self.round_trip_ms or 0.0))

    @property
    def is_answered_at_once(self) -> bool:
        """Most of an answer's time is the distance."""
        return self.round_trip_ms is not None and self.latency_ms > 0 and self.round_trip_ms >= 0.6 * self.latency_ms

    @property
    def is_near(self) -> bool:
        """The broker is on this machine, or in this room: bandwidth is not what to look at first."""
        return self.round_trip_ms is not None and self.round_trip_ms <= _NEAR_MS


class Verdict(NamedTuple):
    """What limited a run."""

    by: str
    why: str
    change: str

    def lines(self) -> list[str]:
        """The text for a terminal."""
        return [f"limited by {self.by}: {self.why}", f"  {self.change}"]


class _Rule(NamedTuple):
    by: str
    applies: Callable[[Figures], bool]
    why: Callable[[Figures], str]
    change: Callable[[Figures], str]


def _per_cent(share: float) -> str:
    return f"{min(max(share, 0.0), 9.99):.0%}"


def _kb(size: float) -> str:
    return f"{size / 1e3:,.1f} kB" if math.isfinite(size) else "unknown size"


def _window(f: Figures) -> str:
    return f"{f.in_flight:.1f} of at most {f.most_in_flight} requests were in flight"


_RULES: Final = (
    _Rule(
        "nothing",
        lambda f: f.seconds < _SHORTEST_S,
        lambda f: f"{f.seconds:.2f} s are too short to tell",
        lambda _: "run it longer (--seconds 10)",
    ),
    _Rule(
        "the rate that was asked for",
        lambda f: f.rate is not None and f.sent_per_second >= 0.97 * f.rate,
        lambda f: f"{f.sent_per_second:,.0f} of {f.rate or 0:,.0f} records/s were sent",
        lambda _: "nothing to change; a run without --rate shows what is possible",
    ),
    _Rule(
        "the broker's quota",
        lambda f: f.throttle >= _WAITS,
        lambda f: f"the broker throttled this client for {_per_cent(f.throttle)} of the time",
        lambda _: "raise the quota of this user or client.id (producer_byte_rate, request_percentage)",
    ),
    _Rule(
        "the application's thread",
        lambda f: f.sender_cpu >= _BUSY,
        lambda f: f"the sending code used {_per_cent(f.sender_cpu)} of a core, which is all that Python code gets",
        lambda f: (
            "send from several processes"
            if f.is_bulk
            else "send many records per call (--bulk), or from several processes"
        ),
    ),
    _Rule(
        "the I/O thread",
        lambda f: f.io_busy >= _BUSY,
        lambda f: f"the producer's I/O thread worked {_per_cent(f.io_busy)} of the time",
        lambda _: "several producers share the work; compression and TLS cost most",
    ),
    _Rule(
        "this machine's processors",
        lambda f: f.process_cpu >= _BUSY * f.cores,
        lambda f: f"this process used {f.process_cpu:.1f} of {f.cores} cores",
        lambda _: "a cheaper compression.type (lz4), or more cores",
    ),
    _Rule(
        "the network's round trip",
        lambda f: f.is_behind and f.window >= _FULL and f.is_answered_at_once,
        lambda f: (
            f"{_window(f)}, {_kb(f.request_bytes)} each, and answers took {f.latency_ms:.1f} ms, "
            f"{f.round_trip_ms or 0:.1f} ms of which are the distance"
        ),
        lambda f: (
            f"larger batches (now {_kb(f.batch_bytes)}): raise penstock.batch.growth.max.bytes or batch.size, buffer.memory, "
            "the topic's max.message.bytes; more partitions on more brokers"
        ),
    ),
    _Rule(
        "the broker",
        lambda f: f.is_behind and f.window >= _FULL and f.is_near,
        lambda f: f"{_window(f)}, and answers took {f.latency_ms:.1f} ms, though the broker is near",
        lambda _: "the broker's processors and disks; more brokers and partitions; compression.type sends fewer bytes",
    ),
    _Rule(
        "the broker, or the bandwidth of the network",
        lambda f: f.is_behind and f.window >= _FULL,
        lambda f: (
            f"{_window(f)}, and answers took {f.latency_ms:.1f} ms, {f.beyond_ms:.1f} ms of which are not the distance"
        ),
        lambda _: (
            "compare the MB/s with the network's and the disks'; compression.type sends fewer bytes; more brokers and "
            "partitions; the broker's socket.receive.buffer.bytes=-1"
        ),
    ),
    _Rule(
        "buffer.memory",
        lambda f: f.is_behind,
        lambda f: (
            f"senders waited for memory {_per_cent(f.memory_wait)} of the time, {_per_cent(f.buffer_fill)} of it was in "
            f"use, and only {_window(f)}"
        ),
        lambda _: "raise buffer.memory: it does not hold a batch for each partition and what is in flight",
    ),
    _Rule(
        "the other programs of this machine",
        lambda f: f.sender_cpu >= 0.3,
        lambda f: (
            f"the sending code got {_per_cent(f.sender_cpu)} of a core and waited for memory {_per_cent(f.memory_wait)} "
            "of the time: the rest of it, it waited for a processor"
        ),
        lambda _: "run it on a machine with a free core for the sender and one for the I/O thread",
    ),
    _Rule(
        "nothing that was measured",
        lambda _: True,
        lambda f: (
            f"the sending code used {_per_cent(f.sender_cpu)} of a core, {_per_cent(f.buffer_fill)} of the buffer was in "
            f"use, {_window(f)}"
        ),
        lambda _: "with --rate: ask for more; with --asyncio: more tasks",
    ),
)
"""The first that applies is the verdict. The order goes from what is sure to what is left."""


def verdict(figures: Figures) -> Verdict:
    """What limited the run."""
    rule = next(rule for rule in _RULES if rule.applies(figures))
    return Verdict(rule.by, rule.why(figures), rule.change(figures))


class Watch:
    """Collects the figures of a run from the producer's metrics: `sample` now and then, `figures` at the end."""

    def __init__(self, metrics: Callable[[], Metrics], most_in_flight: int, round_trip_ms: float | None) -> None:
        """The run begins now."""
        self._metrics = metrics
        self._most_in_flight = most_in_flight
        self._round_trip_ms = round_trip_ms
        self._fills: list[float] = []
        self._before = metrics()  # windows of averages begin here

    def sample(self) -> None:
        """Note how full the buffer is."""
        producer = self._metrics()["producer-metrics"]
        self._fills.append(1 - producer["buffer-available-bytes"] / max(producer["buffer-total-bytes"], 1.0))

    def figures(self, load: Load, meter: Meter, cpu_s: float) -> Figures:
        """All figures of a run that has ended; `cpu_s` is the processor time of the process."""
        metrics = self._metrics()
        producer, nodes = metrics["producer-metrics"], metrics["producer-node-metrics"]
        seconds = max(meter.seconds, 1e-6)
        sender_cpu, sending_s = meter.senders()

        def grown(name: str) -> float:
            return producer[name] - self._before["producer-metrics"][name]

        latency_ms = _known(producer["request-latency-avg"])
        brokers = _busy_brokers(nodes, self._before["producer-node-metrics"])
        requests = grown("request-total")
        return Figures(
            seconds=seconds,
            rate=load.rate,
            sent_per_second=sum(meter.sent) / (sending_s or seconds),
            is_bulk=bool(load.bulk),
            sender_cpu=sender_cpu,
            process_cpu=cpu_s / seconds,
            cores=_cores(),
            io_busy=grown("io-time-ns-total") / 1e9 / seconds,
            memory_wait=grown("bufferpool-wait-time-ns-total")
            / 1e9
            / seconds
            / (1 if load.is_asyncio else load.senders),
            buffer_fill=sum(self._fills) / len(self._fills) if self._fills else 0.0,
            # Little's law: arrivals per ms, times how long each one stays.
            in_flight=requests * latency_ms / 1e3 / seconds / brokers,
            most_in_flight=self._most_in_flight,
            latency_ms=latency_ms,
            round_trip_ms=self._round_trip_ms,
            throttle=_known(producer["produce-throttle-time-avg"]) * requests / brokers / 1e3 / seconds,
            request_bytes=producer["request-size-avg"],
            batch_bytes=producer["batch-size-avg"],
        )


def _known(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _busy_brokers(nodes: dict[str, float], before: dict[str, float]) -> int:
    """Brokers with a share of the requests that counts; the bootstrap connection and the controller have few."""
    counts = [value - before.get(name, 0.0) for name, value in nodes.items() if name.startswith("request-total{")]
    most = max(counts, default=0.0)
    return max(1, sum(count >= most / 10 for count in counts))


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def round_trip_ms(addresses: Sequence[tuple[str, int]]) -> float | None:
    """The network's round trip to the first bootstrap server that answers: the least time of a TCP handshake.

    None if none answers.
    """
    for address in addresses:
        try:
            return min(_handshake_ms(address) for _ in range(_PROBES))
        except OSError:
            continue
    return None


def _handshake_ms(address: tuple[str, int]) -> float:
    """Names are resolved before the clock starts. The first address of a name is as good as the others."""
    family, kind, protocol, _, resolved = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.settimeout(_PROBE_TIMEOUT_S)
        began = time.perf_counter()
        probe.connect(resolved)
        return (time.perf_counter() - began) * 1e3


def limit_as_json(figures: Figures) -> dict[str, Any]:
    """The verdict and its figures, for `--json`; what is not known (no request was answered) is null."""
    shown = {
        name: (round(value, 4) if math.isfinite(value) else None) if isinstance(value, float) else value
        for name, value in figures._asdict().items()
    }
    return {**verdict(figures)._asdict(), "figures": shown}
