"""The demo's proof: a foreign client reads everything back, and the records are compared with those sent."""

from __future__ import annotations

import importlib
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from penstock.cli.inputs import Entry
from penstock.cli.output import CommandError

ROW_HEADER: Final = "row"

_SHOWN: Final = 10
_PATIENCE_S: Final = 30.0


class Seen(NamedTuple):
    """A record that was read back; `row` is 0 if its header is missing or not a number."""

    partition: int
    row: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Differences:
    """The differences that were found: all are counted, the first ones are kept as text."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, text: str, times: int = 1) -> None:
        """Count one difference, or `times` of the same kind."""
        self.count += times
        if len(self.shown) < _SHOWN:
            self.shown.append(text)


def compare(sent: Sequence[Entry], acknowledged: Mapping[int, int], seen: Iterable[Seen]) -> Differences:
    """Compare the records that one thread sent, in that order, with those that were read back.

    Equal means: each row is stored once with its key and value, there are no other records, each partition holds as many
    records as were acknowledged for it, rows ascend within each partition and for each key, and a key has one partition.

    Args:
        sent: the rows; row numbers count from 1.
        acknowledged: records per partition.
        seen: each partition's records in the order of its log.
    """
    differences = Differences()
    times = bytearray(len(sent))  # how often each row was read, up to 255
    last_in: dict[int, int] = {}
    last_of: dict[bytes, tuple[int, int]] = {}
    counts: Counter[int] = Counter()
    for record in seen:
        partition, row, key, value = record
        counts[partition] += 1
        if not 0 < row <= len(sent):
            differences.add(f"partition {partition} holds a record of no row that was sent ({row})")
            continue
        times[row - 1] = min(times[row - 1] + 1, 255)
        if sent[row - 1] != (key, value):
            differences.add(f"row {row}: key or value differs from the sent one")
        if row <= last_in.get(partition, 0):
            differences.add(f"partition {partition}: row {row} comes after row {last_in[partition]}")
        last_in[partition] = row
        if key is not None:
            before = last_of.setdefault(key, (partition, row))
            if before[0] != partition:
                differences.add(f"key {key!r} is in the partitions {before[0]} and {partition}")
            elif row < before[1]:
                differences.add(f"key {key!r}: row {row} comes after row {before[1]}")
            last_of[key] = (partition, row)
    _compare_counts(differences, times, counts, acknowledged)
    return differences


def _compare_counts(
    differences: Differences, times: bytearray, counts: Mapping[int, int], acknowledged: Mapping[int, int]
) -> None:
    missing = times.count(0)
    if missing:
        differences.add(f"{missing} rows are missing, the first one is row {times.index(0) + 1}", missing)
    for row, seen in enumerate(times, 1):
        if seen > 1:
            differences.add(f"row {row} is stored {seen} times")
    for partition in sorted(counts.keys() | acknowledged.keys()):
        there, expected = counts.get(partition, 0), acknowledged.get(partition, 0)
        if there != expected:
            differences.add(f"partition {partition} holds {there} records, {expected} were acknowledged")


def read_back(bootstrap_servers: str, topic: str, partitions: int) -> Iterator[Seen]:
    """Everything in a topic, read over TCP by kafka-python from assigned partitions."""
    kafka = _kafka_python()
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        check_crcs=False,  # in Python they take longer than everything else, and the contents are compared
        max_poll_records=10_000,
        max_partition_fetch_bytes=8 << 20,
    )
    try:
        assigned = [kafka.TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(assigned)
        left = sum(consumer.end_offsets(assigned).values())
        deadline = time.monotonic() + _PATIENCE_S
        while left > 0:
            for partition, records in consumer.poll(timeout_ms=500).items():
                deadline = time.monotonic() + _PATIENCE_S
                left -= len(records)
                for record in records:
                    yield Seen(partition.partition, _row(record.headers), record.key, record.value)
            if time.monotonic() > deadline:
                return  # the comparison reports what is missing
    finally:
        consumer.close()


def _row(headers: Iterable[tuple[str, bytes | None]]) -> int:
    for name, value in headers:
        if name == ROW_HEADER and value is not None and value.isdigit():
            return int(value)
    return 0


def _kafka_python() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python warns about itself
        try:
            return importlib.import_module("kafka")  # it has no types
        except ImportError:
            raise CommandError("the proof is read by kafka-python; install with: pip install kafka-python") from None
