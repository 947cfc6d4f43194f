"""A real Kafka refuses a batch and names the records at fault (KIP-467)."""

from __future__ import annotations

from kafka_cluster import KafkaCluster

from penstock import DeliveryFuture, KafkaProducer, errors
from support.fixtures import TopicFactory
from support.judges import read_with_kafka_python

TIMEOUT_S = 30


def send(producer: KafkaProducer[bytes, bytes], topic: str, value: bytes, key: bytes | None = None) -> DeliveryFuture:
    """Send a record whose failure is expected, so that `flush` does not raise for it."""
    future = producer.send(topic, value, key=key)
    future.add_done_callback(lambda _: None)
    return future


def test_records_at_fault_and_others_of_a_batch_fail_differently(
    kafka: KafkaCluster, kafka_topic: TopicFactory
) -> None:
    topic = kafka_topic(config={"cleanup.policy": "compact"})
    with KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=60_000) as producer:
        batch = [send(producer, topic, b"value", None if number in (1, 3) else b"key") for number in range(5)]
        producer.flush(TIMEOUT_S)
        failures = [future.exception(TIMEOUT_S) for future in batch]
        assert [type(error) for error in failures] == [
            errors.InvalidRecordError if number in (1, 3) else errors.KafkaError for number in range(5)
        ]
        assert "key" in str(failures[1])
        assert "2 records in it, not for this one" in str(failures[0])
        assert not any(error.possibly_persisted for error in failures if isinstance(error, errors.KafkaError))

        alone = send(producer, topic, b"value")
        after = send(producer, topic, b"after", b"key")
        producer.flush(TIMEOUT_S)
        assert isinstance(alone.exception(TIMEOUT_S), errors.InvalidRecordError)
        innocent = after.exception(TIMEOUT_S)
        assert type(innocent) is errors.KafkaError
        assert "for a record in it" in str(innocent)

        last = producer.send(topic, b"last", key=b"key")
        producer.flush(TIMEOUT_S)
        assert last.result(TIMEOUT_S).offset == 0, "the next records got the sequence numbers of the failed ones"
    assert [record.value for record in read_with_kafka_python(kafka.bootstrap_servers, topic, 1)] == [b"last"]
