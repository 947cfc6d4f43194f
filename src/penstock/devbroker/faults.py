"""Scripted faults: what the broker is told to do wrong, and the list of what it was asked.

    cluster.faults.add(api="Produce", error=19, times=2)                 # NOT_ENOUGH_REPLICAS, twice
    cluster.faults.add(api="Produce", topic="orders", drop="close")      # append, then close instead of answering
    cluster.requests.count("Produce")

Faults are looked at in the order in which they were added. The first that fits a request is used up by it, so that
each request meets at most one. Tests call this from their own thread while the broker runs in another: hence the lock.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from penstock._native import timeout_s

Target: TypeAlias = tuple[str, int]
"""A topic and a partition of it; -1 stands for the topic as a whole."""

REMEMBERED_REQUESTS: Final = 10_000


@dataclass(slots=True, eq=False)
class Fault:
    """One scripted fault.

    `api` is the API's name, such as "Produce", or None for every one; `topic`, `partition`, `node`, `client_id`: only
    requests that name it, come to it or from it. What happens, in this order:

    - `close`: the connection is closed before the request is looked at;
    - `delay_ms`: the request waits (and with it whatever follows it on its connection);
    - `error`: that code is the answer for the topic and partition, or for all of them; nothing is done, unless
      `after_append`: then it is done first;
    - `throttle_time_ms`: that number is in the answer (the broker does not itself mute the connection);
    - `drop`: all is done and no answer goes out: "close" closes the connection, "silent" leaves it open.
    """

    api: str | None = None
    topic: str | None = None
    partition: int | None = None
    node: int | None = None
    client_id: str | None = None
    times: int = 1
    delay_ms: float = 0
    error: int = 0
    after_append: bool = False
    drop: Literal["close", "silent"] | None = None
    close: bool = False
    throttle_time_ms: int = 0
    met: int = 0
    """How many requests it has hit."""

    def fits(self, target: Target) -> bool:
        """Whether it is for that topic and partition."""
        return self.topic in (None, target[0]) and self.partition in (None, target[1])

    @property
    def is_for_all_targets(self) -> bool:
        """Whether it names neither topic nor partition."""
        return self.topic is None and self.partition is None


class Faults:
    """The faults of a cluster that are still to come."""

    def __init__(self) -> None:
        """Start without any."""
        self._lock = threading.Lock()
        self._pending: list[Fault] = []

    def add(
        self,
        api: str | None = None,
        *,
        topic: str | None = None,
        partition: int | None = None,
        node: int | None = None,
        client_id: str | None = None,
        times: int = 1,
        delay_ms: float = 0,
        error: int = 0,
        after_append: bool = False,
        drop: Literal["close", "silent"] | None = None,
        close: bool = False,
        throttle_time_ms: int = 0,
    ) -> Fault:
        """Script a fault for the next `times` requests that it fits; see `Fault` for what the arguments mean."""
        if times < 1:
            raise ValueError(f"a fault must happen at least once, not {times} times")
        fault = Fault(
            api=api,
            topic=topic,
            partition=partition,
            node=node,
            client_id=client_id,
            times=times,
            delay_ms=delay_ms,
            error=error,
            after_append=after_append,
            drop=drop,
            close=close,
            throttle_time_ms=throttle_time_ms,
        )
        with self._lock:
            self._pending.append(fault)
        return fault

    def clear(self) -> None:
        """Forget what has not happened yet."""
        with self._lock:
            self._pending.clear()

    @property
    def pending(self) -> list[Fault]:
        """What has not happened yet, in order."""
        with self._lock:
            return list(self._pending)

    def take(self, api: str, node: int, client_id: str | None, targets: Callable[[], Iterable[Target]]) -> Fault | None:
        """The fault that this request meets; `targets` gives what it is about, and is called only if it matters."""
        if not self._pending:  # almost always; reading a list's truth needs no lock
            return None
        with self._lock:
            for fault in self._pending:
                if fault.api not in (None, api) or fault.node not in (None, node):
                    continue
                if fault.client_id not in (None, client_id):
                    continue
                if not fault.is_for_all_targets and not any(map(fault.fits, targets())):
                    continue
                fault.times -= 1
                fault.met += 1
                if not fault.times:
                    self._pending.remove(fault)
                return fault
        return None


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """One request that reached the broker, and the fault that it met."""

    api: str
    version: int
    node: int
    client_id: str | None
    fault: Fault | None = field(default=None, compare=False)


class Requests:
    """The latest requests, and how many there were of each kind since the last `clear`."""

    def __init__(self) -> None:
        """Start empty."""
        self._changed = threading.Condition()
        self._latest: deque[SeenRequest] = deque(maxlen=REMEMBERED_REQUESTS)
        self._counts: dict[tuple[str, int], int] = {}

    def note(self, request: SeenRequest) -> None:
        """Remember a request."""
        with self._changed:
            self._latest.append(request)
            key = request.api, request.node
            self._counts[key] = self._counts.get(key, 0) + 1
            self._changed.notify_all()

    def latest(self, api: str | None = None) -> list[SeenRequest]:
        """The last requests (at most `REMEMBERED_REQUESTS`), the oldest first."""
        with self._changed:
            return [request for request in self._latest if api in (None, request.api)]

    def count(self, api: str | None = None, *, node: int | None = None) -> int:
        """How many requests there were."""
        with self._changed:
            return self._count(api, node)

    def _count(self, api: str | None, node: int | None) -> int:
        return sum(count for (name, at), count in self._counts.items() if api in (None, name) and node in (None, at))

    def wait_for(self, api: str, count: int = 1, *, node: int | None = None, timeout: float = 10.0) -> None:
        """Return when there were `count` such requests; `TimeoutError` after `timeout` seconds, infinity being endless.

        For tests, in their own thread: in the broker's it would wait for itself.
        """
        seconds = timeout_s(timeout)
        with self._changed:
            if not self._changed.wait_for(lambda: self._count(api, node) >= count, seconds):
                raise TimeoutError(f"{self._count(api, node)} {api} requests within {timeout:g} s, not {count}")

    def clear(self) -> None:
        """Forget all."""
        with self._changed:
            self._latest.clear()
            self._counts.clear()
