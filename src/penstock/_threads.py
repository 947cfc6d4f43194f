"""OS threads, locks and events that monkey patching of the standard library does not replace.

gevent and eventlet replace `threading.Thread`, locks and queues in place (monkey patching): before this package is
imported, after it, or while a producer runs. A "thread" is then a greenlet, and a greenlet that waits in native code
stops all others of its OS thread. Our threads mostly wait in native code, so they have to be OS threads. `threading` and
`_thread` may be patched, so this module makes a second copy of the built-in module `_thread`, which no library patches.

A lock of this module stops the whole OS thread with all its greenlets. Hold it only where no greenlet can switch: no
logging, no callbacks, no code of the user's.
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
"""A new reentrant lock: its holder may acquire it again, from a destructor or a signal handler."""
Local: Final[Callable[[], Any]] = _native._local
"""As `threading.local`, but always per OS thread, never per greenlet."""
ident: Final[Callable[[], int]] = _native.get_ident
"""The number of the OS thread."""


def patched_by() -> str | None:
    """The library that makes `threading.Thread` a greenlet in this process: "gevent", "eventlet" or None."""
    library = str(getattr(_public.start_new_thread, "__module__", "")).partition(".")[0]
    return library if library in _GREEN else None


def is_green(function: object) -> bool:
    """Whether gevent or eventlet has put this function in the place of another one."""
    return str(getattr(function, "__module__", "")).partition(".")[0] in _GREEN


def caller() -> tuple[int, int]:
    """The caller's identity: its OS thread, and its greenlet if it is one."""
    return ident(), id(current_greenlet())


def current_greenlet() -> Any:
    """The current greenlet; None in a process without greenlets."""
    find = getattr(sys.modules.get("greenlet"), "getcurrent", None)
    return None if find is None else find()


def on_main_thread() -> bool:
    """Whether this is the main OS thread of the process."""
    try:
        return bool(threading.main_thread().native_id == _native.get_native_id())
    except AttributeError:  # a platform without native thread ids
        return False


class Event:
    """An event that any thread sets, once. `wait` stops the OS thread; greenlets use `penstock._hubs.wait`."""

    def __init__(self) -> None:
        """Not set."""
        self._lock = Lock()
        self._is_set = False
        self._waiters: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """End all present and later waits."""
        with self._lock:
            self._is_set = True
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter()

    def add_waiter(self, waiter: Callable[[], object]) -> bool:
        """Have `waiter()` called when the event is set, by the thread that sets it. False: it is set already."""
        with self._lock:
            if not self._is_set:
                self._waiters.append(waiter)
            return not self._is_set

    def remove_waiter(self, waiter: Callable[[], object]) -> None:
        """Do not call `waiter` any more."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds (None: without limit); whether it is set."""
        mine = Lock()
        mine.acquire()
        release = mine.release
        if self.add_waiter(release):
            try:
                mine.acquire(True, -1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX))
            finally:
                self.remove_waiter(release)
        return self._is_set


class OsThread:
    """A daemon thread of Penstock's.

    If `threading` is not patched, it is a `threading.Thread`, listed in `threading.enumerate()` with its name. Otherwise
    `threading` does not list it.
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
        """Start it; once.

        Raises:
            RuntimeError: no thread can be started, for example at interpreter shutdown.
        """
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
        """Whether it is started and has not ended."""
        return self._started and not self.ended.is_set()

    def is_current(self) -> bool:
        """Whether the caller runs on this thread."""
        return self._ident == ident()

    def join(self, timeout: float | None = None) -> None:
        """Wait up to `timeout` seconds for its end. The wait stops the OS thread."""
        if self.ended.wait(timeout) and self._thread is not None and patched_by() is None:
            self._thread.join(timeout)

    def _run(self) -> None:
        target, self._target = (
            self._target,
            None,
        )  # a bound method of its owner: keeping it would make a reference cycle
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
        """Correct the entry of this thread in `threading`; the process was patched while the thread ran.

        `threading` now has other numbers for threads. It removes an ended thread by the new number, and raises if that
        number has no entry.
        """
        active: dict[int | None, threading.Thread] = getattr(threading, "_active", {})
        if active.get(thread.ident) is thread:
            active.pop(thread.ident)
        active[threading.get_ident()] = thread
