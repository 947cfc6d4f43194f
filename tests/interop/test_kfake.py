"""Penstock against franz-go's fake cluster: answers with an error carry base offset 0 there, where Kafka's carry -1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock import KafkaProducer, errors
from support.judges import read_with_confluent
from support.kfake import METADATA, PRODUCE, KFake

SOON_S = 30.0


def _producer(kfake: KFake) -> KafkaProducer[Any, Any]:
    """A producer with short backoffs."""
    return KafkaProducer(
        bootstrap_servers=kfake.bootstrap_servers,
        linger_ms=0,
        retry_backoff_ms=5,
        retry_backoff_max_ms=20,
        reconnect_backoff_ms=5,
        reconnect_backoff_max_ms=20,
    )


@pytest.fixture
def producer(kfake: KFake) -> Iterator[KafkaProducer[Any, Any]]:
    """For a topic "t" of one partition."""
    kfake.create_topic("t")
    producer = _producer(kfake)
    yield producer
    producer.close(0)


def _values(kfake: KFake, expected: int) -> list[bytes | None]:
    return [record.value for record in read_with_confluent(kfake.bootstrap_servers, "t", expected)]


BEFORE_THE_APPEND = [
    errors.TopicAuthorizationError,
    errors.InvalidTopicError,
    errors.RecordBatchTooLargeError,
    errors.InvalidTimestampError,
    errors.InvalidRecordError,
    errors.UnsupportedCompressionTypeError,
]


@pytest.mark.parametrize("error", BEFORE_THE_APPEND, ids=lambda error: str(error.name))
def test_an_error_before_the_append_is_not_persisted(
    kfake: KFake, producer: KafkaProducer[Any, Any], error: type[errors.ApiError]
) -> None:
    producer.send("t", b"first").result(SOON_S)
    kfake.fault(PRODUCE, error.code or 0)
    with pytest.raises(error) as caught:
        producer.send("t", b"refused").result(SOON_S)
    assert not caught.value.possibly_persisted
    assert producer.send("t", b"later").result(SOON_S).offset == 1
    assert _values(kfake, 2) == [b"first", b"later"]


def test_the_producer_recovers_from_a_refused_epoch(kfake: KFake, producer: KafkaProducer[Any, Any]) -> None:
    assert producer.send("t", b"0").result(SOON_S).offset == 0
    refused = kfake.fault(PRODUCE, 47, count=3)
    futures = [producer.send("t", b"%d" % number) for number in range(1, 100)]
    assert [future.result(SOON_S).offset for future in futures] == list(range(1, 100))
    assert refused.hits() == 3
    assert _values(kfake, 100) == [b"%d" % number for number in range(100)]


def _recreate_topic(kfake: KFake) -> None:
    old = kfake.topic_id("t")
    kfake.delete_topic("t")
    kfake.create_topic("t")
    assert kfake.topic_id("t") != old


def _lose_in_flight(kfake: KFake, send: Callable[[], None]) -> None:
    with kfake.cut(PRODUCE):
        asked = kfake.observe(METADATA)
        send()
        asked.wait(3)
        _recreate_topic(kfake)


def _append_to_the_old_log(kfake: KFake, send: Callable[[], None]) -> None:
    timed_out = kfake.fault(PRODUCE, 7, count=-1)
    send()
    timed_out.wait(2)
    _recreate_topic(kfake)
    timed_out.remove()


@pytest.mark.parametrize("fate", [_lose_in_flight, _append_to_the_old_log], ids=lambda fate: fate.__name__[1:])
def test_a_recreated_topic_gets_pending_records(
    kfake: KFake, producer: KafkaProducer[Any, Any], fate: Callable[[KFake, Callable[[], None]], None]
) -> None:
    futures = []
    assert producer.send("t", b"0").result(SOON_S).offset == 0
    fate(kfake, lambda: futures.extend(producer.send("t", b"%d" % number) for number in range(1, 50)))
    assert [future.result(SOON_S).offset for future in futures] == list(range(49))
    assert _values(kfake, 49) == [b"%d" % number for number in range(1, 50)]


def test_a_recreated_topic_that_refuses_old_sequences_gets_new_ones(
    kfake: KFake, producer: KafkaProducer[Any, Any]
) -> None:
    """Records that may be in the old topic's log can get new sequence numbers: they cannot be in the new topic's log."""
    assert producer.send("t", b"0").result(SOON_S).offset == 0
    timed_out = kfake.fault(PRODUCE, 7, count=-1)
    futures = [producer.send("t", b"%d" % number) for number in range(1, 50)]
    timed_out.wait(2)
    kfake.delete_topic("t")
    timed_out.remove()
    refused = kfake.fault(PRODUCE, 45)
    kfake.create_topic("t")
    assert [future.result(SOON_S).offset for future in futures] == list(range(49))
    assert refused.hits() == 1
    assert _values(kfake, 49) == [b"%d" % number for number in range(1, 50)]


def test_records_wait_for_a_temporarily_absent_topic(kfake: KFake, producer: KafkaProducer[Any, Any]) -> None:
    before = [producer.send("t", b"%d" % number) for number in range(10)]
    assert [future.result(SOON_S).offset for future in before] == list(range(10))
    kfake.delete_topic("t")
    asked = kfake.observe(METADATA)
    futures = [producer.send("t", b"%d" % number) for number in range(10, 60)]
    asked.wait(3)
    kfake.create_topic("t")
    assert [future.result(SOON_S).offset for future in futures] == list(range(50))
    assert _values(kfake, 50) == [b"%d" % number for number in range(10, 60)]


def test_without_topic_ids_possibly_late_records_keep_their_sequences() -> None:
    with KFake(max_produce_version=12) as kfake:
        kfake.create_topic("t")
        with _producer(kfake) as producer:
            assert producer.send("t", b"0").result(SOON_S).offset == 0
            held_up = kfake.fault(PRODUCE, 7, count=-1)
            futures = [producer.send("t", b"%d" % number) for number in range(1, 50)]
            held_up.wait(2)
            _recreate_topic(kfake)
            held_up.remove()
            assert [future.result(SOON_S).offset for future in futures] == list(range(49))
        assert _values(kfake, 49) == [b"%d" % number for number in range(1, 50)]
