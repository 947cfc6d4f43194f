"""The control thread: the only file of the control plane with threads, clocks and name look-ups in it.

`Runtime` moves events and commands between the engine and the `Controller`, and does what the controller may not do
itself: looking up names, publishing the view of the cluster, logging. Look-ups block, and log handlers are the user's
code. Both run on helper threads, which start when they are first needed. The control thread waits for the engine only,
with the GIL released.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import math
import socket
import threading
from _queue import Empty, SimpleQueue
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from penstock import _hubs, _threads
from penstock._log import Raised, Repeats, handling, log_line
from penstock._threads import OsThread
from penstock.config import parse_bootstrap_servers
from penstock.config.settings import ProducerSettings
from penstock.control import boundary, commands
from penstock.control.boundary import Trouble
from penstock.control.calls import PendingCall
from penstock.control.cluster_view import ClusterView
from penstock.control.commands import (
    Call,
    Command,
    Event,
    Log,
    Publish,
    Reply,
    RequestTopicAges,
    Resolve,
    Resolved,
    Shutdown,
    TopicAges,
)
from penstock.control.controller import Controller
from penstock.control.peers import Endpoint
from penstock.errors import ConfigError

_logger: Final = logging.getLogger("penstock.control")

RESOLVER_THREADS: Final = 4
"""Name look-ups at once; a system's resolver stops after some ten seconds."""

_MAX_LINES: Final = 1_000
"""Log lines that wait for a slow handler; beyond that the oldest are dropped."""
_CANONICAL: Final = "resolve_canonical_bootstrap_servers_only"


class Engine(Protocol):
    """The native engine, as far as the control plane uses it. Everything may be called from any thread."""

    def exchange(self, commands: Sequence[boundary.Command], timeout_ms: int | None) -> Sequence[boundary.Event]:
        """Carry out commands, then wait for events: until there is one, `wake` is called, or the time is over."""
        ...

    def now_ms(self) -> float:
        """The engine's monotonic clock."""
        ...

    def wake(self) -> None:
        """End the present or next wait in `exchange`."""
        ...

    def fail(self, message: str) -> None:
        """Fail every record and refuse new ones: the control plane has failed."""
        ...

    def topic_ages(self) -> Mapping[str, int]:
        """ms since the last append, by topic."""
        ...


def look_up(host: str, port: int) -> tuple[str, ...]:
    """The IP addresses of a host, in the order of the system's resolver; raises `OSError`."""
    if _threads.is_green(socket.getaddrinfo):
        # gevent's and eventlet's look-up belongs to their hub's thread. Encoded, because text would import a codec here, under
        # locks that are made for greenlets of one thread.
        name = host.encode("ascii" if host.isascii() else "idna")
        found: Sequence[Any] = _socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    else:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def bootstrap_endpoints(settings: ProducerSettings, *, resolve: bool = True) -> list[Endpoint]:
    """The bootstrap addresses, checked before any thread starts.

    `resolve` False: nothing may block here, and the control thread does all look-ups.

    With bootstrap.resolve.timeout.ms=0 at least one of them must resolve now: `ConfigError` names all and the reasons.
    With a positive value the control thread does the look-ups.
    client.dns.lookup=resolve_canonical_bootstrap_servers_only replaces each address by the canonical names behind it
    (Java: `ClientUtils.parseAndValidateAddresses`).
    """
    endpoints = [Endpoint(host, port) for host, port in parse_bootstrap_servers(settings.bootstrap_servers)]
    if settings.bootstrap_resolve_timeout_ms > 0 or not resolve:
        return endpoints
    resolved: list[Endpoint] = []
    errors: list[str] = []
    for endpoint in endpoints:
        try:
            addresses = look_up(*endpoint)
        except OSError as error:
            errors.append(f"{endpoint}: {error.strerror or error}")
            continue
        if settings.client_dns_lookup == _CANONICAL:
            resolved += [Endpoint(_canonical_name(address), endpoint.port) for address in addresses]
        else:
            resolved.append(endpoint)
    if not resolved:
        message = f"no server in bootstrap.servers can be resolved: {'; '.join(errors)}"
        raise ConfigError(message, setting="bootstrap.servers")
    return list(dict.fromkeys(resolved))


def _canonical_name(address: str) -> str:
    try:
        gethostbyaddr = _socket.gethostbyaddr if _threads.is_green(socket.gethostbyaddr) else socket.gethostbyaddr
        return gethostbyaddr(address)[0]
    except OSError:
        return address  # as Java: no name, the address itself


