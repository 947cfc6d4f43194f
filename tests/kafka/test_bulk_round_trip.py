"""Bulk records go into a real Kafka, and foreign consumers find them where the result says."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer
from support.fixtures import TopicFactory
from support.judges import by_partition, read_with_confluent, read_with_kafka_python

COUNT = 100_000
PARTITIONS = 6


@pytest.mark.parametrize("keyed", [False, True])
def test_bulk_values_are_at_their_offsets(kafka: KafkaCluster, kafka_topic: TopicFactory, keyed: bool) -> None:
    topic = kafka_topic(PARTITIONS)
    values = [b"%06d" % number + b"x" * 94 for number in range(COUNT)]
    keys = [b"key %d" % (number % 997) for number in range(COUNT)] if keyed else None
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        result = producer.send_many(topic, values, keys=keys)
        result.raise_for_errors()
    where = {(p, o): index for index, (p, o) in enumerate(zip(result.partitions, result.offsets, strict=True))}
    assert len(where) == COUNT
    found = read_with_confluent(kafka.bootstrap_servers, topic, COUNT)
    assert len(found) == COUNT
    for record in found:
        index = where[record.partition, record.offset]
        assert record.value == values[index]
        assert record.key == (keys[index] if keys else None)
    for records in by_partition(found).values():
        assert [record.value for record in records] == sorted(record.value or b"" for record in records)


def test_arrow_rows_are_at_their_offsets(kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    topic = kafka_topic(PARTITIONS)
    rows = [
        {
            "id": number,
            "name": f"ü {number}",
            "at": 1_700_000_000_000 + number,
            "to": None if number % 3 else number % 5,
        }
        for number in range(10_000)
    ]
    headers = pa.array([[("n", str(row["id"]))] for row in rows], pa.map_(pa.string(), pa.string()))
    table = pa.Table.from_pylist(rows).append_column("h", headers)
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        result = producer.send_arrow(
            topic, table, value=["id", "name"], key="id", partition="to", timestamp="at", headers="h"
        )
        result.raise_for_errors()
    where = {(p, o): index for index, (p, o) in enumerate(zip(result.partitions, result.offsets, strict=True))}
    found = read_with_kafka_python(kafka.bootstrap_servers, topic, len(rows))
    assert len(found) == len(where) == len(rows)
    for record in found:
        row = rows[where[record.partition, record.offset]]
        assert json.loads(record.value or b"") == {"id": row["id"], "name": row["name"]}
        assert record.key == int(row["id"] or 0).to_bytes(8)
        assert record.timestamp == row["at"]
        assert record.headers == (("n", str(row["id"]).encode()),)
        assert row["to"] in (None, record.partition)
