"""A record behind an older one of its batch has its own deadline, and its own age in the error."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from driven import FACADES
from facade_support import SOON_S, MakeProducer

from penstock import DeliveryError, KafkaProducer, KafkaTimeoutError, errors
from penstock.devbroker import Faults

TOLERANCE_MS = 300
"""Two ticks are 100 ms, and late on a busy machine; the records are a second apart."""

YOUNG = re.compile(
    r"not delivered: after about (\d+) ms the record was still waiting to be sent again;"
    r" the last error was NOT_ENOUGH_REPLICAS: a scripted fault"
    r" \(topic .*, partition 0, broker \d+, 1 attempt, stage: retry, not persisted\)\."
    r" Remove the cause of the last error, or raise delivery\.timeout\.ms\."
)


@pytest.mark.parametrize("facade", FACADES)
def test_a_young_record_has_the_time_that_an_older_one_of_its_batch_has_had(
    new_producer: MakeProducer, topic: str, faults: Faults, facade: type
) -> None:
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0, times=100)
    calls: list[Any] = []
    # One batch has all records; it is refused, and waits for its second attempt until they have expired.
    waiting: dict[str, Any] = {"retry_backoff_ms": 60_000, "retry_backoff_max_ms": 60_000, "request_timeout_ms": 100}
    producer: KafkaProducer[Any, Any] = new_producer(linger_ms=2_800, delivery_timeout_ms=3_000, **waiting)
    producer.partitions_for(topic)
    older = producer.send(topic, b"older")
    # A second by the clock.
    clock = new_producer(linger_ms=0, delivery_timeout_ms=1_000, **waiting)
    with pytest.raises(KafkaTimeoutError):
        clock.send(topic, b"clock").result(SOON_S)
    # The application's timestamp is not the record's age.
    newer = producer.send(topic, b"newer", timestamp=0)
    sent = time.monotonic()
    producer.send(topic, b"with a callback", callback=lambda *outcome: calls.append(outcome))
    producer.send(topic, b"unnoticed")
    many = producer.send_many(topic, [b"one", b"two"])

    def is_young(error: BaseException) -> bool:
        matched = YOUNG.fullmatch(str(error))
        assert matched, error
        assert 3_000 <= int(matched[1]) <= 3_000 + TOLERANCE_MS
        return True

    with pytest.raises(KafkaTimeoutError, match=r"after 3\d\d\d ms the record was still") as raised:
        older.result(SOON_S)
    assert raised.value.possibly_persisted, "it may be sent again, with the others of its batch"
    with pytest.raises(KafkaTimeoutError) as raised:
        newer.result(SOON_S)
    assert 3_000 <= (time.monotonic() - sent) * 1_000 <= 3_000 + TOLERANCE_MS
    assert is_young(raised.value)
    assert [is_young(error) for error in many.errors.values()] == [True, True]
    with pytest.raises(DeliveryError) as failed:
        producer.flush(SOON_S)
    assert failed.value.count == 1
    assert is_young(failed.value.errors[0])
    [(metadata, error)] = calls
    assert metadata is None
    assert is_young(error)


@pytest.mark.parametrize("facade", FACADES)
def test_a_bulk_result_waits_for_no_younger_records_of_its_batch(
    new_producer: MakeProducer, topic: str, faults: Faults, facade: type
) -> None:
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0, times=100)
    waiting: dict[str, Any] = {"retry_backoff_ms": 60_000, "retry_backoff_max_ms": 60_000, "request_timeout_ms": 100}
    producer: KafkaProducer[Any, Any] = new_producer(linger_ms=1_400, delivery_timeout_ms=1_500, **waiting)
    producer.partitions_for(topic)
    older = producer.send_many(topic, [b"one", b"two"])
    sent = time.monotonic()
    clock = new_producer(linger_ms=0, delivery_timeout_ms=1_000, **waiting)
    with pytest.raises(KafkaTimeoutError):
        clock.send(topic, b"clock").result(SOON_S)
    newer = producer.send_many(topic, [b"three"])
    assert len(older.errors) == 2
    assert 1_500 <= (time.monotonic() - sent) * 1_000 <= 1_500 + TOLERANCE_MS
    assert older.done()
    assert not newer.done()
    assert len(newer.errors) == 1
