"""Compares asyncio producers on one real Kafka: messages/s, client CPU per message, the loop's lag under full load.

    python tools/aio/measure.py [--rounds 5] [--loop uvloop] [--only penstock]

Paired and interleaved: each round runs every contestant once, each in its own process; medians are printed. Values of 100
bytes, no key, 6 partitions, acks=all, idempotent, linger 5 ms. `await send()` per record, then every future is awaited.
Lag is the delay of a coroutine that sleeps for 1 ms; "held" is the CPU time that the loop's thread used meanwhile, which
does not depend on other load of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kafka"))

VALUE = bytes(100)
TOPIC = "aio"
LAG_SLEEP_S = 0.001


class Clock:
    """Wall time and CPU of this process since the first record."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), self._used()

    @staticmethod
    def _used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    def read(self, count: int) -> dict[str, float]:
        wall = time.monotonic() - self._wall
        return {"per_s": count / wall, "cpu_us": (self._used() - self._cpu) / count * 1e6}


async def with_lag(work: Awaitable[dict[str, float]]) -> dict[str, float]:
    lags: list[float] = []
    held: list[float] = []

    async def watch() -> None:
        while True:
            began, cpu = time.monotonic(), time.thread_time()
            await asyncio.sleep(LAG_SLEEP_S)
            lags.append(time.monotonic() - began - LAG_SLEEP_S)
            held.append(time.thread_time() - cpu)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    found = await work
    watcher.cancel()
    lags.sort()
    if lags:
        found["lag_p99_ms"] = lags[int(len(lags) * 0.99)] * 1e3
        found["lag_max_ms"] = lags[-1] * 1e3
        held.sort()
        found["held_p99_ms"] = held[int(len(held) * 0.99)] * 1e3
        found["held_max_ms"] = held[-1] * 1e3
    return found


async def penstock(servers: str, count: int, way: str) -> dict[str, float]:
    from penstock import AsyncKafkaProducer

    async with AsyncKafkaProducer(bootstrap_servers=servers, linger_ms=5) as producer:
        await producer.send_and_wait(TOPIC, VALUE)

        async def work() -> dict[str, float]:
            clock = Clock()
            send = producer.send
            if way == "gather":
                for _ in range(0, count, 10_000):
                    await asyncio.gather(*[await send(TOPIC, VALUE) for _ in range(10_000)])
            elif way == "tasks":

                async def part() -> None:
                    for future in [await send(TOPIC, VALUE) for _ in range(count // 16)]:
                        await future

                await asyncio.gather(*(part() for _ in range(16)))
            else:
                for future in [await send(TOPIC, VALUE) for _ in range(count)]:
                    await future
            return clock.read(count)

        return await with_lag(work())


async def aiokafka(servers: str, count: int, way: str) -> dict[str, float]:
    from aiokafka import AIOKafkaProducer

    producer = AIOKafkaProducer(bootstrap_servers=servers, linger_ms=5, acks="all", enable_idempotence=True)
    await producer.start()
    await producer.send_and_wait(TOPIC, VALUE)

    async def work() -> dict[str, float]:
        clock = Clock()
        for future in [await producer.send(TOPIC, VALUE) for _ in range(count)]:
            await future
        return clock.read(count)

    try:
        return await with_lag(work())
    finally:
        await producer.stop()


async def confluent(servers: str, count: int, way: str) -> dict[str, float]:
    from confluent_kafka.aio import AIOProducer

    options = {"bootstrap.servers": servers, "linger.ms": 5, "enable.idempotence": True}
    producer = AIOProducer(options, batch_size=1000, buffer_timeout=0.05)
    await producer.produce(TOPIC, VALUE)
    await producer.flush()

    async def work() -> dict[str, float]:
        clock = Clock()
        futures = [await producer.produce(TOPIC, VALUE) for _ in range(count)]
        await producer.flush()
        for future in futures:
            await future
        return clock.read(count)

    try:
        return await with_lag(work())
    finally:
        await producer.close()


CONTESTANTS: dict[str, tuple[Callable[[str, int, str], Any], int, str]] = {
    "penstock": (penstock, 1_000_000, "each"),
    "penstock gather": (penstock, 1_000_000, "gather"),
    "penstock 16 tasks": (penstock, 1_000_000, "tasks"),
    "aiokafka": (aiokafka, 100_000, "each"),
    "confluent AIOProducer": (confluent, 100_000, "each"),
}


def run_one(name: str, servers: str, loop: str) -> None:
    function, count, way = CONTESTANTS[name]
    if loop == "uvloop":
        import uvloop

        found = uvloop.run(function(servers, count, way))
    else:
        found = asyncio.run(function(servers, count, way))
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--only", help="contestants whose name begins with this")
    parser.add_argument("--servers", help="an address instead of a Kafka of our own")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = [name for name in CONTESTANTS if name.startswith(arguments.only or "")]
    if arguments.one:
        run_one(arguments.one, arguments.servers, arguments.loop)
    elif arguments.servers:
        compare(names, arguments.servers, arguments)
    else:
        from kafka_cluster import KafkaCluster

        with KafkaCluster() as cluster:
            cluster.create_topic(TOPIC, 6, config={"retention.bytes": str(64 << 20), "segment.bytes": str(32 << 20)})
            compare(names, cluster.bootstrap_servers, arguments)


def compare(names: list[str], servers: str, arguments: argparse.Namespace) -> None:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(arguments.rounds):
        for name in names:
            command = [sys.executable, __file__, "--one", name, "--servers", servers, "--loop", arguments.loop]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{arguments.loop}, {arguments.rounds} rounds, medians (lag: the worst round's)")
    print(
        f"{'':24}{'k msg/s':>10}{'CPU µs/msg':>12}{'lag p99 ms':>12}{'lag max ms':>12}{'held p99 ms':>12}{'held max ms':>12}"
    )
    for name, found in runs.items():
        speed, cpu = (statistics.median(run[key] for run in found) for key in ("per_s", "cpu_us"))
        lag = ("lag_p99_ms", "lag_max_ms", "held_p99_ms", "held_max_ms")
        p99, worst, held_p99, held = (max(run.get(key, 0.0) for run in found) for key in lag)
        print(f"{name:24}{speed / 1e3:>10.0f}{cpu:>12.2f}{p99:>12.2f}{worst:>12.2f}{held_p99:>12.2f}{held:>12.2f}")


if __name__ == "__main__":
    main()
