"""Producers used by destructors, `weakref.finalize` and `atexit` during the interpreter's shutdown: they raise a clear error
at once, without a hang, a crash, or a traceback that is not the application's."""

from __future__ import annotations

import pytest
from facade_support import Log, MakeTopic, run_script

from penstock.devbroker import RunningCluster

# Written by `os.write`, which the class holds: during shutdown `print` and module globals may be gone.
PRELUDE = """
import sys
from penstock import KafkaProducer, AsyncKafkaProducer, as_completed, wait

servers, topic, place, end = sys.argv[1:]


class Late:
    "Uses the producer when it is dropped."

    def __init__(self, producer, calls):
        import os

        self.producer, self.calls, self.write = producer, calls, os.write

    def __del__(self):
        for name, call in self.calls.items():
            try:
                report = f"{call(self.producer)!r}"
            except Exception as error:
                report = f"{type(error).__name__}: {error}"
            self.write(1, f"{name} | {report}\\n".encode())


def made(facade):
    return lambda _: facade(bootstrap_servers=servers)


producer = KafkaProducer(bootstrap_servers=servers)
sent = producer.send(topic, b"value")
sent.result(20)
calls = {
    "send": lambda it: it.send(topic, b"late"),
    "send to a topic that is not known": lambda it: it.send("not-known", b"late"),
    "send_many": lambda it: it.send_many(topic, [b"late"]),
    "partitions_for": lambda it: it.partitions_for(topic),
    "flush": lambda it: it.flush(),
    "flush with a timeout": lambda it: it.flush(5),
    "close": lambda it: it.close(),
    "close with a timeout": lambda it: it.close(5),
    "metrics": lambda it: bool(it.metrics()),
    "repr": lambda it: repr(it).endswith("closed>"),
    "result": lambda _: sent.result().offset,
    "result with a timeout": lambda _: sent.result(5).offset,
    "wait": lambda _: len(wait([sent]).done),
    "as_completed": lambda _: len(list(as_completed([sent]))),
    "a new one": made(KafkaProducer),
    "a new one of asyncio": made(AsyncKafkaProducer),
}
"""

PLACES = {
    "a global": "late = Late(producer, calls)",
    "a module that is kept": """
import types
kept = types.ModuleType("kept")
kept.late, kept.itself = Late(producer, calls), kept
sys.modules["kept"] = kept
""",
    "builtins": "import builtins; builtins.late = Late(producer, calls)",
    "a cycle": "import gc; gc.disable(); late = [Late(producer, calls)]; late.append(late); del late",
}