class Resolver:
    """Looks names up on a few daemon threads, so that one that hangs does not delay the others.

    One look-up per host at a time: other requests for the host, on any port, get the same answer. Threads start
    when they are needed, `RESOLVER_THREADS` at most. When all of them hang, further hosts wait.
    """

    def __init__(self, look_up: Callable[[str, int], tuple[str, ...]], answer: Callable[[Resolved], None]) -> None:
        """No thread yet. `answer` is called on the thread of the look-up."""
        self._look_up = look_up
        self._answer = answer
        self._lock = _threads.Lock()
        self._ports: dict[str, list[int]] = {}
        """Host → the ports that wait for it, while it is queued or looked up."""
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._queued = 0
        self._threads = 0
        self._idle = 0
        self._stopping = False

    def submit(self, command: Resolve) -> None:
        """Look a host up, if that is not under way."""
        with self._lock:
            ports = self._ports.get(command.host)
            if ports is not None:
                if command.port not in ports:
                    ports.append(command.port)
                return
            self._ports[command.host] = [command.port]
            self._queued += 1
            # A thread that has not yet taken an earlier host from the queue still counts as idle.
            start = self._idle < self._queued and self._threads < RESOLVER_THREADS
            self._threads += start
        self._queue.put(command.host)
        if start:
            OsThread(self._run, "penstock-resolver").start()

    def stop(self) -> None:
        """End the threads; one that hangs is abandoned."""
        with self._lock:
            self._stopping = True
        self._queue.put(None)

    def _run(self) -> None:
        while (host := self._next()) is not None:
            addresses, error = self._find(host)
            with self._lock:
                # Later requests get a look-up of their own; earlier ones are answered below.
                ports = self._ports.pop(host)
            for port in ports:
                self._answer(Resolved(host, port, addresses, error))

    def _next(self) -> str | None:
        with self._lock:
            self._idle += 1
        host = self._queue.get()
        with self._lock:
            self._idle -= 1
            self._queued -= host is not None
            if not self._stopping:
                return host
        self._queue.put(None)  # for the next thread
        return None

    def _find(self, host: str) -> tuple[tuple[str, ...], str]:
        try:
            return self._look_up(host, self._ports[host][0]), ""
        except Exception as error:
            return (), str(getattr(error, "strerror", None) or error)


