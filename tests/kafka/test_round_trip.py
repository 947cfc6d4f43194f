"""Records go into a real Kafka through Penstock, and three foreign consumers find exactly them, where futures say."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from itertools import product

import pytest
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer, ProducerRecord, StringSerializer
from support.fixtures import TopicFactory
from support.java import JavaJudge
from support.judges import LOG_APPEND_TIME, Record, by_partition, read_with_confluent, read_with_kafka_python
from support.sent import Sent, check, milliseconds

Bytes = ProducerRecord[bytes, bytes]
PARTITIONS = 7
TIMEOUT_S = 30
MOMENT = datetime(2024, 2, 29, 23, 59, 59, 999_999, timezone(timedelta(hours=5, minutes=30)))

Judge = Callable[[str, str, int], list[Record]]


def by_kafka_python(bootstrap: str, topic: str, expected: int) -> list[Record]:
    return read_with_kafka_python(bootstrap, topic, expected)


def by_confluent(bootstrap: str, topic: str, expected: int) -> list[Record]:
    return read_with_confluent(bootstrap, topic, expected)


@pytest.fixture
def judges(java: JavaJudge) -> list[Judge]:
    """All three; they must read the same records."""
    return [by_kafka_python, by_confluent, lambda bootstrap, topic, expected: java.consume(bootstrap, topic, expected)]


def records(topic: str) -> list[Bytes]:
    """Every feature of a record, alone and combined, and enough records to fill several batches."""
    headers: list[tuple[tuple[str, bytes | None], ...]] = [
        (),
        (("source", b"docs"),),
        (("", b""), ("null", None), ("ключ 鍵 🔑", "значение".encode()), ("twice", b"1"), ("twice", b"2")),
    ]
    contents = [None, b"", b"x", "größer, 鍵, 🔑".encode(), bytes(range(256)), b"\0" * 70_000]
    made = [
        ProducerRecord(topic, value, key=key, timestamp=timestamp, headers=header, partition=partition)
        for (number, (key, value, header)) in enumerate(product(contents[:5], contents, headers))
        for timestamp, partition in [((None, 0, 1_700_000_000_123)[number % 3], None if number % 4 else number % 7)]
    ]
    made += [ProducerRecord(topic, b"%d" % number, key=b"key %d" % (number % 97)) for number in range(3_000)]
    made.append(ProducerRecord(topic, b"m" * 1_000_000, key=b"large"))
    return made


def send_all(producer: KafkaProducer[bytes, bytes], sent: list[Bytes]) -> list[Sent]:
    futures = [producer.send(record) for record in sent]
    return [(record, future.result(TIMEOUT_S)) for record, future in zip(sent, futures, strict=True)]


@pytest.mark.parametrize("linger_ms", [0, 100])
@pytest.mark.parametrize(
    ("acks", "idempotence", "in_flight"), [("all", True, 5), ("all", False, 1), ("1", False, 1), ("1", False, 5)]
)
def test_acknowledged_records_are_in_the_log(
    acks: str,
    idempotence: bool,
    in_flight: int,
    linger_ms: int,
    kafka: KafkaCluster,
    kafka_topic: TopicFactory,
    judges: list[Judge],
) -> None:
    topic = kafka_topic(PARTITIONS)
    with KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        acks=acks,
        enable_idempotence=idempotence,
        max_in_flight_requests_per_connection=in_flight,
        linger_ms=linger_ms,
    ) as producer:
        sent = send_all(producer, records(topic))
    for judge in judges:
        check(sent, judge(kafka.bootstrap_servers, topic, len(sent)), ordered=idempotence or in_flight == 1)


@pytest.mark.parametrize("linger_ms", [0, 100])
def test_without_acknowledgments_everything_arrives_and_no_offset_is_claimed(
    linger_ms: int, kafka: KafkaCluster, kafka_topic: TopicFactory, judges: list[Judge]
) -> None:
    topic = kafka_topic(PARTITIONS)
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        # An announced leader may not be ready for a moment. Without acknowledgments that loses records.
        first = send_all(producer, [ProducerRecord(topic, b"first", partition=number) for number in range(PARTITIONS)])
    with KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, acks="0", enable_idempotence=False, linger_ms=linger_ms
    ) as producer:
        sent = send_all(producer, records(topic))
    assert {metadata.offset for _, metadata in sent} == {-1}
    expected = [(metadata.partition, record.key, record.value, record.headers) for record, metadata in [*first, *sent]]
    for judge in judges:
        read = judge(kafka.bootstrap_servers, topic, len(expected))
        assert Counter((r.partition, r.key, r.value, r.headers) for r in read) == Counter(expected)
        for partition, found in by_partition(read).items():
            of_partition = [content for content in expected if content[0] == partition]
            assert [(r.partition, r.key, r.value, r.headers) for r in found] == of_partition


def test_timestamps(kafka: KafkaCluster, kafka_topic: TopicFactory, judges: list[Judge]) -> None:
    theirs = kafka_topic(config={"message.timestamp.type": LOG_APPEND_TIME})
    mine = kafka_topic()
    given: list[int | datetime] = [0, 1, 1_234_567_890_123, MOMENT, datetime(1999, 12, 31, tzinfo=UTC)]
    in_ms = [milliseconds(moment) if isinstance(moment, datetime) else moment for moment in given]
    before = milliseconds(datetime.now(UTC))
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        futures = [producer.send(topic, b"t", timestamp=at) for topic in (mine, theirs) for at in given]
        now = producer.send(mine, b"now").result(TIMEOUT_S).timestamp
        answers = [future.result(TIMEOUT_S).timestamp for future in futures]
        with pytest.raises(ValueError, match="time zone"):
            producer.send(mine, b"t", timestamp=datetime(2024, 1, 1))
    after = milliseconds(datetime.now(UTC))
    assert answers[: len(given)] == in_ms
    # The broker's clock is this machine's.
    assert all(before <= at <= after for at in [now, *answers[len(given) :]])
    for judge in judges:
        assert [record.timestamp for record in judge(kafka.bootstrap_servers, mine, 6)] == [*in_ms, now]
        read = judge(kafka.bootstrap_servers, theirs, 5)
        assert [(r.timestamp, r.timestamp_type) for r in read] == [(at, LOG_APPEND_TIME) for at in answers[5:]]


def test_text(kafka: KafkaCluster, kafka_topic: TopicFactory, judges: list[Judge]) -> None:
    topic = kafka_topic(3)
    texts = ["", "plain", "Grüße", "日本語", "🦀" * 300, "\0", None]
    with KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, key_serializer=StringSerializer(), value_serializer=StringSerializer
    ) as producer:
        pairs = [(key, value) for key in texts for value in texts]
        for key, value in pairs:
            producer.send(topic, value, key=key, headers={"text": (value or "").encode()})
    for judge in judges:
        read = judge(kafka.bootstrap_servers, topic, len(pairs))
        assert Counter((_text(r.key), _text(r.value)) for r in read) == Counter(pairs)
        assert all(r.headers == (("text", r.value or b""),) for r in read)


def test_two_producers_and_sixteen_threads_over_several_topics(
    kafka: KafkaCluster, kafka_topic: TopicFactory, judges: list[Judge]
) -> None:
    topics = [kafka_topic(partitions) for partitions in (1, 3, 40)]
    threads, each = 16, 1_500
    together = threading.Barrier(threads)

    def work(number: int, producer: KafkaProducer[bytes, bytes]) -> list[Sent]:
        together.wait(TIMEOUT_S)
        return send_all(
            producer,
            [ProducerRecord(topics[at % 3], b"%d" % at, key=b"%d of %d" % (at % 11, number)) for at in range(each)],
        )

    with (
        KafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as one,
        KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=0) as other,
        ThreadPoolExecutor(threads) as pool,
    ):
        jobs = [pool.submit(work, number, (one, other)[number % 2]) for number in range(threads)]
        sent = [job.result() for job in jobs]
    for topic in topics:
        # Records of threads that share a partition interleave: the order is guaranteed within each thread.
        by_thread = [[pair for pair in pairs if pair[0].topic == topic] for pairs in sent]
        count = sum(map(len, by_thread))
        for judge in judges:
            read = judge(kafka.bootstrap_servers, topic, count)
            assert len(read) == count
            for number, pairs in enumerate(by_thread):
                suffix = b" of %d" % number
                check(pairs, [record for record in read if record.key is not None and record.key.endswith(suffix)])


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode()
