"""Compression from the application's view, through the embedded broker, which stores batches unchanged."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from facade_support import SOON_S, Log, MakeProducer, MakeTopic, run_script

from penstock.devbroker import Faults, RunningCluster
from penstock.errors import UnsupportedCompressionTypeError
from penstock.protocol.records import CODECS

TEXT = b'{"name": "Ada Lovelace", "occupation": "mathematician"}, ' * 15


def workers() -> int:
    """Native threads: Linux lists them by the first 15 letters of their names."""
    tasks = Path("/proc/self/task").glob("*/comm")
    return sum(task.read_text().startswith("penstock-codec") for task in tasks)


@pytest.mark.parametrize("codec", CODECS)
def test_compressed_records_are_read_back_in_order(
    codec: str, new_topic: MakeTopic, new_producer: MakeProducer, log: Log
) -> None:
    topic = new_topic(3)
    producer = new_producer(compression_type=codec)
    sent = {partition: [b"%d %s" % (n, TEXT[: n % 900]) for n in range(1_000)] for partition in range(3)}
    futures = [producer.send(topic, sent[p][n], partition=p) for n in range(1_000) for p in range(3)]
    producer.flush()
    assert [future.result(0).offset for future in futures] == [n for n in range(1_000) for _ in range(3)]
    assert log.by_partition(topic) == sent
    metrics = producer.metrics()
    rate = metrics["producer-metrics"]["compression-rate-avg"]
    assert rate == metrics["producer-topic-metrics"][f"compression-rate{{topic={topic}}}"]
    assert rate == 1 if codec == "none" else 0 < rate < 0.5
    assert metrics["producer-metrics"]["buffer-available-bytes"] == producer.config["buffer.memory"]


@pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")
def test_compression_threads_exist_only_with_compression_and_end_with_the_producer(
    topic: str, new_producer: MakeProducer
) -> None:
    before = workers()
    plain, compressing = new_producer(), new_producer(compression_type="lz4")
    plain.send(topic, b"1").result(SOON_S)
    assert workers() == before
    compressing.send(topic, b"2").result(SOON_S)
    assert workers() > before
    compressing.close()
    assert workers() == before


def test_a_batch_that_is_too_large_is_split(new_topic: MakeTopic, new_producer: MakeProducer, log: Log) -> None:
    topic = new_topic(max_message_bytes="2000")
    # Batches behind a split batch back off, and there are dozens of them.
    producer = new_producer(
        compression_type="gzip", batch_size=100_000, linger_ms=50, retry_backoff_ms=5, retry_backoff_max_ms=20
    )
    values = [random.Random(n).randbytes(400) for n in range(200)]
    futures = [producer.send(topic, value) for value in values]
    producer.flush()
    assert [future.result(0).offset for future in futures] == list(range(200))
    assert log.values(topic) == values
    assert producer.metrics()["producer-metrics"]["batch-split-total"] > 0


def test_a_lost_answer_makes_no_duplicate(topic: str, new_producer: MakeProducer, faults: Faults, log: Log) -> None:
    faults.add(api="Produce", drop="close", times=2)
    producer = new_producer(compression_type="zstd")
    values = [b"%d " % n + TEXT for n in range(2_000)]
    for value in values:
        producer.send(topic, value)
    producer.flush()
    assert log.values(topic) == values


def test_a_codec_that_the_broker_refuses_is_an_error_with_its_reason(
    topic: str, new_producer: MakeProducer, faults: Faults
) -> None:
    faults.add(api="Produce", error=76, times=1)
    producer = new_producer(compression_type="zstd")
    future = producer.send(topic, TEXT)
    assert isinstance(future.exception(SOON_S), UnsupportedCompressionTypeError)
    assert producer.send(topic, TEXT).result(SOON_S).offset == 0


def test_a_small_buffer_is_never_exceeded(new_topic: MakeTopic, new_producer: MakeProducer, log: Log) -> None:
    topic = new_topic(2)
    producer = new_producer(compression_type="zstd", buffer_memory=50_000, batch_size=8_000)
    values = [b"%d " % n + TEXT for n in range(3_000)]
    for number, value in enumerate(values):
        producer.send(topic, value, partition=number % 2)
    producer.flush()
    assert log.by_partition(topic) == {0: values[::2], 1: values[1::2]}
    assert producer.metrics()["producer-metrics"]["buffer-available-bytes"] == 50_000


def test_after_a_fork_the_child_compresses_nothing_and_the_parent_continues(
    cluster: RunningCluster, topic: str, log: Log
) -> None:
    code, out, err = run_script(
        """
        import gc, os, sys
        from penstock import KafkaProducer, ProducerForkedError

        def send(producer, word, count=200):
            return [producer.send(sys.argv[2], b"%s %d" % (word, n) + bytes(500)) for n in range(count)]

        producer = KafkaProducer(bootstrap_servers=sys.argv[1], compression_type="lz4", linger_ms=100)
        before = send(producer, b"before")
        child = os.fork()
        if not child:
            try:
                producer.send(sys.argv[2], b"never")
            except ProducerForkedError:
                print("refused")
            with KafkaProducer(bootstrap_servers=sys.argv[1], compression_type="zstd") as own:
                send(own, b"child", 10)
            del producer, before
            gc.collect()
            sys.exit(7)
        _, status = os.waitpid(child, 0)
        print("child", os.waitstatus_to_exitcode(status))
        after = send(producer, b"after")
        producer.close()
        assert all(future.done() for future in before + after)
        """,
        cluster.bootstrap_servers,
        topic,
        options=("-W", "error", "-X", "dev"),
    )
    assert (code, err, out.splitlines()) == (0, "", ["refused", "child 7"])
    words = [value.split(b" ")[0] for value in log.values(topic) if value is not None]
    assert [word for word in words if word != b"child"] == [b"before"] * 200 + [b"after"] * 200
    assert words.count(b"child") == 10


def test_a_program_may_exit_while_batches_are_compressed(cluster: RunningCluster, topic: str, log: Log) -> None:
    code, out, err = run_script(
        """
        import sys
        from penstock import KafkaProducer

        producer = KafkaProducer(bootstrap_servers=sys.argv[1], compression_type="zstd", compression_zstd_level=19)
        for number in range(3_000):
            producer.send(sys.argv[2], b"%d " % number * 100)
        """,
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out, err) == (0, "", "")
    assert log.count(topic) == 3_000
