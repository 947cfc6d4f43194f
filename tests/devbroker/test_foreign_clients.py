"""Foreign clients produce to the embedded broker and read from it, and each reads the records of the others."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiokafka
import confluent_kafka
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

from penstock._reader import Reader
from penstock.devbroker import DevCluster, RunningCluster
from penstock.protocol.records import CODECS
from support.java import JavaJudge
from support.judges import by_partition, read_with_confluent, read_with_kafka_python

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # see support.judges
    from kafka.admin import KafkaAdminClient

    from kafka import KafkaProducer

PARTITIONS = 3
COUNT = 300
Sent = list[tuple[int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]]


@pytest.fixture(params=["memory", "durable"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningCluster]:
    folder = tmp_path if request.param == "durable" else None
    with DevCluster.running(nodes=3, data_dir=folder, segment_bytes=20_000) as cluster:
        cluster.create_topic("t", partitions=PARTITIONS)
        yield cluster


def records() -> Sent:
    """Keys, values, nulls, empty values and headers."""
    values: list[bytes | None] = [b"value %d" % number for number in range(COUNT)]
    values[7], values[8] = None, b""
    return [
        (n % PARTITIONS, None if n % 5 == 0 else b"k%d" % n, value, (("n", b"%d" % n), ("empty", b""))[: n % 3])
        for n, value in enumerate(values)
    ]


def by_confluent(bootstrap: str, compression: str) -> None:
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": compression, "linger.ms": 5}
    )
    errors: list[Any] = []
    for partition, key, value, headers in records():
        producer.produce(
            "t", value, key, partition, headers=list(headers), on_delivery=lambda error, _: errors.append(error)
        )
    assert producer.flush(30) == 0
    assert errors == [None] * COUNT


def by_kafka_python(bootstrap: str, compression: str) -> None:
    codec = None if compression == "none" else compression
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","), acks="all", compression_type=codec, linger_ms=5)
    try:
        futures = [
            producer.send("t", value, key, list(headers), partition) for partition, key, value, headers in records()
        ]
        assert len([future.get(timeout=30) for future in futures]) == COUNT
    finally:
        producer.close()


def by_aiokafka(bootstrap: str, compression: str) -> None:
    async def produce() -> None:
        codec = None if compression == "none" else compression
        async with aiokafka.AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, compression_type=codec, linger_ms=5
        ) as producer:
            futures = [
                await producer.send("t", value, key, partition, headers=list(headers))
                for partition, key, value, headers in records()
            ]
            await asyncio.gather(*futures)

    asyncio.run(produce())


def read_by_aiokafka(bootstrap: str, topic: str, expected: int) -> list[Any]:
    async def read() -> list[Any]:
        async with aiokafka.AIOKafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_wait_ms=100
        ) as consumer:
            consumer.assign([aiokafka.TopicPartition(topic, number) for number in range(PARTITIONS)])
            found: list[Any] = []
            while len(found) < expected:
                for batch in (await asyncio.wait_for(consumer.getmany(timeout_ms=500), 30)).values():
                    found += batch
            return found

    return asyncio.run(read())


def content(found: list[Any]) -> dict[int, Sent]:
    return {
        partition: [(partition, record.key, record.value, tuple(map(tuple, record.headers))) for record in group]
        for partition, group in by_partition(found).items()
    }


def expected() -> dict[int, Sent]:
    return {number: [record for record in records() if record[0] == number] for number in range(PARTITIONS)}


@pytest.mark.parametrize("compression", CODECS)
@pytest.mark.parametrize("produce", [by_confluent, by_kafka_python, by_aiokafka])
def test_all_clients_read_what_one_wrote(
    produce: Callable[[str, str], None], compression: str, broker: RunningCluster
) -> None:
    servers = broker.bootstrap_servers
    produce(servers, compression)
    assert sum(broker.end_offsets("t").values()) == COUNT
    assert content(read_with_confluent(servers, "t", COUNT)) == expected()
    assert content(read_with_kafka_python(servers, "t", COUNT)) == expected()
    assert content(read_by_aiokafka(servers, "t", COUNT)) == expected()
    with Reader(servers, "t", until_end=True) as reader:
        assert content(list(reader)) == expected()


def test_java_writes_and_reads(broker: RunningCluster, java: JavaJudge) -> None:
    sent = [
        {"topic": "t", "partition": partition, "key": key, "value": value, "headers": headers}
        for partition, key, value, headers in records()
    ]
    answers = java.produce(broker.bootstrap_servers, sent, {"acks": "all"})
    assert sorted(answer["offset"] for answer in answers if isinstance(answer, dict)) == sorted(  # type: ignore[type-var]
        list(range(COUNT // PARTITIONS)) * PARTITIONS
    )
    found = java.consume(broker.bootstrap_servers, "t", COUNT)
    assert content(found) == expected() == content(read_with_confluent(broker.bootstrap_servers, "t", COUNT))


def test_confluent_follows_leaders_that_move(broker: RunningCluster) -> None:
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True, "linger.ms": 0}
    )
    for number in range(COUNT):
        producer.produce("t", b"%d" % number, partition=0)
        if number % 50 == 49:
            assert producer.flush(30) == 0
            broker.move_leader("t", 0, broker.leaders("t")[0][0] % 3 + 1)
    assert producer.flush(30) == 0
    found = read_with_confluent(broker.bootstrap_servers, "t", COUNT)
    assert [record.value for record in found] == [b"%d" % number for number in range(COUNT)]


def test_a_lost_answer_makes_no_duplicate(broker: RunningCluster) -> None:
    broker.faults.add(api="Produce", drop="close", times=3)
    by_confluent(broker.bootstrap_servers, "none")
    assert content(read_with_confluent(broker.bootstrap_servers, "t", COUNT)) == expected()


def test_administration_by_confluent(broker: RunningCluster) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    admin.create_topics([NewTopic("mine", 2, 3, config={"retention.bytes": "1000000"})])["mine"].result(20)
    admin.create_partitions([NewPartitions("mine", 5)])["mine"].result(20)
    assert broker.topics() == {"t": 3, "mine": 5}
    resource = ConfigResource(ConfigResource.Type.TOPIC, "mine")
    assert admin.describe_configs([resource])[resource].result(20)["retention.bytes"].value == "1000000"
    described = admin.describe_cluster().result(20)
    assert (described.cluster_id, len(described.nodes)) == (broker.cluster_id, 3)
    with pytest.raises(confluent_kafka.KafkaException, match="already exists"):
        admin.create_topics([NewTopic("mine", 1, 1)])["mine"].result(20)
    admin.delete_topics(["mine"])["mine"].result(20)
    assert broker.topics() == {"t": 3}


def test_administration_by_kafka_python(broker: RunningCluster) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers.split(","))
    try:
        assert admin.list_topics() == ["t"]
        assert len(admin.describe_cluster()["brokers"]) == 3
    finally:
        admin.close()
