"""The life of one producer's threads, for both facades: start, flush, close, interpreter shutdown, fork.

A producer has three threads: ``penstock-io`` (native, never takes the GIL), ``penstock-control`` (decisions) and
``penstock-callbacks`` (the user's code). The last two are daemons. They still run during `atexit`, so a producer that
is still open is drained there.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat
from typing import Any, Final, TypeAlias

from penstock import _hubs, _native, _threads
from penstock._log import handling, log_line, subject_of
from penstock._native import EndOfPython, Engine, timeout_s
from penstock._threads import OsThread
from penstock.control.runtime import Runtime
from penstock.errors import DeliveryError, KafkaError, KafkaTimeoutError

Calls: TypeAlias = tuple[list[Callable[..., object]], list[Any], list[Any]]
"""Callbacks as the engine returns them: functions, first arguments, second arguments; see `one_by_one`."""

_logger: Final = logging.getLogger("penstock.producer")

_RAISED: Final = "a callback raised: %r"

EXIT_DRAIN_S: Final = 10.0
"""At exit an open producer is drained for this many seconds at most, or delivery.timeout.ms if that is less."""
_FIRST_ERRORS: Final = 5
_JOIN_S: Final = 5.0
_LAST_CALLBACK_S: Final = 1.0
_LAST_LINES_S: Final = 1.0
"""A flush waits this long for the log lines about its callbacks. The limit avoids a deadlock: a log handler may be
waiting for this flush."""

_open: set[Lifecycle] = set()
_registry_lock = _threads.RLock()  # reentrant: a destructor or a signal handler may interrupt its holder


class Lifecycle:
    """Engine, control thread and callback thread of one producer."""

    def __init__(self, engine: Engine, runtime: Runtime, *, name: str, delivery_timeout_ms: int) -> None:
        """Nothing runs before `start`."""
        self.engine = engine
        self.runtime = runtime
        self.name = name
        self._drain_s = min(delivery_timeout_ms / 1000, EXIT_DRAIN_S)
        self._callbacks = OsThread(self._run_callbacks, "penstock-callbacks")
        self._closing = _threads.Lock()
        self._closed = False
        self._closer: tuple[int, int] | None = None
        self._ended = _threads.Event()
        self._abandoned = False
        self._raised = False
        """Whether a callback has raised since the last flush, which then waits for the log line about it."""

    def start(self) -> None:
        """Start the three threads.

        Raises:
            KafkaError: no thread can be started: the interpreter shuts down, or a limit of the system is reached.
        """
        try:
            self.engine.start()
            self._callbacks.start()
            self.runtime.start()
        except RuntimeError as error:
            self.engine.stop()
            raise KafkaError(f"the producer's threads could not be started: {error}", cause=error) from error
        with _registry_lock:
            _open.add(self)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    @property
    def ended(self) -> bool:
        """Whether `close` has finished."""
        return self._ended.is_set()

    def flush(self, timeout: float | None) -> None:
        """Deliver all buffered records; see `KafkaProducer.flush`."""
        timeout = timeout_s(timeout)
        if _hubs.in_callback():
            raise KafkaError(
                "flush() inside a callback would wait for that callback itself; call it from another thread"
                " (Java: KafkaProducer.flush, since 4.1)"
            )
        left = _hubs.flush(self.engine, timeout)
        if left:
            raise out_of_time(timeout, left)
        if self._raised:
            self._raised = False
            self.runtime.settle_log(_LAST_LINES_S if timeout is None else min(timeout, _LAST_LINES_S))
        self.raise_unnoticed()

    def raise_unnoticed(self) -> None:
        """Raise `DeliveryError` if records failed that had no callback, and whose future was not read."""
        count, errors = self.engine.take_unnoticed(_FIRST_ERRORS)
        if count:
            raise DeliveryError(count=count, errors=errors)

    def close(self, timeout: float | None, *, wait: bool = True) -> None:
        """Refuse sends, drain for up to `timeout` seconds, fail the rest, end the threads.

        A second call waits for the first one. It does not wait in a callback, nor in a signal handler that interrupted
        the first one.
        """
        timeout = timeout_s(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        in_callback = _hubs.in_callback()
        # Where a hub runs, another thread does the work: a second call cannot have interrupted it.
        closer = _threads.caller() if _hubs.here() is None else None
        with self._closing:
            first = not self._closed
            if first:
                self._closed, self._closer = True, closer
        if not first:
            if not in_callback and not _hubs.in_hub() and self._closer != _threads.caller():
                _hubs.wait(self._ended, timeout)
            return
        # The hub's own greenlet must not wait for callbacks, as a callback must not: they may need the hub to finish.
        alone, quiet = in_callback or _hubs.in_hub(), handling()
        drain = partial(self._drain, timeout, deadline, wait=wait and not in_callback, alone=alone, quiet=quiet)
        _hubs.run(drain, "penstock-close")

    def _drain(self, timeout: float | None, deadline: float | None, *, wait: bool, alone: bool, quiet: bool) -> None:
        left = 0
        try:
            self.engine.refuse_sends()
            # Inside a callback no other callback can run: waiting for them would be a deadlock.
            if wait:
                left = self.engine.flush(timeout, callbacks=False)
        finally:
            self._end(deadline, alone=alone, quiet=quiet, left_behind=left)

    def _end(self, deadline: float | None, *, alone: bool, quiet: bool, left_behind: int) -> None:
        try:
            self.engine.stop()
            self.runtime.stop(_JOIN_S)
            if not alone and self._callbacks.is_alive():
                self._callbacks.join(None if deadline is None else max(deadline - time.monotonic(), 0.1))
        finally:
            self._ended.set()  # other threads may be waiting in `close`
        if not self._callbacks.is_alive():
            self._forget()
        self.runtime.settle_log(_LAST_LINES_S)
        # Last, because a log handler may be slow.
        if left_behind > 0 and not quiet:
            self._log(logging.WARNING, "%s was closed with %s not acknowledged", self.name, _records(left_behind))
        count, errors = self.engine.take_unnoticed(_FIRST_ERRORS)
        if count and not quiet:
            self._log(logging.ERROR, "%s: %s", self.name, DeliveryError(count=count, errors=errors))

    @staticmethod
    def _log(level: int, message: str, *arguments: object) -> None:
        # `close` may run on one of our threads.
        _hubs.call(lambda: log_line(_logger, level, message, *arguments))

    def abandon(self) -> None:
        """The facade was dropped without `close`: drain in the background, so that no destructor waits."""
        if self._closed or self.engine.is_foreign():
            return
        thread = OsThread(partial(self.close, self._drain_s), "penstock-abandoned")
        with contextlib.suppress(RuntimeError):  # the interpreter shuts down, and `atexit` drains the producer
            thread.start()

    def at_exit(self) -> None:
        """Drain; `close` logs how many records were not delivered."""
        if not self.engine.is_foreign():
            self.close(self._drain_s)
            # Queued callbacks are not run any more; a running one has _LAST_CALLBACK_S to return.
            self._abandoned = True
            self.engine.abandon_callbacks()
            _hubs.join(self._callbacks, _LAST_CALLBACK_S)

    def _forget(self) -> None:
        with _registry_lock:
            _open.discard(self)

    def _run_callbacks(self) -> None:
        try:
            while not self._abandoned and (calls := self.engine.take_callbacks()) is not None:
                _hubs.call(partial(self._run, calls), is_callback=True)
                del calls  # the user's objects are released before the next wait
        finally:
            if self._ended.is_set():
                self._forget()

    def _run(self, calls: Calls) -> None:
        # A callback costs little more than the call itself. `...` means: there is no second argument.
        for function, outcome, error in one_by_one(calls):
            if self._abandoned:
                return
            try:
                if error is ...:
                    function(outcome)
                else:
                    function(outcome, error)
            except BaseException as raised:
                # Not logged on this thread: a log handler may wait for this thread, or send with a callback that raises,
                # too.
                subject, trace = subject_of(function, raised), (type(raised), raised, raised.__traceback__)
                self.runtime.say(_logger, logging.ERROR, subject, _RAISED, function, raised=trace)
                self._raised = True
                del trace


def one_by_one(calls: Calls) -> Iterable[tuple[Callable[..., object], Any, Any]]:
    """Function, first and second argument of each call.

    A single function serves all calls. Without a list of second arguments, each is None.
    """
    functions, outcomes, errors = calls
    return zip(
        functions if len(functions) != 1 else repeat(functions[0]), outcomes, errors or repeat(None), strict=False
    )


def out_of_time(timeout: float | None, left: int) -> KafkaTimeoutError:
    """The error of a flush that did not finish: `left` records are not acknowledged; -1: only callbacks have not run."""
    what = f"{_records(left)} not acknowledged yet" if left > 0 else "callbacks that have not run yet"
    return KafkaTimeoutError(f"flush({timeout:g}) ran out of time with {what}")


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"


def report_callback_error(function: Callable[..., Any], error: BaseException) -> None:
    """Log the exception of a callback that ran on the caller's thread, because its future was done; for native code."""
    log_line(_logger, logging.ERROR, _RAISED, function, exc_info=error)


