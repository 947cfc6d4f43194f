"""Virtual time: events and their order, which depends on the seed only."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from random import Random

MS = 1_000
S = 1_000_000


class World:
    """A clock (µs), the events to come, and a trace of past ones."""

    def __init__(self, seed: int, *, keep_trace: bool = False) -> None:
        """It is 1 µs after the beginning."""
        self.random = Random(seed)
        self.now_us = 1
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self.on_time: Callable[[int], None] = lambda _: None
        """Called when the time changes, before the events of that time."""
        self._hash = hashlib.sha256()
        self._keep_trace = keep_trace
        self.trace: list[str] = []

    def at(self, time_us: float, act: Callable[[], None]) -> None:
        """Schedule an event; events of the same time happen in the order of scheduling."""
        self._count += 1
        heapq.heappush(self._events, (max(self.now_us, int(time_us)), self._count, act))

    def after(self, delay_us: float, act: Callable[[], None]) -> None:
        """Schedule an event after a delay."""
        self.at(self.now_us + delay_us, act)

    def step(self, until_us: int) -> bool:
        """Advance to the next event and run it; False if there is none before `until_us`."""
        if not self._events or self._events[0][0] > until_us:
            self.now_us = max(self.now_us, until_us)
            self.on_time(self.now_us)
            return False
        self.now_us, _, act = heapq.heappop(self._events)
        self.on_time(self.now_us)
        act()
        return True

    def note(self, what: str) -> None:
        """Add a line to the trace. A replay must write the same."""
        line = f"{self.now_us / MS:12.3f} ms  {what}"
        self._hash.update(line.encode())
        if self._keep_trace:
            self.trace.append(line)

    @property
    def digest(self) -> str:
        """The hash of the whole trace."""
        return self._hash.hexdigest()

    # -------------------------------------------------------------------------------------------------------- random

    def chance(self, probability: float) -> bool:
        """Whether something with this probability happens."""
        return self.random.random() < probability

    def spread(self, typical_us: float) -> int:
        """A delay around `typical_us`: mostly near it, sometimes many times as long."""
        return int(self.random.expovariate(1.0) * typical_us) if typical_us > 0 else 0
