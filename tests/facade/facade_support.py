"""Helpers of the facade's tests beside fixtures: reading the log, scripts in a separate process, a closed port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from penstock import KafkaProducer
from penstock._native import ArrowRecords
from penstock._reader import ConsumedRecord, Reader
from penstock.devbroker import RunningCluster

SOON_S = 20.0
"""A limit for steps of milliseconds: a test reaches it only if something never happens."""


ArrowRow = tuple[bytes | None, bytes | None, int | None, int | None, tuple[tuple[str, bytes | None], ...]]
"""Value, key, partition, timestamp, headers."""


class MakeTopic(Protocol):
    def __call__(self, partitions: int = 1, **configs: str) -> str: ...


class MakeProducer(Protocol):
    def __call__(self, **options: object) -> KafkaProducer[Any, Any]: ...


class Log:
    """The content of the cluster's log, from the beginning to the current end."""

    def __init__(self, cluster: RunningCluster) -> None:
        self._cluster = cluster

    def records(self, topic: str) -> list[ConsumedRecord]:
        with Reader(self._cluster.bootstrap_servers, topic, until_end=True) as reader:
            return list(reader)

    def values(self, topic: str) -> list[bytes | None]:
        return [record.value for record in self.records(topic)]

    def by_partition(self, topic: str) -> dict[int, list[bytes | None]]:
        found: dict[int, list[bytes | None]] = {}
        for record in self.records(topic):
            found.setdefault(record.partition, []).append(record.value)
        return found

    def count(self, topic: str) -> int:
        return sum(self._cluster.end_offsets(topic).values())


def arrow_records(data: Any, **columns: Any) -> list[ArrowRow]:
    """The records that `send_arrow` would send."""
    chunks = ArrowRecords(data, **columns)
    return [row for chunk in iter(chunks.take, []) for row in chunk]


def numbered(count: int, prefix: str = "") -> list[bytes]:
    """`count` distinct values in order."""
    return [f"{prefix}{number}".encode() for number in range(count)]


@contextmanager
def closed_port() -> Iterator[str]:
    """The address of a port without a listener; it stays reserved meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


class Gate:
    """A callback that blocks until it is opened, so that a test decides when the callback thread continues."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, *_: object) -> None:
        self.entered.set()
        assert self.open.wait(SOON_S)


def eventually(condition: Callable[[], object]) -> None:
    """Return once the condition is true."""
    pause = threading.Event()
    for _ in range(int(SOON_S * 100)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("the condition stays false")


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run it in a thread; the list gets its result or exception."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def start_script(code: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a Python process that runs `code` with `sys.argv[1:] == arguments`."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code), *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 40.0) -> tuple[int, str, str]:
    """Its exit status, stdout and stderr; killed if it does not end in time."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the process did not end within {timeout_s} s: {out}{err}") from None
    return process.returncode, out, err


def run_script(code: str, *arguments: str, options: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run it to its end."""
    return finish(start_script(code, *arguments, options=options))


def threads_of_penstock() -> set[str]:
    """Names of the client's threads that Python lists."""
    return {
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("penstock-") and thread.name != "penstock-devbroker"
    }
