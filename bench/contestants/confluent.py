"""confluent-kafka (librdkafka), with its best documented settings.

librdkafka's INTRODUCTION.md says that linger.ms, batch.num.messages and batch.size decide the throughput, and
queue.buffering.max.* the buffer size. The delivery callback is the producer's own (`on_delivery` in its configuration),
which saves an argument per call, and is polled every thousand records and whenever the queue is full.
"""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from typing import Any

from bench.contestants.common import (
    Load,
    Measurement,
    Pace,
    Stopwatch,
    Task,
    import_ms,
    latency_figures,
    loop_cost,
    measurement,
    rss_mib,
    warm_up_of,
    without_loop,
)

POLL_EVERY = 1000
DEFAULT_QUEUE = 100_000
"""queue.buffering.max.messages of librdkafka."""


def settings_of(task: Task) -> dict[str, Any]:
    """A task of defaults sets nothing but what it names itself (`confluent`), and no partitioner."""
    if task.get("defaults"):
        return {**task.get("confluent", {})}
    settings: dict[str, Any] = {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": task.get("linger_ms", 5),
        "batch.size": 1_000_000,
        "batch.num.messages": 1_000_000,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_048_576,
        **task.get("confluent", {}),
    }
    if task.get("keys"):
        settings["partitioner"] = "murmur2_random"  # Java's, and Penstock's
    if task.get("compression"):
        settings["compression.type"] = task["compression"]
    return settings


def opened(task: Task, warm: bool = True, **more: Any) -> tuple[Any, dict[str, Any]]:
    import confluent_kafka

    settings = settings_of(task)
    producer = confluent_kafka.Producer({"bootstrap.servers": task["bootstrap"], **settings, **more})
    if warm:
        producer.produce(task["topic"], b"warm")
        if producer.flush(30):
            raise RuntimeError("confluent-kafka: the first record was not acknowledged in 30 s")
    return producer, settings


def version() -> str:
    import confluent_kafka

    return f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})"


class Tally:
    """Counts deliveries; used as `on_delivery`."""

    def __init__(self) -> None:
        self.delivered = 0

    def __call__(self, error: Any, _message: Any) -> None:
        if error is None:
            self.delivered += 1


def send_all(producer: Any, topic: str, load: Load) -> None:
    produce, poll = producer.produce, producer.poll
    until_poll = POLL_EVERY
    keys: list[Any] = load.keys or [None] * load.chunk
    for size in load.sizes():
        for value, key in zip(load.values[:size], keys, strict=False):
            while True:
                try:
                    produce(topic, value, key)
                    break
                except BufferError:
                    poll(0.01)
            until_poll -= 1
            if not until_poll:
                poll(0)
                until_poll = POLL_EVERY


def callback(task: Task) -> Measurement:
    """A delivery callback per record."""
    load, tally = Load(task), Tally()
    producer, settings = opened(task, on_delivery=tally)
    if (warm_up := warm_up_of(task)) is not None:
        send_all(producer, task["topic"], warm_up)
        producer.flush()
    tally.delivered = 0
    watch = Stopwatch()
    send_all(producer, task["topic"], load)
    producer.flush()
    spent = watch.stop()
    return measurement(version(), settings, load.count, spent, load.count - tally.delivered)


