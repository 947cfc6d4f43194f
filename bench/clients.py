"""The contestants, each at its best settings, each in a process of its own (see `worker`).

A contestant sends `count` records of `size` bytes and hears of every single delivery: Penstock by one future per record,
confluent-kafka by its delivery callback. Only what lies between the first record and the last acknowledgment is timed;
connections and metadata are warm by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What a run measured: seconds, CPU seconds (all threads, user and system), deliveries that failed or went missing."""

    seconds: float
    cpu_seconds: float
    failures: int
    version: str
    settings: dict[str, Any]


def penstock(bootstrap: str, topic: str, count: int, size: int, **options: Any) -> Outcome:
    """One future per record, all of them asked in the end."""
    import penstock as library

    settings: dict[str, Any] = {"acks": "all", "linger_ms": 5, **options}
    value = b"x" * size
    with library.KafkaProducer(bootstrap_servers=bootstrap, **settings) as producer:
        producer.send(topic, value).result(30)
        send = producer.send
        cpu, began = time.process_time(), time.perf_counter()
        futures = [send(topic, value) for _ in range(count)]
        producer.flush()
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
        failures = sum(future.exception() is not None for future in futures)
    return Outcome(seconds, cpu_seconds, failures, library.__version__, settings)


def confluent(bootstrap: str, topic: str, count: int, size: int, **options: Any) -> Outcome:
    """The delivery callback, polled every 1,000 records and whenever the queue is full, as its documentation advises."""
    import confluent_kafka

    settings: dict[str, Any] = {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 5,
        "batch.size": 1_000_000,
        "batch.num.messages": 1_000_000,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
        **options,
    }
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, **settings})
    value = b"x" * size
    delivered = failed = 0

    def on_delivery(error: Any, _message: Any) -> None:
        nonlocal delivered, failed
        if error is None:
            delivered += 1
        else:
            failed += 1

    producer.produce(topic, value, on_delivery=on_delivery)
    producer.flush(30)
    delivered = failed = 0
    produce, poll = producer.produce, producer.poll
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(count):
        while True:
            try:
                produce(topic, value, on_delivery=on_delivery)
                break
            except BufferError:
                poll(0.01)
        if number % 1000 == 0:
            poll(0)
    producer.flush()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    return Outcome(seconds, cpu_seconds, count - delivered, confluent_kafka.__version__, settings)


CLIENTS: dict[str, Callable[..., Outcome]] = {"penstock": penstock, "confluent-kafka": confluent}