CLOSED = "ProducerClosedError: the producer is closed, because the interpreter is exiting. "
TOO_LATE = "KafkaError: no producer can be made while the interpreter ends: its threads would not run"
EXPECTED = {
    "send": CLOSED,
    "send to a topic that is not known": CLOSED,
    "send_many": CLOSED,
    "partitions_for": CLOSED,
    "flush": "None",
    "flush with a timeout": "None",
    "close": "None",
    "close with a timeout": "None",
    "metrics": "True",
    "repr": "True",
    "result": "0",
    "result with a timeout": "0",
    "wait": "1",
    "as_completed": "1",
    "a new one": TOO_LATE,
    "a new one of asyncio": TOO_LATE,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("end", ["", "producer.close()"])
def test_a_destructor_during_shutdown(cluster: RunningCluster, topic: str, place: str, end: str) -> None:
    program = PRELUDE + PLACES[place] + f"\n{end}"
    code, out, err = run_script(program, cluster.bootstrap_servers, topic, place, end)
    assert (code, err) == (0, "")
    report = dict(line.split(" | ") for line in out.splitlines())
    assert list(report) == list(EXPECTED)
    for name, what in EXPECTED.items():
        assert report[name].startswith(what), (name, report[name])


def test_a_destructor_of_an_asyncio_producers_owner(cluster: RunningCluster, topic: str) -> None:
    program = (
        PRELUDE
        + """
import asyncio
asyncio.run(asyncio.sleep(0))  # asyncio's late imports
producer = AsyncKafkaProducer(bootstrap_servers=servers)

def awaited(method):
    return lambda it: asyncio.run(method(it))

late = Late(producer, {
    "send": awaited(lambda it: it.send_and_wait(topic, b"late")),
    "send_many": awaited(lambda it: it.send_many(topic, [b"late"])),
    "flush": awaited(lambda it: it.flush()),
    "close": awaited(lambda it: it.close()),
    "close again": awaited(lambda it: it.close(1)),
})
"""
    )
    code, out, err = run_script(program, cluster.bootstrap_servers, topic, "", "")
    assert (code, err) == (0, "")
    report = [line.split(" | ") for line in out.splitlines()]
    assert [(name, what[: len(CLOSED)]) for name, what in report] == [
        ("send", CLOSED), ("send_many", CLOSED), ("flush", "None"), ("close", "None"), ("close again", "None"),
    ]  # fmt: skip


def test_a_done_callback_that_raises_in_a_destructor(cluster: RunningCluster, topic: str) -> None:
    program = PRELUDE + 'late = Late(producer, {"add": lambda _: sent.add_done_callback(lambda _: 1 / 0)})'
    code, out, err = run_script(program, cluster.bootstrap_servers, topic, "", "")
    assert (code, out) == (0, "add | None\n")
    assert "ZeroDivisionError" in err
    assert "Logging error" not in err


def test_daemon_threads_that_send_while_a_destructor_does(cluster: RunningCluster, topic: str) -> None:
    program = (
        PRELUDE
        + """
import threading
def run():
    while True:
        try:
            producer.send(topic, b"value", callback=lambda *_: None)
        except Exception:
            pass
for _ in range(4):
    threading.Thread(target=run, daemon=True).start()
import builtins
builtins.late = Late(producer, calls)  # the threads keep this module's globals
"""
    )
    code, out, err = run_script(program, cluster.bootstrap_servers, topic, "", "")
    assert (code, err) == (0, "")
    assert [line.split(" | ")[0] for line in out.splitlines()] == list(EXPECTED)


def test_a_callback_that_never_ends_and_a_flush_behind_it(cluster: RunningCluster, topic: str) -> None:
    """The exit stops waiting after a second; a later flush must not wait for callbacks that will not run."""
    program = (
        PRELUDE
        + """
import threading
producer.close()
producer = KafkaProducer(bootstrap_servers=servers, delivery_timeout_ms=1_000, request_timeout_ms=900, linger_ms=0)
entered = threading.Event()
def never(*_):
    entered.set()
    threading.Event().wait()
producer.send(topic, b"value", callback=never)
entered.wait(20)
producer.send(topic, b"value", callback=never)
import builtins
builtins.late = Late(producer, {"flush": lambda it: it.flush()})
"""
    )
    code, out, err = run_script(program, cluster.bootstrap_servers, topic, "", "")
    assert (code, out, err) == (0, "flush | None\n", "")


def test_callbacks_of_atexit_and_finalize_on_either_side_of_ours(
    cluster: RunningCluster, topic: str, new_topic: MakeTopic, log: Log
) -> None:
    """Callbacks registered before the import of Penstock run after ours: a producer from before is closed then, and one
    that is created there works; if it is left open, it is drained."""
    other = new_topic()
    code, out, err = run_script(
        """
        import atexit, sys, weakref

        class Held:
            pass

        def after():
            try:
                producer.send(sys.argv[2], b"after")
            except Exception as error:
                print(f"{type(error).__name__}: {error}")
            global late
            try:
                late = KafkaProducer(bootstrap_servers=sys.argv[1], linger_ms=60_000)
            except Exception as error:
                print(f"no new one: {type(error).__name__}: {error}")  # CPython 3.12 starts no threads then
            else:
                late.send(sys.argv[3], b"late")

        def before():
            producer.send(sys.argv[2], b"before")

        held = Held()
        atexit.register(after)
        from penstock import KafkaProducer
        producer = KafkaProducer(bootstrap_servers=sys.argv[1], linger_ms=60_000)
        atexit.register(before)
        weakref.finalize(held, lambda: producer.send(sys.argv[2], b"finalize"))
        """,
        cluster.bootstrap_servers,
        topic,
        other,
    )
    assert (code, err) == (0, "")
    first, *more = out.splitlines()
    assert first.startswith(CLOSED)
    assert sorted(log.values(topic)) == [b"before", b"finalize"]  # type: ignore[type-var]
    if more:
        assert more == [
            "no new one: KafkaError: the producer's threads could not be started: can't create new thread at interpreter "
            "shutdown"
        ]
    else:
        assert log.values(other) == [b"late"]
