"""Java reads record batches: the bytes in Kafka's log files are as Penstock sent them, and Kafka's code accepts them.

A broker changes two fields of a batch when it appends it, base offset and leader epoch, which the checksum does not
cover for that reason. All other bytes are Penstock's.
"""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer, ProducerRecord
from support.fixtures import TopicFactory
from support.java import JavaBatch, JavaJudge

Bytes = ProducerRecord[bytes, bytes]
TIMEOUT_S = 30
NEVER_MS = 20_000  # linger.ms that only flush() ends
# Timestamps from 1970 would roll a segment for each batch.
ONE_SEGMENT = {"segment.ms": str(2**63 - 1)}

# Longer than one, two and three bytes of a varint's length; only short contents are random.
data = st.none() | st.binary(max_size=40) | st.sampled_from([63, 64, 8_191, 8_192, 70_000]).map(lambda n: b"\xa5" * n)
names = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
# A broker accepts timestamps up to an hour from now: far ones in the past test deltas in both directions as well.
timestamps = st.sampled_from([0, 1, 127, 2**31, 1_700_000_000_000]) | st.integers(0, 1_700_000_000_000)
contents = st.lists(
    st.tuples(data, data, timestamps, st.lists(st.tuples(names, data), max_size=4)), min_size=1, max_size=25
)


class LogFile:
    """The bytes that a node has appended to the first segment of a partition since the last read."""

    def __init__(self, kafka: KafkaCluster, topic: str, partition: int = 0) -> None:
        # The folder may appear a moment after the topic is announced.
        self._path = Path(kafka.nodes[1].folder, "data", f"{topic}-{partition}", f"{0:020d}.log")
        self._at = 0

    def appended(self) -> bytes:
        with self._path.open("rb") as file:
            file.seek(self._at)
            found = file.read()
        self._at += len(found)
        return found


def decoded(java: JavaJudge, log: LogFile) -> tuple[JavaBatch, ...]:
    (answer,) = java.decode_batches([log.appended()])
    assert answer.error is None
    assert answer.valid_bytes == answer.size
    assert all(batch.valid and batch.error is None for batch in answer.batches)
    return answer.batches


def size(record: Bytes) -> int:
    """An estimate of its size in the batch."""
    parts = [record.key, record.value, *(value for _, value in record.headers)]
    return sum(len(part or b"") for part in parts) + 100


def check_plain(batch: JavaBatch, sent: list[Bytes]) -> None:
    """Checks of every batch: its header follows from its records."""
    times = [record.timestamp or 0 for record in sent]
    assert (batch.magic, batch.attributes, batch.compression, batch.timestamp_type) == (2, 0, "none", "CreateTime")
    assert (batch.transactional, batch.control, batch.delete_horizon_ms) == (False, False, None)
    assert (batch.count, batch.last_offset - batch.base_offset + 1) == (len(sent), len(sent))
    assert (batch.base_timestamp, batch.max_timestamp) == (times[0], max(times))
    assert [(r.key, r.value, r.headers, r.timestamp) for r in batch.records] == [
        (record.key, record.value, record.headers, record.timestamp) for record in sent
    ]
    assert [r.offset for r in batch.records] == list(range(batch.base_offset, batch.last_offset + 1))


