"""Penstock, the asyncio facade."""

from __future__ import annotations

import asyncio

from bench.contestants.common import Load, Measurement, Stopwatch, Task, measurement, warm_up_of
from bench.contestants.penstock import opened, version


def futures(task: Task) -> Measurement:
    """`await send()` for each record, then every future is awaited."""
    return asyncio.run(_futures(task))


async def _futures(task: Task) -> Measurement:
    load = Load(task)
    producer, settings = opened(task, "AsyncKafkaProducer")
    topic, failures = task["topic"], 0
    async with producer:
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
            await future  # raises if the record failed: then there is no figure
        spent = watch.stop()
    return measurement(version(), settings, load.count, spent, failures)