def threads(task: Task) -> Measurement:
    """One producer, several threads that send; each polls for its records."""
    number = task["threads"]
    tally = Tally()
    loads = [Load({**task, "count": task["count"] // number}) for _ in range(number)]
    producer, settings = opened(task, on_delivery=tally)
    tally.delivered = 0
    start = threading.Barrier(number + 1)

    def run(load: Load) -> None:
        start.wait()
        send_all(producer, task["topic"], load)

    running = [threading.Thread(target=run, args=(load,)) for load in loads]
    for thread in running:
        thread.start()
    start.wait()
    watch = Stopwatch()
    for thread in running:
        thread.join()
    producer.flush()
    spent = watch.stop()
    count = sum(load.count for load in loads)
    return measurement(version(), settings, count, spent, count - tally.delivered)


def one_at_a_time(task: Task) -> Measurement:
    """Produce, poll until the acknowledgment arrives, repeatedly."""
    tally = Tally()
    producer, settings = opened({**task, "linger_ms": 0}, on_delivery=tally)
    topic, value, clock = task["topic"], b"x" * task["size"], time.perf_counter

    def send() -> None:
        before = tally.delivered
        producer.produce(topic, value)
        while tally.delivered == before:
            producer.poll(1)

    for _ in range(100):
        send()
    latencies = []
    watch = Stopwatch()
    for _ in range(task["count"]):
        began = clock()
        send()
        latencies.append(clock() - began)
    spent = watch.stop()
    return measurement(version(), settings, task["count"], spent, 0, **latency_figures(latencies))


def open_loop(task: Task) -> Measurement:
    """A fixed rate of records; between ticks the loop waits in `poll`, which serves callbacks at once.

    `poll` counts in whole milliseconds: a shorter wait would be a busy loop.
    """
    own = loop_cost(task)
    producer, settings = opened(task)
    topic, value, clock = task["topic"], b"x" * task["size"], time.perf_counter
    latencies: list[float] = []
    acked_at: list[float] | None = [] if task.get("acked_at") else None
    failures = 0

    def acknowledged(due: float, error: Any, _message: Any) -> None:
        nonlocal failures
        now = clock()
        latencies.append(now - due)
        if acked_at is not None and error is None:
            acked_at.append(now)
        if error is not None:
            failures += 1

    pace = Pace(task)
    watch = Stopwatch()
    sent = 0
    while sent < pace.count:
        for number in range(sent, pace.due_by(clock())):
            producer.produce(topic, value, on_delivery=partial(acknowledged, pace.due(number)))
            sent = number + 1
        producer.poll(pace.TICK_S)
    producer.flush()
    spent = watch.stop()
    failures += pace.count - len(latencies)
    spent = without_loop(spent, own, task)
    measured = measurement(
        version(),
        settings,
        pace.count,
        spent,
        failures,
        loop_cpu_us=own / pace.rate * 1e6,
        **latency_figures(latencies),
    )
    return measured if acked_at is None else {**measured, "acked_at": acked_at}


def send_all_bulk(producer: Any, topic: str, load: Load, settings: dict[str, Any]) -> int:
    """`produce_batch`, a chunk a call; returns the number of records that were refused or not acknowledged."""
    room = settings.get("queue.buffering.max.messages", DEFAULT_QUEUE) - load.chunk
    messages = [{"value": value} for value in load.values]
    refused = 0
    for size in load.sizes():
        # A record without buffer space is marked in its dict rather than raised: keep enough space beforehand.
        while len(producer) > room:
            producer.poll(0.001)
        refused += size - producer.produce_batch(topic, messages if size == len(messages) else messages[:size])
        producer.poll(0)
    return refused + int(producer.flush())


def bulk(task: Task) -> Measurement:
    """`produce_batch`, ten thousand records a call. Unless at defaults, only failures are reported: the cheapest mode."""
    task = {"chunk": task.get("bulk", 10_000), **task}
    if not task.get("defaults"):
        task["confluent"] = {"delivery.report.only.error": True, **task.get("confluent", {})}
    load = Load(task)
    failures = 0

    def on_delivery(error: Any, _message: Any) -> None:
        nonlocal failures
        failures += error is not None

    producer, settings = opened(task, on_delivery=on_delivery)
    if (warm_up := warm_up_of(task)) is not None:
        send_all_bulk(producer, task["topic"], warm_up, settings)
    watch = Stopwatch()
    refused = send_all_bulk(producer, task["topic"], load, settings)
    spent = watch.stop()
    return measurement(version(), settings, load.count, spent, failures + refused)


def start(task: Task) -> Measurement:
    """From a new process to the first acknowledgment; and the import, in separate interpreters."""
    imported = import_ms("confluent_kafka")
    import confluent_kafka  # noqa: F401 (its import has its own figure)

    tally = Tally()
    watch = Stopwatch()
    producer, settings = opened(task, warm=False, on_delivery=tally)
    producer.produce(task["topic"], b"x" * task["size"])
    while not tally.delivered:
        producer.poll(1)
    spent = watch.stop()
    return measurement(version(), settings, 1, spent, 0, start_ms=spent[0] * 1e3, import_ms=imported)


def memory(task: Task) -> Measurement:
    """Resident memory while records are sent without a rate limit: the median over the second half."""
    load, tally = Load({**task, "count": 10_000}, chunk=10_000), Tally()
    producer, settings = opened(task, on_delivery=tally)
    tally.delivered = 0
    samples, count = [], 0
    watch = Stopwatch()
    end = time.monotonic() + task["duration_s"]
    while time.monotonic() < end:
        send_all(producer, task["topic"], load)
        count += load.chunk
        samples.append(rss_mib())
    producer.flush()
    spent = watch.stop()
    settled = sorted(samples[len(samples) // 2 :])
    failures = count - tally.delivered
    return measurement(version(), settings, count, spent, failures, steady_rss_mib=settled[len(settled) // 2])


def aio(task: Task) -> Measurement:
    """AIOProducer: `await produce()` for each record, then every future is awaited."""
    return asyncio.run(_aio(task))


async def _aio(task: Task) -> Measurement:
    from confluent_kafka.aio import AIOProducer

    load = Load(task)
    settings = settings_of(task)
    # batch_size and buffer_timeout are the documented settings of its own buffer.
    own = {"batch_size": 1000, "buffer_timeout": 0.005, **task.get("aio", {})}
    producer = AIOProducer({"bootstrap.servers": task["bootstrap"], **settings}, **own)
    topic = task["topic"]
    warm = await producer.produce(topic, b"warm")
    await producer.flush()
    await warm
    watch = Stopwatch()
    waiting = [await producer.produce(topic, value) for size in load.sizes() for value in load.values[:size]]
    await producer.flush()
    for future in waiting:
        await future
    spent = watch.stop()
    await producer.close()
    return measurement(version(), {**settings, **own}, load.count, spent, 0)
