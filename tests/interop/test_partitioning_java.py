"""Java checks the choice of partitions: the hash, the partition of a key, and the spread of records without a key."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer
from penstock._native import murmur2, partition_for_key
from support.fixtures import TopicFactory
from support.java import JavaJudge
from support.judges import read_with_confluent

KEYS = 10_000
TIMEOUT_S = 30


def keys() -> list[bytes]:
    """Random keys, and one of each short length: the hash treats the last one to three bytes separately."""
    random = Random(20_260_731)
    lengths = [random.randrange(64) for _ in range(KEYS - 80)]
    return [random.randbytes(length) for length in [*range(64), *lengths]] + [
        bytes([byte]) * length for byte in (0x00, 0x7F, 0x80, 0xFF) for length in (1, 2, 3, 1_000)
    ]


def test_the_hash_is_javas(java: JavaJudge) -> None:
    made = keys()
    assert len(made) == KEYS
    assert [murmur2(key) for key in made] == java.murmur2(made)


@pytest.mark.parametrize("partitions", [1, 2, 3, 7, 64, 1_000, 2**31 - 1])
def test_the_choice_is_javas(partitions: int, java: JavaJudge) -> None:
    made = keys()
    assert [partition_for_key(key, partitions) for key in made] == java.partition_for_key(made, partitions)


def test_keyed_records_go_to_java_s_partitions(kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge) -> None:
    partitions = 13
    topic = kafka_topic(partitions)
    made = keys()
    wanted = java.partition_for_key(made, partitions)
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        futures = [producer.send(topic, b"%d" % number, key=key) for number, key in enumerate(made)]
        assert [future.result(TIMEOUT_S).partition for future in futures] == wanted
    read = {int(record.value or b""): record for record in read_with_confluent(kafka.bootstrap_servers, topic, KEYS)}
    assert [read[number].partition for number in range(KEYS)] == wanted
    assert [read[number].key for number in range(KEYS)] == made


def test_records_without_a_key_are_spread_as_evenly_as_javas(
    kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge
) -> None:
    """The sticky partitioner changes its partition after batch.size bytes: 2,000 choices over 8 partitions.

    A share of 1/8 of 2,000 choices has a standard deviation of 6 %; 30 % is beyond five of them.
    """
    partitions, count, value = 8, 60_000, b"v" * 100
    # As in Java: the partition changes when batch.size bytes have gone to it.
    small = {"batch.size": 3_000, "linger.ms": 5, "partitioner.adaptive.partitioning.enable": "false"}
    ours, theirs = kafka_topic(partitions), kafka_topic(partitions)
    with KafkaProducer(small, bootstrap_servers=kafka.bootstrap_servers) as producer:
        futures = [producer.send(ours, value) for _ in range(count)]
        placed = Counter(future.result(TIMEOUT_S).partition for future in futures)
    answers = java.produce(kafka.bootstrap_servers, [{"topic": theirs, "value": value}] * count, small)
    javas = Counter(answer["partition"] for answer in answers if isinstance(answer, dict))
    for spread in (placed, javas):
        assert spread.total() == count
        assert set(spread) == set(range(partitions))
        assert all(abs(share - count / partitions) < 0.3 * count / partitions for share in spread.values()), spread
