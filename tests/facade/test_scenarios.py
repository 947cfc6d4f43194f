"""Whole-path scenarios with the subjects of librdkafka's producer tests (and a few of Java's), on the embedded broker.

`tests/PEERS.md` lists the original tests.
"""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from facade_support import SOON_S, Log, MakeProducer, MakeTopic, numbered

from penstock import KafkaProducer, KafkaTimeoutError, errors
from penstock.devbroker import DevCluster, Faults, RunningCluster
from support.oracle import Logged, judge, reported_by

QUICK = {"retry_backoff_ms": 5, "retry_backoff_max_ms": 20, "reconnect_backoff_ms": 5, "reconnect_backoff_max_ms": 20}


def logged(log: Log, topic: str) -> dict[Any, list[Logged]]:
    """The log of a topic whose values are numbers, in the form of the oracle."""
    found: dict[Any, list[Logged]] = {}
    for record in log.records(topic):
        match = re.fullmatch(rb"(\d+)\D*", record.value or b"")
        assert match is not None
        found.setdefault(record.partition, []).append(Logged("me", int(match[1]), record.offset))
    return found


# ------------------------------------------------------------------------------------------------- retries (0076, 0117)


@pytest.mark.parametrize("trouble", [{"drop": "close"}, {"close": True}, {"drop": "silent"}])
def test_without_retries_a_lost_answer_fails_the_record_as_possibly_persisted(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, trouble: dict[str, Any]
) -> None:
    producer = new_producer(enable_idempotence=False, retries=0, request_timeout_ms=300, linger_ms=0)
    faults.add("Produce", topic=topic, **trouble)
    failed = producer.send(topic, b"lost").exception(SOON_S)
    assert isinstance(failed, errors.NetworkError)
    assert (failed.possibly_persisted, failed.attempts) == (True, 1)
    assert producer.send(topic, b"fine").result(SOON_S)
    assert log.values(topic) == ([b"fine"] if "close" in trouble else [b"lost", b"fine"])


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_storage_error_is_retried_as_often_as_retries_allow(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, idempotent: bool
) -> None:
    producer = new_producer(retries=2, enable_idempotence=idempotent, linger_ms=0, **QUICK)
    code = errors.KafkaStorageError.code or 0
    faults.add("Produce", topic=topic, error=code, times=2)
    producer.send(topic, b"kept").result(SOON_S)
    faults.add("Produce", topic=topic, error=code, times=3)
    failed = producer.send(topic, b"given up").exception(SOON_S)
    assert type(failed) is errors.KafkaStorageError
    assert (failed.attempts, failed.possibly_persisted) == (3, True)
    producer.send(topic, b"fine").result(SOON_S)
    assert log.values(topic) == [b"kept", b"fine"]


# --------------------------------------------------------------------------------------- lost answers (0090, 0144, 0068)


@pytest.mark.parametrize("lost", [5, 8], ids=["within the broker's window of batches", "beyond it"])
def test_consecutive_lost_answers_make_no_duplicates(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, lost: int
) -> None:
    producer = new_producer(batch_size=100, **QUICK)
    producer.send(topic, b"0").result(SOON_S)
    faults.add("Produce", topic=topic, drop="close", times=lost)
    futures = [producer.send(topic, value) for value in numbered(150)[1:]]
    producer.flush(SOON_S)
    assert [future.result(0).offset for future in futures] == list(range(1, 150))
    assert log.values(topic) == numbered(150)


@pytest.mark.parametrize("lost", [1, 2, 3, 4, 5])
def test_possibly_persisted_batches_followed_by_errors_are_not_fatal(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, lost: int
) -> None:
    producer = new_producer(batch_size=100, linger_ms=0, **QUICK)
    values = [b"%d" % number + b"." * 60 for number in range(16)]
    futures = [producer.send(topic, value) for value in values[:5]]
    producer.flush(SOON_S)
    faults.add("Produce", topic=topic, drop="close", times=lost)
    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0)
    faults.add("Produce", topic=topic, error=errors.OutOfOrderSequenceError.code or 0, times=4)
    futures += [producer.send(topic, value) for value in values[5:15]]
    with_failures = [future.exception(SOON_S) for future in futures]
    assert all(error is None or error.possibly_persisted for error in with_failures)
    faults.clear()
    futures.append(producer.send(topic, values[15]))
    futures[-1].result(SOON_S)
    verdict = judge((reported_by(0, "me", number, future) for number, future in enumerate(futures)), logged(log, topic))
    assert verdict.ok, verdict


