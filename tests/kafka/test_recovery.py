"""Kafka stops or a topic is replaced while records are sent: acknowledged ones are stored once, the others are reported."""

from __future__ import annotations

import logging
import threading
from itertools import count

import pytest
from confluent_kafka.admin import AdminClient
from kafka_cluster import KafkaCluster

from penstock import KafkaError, KafkaProducer, ProducerRecord, RecordMetadata
from support.fixtures import TopicFactory
from support.judges import read_with_confluent
from support.sent import Sent, check

PARTITIONS = 6
TIMEOUT_S = 60
OUTSTANDING = 3_000


class Traffic:
    """A thread that sends numbered records until it is stopped, at most `OUTSTANDING` ahead of their outcomes."""

    def __init__(self, producer: KafkaProducer[bytes, bytes], topic: str) -> None:
        self._producer, self._topic = producer, topic
        self._room = threading.Semaphore(OUTSTANDING)
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: BaseException | None = None
        self.acknowledged = self.failed = 0
        self.sent: list[Sent] = []

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    def wait_for_more(self, records: int) -> None:
        """Wait until that many more records are acknowledged."""
        with self._changed:
            target = self.acknowledged + records
            assert self._changed.wait_for(lambda: self.acknowledged >= target, TIMEOUT_S), self.acknowledged

    def _run(self) -> None:
        try:
            pending = []
            for number in count():
                if self._stop.is_set():
                    break
                self._room.acquire()
                record = ProducerRecord(self._topic, b"%d" % number, partition=number % PARTITIONS)
                pending.append((record, self._producer.send(record, callback=self._outcome)))
            self.sent = [(record, future.result(TIMEOUT_S)) for record, future in pending]
        except BaseException as error:
            self._error = error

    def _outcome(self, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        self._room.release()
        with self._changed:
            self.acknowledged += metadata is not None
            self.failed += error is not None
            self._changed.notify_all()


@pytest.mark.parametrize("acks", ["all", "1"])
def test_a_broker_that_is_killed_and_restarted(acks: str, kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    """With idempotence records arrive exactly once; without it none is lost, but records in flight may arrive twice."""
    topic = kafka_topic(PARTITIONS)
    idempotent = acks == "all"
    with KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        acks=acks,
        enable_idempotence=idempotent,
        linger_ms=0,
        batch_size=2_000,
        delivery_timeout_ms=100_000,
    ) as producer:
        with Traffic(producer, topic) as traffic:
            traffic.wait_for_more(5_000)
            try:
                kafka.kill()
            finally:
                kafka.restart()
            traffic.wait_for_more(2 * OUTSTANDING)
        assert traffic.failed == 0
    read = read_with_confluent(kafka.bootstrap_servers, topic, len(traffic.sent))
    if idempotent:
        check(traffic.sent, read, resent=True)
    else:
        places = {(record.partition, record.offset): record.value for record in read}
        assert all(places[m.partition, m.offset] == record.value for record, m in traffic.sent)


def test_a_broker_that_hangs_longer_than_the_request_timeout(
    kafka: KafkaCluster, kafka_topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sockets stay open, and it appends its requests late: the same requests are sent again on new connections."""
    topic = kafka_topic(PARTITIONS)
    timed_out = threading.Event()

    def notice(record: logging.LogRecord) -> bool:
        if "request.timeout.ms" in record.getMessage():
            timed_out.set()
        return True

    monkeypatch.setattr(logging.getLogger("penstock.control"), "filters", [notice])
    with KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, linger_ms=0, batch_size=2_000, request_timeout_ms=500
    ) as producer:
        with Traffic(producer, topic) as traffic:
            traffic.wait_for_more(5_000)
            kafka.pause()
            try:
                assert timed_out.wait(TIMEOUT_S)
            finally:
                kafka.resume()
            traffic.wait_for_more(2 * OUTSTANDING)
        assert traffic.failed == 0
    check(traffic.sent, read_with_confluent(kafka.bootstrap_servers, topic, len(traffic.sent)), resent=True)


def test_a_topic_that_is_deleted_and_created_again(kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    """Every record gets its outcome; those acknowledged for the new topic are in it, once."""
    topic = kafka_topic(PARTITIONS)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    with KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        linger_ms=0,
        request_timeout_ms=5_000,
        delivery_timeout_ms=8_000,
        max_block_ms=10_000,
        metadata_max_age_ms=1_000,
    ) as producer:
        old = [producer.send(topic, b"old", partition=number % PARTITIONS) for number in range(1_000)]
        assert all(future.exception(TIMEOUT_S) is None for future in old)
        admin.delete_topics([topic])[topic].result(TIMEOUT_S)
        between = [producer.send(topic, b"lost %d" % number, partition=number % PARTITIONS) for number in range(100)]
        kafka.create_topic(topic, PARTITIONS)
        sent = [ProducerRecord(topic, b"%d" % number, partition=number % PARTITIONS) for number in range(2_000)]
        futures = [producer.send(record) for record in sent]
        errors = [future.exception(TIMEOUT_S) for future in futures]
        assert all(isinstance(error, KafkaError) for error in errors if error is not None)
        last = [(record, producer.send(record)) for record in sent]
        results = [(record, future.result(TIMEOUT_S)) for record, future in last]
        # Acknowledged near the deletion: it is not known by which of the two topics.
        assert all(
            future.exception(TIMEOUT_S) is None or isinstance(future.exception(), KafkaError) for future in between
        )
        arrived = [r for r, error in zip(sent, errors, strict=True) if error is None]
    read = read_with_confluent(kafka.bootstrap_servers, topic, len(results) + len(arrived))
    numbered = [record for record in read if record.value is not None and record.value.isdigit()]
    assert len(numbered) == len(results) + len(arrived)
    places = {(metadata.partition, metadata.offset) for _, metadata in results}
    check(results, [record for record in numbered if (record.partition, record.offset) in places])
