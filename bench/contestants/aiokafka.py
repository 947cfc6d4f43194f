"""aiokafka, with its best documented settings: linger_ms, and the default max_batch_size (larger ones cost more CPU for the
same number of messages per second: measured with 16 KiB, 256 KiB and 1 MB)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.contestants.common import Load, Measurement, Stopwatch, Task, latency_figures, measurement, warm_up_of


def settings_of(task: Task) -> dict[str, Any]:
    """A task of defaults sets nothing: then acks=1, no idempotence, no linger."""
    if task.get("defaults"):
        return {**task.get("aiokafka", {})}
    return {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": task.get("linger_ms", 5),
        "max_batch_size": 16_384,
        **task.get("aiokafka", {}),
    }


def version() -> str:
    import aiokafka

    return str(aiokafka.__version__)


def futures(task: Task) -> Measurement:
    """`await send()` for each record, then every future is awaited."""
    return asyncio.run(_futures(task))


async def _futures(task: Task) -> Measurement:
    from aiokafka import AIOKafkaProducer

    load, settings, topic = Load(task), settings_of(task), task["topic"]
    producer = AIOKafkaProducer(bootstrap_servers=task["bootstrap"], **settings)
    await producer.start()
    await producer.send_and_wait(topic, b"warm")
    if (warm_up := warm_up_of(task)) is not None:
        for waited in [
            await producer.send(topic, value) for size in warm_up.sizes() for value in warm_up.values[:size]
        ]:
            await waited
    watch = Stopwatch()
    waiting = [await producer.send(topic, value) for size in load.sizes() for value in load.values[:size]]
    await producer.flush()
    for future in waiting:
        await future
    spent = watch.stop()
    await producer.stop()
    return measurement(version(), settings, load.count, spent, 0)


def one_at_a_time(task: Task) -> Measurement:
    """`await send_and_wait()`, repeatedly."""
    return asyncio.run(_one_at_a_time(task))


async def _one_at_a_time(task: Task) -> Measurement:
    from aiokafka import AIOKafkaProducer

    settings, topic, value = settings_of({**task, "linger_ms": 0}), task["topic"], b"x" * task["size"]
    producer = AIOKafkaProducer(bootstrap_servers=task["bootstrap"], **settings)
    await producer.start()
    for _ in range(100):
        await producer.send_and_wait(topic, value)
    latencies, clock = [], time.perf_counter
    watch = Stopwatch()
    for _ in range(task["count"]):
        began = clock()
        await producer.send_and_wait(topic, value)
        latencies.append(clock() - began)
    spent = watch.stop()
    await producer.stop()
    return measurement(version(), settings, task["count"], spent, 0, **latency_figures(latencies))
