"""Penstock, the blocking facade."""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import partial
from typing import Any

from bench.contestants.common import (
    CHUNK,
    Load,
    Measurement,
    Pace,
    Stopwatch,
    Task,
    import_ms,
    latency_figures,
    loop_cost,
    measurement,
    not_here,
    rss_mib,
    warm_up_of,
    without_loop,
)

WINDOW = 4
"""Chunks of futures that are held before the oldest is checked: memory stays constant for any number of records."""
WINDOW_RECORDS = WINDOW * CHUNK
"""The same in records, for loads with small chunks."""


def settings_of(task: Task) -> dict[str, Any]:
    """acks=all and idempotence are the defaults, and set explicitly; a task of defaults sets nothing."""
    if task.get("defaults"):
        return {**task.get("penstock", {})}
    settings = {
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": task.get("linger_ms", 5),
        "batch_size": 262_144,
        "buffer_memory": 64 << 20,
        **task.get("penstock", {}),
    }
    if task.get("compression"):
        settings["compression_type"] = task["compression"]
    return settings


def opened(task: Task, facade: str = "KafkaProducer", warm: bool = True) -> tuple[Any, dict[str, Any]]:
    """A producer with its metadata and connections, unless it must be cold."""
    import penstock

    if not hasattr(penstock, facade):
        not_here(f"Penstock {penstock.__version__} has no {facade}")
    settings = settings_of(task)
    try:
        producer = getattr(penstock, facade)(bootstrap_servers=task["bootstrap"], **settings)
    except penstock.ConfigError as error:
        if task.get("compression"):
            not_here(f"Penstock {penstock.__version__} does not compress: {error}")
        raise
    if warm and facade == "KafkaProducer":
        producer.send(task["topic"], b"warm").result(30)
    return producer, settings


def version() -> str:
    import penstock

    return penstock.__version__


def failed(futures: list[Any]) -> int:
    """The number of failed records: the result of every future is read, as an application does."""
    return len([1 for future in futures if future.exception() is not None])


def send_all(producer: Any, topic: str, load: Load) -> int:
    """Send all records of the load; returns the number that failed. The time includes reading the futures."""
    send, values, keys = producer.send, load.values, load.keys
    waiting: deque[list[Any]] = deque()
    failures = 0
    for size in load.sizes():
        chosen = values if size == len(values) else values[:size]
        if keys is None:
            waiting.append([send(topic, value) for value in chosen])
        else:
            waiting.append([send(topic, value, key=key) for value, key in zip(chosen, keys, strict=False)])
        if len(waiting) > WINDOW_RECORDS // load.chunk:
            failures += failed(waiting.popleft())
    producer.flush()
    return failures + sum(map(failed, waiting))


def futures(task: Task) -> Measurement:
    """A future per record, all of them read."""
    load = Load(task)
    producer, settings = opened(task)
    with producer:
        if (warm_up := warm_up_of(task)) is not None:
            send_all(producer, task["topic"], warm_up)
        watch = Stopwatch()
        failures = send_all(producer, task["topic"], load)
        spent = watch.stop()
    return measurement(version(), settings, load.count, spent, failures)


def records(task: Task) -> Measurement:
    """The same, with a `ProducerRecord` for each."""
    from penstock import ProducerRecord

    load = Load(task)
    producer, settings = opened(task)
    topic, failures = task["topic"], 0
    with producer:
        watch = Stopwatch()
        waiting: deque[list[Any]] = deque()
        for size in load.sizes():
            waiting.append([producer.send(ProducerRecord(topic, value)) for value in load.values[:size]])
            if len(waiting) > WINDOW:
                failures += failed(waiting.popleft())
        producer.flush()
        failures += sum(map(failed, waiting))
        spent = watch.stop()
    return measurement(version(), settings, load.count, spent, failures)


def callback(task: Task) -> Measurement:
    """A Python callback per record."""
    load = Load(task)
    producer, settings = opened(task)
    delivered = 0

    def on_delivery(_metadata: Any, error: Any) -> None:
        nonlocal delivered
        if error is None:
            delivered += 1

    with producer:
        topic, send = task["topic"], producer.send
        watch = Stopwatch()
        for size in load.sizes():
            for value in load.values[:size]:
                send(topic, value, callback=on_delivery)
        producer.flush()
        spent = watch.stop()
    return measurement(version(), settings, load.count, spent, load.count - delivered)


