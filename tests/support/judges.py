"""Foreign consumers as judges: they read a topic's records with clients that share no code with ours.

They read assigned partitions without a group, from the beginning, until the end of each partition is reached and the
expected number of records was read: both superfluous and missing records are found.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, TopicPartition

with warnings.catch_warnings():
    # It reads its message definitions with a function that Python 3.11 deprecates, and our warnings are errors.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaConsumer
    from kafka import TopicPartition as KafkaPythonPartition

CREATE_TIME, LOG_APPEND_TIME = "CreateTime", "LogAppendTime"
DEFAULT_TIMEOUT_S = 30.0
# Also how long a broker may delay an empty answer, and with it the next request on that connection.
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a consumer read it; timestamps in ms since the epoch, timestamp_type in Kafka's words."""

    partition: int
    offset: int
    timestamp: int
    timestamp_type: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class IncompleteReadError(AssertionError):
    """The topic did not have the expected records in the given time; `records` are those that were read."""

    def __init__(self, judge: str, topic: str, records: list[Record], expected: int | None, timeout: float) -> None:
        wanted = "the end of its partitions" if expected is None else f"{expected} records and the end"
        super().__init__(f"{judge} read {len(records)} records of {topic!r} in {timeout:g} s, not {wanted}")
        self.records = records


def read_all(
    bootstrap: str, topic: str, expected: int | None = None, timeout: float = DEFAULT_TIMEOUT_S
) -> list[Record]:
    """Read a topic with kafka-python: by partition, within a partition in the order received.

    Args:
        bootstrap: `host:port,...`.
        topic: must exist.
        expected: wait for at least so many records; None: read to the current end.
        timeout: seconds until `IncompleteReadError`.
    """
    return read_with_kafka_python(bootstrap, topic, expected, timeout)


def read_with_kafka_python(
    bootstrap: str, topic: str, expected: int | None = None, timeout: float = DEFAULT_TIMEOUT_S
) -> list[Record]:
    """`read_all` through kafka-python."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        group_id=None,
        enable_auto_commit=False,
        fetch_max_wait_ms=int(_POLL_S * 1000),
    )
    try:
        numbers = consumer.partitions_for_topic(topic)
        if not numbers:
            raise AssertionError(f"kafka-python knows no partitions of {topic!r}")
        partitions = [KafkaPythonPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)

        def poll() -> list[Record]:
            fetched = consumer.poll(timeout_ms=int(_POLL_S * 1000), max_records=10_000)
            return [_from_kafka_python(record) for records in fetched.values() for record in records]

        def at_the_end() -> bool:
            ends = consumer.end_offsets(partitions)
            return all(consumer.position(partition) >= ends[partition] for partition in partitions)

        return _read("kafka-python", topic, poll, at_the_end, expected, timeout)
    finally:
        consumer.close()


def read_with_confluent(
    bootstrap: str, topic: str, expected: int | None = None, timeout: float = DEFAULT_TIMEOUT_S
) -> list[Record]:
    """`read_all` through confluent-kafka (librdkafka)."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "penstock-judge",  # required; unused with assigned partitions and no commits
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "check.crcs": True,
            "fetch.wait.max.ms": int(_POLL_S * 1000),
        }
    )
    try:
        known = consumer.list_topics(topic, timeout=timeout).topics[topic]
        if known.error is not None or not known.partitions:
            raise AssertionError(f"confluent-kafka knows no partitions of {topic!r}: {known.error}")
        numbers = sorted(known.partitions)
        consumer.assign([TopicPartition(topic, number, confluent_kafka.OFFSET_BEGINNING) for number in numbers])
        ended: set[int] = set()

        def poll() -> list[Record]:
            records: list[Record] = []
            for message in consumer.consume(10_000, _POLL_S):
                error, partition = message.error(), _known(message.partition())
                if error is None:
                    ended.discard(partition)
                    records.append(_from_confluent(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended.add(partition)
                else:
                    raise AssertionError(f"confluent-kafka reading {topic!r}: {error}")
            return records

        return _read("confluent-kafka", topic, poll, lambda: len(ended) == len(numbers), expected, timeout)
    finally:
        consumer.close()


def by_partition(records: Iterable[Record]) -> dict[int, list[Record]]:
    """The records of each partition, in the order in which the judge received them."""
    grouped: dict[int, list[Record]] = {}
    for record in records:
        grouped.setdefault(record.partition, []).append(record)
    return grouped


def _read(
    judge: str,
    topic: str,
    poll: Callable[[], list[Record]],
    at_the_end: Callable[[], bool],
    expected: int | None,
    timeout: float,
) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + timeout
    while True:
        fetched = poll()
        records += fetched
        if not fetched and len(records) >= (expected or 0) and at_the_end():
            # A stable sort by partition alone: a wrong order within a partition stays visible.
            return sorted(records, key=lambda record: record.partition)
        if time.monotonic() > deadline:
            raise IncompleteReadError(judge, topic, records, expected, timeout)


def _from_kafka_python(record: Any) -> Record:
    return Record(
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        timestamp_type=LOG_APPEND_TIME if record.timestamp_type == 1 else CREATE_TIME,
        key=_bytes(record.key),
        value=_bytes(record.value),
        headers=tuple((name, _bytes(value)) for name, value in record.headers),
    )


def _from_confluent(message: confluent_kafka.Message) -> Record:
    kind, timestamp = message.timestamp()
    return Record(
        partition=_known(message.partition()),
        offset=_known(message.offset()),
        timestamp=timestamp,
        timestamp_type=LOG_APPEND_TIME if kind == confluent_kafka.TIMESTAMP_LOG_APPEND_TIME else CREATE_TIME,
        key=_bytes(message.key()),
        value=_bytes(message.value()),
        headers=tuple((name, _bytes(value)) for name, value in list[Any](message.headers() or [])),
    )


def _known(number: int | None) -> int:
    assert number is not None
    return number


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