@pytest.mark.parametrize("idempotence", [True, False])
def test_generated_records(idempotence: bool, kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge) -> None:
    topic = kafka_topic(config=ONE_SEGMENT)
    log = LogFile(kafka, topic)
    known: list[JavaBatch] = []
    with KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        enable_idempotence=idempotence,
        linger_ms=NEVER_MS,
        batch_size=2_000_000,
        max_request_size=20_000_000,
    ) as producer:

        @settings(
            derandomize=True, max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @example([(None, None, 0, [])])
        @example([(b"", b"", 5, [("", None), ("", b"")]), (b"k", b"v", 3, [])])
        @given(contents)
        def judge(drawn: list[tuple[bytes | None, bytes | None, int, list[tuple[str, bytes | None]]]]) -> None:
            sent = [ProducerRecord(topic, v, key=k, timestamp=at, headers=headers) for k, v, at, headers in drawn]
            # Kafka's limit for a batch, message.max.bytes, is lower than ours.
            sent = sent if sum(map(size, sent)) < 900_000 else sent[:1]
            futures = [producer.send(record) for record in sent]
            producer.flush(TIMEOUT_S)
            (batch,) = decoded(java, log)
            check_plain(batch, sent)
            assert [future.result(0).offset for future in futures] == [record.offset for record in batch.records]
            if idempotence:
                assert (batch.producer_id >= 0, batch.producer_epoch) == (True, 0)
                expected = known[-1].last_sequence + 1 if known else 0
                assert (batch.base_sequence, batch.last_sequence) == (expected, expected + len(sent) - 1)
                assert [r.sequence for r in batch.records] == list(range(expected, expected + len(sent)))
                assert not known or batch.producer_id == known[-1].producer_id
            else:
                assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (-1, -1, -1)
            known.append(batch)

        judge()
    assert len(known) >= 60


def test_a_stream_of_batches(kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge) -> None:
    """Consecutive batches of a partition: full ones, without gap or overlap in offsets and sequences."""
    topic = kafka_topic(2)
    logs = [LogFile(kafka, topic, number) for number in range(2)]
    count, size = 20_000, 4_000
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, batch_size=size, linger_ms=NEVER_MS) as producer:
        for number in range(count):
            producer.send(topic, b"%06d" % number, key=b"k", partition=number % 2, headers=[("n", b"%d" % number)])
        producer.flush(TIMEOUT_S)
    producers: set[tuple[int, int]] = set()
    for number, log in enumerate(logs):
        batches = decoded(java, log)
        values = [record.value for batch in batches for record in batch.records]
        assert values == [b"%06d" % value for value in range(number, count, 2)]
        # linger.ms is not reached: only the last batch may be less than full. Another record has 30 bytes.
        assert all(size - 40 < batch.size <= size for batch in batches[:-1])
        assert (batches[0].base_offset, batches[0].base_sequence) == (0, 0)
        for before, behind in pairwise(batches):
            assert behind.base_offset == before.last_offset + 1
            assert behind.base_sequence == before.last_sequence + 1
        producers |= {(batch.producer_id, batch.producer_epoch) for batch in batches}
    assert len(producers) == 1


def test_a_large_record_has_its_own_batch(kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge) -> None:
    topic = kafka_topic()
    log = LogFile(kafka, topic)
    small = b"s" * 100  # the estimated size of a batch is a few bytes too high
    values = [small, b"L" * 1_000_000, small]
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=NEVER_MS) as producer:
        for value in values:
            producer.send(topic, value)
        producer.flush(TIMEOUT_S)
    assert [[record.value for record in batch.records] for batch in decoded(java, log)] == [[v] for v in values]


def varied_records(topic: str, count: int) -> list[Bytes]:
    """Records of all sizes up to some hundred bytes; their times go back and forth, and change the size of the batch."""
    chance = random.Random(20261128)
    records = []
    for number in range(count):
        key = chance.choice([None, b"", b"key-%d" % number])
        value = chance.choice([None, b"", chance.randbytes(chance.randrange(300)), b"x" * chance.choice([63, 64, 500])])
        headers = [("h" * chance.randrange(9), chance.randbytes(chance.randrange(20)))] * chance.randrange(3)
        at = 1_700_000_000_000 + chance.randrange(-100_000, 100_000)
        records.append(ProducerRecord(topic, value, key=key, partition=0, timestamp=at, headers=headers))
    return records


@pytest.mark.parametrize(
    ("linger_ms", "batch_size", "count"),
    [
        (NEVER_MS, 16_384, 800),
        (NEVER_MS, 1_000, 600),
        (NEVER_MS + 1_000, 1_001, 600),
        (NEVER_MS, 300, 400),  # some records are larger
        (NEVER_MS, 100, 200),  # most are
        # Batches of one record, for which the time to linger does not matter.
        (5, 1, 20),
        (0, 0, 20),
    ],
)
def test_without_growth_batches_end_where_java_s_do(
    kafka: KafkaCluster, kafka_topic: TopicFactory, java: JavaJudge, linger_ms: int, batch_size: int, count: int
) -> None:
    """linger.ms is not reached, so that only the sizes decide; another record more or less would show at once."""
    ours, theirs = kafka_topic(config=ONE_SEGMENT), kafka_topic(config=ONE_SEGMENT)
    options = {"linger.ms": linger_ms, "batch.size": batch_size}
    answers = java.produce(kafka.bootstrap_servers, [sent(record) for record in varied_records(theirs, count)], options)
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    with KafkaProducer(
        {**options, "bootstrap.servers": kafka.bootstrap_servers, "penstock.batch.growth.max.bytes": 0}
    ) as producer:
        for record in varied_records(ours, count):
            producer.send(record)
        producer.flush(TIMEOUT_S)
    expected = [batch.count for batch in decoded(java, LogFile(kafka, theirs))]
    assert [batch.count for batch in decoded(java, LogFile(kafka, ours))] == expected
    assert len(expected) > 1


def sent(record: Bytes) -> dict[str, object]:
    """The record as the Java judge takes it."""
    return {name: getattr(record, name) for name in ("topic", "partition", "timestamp", "key", "value", "headers")}
