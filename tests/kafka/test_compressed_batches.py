"""Compressed batches in a real Kafka: every codec at its lowest and highest level, read back by foreign clients."""

from __future__ import annotations

import random
from typing import Any

import pytest
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer, ProducerRecord
from penstock._reader import Reader
from penstock.errors import ProducerClosedError
from penstock.protocol.records import CODECS
from support.fixtures import TopicFactory
from support.java import JavaBatch, JavaJudge
from support.judges import Record, by_partition, read_with_confluent, read_with_kafka_python

TIMEOUT_S = 30
LEVELS = [
    *(("gzip", level) for level in (1, -1, 9)),
    ("snappy", None),
    *(("lz4", level) for level in (1, 9, 17)),
    *(("zstd", level) for level in (-131_072, 3, 22)),
]
Bytes = ProducerRecord[bytes, bytes]


def producing(kafka: KafkaCluster, codec: str, level: int | None = None, **more: Any) -> KafkaProducer[bytes, bytes]:
    options = {f"compression_{codec}_level": level} if level is not None else {}
    return KafkaProducer(
        {"bootstrap.servers": kafka.bootstrap_servers, "compression.type": codec, **options, "linger.ms": 20, **more}
    )


def text(number: int, size: int = 1_000) -> bytes:
    """JSON that compresses like ordinary JSON."""
    words = random.Random(number)
    row = b'{"number": %d, "name": "%s", "tags": [' % (number, words.randbytes(6).hex().encode())
    while len(row) < size:
        row += b'{"key": "%s", "value": %d}, ' % (words.choice([b"colour", b"size", b"weight"]), words.randrange(1_000))
    return row[: size - 2] + b"]}"


def records(topic: str) -> list[Bytes]:
    noise = random.Random(7)
    made = [ProducerRecord(topic, text(n), key=b"%d" % (n % 10), partition=n % 2, timestamp=n + 1) for n in range(400)]
    made += [ProducerRecord(topic, noise.randbytes(900), partition=n % 2, timestamp=1) for n in range(40)]
    made += [
        ProducerRecord(topic, None, key=b"null", partition=0, timestamp=2, headers=[("h", b"1"), ("h", None)]),
        ProducerRecord(topic, b"", key=b"", partition=1, timestamp=2),
        # More than one block of any codec.
        ProducerRecord(topic, text(5, 300_000), partition=0, timestamp=3),
        ProducerRecord(topic, noise.randbytes(300_000), partition=1, timestamp=3),
    ]
    return made


def content(found: list[Record]) -> dict[int, list[Any]]:
    return {
        partition: [(r.key, r.value, tuple(map(tuple, r.headers)), r.timestamp) for r in group]
        for partition, group in by_partition(found).items()
    }


def expected(sent: list[Bytes]) -> dict[int, list[Any]]:
    return {
        partition: [
            (r.key, r.value, tuple(map(tuple, r.headers)), r.timestamp) for r in sent if r.partition == partition
        ]
        for partition in sorted({record.partition for record in sent if record.partition is not None})
    }


def logged(kafka: KafkaCluster, topic: str, java: JavaJudge, partition: int = 0) -> tuple[JavaBatch, ...]:
    """The batches of a partition, as Kafka's own code reads them from its log."""
    (segment,) = (kafka.nodes[1].folder / "data" / f"{topic}-{partition}").glob("*.log")
    (answer,) = java.decode_batches([segment.read_bytes()])
    assert answer.error is None
    assert all(batch.valid and batch.error is None for batch in answer.batches)
    return answer.batches