def warn_waiting(runtime: Runtime, method: str, topic: str, partition: int | None, status: str) -> None:
    """Log the topic or partition that `method` has been waiting for, after a second; on another thread, without delay."""
    what = f"topic {topic!r}" if partition is None else f"partition {partition} of topic {topic!r}"
    because = f" ({status})" if status else ""
    text = "%s() waits for %s to appear in the cluster's metadata%s"
    runtime.say(_logger, logging.WARNING, f"{method} waits for {what}", text, method, what, because)


def _drain_all() -> None:
    with _registry_lock:
        lives = list(_open)
    for life in lives:
        life.at_exit()


class _LastOfAll:
    """An argument of an `atexit` callback. Python drops it after the last callback has run, just before finalisation.

    At that moment native code stops calling into Python on daemon threads (`EndOfPython`), and producers that were
    created by later `atexit` callbacks, and left open, are drained.
    """

    def __init__(self) -> None:
        self.has_come = False
        self.native = EndOfPython()

    def __del__(self) -> None:
        if self.has_come:  # a child process drops its copy, too
            _drain_all()


def _at_exit(end: _LastOfAll) -> None:
    end.has_come = True
    end.native.has_come()
    _drain_all()


def _after_fork_in_child() -> None:
    # The parent's threads do not exist here, and its locks may be held forever: replace them, never acquire them.
    global _registry_lock
    _native.after_fork_in_child()
    _registry_lock = _threads.RLock()
    _open.clear()


atexit.register(_at_exit, _LastOfAll())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
