"""The rows: the load, the contestants, the comparisons, and the targets. Data only; `bench.runs` runs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.row import (
    AIO,
    AIOKAFKA,
    CONFLUENT,
    CPU,
    FASTER,
    FRANZ,
    JAVA,
    US,
    Contestant,
    Line,
    Row,
    Target,
    against_confluent,
    throughput,
)


def flat(name: str, title: str, points: Mapping[str, Contestant], reference: str, **row: Any) -> Row:
    """Cost per message at several points, each against one of them: within 15 %."""
    lines = tuple(Line(point, reference, (Target(CPU, 0.85, 1.15),)) for point in points if point != reference)
    return Row(name, title, points, lines, sink=True, **row)


def load(count: int, size: int, **more: Any) -> dict[str, Any]:
    return {"count": count, "size": size, "linger_ms": 5, **more}


_LATENCY = ("p50_ms", "p99_ms", "p99_9_ms")
# A batch takes its whole batch.size out of buffer.memory: a thousand open ones must fit.
_SMALL = {"penstock": {"batch_size": 16_384}}
_BULK = {"confluent": {"queue.buffering.max.messages": 2_000_000}}

ROWS = [
    Row(
        "100B",
        "100 B, no key, a future per record",
        {
            US: Contestant("penstock:futures"),
            CONFLUENT: Contestant("confluent:callback", {"count": 1_000_000}, {"count": 300_000}),
            JAVA: Contestant("java", {"count": 2_000_000, "warm_up_s": 6}, {"count": 700_000, "warm_up_s": 3}),
            FRANZ: Contestant("franz-go", {"warm_up_s": 1}, {"warm_up_s": 0.5}),
        },
        (
            Line(US, CONFLUENT, throughput(4.0, 1 / 5)),
            Line(US, JAVA, throughput(1.5, 1 / 3)),
            Line(US, FRANZ, throughput(1.0, 0.7)),
        ),
        load(3_000_000, 100),
        {"count": 1_000_000},
    ),
    against_confluent(
        "keyed",
        "100 B, keyed (murmur2), 6 partitions",
        3.5,
        1 / 4,
        task=load(2_000_000, 100, keys=100_000),
        quick={"count": 500_000},
    ),
    against_confluent(
        "callback",
        "100 B with a Python callback per record",
        2.5,
        1 / 3,
        ours="callback",
        task=load(2_000_000, 100),
        quick={"count": 500_000},
    ),
    against_confluent("1000B", "1,000 B", 1.1, 0.4, task=load(400_000, 1000), quick={"count": 150_000}),
    against_confluent(
        "zstd",
        "1,000 B JSON text, zstd",
        1.1,
        0.9,
        task=load(400_000, 1000, corpus="json", compression="zstd"),
        quick={"count": 100_000},
    ),
    against_confluent(
        "lz4",
        "1,000 B JSON text, lz4",
        1.1,
        0.9,
        task=load(400_000, 1000, corpus="json", compression="lz4"),
        quick={"count": 100_000},
    ),
    against_confluent(
        "1000-partitions",
        "100 B, keyed, 1,000 partitions",
        3.0,
        1 / 3,
        task=load(1_000_000, 100, keys=100_000, **_SMALL),
        quick={"count": 300_000},
        partitions=1000,
    ),
    against_confluent(
        "threads",
        "100 B, 16 threads sending",
        3.0,
        1 / 3,
        ours="threads",
        theirs="threads",
        task=load(2_000_000, 100, threads=16),
        quick={"count": 500_000},
    ),
    Row(
        "asyncio",
        "100 B, asyncio, await send() per record",
        {
            US: Contestant("penstock_async:futures", {"count": 1_000_000}, {"count": 300_000}),
            AIOKAFKA: Contestant("aiokafka:futures"),
            AIO: Contestant("confluent:aio"),
        },
        (Line(US, AIOKAFKA, throughput(10, 1 / 8)), Line(US, AIO, throughput(10, 1 / 8))),
        load(200_000, 100),
        {"count": 50_000},
    ),
    Row(
        "one-at-a-time",
        "100 B, send, wait for the ack (linger 0)",
        {
            US: Contestant("penstock:one_at_a_time"),
            CONFLUENT: Contestant("confluent:one_at_a_time"),
            AIOKAFKA: Contestant("aiokafka:one_at_a_time"),
        },
        (
            Line(US, CONFLUENT, (Target("p50_ms", at_most=0.9),)),
            Line(US, AIOKAFKA, (Target("p50_ms", at_most=0.5),)),
        ),
        {"count": 3000, "size": 100},
        {"count": 500},
        partitions=1,
    ),
    Row(
        "open-loop",
        "100 B, open loop at 20,000/s",
        {US: Contestant("penstock:open_loop"), CONFLUENT: Contestant("confluent:open_loop")},
        (Line(US, CONFLUENT, (*(Target(figure, at_most=1.0) for figure in _LATENCY), Target(CPU, at_most=0.5))),),
        {"rate": 20_000, "duration_s": 30, "size": 100, "linger_ms": 5},
        {"duration_s": 5},
    ),
    against_confluent(
        "bulk",
        "100 B, bulk API",
        2.0,
        1 / 6,
        ours="bulk",
        theirs="bulk",
        task=load(5_000_000, 100, **_BULK),
        quick={"count": 1_500_000},
    ),
    against_confluent(
        "bulk-sink",
        "100 B, bulk API, into the null sink",
        8.0,
        1 / 8,
        ours="bulk",
        theirs="bulk",
        task=load(5_000_000, 100, **_BULK),
        quick={"count": 1_500_000},
        sink=True,
    ),
    Row(
        "start",
        "start to first acknowledgment; import",
        {US: Contestant("penstock:start"), CONFLUENT: Contestant("confluent:start")},
        (Line(US, CONFLUENT, (Target("start_ms", at_most=1.0), Target("import_ms", at_most=1.0))),),
        {"size": 100, "linger_ms": 0},
        pairs=15,
        quick_pairs=5,
    ),
    Row(
        "memory",
        "RSS in steady state, 64 MiB of buffer each",
        {
            US: Contestant("penstock:memory"),
            CONFLUENT: Contestant(
                "confluent:memory",
                # Its limit counts payloads alone; the number of messages must not be the limit.
                {"confluent": {"queue.buffering.max.kbytes": 65_536, "queue.buffering.max.messages": 10_000_000}},
            ),
        },
        (Line(US, CONFLUENT, (Target("steady_rss_mib", at_most=1.0),)),),
        {"duration_s": 6, "size": 100, "linger_ms": 5},
        {"duration_s": 2},
    ),
    Row(
        "limit-broker",
        "100 B, of what this broker takes from the blaster",
        {
            "a future per record": Contestant("penstock:futures"),
            "bulk": Contestant("penstock:bulk"),
            "blaster": Contestant("blaster", {"count": 8_000_000}, {"count": 3_000_000}),
        },
        (
            Line("a future per record", "blaster", (Target(FASTER),)),
            Line("bulk", "blaster", (Target(FASTER),)),
        ),
        load(3_000_000, 100),
        {"count": 1_000_000},
    ),
    Row(
        "limit-sink",
        "100 B, of what the null sink takes from the blaster",
        {
            "a future per record": Contestant("penstock:futures"),
            "bulk": Contestant("penstock:bulk"),
            "blaster": Contestant("blaster", {"count": 30_000_000}, {"count": 10_000_000}),
        },
        (
            Line("a future per record", "blaster", (Target(FASTER),)),
            Line("bulk", "blaster", (Target(FASTER),)),
        ),
        load(3_000_000, 100),
        {"count": 1_000_000},
        sink=True,
    ),
    flat(
        "flat-count",
        "100 B into the null sink: cost per message by number of records",
        {
            "10⁵": Contestant("penstock:futures", {"count": 10**5}),
            "10⁶": Contestant("penstock:futures", {"count": 10**6}),
            "10⁷": Contestant("penstock:futures", {"count": 10**7}, {"count": 3 * 10**6}),
        },
        "10⁶",
        task=load(10**6, 100, warm_up=300_000),
    ),
    flat(
        "flat-partitions",
        "100 B keyed into the null sink: cost per message by number of partitions",
        {f"{number:,}": Contestant("penstock:futures", {"partitions": number}) for number in (1, 10, 100, 1000)},
        "10",
        task=load(2_000_000, 100, keys=100_000, warm_up=300_000, **_SMALL),
        quick={"count": 500_000, "warm_up": 100_000},
    ),
    flat(
        "flat-producers",
        "100 B into the null sink: cost per message by number of producers in one process",
        {f"{number}": Contestant("penstock:producers", {"producers": number}) for number in (1, 4, 32)},
        "1",
        task=load(2_000_000, 100, warm_up=100_000),
        quick={"count": 500_000},
    ),
    flat(
        "flat-10^8",
        "100 B into the null sink: cost per message, 10⁸ records (one round)",
        {
            "10⁶": Contestant("penstock:futures", {"count": 10**6}),
            "10⁸": Contestant("penstock:futures", {"count": 10**8}),
        },
        "10⁶",
        task=load(10**6, 100, warm_up=300_000),
        pairs=1,
        quick_pairs=1,
        only_full=True,
    ),
]
