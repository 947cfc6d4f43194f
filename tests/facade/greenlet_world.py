"""gevent or eventlet behind the same names, for the programs of `test_greenlets.py`.

The command line of a program names the library, and when to patch the process (`at`). A program that blocks prints its
stacks and ends.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

LIBRARY, WHEN, *ARGUMENTS = sys.argv[1:]
SOON_S = 20.0
"""A limit for steps of milliseconds."""

faulthandler.dump_traceback_later(30, exit=True)
warnings.filterwarnings("ignore", message=r"\s*Eventlet")  # eventlet's warning about itself

library: Any = None


def at(moment: str) -> None:
    """Patch the process now, if this is the requested moment."""
    global library
    if moment != WHEN:
        return
    if LIBRARY == "gevent":
        import gevent
        from gevent import monkey

        monkey.patch_all()
        library = gevent
    else:
        import eventlet

        eventlet.monkey_patch()
        library = eventlet


def use(*, patch: dict[str, bool] | None = None) -> None:
    """Load the library without patching, or with a part of it."""
    global library
    if LIBRARY == "gevent":
        import gevent
        from gevent import monkey

        if patch is not None:
            monkey.patch_all(**patch)
        library = gevent
    else:
        import eventlet

        if patch is not None:
            eventlet.monkey_patch(all=True, **patch)
        library = eventlet


def spawn(function: Callable[..., Any], *arguments: Any) -> Any:
    return library.spawn(function, *arguments)


def sleep(seconds: float = 0) -> None:
    library.sleep(seconds)


def kill(greenlet: Any) -> None:
    if LIBRARY == "gevent":
        greenlet.kill(block=False)
    else:
        library.kill(greenlet)


def join(greenlets: list[Any]) -> list[Any]:
    """Wait for their ends, and return their results."""
    if LIBRARY == "gevent":
        library.joinall(greenlets, raise_error=True)
        return [greenlet.value for greenlet in greenlets]
    return [greenlet.wait() for greenlet in greenlets]


def within(seconds: float, function: Callable[[], Any]) -> Any:
    """Its result or exception, or "interrupted" after the library's timeout."""
    timeout = library.Timeout(seconds)
    if LIBRARY == "gevent":
        timeout.start()
    try:
        return function()
    except library.Timeout as caught:
        if caught is not timeout:
            raise
        return "interrupted"
    finally:
        timeout.cancel()


def in_hub(function: Callable[[], Any]) -> list[Any]:
    """Call it in the hub's own greenlet, as a signal handler may be; the list gets its result or exception."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    if LIBRARY == "gevent":
        library.get_hub().loop.run_callback(call)
    else:
        from eventlet.hubs import get_hub

        get_hub().schedule_call_global(0, call)
    return outcome


def until(condition: Callable[[], Any], what: str = "") -> None:
    """Let other greenlets run until the condition is true."""
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, what or condition
        sleep(0.001)


def thread_number() -> int:
    """The system's number of this OS thread; the main thread has that of the process."""
    return threading.get_native_id()


def on_main_thread() -> bool:
    return thread_number() == os.getpid()


class Pulse:
    """A greenlet that counts while other greenlets run."""

    def __init__(self) -> None:
        self.count = 0
        spawn(self._beat)

    def _beat(self) -> None:
        while True:
            self.count += 1
            sleep(0.002)

    def beats(self, function: Callable[[], Any]) -> tuple[Any, int]:
        """Its result, and how often this greenlet ran meanwhile."""
        before = self.count
        returned = function()
        return returned, self.count - before
