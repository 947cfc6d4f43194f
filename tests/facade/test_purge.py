"""`purge`: what was never sent fails at once; what is under way ends as it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from driven import FACADES
from facade_support import SOON_S, Log, MakeProducer, MakeTopic, in_thread

from penstock import KafkaProducer, ProducerClosedError, RecordPurgedError, errors
from penstock.devbroker import Faults

both_facades = pytest.mark.parametrize("facade", FACADES)

NEVER: dict[str, Any] = {"linger_ms": 60_000, "delivery_timeout_ms": 120_000}


@contextmanager
def at_once() -> Iterator[None]:
    """What happens here waits for nothing."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SOON_S


@both_facades
def test_what_was_never_sent_fails_at_once_and_later_records_are_sent(
    new_producer: MakeProducer, new_topic: MakeTopic, log: Log
) -> None:
    topic, other = new_topic(), new_topic()
    producer = new_producer(**NEVER)
    calls: list[Any] = []
    purged = producer.send(topic, b"given up", callback=lambda *outcome: calls.append(outcome))
    many = producer.send_many(topic, [b"one", b"two"])
    kept = producer.send(other, b"kept")
    with at_once():
        assert producer.purge("no-such-topic") == 0
        assert producer.purge(topic) == 3
        assert producer.purge(topic) == 0
        with pytest.raises(RecordPurgedError) as raised:
            purged.result(SOON_S)
    error = raised.value
    assert (error.topic, error.partition, error.stage, error.attempts) == (topic, 0, "linger", 0)
    assert not error.possibly_persisted
    assert "the application purged the record" in str(error)
    assert all(isinstance(each, RecordPurgedError) for each in many.errors.values())
    assert len(many.errors) == 2
    later = producer.send(topic, b"later")
    # It does not raise for records that `purge` has reported.
    producer.flush(SOON_S)
    assert [(metadata, type(error)) for metadata, error in calls] == [(None, RecordPurgedError)]
    assert kept.result(SOON_S).offset == later.result(SOON_S).offset == 0
    assert log.values(topic) == [b"later"]


def test_what_waits_for_another_attempt_is_delivered(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log
) -> None:
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0)
    producer = new_producer(linger_ms=0, retry_backoff_ms=500, retry_backoff_max_ms=500)
    tried = producer.send(topic, b"tried")
    while producer.metrics()["producer-metrics"]["record-send-total"] < 1:
        time.sleep(0.001)
    assert producer.purge() == 0
    assert tried.result(SOON_S).offset == 0
    assert log.values(topic) == [b"tried"]


def test_a_flush_ends_and_a_sender_that_waits_for_memory_goes_on(
    new_producer: MakeProducer, topic: str, faults: Faults
) -> None:
    producer: KafkaProducer[Any, Any] = new_producer(
        buffer_memory=32_768, batch_size=16_384, max_block_ms=60_000, **NEVER
    )
    producer.partitions_for(topic)
    # Nothing gets through: the first batch is refused, and the others wait behind it.
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0, times=1_000)
    futures = [producer.send(topic, bytes(7_000)) for _ in range(4)]
    sender, sent = in_thread(lambda: producer.send(topic, bytes(7_000)))
    flusher, flushed = in_thread(producer.flush)
    while producer.metrics()["producer-metrics"]["waiting-threads"] < 1:
        time.sleep(0.001)
    purged = 0
    while not sent:
        purged += producer.purge()
        time.sleep(0.001)
    assert purged >= 2
    sender.join(SOON_S)
    faults.clear()
    flusher.join(SOON_S)
    assert flushed == [None]
    failed = [future for future in futures if future.exception(SOON_S) is not None]
    assert len(failed) <= purged
    producer.purge()


def test_a_callback_may_purge_and_closing_ends(new_producer: MakeProducer, topic: str, faults: Faults) -> None:
    producer = new_producer(**NEVER)
    purged = threading.Event()
    numbers: list[int] = []

    def give_up(metadata: object, error: object) -> None:
        if not purged.is_set():
            purged.set()
            producer.send(topic, b"from a callback")
            numbers.append(producer.purge())

    producer.send(topic, b"value", callback=give_up)
    assert producer.purge() == 1
    assert purged.wait(SOON_S)
    with at_once():
        producer.close()
    assert numbers == [1]


@both_facades
def test_a_closed_producer_purges_nothing(producer: KafkaProducer[Any, Any], topic: str) -> None:
    producer.send(topic, b"value").result(SOON_S)
    producer.close()
    with pytest.raises(ProducerClosedError):
        producer.purge()
