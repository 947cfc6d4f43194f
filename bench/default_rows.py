"""Rows on loopback in which nobody sets anything but bootstrap.servers, and rows with three brokers. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.row import (
    AIOKAFKA,
    CONFLUENT,
    CPU,
    FASTER,
    FRANZ,
    IDEMPOTENT,
    JAVA,
    US,
    Contestant,
    Line,
    Row,
    Target,
    throughput,
)

NO_TARGET = (Target(FASTER), Target(CPU))

IDEMPOTENCE = {"confluent": {"enable.idempotence": True}}

PEERS: Mapping[str, Contestant] = {
    US: Contestant("penstock:futures"),
    CONFLUENT: Contestant("confluent:callback"),
    IDEMPOTENT: Contestant("confluent:callback", IDEMPOTENCE),
    FRANZ: Contestant("franz-go"),
    # Compiled hot paths need seconds.
    JAVA: Contestant("java", {"warm_up_s": 6}, {"warm_up_s": 3}),
}


def defaults(size: int, **more: Any) -> dict[str, Any]:
    """A load of five seconds, after one that does not count; values that cannot be compressed, for those who would."""
    return {"defaults": True, "size": size, "corpus": "random", "seconds": 5, "warm_up_s": 1, **more}


def _twin(name: str, title: str, lines: tuple[Line, ...], contestants: Mapping[str, Contestant], **row: Any) -> Row:
    quick = {"seconds": 1.5, "warm_up_s": 0.5}
    return Row(
        f"defaults-{name}",
        f"{title}, all at defaults",
        contestants,
        lines,
        quick=quick,
        quick_pairs=2,
        only_full=name != "100B",
        **row,
    )


def _peers(*labels: str) -> dict[str, Contestant]:
    return {label: PEERS[label] for label in (US, *labels)}


def _three_brokers(size: int) -> Row:
    targets = throughput(1.0, 0.35)
    return Row(
        f"three-brokers-{size}B",
        f"{size:,} B, three brokers, replication 3, min.insync.replicas 2, all at defaults but idempotent",
        _peers(IDEMPOTENT, JAVA, CONFLUENT),
        # At its own defaults confluent-kafka is not idempotent, though acks=all: shown, too.
        tuple(Line(US, them, targets) for them in (IDEMPOTENT, CONFLUENT, JAVA)),
        defaults(size),
        {"seconds": 1.5, "warm_up_s": 0.5},
        nodes=3,
        only_full=True,
    )


DEFAULT_ROWS = [
    _twin(
        "100B",
        "100 B, a future per record, 6 partitions",
        (
            Line(US, CONFLUENT, throughput(3.5, 0.22)),
            Line(US, IDEMPOTENT, throughput(1.5, 0.3)),
            Line(US, FRANZ, NO_TARGET),
            Line(US, JAVA, NO_TARGET),
        ),
        _peers(CONFLUENT, IDEMPOTENT, FRANZ, JAVA),
        task=defaults(100),
    ),
    _twin(
        "1000B",
        "1,000 B, 1 partition",
        (
            Line(US, CONFLUENT, throughput(1.0, 0.35)),
            Line(US, IDEMPOTENT, throughput(1.3, 0.35)),
            Line(US, FRANZ, NO_TARGET),
            Line(US, JAVA, NO_TARGET),
        ),
        _peers(CONFLUENT, IDEMPOTENT, FRANZ, JAVA),
        task=defaults(1000),
        partitions=1,
    ),
    _twin(
        "keyed",
        "100 B, keyed, 6 partitions (confluent-kafka: its own hash)",
        (Line(US, CONFLUENT, NO_TARGET),),
        _peers(CONFLUENT),
        task=defaults(100, keys=100_000),
    ),
    _twin(
        "1000-partitions",
        "100 B, keyed, 1,000 partitions",
        (Line(US, CONFLUENT, (Target(FASTER, at_least=3.0), Target(CPU))),),
        _peers(CONFLUENT),
        task=defaults(100, keys=100_000),
        partitions=1000,
    ),
    _twin(
        "asyncio",
        "100 B, asyncio, await send() per record",
        (Line(US, AIOKAFKA, (Target(FASTER, at_least=10.0), Target(CPU))),),
        {US: Contestant("penstock_async:futures"), AIOKAFKA: Contestant("aiokafka:futures")},
        task=defaults(100),
    ),
    _twin(
        "bulk",
        "100 B, bulk API",
        (Line(US, CONFLUENT, (Target(FASTER, at_least=3.0), Target(CPU))),),
        {US: Contestant("penstock:bulk"), CONFLUENT: Contestant("confluent:bulk")},
        task=defaults(100),
    ),
    _three_brokers(100),
    _three_brokers(1000),
]