@pytest.mark.parametrize("what", ["the same offset again", "a forgotten offset"])
def test_a_duplicate_after_a_lost_answer_is_a_success(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, what: str
) -> None:
    producer = new_producer(linger_ms=0, **QUICK)
    producer.send(topic, b"first").result(SOON_S)
    faults.add("Produce", topic=topic, drop="close")
    if what == "a forgotten offset":
        faults.add("Produce", topic=topic, error=errors.DuplicateSequenceError.code or 0)
    offset = producer.send(topic, b"second").result(SOON_S).offset
    assert offset == (1 if what == "the same offset again" else -1)
    producer.send(topic, b"third").result(SOON_S)
    assert log.values(topic) == [b"first", b"second", b"third"]


# ------------------------------------------------------------------------------------------------------- deadlines (0094)


def test_records_that_expire_amid_a_stream_leave_the_others_in_order(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log, cluster: RunningCluster
) -> None:
    producer = new_producer(
        batch_size=200, linger_ms=0, request_timeout_ms=400, delivery_timeout_ms=1_500, max_block_ms=20_000, **QUICK
    )
    numbers = iter(range(1_000))
    futures = [producer.send(topic, b"%d" % next(numbers)) for _ in range(50)]
    producer.flush(SOON_S)
    faults.add("Produce", topic=topic, drop="silent", times=1_000)
    for _ in range(3):  # each wave is sent with a later attempt of the first
        seen = cluster.requests.count("Produce")
        futures += [producer.send(topic, b"%d" % next(numbers)) for _ in range(20)]
        cluster.requests.wait_for("Produce", seen + 1)
    assert isinstance(futures[50].exception(SOON_S), KafkaTimeoutError)
    faults.clear()
    for _ in range(20):  # the producer recovers by itself; on a busy machine the first records may be late as well
        futures += [producer.send(topic, b"%d" % next(numbers)) for _ in range(20)]
        if not any(future.exception(SOON_S) for future in futures[-20:]):
            break
    else:
        raise AssertionError(f"it does not recover: {futures[-1].exception(0)}")
    verdict = judge((reported_by(0, "me", n, future) for n, future in enumerate(futures)), logged(log, topic))
    assert verdict.ok, verdict
    assert verdict.outcomes["possibly persisted"] > 0


def test_the_callback_of_an_expired_record_may_send_it_again(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log
) -> None:
    producer = new_producer(delivery_timeout_ms=300, request_timeout_ms=200, linger_ms=0, **QUICK)
    again: list[Any] = []
    sent = threading.Event()

    def callback(metadata: object, error: BaseException | None) -> None:
        assert isinstance(error, KafkaTimeoutError)
        faults.clear()
        again.append(producer.send(topic, b"again", partition=0))
        sent.set()

    faults.add("Produce", topic=topic, error=errors.NotEnoughReplicasError.code or 0, times=1_000)
    producer.send(topic, b"too late", partition=0, callback=callback)
    assert sent.wait(SOON_S)
    assert again[0].result(SOON_S).offset == 0
    assert log.values(topic) == [b"again"]


# -------------------------------------------------------------------------------------------- metadata (0146, 0105, 0107)


