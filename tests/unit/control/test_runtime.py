"""The control thread around a controller, with an engine that is a queue."""

from __future__ import annotations

import collections
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
from penstock.control.commands import Log, Resolve, Resolved
from penstock.control.controller import Controller
from penstock.control.peers import Endpoint
from penstock.control.runtime import RESOLVER_THREADS, Resolver, Runtime, bootstrap_endpoints

PATIENCE_S = 10


class FakeEngine:
    """Commands come out of a queue, events go in by another; the time does not change."""

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


class LookUps:
    """A resolver's function that waits in each call until the test answers it."""

    def __init__(self) -> None:
        self.asked: queue.Queue[str] = queue.Queue()
        self.gates = collections.defaultdict[str, threading.Semaphore](lambda: threading.Semaphore(0))
        self.answers: queue.Queue[Resolved] = queue.Queue()
        self.resolver = Resolver(self, self.answers.put)

    def __call__(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.put(host)
        assert self.gates[host].acquire(timeout=PATIENCE_S)
        return (f"address of {host}",)

    def ask(self, host: str, port: int = 9092) -> None:
        self.resolver.submit(Resolve(host, port))

    def running(self) -> str:
        return self.asked.get(timeout=PATIENCE_S)

    def answer(self, host: str) -> Resolved:
        self.gates[host].release()
        return self.answers.get(timeout=PATIENCE_S)


def test_a_look_up_that_hangs_does_not_hold_up_the_others() -> None:
    names = LookUps()
    names.ask("hanging")
    assert names.running() == "hanging"
    for host in ("a", "b", "c"):
        names.ask(host)
        assert names.running() == host
        assert names.answer(host) == Resolved(host, 9092, (f"address of {host}",), "")
    names.resolver.stop()
    names.answer("hanging")


def test_one_host_is_looked_up_once_at_a_time_for_all_its_ports() -> None:
    names = LookUps()
    for port in (9092, 9093, 9092):
        names.ask("one", port)
    assert names.running() == "one"
    assert {names.answer("one").port, names.answers.get(timeout=PATIENCE_S).port} == {9092, 9093}
    assert names.asked.empty()
    names.ask("one")
    assert names.running() == "one", "after the answer it is looked up again"
    names.answer("one")
    names.resolver.stop()


def test_look_ups_at_once_are_limited_and_all_are_done() -> None:
    names = LookUps()
    hosts = [f"host {number}" for number in range(3 * RESOLVER_THREADS)]
    for host in hosts:
        names.ask(host)
    served = []
    running = {names.running() for _ in range(RESOLVER_THREADS)}
    while running:
        assert names.asked.empty()
        served.append(names.answer(running.pop()).host)
        if len(served) + len(running) < len(hosts):
            running.add(names.running())
    assert sorted(served) == sorted(hosts)
    names.resolver.stop()


def test_the_resolvers_threads_end_with_it() -> None:
    names = LookUps()
    before = threading.active_count()
    for host in ("a", "b"):
        names.ask(host)
        names.running()
    mine = [thread for thread in threading.enumerate() if thread.name == "penstock-resolver"]
    names.resolver.stop()
    names.answer("a")
    names.answer("b")
    for thread in mine:
        thread.join(PATIENCE_S)
    assert threading.active_count() <= before


def test_a_failed_look_up_is_an_answer_too() -> None:
    def resolve(host: str, port: int) -> tuple[str, ...]:
        raise OSError(-2, "Name or service not known")

    with running(resolve) as (engine, _):
        # Before that the status is that the look-up is running; the wait has a limit of its own.
        while True:
            status = engine.next(boundary.SetStatus)
            assert isinstance(status, boundary.SetStatus)
            if "one:9092: Name or service not known" in status.trouble.message:
                break


def test_log_handlers_run_on_another_thread() -> None:
    lines: queue.Queue[tuple[str, str]] = queue.Queue()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.put((threading.current_thread().name, record.getMessage()))

    handler = Handler()
    logger = logging.getLogger("penstock.control")
    logger.addHandler(handler)
    try:
        with running(lambda host, port: ("10.0.0.1", "10.0.0.2")) as (engine, _):
            for ip in ("10.0.0.1", "10.0.0.2"):
                connect = engine.next(Connect)
                assert isinstance(connect, Connect)
                engine.events.put(ConnectionClosed(connect.connection_id, "refused", False, False, False))
                assert lines.get(timeout=PATIENCE_S) == ("penstock-log", f"one:9092 ({ip}:9092): refused")
    finally:
        logger.removeHandler(handler)


def test_the_same_error_is_logged_once_and_then_counted() -> None:
    engine, lines = FakeEngine(), list[str]()
    times = iter([0.0, 10.0, 20.0, 10_000.0])
    engine.now_ms = lambda: next(times)  # type: ignore[method-assign]
    controller = Controller(Settings(), [Endpoint("one", 9092)], random=Random(1), now_ms=0, software_version="1")
    runtime = Runtime(engine, controller)
    runtime._logger.submit = lambda job: lines.append("line")  # type: ignore[method-assign]
    for _ in range(4):
        runtime._log(Log(logging.WARNING, "one", "refused"))
    assert len(lines) == 2


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
