"""OS threads, and what they share, whatever was done to the standard library.

gevent and eventlet replace `threading.Thread`, locks and queues in place (monkey patching), before this package is imported,
after it, or while a producer runs. A "thread" is then a greenlet: one that waits in native code stops all the others. Our
threads do little but wait natively, so they have to be real ones. `threading` and `_thread` cannot be trusted for that, and
neither can what `threading` is built on. Hence a second copy of the built-in module `_thread`, of which nobody else knows.

A lock of this module stops the whole OS thread, greenlets included. It may only be held where nothing can switch: no
logging, no callbacks, nothing of the user's.
"""

from __future__ import annotations

import _thread as _public  # may have been replaced by now, or be replaced later
import sys
import threading
from collections.abc import Callable
from importlib.machinery import BuiltinImporter
from types import ModuleType
from typing import Any, Final


def _own_copy() -> ModuleType:
    spec = BuiltinImporter.find_spec("_thread")
    module = None if spec is None else BuiltinImporter.create_module(spec)
    if module is None:
        return _public
    BuiltinImporter.exec_module(module)
    return module


_native: Final[Any] = _own_copy()
_GREEN: Final = ("gevent", "eventlet")

Lock: Final[Callable[[], threading.Lock]] = _native.allocate_lock
"""A new lock."""
RLock: Final[Callable[[], Any]] = _native.RLock
"""One that the OS thread that holds it may take again, from a destructor or a signal handler."""
Local: Final[Callable[[], Any]] = _native._local
"""As `threading.local`: of the OS thread, not of a greenlet."""
ident: Final[Callable[[], int]] = _native.get_ident
"""The number of the OS thread."""


def patched_by() -> str | None:
    """Who turns `threading.Thread` into greenlets in this process: "gevent", "eventlet" or nobody."""
    library = str(getattr(_public.start_new_thread, "__module__", "")).partition(".")[0]
    return library if library in _GREEN else None


def is_green(function: object) -> bool:
    """Whether it is one of those that gevent or eventlet put in the place of another."""
    return str(getattr(function, "__module__", "")).partition(".")[0] in _GREEN


def caller() -> tuple[int, int]:
    """Who calls: the OS thread, and the greenlet, if there are any."""
    return ident(), id(current_greenlet())


def current_greenlet() -> Any:
    """The present greenlet; None in a process without any."""
    find = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    return None if find is None else find()


def on_main_thread() -> bool:
    """Whether this is the OS thread that runs the program."""
    try:
        return bool(threading.main_thread().native_id == _native.get_native_id())
    except AttributeError:  # a platform without such numbers
        return False


class Event:
    """Set once, by any thread. `wait` stops the OS thread: see `penstock._hubs.wait` for greenlets."""

    def __init__(self) -> None:
        """Not set."""
        self._lock = Lock()
        self._is_set = False
        self._waiters: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """End all waits, and those to come."""
        with self._lock:
            self._is_set = True
            waiters, self._waiters = self._waiters, []
        for tell in waiters:
            tell()

    def tell(self, waiter: Callable[[], object]) -> bool:
        """Have `waiter()` called once it is set, on the thread that sets it. False: it is set already."""
        with self._lock:
            if not self._is_set:
                self._waiters.append(waiter)
            return not self._is_set

    def forget(self, waiter: Callable[[], object]) -> None:
        """It need not be told any more."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds (None: without limit); whether it is set."""
        mine = Lock()
        mine.acquire()
        release = mine.release
        if self.tell(release):
            try:
                mine.acquire(True, -1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))
            finally:
                self.forget(release)
        return self._is_set


class OsThread:
    """A daemon thread of ours.

    Where `threading` is as it should be, it is one of its threads, with its name in `threading.enumerate()`. Otherwise
    `threading` does not know it.
    """

    def __init__(self, target: Callable[[], object], name: str) -> None:
        """Nothing runs before `start`."""
        self.name: Final = name
        self.ended: Final = Event()
        self._target: Callable[[], object] | None = target
        self._ident: int | None = None
        self._started = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it; once. Raises `RuntimeError` where there can be no more threads, at the interpreter's exit for one."""
        self._started = True
        try:
            if patched_by() is not None:
                _native.start_new_thread(self._run, ())
            else:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
        except BaseException:
            self._started = False
            raise

    def is_alive(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._started and not self.ended.is_set()

    def is_current(self) -> bool:
        """Whether the caller runs on it."""
        return self._ident == ident()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, up to `timeout` seconds. Stops the OS thread."""
        if self.ended.wait(timeout) and self._thread is not None and patched_by() is None:
            self._thread.join(timeout)

    def _run(self) -> None:
        target, self._target = self._target, None  # a bound method: together they would be a cycle
        self._ident = ident()
        try:
            if target is not None:
                target()
        finally:
            del target
            if self._thread is not None and patched_by() is not None:
                self._leave_threading(self._thread)
            self.ended.set()

    @staticmethod
    def _leave_threading(thread: threading.Thread) -> None:
        """The process was patched while this thread ran: `threading` has other numbers for threads now."""
        # It will look for this thread under the new number, and raise if nothing is there.
        active: dict[int | None, threading.Thread] = getattr(threading, "_active", {})
        if active.get(thread.ident) is thread:
            active.pop(thread.ident)
        active[threading.get_ident()] = thread
