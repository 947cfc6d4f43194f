"""Rows with distance: clients in a network namespace behind a link, a Kafka on this side of it. Data only.

Everybody sends for seconds, at least a hundred round trips, after a second or more that does not count, and until the last
acknowledgment. The limit of a link is what one TCP connection moves over it (raw TCP, with the same congestion control).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bench.default_rows import NO_TARGET, PEERS, defaults
from bench.distance import Distance
from bench.row import (
    AIOKAFKA,
    CONFLUENT,
    CPU,
    FASTER,
    FRANZ,
    IDEMPOTENT,
    JAVA,
    RAW,
    US,
    Contestant,
    Line,
    Row,
    Target,
)

ROUND_TRIPS_MS = (0.5, 1, 5, 20, 50, 100)
_FRANZ_AT, _JAVA_AT, _TUNED_AT, _QUICK_AT = (1, 5, 20, 50), (50,), (5, 50), (5, 50)
_LATENCY = ("p50_ms", "p99_ms", "p99_9_ms")

_CONTESTANTS = {**PEERS, AIOKAFKA: Contestant("aiokafka:futures"), RAW: Contestant("raw:stream")}


def _or_raw(at_least: float, cpu_at_most: float) -> tuple[Target, ...]:
    """Faster by a factor, or nearly as fast as raw TCP: no client can be faster on that link."""
    return Target(FASTER, at_least=at_least, or_of=RAW), Target(CPU, at_most=cpu_at_most)


def _load(size: int, distance: Distance) -> tuple[dict[str, Any], dict[str, Any]]:
    """The load and its changes for the quick run: five seconds, at least a hundred round trips."""
    round_trip_s = distance.round_trip_ms / 1e3
    usual = {"seconds": max(5.0, 100 * round_trip_s), "warm_up_s": max(1.5, 40 * round_trip_s)}
    return defaults(size, **usual), {"seconds": 3.0, "warm_up_s": max(1.0, 20 * round_trip_s)}


def _row(name: str, title: str, size: int, lines: Sequence[Line], distance: Distance, **row: Any) -> Row:
    labels = dict.fromkeys([US, *(line.them for line in lines), RAW])
    contestants = row.pop("contestants", _CONTESTANTS)
    task, quick = _load(size, distance)
    return Row(
        name,
        title,
        {label: contestants[label] for label in labels},
        tuple(lines),
        {**task, **row.pop("task", {})},
        {**quick, **row.pop("quick", {})},
        distance=distance,
        quick_pairs=2,
        **row,
    )


def _shape(size: int) -> tuple[str, int]:
    """What the rows of a size are called, and their number of partitions."""
    return {100: ("100 B, 6 partitions", 6), 1000: ("1,000 B, 1 partition", 1)}[size]


def _at_defaults(size: int, round_trip_ms: float) -> Row:
    shown, partitions = _shape(size)
    cpu = 0.3 if size == 100 else 0.35
    over_idempotent = 1.5 if size == 100 else 1.3 if round_trip_ms <= 5 else 2.0
    lines = [
        Line(US, IDEMPOTENT, _or_raw(over_idempotent, cpu)),
        Line(US, CONFLUENT, _or_raw(1.0, cpu)),
        Line(US, RAW, (Target(FASTER),)),
    ]
    if round_trip_ms in _FRANZ_AT:
        lines.append(Line(US, FRANZ, _or_raw(1.0, 0.7)))
    if round_trip_ms in _JAVA_AT:
        lines += [Line(US, JAVA, (Target(FASTER, at_least=5.0), Target(CPU))), Line(US, AIOKAFKA, NO_TARGET)]
    return _row(
        f"far-{size}B-{round_trip_ms:g}ms",
        f"{shown}, {round_trip_ms:g} ms away, all at defaults",
        size,
        lines,
        Distance(round_trip_ms),
        partitions=partitions,
        only_full=round_trip_ms not in _QUICK_AT,
    )


def _against_tuned(size: int, round_trip_ms: float) -> Row:
    """Ours at defaults; theirs with their best documented settings, for this distance."""
    shown, partitions = _shape(size)
    tuned = {"defaults": False, "linger_ms": 5}
    # 100 MB of waiting records at most: what is left at the end has to be sent, too, and counts.
    own: dict[str, dict[str, Any]] = {
        CONFLUENT: {"confluent": {"queue.buffering.max.kbytes": 100_000}},
        JAVA: {"java": {"send.buffer.bytes": -1, "receive.buffer.bytes": -1}},
    }
    contestants = {
        label: one
        if label in (US, RAW)
        else replace(one, task={**one.task, **tuned, **own.get(label, {})}, quick={**one.quick})
        for label, one in _CONTESTANTS.items()
    }
    peers = (CONFLUENT, FRANZ, JAVA, AIOKAFKA)
    return _row(
        f"far-{size}B-{round_trip_ms:g}ms-tuned",
        f"{shown}, {round_trip_ms:g} ms away, ours at defaults, theirs with their best documented settings",
        size,
        [*(Line(US, them, NO_TARGET) for them in peers), Line(US, RAW, (Target(FASTER),))],
        Distance(round_trip_ms),
        contestants=contestants,
        partitions=partitions,
        only_full=True,
    )


def _small_broker_buffers(size: int) -> Row:
    shown, partitions = _shape(size)
    return _row(
        f"far-{size}B-50ms-broker-buffers",
        f"{shown}, 50 ms away, all at defaults, the broker too: its 100 KB take 2 MB/s of a connection at most",
        size,
        [Line(US, CONFLUENT, (Target(FASTER, at_least=1.0), Target(CPU))), Line(US, IDEMPOTENT, NO_TARGET)],
        Distance(50),
        partitions=partitions,
        broker_buffers="default",
        only_full=True,
    )


NETWORK_ROWS = [
    *(_at_defaults(size, round_trip_ms) for size in (100, 1000) for round_trip_ms in ROUND_TRIPS_MS),
    *(_against_tuned(size, round_trip_ms) for size in (100, 1000) for round_trip_ms in _TUNED_AT),
    *(_small_broker_buffers(size) for size in (100, 1000)),
    _row(
        "far-bulk",
        "1,000 B, bulk API, 20 ms away, 6 partitions, at defaults",
        1000,
        [Line(US, RAW, (Target(FASTER, at_least=0.8), Target(CPU))), Line(US, CONFLUENT, NO_TARGET)],
        Distance(20),
        contestants={**_CONTESTANTS, US: Contestant("penstock:bulk"), CONFLUENT: Contestant("confluent:bulk")},
        only_full=True,
    ),
    _row(
        "far-slow",
        "1,000 B, 1 partition, 4,000 records over 1 Mbit/s, all at defaults",
        1000,
        [Line(US, RAW, (Target(FASTER, at_least=0.9),)), Line(US, CONFLUENT, NO_TARGET)],
        Distance(100, mbit=1, mtu=1500),
        # As many records as leave within a third of delivery.timeout.ms.
        task={"count": 4_000, "seconds": None, "warm_up_s": 0},
        quick={"count": 1_000, "seconds": None, "warm_up_s": 0},
        partitions=1,
        only_full=True,
    ),
    _row(
        "far-loss",
        "1,000 B, 6 partitions, 1 % of packets lost, all at defaults",
        1000,
        [Line(US, CONFLUENT, (Target(FASTER, at_least=0.95), Target(CPU))), Line(US, IDEMPOTENT, NO_TARGET)],
        Distance(20, loss=0.01, mtu=1500, congestion="cubic"),
        # A full buffer would take minutes at less than 1 MB/s.
        task={"count": 10_000, "seconds": None, "warm_up_s": 0},
        quick={"count": 5_000, "seconds": None, "warm_up_s": 0},
        only_full=True,
    ),
    Row(
        "far-open-loop",
        "100 B, open loop at 20,000/s, 20 ms away, all at defaults",
        {US: Contestant("penstock:open_loop"), CONFLUENT: Contestant("confluent:open_loop")},
        (Line(US, CONFLUENT, (*(Target(figure, at_most=1.0) for figure in _LATENCY), Target(CPU))),),
        {"defaults": True, "rate": 20_000, "duration_s": 30, "size": 100},
        {"duration_s": 5},
        distance=Distance(20),
        quick_pairs=2,
    ),
    _row(
        "far-cold",
        "1,000 B, 1 partition, 50 ms away, all at defaults, the first two seconds of a new connection",
        1000,
        [Line(US, CONFLUENT, NO_TARGET), Line(US, IDEMPOTENT, NO_TARGET)],
        Distance(50),
        task={"seconds": 2.0, "warm_up_s": 0},
        quick={"seconds": 2.0, "warm_up_s": 0},
        partitions=1,
        only_full=True,
    ),
]