def test_a_temporary_metadata_error_does_not_fail_the_topic(
    new_producer: MakeProducer, topic: str, cluster: RunningCluster, faults: Faults, log: Log
) -> None:
    producer = new_producer(linger_ms=0, max_block_ms=10_000, **QUICK)
    producer.send(topic, b"before").result(SOON_S)
    seen = cluster.requests.count("Metadata")
    faults.add("Metadata", topic=topic, error=errors.UnknownTopicOrPartitionError.code or 0, times=2)
    faults.add("Produce", topic=topic, error=errors.KafkaStorageError.code or 0)
    producer.send(topic, b"during").result(SOON_S)
    cluster.requests.wait_for("Metadata", seen + 3)
    for number in range(3):
        producer.send(topic, b"after %d" % number).result(SOON_S)
    assert log.values(topic) == [b"before", b"during", b"after 0", b"after 1", b"after 2"]


def test_leaders_that_move_get_the_next_records(
    new_producer: MakeProducer, new_topic: MakeTopic, cluster: RunningCluster, faults: Faults
) -> None:
    topic = new_topic(2)
    cluster.move_leaders({(topic, 0): 1, (topic, 1): 2})
    producer = new_producer(linger_ms=0)
    for partition in (0, 1):
        producer.send(topic, b"before", partition=partition).result(SOON_S)
    cluster.move_leaders({(topic, 0): 3, (topic, 1): 1})
    cluster.requests.clear()
    for partition in (0, 1):
        assert producer.send(topic, b"after", partition=partition).result(SOON_S).offset == 1
    assert cluster.requests.count("Produce", node=3) == 1


@pytest.mark.parametrize(("before", "after"), [(10, 3), (3, 6)])
def test_a_recreated_topic_is_written_to_with_its_new_partitions(
    new_producer: MakeProducer, new_topic: MakeTopic, cluster: RunningCluster, log: Log, before: int, after: int
) -> None:
    topic = new_topic(before)
    producer = new_producer(linger_ms=0, max_block_ms=15_000, **QUICK)
    keys = [b"key %d" % number for number in range(40)]
    old = {producer.send(topic, b"before", key=key).result(SOON_S).partition for key in keys}
    assert max(old) < before
    cluster.delete_topic(topic)
    during = producer.send(topic, b"during", partition=0)
    cluster.requests.wait_for("Produce", cluster.requests.count("Produce") + 1)
    cluster.create_topic(topic, after)
    during.result(SOON_S)
    futures = [producer.send(topic, b"after", key=key) for key in keys]
    new = {future.result(SOON_S).partition for future in futures}
    assert len(producer.partitions_for(topic)) == after
    assert max(new) < after
    assert after < before or max(new) >= before
    values = log.values(topic)
    assert values.count(b"after") == len(keys)
    assert values.count(b"during") == 1


# ------------------------------------------------------------------------------------------------------ brokers (0151)


def test_a_rolling_restart_loses_nothing_and_keeps_the_order() -> None:
    with DevCluster.running(nodes=3, auto_create_topics=False) as cluster:
        cluster.create_topic("rolled", 2)
        with KafkaProducer(bootstrap_servers=cluster.bootstrap_servers, batch_size=100, **QUICK) as producer:
            futures = []
            for node in (1, 2, 3):
                cluster.stop_node(node)
                futures += [producer.send("rolled", b"%d" % n, partition=n % 2) for n in range(100)]
                futures[-1].result(SOON_S)
                cluster.start_node(node)
            producer.flush(SOON_S)
            assert [future.result(0).offset for future in futures] == [n // 2 for n in range(300)]
        found = Log(cluster).by_partition("rolled")
    for partition in (0, 1):
        assert found[partition] == [b"%d" % n for n in range(partition, 100, 2)] * 3


# ---------------------------------------------------------------------------------------------------------------- splits


def test_splits_are_counted(new_producer: MakeProducer, new_topic: MakeTopic) -> None:
    topic = new_topic(max_message_bytes="2000")
    producer = new_producer(linger_ms=60_000)
    futures = [producer.send(topic, bytes(200)) for _ in range(30)]
    producer.flush(SOON_S)
    assert [future.result(0).offset for future in futures] == list(range(30))
    metrics = producer.metrics()["producer-metrics"]
    assert metrics["batch-split-total"] >= 1
    assert metrics["batch-split-rate"] > 0
