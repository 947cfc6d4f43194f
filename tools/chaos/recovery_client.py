"""The producer of `recovery_run`, in a process of its own: reads commands from its input, prints an answer to each.

`warm`: send a record to each partition and wait for it. `run RECORDS RATE`: send at that rate, and answer when all are
resolved. `load`, later `stop`: send steadily, and answer with the times (`time.monotonic`) of all acknowledgments.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

DELIVERY_TIMEOUT_MS = 60_000
VALUE = b"x" * 100
LOAD_PER_S = 1_000


class Sender(Protocol):
    """A producer: `send` calls `done` with an error or None, from any thread."""

    def send(self, partition: int, done: Callable[[Any], None]) -> None:
        """Send a record, without waiting for its delivery."""

    def flush(self) -> None:
        """Wait until all records are resolved."""

    def poll(self) -> None:
        """Run callbacks, if no thread does."""


class Penstock:
    """With its defaults."""

    def __init__(self, servers: str, topic: str, settings: dict[str, str]) -> None:
        from penstock import KafkaProducer

        self._topic = topic
        ours = {"bootstrap.servers": servers, "delivery.timeout.ms": DELIVERY_TIMEOUT_MS, **settings}
        self._producer = KafkaProducer(ours)

    def send(self, partition: int, done: Callable[[Any], None]) -> None:
        """See `Sender`."""
        self._producer.send(self._topic, VALUE, partition=partition, callback=lambda _, error: done(error))

    def flush(self) -> None:
        """See `Sender`."""
        self._producer.flush()

    def poll(self) -> None:
        """A thread of its own calls back."""


class Confluent:
    """With its defaults, but idempotent."""

    def __init__(self, servers: str, topic: str) -> None:
        from confluent_kafka import Producer

        self._topic = topic
        settings: dict[str, Any] = {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "delivery.timeout.ms": DELIVERY_TIMEOUT_MS,
            "log_level": 0,
        }
        self._producer: Any = Producer(settings)

    def send(self, partition: int, done: Callable[[Any], None]) -> None:
        """See `Sender`."""
        while True:
            try:
                self._producer.produce(
                    self._topic, VALUE, partition=partition, on_delivery=lambda error, _: done(error)
                )
                return
            except BufferError:
                self._producer.poll(0.01)

    def flush(self) -> None:
        """See `Sender`."""
        self._producer.flush()

    def poll(self) -> None:
        """Its callbacks run here only."""
        self._producer.poll(0)


def run(sender: Sender, partitions: int, records: int, rate: int) -> dict[str, Any]:
    """Send, and wait for all."""
    errors: list[str] = []
    done = [0]

    def resolved(error: Any) -> None:
        done[0] += 1
        if error is not None:
            errors.append(str(error))

    began = time.monotonic()
    for number in range(records):
        ahead_s = began + number / rate - time.monotonic()
        if ahead_s > 0.002:
            time.sleep(ahead_s)
        sender.send(number % partitions, resolved)
        if number % 20 == 0:
            sender.poll()
    sender.flush()
    while done[0] < records:  # callbacks may follow
        time.sleep(0.001)
    return {"seconds": time.monotonic() - began, "failed": len(errors), "error": errors[0] if errors else ""}


def load(sender: Sender, partitions: int, stop: threading.Event) -> list[float]:
    """Send until `stop`; the times of the acknowledgments."""
    times: list[float] = []

    def resolved(error: Any) -> None:
        if error is None:
            times.append(time.monotonic())

    number = 0
    while not stop.wait(1 / LOAD_PER_S):
        sender.send(number % partitions, resolved)
        sender.poll()
        number += 1
    sender.flush()
    return times


def main() -> None:
    """Take commands until `end`."""
    name, servers, topic, partitions = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    settings = dict(setting.split("=", 1) for setting in sys.argv[5:])
    sender: Sender = Penstock(servers, topic, settings) if name == "penstock" else Confluent(servers, topic)
    stop = threading.Event()
    found: list[list[float]] = []
    thread = threading.Thread(target=lambda: found.append(load(sender, partitions, stop)))
    for line in sys.stdin:
        match line.split():
            case ["warm"]:
                answer: Any = run(sender, partitions, partitions, 1_000)
            case ["run", records, rate]:
                answer = run(sender, partitions, int(records), int(rate))
            case ["load"]:
                thread.start()
                continue
            case ["stop"]:
                stop.set()
                thread.join()
                answer = found.pop()
            case _:
                break
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