def threads(task: Task) -> Measurement:
    """One producer, several threads that send."""
    number = task["threads"]
    loads = [Load({**task, "count": task["count"] // number}) for _ in range(number)]
    producer, settings = opened(task)
    failures = [0] * number
    start = threading.Barrier(number + 1)

    def run(index: int) -> None:
        start.wait()
        failures[index] = send_all(producer, task["topic"], loads[index])

    with producer:
        running = [threading.Thread(target=run, args=(index,)) for index in range(number)]
        for thread in running:
            thread.start()
        start.wait()
        watch = Stopwatch()
        for thread in running:
            thread.join()
        spent = watch.stop()
    return measurement(version(), settings, sum(load.count for load in loads), spent, sum(failures))


def producers(task: Task) -> Measurement:
    """Several producers in one process, used alternately, a thousand records at a time."""
    load = Load(task, chunk=1000)
    topic = task["topic"]
    many = [opened(task) for _ in range(task["producers"])]
    settings = many[0][1]
    send_all(many[0][0], topic, Load({**task, "count": task.get("warm_up", 1000)}, chunk=1000))
    watch = Stopwatch()
    waiting: deque[list[Any]] = deque()
    failures = 0
    for turn, size in enumerate(load.sizes()):
        send = many[turn % len(many)][0].send
        waiting.append([send(topic, value) for value in load.values[:size]])
        if len(waiting) > 100 * WINDOW:
            failures += failed(waiting.popleft())
    for producer, _ in many:
        producer.flush()
    failures += sum(map(failed, waiting))
    spent = watch.stop()
    for producer, _ in many:
        producer.close()
    return measurement(version(), settings, load.count, spent, failures)


def one_at_a_time(task: Task) -> Measurement:
    """Send, wait for the acknowledgment, repeatedly."""
    producer, settings = opened({**task, "linger_ms": 0})
    topic, value, clock = task["topic"], b"x" * task["size"], time.perf_counter
    latencies = []
    with producer:
        for _ in range(100):
            producer.send(topic, value).result(30)
        watch = Stopwatch()
        for _ in range(task["count"]):
            began = clock()
            producer.send(topic, value).result(30)
            latencies.append(clock() - began)
        spent = watch.stop()
    return measurement(version(), settings, task["count"], spent, 0, **latency_figures(latencies))


def open_loop(task: Task) -> Measurement:
    """A fixed rate of records; a callback stores when each was acknowledged."""
    own = loop_cost(task)
    producer, settings = opened(task)
    topic, value, clock = task["topic"], b"x" * task["size"], time.perf_counter
    latencies: list[float] = []
    acked_at: list[float] | None = [] if task.get("acked_at") else None
    failures = 0

    def acknowledged(due: float, _metadata: Any, error: Any) -> None:
        nonlocal failures
        now = clock()
        latencies.append(now - due)
        if acked_at is not None and error is None:
            acked_at.append(now)
        if error is not None:
            failures += 1

    with producer:
        pace = Pace(task)
        watch = Stopwatch()
        sent = 0
        while sent < pace.count:
            for number in range(sent, pace.due_by(clock())):
                producer.send(topic, value, callback=partial(acknowledged, pace.due(number)))
                sent = number + 1
            time.sleep(pace.TICK_S)
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


def send_all_bulk(producer: Any, topic: str, load: Load) -> int:
    """The same with `send_many`, a chunk a call."""
    failures = 0
    waiting: deque[Any] = deque()
    for size in load.sizes():
        values = load.values if size == len(load.values) else load.values[:size]
        waiting.append(producer.send_many(topic, values))
        if len(waiting) > 10 * WINDOW:
            failures += len(waiting.popleft().result(60).errors)
    producer.flush()
    return failures + sum(len(result.result(60).errors) for result in waiting)


def bulk(task: Task) -> Measurement:
    """`send_many`, ten thousand values a call; every result is read."""
    task = {"chunk": task.get("bulk", 10_000), **task}
    load = Load(task)
    producer, settings = opened(task)
    if not hasattr(producer, "send_many"):
        producer.close()
        not_here(f"Penstock {version()} has no KafkaProducer.send_many")
    with producer:
        if (warm_up := warm_up_of(task)) is not None:
            send_all_bulk(producer, task["topic"], warm_up)
        watch = Stopwatch()
        failures = send_all_bulk(producer, task["topic"], load)
        spent = watch.stop()
    return measurement(version(), settings, load.count, spent, failures)


def start(task: Task) -> Measurement:
    """From a new process to the first acknowledgment; and the import, in separate interpreters."""
    imported = import_ms("penstock")
    import penstock  # noqa: F401 (its import has its own figure)

    watch = Stopwatch()
    producer, settings = opened(task, warm=False)
    producer.send(task["topic"], b"x" * task["size"]).result(30)
    spent = watch.stop()
    producer.close()
    return measurement(version(), settings, 1, spent, 0, start_ms=spent[0] * 1e3, import_ms=imported)


def memory(task: Task) -> Measurement:
    """Resident memory while records are sent without a rate limit: the median over the second half."""
    load = Load({**task, "count": 10_000}, chunk=10_000)
    producer, settings = opened(task)
    topic, send, samples, failures, count = task["topic"], producer.send, [], 0, 0
    with producer:
        watch = Stopwatch()
        waiting: deque[list[Any]] = deque()
        end = time.monotonic() + task["duration_s"]
        while time.monotonic() < end:
            waiting.append([send(topic, value) for value in load.values])
            count += load.chunk
            if len(waiting) > WINDOW:
                failures += failed(waiting.popleft())
            samples.append(rss_mib())
        producer.flush()
        failures += sum(map(failed, waiting))
        spent = watch.stop()
    settled = sorted(samples[len(samples) // 2 :])
    return measurement(version(), settings, count, spent, failures, steady_rss_mib=settled[len(settled) // 2])
