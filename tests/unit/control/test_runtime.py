"""The control thread around a controller, with an engine that is a queue."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random

import pytest
from control_harness import Settings

from penstock import errors
from penstock.control import boundary
from penstock.control.boundary import Connect, ConnectionClosed, EngineFailed
from penstock.control.connections import Endpoint
from penstock.control.controller import Controller, Log
from penstock.control.runtime import Runtime, bootstrap_endpoints

PATIENCE_S = 10


class FakeEngine:
    """Commands come out of a queue, events go in by another; time stands still."""

    def __init__(self) -> None:
        self.commands: queue.Queue[boundary.Command] = queue.Queue()
        self.events: queue.Queue[boundary.Event | None] = queue.Queue()
        self.failure: queue.Queue[str] = queue.Queue()

    def exchange(self, commands: Sequence[boundary.Command], timeout_ms: int | None) -> list[boundary.Event]:
        for command in commands:
            self.commands.put(command)
        event = self.events.get(timeout=PATIENCE_S)
        return [] if event is None else [event]

    def now_ms(self) -> float:
        return 0.0

    def wake(self) -> None:
        self.events.put(None)

    def fail(self, message: str) -> None:
        self.failure.put(message)

    def topic_ages(self) -> Mapping[str, int]:
        return {}

    def next(self, kind: type[boundary.Command]) -> boundary.Command:
        while not isinstance(command := self.commands.get(timeout=PATIENCE_S), kind):
            pass
        return command


@contextmanager
def running(resolve: Callable[[str, int], tuple[str, ...]]) -> Iterator[tuple[FakeEngine, Runtime]]:
    engine = FakeEngine()
    controller = Controller(Settings(), [Endpoint("one", 9092)], random=Random(1), now_ms=0, software_version="1")
    runtime = Runtime(engine, controller, resolve=resolve)
    runtime.start()
    try:
        yield engine, runtime
    finally:
        assert runtime.stop(PATIENCE_S)


def test_names_are_looked_up_on_another_thread() -> None:
    threads: list[str] = []

    def resolve(host: str, port: int) -> tuple[str, ...]:
        threads.append(threading.current_thread().name)
        return ("10.0.0.1",)

    with running(resolve) as (engine, _):
        connect = engine.next(Connect)
        assert isinstance(connect, Connect)
        assert connect.ip == "10.0.0.1"
    assert threads == ["penstock-resolver"]


def test_a_failing_look_up_is_an_answer_too() -> None:
    def resolve(host: str, port: int) -> tuple[str, ...]:
        raise OSError(-2, "Name or service not known")

    with running(resolve) as (engine, _):
        status = engine.next(boundary.SetStatus)
        assert isinstance(status, boundary.SetStatus)
        assert "one:9092: Name or service not known" in status.message


def test_log_handlers_run_on_another_thread() -> None:
    said: queue.Queue[tuple[str, str]] = queue.Queue()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.put((threading.current_thread().name, record.getMessage()))

    handler = Handler()
    logger = logging.getLogger("penstock.control")
    logger.addHandler(handler)
    try:
        with running(lambda host, port: ("10.0.0.1", "10.0.0.2")) as (engine, _):
            for ip in ("10.0.0.1", "10.0.0.2"):
                connect = engine.next(Connect)
                assert isinstance(connect, Connect)
                engine.events.put(ConnectionClosed(connect.connection_id, -1, "connecting", "refused", False, False))
                assert said.get(timeout=PATIENCE_S) == ("penstock-log", f"one:9092 ({ip}:9092): refused")
    finally:
        logger.removeHandler(handler)


def test_the_same_trouble_is_logged_once_and_then_counted() -> None:
    engine, said = FakeEngine(), list[str]()
    times = iter([0.0, 10.0, 20.0, 10_000.0])
    engine.now_ms = lambda: next(times)  # type: ignore[method-assign]
    controller = Controller(Settings(), [Endpoint("one", 9092)], random=Random(1), now_ms=0, software_version="1")
    runtime = Runtime(engine, controller)
    runtime._logger.submit = lambda job: said.append("line")  # type: ignore[method-assign]
    for _ in range(4):
        runtime._log(Log(logging.WARNING, "one", "refused"))
    assert len(said) == 2


def test_a_controller_that_raises_fails_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Controller):
        def step(self, events: Sequence[object], now_ms: float) -> list[object]:  # type: ignore[override]
            raise ZeroDivisionError("by design")

    engine = FakeEngine()
    controller = Broken(Settings(), [Endpoint("one", 9092)], random=Random(1), now_ms=0, software_version="1")
    runtime = Runtime(engine, controller)
    runtime.start()
    assert "ZeroDivisionError: by design" in engine.failure.get(timeout=PATIENCE_S)
    assert runtime.stop(PATIENCE_S)
    assert "by design" in caplog.text


def test_the_thread_ends_with_the_engine() -> None:
    with running(lambda host, port: ("10.0.0.1",)) as (engine, runtime):
        engine.events.put(EngineFailed("a bug"))
        runtime._thread.join(PATIENCE_S)
        assert not runtime.alive


def test_bootstrap_servers_must_resolve_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(host: str, port: int) -> tuple[str, ...]:
        if host == "good":
            return ("10.0.0.1",)
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("penstock.control.runtime.look_up", look_up)
    assert bootstrap_endpoints(Settings(bootstrap_servers=("bad:1", "good:2"))) == [Endpoint("good", 2)]
    with pytest.raises(errors.ConfigError, match=r"bad:1: Name or service not known; worse:2: Name"):
        bootstrap_endpoints(Settings(bootstrap_servers=("bad:1", "worse:2")))
    later = Settings(bootstrap_servers=("bad:1",), bootstrap_resolve_timeout_ms=1)
    assert bootstrap_endpoints(later) == [Endpoint("bad", 1)]


def test_canonical_names_replace_bootstrap_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.control.runtime.look_up", lambda host, port: ("10.0.0.1", "10.0.0.2"))
    monkeypatch.setattr("socket.gethostbyaddr", lambda address: (f"node-{address[-1]}", [], [address]))
    settings = Settings(client_dns_lookup="resolve_canonical_bootstrap_servers_only")
    assert bootstrap_endpoints(settings) == [Endpoint("node-1", 9092), Endpoint("node-2", 9092)]
