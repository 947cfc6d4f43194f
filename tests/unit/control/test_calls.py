"""Calls of the application into the controller: each is answered once, also if the control thread fails."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Sequence
from random import Random

import pytest
from control_harness import Bench, Settings

from penstock import _hubs
from penstock.control import boundary
from penstock.control.boundary import EngineFailed, Trouble
from penstock.control.calls import PendingCall
from penstock.control.commands import Call, Command, Event, Reply, Shutdown
from penstock.control.controller import Controller
from penstock.control.peers import Endpoint
from penstock.control.runtime import Runtime

PATIENCE_S = 10


class Engine:
    """One that only waits."""

    def __init__(self) -> None:
        self.events: queue.Queue[boundary.Event | None] = queue.Queue()

    def exchange(self, commands: Sequence[boundary.Command], timeout_ms: int | None) -> list[boundary.Event]:
        event = self.events.get(timeout=PATIENCE_S)
        return [] if event is None else [event]

    def now_ms(self) -> float:
        return 0.0

    def wake(self) -> None:
        self.events.put(None)

    def fail(self, message: str) -> None:
        pass

    def topic_ages(self) -> dict[str, int]:
        return {}


class Later(Controller):
    """Stores calls, and answers them when the test says so."""

    answer = False

    def step(self, events: Sequence[Event], now_ms: float) -> list[Command]:
        self.held = [*getattr(self, "held", []), *(event for event in events if isinstance(event, Call))]
        if not self.answer:
            return []
        held, self.held = self.held, []
        return [Reply(call.handle, Trouble(48, "no transaction is open")) for call in held]

    def next_wakeup_ms(self) -> float | None:
        return None


def make(kind: type[Controller] = Later) -> tuple[Engine, Controller, Runtime]:
    engine = Engine()
    controller = kind(Settings(), [Endpoint("one", 9092)], random=Random(1), now_ms=0, software_version="1")
    return engine, controller, Runtime(engine, controller, resolve=lambda host, port: ("10.0.0.1",))


# ------------------------------------------------------------------------------------------------------ the controller


def test_a_shutdown_is_answered_and_is_the_last_that_is_done() -> None:
    bench = Bench()
    call = PendingCall()
    assert bench.step(Call(Shutdown(), call)) == [Reply(call)]
    assert bench.controller.ended
    assert bench.controller.next_wakeup_ms() is None
    assert bench.step(after_ms=1_000_000) == []


def test_a_failed_engine_ends_the_controller() -> None:
    bench = Bench()
    assert bench.step(EngineFailed("a bug")) == []
    assert bench.controller.ended


# --------------------------------------------------------------------------------------------------------- the runtime


def test_an_answer_that_comes_later_reaches_the_thread_that_waits() -> None:
    engine, controller, runtime = make()
    assert isinstance(controller, Later)
    runtime.start()
    pending = runtime.call(Shutdown())
    assert not _hubs.wait(pending.done, 0.05)
    controller.answer = True
    engine.wake()
    assert _hubs.wait(pending.done, PATIENCE_S)
    assert pending.trouble == Trouble(48, "no transaction is open")
    engine.events.put(EngineFailed("the end of the test"))
    runtime._thread.join(PATIENCE_S)


def test_a_coroutine_can_await_an_answer() -> None:
    engine, controller, runtime = make()
    assert isinstance(controller, Later)
    runtime.start()

    async def call() -> Trouble:
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        pending = runtime.call(Shutdown())
        assert pending.done.add_waiter(lambda: loop.call_soon_threadsafe(answered.set_result, None))
        controller.answer = True
        engine.wake()
        await asyncio.wait_for(answered, PATIENCE_S)
        return pending.trouble

    assert asyncio.run(call()).code == 48
    engine.events.put(EngineFailed("the end of the test"))
    runtime._thread.join(PATIENCE_S)


def test_calls_that_are_not_answered_fail_with_the_control_thread() -> None:
    engine, _, runtime = make()
    runtime.start()
    pending = runtime.call(Shutdown())
    engine.events.put(EngineFailed("a bug"))
    assert _hubs.wait(pending.done, PATIENCE_S)
    assert pending.trouble.message == "the producer is closed"


def test_a_controller_that_raises_fails_the_calls_that_it_has_taken() -> None:
    class Broken(Controller):
        def step(self, events: Sequence[Event], now_ms: float) -> list[Command]:
            if events:
                raise ZeroDivisionError("by design")
            return []

    _, _, runtime = make(Broken)
    runtime.start()
    pending = runtime.call(Shutdown())
    assert _hubs.wait(pending.done, PATIENCE_S)
    assert pending.trouble


@pytest.mark.parametrize("times", [1, 2])
def test_a_call_after_the_end_fails_at_once(times: int) -> None:
    _, _, runtime = make(Controller)
    runtime.start()
    assert runtime.stop(PATIENCE_S)
    for _ in range(times):
        pending = runtime.call(Shutdown())
        assert pending.done.is_set()
        assert pending.trouble


def test_closing_twice_is_closing_once() -> None:
    _, _, runtime = make(Controller)
    runtime.start()
    assert runtime.stop(PATIENCE_S)
    assert runtime.stop(PATIENCE_S)