@pytest.mark.parametrize(("codec", "level"), LEVELS)
def test_foreign_readers_read_compressed_records(
    codec: str, level: int | None, kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge
) -> None:
    topic = kafka_topic(2, config={"segment.ms": str(2**63 - 1)})
    sent = records(topic)
    with producing(kafka, codec, level) as producer:
        futures = [producer.send(record) for record in sent]
        offsets = [future.result(TIMEOUT_S).offset for future in futures]
        rates = producer.metrics()
    of_partition = [offset for record, offset in zip(sent, offsets, strict=True) if record.partition == 0]
    assert of_partition == list(range(len(of_partition)))
    assert content(java.consume(kafka.bootstrap_servers, topic, len(sent))) == expected(sent)
    assert content(read_with_confluent(kafka.bootstrap_servers, topic, len(sent))) == expected(sent)
    assert content(read_with_kafka_python(kafka.bootstrap_servers, topic, len(sent))) == expected(sent)
    for partition in (0, 1):
        batches = logged(kafka, topic, java, partition)
        assert {(batch.compression, batch.attributes) for batch in batches} == {(codec, CODECS.index(codec))}
    if level != -131_072:  # which hardly compresses at all
        assert 0.1 < rates["producer-metrics"]["compression-rate-avg"] < 0.9
        assert rates["producer-topic-metrics"][f"compression-rate{{topic={topic}}}"] < 0.9


@pytest.mark.parametrize("codec", CODECS)
def test_our_own_reader_reads_compressed_records(codec: str, kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    topic = kafka_topic(1)
    with producing(kafka, codec) as producer:
        for number in range(300):
            producer.send(topic, text(number))
    with Reader(kafka.bootstrap_servers, topic, until_end=True) as reader:
        found = list(reader)
    assert [record.value for record in found] == [text(number) for number in range(300)]


@pytest.mark.parametrize(("mine", "theirs"), [("lz4", "zstd"), ("zstd", "uncompressed"), ("none", "gzip")])
def test_a_topic_may_have_another_codec(
    mine: str, theirs: str, kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge
) -> None:
    topic = kafka_topic(2, config={"compression.type": theirs, "segment.ms": str(2**63 - 1)})
    sent = records(topic)
    with producing(kafka, mine) as producer:
        for future in [producer.send(record) for record in sent]:
            future.result(TIMEOUT_S)
    assert content(read_with_confluent(kafka.bootstrap_servers, topic, len(sent))) == expected(sent)
    wanted = "none" if theirs == "uncompressed" else theirs
    assert {batch.compression for batch in logged(kafka, topic, java)} == {wanted}


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_batch_too_large_for_its_topic_is_split_and_compressed_again(
    codec: str, kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge
) -> None:
    topic = kafka_topic(1, config={"max.message.bytes": "10000", "segment.ms": str(2**63 - 1)})
    noise = random.Random(3)
    sent = [ProducerRecord(topic, noise.randbytes(1_000), partition=0, timestamp=1) for _ in range(200)]
    with producing(kafka, codec, **{"batch.size": 60_000}) as producer:
        futures = [producer.send(record) for record in sent]
        assert [future.result(TIMEOUT_S).offset for future in futures] == list(range(200))
        assert producer.metrics()["producer-metrics"]["batch-split-total"] > 0
    batches = logged(kafka, topic, java)
    assert {batch.compression for batch in batches} == {codec}
    assert all(batch.size <= 10_000 for batch in batches)
    assert content(read_with_confluent(kafka.bootstrap_servers, topic, len(sent))) == expected(sent)


def test_a_topic_that_compresses_well_has_large_batches(
    kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge
) -> None:
    """batch.size bounds the estimated compressed size of a batch, as in Java; the estimate begins at no compression."""
    topic = kafka_topic(1, config={"segment.ms": str(2**63 - 1)})
    with producing(kafka, "zstd", **{"penstock.batch.growth.max.bytes": 0}) as producer:
        for number in range(20_000):
            producer.send(topic, text(number))
    batches = logged(kafka, topic, java)
    counts = [batch.count for batch in batches if batch.count]
    assert max(counts[:5]) <= 16
    assert max(counts) > 40
    assert all(batch.size <= 16_384 * 1.05 for batch in batches)


def test_close_with_zero_fails_batches_in_compression(kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    topic = kafka_topic(1)
    producer = producing(kafka, "zstd", 22, **{"linger.ms": 0, "batch.size": 1 << 20, "max.request.size": 1 << 21})
    futures = [producer.send(topic, text(number, 100_000)) for number in range(40)]
    producer.close(0)
    ends = [future.exception(0) for future in futures]
    failed = [error for error in ends if isinstance(error, ProducerClosedError)]
    assert failed
    assert all(error.stage == "linger" and not error.possibly_persisted for error in failed[5:])