class _Helper:
    """Runs jobs in order on a daemon thread, which exists while there are some.

    `submit` never waits and may be called from anywhere, even from a destructor or a signal handler in the middle of another
    `submit`. So it waits for no lock.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: deque[Callable[[], None]] = deque(maxlen=_MAX_LINES)
        self._working = _threads.Lock()  # held while a thread runs jobs
        self._thread: OsThread | None = None

    def submit(self, job: Callable[[], None]) -> None:
        self._jobs.append(job)
        if not self._working.acquire(blocking=False):
            return
        thread = OsThread(self._run, self._name)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends: `join` or the next `submit` runs it
            self._working.release()
        else:
            self._thread = thread

    def join(self, timeout: float) -> None:
        """Wait until what was submitted has run."""
        thread = self._thread
        if handling() or (thread is not None and thread.is_current()):
            return
        if thread is not None:
            _hubs.join(thread, timeout)
        if self._jobs and self._working.acquire(blocking=False):
            self._run()  # no thread could be started

    def _run(self) -> None:
        while True:
            while self._jobs:
                try:
                    _hubs.call(self._jobs.popleft())
                except BaseException as error:  # of a logging filter, for one; handlers report theirs themselves
                    thread = threading.current_thread()
                    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, thread)))
            self._working.release()
            # A job that was submitted between the last check and the release found the lock taken.
            if not self._jobs or not self._working.acquire(blocking=False):
                return


class Runtime:
    """The thread ``penstock-control`` and its helpers."""

    def __init__(
        self, engine: Engine, controller: Controller, *, resolve: Callable[[str, int], tuple[str, ...]] = look_up
    ) -> None:
        """Nothing runs before `start`."""
        self._engine = engine
        self._controller = controller
        self._inbox: SimpleQueue[Event] = SimpleQueue()  # events of our own, with `engine.wake()`
        self._calls: set[PendingCall] = set()  # taken by the controller, not answered yet
        self._over = False  # the control thread takes no more events
        inbox = self._inbox

        def resolved(answer: Resolved) -> None:
            # Not a method: a cycle would keep the engine and its file descriptors until the next garbage collection.
            inbox.put(answer)
            engine.wake()

        self._resolver = Resolver(resolve, resolved)
        self._logger = _Helper("penstock-log")
        self._said = Repeats()
        self._thread = OsThread(self._run, "penstock-control")
        self.cluster = ClusterView()
        """The newest view; replaced as a whole, so that any thread may read it."""
        self.wakeups = 0
        """How often the control thread has ended its wait."""

    def start(self) -> None:
        """Start the control thread."""
        self._thread.start()

    def stop(self, timeout: float) -> bool:
        """End the control thread, waiting `timeout` seconds at most; whether it has ended."""
        self.call(Shutdown())
        if self._thread.is_alive() and not self._thread.is_current():
            self._thread.join(timeout)
        self._resolver.stop()
        if not self._thread.is_alive():
            self.settle_log(min(timeout, 1.0))
        return not self._thread.is_alive()

    def call(self, request: commands.Request) -> PendingCall:
        """Pass a request to the controller, from any thread; waits for nothing.

        A call that the control thread does not answer before its end fails then.
        """
        pending = PendingCall()
        self._inbox.put(Call(request, pending))
        if self._over:
            self._refuse_calls()  # this one came after the control thread did so
        else:
            self._engine.wake()
        return pending

    def say(
        self,
        logger: logging.Logger,
        level: int,
        subject: str,
        message: str,
        *arguments: object,
        raised: Raised | None = None,
    ) -> None:
        """Log on the helper thread; the same subject only now and then. From any thread; never waits."""
        more = self._said.more(subject, self._engine.now_ms() / 1000)
        if more is not None:
            self.pass_on(logger, level, message + "%s", *arguments, more, raised=raised)

    def pass_on(
        self, logger: logging.Logger, level: int, message: str, *arguments: object, raised: Raised | None = None
    ) -> None:
        """The same for callers that limit their lines themselves."""
        # The helper thread also checks the logger's level: logging has locks that a handler may hold.
        if not handling():
            self._logger.submit(lambda: log_line(logger, level, message, *arguments, exc_info=raised))

    def settle_log(self, timeout: float) -> None:
        """Wait until all lines so far are logged, for `timeout` seconds at most: a handler may wait for the caller."""
        self._logger.join(timeout)

    @property
    def metadata_age_ms(self) -> float:
        """How old the metadata is: the time since the last answer about all topics (Java's metric ``metadata-age``)."""
        return self._engine.now_ms() - self.cluster.refreshed_at_ms

    @property
    def alive(self) -> bool:
        """Whether the control thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # no caller may wait for a thread that has ended
            message = f"the control thread failed: {type(error).__name__}: {error}"
            trace = (type(error), error, error.__traceback__)
            self._engine.fail(message)
            self.say(_logger, logging.CRITICAL, "control", "%s", message, raised=trace)
        finally:
            self._over = True
            self._refuse_calls()

    def _loop(self) -> None:
        events: list[Event] = []
        while True:
            native = self._carry_out(self._controller.step(events, self._engine.now_ms()))
            if self._controller.ended:
                return
            events = list(self._engine.exchange(native, self._timeout_ms()))
            self.wakeups += 1
            while not self._inbox.empty():
                events.append(self._inbox.get())
            self._calls.update(event.handle for event in events if isinstance(event, Call))
            for event in events:
                if isinstance(event, boundary.EngineFailed):
                    # Here, not in the controller: a wrong decision of the controller may be the cause.
                    self._log(Log(logging.CRITICAL, "engine", f"the native I/O thread failed: {event.message}"))
                    return

    def _refuse_calls(self) -> None:
        """After the control thread's last step: nothing answers calls any more."""
        left = list(self._calls)
        self._calls.clear()
        with contextlib.suppress(Empty):
            while True:
                event = self._inbox.get_nowait()
                if isinstance(event, Call):
                    left.append(event.handle)
        for pending in left:
            pending.resolve(Trouble(0, "the producer is closed"))

    def _timeout_ms(self) -> int | None:
        if not self._inbox.empty():
            return 0
        at_ms = self._controller.next_wakeup_ms()
        # Rounded up: a wait that ends a fraction too early would cost a second, useless round.
        return None if at_ms is None else max(1, math.ceil(at_ms - self._engine.now_ms()))

    def _carry_out(self, commands: Sequence[Command]) -> list[boundary.Command]:
        """Carry out our own commands, in order, and return the engine's: a view is public before the engine gets its commands."""
        native: list[boundary.Command] = []
        for command in commands:
            if isinstance(command, Publish):
                self.cluster = command.view
            elif isinstance(command, Resolve):
                self._resolver.submit(command)
            elif isinstance(command, RequestTopicAges):
                self._inbox.put(TopicAges(self._engine.topic_ages()))
            elif isinstance(command, Log):
                self._log(command)
            elif isinstance(command, Reply):
                self._calls.discard(command.handle)
                command.handle.resolve(command.trouble)
            else:
                native.append(command)
        return native

    def _log(self, command: Log) -> None:
        self.say(_logger, command.level, command.subject, "%s", command.message)
