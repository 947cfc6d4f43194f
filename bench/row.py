"""What a row is: the load, the contestants, the comparisons, the targets. Types only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.distance import Distance
from bench.faults import Faults
from bench.outages import Outages

FASTER, CPU = "messages_per_s", "cpu_us_per_message"

US, CONFLUENT, JAVA, FRANZ, AIOKAFKA, AIO = (
    "Penstock",
    "confluent-kafka",
    "Java",
    "franz-go",
    "aiokafka",
    "confluent AIOProducer",
)
IDEMPOTENT, RAW = "confluent-kafka, idempotent", "raw TCP"


@dataclass(frozen=True)
class Contestant:
    """`client` is "module:function" of `bench.contestants`, or a peer's program: "java", "franz-go", "blaster"."""

    client: str
    task: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """Bounds of a ratio (ours by theirs) of one figure; without bounds there is no verdict."""

    figure: str
    at_least: float | None = None
    at_most: float | None = None
    ours_at_most: float | None = None
    """A bound of our own figure, instead of a ratio."""
    or_of: str = ""
    """A contestant that shows a limit: the target is also met when ours is at least `or_at_least` of its figure."""
    or_at_least: float = 0.95


@dataclass(frozen=True)
class Line:
    """One comparison in a row, by the labels of its contestants."""

    us: str
    them: str
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Row:
    """One case. `task` goes to every contestant, with its own on top; `quick` has the changes for `make bench-quick`."""

    name: str
    title: str
    contestants: Mapping[str, Contestant]
    lines: tuple[Line, ...]
    task: Mapping[str, Any] = field(default_factory=dict)
    quick: Mapping[str, Any] = field(default_factory=dict)
    sink: bool = False
    partitions: int = 6
    pairs: int = 5
    quick_pairs: int = 3
    only_full: bool = False
    """Takes too long for the quick run, unless it is named."""
    distance: Distance | None = None
    """The link between clients and broker; None: loopback."""
    broker_buffers: str = "autotuned"
    """The broker's socket buffers, with a distance: "autotuned" by its kernel, or Kafka's "default" (100 KB)."""
    nodes: int = 1
    """Brokers, on loopback. Three: replication 3, min.insync.replicas 2."""
    faults: Faults | None = None
    """What a proxy before the broker does to Produce requests."""
    outages: Outages | None = None
    """What it does to all connections."""


def throughput(at_least: float, cpu_at_most: float) -> tuple[Target, ...]:
    return Target(FASTER, at_least=at_least), Target(CPU, at_most=cpu_at_most)


def against_confluent(
    name: str,
    title: str,
    at_least: float,
    cpu_at_most: float,
    ours: str = "futures",
    theirs: str = "callback",
    **row: Any,
) -> Row:
    """The usual row: Penstock and confluent-kafka, messages per second and CPU per message."""
    contestants = {US: Contestant(f"penstock:{ours}"), CONFLUENT: Contestant(f"confluent:{theirs}")}
    return Row(name, title, contestants, (Line(US, CONFLUENT, throughput(at_least, cpu_at_most)),), **row)
