"""Scripted faults, and the list of requests that arrived.

    cluster.faults.add(api="Produce", error=19, times=2)                 # NOT_ENOUGH_REPLICAS, twice
    cluster.faults.add(api="Produce", topic="orders", drop="close")      # append, then close instead of answering
    cluster.requests.count("Produce")

Faults are tried in the order in which they were added. The first one that matches a request applies and is used up:
each request meets at most one. Tests call this from another thread than the broker's: hence the lock.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from penstock._native import timeout_s

Target: TypeAlias = tuple[str, int]
"""A topic and its partition; -1 stands for the whole topic."""

REMEMBERED_REQUESTS: Final = 10_000


@dataclass(slots=True, eq=False)
class Fault:
    """One scripted fault.

    `api` is the API's name, such as "Produce", or None for all; `topic`, `partition`, `node`, `client_id` restrict it to
    requests that name that topic or partition, arrive at that node, or come from that client. The effects, in this order:

    - `close`: the connection is closed before the request is handled;
    - `delay_ms`: the request waits, and later requests of its connection with it;
    - `error`: the answer has that code for the topic and partition, or for all of them; the request has no effect, unless
      `after_append` is set: then it is carried out first;
    - `throttle_time_ms`: the answer has that number (the broker itself does not mute the connection);
    - `drop`: the request is carried out and gets no answer: "close" closes the connection, "silent" leaves it open.
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
    """How many requests it has matched."""

    def fits(self, target: Target) -> bool:
        """Whether it matches that topic and partition."""
        return self.topic in (None, target[0]) and self.partition in (None, target[1])

    @property
    def is_for_all_targets(self) -> bool:
        """Whether it names neither topic nor partition."""
        return self.topic is None and self.partition is None


class Faults:
    """The pending faults of a cluster."""

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
        """Script a fault for the next `times` requests that match; see `Fault` for the arguments."""
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
        """Remove all pending faults."""
        with self._lock:
            self._pending.clear()

    @property
    def pending(self) -> list[Fault]:
        """The pending faults, in order."""
        with self._lock:
            return list(self._pending)

    def take(self, api: str, node: int, client_id: str | None, targets: Callable[[], Iterable[Target]]) -> Fault | None:
        """The fault that applies to this request; `targets` returns its partitions and is called only if needed."""
        if not self._pending:  # the usual case; reading a list's truth needs no lock
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
    """One request that reached the broker, and the fault that applied to it."""

    api: str
    version: int
    node: int
    client_id: str | None
    fault: Fault | None = field(default=None, compare=False)


class Requests:
    """The latest requests, and the number of each kind since the last `clear`."""

    def __init__(self) -> None:
        """Start empty."""
        self._changed = threading.Condition()
        self._latest: deque[SeenRequest] = deque(maxlen=REMEMBERED_REQUESTS)
        self._counts: dict[tuple[str, int], int] = {}

    def note(self, request: SeenRequest) -> None:
        """Add a request."""
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
        """Return after `count` such requests; raises `TimeoutError` after `timeout` seconds (inf: no limit).

        For tests, in their own thread: in the broker's thread it would block the broker.
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
